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

__all__ = ["AKAZE"]


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
        descriptor_type="binary",
    )

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

    def _detect(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Detections:
        assert self._create is not None
        points, raw = self._create(threshold=self.threshold).detectAndCompute(image, mask)
        rows = to_arrays(points)
        descriptors = np.zeros((0, 61), np.uint8) if raw is None else np.asarray(raw, np.uint8)
        return Detections(rows[:, :2], descriptors, rows[:, 4], scales=rows[:, 2], angles=rows[:, 3])
