"""The Image Matching Benchmark: several methods on several scenes, stereo and multiview, and one report."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...camera import Camera
from ...collection import Collection, Engine, Extract, Given, Results, Step, run
from ...collection.running import Input
from ...datasets.hdf5 import read_depth
from ...datasets.scenes import Pair, Scene, find_scenes
from ...errors import InvalidInputError, StorageError
from ...extraction import Extractor
from ...features import Features
from ...files import PathLike, sha256_of
from ...metrics.depth import depth_at
from ...metrics.poses import CamFromWorld, pairwise_errors
from ...metrics.trajectories import rms_after_alignment, robust_ate
from ...plot import plot_matches
from ..methods import Method, Progress, methods_of, runner
from ..report import Picture, Report, versions
from .multiview import BAGS, Bag, Intrinsics, Model, Reconstruct, VerifyScene, choose_bags
from .stereo import JudgePair, MatchPair, PairRecord, Track, TrackRecord, estimator_for, judge_pair
from .summary import BagRecord, SceneResult, details, notes, plots, tables

__all__ = ["Options", "default_ratio", "evaluate_image_matching", "evaluate_scene", "scenes_of"]

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Options:
    """How the benchmark is run; everything that figures depend on besides data and method.

    Parameters
    ----------
    stereo, multiview : bool
        Which tasks.
    ratio : float, optional
        Of the ratio test, both ways; 1 for none. None: the method's default, see `default_ratio`.
    tracks : mapping of str to Track
        Named "fundamental" (its figures are the stereo columns) and "essential". By default as published: fundamental
        matrix with 0.5 pixels, confidence 0.999999 and 100,000 samples; and PoseLib's relative pose with 1 pixel.
    bags : mapping of int to int
        How many bags of each size.
    intrinsics : {"estimated", "known"}
        Whose calibration COLMAP works with; the published protocol lets it estimate.
    seed : int
        Of the bags and of COLMAP's samples; the tracks have their own.

    Raises
    ------
    InvalidInputError
        If there is no task, or the ratio is out of range.
    """

    stereo: bool = True
    multiview: bool = True
    ratio: float | None = None
    tracks: Mapping[str, Track] = field(
        default_factory=lambda: {
            "fundamental": Track(estimator_for("fundamental"), 0.5),
            "essential": Track("poselib", 1.0),
        }
    )
    bags: Mapping[int, int] = field(default_factory=lambda: dict(BAGS))
    intrinsics: Intrinsics = "estimated"
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.stereo or self.multiview):
            raise InvalidInputError("neither stereo nor multiview: there is nothing to do")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise InvalidInputError(f"ratio is {self.ratio}, but must be above 0 and at most 1")
        if unknown := set(self.tracks) - {"fundamental", "essential"}:
            raise InvalidInputError(f"there is no track {', '.join(sorted(unknown))}: fundamental and essential are")

    def ratio_of(self, method: Method) -> float:
        """The ratio test for a method."""
        return default_ratio(method) if self.ratio is None else self.ratio


def default_ratio(method: Method) -> float:
    """The ratio test that a method gets unless told otherwise.

    0.9 is the optimum of the benchmark's own sweep for RootSIFT (mAA@10 .541 at .8, .575 at .85, .581 at .9, .547 at
    .95), and what it recommends to begin with; we give it to all float descriptors. Binary ones get 0.8: ours, not
    tuned, since ratios of Hamming distances of a few hundred bits spread less.
    """
    return 0.8 if method.extractor.metadata.descriptor_type == "binary" else 0.9


def scenes_of(roots: PathLike | Sequence[PathLike | Scene]) -> list[Scene]:
    """The scenes at or below folders; those that are read already stay as they are."""
    several = roots if isinstance(roots, Sequence) and not isinstance(roots, str) else [roots]
    return [scene for root in several for scene in ([root] if isinstance(root, Scene) else find_scenes(root))]


def evaluate_image_matching(
    methods: str | Extractor | Method | Sequence[str | Extractor | Method],
    roots: PathLike | Sequence[PathLike | Scene],
    *,
    options: Options | None = None,
    store: PathLike | None = None,
    engine: Engine | None = None,
    pictures: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Stereo and multiview tasks of the Image Matching Benchmark (Jin et al., IJCV 2021).

    Parameters
    ----------
    methods : one or a sequence
        What `benchmarks.method` takes: names, such as "rootsift", or extractors.
    roots : path, or a sequence of paths or Scenes
        Folders at or below which scenes lie, in the benchmark's layout or with a ``cameras.csv``.
    options : Options, optional
        Tasks, ratio test, tracks, bags, seed; the published protocol by default.
    store : path, optional
        Folder that keeps features and the results of every pair and bag: an interrupted run goes on there, and figures
        that are known are not computed again. Without it in memory.
    engine : Engine, optional
        Of `tiepoints.collection`; threads by default.
    pictures : bool
        Whether the report gets the matches of one pair for every method.
    progress : callable, optional
        Called as ``progress(what, done, all)``.

    Returns
    -------
    report : Report
        Tables "results" (a row for each method and scene, and means) and "published, for comparison".

    Raises
    ------
    InvalidInputError
        If two scenes or two methods have the same name, or an option is out of range.
    StorageError
        If there is no scene, a scene's files are damaged, or the store cannot be used.
    MissingDependencyError
        If the multiview task lacks pycolmap, or a track its estimator.

    Examples
    --------
    >>> report = evaluate_image_matching(["orb", "rootsift"], "strecha", store="work")    # doctest: +SKIP
    >>> report.table.row("rootsift", "fountain-P11").values["maa10"]                      # doctest: +SKIP
    """
    chosen, scenes = methods_of(methods), scenes_of(roots)
    names = [f"{scene.dataset}/{scene.name}" for scene in scenes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInputError(f"the scene {', '.join(twice)} is given twice")
    options = options or Options()
    found = [
        evaluate_scene(one, scene, options, store=store, engine=engine, progress=progress)
        for scene in scenes
        for one in chosen
    ]
    examples = [_example(one, scenes[0], found, options) for one in chosen] if pictures and options.stereo else []
    return Report(
        title="Image Matching Benchmark",
        protocol=_protocol(options),
        description=_description(options),
        tables=tables(found),
        notes=tuple(notes(found)),
        details=details(found),
        plots=plots(found),
        pictures=tuple(examples),
        incomplete=any(result.incomplete for result in found),
        about=versions("opencv-contrib-python-headless", "poselib", "pydegensac", "pycolmap", "numpy")
        | {f"ratio of {one.label}": f"{options.ratio_of(one):g}" for one in chosen}
        | {"seed": str(options.seed)},
    )


def evaluate_scene(
    method: Method,
    scene: Scene,
    options: Options,
    *,
    store: PathLike | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> SceneResult:
    """Both tasks of the benchmark on one scene; see `evaluate_image_matching`.

    Raises
    ------
    StorageError
        If fewer than two images can be read, or an image has another size than its camera.
    MissingDependencyError
        If the multiview task lacks pycolmap.
    """
    about = f"{method.label} on {scene.name}"
    moved = None if progress is None else (lambda what, *count: progress(f"{about}: {what}", *count))
    with runner(store, engine, moved) as through:
        photos = Collection.from_paths({name: view.path for name, view in scene.views.items()})
        features = through("extracting", Extract(method.extractor), photos)
        scene, notes = _readable(scene, features.failed)
        counts = [_checked(scene, name, features[name]) for name in scene.views]
        bags, drawn = choose_bags(scene, options.bags, options.seed) if options.multiview else ({}, [])
        in_bags = sorted({pair for some in bags.values() for bag in some for pair in _pairs_of(bag)})
        wanted = list(dict.fromkeys((*(scene.pairs if options.stereo else ()), *in_bags)))
        matches = through("matching", MatchPair(options.ratio_of(method)), wanted, features)
        _complain(matches)
        pairs: dict[Pair, PairRecord] = {}
        if options.stereo:
            judged = through("poses", JudgePair(options.tracks), _stereo_inputs(scene, features, matches, through))
            miss = PairRecord(0, 1.0, dict.fromkeys(options.tracks, TrackRecord(0, np.inf, np.inf)))
            pairs = {pair: judged.get(pair, miss) for pair in scene.pairs}
            notes += [f"{' and '.join(pair)} count as a miss: {why}" for pair, why in judged.failed.items()]
        models: tuple[BagRecord, ...] = ()
        if bags:
            models, lost = _multiview(scene, features, matches, bags, in_bags, options, through)
            notes += lost
    every = (*scene.notes, *notes, *drawn)
    return SceneResult(scene, method.label, float(np.mean(counts)), pairs, models, every, incomplete=bool(notes))


def _readable(scene: Scene, failed: Mapping[Any, str]) -> tuple[Scene, list[str]]:
    """The scene without the images that cannot be read, and a note that names each."""
    if not failed:
        return scene, []
    views = {name: view for name, view in scene.views.items() if name not in failed}
    if len(views) < 2:
        raise StorageError(
            f"{scene.name}: {len(failed)} of {len(scene.views)} images cannot be read, for one: "
            f"{next(iter(failed.values()))}"
        )
    pairs = tuple(pair for pair in scene.pairs if all(name in views for name in pair))
    whole = {size: tuple(b for b in some if all(name in views for name in b)) for size, some in scene.bags.items()}
    bags = {size: some for size, some in whole.items() if some}
    return replace(scene, views=views, pairs=pairs, bags=bags), [f"an image is left out: {w}" for w in failed.values()]


def _checked(scene: Scene, name: str, features: Features) -> int:
    """The number of keypoints of an image that has its camera's size."""
    view, size = scene.views[name], features.image_size
    if view.size is not None and size != view.size:
        raise StorageError(
            f"{view.path}: the image is {size[0]}x{size[1]}, but its camera {view.size[0]}x{view.size[1]}; "
            "put the original image back, or scale K with it"
        )
    return len(features)


def _complain(results: Results) -> None:
    """What all later figures depend on ends the work on a scene, with its reason."""
    for name, why in results.failed.items():
        raise StorageError(f"{'-'.join(name) if isinstance(name, tuple) else name}: {why}")


def _pairs_of(bag: Iterable[str]) -> list[Pair]:
    """All pairs of a bag, the larger name first."""
    return [(max(pair), min(pair)) for pair in itertools.combinations(bag, 2)]


@dataclass(frozen=True)
class _DepthMap:
    """A depth map as the input of a step."""

    path: Path

    @property
    def key(self) -> str:
        return sha256_of(self.path)

    def load(self) -> NDArray[np.float32]:
        return read_depth(self.path)


@dataclass(frozen=True)
class _Later:
    """An input that the step loads itself, when it needs it."""

    input: Input

    @property
    def key(self) -> str:
        return self.input.key

    def load(self) -> Input:
        return self.input


class DepthAtKeypoints(Step):
    """`depth_at` the keypoints of an image."""

    def __call__(self, features: Features, depth: NDArray[np.float32]) -> Float64:
        """(N,) float64."""
        return depth_at(depth, features.keypoints)


def _stereo_inputs(
    scene: Scene, features: Results, matches: Results, through: Callable[..., Results]
) -> dict[Pair, tuple[Any, ...]]:
    """What `JudgePair` needs of every pair."""
    maps = {name: view.depth for name, view in scene.views.items() if view.depth is not None}
    inputs = {name: (features.reference(name), _DepthMap(path)) for name, path in maps.items()}
    depths = through("depth maps", DepthAtKeypoints(), inputs)
    _complain(depths)
    found: dict[Pair, tuple[Any, ...]] = {}
    for a, b in scene.pairs:
        cameras = Given((scene.views[a].camera, scene.views[b].camera))
        both = (depths.reference(a), depths.reference(b)) if a in depths and b in depths else ()
        found[a, b] = (features.reference(a), features.reference(b), matches.reference((a, b)), cameras, *both)
    return found


def _multiview(
    scene: Scene,
    features: Results,
    matches: Results,
    bags: Mapping[int, Sequence[Bag]],
    pairs: Sequence[Pair],
    options: Options,
    through: Callable[..., Results],
) -> tuple[tuple[BagRecord, ...], list[str]]:
    names = sorted({name for pair in pairs for name in pair})
    cameras = [(name, _camera(scene, name, features[name], options.intrinsics)) for name in names]
    inputs = [features.reference(name) for name in names] + [matches.reference(pair) for pair in pairs]
    task = (Given(cameras), Given(list(pairs)), *map(_Later, inputs))
    verified = through("COLMAP verifies", VerifyScene(options.seed), {scene.name: task})
    _complain(verified)
    every = [bag for some in bags.values() for bag in some]
    database = verified.reference(scene.name)
    models = through(
        "COLMAP reconstructs",
        Reconstruct(options.intrinsics, options.seed),
        {bag: (database, Given(list(bag))) for bag in every},
    )
    kept = dict(zip(pairs, verified[scene.name]["kept"].tolist(), strict=True))
    given = {pair: len(matches[pair]) for pair in pairs}
    records = tuple(
        _bag_record(scene, bag, index, models.get(bag, Model({})), given, kept)
        for some in bags.values()
        for index, bag in enumerate(some)
    )
    return records, [f"a bag of {len(bag)} has no model: {why}" for bag, why in models.failed.items()]


def _camera(scene: Scene, name: str, features: Features, intrinsics: Intrinsics) -> Camera:
    """What COLMAP starts from: the true calibration, or a guess from EXIF or the image's size."""
    view = scene.views[name]
    return Camera.from_matrix(view.K, features.image_size) if intrinsics == "known" else Camera.from_exif(view.path)


def _bag_record(
    scene: Scene, bag: Bag, index: int, model: Model, given: Mapping[Pair, int], kept: Mapping[Pair, int]
) -> BagRecord:
    names = sorted(model.poses)
    truth: dict[str, CamFromWorld] = {name: (scene.views[name].R, scene.views[name].t) for name in bag}
    estimated, true = (
        np.array([-np.asarray(R).T @ np.asarray(t) for R, t in (poses[name] for name in names)]).reshape(-1, 3)
        for poses in (model.poses, truth)
    )
    return BagRecord(
        size=len(bag),
        index=index,
        registered=len(names),
        landmarks=model.landmarks,
        track_length=model.track_length,
        ate=robust_ate(estimated, true),
        rms=rms_after_alignment(estimated, true),
        errors=np.array(list(pairwise_errors(model.poses, truth).values())),
        given=float(np.mean([given[pair] for pair in _pairs_of(bag)])),
        kept=float(np.mean([kept[pair] for pair in _pairs_of(bag)])),
    )


def _protocol(options: Options) -> str:
    """imb, as far as it is the published one; what departs from it is in the name."""
    name = "imb"
    track = options.tracks.get("fundamental")
    if options.stereo and track is not None and track.estimator != "degensac":
        name += f", {track.estimator} for degensac"
    if options.multiview and options.intrinsics == "known":
        name += ", known intrinsics"
    return name


def _description(options: Options) -> str:
    text = "mAA: share of the pairs whose pose is right within 1, 2, ... degrees, averaged; failures count as misses. "
    if options.stereo:
        text += "Stereo: symmetric nearest neighbours with a ratio test; " + "; ".join(
            f"{name}-matrix track: {track.description}" for name, track in options.tracks.items()
        )
        text += ". "
    if options.multiview:
        how = "estimates the intrinsics" if options.intrinsics == "estimated" else "is given the true intrinsics"
        text += f"Multiview: COLMAP on bags of images, where it {how}; models of three images at least."
    return text.strip()


def _example(one: Method, scene: Scene, found: Sequence[SceneResult], options: Options) -> Picture:
    """The inliers of the first scene's pair of middling difficulty for the first method; the same pair for all."""
    pairs = next(result.pairs for result in found if result.scene.name == scene.name)
    name, track = next(iter(options.tracks.items()))
    order = sorted(pairs, key=lambda pair: pairs[pair].tracks[name].inliers)
    a, b = (scene.views[image] for image in order[len(order) // 2])
    photos = Collection.from_paths({view.name: view.path for view in (a, b)})
    features = run(Extract(one.extractor), photos)
    both = features[a.name], features[b.name]
    matches = MatchPair(options.ratio_of(one))(*both)
    pose = judge_pair(*matches.points(*both), a.camera, b.camera, track)
    off = "no pose" if np.isinf(pose.error) else f"pose off by {pose.error:.2f} degrees"
    caption = f"{one.label}: {scene.name}, {a.name} and {b.name}, {pose.inliers.sum()} inliers of {len(matches)}, {off}"
    images = photos[a.name].read(), photos[b.name].read()
    return Picture(caption, plot_matches(*images, *both, matches, pose.inliers, max_size=640))
