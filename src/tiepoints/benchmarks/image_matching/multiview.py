"""Structure from motion on small bags of a scene's images, as the benchmark's multiview task judges it.

Source: Jin et al., IJCV 2021, section 3.2, and the benchmark's released code (``eval_colmap.py``, ``pack_helper.py``).
COLMAP verifies each pair once for all bags, from the pair's matches, and then maps every bag by itself.
"""

from __future__ import annotations

import itertools
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...camera import Camera
from ...datasets.scenes import Pair, Scene, counted
from ...errors import InvalidInputError, MissingDependencyError
from ...features import Features, Matches
from ...metrics.poses import CamFromWorld

__all__ = [
    "BAGS",
    "Bag",
    "Model",
    "absolute_trajectory_error",
    "choose_bags",
    "reconstruct",
    "rms_after_alignment",
    "verified_database",
]

Float64 = NDArray[np.float64]
Bag = tuple[str, ...]
#: "estimated": COLMAP guesses the focal length and refines it, as published; "known": the true calibration, fixed.
Intrinsics = Literal["estimated", "known"]

#: Images in a bag, and how many such bags.
BAGS: Mapping[int, int] = {5: 100, 10: 50, 25: 25}
SMALLEST_MODEL = 3


@dataclass(frozen=True, eq=False)
class Model:
    """The largest model that COLMAP made of a bag; empty if it made none.

    Parameters
    ----------
    poses : dict of str to ((3, 3) array, (3,) array)
        cam_from_world of the images that are registered, in a frame and scale of COLMAP's own.
    landmarks : int
        Three-dimensional points.
    track_length : float
        Images that see a point, mean over the points; 0 without points.
    """

    poses: dict[str, CamFromWorld]
    landmarks: int = 0
    track_length: float = 0.0


