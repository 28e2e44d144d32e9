"""`tiepoints bench hpatches`."""

from __future__ import annotations

from pathlib import Path

import click

from ..batch import engine_of
from ..options import examples
from .options import (
    check_reports,
    deliver,
    make_methods,
    methods_options,
    progress_bar,
    report_options,
    store_options,
)


@click.command(
    "hpatches",
    epilog=examples(
        "tiepoints bench hpatches --root hpatches-sequences-release -e mdnet -e rootsift --out report.html",
        "tiepoints bench hpatches --root wxbs -e upright-rootsift",
    ),
)
@click.option(
    "--root",
    "roots",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Folder of the sequences, whole or in part; repeatable.",
)
@click.option(
    "--profile",
    type=click.Choice(["d2net", "aslfeat", "strek"]),
    default="d2net",
    show_default=True,
    help="Protocol, see above.",
)
@click.option(
    "--time/--no-time",
    "timed",
    default=None,
    help="Measure times beside OpenCV's SIFT as well.  [default: only for an .html report]",
)
@methods_options
@store_options
@report_options
def command(
    roots: tuple[Path, ...],
    profile: str,
    timed: bool | None,
    specs: tuple[str, ...],
    max_keypoints: int,
    max_size: int | None,
    store: Path | None,
    jobs: int | None,
    engine: str | None,
    address: str | None,
    outs: tuple[Path, ...],
    details: Path | None,
    as_json: bool,
) -> None:
    """Matching accuracy (MMA), matching score (MS), repeatability and homographies on pairs with a known homography.

    A sequence is a folder with images 1.* to 6.* (ppm, png, jpg) and homographies H_1_2 to H_1_6: the full release of
    HPatches, any part of it, Oxford's sequences, single pairs. Pairs with corrs.txt instead (WxBS) are judged by how
    many marked correspondences the estimated fundamental matrix explains. What is missing is named in the report.

    Profiles: d2net, the usual MMA; aslfeat, with its matching score and repeatability; strek, errors in
    both directions and 2048 keypoints. Published figures stand beside the measured ones, with their source.
    """
    check_reports(outs, details)
    from ...benchmarks import default_store, evaluate_hpatches

    methods = make_methods(specs, max_keypoints, max_size)
    folder = default_store() if store is None else store
    html = any(path.suffix.lower() == ".html" for path in outs)
    where = engine_of(jobs, engine or "threads", address)
    with progress_bar(quiet=as_json) as progress:
        report = evaluate_hpatches(
            methods,
            roots,
            profile=profile,
            store=folder,
            engine=where,
            pictures=html,
            timed=html if timed is None else timed,
            progress=progress,
        )
    deliver(report, outs, details, as_json)
