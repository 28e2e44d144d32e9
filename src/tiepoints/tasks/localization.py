"""Visual localization: where was a photograph taken, in a map made of others?

Retrieval picks map images that show the same place, local features are matched with theirs, which gives points of the
map for the query's keypoints, and PnP with RANSAC gives the camera's pose (the structure-based localization of Sattler,
Leibe and Kobbelt, ICCV 2011, with the retrieval of Sarlin, Cadena, Siegwart and Dymczyk, CVPR 2019).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..checks import count, number
from ..collection import Photograph, Step, register
from ..collection.orientation import stored_features
from ..collection.retrieval import nearest_images
from ..collection.stages import memory_of
from ..errors import InvalidInputError, counted
from ..extraction import Extractor, load
from ..features import Features
from ..files import PathLike
from ..geometry import Geometry, absolute_pose
from ..geometry.chance import log_expected
from ..matching import match
from .maps import Map, read_map

__all__ = ["Localization", "Localize", "Localizer"]

register("tiepoints.Camera")(Camera)

# Focal lengths that are tried where it is not known, as shares of the long edge: from wide angle to tele. Ours.
_FOCALS = (0.55, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0)
_FINER = (1.09, 1.03, 1.01)  # the best one is then moved up and down by these factors in turn
# Samples drawn at most: 8 good ones where a tenth are inliers. Queries from elsewhere draw all.
_ITERATIONS = 8000
# A pose is accepted where unrelated images give one with so many inliers in less than 10^-10 of the cases. Ours,
# chosen on lund_door and fox: right poses are below -20, wrong ones above -5.
_LOG_NFA = -10.0


@register("tiepoints.Localization")
@dataclass(frozen=True, eq=False)
class Localization:
    """Where a photograph was taken; falsy if that is not certain enough.

    Parameters
    ----------
    pose : Geometry
        cam_from_world, the world being the map's; there is none unless localized.
    camera : Camera
        With which the pose was found.
    inliers : int
        Points of the map that the pose explains, each once.
    matches : int
        Points of the map that the query seemed to show.
    log_nfa : float
        log10 of the number of poses with so many inliers that chance would give: the confidence; lower is surer.
    images : tuple of str
        The map's images that look most like the query, best first.
    reason : str
        Why it is not localized; empty if it is.
    observations : (M, 2) int32
        The rows of the keypoints that agree with the pose, and the numbers of the map's points that they show.

    Examples
    --------
    >>> import math
    >>> import numpy as np
    >>> import tiepoints as tp
    >>> from tiepoints.geometry import Geometry
    >>> from tiepoints.tasks import Localization
    >>> none, camera = Geometry("absolute_pose", None, np.zeros(9, bool)), tp.Camera.from_focal(500, (640, 480))
    >>> Localization(none, camera, 0, 9, math.inf, reason="no pose fits the matches")
    Localization(not localized: no pose fits the matches)
    """

    pose: Geometry
    camera: Camera
    inliers: int
    matches: int
    log_nfa: float
    images: tuple[str, ...] = field(default=())
    reason: str = ""
    observations: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 2), np.int32))

    def __bool__(self) -> bool:
        return bool(self.pose)

    def __repr__(self) -> str:
        what = f"{self.inliers} of {counted(self.matches, 'point')}" if self else f"not localized: {self.reason}"
        return f"Localization({what})"

    @property
    def quaternion(self) -> tuple[float, float, float, float]:
        """(qw, qx, qy, qz) of the rotation from world to camera, qw >= 0.

        Raises
        ------
        InvalidInputError
            If it is not localized.
        """
        if self.pose.rotation is None:
            raise InvalidInputError(f"there is no pose: {self.reason}")
        return _quaternion(self.pose.rotation)


class Localizer:
    """Answers queries in a map; the map is only read, by any number of processes at once.

    Parameters
    ----------
    folder : path or Map
        A map that `build_map` or ``tiepoints map`` made.
    top : int
        How many of the map's images a query is matched with.
    threshold : float
        Inlier threshold in pixels.

    Raises
    ------
    StorageError
        If there is no map, or it is damaged.

    Examples
    --------
    >>> localizer = Localizer("map/")                          # doctest: +SKIP
    >>> localizer(tp.read("query.jpg"), camera).pose.center    # doctest: +SKIP
    """

    def __init__(self, folder: PathLike | Map, *, top: int = 20, threshold: float = 6.0) -> None:
        self.map = folder if isinstance(folder, Map) else read_map(folder)
        self.top = count(top, "top", least=1)
        self.threshold = number(threshold, "threshold", above=0)
        self._extractor = load(self.map.extractor, **self.map.options) if self.map.extractor else None

    @property
    def extractor(self) -> Extractor:
        """What finds the features of queries.

        Raises
        ------
        InvalidInputError
            If the map was made from another program's features.
        """
        if self._extractor is None:
            raise InvalidInputError(
                f"{self.map.folder}: this map was made from another program's features: give those of the queries too, "
                "or make it with the extractor that finds the same"
            )
        return self._extractor

    def __call__(self, image: Any, camera: Camera | None = None, *, mask: Any = None) -> Localization:
        """Localize one photograph.

        Parameters
        ----------
        image : as extractors take them
            The pose is that of the upright image for a file, and of the pixels that are given for an array.
        camera : Camera, optional
            Of that image. Without one the map's camera is used for an image of the same size, or focal lengths are
            tried.
        mask : optional
            As extractors take it.

        Raises
        ------
        InvalidInputError
            If the camera's size is not the image's.
        """
        return self.localize(self.extractor(image, mask), camera)

    def with_threads(self, count: int) -> Localizer:
        """The same map with the extractor's own threads limited."""
        other = copy.copy(self)
        other._extractor = None if self._extractor is None else self._extractor.with_threads(count)
        return other

    def describe(self) -> dict[str, Any]:
        """What poses depend on: the content of the map, and the options."""
        return {"map": self.map.version, "top": self.top, "threshold": self.threshold}

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self.map.folder.absolute(), self.top, self.threshold)

    def localize(self, features: Features, camera: Camera | None = None) -> Localization:
        """The same for features, which the map's extractor found."""
        width, height = features.image_size
        if camera is not None and (camera.width, camera.height) != (width, height):
            raise InvalidInputError(
                f"the camera is of {camera.width}x{camera.height} pixels, but the image has {width}x{height}"
            )
        vector = self.map.vocabulary(features)
        nearest, _ = nearest_images(vector[None], self.map.vectors, self.top)
        images = tuple(self.map.names[i] for i in nearest[0])
        rows, points = self._correspondences(features, nearest[0])
        if camera is None:
            camera = self.map.cameras.get((width, height))
        pixels, world = features.keypoints[rows], self.map.xyz[points]
        if camera is not None:
            tried, known = 1, camera
            pose = absolute_pose(
                pixels, world, known, threshold=self.threshold, min_inliers=4, max_iterations=_ITERATIONS
            )
        else:
            tried = len(_FOCALS) + 2 * len(_FINER)
            pose, known = _with_unknown_focal(pixels, world, (width, height), self.threshold)
        every = len(np.unique(points))
        none = Geometry("absolute_pose", None, np.zeros(len(rows), bool))
        if not pose:
            reason = (
                "too few of its keypoints look like points of the map" if every < 12 else "no pose fits the matches"
            )
            return Localization(none, known, 0, every, math.inf, images, reason)
        inliers = len(np.unique(points[pose.inliers]))
        log_nfa = _log_nfa(inliers, len(rows), self.threshold, (width, height), tried)
        if log_nfa > _LOG_NFA:
            reason = f"{counted(inliers, 'inlier')} of {counted(every, 'matched point')}: no more than chance may give"
            return Localization(none, known, inliers, every, log_nfa, images, reason)
        seen = np.stack([rows, points], axis=1)[pose.inliers].astype(np.int32)
        return Localization(pose, known, inliers, every, log_nfa, images, observations=seen)

    def _correspondences(
        self, features: Features, images: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the query's keypoints and the points that they may show, each pair once."""
        found = [np.zeros((0, 2), np.int64)]
        for image in images.tolist():
            rows = self.map.rows(image)
            matches = match(features, rows.features, **self.map.matching)
            found.append(np.stack([matches.indices[:, 0], rows.points[matches.indices[:, 1]]], axis=1).astype(np.int64))
        pairs, votes = np.unique(np.concatenate(found), axis=0, return_counts=True)
        # One keypoint shows one point: the one that most images vote for.
        order = np.lexsort((-votes, pairs[:, 0]))
        first = np.unique(pairs[order, 0], return_index=True)[1]
        kept = pairs[order[first]]
        return kept[:, 0], kept[:, 1]


def _opened(folder: Path, top: int, threshold: float) -> Localizer:
    """A localizer in another process; each opens a map once."""
    return Localizer(folder, top=top, threshold=threshold)


class Localize(Step):
    """Localize one photograph of many, in the frame of its stored pixels, as COLMAP and hloc have it.

    Parameters
    ----------
    localizer : Localizer
    cameras : mapping of str to Camera, optional
        Known cameras by the photographs' names, of the stored pixels.
    focal : float, optional
        Focal length in pixels of the others.

    Examples
    --------
    >>> from tiepoints.collection import Collection, run
    >>> from tiepoints.tasks import Localize, Localizer
    >>> found = run(Localize(Localizer("map/")), Collection.from_folder("queries/"))    # doctest: +SKIP
    """

    def __init__(
        self, localizer: Localizer, *, cameras: Mapping[str, Camera] | None = None, focal: float | None = None
    ) -> None:
        self.localizer = localizer
        self.cameras = dict(cameras or {})
        self.focal = None if focal is None else number(focal, "focal", above=0)

    def __call__(self, photograph: Photograph, features: Features | None = None) -> Localization:
        """The pose of a photograph; its features where it has them already, of the upright image."""
        if features is None:
            features = self.localizer.extractor(photograph.read(), photograph.read_mask())
        stored = stored_features(features, photograph.header.orientation)
        camera = self.cameras.get(photograph.name)
        if camera is None and self.focal is not None:
            camera = Camera.from_focal(self.focal, stored.image_size)
        return self.localizer.localize(stored, camera)

    def memory(self, *inputs: Any) -> int:
        """Bytes for the extraction; the map is shared."""
        extractor = self.localizer._extractor
        return 0 if extractor is None else memory_of(extractor, inputs[0].header.size)

    def with_threads(self, count: int) -> Localize:
        """The same with the extractor's own threads limited."""
        return Localize(self.localizer.with_threads(count), cameras=self.cameras, focal=self.focal)


def _with_unknown_focal(
    pixels: NDArray[np.float32], world: NDArray[np.float64], size: tuple[int, int], threshold: float
) -> tuple[Geometry, Camera]:
    """The pose and the focal length that explain the matches best: tried one by one, then ever nearer to the best."""

    def attempt(focal: float) -> tuple[float, float, Geometry, Camera]:
        camera = Camera.from_focal(focal, size, known=False)
        pose = absolute_pose(pixels, world, camera, threshold=threshold, min_inliers=4, max_iterations=_ITERATIONS // 4)
        return _truncated(pose, camera, pixels, world, threshold), focal, pose, camera

    best = max((attempt(share * max(size)) for share in _FOCALS), key=lambda one: one[0])
    agree = int(np.count_nonzero(best[2].inliers))
    if _log_nfa(agree, len(pixels), threshold, size, len(_FOCALS)) > 0:
        return best[2], best[3]  # all of it may be chance: a photograph of something else
    for factor in _FINER:
        best = max(best, attempt(best[1] * factor), attempt(best[1] / factor), key=lambda one: one[0])
    return best[2], best[3]


def _truncated(
    pose: Geometry, camera: Camera, pixels: NDArray[np.float32], world: NDArray[np.float64], threshold: float
) -> float:
    """How well a pose explains the matches, by a pinhole camera: sum of 1 - (error / threshold)^2 over the inliers, as
    MSAC (Torr and Zisserman 2000) weighs them.
    """
    if pose.rotation is None or pose.translation is None:
        return 0.0
    seen = (world[pose.inliers] @ pose.rotation.T + pose.translation) @ camera.matrix.T
    errors = np.linalg.norm(seen[:, :2] / seen[:, 2:] - pixels[pose.inliers], axis=1)
    return float(np.maximum(1 - (errors / threshold) ** 2, 0).sum())


def _log_nfa(inliers: int, pairs: int, threshold: float, size: tuple[int, int], models: int) -> float:
    """log10 of the expected number of poses with so many inliers among random pairs of pixels and points.

    As `tiepoints.geometry` counts for two views (Moisan and Stival 2004): a sample of three pairs gives up to four
    poses, and a random point is projected within the threshold of its pixel with the share of the image that a disc of
    that radius takes.
    """
    if inliers <= 3:
        return math.inf
    p = math.pi * threshold**2 / (size[0] * size[1])
    return log_expected(pairs, inliers, 3, 4 * models, p)


def _quaternion(rotation: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Of a rotation matrix, by the largest of its four components (Shepperd 1978)."""
    m = rotation
    t = np.array([m.trace(), m[0, 0], m[1, 1], m[2, 2]])
    k = int(t.argmax())
    if k == 0:
        q = np.array([1 + t[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]])
    else:
        a, b, c = k - 1, k % 3, (k + 1) % 3
        q = np.zeros(4)
        q[0] = m[c, b] - m[b, c]
        q[1 + a] = 1 + m[a, a] - m[b, b] - m[c, c]
        q[1 + b] = m[b, a] + m[a, b]
        q[1 + c] = m[c, a] + m[a, c]
    q /= np.linalg.norm(q)
    q = -q if q[0] < 0 else q
    return float(q[0]), float(q[1]), float(q[2]), float(q[3])


def write_poses(path: PathLike, found: Mapping[str, Localization]) -> None:
    """Write the poses of what is localized as hloc does: name qw qx qy qz tx ty tz, from world to camera.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    from ..files import write_whole

    lines = []
    for name, one in found.items():
        if one and one.pose.translation is not None:
            numbers = (*one.quaternion, *one.pose.translation.tolist())
            lines.append(" ".join([name, *(f"{value:.17g}" for value in numbers)]))
    write_whole(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
