"""`tiepoints reconstruct`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .batch import engine_of, engine_options, every_option, explained_interrupt, found, mask_option, shown, store_option
from .many import (
    camera_mode_option,
    cameras_option,
    focal_option,
    given_of,
    given_option,
    pairs_of,
    pairs_option,
    ratio_option,
    read_cameras,
    reported,
)
from .options import examples, extractor_options, json_option, make_extractor, print_json, quiet_option, say

_LISTED = 10  # photographs that are not registered, of which a line says why


@click.command(
    "reconstruct",
    epilog=examples(
        "tiepoints reconstruct photos/ scene/ --max-size 1600",
        "tiepoints reconstruct clip.mp4 scene/ --every 10 --pairs sequential",
    ),
)
@click.argument("photos", nargs=-1, required=True, type=click.Path())
@click.argument("out", type=click.Path(path_type=Path))
@extractor_options
@pairs_option
@click.option(
    "--mapper",
    type=click.Choice(("incremental", "global")),
    default="incremental",
    show_default=True,
    help="COLMAP's: incremental is the more robust, global the faster.",
)
@camera_mode_option
@focal_option
@cameras_option
@ratio_option
@given_option
@mask_option
@every_option
@engine_options
@store_option("OUT/work")
@quiet_option
@json_option
def command(
    photos: tuple[str, ...],
    out: Path,
    name: str,
    max_keypoints: int,
    max_size: int | None,
    settings: tuple[tuple[str, Any], ...],
    pairs: str,
    mapper: str,
    camera_mode: Any,
    focal: float | None,
    cameras: Path | None,
    ratio: float | None,
    given: tuple[Path, ...],
    mask: Path | None,
    every: int,
    jobs: int | None,
    engine: str,
    address: str | None,
    store: Path | None,
    as_json: bool,
) -> None:
    """Reconstruct a scene from PHOTOS of it into the folder OUT: cameras and 3D points, by COLMAP.

    OUT gets sparse/0 (COLMAP's model; sparse/1 and so on where the photographs fall apart), points.ply,
    transforms.json (nerfstudio, Gaussian splatting), report.html, report.json and database.db. What is finished is
    kept in OUT/work: the same command goes on after an interruption, and computes only what is new. Exit code 1 where
    no camera was found or a photograph could not be read.
    """
    from ..collection import Match
    from ..tasks import reconstruct
    from ..tasks.reconstruction import summary_of

    photographs = found(photos, mask, every, as_json)
    if cameras is not None:
        photographs = photographs.with_cameras(read_cameras(cameras))
    extractor = make_extractor(name, max_keypoints, max_size, settings)
    with explained_interrupt(store or out / "work"), reported(as_json) as progress:
        result = reconstruct(
            photographs,
            out,
            extractor=extractor,
            pairs=pairs_of(pairs, photographs),
            mapper=mapper,
            camera_mode=camera_mode,
            focal=focal,
            given=given_of(given),
            match=Match(ratio=ratio),
            store=store,
            engine=engine_of(jobs, engine, address),
            progress=progress,
        )
    if as_json:
        print_json(summary_of(result) | {"extractor": name})
    else:
        say(f"{result.registered:6d} of {result.images} photographs registered")
        if result.models > 1:
            say(f"{result.models:6d} models: the photographs fall apart; the largest one is meant here")
        say(f"{result.points:6d} points, seen by {result.track_length:.1f} photographs each (track length)")
        say(f"{result.reprojection_error:6.2f} px mean reprojection error")
        say(f"{result.verified:6d} of {result.pairs} pairs verified")
        for photograph, reason in list(result.missing.items())[:_LISTED]:
            click.echo(f"not registered: {shown(photograph)}: {shown(reason)}", err=True)
        if len(result.missing) > _LISTED:
            click.echo(f"and {len(result.missing) - _LISTED} more; report.json lists all", err=True)
        say(f"wrote {shown(out)}")
    if not result or photographs.failed:
        raise SystemExit(1)