def choose_bags(scene: Scene, sizes: Mapping[int, int], seed: int) -> tuple[dict[int, tuple[Bag, ...]], list[str]]:
    """The bags to reconstruct: the release's own where it has them, else drawn at random, the same for the same seed.

    Parameters
    ----------
    scene : Scene
    sizes : mapping of int to int
        How many bags of each size; where there are fewer different ones, all of them.
    seed : int

    Returns
    -------
    bags : dict of int to tuple of bags
        By size; sizes above the number of images are left out.
    notes : list of str
        What was left out or drawn.

    Raises
    ------
    InvalidInputError
        If a size is below 3, or a count below 1.
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


@contextmanager
def verified_database(
    scene: Scene,
    features: Mapping[str, Features],
    matches: Mapping[Pair, Matches],
    *,
    intrinsics: Intrinsics = "estimated",
    seed: int = 0,
) -> Iterator[tuple[Path, dict[Pair, int]]]:
    """A temporary COLMAP database of a scene, its pairs verified.

    Parameters
    ----------
    scene : Scene
    features, matches : mappings
        Of those pairs that bags have, and of their images; the features of one image are in memory at a time.
    intrinsics : {"estimated", "known"}
        Whose calibration COLMAP starts from: the true one, or its own guess from EXIF or the image's size.
    seed : int
        Of COLMAP's random samples.

    Yields
    ------
    path : path
        The database; it is deleted at the end of the ``with`` block.
    kept : dict of (str, str) to int
        How many matches of each pair COLMAP's verification kept; 0 if it refused the pair.

    Raises
    ------
    MissingDependencyError
        Without pycolmap.
    """
    from ...storage import read_colmap, write_colmap

    pycolmap = _pycolmap()
    folder = Path(tempfile.mkdtemp(prefix="tiepoints-imb-"))
    try:
        path, pairs = folder / "database.db", folder / "pairs.txt"
        names = sorted({name for pair in matches for name in pair})
        images = _WithCameras(scene, names, features, intrinsics)
        write_colmap(path, images, {pair: some for pair, some in matches.items() if len(some)})
        pairs.write_text("".join(f"{a} {b}\n" for a, b in matches if len(matches[a, b])), encoding="utf-8")
        options = pycolmap.TwoViewGeometryOptions()
        options.ransac.random_seed = seed
        with _quiet(pycolmap):
            pycolmap.verify_matches(path, pairs, options)
            two_views = read_colmap(path).two_views
        sizes = {frozenset(pair): len(two_view.matches) for pair, two_view in two_views.items()}
        yield path, {pair: sizes.get(frozenset(pair), 0) for pair in matches}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def reconstruct(database: Path, bag: Sequence[str], intrinsics: Intrinsics, seed: int) -> Model:
    """COLMAP's incremental mapping of some of a database's images.

    Parameters
    ----------
    database : path
        From `verified_database`.
    bag : sequence of str
        The images' names.
    intrinsics : {"estimated", "known"}
        Whether the calibration is refined with the poses, or stays as it is.
    seed : int
        The same seed gives the same model: one thread works on a bag.

    Returns
    -------
    model : Model
        That with the most images; of equals the one with the most landmarks.
    """
    pycolmap = _pycolmap()
    options = pycolmap.IncrementalPipelineOptions()
    options.min_model_size = SMALLEST_MODEL
    options.image_names = list(bag)
    options.random_seed = seed
    options.num_threads = 1
    options.extract_colors = False
    if intrinsics == "known":
        options.ba_refine_focal_length = False
        options.ba_refine_extra_params = False
        options.mapper.abs_pose_refine_focal_length = False
        options.mapper.abs_pose_refine_extra_params = False
    with tempfile.TemporaryDirectory(prefix="tiepoints-bag-") as output, _quiet(pycolmap):
        # COLMAP locks a database while it opens it; of processes that do so at the same moment one would fail.
        copy = shutil.copy(database, output)
        models = list(pycolmap.incremental_mapping(copy, output, output, options).values())
    found = [_model_of(model) for model in models]
    found = [model for model in found if len(model.poses) >= SMALLEST_MODEL]
    return max(found, key=lambda model: (len(model.poses), model.landmarks), default=Model({}))


def absolute_trajectory_error(estimated: ArrayLike, truth: ArrayLike, seed: int = 0) -> float | None:
    """The benchmark's ATE: mean distance of the inliers' camera centres after a robust alignment by a similarity.

    Similarities from samples of three centres; an inlier lies within half the centres' root mean square distance from
    their mean; the sample with the most inliers counts, of equals that with the smallest mean error. With less than
    30 % of inliers, and at most, it is half the diagonal of the centres' box. Not the RMSE that trajectories have.

    Parameters
    ----------
    estimated, truth : (N, 3) array
        Camera centres, row by row.
    seed : int
        Of the samples.

    Returns
    -------
    ate : float or None
        In the truth's unit; None with fewer than three centres.
    """
    found, true = (np.asarray(values, dtype=np.float64).reshape(-1, 3) for values in (estimated, truth))
    count = len(true)
    if count < 3:
        return None
    threshold = 0.5 * float(np.sqrt(((true - true.mean(axis=0)) ** 2).sum(axis=1).mean()))
    worst = float(np.linalg.norm(np.ptp(true, axis=0)) / 2)
    share = max(3 / count, 0.5)
    samples = 1 if share == 1 else int(math.log(1 - 0.9999) / math.log(1 - share**3))
    rng = np.random.default_rng(seed)
    best: tuple[int, float] = (0, -np.inf)
    for _ in range(samples):
        rows = rng.permutation(count)[:3]
        aligned = _aligned(found[rows], true[rows], found)
        if aligned is None:
            continue
        distances = np.linalg.norm(aligned - true, axis=1)
        near = distances < threshold
        if near.any():
            best = max(best, (int(near.sum()), -float(distances[near].mean())))
    inliers, error = best[0], -best[1]
    return worst if inliers < 0.3 * count or error > worst else error


def rms_after_alignment(estimated: ArrayLike, truth: ArrayLike) -> float | None:
    """Root mean square distance of camera centres after the best similarity; None with fewer than three centres."""
    found, true = (np.asarray(values, dtype=np.float64).reshape(-1, 3) for values in (estimated, truth))
    aligned = _aligned(found, true, found) if len(true) >= 3 else None
    if aligned is None:
        return None
    return float(np.sqrt(((aligned - true) ** 2).sum(axis=1).mean()))


def _aligned(source: Float64, target: Float64, points: Float64) -> Float64 | None:
    """`points` moved by the similarity that maps `source` onto `target` best; None for centres on a line.

    Umeyama, PAMI 1991, equations 34 to 42. Not pycolmap's ``estimate_sim3d``, which (4.2) finds none for centres that
    lie exactly in a plane of the axes.
    """
    mean_source, mean_target = source.mean(axis=0), target.mean(axis=0)
    a, b = source - mean_source, target - mean_target
    u, singular, vt = np.linalg.svd(b.T @ a)
    if not singular[1] > 1e-12 * singular[0]:
        return None
    sign = np.array([1, 1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    scale = (singular * sign).sum() / (a**2).sum()
    return np.asarray(scale * (points - mean_source) @ ((u * sign) @ vt).T + mean_target)


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


class _WithCameras(Mapping[str, tuple[Features, Camera]]):
    """Features and cameras of a scene, one image in memory at a time."""

    def __init__(
        self, scene: Scene, names: Sequence[str], features: Mapping[str, Features], intrinsics: Intrinsics
    ) -> None:
        self._scene, self._names, self._features, self._intrinsics = scene, names, features, intrinsics

    def __getitem__(self, name: str) -> tuple[Features, Camera]:
        view, features = self._scene.views[name], self._features[name]
        if self._intrinsics == "known":
            return features, Camera.from_matrix(view.K, features.image_size)
        return features, Camera.from_exif(view.path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _pycolmap() -> Any:
    try:
        import pycolmap
    except ImportError:
        raise MissingDependencyError("the multiview task needs pycolmap: pip install 'tiepoints[sfm]'") from None
    return pycolmap


@contextmanager
def _quiet(pycolmap: Any) -> Iterator[None]:
    """COLMAP prints pages about every bag, and calls a bag without a model an error; what is one is an exception."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before
