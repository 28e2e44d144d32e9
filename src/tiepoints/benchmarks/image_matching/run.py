"""The benchmark as a whole: several methods on several scenes, and one report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...datasets.scenes import Scene, find_scenes
from ...errors import InvalidInputError
from ...extraction import Extractor
from ...files import PathLike
from ...images import read
from ...plot import plot_matches
from ..methods import Method, participants
from ..report import Picture, Report, versions
from .evaluate import Progress, evaluate_scene
from .records import Options, SceneResult, default_ratio
from .stereo import judge_pair, match_pair
from .summary import details, notes, plots, tables

__all__ = ["evaluate_image_matching"]


def evaluate_image_matching(
    methods: str | Extractor | Method | Sequence[str | Extractor | Method],
    roots: PathLike | Sequence[PathLike | Scene],
    *,
    options: Options | None = None,
    store: PathLike | None = None,
    jobs: int = 1,
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
    jobs : int
        Processes.
    pictures : bool
        Whether the report gets the matches of one pair for every method.
    progress : callable, optional
        Called as ``progress(what, done, all)``.

    Returns
    -------
    report : Report
        Tables "measured" (a row for each method and scene, and means) and "published, for comparison".

    Raises
    ------
    InvalidInputError
        If two scenes or two methods have the same name, or an option is out of range.
    StorageError
        If there is no scene, a scene's files are damaged, or the store cannot be used.
    MissingDependencyError
        If the multiview task lacks pycolmap, or a track its estimator.
    """
    if not isinstance(roots, Sequence) or isinstance(roots, str):
        roots = [roots]
    chosen = participants(methods)
    scenes = [scene for root in roots for scene in ([root] if isinstance(root, Scene) else find_scenes(root))]
    names = [f"{scene.dataset}/{scene.name}" for scene in scenes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInputError(f"the scene {', '.join(twice)} takes part twice")
    options = options or Options()
    found = [
        evaluate_scene(one, scene, options, store=None if store is None else Path(store), jobs=jobs, progress=progress)
        for scene in scenes
        for one in chosen
    ]
    return Report(
        title="Image Matching Benchmark",
        protocol=_protocol(options),
        description=_description(options),
        tables=tables(found),
        notes=tuple(notes(found)),
        details=details(found),
        plots=plots(found),
        pictures=tuple(_example(one, scenes[0], found, options) for one in chosen)
        if pictures and options.stereo
        else (),
        about=versions("opencv-contrib-python-headless", "poselib", "pydegensac", "pycolmap", "numpy")
        | {f"ratio of {one.label}": f"{_ratio(one, options):g}" for one in chosen}
        | {"seed": str(options.seed)},
    )


def _ratio(one: Method, options: Options) -> float:
    return default_ratio(one) if options.ratio is None else options.ratio


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
    order = np.argsort([pair.tracks[name].inliers for pair in pairs], kind="stable")
    a, b = (scene.views[image] for image in pairs[int(order[len(order) // 2])].pair)
    image_a, image_b = read(a.path), read(b.path)
    features_a, features_b = one.extractor(image_a), one.extractor(image_b)
    matches = match_pair(features_a, features_b, _ratio(one, options))
    pose = judge_pair(*matches.points(features_a, features_b), a, b, track)
    off = "no pose" if np.isinf(pose.error) else f"pose off by {pose.error:.2f} degrees"
    caption = f"{one.label}: {scene.name}, {a.name} and {b.name}, {pose.inliers.sum()} inliers of {len(matches)}, {off}"
    picture = plot_matches(image_a, image_b, features_a, features_b, matches, pose.inliers, max_size=640)
    return Picture(caption, picture)
