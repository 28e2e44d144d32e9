"""What the methods that OpenCV computes have in common: its key points to arrays and back."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["to_arrays"]


def to_arrays(points: Sequence[cv2.KeyPoint]) -> NDArray[np.float32]:
    """OpenCV's key points as rows [x, y, size, angle in radians, response]; (N, 5) float32.

    OpenCV gives angles in degrees, clockwise as seen (x right, y down), which is our sense too; -1 means none.
    """
    rows = np.array([(*p.pt, p.size, p.angle, p.response) for p in points], np.float32).reshape(-1, 5)
    rows[:, 3] = np.deg2rad(rows[:, 3])
    return rows
