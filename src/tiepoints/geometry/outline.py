"""Where the outline of one image lies in another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .residuals import project
from .results import Geometry

__all__ = ["corners"]


def corners(model: Geometry, image_size: tuple[int, int]) -> NDArray[np.float64] | None:
    """Where a homography puts the corners of image a in image b.

    Parameters
    ----------
    model : Geometry
        A homography.
    image_size : (int, int)
        (width, height) of image a.

    Returns
    -------
    corners : (4, 2) float64 or None
        [x, y] of the centres of the corner pixels: top left, top right, bottom right, bottom left of image a. None
        without a homography, or where a corner lies at or beyond the horizon.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.geometry import Geometry, corners
    >>> corners(Geometry("homography", np.diag([2.0, 2.0, 1.0]), []), (10, 10)).tolist()
    [[0.0, 0.0], [18.0, 0.0], [18.0, 18.0], [0.0, 18.0]]
    """
    if model.matrix is None or model.kind != "homography":
        return None
    right, bottom = image_size[0] - 1, image_size[1] - 1
    ends = np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], np.float64)
    depth = ends @ model.matrix[2, :2] + model.matrix[2, 2]
    if np.abs(depth).min() < 1e-9 * np.abs(depth).max() or np.ptp(np.sign(depth)) > 0:
        return None
    return project(model.matrix, ends)
