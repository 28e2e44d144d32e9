"""Structure from motion on small bags of a scene's images, as the benchmark's multiview task judges it.

Source: Jin et al., IJCV 2021, section 3.2, and the benchmark's released code (``eval_colmap.py``, ``pack_helper.py``).
COLMAP verifies each pair once for all bags, from the pair's matches, and then maps every bag by itself.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections import UserDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...camera import Camera
from ...collection import Step, register
from ...collection.running import Input
from ...datasets.scenes import Pair, Scene
from ...errors import InvalidInputError, counted
from ...features import Features
from ...metrics.poses import CamFromWorld, mean_average_accuracy, pairwise_errors
from ...metrics.trajectories import rms_after_alignment, robust_ate
from ...optional import require
from ..report import Value

__all__ = ["BAGS", "Bag", "Later", "Model", "Reconstruct", "VerifyScene", "bag_record", "choose_bags", "pairs_of"]

Bag = tuple[str, ...]
#: "estimated": COLMAP guesses the focal length and refines it, as published; "known": the true calibration, fixed.
Intrinsics = Literal["estimated", "known"]

#: Images in a bag, and how many such bags.
BAGS: Mapping[int, int] = {5: 100, 10: 50, 25: 25}
SMALLEST_MODEL = 3

register("tiepoints.Camera")(Camera)


@register("tiepoints.BagModel")
@dataclass(frozen=True, eq=False)
class Model:
    """The largest model that COLMAP made of a bag; empty if it made none.

    `poses` are cam_from_world (R, t) of the registered images, in a frame and scale of COLMAP's own; `landmarks` the
    number of points, and `track_length` the mean number of images that see one.
    """

    poses: dict[str, CamFromWorld]
    landmarks: int = 0
    track_length: float = 0.0


def choose_bags(scene: Scene, sizes: Mapping[int, int], seed: int) -> tuple[dict[int, tuple[Bag, ...]], list[str]]:
    """The bags to reconstruct, by their size, and notes of what was left out or drawn.

    They are the release's own where it has them, else drawn at random, the same for the same seed; all where there are
    no more than asked for. Sizes above the number of images are left out. InvalidInputError if a size is below 3, or a
    count below 1.
    """
    for size, count in sizes.items():
        if size < SMALLEST_MODEL or count < 1:
            raise InvalidInputError(f"{count} bags of {size} images: a bag needs {SMALLEST_MODEL} images at least")
    names = sorted(scene.views)
    bags: dict[int, tuple[Bag, ...]] = {}
    notes: list[str] = []
    for size, count in sorted(sizes.items()):
        if size in scene.bags:
            bags[size] = scene.bags[size][:count]
        elif size > len(names):
            notes.append(f"no bags of {size}: the scene has {len(names)} images")
        elif math.comb(len(names), size) <= count:
            bags[size] = tuple(itertools.combinations(names, size))
            notes.append(f"all {counted(len(bags[size]), 'bag')} of {size}: the scene has no lists of its own")
        else:
            # A generator of its own for each size: the bags of 5 do not depend on whether those of 10 are wanted.
            rng = np.random.default_rng((seed, size))
            drawn: dict[Bag, None] = {}
            while len(drawn) < count:
                drawn[tuple(names[i] for i in sorted(rng.permutation(len(names))[:size]))] = None
            bags[size] = tuple(drawn)
            notes.append(
                f"{counted(len(bags[size]), 'bag')} of {size} drawn with seed {seed}: the scene has no lists of its own"
            )
    return bags, notes


class VerifyScene(Step):
    """COLMAP's database of a scene, with the matches of all pairs verified; `seed` is that of its random samples."""

    packages = ("numpy", "pycolmap")

    def __init__(self, seed: int) -> None:
        _pycolmap()
        self.seed = seed

    def __call__(
        self, cameras: Sequence[tuple[str, Camera]], pairs: Sequence[Pair], *inputs: Input
    ) -> dict[str, NDArray[Any]]:
        """The database's bytes, and how many matches of each pair are "kept", (P,) int64; 0 for pairs COLMAP refused.

        `cameras` come with the images' names; `inputs` are the features of the images, then the matches of the pairs.
        """
        from ...storage import read_colmap, write_colmap

        pycolmap = _pycolmap()
        images = _LoadedLate({name: (one, camera) for (name, camera), one in zip(cameras, inputs, strict=False)})
        matches = {(a, b): one.load() for (a, b), one in zip(pairs, inputs[len(cameras) :], strict=True)}
        matches = {pair: some for pair, some in matches.items() if len(some)}
        with tempfile.TemporaryDirectory(prefix="tiepoints-imb-") as folder:
            path, listed = Path(folder) / "database.db", Path(folder) / "pairs.txt"
            write_colmap(path, images, matches)
            listed.write_text("".join(f"{a} {b}\n" for a, b in matches), encoding="utf-8")
            options = pycolmap.TwoViewGeometryOptions()
            options.ransac.random_seed = self.seed
            with _quiet(pycolmap):
                pycolmap.verify_matches(path, listed, options)
                two_views = read_colmap(path).two_views
            sizes = {frozenset(pair): len(two_view.matches) for pair, two_view in two_views.items()}
            kept = [sizes.get(frozenset(pair), 0) for pair in pairs]
            return {"database": np.fromfile(path, np.uint8), "kept": np.array(kept, np.int64)}


