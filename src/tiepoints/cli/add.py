"""`tiepoints add`."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import counted
from .batch import engine_of, explained_interrupt, found, photographs_options, shown, work_folder
from .many import cameras_option, query_focal_option, read_cameras, reported, say_unlike_cameras
from .options import examples, json_option, print_json, quiet_option, say


@click.command(
    "add",
    epilog=examples("tiepoints add map/ more/", "tiepoints add map/ more/ --focal 1180"),
)
@click.argument("folder", metavar="MAP", type=click.Path(path_type=Path))
@click.argument("photos", nargs=-1, required=True, type=click.Path())
@query_focal_option
@cameras_option
@photographs_options
@quiet_option
@json_option
def command(
    folder: Path,
    photos: tuple[str, ...],
    focal: float | None,
    cameras: Path | None,
    mask: Path | None,
    every: int,
    jobs: int | None,
    engine: str,
    address: str | None,
    as_json: bool,
) -> None:
    """Add PHOTOS to a MAP that `tiepoints map` made.

    They are localized in the map, which keeps its poses and points, and give it further points. Queries are answered
    by the old version until the new one is whole, and then takes its place in one step. Photographs that are not
    localized are named, and the exit code is then 1.
    """
    from ..tasks import Localizer, add_to_map
    from ..tasks.maps import read_map
    from ..tasks.rotated import rotated_query

    photographs = found(photos, mask, every, as_json)
    given = {} if cameras is None else read_cameras(cameras)
    say_unlike_cameras(read_map(folder), photographs, given, focal, as_json)
    with explained_interrupt(work_folder(folder, None)), reported(as_json) as progress:
        added = add_to_map(
            folder,
            photographs,
            cameras=given,
            focal=focal,
            engine=engine_of(jobs, engine, address),
            progress=progress,
        )
    missed = [name for name in map(str, added.failed) if name in photographs]
    hint = rotated_query(Localizer(folder), photographs, missed) if missed else ""
    if as_json:
        about = {
            "map": str(folder),
            "version": added.map.version,
            "images": len(added.map),
            "points": len(added.map.xyz),
        }
        print_json(
            about | {"added": list(added.localized), "new_points": added.points, "failed": added.failed, "hint": hint}
        )
    else:
        total = counted(len(photographs) + len(photographs.failed), "photograph")
        say(f"{len(added.localized):6d} of {total} added")
        known = f"{counted(len(added.map), 'photograph', 6)} and {counted(len(added.map.xyz), 'point')}"
        say(f"{known} in the map, {added.points} of them new")
        for message in added.failed.values():
            click.echo(f"not added: {shown(message)}", err=True)
        if hint:
            say(shown(hint), err=True)
    if added.failed:
        raise SystemExit(1)
