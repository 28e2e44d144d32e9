"""The HPatches benchmark: every method's features once, every pair's scores, and the tables that the field prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...datasets.planar import Pair, Sequences, read_sequences
from ...extraction import Extractor
from ...features import Features
from ...files import PathLike
from ...metrics import correspondences
from ...metrics.planar import THRESHOLDS, Profile, profile_of, score_planar_pair
from ..methods import Method, participants
from ..report import Column, Plot, Report, Row, Series, Table, Value, more, versions
from ..store import extracted
from .facts import references

__all__ = ["evaluate_hpatches"]

_STEPS = [f"{t:g}" for t in THRESHOLDS]

#: Called with a method's label, the number of its images or pairs done, and the number of all.
Progress = Callable[[str, int, int], None]


def evaluate_hpatches(
    methods: str | Extractor | Method | Iterable[str | Extractor | Method],
    roots: PathLike | Sequence[PathLike],
    *,
    profile: str | Profile = "d2net",
    store: PathLike | None = None,
    jobs: int = 1,
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
        Folder that keeps the features (`extracted`); without it they are computed and forgotten.
    jobs : int
        Processes that extract.
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
        If a folder holds no sequence, or a file of ground truth is damaged.
    InvalidInputError
        If there is no such profile, or two methods have the same label.
    """
    rules = profile_of(profile)
    contestants = participants(methods)
    data = read_sequences(roots)
    details: list[dict[str, Value]] = []
    unreadable: dict[str, str] = {}
    for contestant in contestants:
        details += _evaluate(contestant, data, rules, store, jobs, progress, unreadable)
    labels = [contestant.label for contestant in contestants]
    notes = [*data.notes, *(f"not readable, so its pairs are not in any mean: {why}" for why in unreadable.values())]
    tables, published = _tables(labels, details, data, rules)
    complete = data.complete and not unreadable
    if published and not complete:
        count = len({record["pair"] for record in details if "mma1" in record})
        notes.append(f"published rows are means over HPatches' 540 pairs, the measured ones over these {count} pairs")
    return Report(
        title="HPatches" if data.hpatches else "Pairs with known geometry",
        protocol=rules.name if any("mma1" in record for record in details) else "correspondences",
        description=" ".join(
            text
            for key, text in (("mma1", rules.description), ("corr1", correspondences.DESCRIPTION))
            if any(key in record for record in details)
        ),
        tables=tables,
        notes=tuple(notes),
        details=tuple(details),
        plots=_plots(labels, tables, complete),
        about=versions("opencv-contrib-python-headless", "numpy")
        | {contestant.label: repr(contestant.extractor) for contestant in contestants},
    )


def _evaluate(
    contestant: Method,
    data: Sequences,
    rules: Profile,
    store: PathLike | None,
    jobs: int,
    progress: Progress | None,
    unreadable: dict[str, str],
) -> list[dict[str, Value]]:
    """A record for each pair whose images could be read."""

    def report_extraction(done: int, total: int) -> None:
        if progress is not None:
            progress(f"{contestant.label}: images", done, total)

    records = []
    with extracted(
        contestant, data.images, store=store, collection="planar", jobs=jobs, progress=report_extraction
    ) as features:
        unreadable.update(features.failed)
        first: tuple[str, Features] | None = None  # all pairs of a sequence share their first image
        for number, pair in enumerate(data.pairs, start=1):
            if pair.a in features and pair.b in features:
                if first is None or first[0] != pair.a:
                    first = pair.a, features[pair.a]
                records.append(_record(contestant.label, pair, first[1], features[pair.b], rules))
            if progress is not None:
                progress(f"{contestant.label}: pairs", number, len(data.pairs))
    return records


