"""`tiepoints bench`: one module a benchmark."""

from __future__ import annotations

import click

from ..lazy import LazyGroup

# Name -> module, and the line that `tiepoints bench --help` shows for it.
_BENCHMARKS: dict[str, tuple[str, str]] = {
    "hpatches": ("hpatches", "Planar scenes: matching accuracy and score, repeatability, homographies."),
    "imb": ("imb", "Image Matching Benchmark: poses of pairs, reconstructions of small bags."),
    "trajectory": ("trajectory", "Absolute trajectory error and relative pose error, by evo."),
    "speed": ("speed", "Extraction and matching side by side with OpenCV's SIFT and ORB."),
    "download": ("download", "Fetch a benchmark's data, checked and resumable."),
}


@click.group(
    "bench",
    cls=LazyGroup,
    lazy={name: (f"{__name__}.{module}", line) for name, (module, line) in _BENCHMARKS.items()},
    epilog="Example: tiepoints bench hpatches --root hpatches-sequences-release -e rootsift -e orb --out report.html",
)
def command() -> None:
    """Measure extractors by the field's protocols, several in one table.

    Features are extracted once and kept, so that the same command resumes after an interruption, and another one that
    needs the same features starts at once.
    """
