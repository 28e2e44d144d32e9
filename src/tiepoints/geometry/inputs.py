"""What all estimators ask of their input: arrays of the right shape, options in range, points in general position."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from ..errors import InvalidInputError
from ..features import Features, Matches

__all__ = [
    "as_float64",
    "as_points",
    "check_options",
    "correspondences",
    "finite_points",
    "image_size",
    "line_tolerance",
    "median",
    "on_a_line",
    "supported",
    "usable_pixels",
]

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

# No photograph is that large. Beyond it, tenths of a pixel are lost in float32, in which OpenCV computes.
_LARGEST_PIXEL = 1e6


def as_float64(values: ArrayLike, what: str) -> Float64:
    """A float64 array of real numbers, whatever came in; infinite ones too."""
    return checks.array(values, what, finite=False)


def as_points(values: ArrayLike, size: int, what: str) -> Float64:
    """(M, size) float64, C-contiguous."""
    array = as_float64(values, what)
    if array.ndim != 2 or array.shape[1] != size:
        raise InvalidInputError(f"{what} have shape {array.shape}, but (M, {size}) is expected")
    return array


def finite_points(values: ArrayLike, size: int, what: str) -> Float64:
    """(M, size) float64, C-contiguous, finite."""
    array = as_points(values, size, what)
    bad = np.count_nonzero(~np.isfinite(array).all(axis=1))
    if bad:
        raise InvalidInputError(f"{bad} of {len(array)} {what} are not finite")
    return array


def correspondences(
    a: Features | ArrayLike, b: Features | ArrayLike, matches: Matches | None
) -> tuple[Float64, Float64]:
    """The matched points of both images, (M, 2) float64 each, from Features and Matches or from two arrays."""
    if matches is not None and not isinstance(matches, Matches):
        raise InvalidInputError(
            f"matches is {checks.shown(matches)}, but Matches are expected, or None with points that are matched row "
            "by row; what follows them has a name: camera_a=K, camera_b=K, threshold=3.0"
        )
    if isinstance(a, Features) or isinstance(b, Features):
        if not (isinstance(a, Features) and isinstance(b, Features)):
            raise InvalidInputError(f"a is {type(a).__name__} and b is {type(b).__name__}: give two of the same")
        if matches is None:
            raise InvalidInputError(f"features of {len(a)} and {len(b)} keypoints need the matches between them")
        a, b = matches.points(a, b)
    elif matches is not None:
        raise InvalidInputError("matches go with Features; two arrays of points are already matched row by row")
    points_a, points_b = finite_points(a, 2, "points of image a"), finite_points(b, 2, "points of image b")
    if len(points_a) != len(points_b):
        raise InvalidInputError(
            f"{len(points_a)} points in image a but {len(points_b)} in image b: one of each per match is expected"
        )
    return points_a, points_b


def check_options(
    threshold: float, confidence: float, max_iterations: int, min_inliers: int, seed: int, fewest: int
) -> None:
    """Refuse options out of range; `fewest` is how many inliers a model needs before they say anything for it."""
    checks.number(threshold, "threshold", above=0)
    checks.number(confidence, "confidence", above=0, below=1)
    checks.count(max_iterations, "max_iterations", least=1)
    checks.count(seed, "seed")
    checks.count(min_inliers, "min_inliers", least=fewest)


def image_size(features: Features | ArrayLike) -> tuple[int, int] | None:
    """(width, height) of the image that features are of; None for bare points, and where it is not known."""
    return features.image_size if isinstance(features, Features) and min(features.image_size) > 0 else None


def usable_pixels(*points: Float64) -> Mask:
    """(M,) which correspondences lie where an image can be; the others are outliers without being asked."""
    return np.asarray((np.abs(np.hstack(points)) <= _LARGEST_PIXEL).all(axis=1), dtype=bool)


def _distinct(points: Float64) -> int:
    """The number of different rows: one spot matched a hundred times is evidence for one point only."""
    if points.shape[1] != 2:
        return len(np.unique(points, axis=0))
    ordered = np.sort(points[:, 0] + 1j * points[:, 1])  # np.unique would import NumPy's masked arrays
    return min(1, len(ordered)) + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def supported(min_inliers: int, *points: Float64) -> bool:
    """Whether there are `min_inliers` points of different places in each of the arrays, (K, 2) or (K, 3)."""
    # mostly a few of them suffice
    return all(
        len(p) >= min_inliers and (_distinct(p[: 4 * min_inliers]) >= min_inliers or _distinct(p) >= min_inliers)
        for p in points
    )


def line_tolerance(errors: Float64, threshold: float) -> float:
    """How far (root mean square) points that were seen with these errors (K,) may stray from a line that they are on.

    Three times their noise, which the median tells, and never more than the threshold: a wide one must not make a
    line of a strip.
    """
    return min(threshold, max(0.5, 3 * 1.4826 * median(errors))) if len(errors) else threshold


def median(values: Float64) -> float:
    """As np.median, which would import NumPy's masked arrays."""
    middle = (len(values) - 1) // 2, len(values) // 2
    return float(np.partition(values, middle)[list(middle)].mean())


def on_a_line(points: Float64, tolerance: float) -> bool:
    """Whether all the points (K, 2) but at most one lie on a line, give or take `tolerance` (root mean square).

    Such points leave a homography, and all the more an epipolar geometry, undetermined: a fit through them has small
    residuals and means nothing elsewhere.
    """
    n = len(points)
    if n < 4:
        return True
    d = points - points.mean(axis=0)
    # Scatter without point i, for all i at once: leaving out one point takes n / (n - 1) d d^T away.
    xx, yy, xy = (p.sum() - n / (n - 1) * p for p in (d[:, 0] ** 2, d[:, 1] ** 2, d[:, 0] * d[:, 1]))
    # The smaller eigenvalue as determinant / larger: their difference would cancel.
    larger = (xx + yy + np.hypot(xx - yy, 2 * xy)) / 2
    smaller = np.divide(xx * yy - xy**2, larger, out=np.zeros(n), where=larger > 0)
    return bool(smaller.min() <= tolerance**2 * (n - 1))
