"""`tiepoints map`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..errors import counted
from .batch import explained_interrupt, shown, work_folder
from .earlier import overwrite_option
from .many import Scene, enough, reported, say_missing, scene_options
from .options import examples, print_json, say


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
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="A COLMAP model with known poses of the photographs; without one they are reconstructed.",
)
@overwrite_option("a map, with photographs that `tiepoints add` brought into it,")
@scene_options
def command(
    photos: tuple[str, ...],
    out: Path,
    model: Path | None,
    overwrite: bool,
    scene: Scene,
) -> None:
    """Make a map of a place from PHOTOS of it, in the folder OUT, for `tiepoints localize`.

    The map is only read afterwards. What it was made from is kept beside it, in OUT.work, and may be deleted; while it
    is there, the same command with more photographs computes only what is new. A map that was made with other options,
    or from photographs that are not given now, is replaced only with --overwrite.

    A model of another program with its own features (--model and --from) is a map without any photograph. With --from,
    name the extractor that made the features (-e), or give `localize` the features of queries too. The map keeps a
    patch of 15 x 15 pixels of each point, for the alignment of queries; with --no-align it does not.

    Exit code 1 where fewer than half of the photographs are in the map, or one could not be read.
    """
    from click.core import ParameterSource

    from ..collection import Collection
    from ..files import composed
    from ..tasks import build_map

    if not photos and not (model and scene.given):
        raise click.UsageError("Missing argument 'PHOTOS': only a --model with its features (--from) needs none")
    photographs = scene.photographs(photos) if photos else Collection([])
    extractor: Any = scene.extractor()
    name = extractor.metadata.name
    if scene.given and click.get_current_context().get_parameter_source("name") is ParameterSource.DEFAULT:
        extractor = name = ""  # the features do not tell what made them
    arguments = scene.arguments(photographs)
    with explained_interrupt(work_folder(out, None)), reported(scene.as_json) as progress:
        made, reconstruction = build_map(
            photographs if photos else None,
            out,
            extractor=extractor,
            model=model,
            ratio=scene.ratio,
            early_stop=scene.early_stop,
            overwrite=overwrite,
            **arguments,
            progress=progress,
        )
    every = len(photographs) + len(photographs.failed)
    if reconstruction is None:  # the poses were given
        known = {composed(name) for name in made.names}
        missing = {name: "no pose in --model" for name in photographs if composed(name) not in known}
        unread: Mapping[Any, str] = photographs.failed
    else:
        missing = reconstruction.missing
        unread = photographs.failed or (reconstruction.features and reconstruction.features.failed) or {}
    if scene.as_json:
        print_json(
            {"map": str(out), "images": len(made), "points": len(made.xyz), "extractor": name, "missing": missing}
        )
    else:
        say(f"{len(made):6d} of {counted(every or len(made), 'photograph')} in the map")
        say(counted(len(made.xyz), "point", 6))
        say_missing(missing, every, "the map", "" if reconstruction is None else reconstruction.hint)
        say(f"wrote {shown(out)}")
    if unread or not enough(len(made), every):
        raise SystemExit(1)
