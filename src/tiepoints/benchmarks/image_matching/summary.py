"""Tables, curves and notes of the Image Matching Benchmark from the records of its scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...datasets.scenes import Pair, Scene
from ...metrics.poses import accuracies, mean_average_accuracy
from ..published import IMAGE_MATCHING
from ..report import Column, Plot, Row, Series, Table, Value, less, more
from .stereo import PairRecord

__all__ = ["BagRecord", "SceneResult", "columns", "details", "notes", "plots", "tables"]

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class BagRecord:
    """A bag of the multiview task.

    `errors` are the degrees of all its pairs; `given` and `kept` the mean number of a pair's matches before and after
    COLMAP's verification; `ate` and `rms` in the scene's unit, None with fewer than three registered images.
    """

    size: int
    index: int
    registered: int
    landmarks: int
    track_length: float
    ate: float | None
    rms: float | None
    errors: Float64
    given: float
    kept: float


@dataclass(frozen=True, eq=False)
class SceneResult:
    """All that one method gave on one scene."""

    scene: Scene
    method: str
    keypoints: float
    pairs: Mapping[Pair, PairRecord]
    bags: tuple[BagRecord, ...]
    notes: tuple[str, ...]
    incomplete: bool = False


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
_AVERAGE = (more("average", "avg mAA", 3, "Mean of stereo mAA@10 (fundamental-matrix track) and MV mAA@10."),)


def columns(sizes: Iterable[int]) -> tuple[Column, ...]:
    """All columns, with the multiview mAA@10 of each size of bags."""
    each = tuple(
        more(f"mv_maa10_{size}", f"MV {size}", 3, f"Multiview mAA@10 of bags of {size} images.", main=False)
        for size in sizes
    )
    return (*_STEREO, *_MULTIVIEW[:-1], *each, _MULTIVIEW[-1], *_AVERAGE)


def tables(results: Sequence[SceneResult]) -> tuple[Table, ...]:
    """The table of what was measured, scene by scene and their means, and the table of published figures."""
    sizes = sorted({bag.size for result in results for bag in result.bags} | {5, 10, 25})
    scenes = list(dict.fromkeys((r.scene.dataset, r.scene.name) for r in results))
    values = {(r.scene.dataset, r.scene.name, r.method): scene_values(r) for r in results}
    methods = list(dict.fromkeys(r.method for r in results))
    rows = [
        Row(method, values[(*scene, method)], group=_title(scene, scenes))
        for scene in scenes
        for method in methods
        if (*scene, method) in values
    ]
    for title, members in _means(scenes):
        rows += [
            Row(method, _mean([values[(*scene, method)] for scene in members]), group=title)
            for method in methods
            if all((*scene, method) in values for scene in members)
        ]
    return (
        Table("results", columns(sizes), tuple(rows), ("maa10", "e_maa10", "mv_maa10"), rows[-1].group if rows else ""),
        Table("published, for comparison", columns([5, 10, 25]), IMAGE_MATCHING),
    )


def scene_values(result: SceneResult) -> dict[str, Value]:
    """The row of one scene; figures that there are none of are None."""
    pairs, bags = list(result.pairs.values()), result.bags
    row: dict[str, Value] = {"nf": result.keypoints}
    if pairs:
        row |= {
            "matches": _average(p.matches for p in pairs),
            "pairs": len(pairs),
            "cost": _average(p.cost for p in pairs),
            "rep3": _at_3(p.repeatability for p in pairs),
        }
        for prefix, name in (("", "fundamental"), ("e_", "essential")):
            row |= _track_values(prefix, name, pairs)
    if bags:
        row |= _bag_values(bags)
    stereo, multiview = row.get("maa10"), row.get("mv_maa10")
    if isinstance(stereo, float) and isinstance(multiview, float):
        row["average"] = (stereo + multiview) / 2
    return row


def _track_values(prefix: str, name: str, pairs: Sequence[PairRecord]) -> dict[str, Value]:
    records = [p.tracks[name] for p in pairs if name in p.tracks]
    if not records:
        return {}
    errors = [record.error for record in records]
    found: dict[str, Value] = {
        f"{prefix}ni": _average(record.inliers for record in records),
        f"{prefix}ms3": _at_3(record.scores for record in records),
        f"{prefix}maa5": mean_average_accuracy(errors, 5),
        f"{prefix}maa10": mean_average_accuracy(errors),
    }
    return found if prefix else found | {"failures": int(np.isinf(errors).sum())}


def _bag_values(bags: Sequence[BagRecord]) -> dict[str, Value]:
    sizes = sorted({bag.size for bag in bags})

    def over_sizes(value: Callable[[BagRecord], float | None], without: float | None = None) -> Value:
        """Mean over the bags of a size that have the figure, then over the sizes; `without` where no bag has it."""
        means: list[float] = []
        for size in sizes:
            known = [one for bag in bags if bag.size == size and (one := value(bag)) is not None]
            if known:
                means.append(float(np.mean(known)))
            elif without is not None:
                means.append(without)
        return float(np.mean(means)) if means else None

    def of_model(value: Callable[[BagRecord], float]) -> Value:
        """Landmarks and tracks of the bags that have a model; a size of which none has counts 0, as in the release."""
        return over_sizes(lambda bag: value(bag) if bag.registered else None, without=0.0)

    row: dict[str, Value] = {
        "nm": over_sizes(lambda bag: bag.kept),
        "nm_given": over_sizes(lambda bag: bag.given),
        "nl": of_model(lambda bag: bag.landmarks),
        "tl": of_model(lambda bag: bag.track_length),
        "ate": over_sizes(lambda bag: bag.ate),
        "rms": over_sizes(lambda bag: bag.rms),
        "registered": over_sizes(lambda bag: bag.registered / bag.size),
        "success": over_sizes(lambda bag: float(bag.registered > 0)),
        "bags": len(bags),
        "mv_maa5": over_sizes(lambda bag: mean_average_accuracy(bag.errors, 5)),
        "mv_maa10": over_sizes(lambda bag: mean_average_accuracy(bag.errors)),
    }
    for size in sizes:
        row[f"mv_maa10_{size}"] = float(np.mean([mean_average_accuracy(b.errors) for b in bags if b.size == size]))
    return row


def details(results: Sequence[SceneResult]) -> tuple[Mapping[str, Value], ...]:
    """A flat record for every pair and every bag."""
    records: list[Mapping[str, Value]] = []
    for result in results:
        where: dict[str, Value] = {"method": result.method, "dataset": result.scene.dataset, "scene": result.scene.name}
        for (a, b), pair in result.pairs.items():
            record = where | {"task": "stereo", "image_a": a, "image_b": b}
            record |= {"matches": pair.matches, "cost": pair.cost, "rep3": _third(pair.repeatability)}
            for name, track in pair.tracks.items():
                record |= {
                    f"{name}_inliers": track.inliers,
                    f"{name}_rotation": track.rotation,
                    f"{name}_translation": track.translation,
                    f"{name}_ms3": _third(track.scores),
                }
            records.append(record)
        records += [
            where
            | {"task": "multiview", "size": bag.size, "bag": bag.index, "registered": bag.registered}
            | {"landmarks": bag.landmarks, "track_length": bag.track_length, "ate": bag.ate, "rms": bag.rms}
            | {"maa10": mean_average_accuracy(bag.errors), "given": bag.given, "kept": bag.kept}
            for bag in result.bags
        ]
    return tuple(records)


def plots(results: Sequence[SceneResult]) -> tuple[Plot, ...]:
    """Share of the pairs below each error, and accuracy against the cost of matching."""
    degrees = tuple(float(t) for t in range(1, 11))
    methods = list(dict.fromkeys(result.method for result in results))
    drawn = []
    for name, title in (("fundamental", "fundamental matrix"), ("essential", "known calibration")):
        series = []
        for method in methods:
            errors = [
                [pair.tracks[name].error for pair in result.pairs.values() if name in pair.tracks]
                for result in results
                if result.method == method
            ]
            curves = [accuracies(some) for some in errors if some]
            if curves:
                series.append(Series(method, degrees, tuple(np.mean(curves, axis=0).tolist())))
        if series:
            drawn.append(Plot(f"Stereo, {title}", "error of the pose below, degrees", "share of pairs", tuple(series)))
    points = []
    for method in methods:
        rows = [scene_values(result) for result in results if result.method == method]
        mean = _mean(rows)
        cost, accuracy = mean.get("cost"), mean.get("maa10", mean.get("e_maa10"))
        if isinstance(cost, float) and isinstance(accuracy, float):
            points.append(Series(method, (cost,), (accuracy,)))
    if points:
        drawn.append(
            Plot("Accuracy against the cost of matching", "matching cost", "stereo mAA@10", tuple(points), "points")
        )
    return tuple(drawn)


def notes(results: Sequence[SceneResult]) -> list[str]:
    """What has to be known before the figures are trusted, each thing once with the scenes that it holds for."""
    where: dict[str, dict[str, None]] = {}
    for result in results:
        for note in result.notes:
            where.setdefault(note, {})[result.scene.name] = None
    found = [f"{', '.join(scenes)}: {note}" for note, scenes in where.items()]
    without = list(dict.fromkeys(r.scene.name for r in results if r.pairs and not r.scene.has_depth))
    if without:
        found.append(f"{', '.join(without)}: no depth maps, hence no Rep@3 and no MS@3")
    return found


def _title(scene: tuple[str, str], scenes: Sequence[tuple[str, str]]) -> str:
    """The scene's name; with its dataset where another has a scene of that name."""
    return scene[1] if sum(name == scene[1] for _, name in scenes) == 1 else "/".join(scene)


def _means(scenes: Sequence[tuple[str, str]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Over which scenes there are means: those of a dataset, and all."""
    datasets = list(dict.fromkeys(dataset for dataset, _ in scenes))
    groups = [(f"mean of {dataset}", [s for s in scenes if s[0] == dataset]) for dataset in datasets]
    groups = [(title, members) for title, members in groups if len(members) > 1]
    if len(datasets) > 1:
        groups.append((f"mean of {len(scenes)} scenes", list(scenes)))
    return groups


def _mean(rows: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    """Mean over scenes; a figure that a scene lacks has none over all, since it would be that of other scenes."""
    mean: dict[str, Value] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(key) for row in rows]
        known = [value for value in values if isinstance(value, int | float)]
        if len(known) == len(rows):
            mean[key] = int(np.sum(known)) if key in ("pairs", "bags", "failures") else float(np.mean(known))
    return mean


def _average(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _third(values: NDArray[np.float64] | None) -> Value:
    return None if values is None else float(values[2])


def _at_3(values: Iterable[NDArray[np.float64] | None]) -> Value:
    """Mean at 3 pixels over the pairs that have depth maps."""
    known = [float(one[2]) for one in values if one is not None]
    return float(np.mean(known)) if known else None
