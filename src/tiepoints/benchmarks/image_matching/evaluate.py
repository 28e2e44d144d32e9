"""One method on one scene: matches, poses of pairs, models of bags; each is kept as soon as it is computed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...datasets.scenes import Pair, Scene, View, read_depth
from ...errors import StorageError
from ...features import Features, Matches
from ...files import sha256_of
from ...metrics.depth import depth_at, matching_scores, repeatabilities, transfer
from ...metrics.planar import matching_cost
from ...metrics.poses import CamFromWorld, pairwise_errors
from ..methods import Method
from ..processes import spread
from ..store import Extracted, extracted
from .multiview import (
    Bag,
    absolute_trajectory_error,
    choose_bags,
    reconstruct,
    rms_after_alignment,
    verified_database,
)
from .records import BagRecord, Options, PairRecord, SceneResult, TrackRecord, default_ratio
from .results import Arrays, digest_of, results
from .stereo import Track, judge_pair, match_pair

__all__ = ["evaluate_scene"]

T = TypeVar("T")
Float64 = NDArray[np.float64]
#: Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


def evaluate_scene(
    method: Method,
    scene: Scene,
    options: Options,
    *,
    store: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> SceneResult:
    """Run both tasks of the benchmark on one scene.

    Parameters
    ----------
    method : Method
    scene : Scene
    options : Options
    store : path, optional
        Where features and results are kept; without it in memory.
    jobs : int
        Processes.
    progress : callable, optional
        Called as ``progress(what, done, all)``.

    Raises
    ------
    StorageError
        If fewer than two images can be read, or an image has another size than its camera.
    MissingDependencyError
        If the multiview task lacks pycolmap.
    """
    report = progress or (lambda what, done, total: None)
    collection = f"imb-{scene.dataset}-{scene.name}"
    about = f"{method.label} on {scene.name}"
    images = {name: view.path for name, view in scene.views.items()}
    with extracted(
        method,
        images,
        store=store,
        collection=collection,
        jobs=jobs,
        progress=lambda done, total: report(f"{about}: extracting", done, total),
    ) as found:
        scene, notes = _readable(scene, found)
        features = lru_cache(maxsize=128)(found.__getitem__)
        _check_sizes(scene, features)
        ratio = default_ratio(method) if options.ratio is None else options.ratio
        bags, drawn = choose_bags(scene, options.bags, options.seed) if options.multiview else ({}, [])
        in_bags = {(max(p), min(p)) for some in bags.values() for bag in some for p in itertools.combinations(bag, 2)}
        wanted = list(dict.fromkeys((*(scene.pairs if options.stereo else ()), *sorted(in_bags))))
        base = [method.identity, ratio, {name: sha256_of(view.path) for name, view in scene.views.items()}]

        run = _Run(scene, found, features, store, collection, method.label, base, jobs, report, about)
        matches = run.matches(wanted, ratio)
        pairs = run.stereo(matches, options.tracks) if options.stereo else ()
        models = run.multiview(matches, bags, sorted(in_bags), options) if bags else ()
        keypoints = float(np.mean([len(features(name)) for name in scene.views]))
    return SceneResult(scene, method.label, ratio, keypoints, pairs, models, (*scene.notes, *notes, *drawn))


def _readable(scene: Scene, found: Extracted) -> tuple[Scene, list[str]]:
    """The scene without the images that cannot be read, and a note that names them."""
    if not found.failed:
        return scene, []
    views = {name: view for name, view in scene.views.items() if name not in found.failed}
    if len(views) < 2:
        raise StorageError(f"{scene.name}: {len(found.failed)} of {len(scene.views)} images cannot be read, for one: "
                           f"{next(iter(found.failed.values()))}")  # fmt: skip
    pairs = tuple(pair for pair in scene.pairs if all(name in views for name in pair))
    bags = {
        size: kept
        for size, some in scene.bags.items()
        if (kept := tuple(b for b in some if all(n in views for n in b)))
    }
    notes = [f"an image is left out: {why}" for why in found.failed.values()]
    return replace(scene, views=views, pairs=pairs, bags=bags), notes


def _check_sizes(scene: Scene, features: Callable[[str], Features]) -> None:
    for name, view in scene.views.items():
        size = features(name).image_size
        if view.size is not None and size != view.size:
            raise StorageError(
                f"{view.path}: the image is {size[0]}x{size[1]}, but its camera {view.size[0]}x{view.size[1]}; "
                "put the original image back, or scale K with it"
            )


@dataclass
class _Run:
    """The stages of one method on one scene, and what all of them need."""

    scene: Scene
    stored: Mapping[str, Features]
    features: Callable[[str], Features]  # the same, the last ones kept in memory
    store: Path | None
    collection: str
    label: str
    base: list[Any]
    jobs: int
    report: Progress
    about: str

    def matches(self, wanted: Sequence[Pair], ratio: float | None) -> dict[Pair, Matches]:
        with results(self.store, self.collection, f"{self.label}-matches", digest_of([self.base, "matches"])) as known:
            found: dict[Pair, Matches] = {}
            for done, (a, b) in enumerate(wanted, start=1):
                key = f"{a}/{b}"
                if key not in known:
                    matches = match_pair(self.features(a), self.features(b), ratio)
                    known.append(key, {"indices": matches.indices, "scores": matches.scores})
                    self.report(f"{self.about}: matching", done, len(wanted))
                arrays = known.read(key)
                found[a, b] = Matches(arrays["indices"], arrays["scores"])
        return found

    def stereo(self, matches: Mapping[Pair, Matches], tracks: Mapping[str, Track]) -> tuple[PairRecord, ...]:
        scene = self.scene
        cameras = {name: [view.K.tolist(), view.R.tolist(), view.t.tolist()] for name, view in scene.views.items()}
        depths = {name: sha256_of(view.depth) for name, view in scene.views.items() if view.depth is not None}
        content = [self.base, "stereo", {name: repr(track) for name, track in tracks.items()}, cameras, depths]
        with results(self.store, self.collection, f"{self.label}-stereo", digest_of(content)) as known:
            missing = [pair for pair in scene.pairs if f"{pair[0]}/{pair[1]}" not in known]
            depth_of = lru_cache(maxsize=None)(self._depth_at_keypoints)
            tasks = ((f"{a}/{b}", self._pair_task(a, b, matches[a, b], tracks, depth_of)) for a, b in missing)
            done = len(scene.pairs) - len(missing)
            for key, arrays in _each(_judge, tasks, self.jobs):
                known.append(key, arrays)
                done += 1
                self.report(f"{self.about}: poses", done, len(scene.pairs))

            def cost(a: str, b: str) -> float:
                return matching_cost(self.features(a), self.features(b))[0]

            return tuple(
                _pair_record((a, b), matches[a, b], cost(a, b), known.read(f"{a}/{b}"), tracks) for a, b in scene.pairs
            )

    def multiview(
        self,
        matches: Mapping[Pair, Matches],
        bags: Mapping[int, Sequence[Bag]],
        pairs: Sequence[Pair],
        options: Options,
    ) -> tuple[BagRecord, ...]:
        content: list[Any] = [self.base, "multiview", options.intrinsics, options.seed, [list(pair) for pair in pairs]]
        if options.intrinsics == "known":
            content.append({name: view.K.tolist() for name, view in self.scene.views.items()})
        with results(self.store, self.collection, f"{self.label}-multiview", digest_of(content)) as known:
            everything = [(size, bag) for size, some in bags.items() for bag in some]
            missing = [bag for _, bag in everything if "/".join(bag) not in known]
            if missing or "kept" not in known:
                self._reconstruct(missing, known, {pair: matches[pair] for pair in pairs}, options, len(everything))
            kept = dict(zip(pairs, known.read("kept")["counts"].tolist(), strict=True))
            given = {pair: len(matches[pair]) for pair in pairs}
            index: dict[int, int] = dict.fromkeys(bags, 0)
            records = []
            for size, bag in everything:
                inside = [(max(p), min(p)) for p in itertools.combinations(bag, 2)]
                counts = [float(np.mean([some[pair] for pair in inside])) for some in (given, kept)]
                records.append(_bag_record(self.scene, bag, index[size], known.read("/".join(bag)), *counts))
                index[size] += 1
        return tuple(records)

    def _reconstruct(
        self, missing: Sequence[Bag], known: Any, matches: dict[Pair, Matches], options: Options, total: int
    ) -> None:
        self.report(f"{self.about}: COLMAP verifies", 0, total)
        with verified_database(self.scene, self.stored, matches, intrinsics=options.intrinsics, seed=options.seed) as (
            database,
            kept,
        ):
            known.append("kept", {"counts": np.array([kept[pair] for pair in matches], np.int64)})
            tasks = (("/".join(bag), (database, bag, options.intrinsics, options.seed)) for bag in missing)
            done = total - len(missing)
            for key, model in _each(reconstruct, tasks, self.jobs):
                names = sorted(model.poses)
                known.append(
                    key,
                    {
                        "names": np.array([key.split("/").index(name) for name in names], np.int64),
                        "R": np.array([model.poses[name][0] for name in names], np.float64).reshape(-1, 3, 3),
                        "t": np.array([model.poses[name][1] for name in names], np.float64).reshape(-1, 3),
                        "landmarks": np.array(model.landmarks),
                        "track_length": np.array(model.track_length),
                    },
                )
                done += 1
                self.report(f"{self.about}: COLMAP reconstructs", done, total)

    def _pair_task(
        self, a: str, b: str, matches: Matches, tracks: Mapping[str, Track], depth_of: Callable[[str], Float64 | None]
    ) -> tuple[Any, ...]:
        first, second = self.features(a), self.features(b)
        depths = (depth_of(a), depth_of(b))
        return (
            (first.keypoints, second.keypoints),
            (first.image_size, second.image_size),
            matches.indices,
            (self.scene.views[a], self.scene.views[b]),
            dict(tracks),
            None if depths[0] is None or depths[1] is None else depths,
        )

    def _depth_at_keypoints(self, name: str) -> Float64 | None:
        path = self.scene.views[name].depth
        return None if path is None else depth_at(read_depth(path), self.features(name).keypoints)


def _each(
    function: Callable[..., T], tasks: Iterable[tuple[str, tuple[Any, ...]]], jobs: int
) -> Iterator[tuple[str, T]]:
    """The function's result for each task, here or in other processes."""
    return spread(function, tasks, jobs) if jobs > 1 else ((key, function(*task)) for key, task in tasks)


