"""`tiepoints reconstruct`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import counted
from .batch import explained_interrupt, say_memory, shown, sizes_of, store_option
from .earlier import overwrite_option
from .many import Scene, enough, reported, say_missing, scene_options
from .options import examples, print_json, say

if TYPE_CHECKING:
    from ..tasks import Reconstruction

_NAMED = 10  # further models that are listed


@click.command(
    "reconstruct",
    epilog=examples(
        "tiepoints reconstruct photos/ scene/ --max-size 1600",
        "tiepoints reconstruct clip.mp4 scene/ --every 10 --pairs sequential",
    ),
)
@click.argument("photos", nargs=-1, required=True, type=click.Path())
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--mapper",
    type=click.Choice(("incremental", "global")),
    default="incremental",
    show_default=True,
    help="COLMAP's: incremental is the more robust, global the faster.",
)
@overwrite_option("a reconstruction")
@store_option("OUT/work")
@scene_options
def command(
    photos: tuple[str, ...],
    out: Path,
    mapper: str,
    overwrite: bool,
    store: Path | None,
    scene: Scene,
) -> None:
    """Reconstruct a scene from PHOTOS of it into the folder OUT: cameras and 3D points, by COLMAP.

    OUT gets sparse/0 (COLMAP's model; sparse/1 and so on where too few matches connect the photographs), points.ply,
    transforms.json (nerfstudio, Gaussian splatting), report.html, report.json and database.db. What is finished is
    kept in OUT/work: the same command goes on after an interruption, and computes only what is new. What was made with
    other options, or from photographs that are not given now, is replaced only with --overwrite. Exit code 1 where
    fewer than half of the photographs are registered, or one could not be read.
    """
    from ..collection import Match, MatchVerified
    from ..tasks import reconstruct
    from ..tasks.reconstruction import summary_of

    photographs = scene.photographs(photos)
    extractor = scene.extractor()
    arguments = scene.arguments(photographs)
    say_memory(extractor, sizes_of(photographs))
    with explained_interrupt(store or out / "work"), reported(scene.as_json) as progress:
        result = reconstruct(
            photographs,
            out,
            extractor=extractor,
            mapper=mapper,
            match=MatchVerified(ratio=scene.ratio) if scene.early_stop else Match(ratio=scene.ratio),
            store=store,
            overwrite=overwrite,
            **arguments,
            progress=progress,
        )
    if scene.as_json:
        print_json(summary_of(result) | {"extractor": extractor.metadata.name})
    else:
        say(f"{result.registered:6d} of {counted(result.images, 'photograph')} registered")
        if result.models > 1:
            about = "what follows is of sparse/0, the largest"
            say(f"{result.models:6d} separate models, which too few matches connect; {about}")
            _say_further(result)
        if result:
            points = counted(result.points, "point", 6)
            say(f"{points}, seen by {result.track_length:.1f} photographs each (track length)")
            say(f"{result.reprojection_error:6.2f} px mean reprojection error")
        say(f"{result.verified:6d} of {counted(result.pairs, 'pair')} verified")
        say_missing(result.missing, result.images, "the model", result.hint)
        say(f"wrote {shown(out)}" if result else f"there is no model; why is told in {shown(out / 'report.html')}")
    unread = photographs.failed or (result.features is not None and result.features.failed)
    if unread or not enough(result.registered, result.images):
        raise SystemExit(1)


def _say_further(result: Reconstruction) -> None:
    """A line for each model beside the largest, with one of its photographs."""
    for number, names in list(enumerate(result.further, 1))[:_NAMED]:
        say(f"       sparse/{number}: {counted(len(names), 'photograph')}, for instance {shown(names[0])}")
    if len(result.further) > _NAMED:
        say(f"       and {counted(len(result.further) - _NAMED, 'more model')}; report.json lists them")
