"""SIFT and its two usual improvements: RootSIFT's descriptor, and upright keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..features.interop import to_arrays
from .base import Detections, Extractor, Metadata

__all__ = ["SIFT", "RootSIFT", "UprightRootSIFT", "UprightSIFT"]

_LOWE = "Lowe, Distinctive Image Features from Scale-Invariant Keypoints, IJCV 2004"
_ROOT = "Arandjelovic and Zisserman, Three Things Everyone Should Know to Improve Object Retrieval, CVPR 2012"


class SIFT(Extractor):
    """SIFT by OpenCV: rotation and scale invariant, 128-D. Its patent ended in 2020.

    Parameters
    ----------
    contrast_threshold : float
        Least contrast of a keypoint (Lowe 2004, section 4; OpenCV's scale). Lower it to get more keypoints.
    edge_threshold : float
        Greatest ratio of principal curvatures (Lowe 2004, section 4.1).
    **options
        Those of `Extractor`.
    """

    metadata: ClassVar[Metadata] = Metadata(
        name="sift",
        summary="SIFT: rotation and scale invariant",
        paper=_LOWE,
        code_licence="Apache-2.0",  # OpenCV's
        descriptor_size=128,
    )
    #: Hellinger kernel: square roots of the L1-normalised descriptor (Arandjelovic and Zisserman 2012, section 3).
    root: ClassVar[bool] = False
    #: Ignore orientation: better where the camera stays level, useless where it rolls.
    upright: ClassVar[bool] = False

    def __init__(self, *, contrast_threshold: float = 0.04, edge_threshold: float = 10.0, **options: Any) -> None:
        super().__init__(**options)
        self.contrast_threshold = checks.number(contrast_threshold, "contrast_threshold", least=0)
        self.edge_threshold = checks.number(edge_threshold, "edge_threshold", above=0)

    def _detect(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Detections:
        # Without enable_precise_upscale OpenCV's keypoints lie about 0.23 px off. One detector a call: OpenCV's objects
        # are not safe to share between threads, and making one costs microseconds. Upright drops some of the keypoints,
        # so the best are picked afterwards there; elsewhere OpenCV does so before it describes them, which is cheaper.
        detector = cv2.SIFT.create(
            nfeatures=0 if self.upright else self.max_keypoints,
            contrastThreshold=self.contrast_threshold,
            edgeThreshold=self.edge_threshold,
            enable_precise_upscale=True,
        )
        points: Sequence[cv2.KeyPoint]
        if self.upright:
            points, raw = detector.compute(image, _upright(detector.detect(image, mask), self.max_keypoints))
        else:
            points, raw = detector.detectAndCompute(image, mask)
        rows = to_arrays(points)
        descriptors = np.zeros((0, 128), np.float32) if raw is None else np.asarray(raw, np.float32)
        return Detections(
            rows[:, :2], root_of(descriptors, root=self.root), rows[:, 4], scales=rows[:, 2], angles=rows[:, 3]
        )


class RootSIFT(SIFT):
    """SIFT with the Hellinger kernel: the same keypoints, better matches at no cost."""

    metadata: ClassVar[Metadata] = Metadata(
        name="rootsift",
        summary="SIFT compared by the Hellinger kernel: better matches at no cost",
        paper=_ROOT,
        code_licence=SIFT.metadata.code_licence,
        descriptor_size=128,
    )
    root = True


class UprightSIFT(SIFT):
    """SIFT without orientation, with as many keypoints as asked for.

    Detected with a low contrast threshold; every angle is set to 0, the duplicates that this makes (keypoints that
    differ by their orientation only) are dropped, and then the best are described (the recipe of Jin et al., Image
    Matching across Wide Baselines, IJCV 2021).
    """

    metadata: ClassVar[Metadata] = Metadata(
        name="upright-sift",
        summary="SIFT without orientation: for cameras that stay level",
        paper=_LOWE,
        code_licence=SIFT.metadata.code_licence,
        descriptor_size=128,
    )
    upright = True

    def __init__(self, *, contrast_threshold: float = 1e-3, edge_threshold: float = 10.0, **options: Any) -> None:
        super().__init__(contrast_threshold=contrast_threshold, edge_threshold=edge_threshold, **options)


class UprightRootSIFT(UprightSIFT):
    """Upright-SIFT with the Hellinger kernel."""

    metadata: ClassVar[Metadata] = Metadata(
        name="upright-rootsift",
        summary="RootSIFT without orientation: for cameras that stay level",
        paper=_ROOT,
        code_licence=SIFT.metadata.code_licence,
        descriptor_size=128,
    )
    root = True


def _upright(points: Sequence[cv2.KeyPoint], count: int) -> list[cv2.KeyPoint]:
    """The best `count` key points with angle 0, each place and size once."""
    unique: dict[tuple[float, ...], cv2.KeyPoint] = {}
    for point in points:
        point.angle = 0.0
        unique.setdefault((*point.pt, point.size), point)
    return sorted(unique.values(), key=lambda point: -point.response)[:count]


def root_of(descriptors: NDArray[np.float32], *, root: bool) -> NDArray[np.float32]:
    """Unit length by L2; RootSIFT: square roots of the L1-normalised vector, which has unit length by itself."""
    if root:
        total = np.maximum(descriptors.sum(axis=1, keepdims=True), np.float32(1e-12))
        return np.asarray(np.sqrt(descriptors / total), np.float32)
    norm = np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), np.float32(1e-12))
    return np.asarray(descriptors / norm, np.float32)
