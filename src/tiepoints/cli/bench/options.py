"""Options and helpers that the benchmarks share: the methods, where results are kept, where the report goes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..batch import engine_options
from ..options import (
    DEFAULT_EXTRACTOR,
    ExtractorName,
    is_quiet,
    json_option,
    max_keypoints_option,
    max_size_option,
    output_option,
    print_json,
    quiet_option,
    say,
)

if TYPE_CHECKING:
    from ...benchmarks import Method, Report

_REPORTS = (".json", ".csv", ".md", ".html")


def methods_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The methods: `specs`, `max_keypoints`, `max_size`, which `make_methods` understands."""
    for option in (
        max_size_option,
        max_keypoints_option("Max. number of keypoints of each image."),
        click.option(
            "-e",
            "--extractor",
            "specs",
            type=ExtractorName(),
            multiple=True,
            default=(DEFAULT_EXTRACTOR,),
            show_default=True,
            help="Method, one of `tiepoints extractors`, with its options behind a colon: mdnet:sets=4 or "
            "rootsift:contrast_threshold=0.01 (`tiepoints extractors NAME` lists them); repeatable.",
        ),
    ):
        function = option(function)
    return function


def store_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where results are kept, and where the work is done: `store`, and for `engine_of` `jobs`, `engine`, `address`."""
    for option in (
        partial(engine_options, default="threads; processes for COLMAP's bags"),
        click.option(
            "--store",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder that keeps features and results; made if missing.  "
            "[default: tiepoints/benchmarks in your cache folder]",
        ),
    ):
        function = option(function)
    return function


def report_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where the report goes: `outs`, `details`, `as_json`, which `deliver` understands."""
    for option in (
        quiet_option,
        json_option,
        output_option(
            "--details",
            type=click.Path(path_type=Path, dir_okay=False),
            what="Write the figures of every single pair (.csv).",
        ),
        output_option(
            "-o",
            "--out",
            "outs",
            type=click.Path(path_type=Path, dir_okay=False),
            multiple=True,
            what="Write the report: .html (with plots and pictures), .json, .csv or .md; repeatable.",
        ),
    ):
        function = option(function)
    return function


def check_reports(outs: Sequence[Path], details: Path | None) -> None:
    """Refuse a report's name before the work is done, not after it."""
    for path in outs:
        if path.suffix.lower() not in _REPORTS:
            raise click.BadParameter(f"{path} must end in {', '.join(_REPORTS)}", param_hint="--out")
    if details is not None and details.suffix.lower() != ".csv":
        raise click.BadParameter(f"{details} must end in .csv", param_hint="--details")


def make_methods(specs: Sequence[str], max_keypoints: int, max_size: int | None) -> list[Method]:
    """The methods that the shared options ask for; what cannot be made is wrong usage."""
    from ...benchmarks.methods import methods_of

    return methods_of(specs, max_keypoints=max_keypoints, max_size=max_size)


def deliver(report: Report, outs: Sequence[Path], details: Path | None, as_json: bool) -> None:
    """Print the report and write its files; exit code 1 where something could not be judged."""
    from ...benchmarks import print_report, save_details, save_report

    if as_json:
        print_json(report.as_dict())
    elif not is_quiet():
        print_report(report)
    # Printed first: where a file cannot be written, the figures are not lost.
    for path in outs:
        save_report(report, path)
    if details is not None:
        save_details(report, details)
    for path in () if as_json else (*outs, *([details] if details else [])):
        say(f"wrote {path}")
    if report.incomplete:
        raise SystemExit(1)


@contextmanager
def progress_bar(
    quiet: bool, kept: str = "what is finished is kept, run the same command again", *, in_bytes: bool = False
) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on the terminal, or lines in a log, moved by ``(what, done, all)``; nothing for machines.

    All is 0 where nobody knows. Ctrl-C ends with one line that says what is `kept` of the work.
    """
    from ...errors import TiepointsError, printable
    from ...progress import progress_lines

    try:
        if quiet or is_quiet():
            yield lambda what, done, total: None
            return
        if not sys.stderr.isatty():
            with progress_lines() as write:
                yield write
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        amounts = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), *amounts, TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            tasks: dict[str, Any] = {}

            def move(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = progress.add_task(printable(what), total=total or None)
                progress.update(tasks[what], completed=done, total=total or None)

            yield move
    except KeyboardInterrupt:
        raise TiepointsError(f"interrupted; {kept}".rstrip("; ")) from None
