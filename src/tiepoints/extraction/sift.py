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
from .tiles import largest, tiles

__all__ = ["SIFT", "RootSIFT", "UprightRootSIFT", "UprightSIFT"]

Rows = NDArray[np.float32]

#: Larger images are searched in tiles, pixels: up to it the pyramid takes less than 1.5 GB.
WHOLE = 6_400_000
_TILE, _MARGIN, _QUARTER = 1536, 192, 4
_LARGE = _MARGIN / (3 / 2 * np.sqrt(2) * 5 / 2)  # a keypoint whose descriptor needs the whole margin (Lowe 2004, 6.1)
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
        rotation_invariant=True,
    )
    version: ClassVar[int] = 3  # 3: the mask of large keypoints in large images lay 1.5 pixels off
    bytes_per_pixel: ClassVar[int] = 235
    #: Hellinger kernel: square roots of the L1-normalised descriptor (Arandjelovic and Zisserman 2012, section 3).
    root: ClassVar[bool] = False
    #: Ignore orientation: better where the camera stays level, useless where it rolls.
    upright: ClassVar[bool] = False

    def __init__(self, *, contrast_threshold: float = 0.04, edge_threshold: float = 10.0, **options: Any) -> None:
        super().__init__(**options)
        self.contrast_threshold = checks.number(contrast_threshold, "contrast_threshold", least=0)
        self.edge_threshold = checks.number(edge_threshold, "edge_threshold", above=0)

    def pixels_at_once(self, width: int, height: int) -> int:
        whole = width * height <= WHOLE
        return width * height if whole else largest(height, width, edge=_TILE, margin=_MARGIN, stride=64)

    def _detect(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Detections:
        rows, raw = self._whole(image, mask) if image.size <= WHOLE else self._in_tiles(image, mask)
        return Detections(rows[:, :2], root_of(raw, root=self.root), rows[:, 4], scales=rows[:, 2], angles=rows[:, 3])

    def _in_tiles(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> tuple[Rows, Rows]:
        """Small keypoints tile by tile, large ones in the image at a quarter of its size.

        The pyramid of a whole image begins at twice its size and takes some 230 bytes for a pixel: 5.6 GB for 24
        megapixels. What a tile's margin holds describes its keypoints as in the whole image.
        """
        parts: list[tuple[Rows, Rows]] = []
        least = 0.0  # what the best so far have: others need no description
        for tile in tiles(*image.shape[:2], edge=_TILE, margin=_MARGIN, stride=64):
            own = None if mask is None else np.ascontiguousarray(mask[tile.outer])
            rows, raw = self._whole(np.ascontiguousarray(image[tile.outer]), own, least)
            keep = tile.own(rows[:, :2]) & (rows[:, 2] <= _LARGE)
            parts.append((rows[keep], raw[keep]))
            responses = np.sort(np.concatenate([part[0][:, 4] for part in parts]))
            least = float(responses[-self.max_keypoints]) if len(responses) >= self.max_keypoints else 0.0
        size = (round(image.shape[1] / _QUARTER), round(image.shape[0] / _QUARTER))
        small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        # Not INTER_NEAREST, which takes the corner of each block instead of its middle.
        exact = cv2.INTER_NEAREST_EXACT
        own = None if mask is None else np.asarray(cv2.resize(mask, size, interpolation=exact), np.uint8)
        rows, raw = self._whole(small, own)
        scale = np.divide(image.shape[1::-1], size).astype(np.float32)
        rows[:, :2] = (rows[:, :2] + 0.5) * scale - 0.5
        rows[:, 2] *= np.sqrt(scale.prod())
        parts.append((rows[rows[:, 2] > _LARGE], raw[rows[:, 2] > _LARGE]))
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _whole(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None, least: float = 0.0) -> tuple[Rows, Rows]:
        """(N, 5) as `to_arrays` returns them, and (N, 128) descriptors, of the best keypoints of an image."""
        # Without enable_precise_upscale OpenCV's keypoints lie about 0.23 px off. One detector a call: OpenCV's objects
        # are not safe to share between threads, and making one costs microseconds. Upright drops some of the keypoints,
        # so the best are picked afterwards there; elsewhere OpenCV does so before it describes them, which is cheaper.
        # But it does so before it looks at the mask, and then finds fewer.
        ours = self.upright or mask is not None
        detector = cv2.SIFT.create(
            nfeatures=0 if ours else self.max_keypoints,
            contrastThreshold=self.contrast_threshold,
            edgeThreshold=self.edge_threshold,
            enable_precise_upscale=True,
        )
        points: Sequence[cv2.KeyPoint]
        if ours:
            found = [point for point in detector.detect(image, mask) if point.response >= least]
            best = sorted(_upright(found) if self.upright else found, key=lambda point: -point.response)
            points, raw = detector.compute(image, best[: self.max_keypoints])
        else:
            points, raw = detector.detectAndCompute(image, mask)
        return to_arrays(points), np.zeros((0, 128), np.float32) if raw is None else np.asarray(raw, np.float32)


class RootSIFT(SIFT):
    """SIFT with the Hellinger kernel: the same keypoints, better matches at no cost."""

    metadata: ClassVar[Metadata] = Metadata(
        name="rootsift",
        summary="SIFT compared by the Hellinger kernel: better matches at no cost",
        paper=_ROOT,
        code_licence=SIFT.metadata.code_licence,
        descriptor_size=128,
        rotation_invariant=True,
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


def _upright(points: Sequence[cv2.KeyPoint]) -> list[cv2.KeyPoint]:
    """The key points with angle 0, each place and size once."""
    unique: dict[tuple[float, ...], cv2.KeyPoint] = {}
    for point in points:
        point.angle = 0.0
        unique.setdefault((*point.pt, point.size), point)
    return list(unique.values())


def root_of(descriptors: NDArray[np.float32], *, root: bool) -> NDArray[np.float32]:
    """Unit length by L2; RootSIFT: square roots of the L1-normalised vector, which has unit length by itself."""
    if root:
        total = np.maximum(descriptors.sum(axis=1, keepdims=True), np.float32(1e-12))
        return np.asarray(np.sqrt(descriptors / total), np.float32)
    norm = np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), np.float32(1e-12))
    return np.asarray(descriptors / norm, np.float32)
