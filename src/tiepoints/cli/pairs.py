"""`tiepoints pairs`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import counted
from .batch import (
    check_two,
    engine_of,
    engine_options,
    every_option,
    explained_interrupt,
    found,
    none_read,
    progress_bar,
    shown,
    store_option,
    work_folder,
)
from .many import placed_of
from .numbers import FloatRange, IntRange
from .options import (
    examples,
    extractor_options,
    json_option,
    make_extractor,
    output_option,
    print_json,
    quiet_option,
    say,
)

KINDS = ("exhaustive", "sequential", "retrieval", "spatial")


@click.command(
    "pairs",
    epilog=examples(
        "tiepoints pairs photos/ --kind retrieval --top 20 --out pairs.txt",
        "tiepoints pairs frames/ --kind sequential --kind retrieval --out pairs.txt",
        "tiepoints pairs flight/ --kind spatial --top 30 --within 200 --out pairs.txt",
    ),
)
@click.argument("photos", nargs=-1, required=True, type=click.Path())
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(KINDS),
    multiple=True,
    required=True,
    help="How pairs are chosen; repeatable: the union.",
)
@output_option("--out", what="Write two names on each line, as hloc and COLMAP read them.", required=True)
@click.option(
    "--window",
    type=IntRange(min=1),
    default=10,
    show_default=True,
    help="For sequential: number of images that follow.",
)
@click.option(
    "--top",
    type=IntRange(min=1),
    default=20,
    show_default=True,
    help="For retrieval and spatial: number of the most similar, or nearest, images.",
)
@click.option(
    "--within",
    type=FloatRange(min=0, min_open=True),
    help="For spatial: of the nearest, those within METRES.",
    metavar="METRES",
)
@click.option("--altitude", is_flag=True, help="For spatial: differences in altitude count too, as for a drone.")
@extractor_options
@every_option
@engine_options
@store_option("--out with .work added")
@quiet_option
@json_option
def command(
    photos: tuple[str, ...],
    kinds: tuple[str, ...],
    out: Path,
    window: int,
    top: int,
    within: float | None,
    altitude: bool,
    name: str,
    max_keypoints: int,
    max_size: int | None,
    settings: tuple[tuple[str, Any], ...],
    every: int,
    jobs: int | None,
    engine: str,
    address: str | None,
    store: Path | None,
    as_json: bool,
) -> None:
    """Choose which of PHOTOS are to be matched with which, without matching them.

    exhaustive: every pair. sequential: each with those that follow it in the order of the numbers in their names, and
    some far ones. retrieval: each with those that look most alike, by a vector made of its features. spatial: each with
    those that were taken nearest to it, by the GPS positions in EXIF; photographs without one are named, and get pairs
    by retrieval.
    """
    from ..collection import Extract, Store, run, union
    from ..collection.retrieval import Describe
    from ..errors import ImageError
    from ..files import fits_a_line, write_whole
    from ..tasks.verified import choose_pairs, vocabulary_of

    photographs = found(photos, None, every, as_json)
    check_two(photographs, photographs.failed, "a pair")
    failed = dict(photographs.failed)
    names, vectors, vocabulary = list(photographs), None, None
    positions = placed_of(photographs, "retrieval") if "spatial" in kinds else None
    if "retrieval" in kinds or (positions and len(positions) < len(names)):
        extractor, where = make_extractor(name, max_keypoints, max_size, settings), engine_of(jobs, engine, address)
        folder = work_folder(out, store)
        with explained_interrupt(folder), Store(folder) as kept:
            with progress_bar("extracting", as_json) as progress:
                features = run(Extract(extractor), photographs, kept, engine=where, progress=progress)
            failed |= {str(item): message for item, message in features.failed.items()}
            if not features:
                raise ImageError(none_read(failed))
            check_two(features, failed, "a pair")
            vocabulary = vocabulary_of(extractor, features)
            vectors = run(Describe(vocabulary), features, kept, engine=where)
            names = [str(one) for one in features]
    listed = union(
        *(
            choose_pairs(
                kind, names, vectors=vectors, vocabulary=vocabulary, positions=positions, top=top, window=window,
                within=within, altitude=altitude,
            )
            for kind in kinds
        )
    )  # fmt: skip
    failed |= {one: f"{one}: {out} cannot hold this name: rename it" for one in names if not fits_a_line(one)}
    listed = [pair for pair in listed if all(map(fits_a_line, pair))]
    separator = "\t" if any(any(map(str.isspace, one)) for one in names) else " "
    write_whole(out, "".join(f"{a}{separator}{b}\n" for a, b in listed).encode("utf-8", "surrogateescape"))
    for message in failed.values():
        click.echo(f"tiepoints: {shown(message)}", err=True)
    if as_json:
        print_json({"images": len(names), "pairs": len(listed), "failed": failed, "out": str(out)})
    else:
        say(f"{counted(len(listed), 'pair')} of {counted(len(names), 'image')}")
        say(f"wrote {shown(out)}")
    if failed:
        raise SystemExit(1)
