"""The Image Matching Benchmark: several methods on several scenes, stereo and multiview, and one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...camera import Camera
from ...collection import Collection, Engine, Extract, Photograph, Results, Step, run
from ...datasets.hdf5 import read_depth
from ...datasets.scenes import Pair, Scene, find_scenes
from ...errors import InvalidInputError, StorageError
from ...extraction import Extractor
from ...features import Features
from ...files import PathLike
from ...metrics.depth import depth_at
from ...plot import plot_matches
from ..methods import Method, Progress, methods_of, runner
from ..report import Picture, Report, Value, versions
from .multiview import BAGS, Intrinsics, Later, Model, Reconstruct, VerifyScene, bag_record, choose_bags, pairs_of
from .stereo import JudgePair, MatchPair, Track, estimator_for, judge_pair
from .summary import SceneResult, notes, plots, tables

__all__ = ["Options", "default_ratio", "evaluate_image_matching", "scenes_of"]


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
    found = [_evaluate_scene(one, scene, options, store, engine, progress) for scene in scenes for one in chosen]
    examples = [_example(one, scenes[0], found[0], options) for one in chosen] if pictures and options.stereo else []
    return Report(
        title="Image Matching Benchmark",
        protocol=_protocol(options),
        description=_description(options),
        tables=tables(found),
        notes=tuple(notes(found)),
        details=tuple(record for result in found for record in result.records),
        plots=plots(found),
        pictures=tuple(examples),
        incomplete=any(result.incomplete for result in found),
        about=versions("opencv-contrib-python-headless", "poselib", "pydegensac", "pycolmap", "numpy")
        | {f"ratio of {one.label}": f"{options.ratio_of(one):g}" for one in chosen}
        | {"seed": str(options.seed)},
    )


def _evaluate_scene(
    method: Method, scene: Scene, options: Options, store: PathLike | None, engine: Engine | None, told: Progress | None
) -> SceneResult:
    """Both tasks of the benchmark on one scene; StorageError if fewer than two of its images can be read."""
    moved = None if told is None else (lambda what, *count: told(f"{method.label} on {scene.name}: {what}", *count))
    with runner(store, engine, moved) as through:
        photos = Collection.from_paths({name: view.path for name, view in scene.views.items()})
        features = through("extracting", Extract(method.extractor), photos)
        used = _readable(scene, features)
        bags, drawn = choose_bags(used, options.bags, options.seed) if options.multiview else ({}, [])
        in_bags = sorted({pair for some in bags.values() for bag in some for pair in pairs_of(bag)})
        wanted = list(dict.fromkeys((*(used.pairs if options.stereo else ()), *in_bags)))
        matches = _all_of(through("matching", MatchPair(options.ratio_of(method)), wanted, features))
        records: list[Mapping[str, Any]] = []
        about: dict[str, Value] = {"method": method.label, "dataset": scene.dataset, "scene": scene.name}
        notes = [f"an image is left out: {why}" for why in features.failed.values()]
        if options.stereo:
            judged = through("poses", JudgePair(options.tracks), _stereo_inputs(used, features, matches, through))
            failed = {"inliers": 0, "rotation": np.inf, "translation": np.inf, "ms3": None}
            miss = {"matches": 0, "cost": 1.0, "rep3": None}
            miss |= {f"{name}_{key}": value for name in options.tracks for key, value in failed.items()}
            for a, b in used.pairs:
                records.append(about | {"task": "stereo", "image_a": a, "image_b": b} | judged.get((a, b), miss))
            notes += [f"a pair counts as a miss: {why}" for why in judged.failed.values()]
        if bags:
            cameras = []
            for name in sorted({name for pair in in_bags for name in pair}):
                if options.intrinsics == "known":
                    camera = Camera.from_matrix(used.views[name].K, features[name].image_size)
                else:  # a guess from EXIF or the image's size
                    camera = Camera.from_exif(used.views[name].path)
                cameras.append((name, camera))
            inputs = [features.reference(name) for name, _ in cameras] + [matches.reference(pair) for pair in in_bags]
            task = {scene.name: (cameras, in_bags, *map(Later, inputs))}
            verified = _all_of(through("COLMAP verifies", VerifyScene(options.seed), task))
            database = verified.reference(scene.name)
            every = {bag: (database, list(bag)) for some in bags.values() for bag in some}
            models = through("COLMAP reconstructs", Reconstruct(options.intrinsics, options.seed), every)
            kept = dict(zip(in_bags, verified[scene.name]["kept"].tolist(), strict=True))
            for some in bags.values():
                for index, bag in enumerate(some):
                    counts = [(len(matches[pair]), kept[pair]) for pair in pairs_of(bag)]
                    records.append(about | bag_record(used, bag, index, models.get(bag, Model({})), counts))
            notes += [f"a bag of {len(bag)} has no model: {why}" for bag, why in models.failed.items()]
        keypoints = float(np.mean([len(features[name]) for name in used.views]))
    return SceneResult(used, method.label, keypoints, records, (*scene.notes, *notes, *drawn), incomplete=bool(notes))


def _readable(scene: Scene, features: Results) -> Scene:
    """The scene without the images that cannot be read; StorageError if an image has another size than its camera."""
    views = {name: view for name, view in scene.views.items() if name not in features.failed}
    if len(views) < 2:
        raise StorageError(
            f"{scene.name}: {len(features.failed)} of {len(scene.views)} images cannot be read, for one: "
            f"{next(iter(features.failed.values()))}"
        )
    for name, view in views.items():
        size = features[name].image_size
        if view.size is not None and size != view.size:
            raise StorageError(
                f"{view.path}: the image is {size[0]}x{size[1]}, but its camera {view.size[0]}x{view.size[1]}; "
                "put the original image back, or scale K with it"
            )
    pairs = tuple(pair for pair in scene.pairs if views.keys() >= set(pair))
    whole = {size: tuple(bag for bag in some if views.keys() >= set(bag)) for size, some in scene.bags.items()}
    return replace(scene, views=views, pairs=pairs, bags={size: some for size, some in whole.items() if some})


def _all_of(results: Results) -> Results:
    """What all later figures depend on ends the work on a scene, with its reason."""
    for why in results.failed.values():
        raise StorageError(why)
    return results


class DepthAtKeypoints(Step):
    """`depth_at` the keypoints of an image."""

    version = 2

    def __call__(self, features: Features, depth: Photograph) -> NDArray[np.float64]:
        """(N,) float64."""
        return depth_at(read_depth(depth.path), features.keypoints)


def _stereo_inputs(
    scene: Scene, features: Results, matches: Results, through: Callable[..., Results]
) -> dict[Pair, tuple[Any, ...]]:
    """What `JudgePair` needs of every pair."""
    maps = {n: (features.reference(n), Photograph(n, v.depth)) for n, v in scene.views.items() if v.depth is not None}
    depths = _all_of(through("depth maps", DepthAtKeypoints(), maps))
    found: dict[Pair, tuple[Any, ...]] = {}
    for a, b in scene.pairs:
        both = (depths.reference(a), depths.reference(b)) if a in depths and b in depths else ()
        cameras = scene.views[a].camera, scene.views[b].camera
        found[a, b] = (features.reference(a), features.reference(b), matches.reference((a, b)), cameras, *both)
    return found


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


def _example(one: Method, scene: Scene, first: SceneResult, options: Options) -> Picture:
    """The inliers of the first scene's pair of middling difficulty for the first method; the same pair for all."""
    name, track = next(iter(options.tracks.items()))
    order = sorted(first.of("stereo"), key=itemgetter(f"{name}_inliers"))
    middle = order[len(order) // 2]
    a, b = (scene.views[middle[key]] for key in ("image_a", "image_b"))
    photos = Collection.from_paths({view.name: view.path for view in (a, b)})
    features = run(Extract(one.extractor), photos)
    both = features[a.name], features[b.name]
    matches = MatchPair(options.ratio_of(one))(*both)
    pose = judge_pair(*matches.points(*both), a.camera, b.camera, track)
    off = "no pose" if np.isinf(pose.error) else f"pose off by {pose.error:.2f} degrees"
    caption = f"{one.label}: {scene.name}, {a.name} and {b.name}, {pose.inliers.sum()} inliers of {len(matches)}, {off}"
    images = photos[a.name].read(), photos[b.name].read()
    return Picture(caption, plot_matches(*images, *both, matches, pose.inliers, max_size=640))
