"""The HPatches benchmark: matching accuracy, matching score, repeatability and homographies on planar scenes.

The same for whatever has its layout, and for pairs that are judged by correspondences which a person marked (WxBS).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..collection import Collection, Engine, Extract, Results, Step
from ..datasets.planar import Pair, read_sequences
from ..errors import StorageError
from ..extraction import Extractor
from ..features import Features
from ..files import PathLike
from ..geometry import homography_error
from ..images import read
from ..matching import match
from ..metrics import correspondences
from ..metrics.planar import THRESHOLDS, Profile, profile_of, score_planar_pair
from ..plot import plot_matches
from . import published
from .methods import Method, Progress, methods_of, runner
from .report import Column, Picture, Plot, Report, Row, Series, Table, Value, more, versions
from .speed import time_methods, usual_table
from .timing import scene

__all__ = ["evaluate_hpatches"]

_STEPS = [f"{t:g}" for t in THRESHOLDS]
_RUNS = 5


class ScorePair(Step):
    """The figures of a pair with a known homography, by a profile, or of one with marked correspondences."""

    packages = ("numpy", "opencv", "poselib")

    def __init__(self, profile: Profile) -> None:
        self.profile = profile

    def __call__(self, a: Features, b: Features, truth: Any) -> dict[str, Value]:
        """By the names of the tables' columns; `truth` is a homography (3, 3) or correspondences (C, 4)."""
        if truth.shape != (3, 3):
            shares, matches, inliers = correspondences.score_correspondences(a, b, truth)
            return {"keypoints": (len(a) + len(b)) / 2, "matches": matches, "inliers": inliers} | _curve("corr", shares)
        scores = score_planar_pair(a, b, truth, self.profile)
        return {
            "keypoints": sum(scores.keypoints) / 2,
            "covisible": sum(scores.covisible) / 2,
            "matches": scores.matches,
            "rep3": scores.repeatability,
            "cost": scores.cost,
            "comparisons": scores.comparisons,
            **_curve("mma", scores.mma),
            **_curve("ms", scores.ms),
            **_curve("h", scores.homography),
        }


