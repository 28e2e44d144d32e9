"""AKAZE: binary features in a nonlinear scale space."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import MissingDependencyError
from ..features.interop import to_arrays
from .base import Detections, Extractor, Metadata
from .tiles import largest, tiles

__all__ = ["AKAZE"]

# Larger images are searched in tiles, pixels: up to it the scale space takes 1.1 GB. The margin holds what describes
# nearly every keypoint; of 6 and 24 megapixels 97 to 99 of 100 keypoints are the same as without tiles.
_WHOLE, _TILES = 10_000_000, {"edge": 3072, "margin": 256, "stride": 64}


class AKAZE(Extractor):
    """AKAZE by OpenCV with its M-LDB descriptor, 486 bits in 61 bytes.

    Parameters
    ----------
    threshold : float
        Least response of a keypoint. Lower it to get more keypoints.
    **options
        Those of `Extractor`.

    Raises
    ------
    MissingDependencyError
        If the installed OpenCV is a build without AKAZE.
    """

    metadata: ClassVar[Metadata] = Metadata(
        name="akaze",
        summary="AKAZE: binary, keeps edges sharp across scales",
        paper="Alcantarilla, Nuevo and Bartoli, Fast Explicit Diffusion for Accelerated Features, BMVC 2013",
        code_licence="Apache-2.0",  # OpenCV's
        descriptor_size=486,
        rotation_invariant=True,
        descriptor_type="binary",
    )

    version: ClassVar[int] = 2  # 2: large images in tiles
    bytes_per_pixel: ClassVar[int] = 107

    def __init__(self, *, threshold: float = 1e-3, **options: Any) -> None:
        super().__init__(**options)
        self.threshold = checks.number(threshold, "threshold", least=0)
        # OpenCV 5 keeps AKAZE in the contributed modules only.
        home = cv2 if hasattr(cv2, "AKAZE_create") else getattr(cv2, "xfeatures2d", None)
        self._create = getattr(home, "AKAZE_create", None)
        if self._create is None:
            raise MissingDependencyError(
                f"akaze is not in this build of OpenCV {cv2.__version__}; another package replaced ours: "
                "pip install --force-reinstall --no-deps opencv-contrib-python-headless"
            )

    def pixels_at_once(self, width: int, height: int) -> int:
        return width * height if width * height <= _WHOLE else largest(height, width, **_TILES)

    def _detect(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Detections:
        if image.size <= _WHOLE:
            rows, raw = self._found(image, mask)
        else:
            parts = []
            for tile in tiles(*image.shape[:2], **_TILES):
                own = None if mask is None else np.ascontiguousarray(mask[tile.outer])
                rows, raw = self._found(np.ascontiguousarray(image[tile.outer]), own)
                keep = tile.own(rows[:, :2])
                parts.append((rows[keep], raw[keep]))
            rows, raw = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        return Detections(rows[:, :2], raw, rows[:, 4], scales=rows[:, 2], angles=rows[:, 3])

    def _found(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """(N, 5) as `to_arrays` returns them, and (N, 61) descriptors."""
        assert self._create is not None
        points, raw = self._create(threshold=self.threshold).detectAndCompute(image, mask)
        return to_arrays(points), np.zeros((0, 61), np.uint8) if raw is None else np.asarray(raw, np.uint8)
