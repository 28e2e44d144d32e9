"""A folder of photographs -> features -> matches -> verified geometry -> a COLMAP database -> COLMAP's mapper.

    pip install 'tiepoints[sfm]'
    python examples/reconstruct_with_colmap.py photos/ model/                # every photograph with every other one
    python examples/reconstruct_with_colmap.py frames/ model/ --sequential 5  # each with the five that follow it

model/ gets features.h5, matches.h5, database.db and COLMAP's models sparse/0, sparse/1 ... An interrupted run leaves
what it finished; the same command goes on.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import pycolmap

import tiepoints as tp
from tiepoints.geometry import log_nfa
from tiepoints.images import find_images
from tiepoints.storage import FeatureReader, FeatureWriter, MatchReader, MatchWriter, TwoView, write_colmap

Pair = tuple[str, str]


def extract(extractor: tp.Extractor, paths: dict[str, Path], file: Path) -> None:
    """The features of all photographs that `file` does not hold yet."""
    with FeatureWriter(file, made_with=repr(extractor)) as writer:
        todo = {path: name for name, path in paths.items() if name not in writer}
        for done in tp.extract_images(extractor, todo):
            if done.features is None:
                print(f"left out: {done.error}", file=sys.stderr)
            else:
                writer.write(todo[done.path], done.features)
    print(f"features of {len(todo)} photographs, {len(paths) - len(todo)} were there already")


def match(extractor: tp.Extractor, features: FeatureReader, pairs: list[Pair], ratio: float | None, file: Path) -> None:
    """The matches of all pairs that `file` does not hold yet."""
    with MatchWriter(file, made_with=f"{extractor!r}, ratio {ratio}") as writer:
        todo = [pair for pair in pairs if pair not in writer]
        for pair in todo:
            a, b = features[pair[0]], features[pair[1]]
            writer.write(pair, tp.match(a, b, ratio=ratio), (len(a), len(b)))
    print(f"matches of {len(todo)} pairs, {len(pairs) - len(todo)} were there already")


def verify(a: tp.Features, b: tp.Features, matches: tp.Matches, threshold: float = 1.0) -> TwoView | None:
    """The matches that agree with one fundamental matrix; None if chance alone would give as many."""
    model = tp.fundamental(a, b, matches, threshold=threshold)
    if not model or log_nfa(model, threshold, b.image_size) > 0:
        return None
    return TwoView(matches.select(model.inliers), "uncalibrated", model.matrix, proposed=matches)


def camera_of(path: Path, features: tp.Features, focal: float | None) -> tp.Camera:
    """The camera by its focal length, or else by the photograph's EXIF data; COLMAP refines it."""
    return tp.Camera.from_exif(path) if focal is None else tp.Camera.from_focal(focal, features.image_size)


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

    paths = {path.relative_to(options.photographs).as_posix(): path for path in find_images([options.photographs])}
    extractor = tp.load(options.extractor, max_size=options.max_size)
    extract(extractor, paths, options.out / "features.h5")
    with FeatureReader(options.out / "features.h5") as features:
        names = [name for name in sorted(paths) if name in features]
        reach = options.sequential or len(names)
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 : i + 1 + reach]]
        match(extractor, features, pairs, options.ratio, options.out / "matches.h5")
        with MatchReader(options.out / "matches.h5") as matches:
            found = {pair: verify(features[pair[0]], features[pair[1]], matches[pair]) for pair in pairs}
        verified = {pair: two_view for pair, two_view in found.items() if two_view is not None}
        print(f"{len(verified)} of {len(pairs)} pairs verified")
        images = {name: (features[name], camera_of(paths[name], features[name], options.focal)) for name in names}
    write_colmap(options.out / "database.db", images, verified, share_cameras=not options.separate_cameras)

    sparse = options.out / "sparse"
    shutil.rmtree(sparse, ignore_errors=True)
    sparse.mkdir()
    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    models = pycolmap.incremental_mapping(options.out / "database.db", options.photographs, sparse)
    if not models:
        sys.exit("no model: too little overlap, a camera that only went forward or turned, or a wrong focal length")
    for number, model in models.items():
        print(
            f"{sparse / str(number)}: {model.num_reg_images()} of {len(names)} photographs registered, "
            f"{model.num_points3D()} points, mean reprojection error {model.compute_mean_reprojection_error():.2f} px"
        )


if __name__ == "__main__":
    try:
        main()
    except tp.TiepointsError as error:
        sys.exit(f"reconstruct_with_colmap.py: {error}")