def _judge(
    keypoints: tuple[Any, Any],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    indices: NDArray[np.int32],
    views: tuple[View, View],
    tracks: Mapping[str, Track],
    depths: tuple[Float64, Float64] | None,
) -> Arrays:
    """What a worker computes for a pair, as arrays that can be kept."""
    (first, second), (a, b) = keypoints, views
    points_a, points_b = first[indices[:, 0]].astype(np.float64), second[indices[:, 1]].astype(np.float64)
    arrays: Arrays = {}
    if depths is not None:
        a_in_b, b_in_a = transfer(first, depths[0], a.camera, b.camera), transfer(second, depths[1], b.camera, a.camera)
        arrays["repeatability"] = repeatabilities(first, second, a_in_b, b_in_a, *sizes)
    for name, track in tracks.items():
        pose = judge_pair(points_a, points_b, a, b, track)
        arrays[f"{name}_errors"] = np.array([pose.rotation, pose.translation])
        arrays[f"{name}_inliers"] = np.array(np.count_nonzero(pose.inliers))
        if depths is not None:
            chosen = indices[pose.inliers]
            arrays[f"{name}_scores"] = matching_scores(
                first[chosen[:, 0]], b_in_a[chosen[:, 1]], depths[0][chosen[:, 0]]
            )
    return arrays