def _record(label: str, pair: Pair, a: Features, b: Features, rules: Profile) -> dict[str, Value]:
    about: dict[str, Value] = {"method": label, "split": pair.split, "sequence": pair.sequence}
    about["pair"] = f"{pair.a} {pair.b}"
    if pair.correspondences is not None:
        shares, matches, inliers = correspondences.score_correspondences(a, b, pair.correspondences)
        numbers = {"keypoints": (len(a) + len(b)) / 2, "matches": matches, "inliers": inliers}
        return about | numbers | _curve("corr", shares)
    assert pair.homography is not None
    scores = score_planar_pair(a, b, pair.homography, rules)
    return about | {
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


def _curve(name: str, values: Any) -> dict[str, Value]:
    return {f"{name}{step}": float(value) for step, value in zip(_STEPS, values, strict=True)}


def _columns(rules: Profile) -> tuple[Column, ...]:
    def curve(key: str, title: str, text: str, main: Sequence[str]) -> list[Column]:
        return [more(f"{key}{t}", f"{title}@{t}", help=f"{text} {t} px", main=t in main) for t in _STEPS]

    wording = {
        "mean": "correct matches / mean number of covisible keypoints",
        "rematched": "correct matches of the covisible keypoints among themselves / their mean number",
        "halves": "half of correct / covisible in either image, summed",
    }[rules.score]
    repeats = "one to one" if rules.repeats == "one-to-one" else "with any neighbour"
    return (
        *curve("mma", "MMA", "correct / putative matches, mean over the pairs, at", ("1", "2", "3")),
        *curve("ms", "MS", f"matching score: {wording}, at", ("3",)),
        Column(
            "rep3",
            "rep@3",
            help=f"repeatability: covisible keypoints found again ({repeats}) within 3 px",
            better="higher",
        ),
        *curve("h", "H", "homographies whose mean corner error is at most", ("1", "3")),
        Column("keypoints", "keypoints", 0, "of an image, mean"),
        Column("covisible", "covisible", 0, "keypoints in the area that both images show, mean", main=False),
        Column("matches", "matches", 0, "putative: mutual nearest neighbours, mean"),
        Column("cost", "cost", 2, "matching cost: sum over the sets of N0s N1s / (N0 N1)"),
        Column("comparisons", "comparisons", 0, "of descriptors for one pair, mean", main=False),
        Column("pairs", "pairs", 0, "pairs in the means"),
    )


def _correspondence_columns() -> tuple[Column, ...]:
    text = "share of the marked correspondences within"
    return (
        *(more(f"corr{t}", f"corr@{t}", help=f"{text} {t} px", main=t in ("1", "3", "5", "10")) for t in _STEPS),
        Column("keypoints", "keypoints", 0, "of an image, mean"),
        Column("matches", "matches", 0, "mutual nearest neighbours, mean"),
        Column("inliers", "inliers", 0, "of the fundamental matrix, mean"),
        Column("pairs", "pairs", 0, "pairs in the means"),
    )


def _tables(
    labels: Sequence[str], details: Sequence[Mapping[str, Value]], data: Sequences, rules: Profile
) -> tuple[tuple[Table, ...], bool]:
    """The tables, and whether published rows are among them."""
    tables = []
    planar = [record for record in details if "mma1" in record]
    published = references(rules.name) if data.hpatches else ()
    if planar:
        rows = _rows(labels, planar, _columns(rules))
        order = {group: place for place, group in enumerate(dict.fromkeys(row.group for row in rows))}
        shown = [row for row in published if row.group in order]
        rows = sorted([*rows, *shown], key=lambda row: order[row.group])
        tables.append(
            Table(f"Homographies, protocol {rules.name}", _columns(rules), tuple(rows), ("mma1", "mma3", "ms3", "h3"))
        )
    marked = [record for record in details if "corr1" in record]
    if marked:
        columns = _correspondence_columns()
        tables.append(
            Table("Marked correspondences", columns, tuple(_rows(labels, marked, columns)), ("corr3", "corr10"))
        )
    return tuple(tables), bool(planar and published)


def _rows(labels: Sequence[str], records: Sequence[Mapping[str, Value]], columns: Iterable[Column]) -> list[Row]:
    """Means over the pairs, one row for each part of the data and method; "overall" first."""
    splits = sorted(
        {str(record["split"]) for record in records}, key=lambda s: (s != "viewpoint", s != "illumination", s)
    )
    rows = []
    for group in ["overall", *splits] if len(splits) > 1 or splits[0] in ("viewpoint", "illumination") else ["overall"]:
        for label in labels:
            part = [r for r in records if r["method"] == label and group in ("overall", r["split"])]
            values: dict[str, Value] = {
                column.key: float(np.mean([np.float64(record[column.key]) for record in part]))
                for column in columns
                if column.key != "pairs" and part
            }
            rows.append(Row(label, values | {"pairs": len(part)}, group))
    return rows


def _plots(labels: Sequence[str], tables: Sequence[Table], complete: bool) -> tuple[Plot, ...]:
    plots = []
    for table in tables:
        name, title = ("mma", "MMA") if any(c.key == "mma1" for c in table.columns) else ("corr", "Correspondences")
        for group in dict.fromkeys(row.group for row in table.rows):
            rows = [row for row in table.rows if row.group == group and (complete or not row.source)]
            plots.append(
                Plot(f"{title}, {group}", "threshold, px", f"{title}", tuple(_line(row, name) for row in rows))
            )
        if name == "mma":
            points = [table.row(label, "overall") for label in labels]
            series = tuple(
                Series(row.method, (_number(row, "comparisons"),), (_number(row, "mma3"),)) for row in points
            )
            plots.append(
                Plot(
                    "Accuracy against matching cost",
                    "comparisons of descriptors a pair",
                    "MMA@3",
                    series,
                    "points",
                    True,
                )
            )
    return tuple(plots)


def _line(row: Row, name: str) -> Series:
    known = [
        (float(step), _number(row, f"{name}{step}")) for step in _STEPS if row.values.get(f"{name}{step}") is not None
    ]
    return Series(row.method, tuple(x for x, _ in known), tuple(y for _, y in known), reference=bool(row.source))


def _number(row: Row, key: str) -> float:
    value = row.values.get(key)
    return float(value) if isinstance(value, int | float) else float("nan")
