"""How well photographs are reconstructed and localized, on scenes with true cameras.

    python tools/evaluate_tasks.py data/strecha/fountain-P11 data/lund_door -e mdnet -e rootsift

Two tables, as in docs/reconstruction.md and docs/localization.md. Reconstruction: all photographs, calibrated; camera
centres are compared after a similarity alignment, as a share of the distance between the farthest two; rotations after
the rotation of the world that fits them best, since centres along a line leave the turn around that line open.
Localization: every third photograph is a query in a map of the others, calibrated; with --seeds 3 each photograph is
one. A query is wrong if it is off by more than 5 degrees and was not said to be lost.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tiepoints as tp
from tiepoints.collection import Collection, Match, Verify
from tiepoints.datasets.scenes import Scene, read_scene
from tiepoints.geometry.alignment import similarity
from tiepoints.tasks import Localizer, build_map, reconstruct
from tiepoints.tasks.reconstruction import load_model

# The ratio test that a method's users apply.
RATIO = {"rootsift": 0.85, "upright-rootsift": 0.9, "sift": 0.85}


RECONSTRUCTION = (
    "scene", "method", "registered", "points", "track length", "centre error, %", "rotation error, degrees"
)  # fmt: skip
LOCALIZATION = (
    "scene", "method", "queries", "localized", "query's centre error, %", "query's rotation error, degrees", "wrong"
)  # fmt: skip


def collection_of(scene: Scene) -> tuple[Collection, dict[str, Any]]:
    """The photographs with their true calibration, and their views by the same names."""
    views = {view.path.name: view for view in scene.views.values()}
    photographs = Collection.from_paths({name: view.path for name, view in views.items()})
    cameras = {name: tp.Camera.from_matrix(v.K, photographs[name].header.size) for name, v in views.items()}
    return photographs.with_cameras(cameras), views


class Compared(NamedTuple):
    """What a model is, beside the true cameras."""

    align: Any = None  # from the model's points to the true world's, by the centres; None where they leave it open
    turn: Any = None  # (3, 3), from the model's directions to the true world's, by the rotations
    extent: float = float("nan")  # the distance between the farthest two true centres
    shares: tuple[float, ...] = ()  # each centre's error as a share of it
    degrees: tuple[float, ...] = ()  # each rotation's error


def compare(found: dict[str, Any], views: dict[str, Any]) -> Compared:
    """The photographs that were found, beside their true views."""
    names = [name for name in found if name in views]
    centres = np.array([-views[name].R.T @ views[name].t for name in views])
    extent = float(np.linalg.norm(centres[:, None] - centres, axis=2).max())
    if len(names) < 3:
        return Compared(extent=extent)
    true = np.array([-views[name].R.T @ views[name].t for name in names])
    align = similarity(np.array([found[name][1] for name in names]), true)
    if align is None:
        return Compared(extent=extent)
    shares = np.linalg.norm(align(np.array([found[name][1] for name in names])) - true, axis=1) / extent
    # the rotation nearest to the mean of what turns each found camera into the true one
    left, _, right = np.linalg.svd(sum(views[name].R.T @ found[name][0] for name in names))
    turn = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    degrees = [angle(found[name][0] @ turn.T @ views[name].R.T) for name in names]
    return Compared(align, turn, extent, tuple(shares.tolist()), tuple(degrees))


def angle(rotation: Any) -> float:
    """Degrees of a rotation matrix."""
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))


def poses_of(folder: Path) -> dict[str, Any]:
    """Rotation and centre of each registered photograph."""
    model = load_model(folder)
    images = [model.image(i) for i in model.reg_image_ids()]
    return {i.name: (i.cam_from_world().rotation.matrix(), i.projection_center()) for i in images}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, nargs="+")
    parser.add_argument("-e", "--extractor", action="append", dest="extractors")
    parser.add_argument(
        "--seeds", type=int, default=1,
        help="reconstructions, of which errors are the median; and maps, each without other photographs (3: each is a "
        "query once)",
    )  # fmt: skip
    parser.add_argument("--no-localization", action="store_true", help="the first table alone")
    options = parser.parse_args()
    tables: tuple[list[tuple[str, ...]], ...] = ([RECONSTRUCTION], [LOCALIZATION])
    for folder in options.scenes:
        scene = read_scene(folder)
        photographs, views = collection_of(scene)
        for name in options.extractors or ["mdnet", "rootsift"]:
            extractor = tp.load(name, max_keypoints=2048)
            match = Match(ratio=RATIO.get(name))
            with tempfile.TemporaryDirectory() as temporary:
                out = Path(temporary)
                made: list[tuple[Any, Compared, float]] = []
                for seed in range(options.seeds):
                    begun = time.perf_counter()
                    whole = reconstruct(
                        photographs, out / f"all-{seed}", extractor=extractor, match=match, verify=Verify(seed=seed),
                        store=out / "store", seed=seed,
                    )  # fmt: skip
                    seconds = time.perf_counter() - begun
                    poses = poses_of(out / f"all-{seed}" / "sparse" / "0") if whole else {}
                    made.append((whole, compare(poses, views), seconds))
                whole, _, seconds = made[0]
                shares, degrees = (
                    middle([middle(one) for one in several])
                    for several in zip(*((found.shares, found.degrees) for _, found, _ in made), strict=True)
                )
                maps = 0 if options.no_localization else options.seeds
                asked = localize(out, photographs, views, extractor, RATIO.get(name), maps)
            cells = (
                f"{whole.registered} of {whole.images}", f"{whole.points}", f"{whole.track_length:.2f}",
                f"{shares * 100:.3f}", f"{degrees:.3f}",
            )  # fmt: skip
            for table, row in zip(tables, (cells, asked), strict=True):
                table.append((scene.name, name, *row))
            print(scene.name, name, *cells, f"{seconds:.1f} s; queries", *asked, file=sys.stderr, flush=True)
    for table in tables[: 1 if options.no_localization else 2]:
        table.insert(1, ("---",) * len(table[0]))
        print("\n".join(f"| {' | '.join(row)} |" for row in table), end="\n\n")


def localize(out: Path, photographs: Collection, views: Any, extractor: Any, ratio: Any, maps: int) -> tuple[str, ...]:
    """The cells of a row of the second table."""
    shares, degrees, asked = [], [], 0
    for number in range(maps):
        queries = list(photographs)[(number + 1) % 3 :: 3]
        asked += len(queries)
        rest = photographs.select(one for one in photographs if one not in queries)
        folder = out / f"map-{number}"
        try:
            build_map(rest, folder, extractor=extractor, ratio=ratio, store=out / "store")
        except tp.TiepointsError:
            continue
        known = compare(poses_of(folder.with_name(f"{folder.name}.work") / "sparse" / "0"), views)
        localizer = Localizer(folder)
        for name in queries:
            found = localizer(photographs[name].read(), photographs[name].camera)
            if found and known.align is not None:
                view = views[name]
                centre = known.align(found.pose.center[None])[0]
                shares.append(float(np.linalg.norm(centre + view.R.T @ view.t)) / known.extent)
                degrees.append(angle(found.pose.rotation @ known.turn.T @ view.R.T))
    errors = (f"{middle(shares) * 100:.3f}", f"{middle(degrees):.3f}") if degrees else ("-", "-")
    return (f"{asked}", f"{len(degrees)}", *errors, f"{sum(one > 5 for one in degrees)}")


def middle(values: Sequence[float]) -> float:
    """The median; NaN of nothing."""
    return float(np.median(values)) if values else float("nan")


if __name__ == "__main__":
    main()
