"""`tiepoints compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import counted
from .batch import check_two, every_option, found, say_failures
from .numbers import FloatRange, IntRange
from .options import (
    check_not_an_input,
    examples,
    is_quiet,
    json_option,
    max_keypoints_option,
    max_size_option,
    picture_option,
    print_json,
    print_rows,
    quiet_option,
    say,
)

if TYPE_CHECKING:
    from ..compare import Compared, Comparison


@click.command(
    "compare",
    epilog=examples(
        "tiepoints compare a.jpg b.jpg --max-size 1600 --plot compared.png",
        "tiepoints compare photos/ --methods mdnet,rootsift,orb",
    ),
)
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option(
    "--methods",
    default="mdnet,rootsift,orb",
    show_default=True,
    help="Names of extractors, separated by commas; options of one behind a colon: mdnet:sets=4.",
)
@max_keypoints_option("Max. number of keypoints of each image.")
@max_size_option
@click.option("--ratio", type=FloatRange(0, 1, min_open=True), help="Ratio test of all methods.")
@click.option(
    "--geometry",
    type=click.Choice(["fundamental", "homography"]),
    default="fundamental",
    show_default=True,
    help="The geometric verification.",
)
@click.option(
    "--pairs", type=IntRange(min=1), default=10, show_default=True, help="At most so many pairs, evenly chosen."
)
@every_option
@picture_option("Write a picture of the first pair's inliers by each method.")
@json_option
@quiet_option
def command(
    images: tuple[str, ...],
    methods: str,
    max_keypoints: int,
    max_size: int | None,
    ratio: float | None,
    geometry: str,
    pairs: int,
    every: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Compare extractors on your own photographs: IMAGES are two files or more, folders, lists or videos.

    Each photograph is matched with the next one by name. Inliers are those of verified pairs; coverage is the share of
    the image's cells (10 x 10) with an inlier; time is the median of a pair, extraction to verification. The exit code
    is 1 if a photograph cannot be read, or no method verifies any pair.
    """
    from ..compare import Comparison, compare
    from ..matching import Nearest
    from ..progress import shown_progress
    from .bench.options import make_methods

    photographs = found(images, None, every, as_json)
    say_failures(photographs.failed)
    check_two(photographs, photographs.failed, "a comparison")
    check_not_an_input((plot,), (one.path for one in photographs.values()))
    specs = [spec.strip() for spec in _split(methods)]
    made = {one.label: one.extractor for one in make_methods(specs, max_keypoints, max_size)}
    steps = compare(list(photographs.values()), made, matcher=Nearest(ratio=ratio), geometry=geometry, most_pairs=pairs)
    result = None
    told = not as_json and not is_quiet()
    for step in shown_progress(steps, range(min(pairs, len(photographs) - 1)), "comparing", lines=told):
        result = step if isinstance(step, Comparison) else result
    assert result is not None
    for message in result.failed.values():
        click.echo(f"tiepoints: {message}", err=True)
    if plot is not None:
        from ..plot import save_image

        save_image(plot, result.plot(max_size=800))
    if as_json:
        failed = {**photographs.failed, **result.failed}
        print_json(result.as_dict() | {"failed": failed, "plot": None if plot is None else str(plot)})
    else:
        _print(result, plot)
    verified = any(row.verified for row in result.rows)
    if not verified:
        say("NOT VERIFIED: no method finds more inliers than chance would give; do the photographs overlap?", err=True)
    if result.failed or photographs.failed or not verified:
        raise SystemExit(1)


def _split(methods: str) -> list[str]:
    """Commas separate methods, and options of one: what has a = and no : before it belongs to the one before."""
    parts: list[str] = []
    for part in methods.split(","):
        if parts and "=" in part.partition(":")[0]:
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    return parts


def _cells(row: Compared) -> list[tuple[float, str]]:
    """What a row shows, and how good that is: the more the better."""
    return [
        (row.keypoints, f"{row.keypoints:.0f}"),
        (row.matches, f"{row.matches:.0f}"),
        (row.inliers, f"{row.inliers:.0f}"),
        (row.coverage, f"{100 * row.coverage:.0f}"),
        (-row.milliseconds, f"{row.milliseconds:.0f}"),
    ]


def _print(result: Comparison, plot: Path | None) -> None:
    if is_quiet():
        return
    names = ("method", "keypoints", "putative matches", "inliers", "coverage %", "time ms", "verified")
    rows = [_cells(row) for row in result.rows]
    best = [max(column) for column in zip(*([value for value, _ in row] for row in rows), strict=True)]
    print_rows(
        names,
        [
            [compared.method, *(text for _, text in row), f"{compared.verified} of {compared.pairs}"]
            for compared, row in zip(result.rows, rows, strict=True)
        ],
        marked=lambda row, column: (
            len(rows) > 1 and 1 <= column <= len(best) and rows[row][column - 1][0] == best[column - 1]
        ),
    )
    beside = not sys.stdout.isatty()  # what reads the table from a pipe gets nothing else
    first, second = result.pairs[0]
    several = f" and {counted(len(result.pairs) - 1, 'more pair')}" if len(result.pairs) > 1 else ""
    say(
        f"{first} - {second}{several}; figures are means of an image or a pair, time is the median of a pair",
        err=beside,
    )
    if plot is not None:
        say(f"wrote {plot}", err=beside)