def evaluate_hpatches(
    methods: str | Extractor | Method | Iterable[str | Extractor | Method],
    roots: PathLike | Sequence[PathLike],
    *,
    profile: str | Profile = "d2net",
    store: PathLike | None = None,
    engine: Engine | None = None,
    pictures: bool = False,
    timed: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Evaluate extractors on HPatches, or on other planar or marked pairs in its layout.

    Parameters
    ----------
    methods : str, Extractor, Method, or several of them
        Extractors, or specifications such as "rootsift:contrast_threshold=0.01".
    roots : path or sequence of path
        Folders of sequences; see `read_sequences`.
    profile : str or Profile
        "d2net", "aslfeat" or "strek".
    store : path, optional
        Folder that keeps the features and the scores; without it they are computed and forgotten.
    engine : Engine, optional
        Of `tiepoints.collection`; threads by default.
    pictures : bool
        Whether the report gets every method's matches of the pair in the middle of each part of the data.
    timed : bool
        Whether it gets a table of times beside OpenCV's SIFT, and plots of accuracy against them: the first image that
        was judged, at 640x480 and with the keypoints that each method gives there, 5 alternating runs.
    progress : callable, optional

    Returns
    -------
    report : Report
        One row for each method and part of the data: "viewpoint", "illumination", other folders by their names, and
        "overall", the mean over all pairs. Values `mma1` .. `mma10`, `ms1` .. `ms10`, `h1` .. `h10`, `rep3`,
        `keypoints`, `matches`, `cost`, `comparisons`, `pairs`. Pairs with marked correspondences have a table of their
        own with `corr1` .. `corr10`. `details` has each pair's.

    Raises
    ------
    StorageError
        If a folder holds no sequence, a file of ground truth is damaged, or no pair can be read.
    InvalidInputError
        If there is no such profile, or two methods have the same label.

    Examples
    --------
    >>> import shutil
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from tiepoints.benchmarks import evaluate_hpatches
    >>> folder = Path("mine/v_box")
    >>> folder.mkdir(parents=True)
    >>> for k in "12":
    ...     _ = shutil.copy("examples/box.png", folder / f"{k}.png")
    >>> np.savetxt(folder / "H_1_2", np.eye(3))
    >>> report = evaluate_hpatches(["orb", "sift"], "mine")
    >>> report.table.row("orb", "overall").values["mma3"]
    1.0
    """
    rules = profile_of(profile)
    chosen = methods_of(methods)
    data = read_sequences(roots)
    photos = Collection.from_paths(data.images)
    by_split: dict[str, list[Pair]] = {}
    for pair in data.pairs:
        if pair.homography is not None and pictures:
            by_split.setdefault(pair.split, []).append(pair)
    examples: dict[str, list[Picture]] = {split: [] for split in by_split}
    details: list[dict[str, Value]] = []
    unreadable: dict[Any, str] = {}
    with runner(store, engine, progress) as through:
        for one in chosen:
            features = through(f"{one.label}: images", Extract(one.extractor), photos)
            pairs = {
                (pair.a, pair.b): (features.reference(pair.a), features.reference(pair.b), pair.truth)
                for pair in data.pairs
                if pair.a in features and pair.b in features
            }
            scores = through(f"{one.label}: pairs", ScorePair(rules), pairs)
            unreadable |= features.failed | scores.failed
            for pair in data.pairs:
                if (pair.a, pair.b) in scores:
                    about: dict[str, Value] = {"method": one.label, "split": pair.split, "sequence": pair.sequence}
                    details.append(about | {"pair": f"{pair.a} {pair.b}"} | scores[pair.a, pair.b])
            for split, several in by_split.items():
                pair = several[len(several) // 2]
                if pair.a in features and pair.b in features:
                    examples[split].append(_example(one.label, pair, features, photos))
    if not details:
        raise StorageError(f"no pair can be judged, and this is one reason: {next(iter(unreadable.values()))}")
    notes = [*data.notes, *(f"not readable, so its pairs are not in any mean: {why}" for why in unreadable.values())]
    complete = data.complete and not unreadable
    planar = [record for record in details if "mma1" in record]
    marked = [record for record in details if "corr1" in record]
    others = published.rows(rules.name) if data.hpatches and planar else ()
    if others and not complete:
        count = len({record["pair"] for record in planar})
        notes.append(f"published rows are means over HPatches' 540 pairs, the measured ones over these {count} pairs")
    tables, plots, labels = [], [], [one.label for one in chosen]
    if planar:
        title, ranks = f"Homographies, protocol {rules.name}", ("mma1", "mma3", "ms3", "h3")
        tables.append(Table(title, _columns(rules), tuple(_rows(labels, planar, _columns(rules), others)), ranks))
        plots = _plots(tables[-1], "mma", "MMA", complete)
        title, label = "Accuracy against matching cost", "comparisons of descriptors a pair"
        points = _points(tables[-1], "comparisons", tables[-1], "mma3")
        plots.append(Plot(title, label, "MMA@3", points, "points", log_x=True))
    if marked:
        rows = tuple(_rows(labels, marked, _CORRESPONDENCES))
        tables.append(Table("Marked correspondences", _CORRESPONDENCES, rows, ("corr3", "corr10")))
        plots += _plots(tables[-1], "corr", "Correspondences", complete)
    if timed:
        judged = {record["pair"] for record in details}
        first = next(data.images[pair.a] for pair in data.pairs if f"{pair.a} {pair.b}" in judged)
        times, more_plots = _times(chosen, read(first), tables[0])
        tables.append(times)
        plots += more_plots
        notes.append(
            "times are ratios of this run on this machine; `tiepoints bench speed` measures them with more care"
        )
    return Report(
        title="HPatches" if data.hpatches else "Pairs with known geometry",
        protocol=rules.name if planar else "correspondences",
        description=" ".join(
            [rules.description] * bool(planar) + [correspondences.DESCRIPTION] * bool(marked),
        ),
        tables=tuple(tables),
        notes=tuple(notes),
        details=tuple(details),
        plots=tuple(plots),
        pictures=tuple(itertools.chain(*examples.values())),
        incomplete=bool(unreadable) or data.damaged,
        about=versions("opencv-contrib-python-headless", "numpy") | {one.label: repr(one.extractor) for one in chosen},
    )


def _curve(name: str, values: Any) -> dict[str, Value]:
    return {f"{name}{step}": float(value) for step, value in zip(_STEPS, values, strict=True)}


def _curve_columns(key: str, title: str, text: str, *main: str) -> list[Column]:
    return [more(f"{key}{t}", f"{title}@{t}", help=f"{text} {t} px", main=t in main) for t in _STEPS]


def _columns(rules: Profile) -> tuple[Column, ...]:
    wording = {
        "mean": "correct matches / mean number of covisible keypoints",
        "rematched": "correct matches of the covisible keypoints among themselves / their mean number",
        "halves": "half of correct / covisible in either image, summed",
    }[rules.score]
    repeats = "one to one" if rules.repeats == "one-to-one" else "with any neighbour"
    return (
        *_curve_columns("mma", "MMA", "correct / putative matches, mean over the pairs, at", "1", "2", "3"),
        *_curve_columns("ms", "MS", f"matching score: {wording}, at", "3"),
        more("rep3", "rep@3", help=f"repeatability: covisible keypoints found again ({repeats}) within 3 px"),
        *_curve_columns("h", "H", "homographies whose mean corner error is at most", "1", "3"),
        Column("keypoints", "keypoints", 0, "of an image, mean"),
        Column("covisible", "covisible", 0, "keypoints in the area that both images show, mean", main=False),
        Column("matches", "matches", 0, "putative: mutual nearest neighbours, mean"),
        Column("cost", "cost", 2, "matching cost: sum over the sets of N0s N1s / (N0 N1)"),
        Column("comparisons", "comparisons", 0, "of descriptors for one pair, mean", main=False),
        Column("pairs", "pairs", 0, "pairs in the means"),
    )


_CORRESPONDENCES = (
    *_curve_columns("corr", "corr", "share of the marked correspondences within", "1", "3", "5", "10"),
    Column("keypoints", "keypoints", 0, "of an image, mean"),
    Column("matches", "matches", 0, "mutual nearest neighbours, mean"),
    Column("inliers", "inliers", 0, "of the fundamental matrix, mean"),
    Column("pairs", "pairs", 0, "pairs in the means"),
)


def _rows(
    labels: Sequence[str], records: Sequence[Mapping[str, Any]], columns: Iterable[Column], others: Iterable[Row] = ()
) -> Iterator[Row]:
    """Means over the pairs, one row for each part of the data and method, and published rows; "overall" first."""
    splits = sorted({r["split"] for r in records}, key=lambda s: (s != "viewpoint", s != "illumination", s))
    keys = [column.key for column in columns if column.key != "pairs"]
    for group in ["overall", *(splits if len(splits) > 1 or splits[0] in ("viewpoint", "illumination") else ())]:
        for label in labels:
            part = [r for r in records if r["method"] == label and group in ("overall", r["split"])]
            values = {key: float(np.mean([np.float64(record[key]) for record in part])) for key in keys if part}
            yield Row(label, values | {"pairs": len(part)}, group)
        yield from (row for row in others if row.group == group)


def _plots(table: Table, key: str, title: str, complete: bool) -> list[Plot]:
    """The curves of each part of the data; published ones only where all of their pairs were judged."""
    plots: dict[str, list[Series]] = {}
    for row in table.rows:
        if complete or not row.source:
            known = {float(t): float(y) for t in _STEPS if (y := row.number(f"{key}{t}")) is not None}
            curve = Series(row.method, tuple(known), tuple(known.values()), reference=bool(row.source))
            plots.setdefault(row.group, []).append(curve)
    return [Plot(f"{title}, {group}", "threshold, px", title, tuple(series)) for group, series in plots.items()]


def _points(x: Table, x_key: str, y: Table, y_key: str) -> tuple[Series, ...]:
    """A mark for each method: its accuracy over all pairs against a figure of another table."""
    rows = [row for row in y.rows if row.group == "overall" and not row.source and row.number(y_key) is not None]
    across = {row.method: row.number(x_key) for row in x.rows if row.group in ("overall", "")}
    return tuple(
        Series(row.method, (float(across[row.method] or 0),), (float(row.number(y_key) or 0),)) for row in rows
    )


def _times(methods: Sequence[Method], photograph: NDArray[np.uint8], results: Table) -> tuple[Table, list[Plot]]:
    """A table of times, and plots of the accuracy in the table of results against them."""
    count = max(method.extractor.max_keypoints for method in methods)
    timed = time_methods(methods, scene(photograph, (640, 480)), count, _RUNS)
    times = usual_table(f"Time at 640x480, one image of the data, median of {_RUNS} alternating runs", timed)
    planar = any(column.key == "mma3" for column in results.columns)
    key, title = ("mma3", "MMA@3") if planar else ("corr3", "correspondences within 3 px")
    plots = []
    for what, ratio, peer in (
        ("extraction", "extract_to_sift", "OpenCV SIFT"),
        ("matching", "match_to_sift", "OpenCV BFMatcher on SIFT"),
    ):
        label, points = f"time of {what} / {peer}", _points(times, ratio, results, key)
        plots.append(Plot(f"Accuracy against time of {what}", label, title, points, "points", log_x=True))
    return times, plots


def _example(label: str, pair: Pair, features: Results, photos: Collection) -> Picture:
    a, b = features[pair.a], features[pair.b]
    matches = match(a, b)
    assert pair.homography is not None
    correct = homography_error(pair.homography, *matches.points(a, b)) <= 3
    images = photos[pair.a].read(), photos[pair.b].read()
    drawn = plot_matches(*images, a, b, matches, correct, max_lines=300, max_size=800)
    caption = (
        f"{label}, {pair.split}: {np.count_nonzero(correct)} of {len(matches)} matches of {pair.a} and "
        f"{pair.b.rpartition('/')[2]} are correct within 3 px"
    )
    return Picture(caption, drawn)
