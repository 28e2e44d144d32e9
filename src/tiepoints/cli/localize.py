"""`tiepoints localize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import counted
from .batch import engine_of, explained_interrupt, found, photographs_options, progress_bar, shown
from .many import cameras_option, given_of, given_option, query_focal_option, read_cameras, say_unlike_cameras
from .numbers import FloatRange, IntRange
from .options import examples, json_option, output_option, print_json, quiet_option, say

if TYPE_CHECKING:
    from ..tasks import Localization


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
@query_focal_option
@cameras_option
@click.option("--top", type=IntRange(min=1), default=20, show_default=True, help="Map images to match with.")
@click.option(
    "--threshold", type=FloatRange(0, min_open=True), default=6.0, show_default=True, help="Inlier threshold, px."
)
@click.option(
    "--align/--no-align",
    default=True,
    show_default=True,
    help="Move keypoints to where the query shows what the map's points look like, and refine the pose: more accurate. "
    "Maps made with --no-align, or without photographs, cannot.",
)
@given_option
@photographs_options
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
    align: bool,
    given: tuple[Path, ...],
    mask: Path | None,
    every: int,
    jobs: int | None,
    engine: str,
    address: str | None,
    as_json: bool,
) -> None:
    """Find where the photographs QUERIES were taken, in a MAP that `tiepoints map` made.

    Poses are those of the stored pixels, without EXIF's rotation, as COLMAP and hloc have them. A query whose pose is
    not certain is named as not localized, and gets no line in --out; the exit code is then 1.
    """
    from ..collection import Memory, run
    from ..files import named_as
    from ..tasks import Localize, Localizer
    from ..tasks.given import check_focal, given_features
    from ..tasks.poses import write_poses
    from ..tasks.rotated import rotated_query

    if out is not None and out.suffix.lower() not in (".txt", ""):
        raise click.BadParameter(f"{out} must end in .txt; --json prints JSON", param_hint="--out")
    photographs = found(queries, mask, every, as_json)
    localizer = Localizer(folder, top=top, threshold=threshold, align=align)
    known = {} if cameras is None else named_as(read_cameras(cameras), photographs, str(cameras))
    say_unlike_cameras(localizer.map, photographs, known, focal, as_json)
    check_focal(focal, photographs)
    step = Localize(localizer, cameras=known, focal=focal)
    exchange = given_of(given)
    with explained_interrupt(None), progress_bar("localizing", as_json) as progress:
        items: Any = photographs
        lost: dict[str, str] = {}
        if exchange is not None:
            features = given_features(exchange, photographs, Memory())
            items = {name: (photographs[name], features.reference(name)) for name in map(str, features)}
            lost = {str(name): message for name, message in features.failed.items()}
        found_poses = run(step, items, engine=engine_of(jobs, engine, address), progress=progress)
    results: dict[str, Localization] = {str(name): found_poses[name] for name in found_poses}
    failed = {**photographs.failed, **lost, **{str(name): why for name, why in found_poses.failed.items()}}
    left_out = {} if out is None else write_poses(out, results)
    failed |= left_out
    localized = sum(map(bool, results.values()))
    lost_ones = [name for name, result in results.items() if not result]
    hint = "" if exchange is not None else rotated_query(localizer, photographs, lost_ones)
    if as_json:
        print_json(
            {"map": str(folder), "queries": [_told(q, r) for q, r in results.items()], "failed": failed, "hint": hint}
        )
    else:
        for query, result in results.items():
            say(f"{shown(query)}: {_line(result)}")
        for message in failed.values():
            click.echo(f"tiepoints: {shown(message)}", err=True)
        if hint:
            say(shown(hint), err=True)
        say(f"{localized} of {len(photographs) + len(photographs.failed)} localized")
        if out is not None:
            say(f"wrote {shown(out)}, {counted(localized - len(left_out), 'pose')}")
    if failed or localized < len(results):
        raise SystemExit(1)


def _line(result: Localization) -> str:
    centre = result.pose.center
    if centre is None:
        return f"not localized: {result.reason}"
    place = ", ".join(f"{x:.3f}" for x in centre)
    return f"at ({place}), {counted(result.inliers, 'inlier')} of {counted(result.matches, 'matched point')}"


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
