"""What a report on planar scenes has beside its figures: example pictures, and accuracy against time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...datasets.planar import Pair, read_sequences
from ...features import Features
from ...files import PathLike
from ...geometry import homography_error
from ...images import read
from ...matching import match
from ...plot import plot_matches
from ..methods import Method
from ..report import Picture, Plot, Report, Series, Table
from ..speed.benchmark import time_methods, usual_table
from ..speed.timing import scene
from ..store import extracted

__all__ = ["with_examples", "with_time"]

_RUNS = 5
_USUAL = (640, 480)


def with_examples(
    report: Report,
    methods: Sequence[Method],
    roots: PathLike | Sequence[PathLike],
    *,
    store: PathLike | None = None,
    threshold: float = 3.0,
) -> Report:
    """The report with a picture of every method's correct matches on one pair of each part of the data.

    Parameters
    ----------
    report : Report
        Of `evaluate_hpatches`.
    methods : sequence of Method
    roots : path or sequence of path
        As there.
    store : path, optional
        As there; the features come from it.
    threshold : float
        Pixels: what counts as correct.

    Returns
    -------
    report : Report
        The pair in the middle of each part is shown, whoever is good at it.
    """
    data = read_sequences(roots)
    by_split: dict[str, list[Pair]] = {}
    for pair in data.pairs:
        if pair.homography is not None:
            by_split.setdefault(pair.split, []).append(pair)
    pictures = []
    for split, pairs in by_split.items():
        pair = pairs[len(pairs) // 2]
        images = {name: data.images[name] for name in (pair.a, pair.b)}
        for method in methods:
            with extracted(method, images, store=store, collection="planar") as features:
                if len(features) == 2:
                    pictures.append(
                        _example(method.label, split, pair, features[pair.a], features[pair.b], images, threshold)
                    )
    return replace(report, pictures=(*report.pictures, *pictures))


def with_time(report: Report, methods: Sequence[Method], roots: PathLike | Sequence[PathLike]) -> Report:
    """The report with a table of times beside OpenCV's SIFT, and plots of accuracy against them.

    The first image of the data, at 640x480 and with the keypoints that each method gives there, 5 runs in turns.
    """
    data = read_sequences(roots)
    photograph = read(data.images[data.pairs[0].a])
    count = max(method.extractor.max_keypoints for method in methods)
    timed = time_methods(methods, scene(photograph, _USUAL), count, _RUNS)
    table = usual_table(f"Time at 640x480, one image of the data, median of {_RUNS} runs in turns", timed)
    plots = [_against(report, table, key, label) for key, label in _AXES]
    note = "times are ratios of this run on this machine; `tiepoints bench speed` measures them with more care"
    return replace(
        report,
        tables=(*report.tables, table),
        plots=(*report.plots, *(plot for plot in plots if plot is not None)),
        notes=(*report.notes, note),
    )


_AXES = (
    ("extract_to_sift", "time of extraction / OpenCV SIFT"),
    ("match_to_sift", "time of matching / OpenCV BFMatcher on SIFT"),
)


def _against(report: Report, times: Table, key: str, label: str) -> Plot | None:
    """MMA@3 (or the share of the marked correspondences within 3 px) over a column of the times."""
    accuracy = "mma3" if any(column.key == "mma3" for column in report.table.columns) else "corr3"
    title = "MMA@3" if accuracy == "mma3" else "correspondences within 3 px"
    series = []
    for row in report.table.rows:
        if row.group != "overall" or row.source or row.values.get(accuracy) is None:
            continue
        x, y = times.row(row.method).values[key], row.values[accuracy]
        series.append(Series(row.method, (float(x or 0),), (float(y or 0),)))
    return Plot(f"Accuracy against {label.split(' / ')[0]}", label, title, tuple(series), "points", log_x=True)


def _example(
    label: str, split: str, pair: Pair, a: Features, b: Features, images: Mapping[str, Path], threshold: float
) -> Picture:
    matches = match(a, b)
    assert pair.homography is not None
    correct = homography_error(pair.homography, *matches.points(a, b)) <= threshold
    drawn = plot_matches(
        read(images[pair.a]), read(images[pair.b]), a, b, matches, correct, max_lines=300, max_size=800
    )
    caption = (
        f"{label}, {split}: {np.count_nonzero(correct)} of {len(matches)} matches of {pair.a} and "
        f"{pair.b.rpartition('/')[2]} are correct within {threshold:g} px"
    )
    return Picture(caption, drawn)
