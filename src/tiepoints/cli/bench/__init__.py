"""`tiepoints bench`: one module a benchmark."""

from __future__ import annotations

import click

from ..lazy import LazyGroup
from ..options import examples

# Name -> module, and the line that `tiepoints bench --help` shows for it.
_BENCHMARKS: dict[str, tuple[str, str]] = {
    "hpatches": ("hpatches", "HPatches and other planar scenes: matching accuracy, repeatability, homographies."),
    "imb": ("imb", "Image Matching Benchmark: poses of pairs, reconstructions of small bags."),
    "trajectory": ("trajectory", "Absolute trajectory error and relative pose error of a moving camera."),
    "speed": ("speed", "Time and memory of extraction and matching, beside OpenCV's SIFT and ORB."),
    "download": ("download", "Fetch a benchmark's data, checked and resumable."),
}


@click.group(
    "bench",
    cls=LazyGroup,
    lazy={name: (f"{__name__}.{module}", line) for name, (module, line) in _BENCHMARKS.items()},
    epilog=examples(
        "tiepoints bench download hpatches --to data",
        "tiepoints bench hpatches --root data/hpatches-sequences-release -e mdnet -e rootsift --out report.html",
    ),
)
def command() -> None:
    """Measure extractors by the field's protocols, several in one table.

    Features are extracted once and kept, so that the same command resumes after an interruption, and another one that
    needs the same features starts at once.
    """
