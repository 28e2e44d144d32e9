"""Tables, curves and notes of the Image Matching Benchmark from the records of its scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from ...datasets.scenes import Scene
from ...metrics.poses import accuracies, mean_average_accuracy
from .. import published
from ..report import Column, Plot, Row, Series, Table, Value, less, more

__all__ = ["SceneResult", "columns", "notes", "plots", "scene_values", "tables"]

_LIMITS = {"maa5": 5, "maa10": 10}  # degrees


@dataclass(frozen=True, eq=False)
class SceneResult:
    """All that one method gave on one scene; `records` are its pairs and bags, as `Report.details` has them."""

    scene: Scene
    method: str
    keypoints: float
    records: Sequence[Mapping[str, Any]]
    notes: tuple[str, ...] = ()
    incomplete: bool = False

    def of(self, task: str) -> list[Mapping[str, Any]]:
        """The records of "stereo" or "multiview"."""
        return [record for record in self.records if record["task"] == task]


_STEREO = (
    Column("nf", "NF", 1, "Keypoints of an image, mean."),
    Column("matches", "matches", 1, "Matches of a pair before verification, mean.", main=False),
    more("ni", "NI", 1, "Inliers of a pair on the fundamental-matrix track, mean; 0 for a pair without a pose."),
    more("rep3", "Rep@3", 3, "Share of covisible keypoints with one of the other image within 3 px, by depth maps."),
    more("ms3", "MS@3", 3, "Share of the inliers that are right within 3 px by depth maps; fundamental-matrix track."),
    more("maa5", "mAA@5", 3, "Stereo, fundamental-matrix track; pairs without a pose count as misses.", main=False),
    more("maa10", "mAA@10", 3, "Stereo, fundamental-matrix track; pairs without a pose count as misses."),
    more("e_ni", "E NI", 1, "Inliers of a pair on the essential-matrix track, mean.", main=False),
    more("e_ms3", "E MS@3", 3, "As MS@3, for the essential-matrix track.", main=False),
    more("e_maa5", "E mAA@5", 3, "Stereo, essential-matrix track (known calibration).", main=False),
    more("e_maa10", "E mAA@10", 3, "Stereo, essential-matrix track (known calibration)."),
    less("failures", "failures", 0, "Pairs without a pose on the fundamental-matrix track.", main=False),
    Column("pairs", "pairs", 0, "Pairs of the stereo task.", main=False),
    Column("cost", "cost", 3, "Descriptors compared, as a share of all pairs of them: sum of N0s N1s / (N0 N1)."),
)
_MULTIVIEW = (
    more("nm", "NM", 1, "Matches of a pair in a bag that COLMAP's verification kept, mean."),
    Column("nm_given", "NM given", 1, "Matches of such a pair that COLMAP was given (num_input_matches).", main=False),
    more("nl", "NL", 1, "Landmarks of a bag's largest model, mean over the bags that have one; 0 if none has."),
    more("tl", "TL", 3, "Images that see a landmark, mean over the bags that have a model; 0 if none has."),
    less("ate", "ATE", 4, "Robust absolute trajectory error as the benchmark's code defines it, in the scene's unit."),
    less("rms", "ATE RMSE", 4, "Root mean square of the camera centres after a similarity.", main=False),
    more("registered", "registered", 3, "Share of a bag's images in the largest model; 0 without one.", main=False),
    more("success", "success", 3, "Share of the bags with a model.", main=False),
    Column("bags", "bags", 0, "Bags of all sizes.", main=False),
    more("mv_maa5", "MV mAA@5", 3, "Multiview, mean over bags and then over their sizes.", main=False),
    more("mv_maa10", "MV mAA@10", 3, "Multiview, mean over bags and then over their sizes; unregistered is a miss."),
)
_AVERAGE = more("average", "avg mAA", 3, "Mean of stereo mAA@10 (fundamental-matrix track) and MV mAA@10.")


def columns(sizes: Iterable[int]) -> tuple[Column, ...]:
    """All columns, with the multiview mAA@10 of each size of bags."""
    text = "Multiview mAA@10 of bags of {} images."
    each = (more(f"mv_maa10_{size}", f"MV {size}", 3, text.format(size), main=False) for size in sizes)
    return (*_STEREO, *_MULTIVIEW[:-1], *each, _MULTIVIEW[-1], _AVERAGE)


def tables(results: Sequence[SceneResult]) -> tuple[Table, ...]:
    """The table of what was measured, scene by scene and their means, and the table of published figures."""
    sizes = sorted({bag["size"] for result in results for bag in result.of("multiview")} | {5, 10, 25})
    scenes = list(dict.fromkeys((r.scene.dataset, r.scene.name) for r in results))
    methods = list(dict.fromkeys(r.method for r in results))
    values = {(r.scene.dataset, r.scene.name, r.method): scene_values(r) for r in results}
    # Over which scenes there are means: each by itself, those of a dataset, and all.
    names = [name for _, name in scenes]
    groups = {(name if names.count(name) == 1 else f"{dataset}/{name}"): [(dataset, name)] for dataset, name in scenes}
    datasets = {dataset: [scene for scene in scenes if scene[0] == dataset] for dataset, _ in scenes}
    groups |= {f"mean of {dataset}": members for dataset, members in datasets.items() if len(members) > 1}
    if len(datasets) > 1:
        groups[f"mean of {len(scenes)} scenes"] = scenes
    rows = [
        Row(method, _mean([values[(*scene, method)] for scene in members]), title)
        for title, members in groups.items()
        for method in methods
        if all((*scene, method) in values for scene in members)
    ]
    return (
        Table("results", columns(sizes), tuple(rows), ("maa10", "e_maa10", "mv_maa10"), rows[-1].group if rows else ""),
        Table("published, for comparison", columns([5, 10, 25]), published.rows("imb")),
    )


def scene_values(result: SceneResult) -> dict[str, Value]:
    """The row of one scene; figures that there are none of are None."""
    pairs, bags = result.of("stereo"), result.of("multiview")
    row: dict[str, Value] = {"nf": result.keypoints}
    if pairs:
        row |= {key: average(pair[key] for pair in pairs) for key in ("matches", "cost", "rep3")}
        row["pairs"] = len(pairs)
    for prefix, track in (("", "fundamental"), ("e_", "essential")):
        errors = errors_of(pairs, track)
        if errors:
            row |= {f"{prefix}{key}": mean_average_accuracy(errors, limit) for key, limit in _LIMITS.items()}
            row[f"{prefix}ni"] = average(pair[f"{track}_inliers"] for pair in pairs)
            row[f"{prefix}ms3"] = average(pair[f"{track}_ms3"] for pair in pairs)
            row |= {} if prefix else {"failures": int(np.isinf(errors).sum())}
    if bags:
        row |= _bag_values([[bag for bag in bags if bag["size"] == size] for size in sorted({b["size"] for b in bags})])
    if "maa10" in row and "mv_maa10" in row:
        row["average"] = average((row["maa10"], row["mv_maa10"]))
    return row


def _bag_values(sizes: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Value]:
    """Mean over the bags of a size that have the figure, then over the sizes of which any bag has it."""

    def over_sizes(value: Callable[[Mapping[str, Any]], float | None]) -> Value:
        return average(average(value(bag) for bag in bags) for bags in sizes)

    keys = {"nm": "kept", "nm_given": "given", "ate": "ate", "rms": "rms", "mv_maa5": "maa5", "mv_maa10": "maa10"}
    row = {key: over_sizes(itemgetter(name)) for key, name in keys.items()}
    row["registered"] = over_sizes(lambda bag: bag["registered"] / bag["size"])
    row["success"] = over_sizes(lambda bag: float(bag["registered"] > 0))
    # Landmarks and tracks are those of the models; a size of which no bag has one counts 0, as in the release.
    for key, name in (("nl", "landmarks"), ("tl", "track_length")):
        row[key] = average(average(bag[name] for bag in bags if bag["registered"]) or 0.0 for bags in sizes)
    row["bags"] = sum(map(len, sizes))
    return row | {f"mv_maa10_{bags[0]['size']}": average(bag["maa10"] for bag in bags) for bags in sizes}


def plots(results: Sequence[SceneResult]) -> tuple[Plot, ...]:
    """Share of the pairs below each error, and accuracy against the cost of matching."""
    degrees = tuple(float(t) for t in range(1, 11))
    of_method: dict[str, list[SceneResult]] = {}
    for result in results:
        of_method.setdefault(result.method, []).append(result)
    drawn = []
    for track, title in (("fundamental", "fundamental matrix"), ("essential", "known calibration")):
        series = []
        for method, several in of_method.items():
            curves = [accuracies(errors) for result in several if (errors := errors_of(result.of("stereo"), track))]
            if curves:
                series.append(Series(method, degrees, tuple(np.mean(curves, axis=0).tolist())))
        drawn.append(Plot(f"Stereo, {title}", "error of the pose below, degrees", "share of pairs", tuple(series)))
    points = []
    for method, several in of_method.items():
        mean = _mean([scene_values(result) for result in several])
        cost, accuracy = mean.get("cost"), mean.get("maa10", mean.get("e_maa10"))
        if isinstance(cost, float) and isinstance(accuracy, float):
            points.append(Series(method, (cost,), (accuracy,)))
    title = "Accuracy against the cost of matching"
    drawn.append(Plot(title, "matching cost", "stereo mAA@10", tuple(points), "points"))
    return tuple(plot for plot in drawn if plot.series)


def notes(results: Sequence[SceneResult]) -> list[str]:
    """What has to be known before the figures are trusted, each thing once with the scenes that it holds for."""
    where: dict[str, dict[str, None]] = {}
    for result in results:
        for note in result.notes:
            where.setdefault(note, {})[result.scene.name] = None
    for result in results:
        if result.of("stereo") and not result.scene.has_depth:
            where.setdefault("no depth maps, hence no Rep@3 and no MS@3", {})[result.scene.name] = None
    return [f"{', '.join(scenes)}: {note}" for note, scenes in where.items()]


def errors_of(pairs: Iterable[Mapping[str, Any]], track: str) -> list[float]:
    """Degrees of the pairs on a track, the larger of both angles; empty where there is no such track."""
    keys = f"{track}_rotation", f"{track}_translation"
    return [max(pair[keys[0]], pair[keys[1]]) for pair in pairs if keys[0] in pair]


def average(values: Iterable[float | int | str | None]) -> float | None:
    """The mean of the values that are there; None if there are none."""
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, Value]:
    """Mean over scenes; a figure that a scene lacks has none over all, since it would be that of other scenes."""
    if len(rows) == 1:
        return dict(rows[0])
    keys = [key for key in rows[0] if all(row.get(key) is not None for row in rows)]
    counts = ("pairs", "bags", "failures")
    return {k: sum(row[k] for row in rows) if k in counts else average(row[k] for row in rows) for k in keys}
