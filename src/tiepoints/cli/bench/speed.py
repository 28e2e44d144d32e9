"""`tiepoints bench speed`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

from ...threads import variables
from ..numbers import IntRange
from ..options import ExtractorName, examples, max_keypoints_option
from .options import check_reports, deliver, make_methods, progress_bar, report_options


class _Size(click.ParamType):  # type: ignore[type-arg] # generic since click 8.5 only
    """WIDTHxHEIGHT in pixels."""

    name = "widthxheight"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", str(value))
        if not found:
            self.fail(f"{value!r} is not of the form 640x480", param, ctx)
        return int(found[1]), int(found[2])


@click.command(
    "speed",
    epilog=examples(
        "tiepoints bench speed --image photo.jpg --out speed.html",
        "tiepoints bench speed --image photo.jpg -e mdnet -e mdnet:sets=4 --no-growth --no-memory",
    ),
)
@click.option(
    "-e",
    "--extractor",
    "specs",
    type=ExtractorName(),
    multiple=True,
    help="Method, NAME or NAME:KEY=VALUE,...; repeatable.  [default: every extractor that needs no fetched weights]",
)
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    help="A photograph, brought to each size.  [default: a synthetic texture]",
)
@click.option("--size", type=_Size(), default="640x480", show_default=True, help="Size of the first table.")
@max_keypoints_option("Keypoints of the first table.")
@click.option(
    "--sizes",
    type=_Size(),
    multiple=True,
    default=["320x240", "640x480", "1280x960"],
    show_default=True,
    help="Sizes over which the growth is measured; repeatable.",
)
@click.option(
    "--counts",
    type=IntRange(min=1),
    multiple=True,
    default=[512, 1024, 2048, 4096],
    show_default=True,
    help="Numbers of keypoints over which the growth is measured; repeatable.",
)
@click.option("--growth/--no-growth", default=True, show_default=True, help="Measure how the cost grows.")
@click.option("--runs", type=IntRange(min=5), default=7, show_default=True, help="Timed runs of each.")
@click.option("--threads", type=IntRange(min=1), default=2, show_default=True, help="Threads of every method.")
@click.option("--memory/--no-memory", default=True, show_default=True, help="Measure peak memory.")
@report_options
def command(
    specs: tuple[str, ...],
    image: Path | None,
    size: tuple[int, int],
    max_keypoints: int,
    sizes: tuple[tuple[int, int], ...],
    counts: tuple[int, ...],
    growth: bool,
    runs: int,
    threads: int,
    memory: bool,
    outs: tuple[Path, ...],
    details: Path | None,
    as_json: bool,
) -> None:
    """Time extraction and matching beside OpenCV's SIFT and ORB, alternately; medians and ratios.

    First a table at one size and number of keypoints, with peak memory; then how the cost grows with the image and with
    the number of keypoints. All of it takes minutes. Only ratios can be compared between machines. Let nothing else run
    meanwhile: the report says how uneven the runs were.
    """
    check_reports(outs, details)
    os.environ.update(variables(threads))  # before the libraries are loaded, which is below
    from ...benchmarks import evaluate_speed
    from ...images import read

    methods = make_methods(specs, max_keypoints, None) if specs else None
    photograph = None if image is None else read(image)
    with progress_bar(quiet=as_json, kept="") as progress:
        report = evaluate_speed(
            methods,
            photograph=photograph,
            size=size,
            count=max_keypoints,
            sizes=sizes if growth else (),
            counts=counts if growth else (),
            runs=runs,
            threads=threads,
            memory=memory,
            progress=progress,
        )
    deliver(report, outs, details, as_json)
