"""A folder of photographs -> features -> verified matches -> a COLMAP database -> COLMAP's mapper.

    pip install 'tiepoints[sfm]'
    python examples/reconstruct_with_colmap.py photos/ model/                # every photograph with every other one
    python examples/reconstruct_with_colmap.py frames/ model/ --sequential 5  # each with the five that follow it

model/ gets database.db, COLMAP's models sparse/0, sparse/1 ..., and work/ with what is finished: an interrupted run
goes on where it was, and photographs that are added cost only their own pairs. The command
`tiepoints match FOLDER --out database.db` does all but the last step.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import pycolmap

import tiepoints as tp
from tiepoints.collection import (
    Collection,
    Extract,
    Match,
    Results,
    Store,
    Verify,
    exhaustive,
    export_colmap,
    run,
    sequential,
)


def told(what: str, results: Results) -> Results:
    """Say how many results there are, and what failed."""
    print(f"{what}: {len(results)}, {len(results) - results.computed} were there already")
    for error in results.failed.values():
        print(f"left out: {error}", file=sys.stderr)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a folder, with all below it")
    parser.add_argument("out", type=Path, help="a folder for the results")
    parser.add_argument("-e", "--extractor", default="mdnet", help="one of `tiepoints extractors`; default mdnet")
    parser.add_argument("--max-size", type=int, default=1600, help="shrink to this long edge first; default 1600")
    parser.add_argument("--ratio", type=float, help="ratio test of the matches; default none")
    parser.add_argument("--sequential", type=int, metavar="N", help="match each with the next N only; default with all")
    parser.add_argument("--focal", type=float, help="focal length in pixels; default from EXIF, or a guess")
    parser.add_argument("--separate-cameras", action="store_true", help="photographs are not of one camera")
    options = parser.parse_args()

    photographs = Collection.from_folder(options.photographs)
    pairs = sequential(photographs, options.sequential) if options.sequential else exhaustive(photographs)
    database = options.out / "database.db"
    if database.exists() and not (options.out / "work").exists():
        sys.exit(f"{database} is there, and no work of this script beside it; write to another folder")
    with Store(options.out / "work") as store:
        extract = Extract(options.extractor, max_size=options.max_size)
        features = told("photographs with features", run(extract, photographs, store))
        matches = told("matched pairs", run(Match(ratio=options.ratio), pairs, store, features))
        views = told("pairs that were tried", run(Verify("fundamental"), matches, store, features))
        mode = "per-image" if options.separate_cameras else "equal"
        verified = export_colmap(database, photographs, features, views, camera_mode=mode, focal=options.focal)
    print(f"{verified} of {len(pairs)} pairs verified")

    sparse = options.out / "sparse"
    shutil.rmtree(sparse, ignore_errors=True)
    sparse.mkdir()
    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    models = pycolmap.incremental_mapping(database, options.photographs, sparse)
    if not models:
        sys.exit("no model: too little overlap, a camera that only went forward or turned, or a wrong focal length")
    for number, model in models.items():
        print(
            f"{sparse / str(number)}: {model.num_reg_images()} of {len(features)} photographs registered, "
            f"{model.num_points3D()} points, mean reprojection error {model.compute_mean_reprojection_error():.2f} px"
        )


if __name__ == "__main__":
    try:
        main()
    except tp.TiepointsError as error:
        sys.exit(f"reconstruct_with_colmap.py: {error}")