class Reconstruct(Step):
    """COLMAP's incremental mapping of a bag. The same seed gives the same model: one thread works on a bag."""

    packages = ("numpy", "pycolmap")

    def __init__(self, intrinsics: Intrinsics, seed: int) -> None:
        _pycolmap()
        self.intrinsics = intrinsics
        self.seed = seed

    def __call__(self, verified: Mapping[str, NDArray[Any]], bag: Sequence[str]) -> Model:
        """The model of `VerifyScene`'s database with the most images; of equals the one with the most landmarks."""
        pycolmap = _pycolmap()
        options = pycolmap.IncrementalPipelineOptions()
        options.min_model_size = SMALLEST_MODEL
        options.image_names = list(bag)
        options.random_seed = self.seed
        options.num_threads = 1
        options.extract_colors = False
        if self.intrinsics == "known":
            options.ba_refine_focal_length = False
            options.ba_refine_extra_params = False
            options.mapper.abs_pose_refine_focal_length = False
            options.mapper.abs_pose_refine_extra_params = False
        with tempfile.TemporaryDirectory(prefix="tiepoints-bag-") as folder, _quiet(pycolmap):
            path = Path(folder) / "database.db"
            verified["database"].tofile(path)
            models = list(pycolmap.incremental_mapping(path, folder, folder, options).values())
        found = [_model_of(model) for model in models]
        found = [model for model in found if len(model.poses) >= SMALLEST_MODEL]
        return max(found, key=lambda model: (len(model.poses), model.landmarks), default=Model({}))


def pairs_of(bag: Bag) -> list[Pair]:
    """All pairs of a bag, the larger name first."""
    return [(max(pair), min(pair)) for pair in itertools.combinations(bag, 2)]


def bag_record(scene: Scene, bag: Bag, index: int, model: Model, counts: Sequence[tuple[int, int]]) -> dict[str, Value]:
    """The record of a bag: `counts` are the numbers of matches that COLMAP was given and kept of each pair."""
    names = sorted(model.poses)
    truth: dict[str, CamFromWorld] = {name: (scene.views[name].R, scene.views[name].t) for name in bag}
    estimated, true = (
        np.array([-np.asarray(R).T @ np.asarray(t) for R, t in (poses[name] for name in names)]).reshape(-1, 3)
        for poses in (model.poses, truth)
    )
    errors = list(pairwise_errors(model.poses, truth).values())
    given, kept = np.mean(counts, axis=0).tolist()
    return {
        "task": "multiview",
        "size": len(bag),
        "bag": index,
        "registered": len(names),
        "landmarks": model.landmarks,
        "track_length": model.track_length,
        "ate": robust_ate(estimated, true),
        "rms": rms_after_alignment(estimated, true),
        "maa5": mean_average_accuracy(errors, 5),
        "maa10": mean_average_accuracy(errors),
        "given": given,
        "kept": kept,
    }


def _model_of(model: Any) -> Model:
    poses: dict[str, CamFromWorld] = {}
    for image in model.images.values():
        if image.has_pose:
            pose = image.cam_from_world()
            rotation, translation = np.array(pose.rotation.matrix()), np.array(pose.translation)
            if np.isfinite(rotation).all() and np.isfinite(translation).all():
                poses[image.name] = rotation, translation
    # A track may hold two points of one image: the images count, not the points.
    lengths = [len({element.image_id for element in point.track.elements}) for point in model.points3D.values()]
    return Model(poses, len(lengths), float(np.mean(lengths)) if lengths else 0.0)


@dataclass(frozen=True)
class Later:
    """An input that the step loads itself, when it needs it."""

    input: Input

    @property
    def key(self) -> str:
        """That of the input."""
        return self.input.key

    def load(self) -> Input:
        """The input as it is."""
        return self.input


class _LoadedLate(UserDict[str, tuple[Any, Camera]]):
    """Features and cameras by names; the features of one image are in memory at a time."""

    def __getitem__(self, name: str) -> tuple[Features, Camera]:
        features, camera = self.data[name]
        return features.load(), camera


def _pycolmap() -> Any:
    return require("pycolmap", "the multiview task", "sfm")


@contextmanager
def _quiet(pycolmap: Any) -> Iterator[None]:
    """COLMAP prints pages about every bag, and calls a bag without a model an error; what is one is an exception."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before
