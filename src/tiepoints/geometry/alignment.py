"""The similarity that moves one set of points onto another best."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InvalidInputError

__all__ = ["Similarity", "similarity"]

Float64 = NDArray[np.float64]


class Similarity(NamedTuple):
    """y = scale * R @ x + t.

    Parameters
    ----------
    R : (3, 3) float64
    t : (3,) float64
    scale : float
    """

    R: Float64
    t: Float64
    scale: float

    def __call__(self, points: ArrayLike) -> Float64:
        """Move points (N, 3)."""
        return np.asarray(self.scale * np.asarray(points, np.float64) @ self.R.T + self.t)


def similarity(source: ArrayLike, target: ArrayLike, *, with_scale: bool = True) -> Similarity | None:
    """The similarity (or rigid motion) with the least squared distances between the moved points and their targets.

    Umeyama, PAMI 1991, equations 34 to 43.

    Parameters
    ----------
    source, target : (N, 3) array
        Finite; row i of `source` belongs to row i of `target`.
    with_scale : bool
        False leaves the scale at 1.

    Returns
    -------
    target_from_source : Similarity or None
        None where no rotation is the best one: all points of either set lie on a spot or a line.

    Raises
    ------
    InvalidInputError
        For other shapes, or numbers that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.geometry.alignment import similarity
    >>> points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    >>> found = similarity(points, 2 * points + [5, 0, 0])
    >>> round(found.scale, 6), found.t.round(6).tolist()
    (2.0, [5.0, 0.0, 0.0])
    """
    x, y = (np.asarray(points, dtype=np.float64) for points in (source, target))
    if x.shape != y.shape or x.ndim != 2 or x.shape[1] != 3:
        raise InvalidInputError(f"points have shapes {x.shape} and {y.shape}, but (N, 3) is expected twice")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InvalidInputError("points to align must be finite")
    if len(x) < 2:
        return None
    # Brought to the unit size first: squares of large coordinates would overflow, and LAPACK hangs on what is infinite.
    unit_x, unit_y = (max(float(np.abs(points).max()), np.finfo(float).tiny) for points in (x, y))
    mean_x, mean_y = (x / unit_x).mean(axis=0), (y / unit_y).mean(axis=0)
    a, b = x / unit_x - mean_x, y / unit_y - mean_y
    u, singular, vt = np.linalg.svd(b.T @ a)
    if not singular[1] > 1e-12 * singular[0]:
        return None
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    R = (u * sign) @ vt
    with np.errstate(over="ignore"):
        scale = float((singular * sign).sum() / (a**2).sum() * (unit_y / unit_x)) if with_scale else 1.0
        t = mean_y * unit_y - scale * unit_x * (R @ mean_x)
    return Similarity(R, t, scale) if np.isfinite(scale) and np.isfinite(t).all() else None
