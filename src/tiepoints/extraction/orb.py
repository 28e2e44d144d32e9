"""ORB: the fast binary method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..features.interop import to_arrays
from .base import Detections, Extractor, Metadata

__all__ = ["ORB"]

_MORE = (4, 32)  # times as many keypoints as asked for are searched, where levels lack some
_SHARED = 256  # of so many each level has some


class ORB(Extractor):
    """ORB by OpenCV: FAST corners on a pyramid with rotated BRIEF descriptors, 256 bits.

    Parameters
    ----------
    levels : int
        Levels of the image pyramid, 1 to 64; no more than the image has room for.
    scale_factor : float
        Ratio between them, above 1, at most 16.
    fast_threshold : int
        Least difference of grey levels around a FAST corner, 0 to 255.
    **options
        Those of `Extractor`.
    """

    metadata: ClassVar[Metadata] = Metadata(
        name="orb",
        summary="ORB: binary and very fast",
        paper="Rublee et al., ORB: An Efficient Alternative to SIFT or SURF, ICCV 2011",
        code_licence="Apache-2.0",  # OpenCV's
        descriptor_size=256,
        rotation_invariant=True,
        descriptor_type="binary",
        subpixel=False,
    )

    version: ClassVar[int] = 3  # 3: as many as asked for, if there are
    bytes_per_pixel: ClassVar[int] = 10

    def __init__(self, *, levels: int = 8, scale_factor: float = 1.2, fast_threshold: int = 20, **options: Any) -> None:
        super().__init__(**options)
        # OpenCV ends the process at 0 levels, and believes any number of them.
        self.levels = checks.count(levels, "levels", least=1, most=64)
        self.scale_factor = checks.number(scale_factor, "scale_factor", above=1, most=16)
        self.fast_threshold = checks.count(fast_threshold, "fast_threshold", most=255)

    def _detect(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Detections:
        # OpenCV fails on levels of less than a pixel, and sets memory aside for as many keypoints as are asked for.
        room = 1 + math.floor(math.log(min(image.shape)) / math.log(self.scale_factor))
        levels = min(self.levels, room)
        points, descriptors = self._searched(image, mask, levels)
        rows = to_arrays(points)
        octaves = np.array([point.octave for point in points], int)
        keypoints = self._refined(rows[:, :2], octaves, (image.shape[1], image.shape[0]))
        return Detections(keypoints, descriptors, rows[:, 4], scales=rows[:, 2], angles=rows[:, 3])

    def _searched(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None, levels: int
    ) -> tuple[list[cv2.KeyPoint], NDArray[np.uint8]]:
        """As many as asked for, if there are.

        In OpenCV each level has a share of them, and what one lacks is lost. So more are asked for, and the best of
        those that this brings take the places that stayed empty.
        """
        first, descriptors = more, others = self._found(image, mask, self.max_keypoints, levels)
        for times in _MORE:
            if len(more) >= self.max_keypoints:
                break
            before, (more, others) = len(more), self._found(image, mask, times * self.max_keypoints, levels)
            if len(more) == before and self.max_keypoints >= _SHARED:
                break
        known = {(point.pt, point.octave) for point in first}
        new = [row for row, point in enumerate(more) if (point.pt, point.octave) not in known]
        new = sorted(new, key=lambda row: -more[row].response)[: max(0, self.max_keypoints - len(first))]
        return [*first, *(more[row] for row in new)], np.concatenate([descriptors, others[new]])

    def _found(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None, count: int, levels: int
    ) -> tuple[Sequence[cv2.KeyPoint], NDArray[np.uint8]]:
        detector = cv2.ORB.create(
            nfeatures=min(count, image.size),
            scaleFactor=self.scale_factor,
            nlevels=levels,
            fastThreshold=self.fast_threshold,
        )
        points, descriptors = detector.detectAndCompute(image, mask)
        return points, np.zeros((0, 32), np.uint8) if descriptors is None else np.asarray(descriptors, np.uint8)

    def _refined(
        self, keypoints: NDArray[np.float32], octaves: NDArray[np.int_], size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Undo OpenCV's two short cuts, which together put its keypoints up to a pixel off.

        It multiplies a level's coordinates k by the nominal scale s. But a level has a whole number of pixels, so its
        true scale is t = image size / level size, and between pixel centres k' = (k + 0.5) t - 0.5.
        """
        nominal = self.scale_factor ** octaves[:, None].astype(np.float64)
        level_size = np.rint(np.array(size) / nominal)
        return np.asarray((keypoints / nominal + 0.5) * (np.array(size) / level_size) - 0.5, np.float32)
