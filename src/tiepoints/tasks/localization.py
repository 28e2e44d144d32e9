"""Visual localization: where was a photograph taken, in a map made of others?

Retrieval picks map images that show the same place, local features are matched with theirs, which gives points of the
map for the query's keypoints, and PnP with RANSAC gives the camera's pose (the structure-based localization of Sattler,
Leibe and Kobbelt, ICCV 2011, with the retrieval of Sarlin, Cadena, Siegwart and Dymczyk, CVPR 2019).
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from ..camera import Camera, as_camera
from ..checks import count, flag, number
from ..collection import Photograph, Step, register
from ..collection.orientation import opposite, stored_features
from ..collection.retrieval import nearest_images
from ..collection.stages import memory_of
from ..collection.steps import weights_of
from ..decode import turned
from ..errors import InvalidInputError, StorageError, counted
from ..extraction import Extractor, load
from ..extraction.inputs import mask_for
from ..features import Features
from ..files import PathLike, forms
from ..geometry import Geometry, absolute_pose
from ..geometry.chance import log_expected
from ..geometry.refinement import refined_pose
from ..images import as_image, read, to_grey
from ..matching import match
from .alignment import align_query
from .maps import Map, read_map
from .poses import Localization

__all__ = ["Localize", "Localizer"]

register("tiepoints.Camera")(Camera)

# Focal lengths that are tried where it is not known, as shares of the long edge: from wide angle to tele. Ours.
_FOCALS = (0.55, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0)
_FINER = (1.09, 1.03, 1.01)  # the best one is then moved up and down by these factors in turn
# Samples drawn at most: 8 good ones where a tenth are inliers. Queries from elsewhere draw all.
_ITERATIONS = 8000
# A pose is accepted where unrelated images give one with so many inliers in less than 10^-10 of the cases. Ours,
# chosen on lund_door and fox: right poses are below -20, wrong ones above -5.
_LOG_NFA = -10.0
# Pixels: the scale of the Cauchy loss of aligned keypoints, as in the map's own last adjustment; and how many there are
# at least. Ours.
_NOISE, _ALIGNED = 0.25, 12
_MOST_ALIGNED = 2000  # .05 ms each. Ours; with 600 centres on lund_door were further off by a half


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
    align : bool
        Whether keypoints are moved to where the query shows what the map's points look like, before the pose is refined
        once more: see `alignment.align_query`. Not without the query's image, and not in maps without patches.

    Raises
    ------
    StorageError
        If there is no map, it is damaged, or its extractor had other weights.

    Examples
    --------
    >>> localizer = Localizer("map/")                          # doctest: +SKIP
    >>> localizer(tp.read("query.jpg"), camera).pose.center    # doctest: +SKIP
    """

    def __init__(self, folder: PathLike | Map, *, top: int = 20, threshold: float = 6.0, align: bool = True) -> None:
        self.map = folder if isinstance(folder, Map) else read_map(folder)
        self.top = count(top, "top", least=1)
        self.threshold = number(threshold, "threshold", above=0)
        self.align = flag(align, "align")
        self._extractor = load(self.map.extractor, **self.map.options) if self.map.extractor else None
        if self._extractor is not None and [*self.map.weights] != weights_of(self._extractor):
            raise StorageError(
                f"{self.map.folder}: this map was made with other weights of {self.map.extractor}, whose descriptors "
                "match no query's: make it anew with `tiepoints map`"
            )

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

    def __call__(self, image: Any, camera: Camera | ArrayLike | None = None, *, mask: Any = None) -> Localization:
        """Localize one photograph.

        Parameters
        ----------
        image : as extractors take them
            The pose is that of the upright image for a file, and of the pixels that are given for an array.
        camera : Camera or (3, 3) array, optional
            Of that image, or its calibration matrix. Without one the map's camera is used for an image of the same
            size, or focal lengths are tried.
        mask : optional
            As extractors take it.

        Returns
        -------
        found : Localization
            Falsy where it is not localized; it says why.

        Raises
        ------
        InvalidInputError
            If the camera's size is not the image's.
        """
        kept = mask_for(mask, image)
        if isinstance(image, str | os.PathLike):
            image = read(image)
        return self.localize(self.extractor(image, kept), camera, lambda: to_grey(as_image(image)))

    def with_threads(self, count: int) -> Localizer:
        """The same map with the extractor's own threads limited."""
        other = copy.copy(self)
        other._extractor = None if self._extractor is None else self._extractor.with_threads(count)
        return other

    def describe(self) -> dict[str, Any]:
        """What poses depend on: the content of the map, and the options."""
        return {"map": self.map.version, "top": self.top, "threshold": self.threshold, "align": self.align}

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self.map.folder.absolute(), self.top, self.threshold, self.align)

    def localize(
        self,
        features: Features,
        camera: Camera | ArrayLike | None = None,
        grey: Callable[[], NDArray[np.uint8]] | None = None,
    ) -> Localization:
        """The same for features, which the map's extractor found.

        Parameters
        ----------
        features : Features
        camera : Camera or (3, 3) array, optional
        grey : callable, optional
            Gives the grey image (H, W) uint8 that the features are of; it is asked for where there is a pose.

        Returns
        -------
        found : Localization
        """
        width, height = features.image_size
        given = None if camera is None else as_camera(camera, "the camera", features.image_size)
        vector = self.map.vocabulary(features)
        nearest, _ = nearest_images(vector[None], self.map.vectors, self.top, self.map.vocabulary)
        images = tuple(self.map.names[i] for i in nearest[0])
        rows, points = self._correspondences(features, nearest[0])
        camera = given or self.map.cameras.get((width, height))
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
        if self.align and grey is not None and self.map.patches is not None and pose.matrix is not None:
            some = np.flatnonzero(pose.inliers)
            some = some[np.linspace(0, len(some) - 1, min(len(some), _MOST_ALIGNED)).astype(np.int64)]
            first = np.asarray(pixels[some], np.float64)
            patches = self.map.patches.of(points[some])
            placed, good = align_query(grey(), known, pose.matrix, first, world[some], patches)
            if np.count_nonzero(good) >= _ALIGNED:
                pose = refined_pose(pose, placed, world[some], known, _NOISE)
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


def _opened(folder: Path, top: int, threshold: float, align: bool) -> Localizer:
    """A localizer in another process; each opens a map once."""
    return Localizer(folder, top=top, threshold=threshold, align=align)


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
        checks.present(localizer, "localizer")
        self.localizer = localizer
        self.cameras = dict(cameras or {})
        self.focal = None if focal is None else number(focal, "focal", above=0)

    def __call__(self, photograph: Photograph, features: Features | None = None) -> Localization:
        """The pose of a photograph; its features where it has them already, of the upright image."""
        orientation, grey = photograph.header.orientation, photograph.read_stored
        if features is None:
            upright = photograph.read()
            features = self.localizer.extractor(upright, photograph.read_mask())

            def grey() -> NDArray[np.uint8]:  # without reading it once more
                return to_grey(turned(upright, opposite(orientation)))

        stored = stored_features(features, orientation)
        camera = next((self.cameras[name] for name in forms(photograph.name) if name in self.cameras), None)
        if camera is None and self.focal is not None:
            camera = Camera.from_focal(self.focal, stored.image_size)
        return self.localizer.localize(stored, camera, grey)

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
