"""`tiepoints localize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .batch import every_option, explained_interrupt, found, mask_option, progress_bar, shown
from .many import cameras_option, focal_option, read_cameras
from .options import examples, json_option, output_option, print_json, quiet_option, say

if TYPE_CHECKING:
    from ..camera import Camera
    from ..collection import Photograph
    from ..tasks import Localization, Localizer


@click.command(
    "localize",
    epilog=examples(
        "tiepoints localize map/ queries/ --out poses.txt",
        "tiepoints localize map/ queries/ --focal 1180 --out poses.txt",
    ),
)
@click.argument("folder", metavar="MAP", type=click.Path(path_type=Path))
@click.argument("queries", nargs=-1, required=True, type=click.Path())
@output_option("--out", what="Write the poses as hloc does: name qw qx qy qz tx ty tz, from world to camera.")
@focal_option
@cameras_option
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="Map images to match with.")
@click.option(
    "--threshold", type=click.FloatRange(0, min_open=True), default=6.0, show_default=True, help="Inlier threshold, px."
)
@mask_option
@every_option
@quiet_option
@json_option
def command(
    folder: Path,
    queries: tuple[str, ...],
    out: Path | None,
    focal: float | None,
    cameras: Path | None,
    top: int,
    threshold: float,
    mask: Path | None,
    every: int,
    as_json: bool,
) -> None:
    """Find where the photographs QUERIES were taken, in a MAP that `tiepoints map` made.

    Poses are those of the stored pixels, without EXIF's rotation, as COLMAP and hloc have them. A query whose pose is
    not certain is named as not localized, and gets no line in --out; the exit code is then 1.
    """
    from ..tasks import Localizer
    from ..tasks.localization import write_poses

    photographs = found(queries, mask, every, as_json)
    localizer = Localizer(folder, top=top, threshold=threshold)
    known = {} if cameras is None else read_cameras(cameras)
    results: dict[str, Localization] = {}
    failed = dict(photographs.failed)
    with explained_interrupt(None), progress_bar("localizing", as_json) as progress:
        for done, (query, one) in enumerate(photographs.items(), start=1):
            _localize(localizer, query, one, known, focal, results, failed)
            if progress is not None:
                progress(done, len(photographs))
    if out is not None:
        write_poses(out, results)
    localized = sum(map(bool, results.values()))
    if as_json:
        print_json({"map": str(folder), "queries": [_told(q, r) for q, r in results.items()], "failed": failed})
    else:
        for query, result in results.items():
            say(f"{shown(query)}: {_line(result)}")
        for message in failed.values():
            click.echo(f"tiepoints: {shown(message)}", err=True)
        say(f"{localized} of {len(photographs) + len(photographs.failed)} localized")
        if out is not None:
            say(f"wrote {shown(out)}")
    if failed or localized < len(results):
        raise SystemExit(1)


def _localize(
    localizer: Localizer,
    query: str,
    one: Photograph,
    known: dict[str, Camera],
    focal: float | None,
    results: dict[str, Localization],
    failed: dict[str, str],
) -> None:
    """One query, in the frame of the stored pixels; what is wrong with it costs no other."""
    from ..camera import Camera
    from ..collection.engines import failure_of
    from ..collection.orientation import stored_features

    try:
        features = stored_features(localizer.extractor(one.read(), one.read_mask()), one.header.orientation)
        camera = known.get(query)
        if camera is None and focal is not None:
            camera = Camera.from_focal(focal, features.image_size)
        results[query] = localizer.localize(features, camera)
    except Exception as error:  # of whatever kind: the other queries go on
        failed[query] = failure_of(error).message


def _line(result: Localization) -> str:
    centre = result.pose.center
    if centre is None:
        return f"not localized: {result.reason}"
    place = ", ".join(f"{x:.3f}" for x in centre)
    return f"at ({place}), {result.inliers} inliers of {result.matches} matched points"


def _told(query: str, result: Localization) -> dict[str, Any]:
    pose = result.pose
    return {
        "name": query,
        "localized": bool(result),
        "qvec": list(result.quaternion) if result else None,
        "tvec": pose.translation.tolist() if pose.translation is not None else None,
        "center": pose.center.tolist() if pose.center is not None else None,
        "inliers": result.inliers,
        "matches": result.matches,
        "log_nfa": result.log_nfa if result.log_nfa < 1e9 else None,
        "focal_is_known": result.camera.focal_is_known,
        "reason": result.reason,
        "images": list(result.images[:5]),
    }
