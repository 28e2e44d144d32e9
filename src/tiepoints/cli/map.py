"""`tiepoints map`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .batch import engine_of, engine_options, every_option, explained_interrupt, found, mask_option, shown
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


@click.command(
    "map",
    epilog=examples(
        "tiepoints map photos/ map/ --max-size 1600",
        "tiepoints map photos/ map/ --model colmap/sparse/0",
        "tiepoints map map/ --model hloc/sfm --from hloc/feats-superpoint-n4096-r1024.h5",
    ),
)
@click.argument("photos", nargs=-1, type=click.Path())
@click.argument("out", type=click.Path(path_type=Path))
@extractor_options
@pairs_option
@camera_mode_option
@focal_option
@cameras_option
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="A COLMAP model with known poses of the photographs; without one they are reconstructed.",
)
@ratio_option
@given_option
@mask_option
@every_option
@engine_options
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
    camera_mode: Any,
    focal: float | None,
    cameras: Path | None,
    model: Path | None,
    ratio: float | None,
    given: tuple[Path, ...],
    mask: Path | None,
    every: int,
    jobs: int | None,
    engine: str,
    address: str | None,
    as_json: bool,
) -> None:
    """Make a map of a place from PHOTOS of it, in the folder OUT, for `tiepoints localize`.

    The map is only read afterwards. What it was made from is kept beside it, in OUT.work, and may be deleted; while it
    is there, the same command with more photographs computes only what is new. A model of another program with its own
    features (--model and --from) is a map without any photograph; name the extractor that made the features (-e), or
    give `localize` the features of queries too.
    """
    from click.core import ParameterSource

    from ..collection import Collection
    from ..tasks import build_map

    if not photos and not (model and given):
        raise click.UsageError("Missing argument 'PHOTOS': only a --model with its features (--from) needs none")
    photographs = found(photos, mask, every, as_json) if photos else Collection([])
    if cameras is not None:
        photographs = photographs.with_cameras(read_cameras(cameras))
    extractor: Any = make_extractor(name, max_keypoints, max_size, settings)
    if model and given and click.get_current_context().get_parameter_source("name") is ParameterSource.DEFAULT:
        extractor = name = ""  # the features tell their extractor as little as the model does
    with explained_interrupt(out.with_name(f"{out.name}.work")), reported(as_json) as progress:
        made, reconstruction = build_map(
            photographs if photos else None,
            out,
            extractor=extractor,
            pairs=pairs_of(pairs, photographs),
            camera_mode=camera_mode,
            focal=focal,
            model=model,
            given=given_of(given),
            ratio=ratio,
            engine=engine_of(jobs, engine, address),
            progress=progress,
        )
    missing = {} if reconstruction is None else reconstruction.missing
    if as_json:
        print_json(
            {"map": str(out), "images": len(made), "points": len(made.xyz), "extractor": name, "missing": missing}
        )
    else:
        say(f"{len(made):6d} of {len(photographs) or len(made)} photographs in the map")
        say(f"{len(made.xyz):6d} points")
        for photograph, reason in list(missing.items())[:10]:
            click.echo(f"not in the map: {shown(photograph)}: {shown(reason)}", err=True)
        say(f"wrote {shown(out)}")
    if photographs.failed:
        raise SystemExit(1)