def _pair_record(pair: Pair, matches: Matches, cost: float, arrays: Arrays, tracks: Mapping[str, Track]) -> PairRecord:
    records: dict[str, TrackRecord] = {}
    for name in tracks:
        rotation, translation = map(float, arrays[f"{name}_errors"])
        scores = arrays.get(f"{name}_scores")
        records[name] = TrackRecord(int(arrays[f"{name}_inliers"]), rotation, translation, scores)
    return PairRecord(pair, len(matches), cost, arrays.get("repeatability"), records)


def _bag_record(scene: Scene, bag: Bag, index: int, arrays: Arrays, given: float, kept: float) -> BagRecord:
    names = [bag[i] for i in arrays["names"]]
    poses: dict[str, CamFromWorld] = {name: (R, t) for name, R, t in zip(names, arrays["R"], arrays["t"], strict=True)}
    truth: dict[str, CamFromWorld] = {name: (scene.views[name].R, scene.views[name].t) for name in bag}
    estimated, true = (
        np.array([-np.asarray(R).T @ np.asarray(t) for R, t in (some[name] for name in names)]).reshape(-1, 3)
        for some in (poses, truth)
    )
    return BagRecord(
        size=len(bag),
        index=index,
        registered=len(names),
        landmarks=int(arrays["landmarks"]),
        track_length=float(arrays["track_length"]),
        ate=absolute_trajectory_error(estimated, true),
        rms=rms_after_alignment(estimated, true),
        errors=np.array(list(pairwise_errors(poses, truth).values())),
        given=given,
        kept=kept,
    )
