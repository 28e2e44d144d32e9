"""How far points are from a model, and how far a model is from the truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InvalidInputError
from .inputs import as_float64, as_points

__all__ = [
    "epipolar_error",
    "essential_from_fundamental",
    "essential_from_pose",
    "fundamental_from_essential",
    "homography_error",
    "pose_error",
    "project",
    "sampson_error",
    "symmetric_homography_error",
    "unit_matrix",
]

Float64 = NDArray[np.float64]


def _array(values: ArrayLike, shape: tuple[int, ...], what: str) -> Float64:
    array = as_float64(values, what)
    if array.shape != shape:
        raise InvalidInputError(f"{what} has shape {array.shape}, but {shape} is expected")
    return array


def _both(points_a: ArrayLike, points_b: ArrayLike) -> tuple[Float64, Float64]:
    a, b = as_points(points_a, 2, "points of image a"), as_points(points_b, 2, "points of image b")
    if len(a) != len(b):
        raise InvalidInputError(
            f"{len(a)} points in image a but {len(b)} in image b: one of each per match is expected"
        )
    return a, b


def _mapped(rows: Float64, points: Float64) -> Float64:
    """(R, M): rows (R, 3) of a matrix times the points (M, 2), with 1 as their third coordinate."""
    x, y = np.ascontiguousarray(points.T)  # columns, for a product with three of them takes three times as long
    return np.stack([row[0] * x + row[1] * y + row[2] for row in rows])


def project(H: ArrayLike, points: ArrayLike) -> Float64:
    """Map points by a homography.

    Parameters
    ----------
    H : (3, 3) array
    points : (M, 2) array
        [x, y] in pixels of image a.

    Returns
    -------
    projected : (M, 2) float64
        In pixels of image b; infinite for points that H sends to infinity.

    Raises
    ------
    InvalidInputError
        For other shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.geometry import project
    >>> project(np.diag([2.0, 2.0, 1.0]), [[1, 2]]).tolist()
    [[2.0, 4.0]]
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        x, y, w = _mapped(_array(H, (3, 3), "H"), as_points(points, 2, "points"))
        projected = np.stack([x / w, y / w], axis=1)
    projected[~np.isfinite(projected).all(axis=1)] = np.inf
    return projected


def _distances(p: Float64, q: Float64) -> Float64:
    with np.errstate(invalid="ignore", over="ignore"):
        distances = np.hypot(*(p - q).T)
    return np.where(np.isnan(distances), np.inf, distances)


def homography_error(H: ArrayLike, points_a: ArrayLike, points_b: ArrayLike) -> Float64:
    """Forward transfer error |H a - b|, in image b.

    Parameters
    ----------
    H : (3, 3) array
    points_a, points_b : (M, 2) array
        [x, y] in pixels, row by row of one match.

    Returns
    -------
    errors : (M,) float64
        Pixels of image b; infinite where H a is.

    Raises
    ------
    InvalidInputError
        For other shapes, or unequal numbers of points.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.geometry import homography_error
    >>> homography_error(np.eye(3), [[0, 0]], [[3, 4]]).tolist()
    [5.0]
    """
    a, b = _both(points_a, points_b)
    return _distances(project(H, a), b)


def symmetric_homography_error(H: ArrayLike, points_a: ArrayLike, points_b: ArrayLike) -> Float64:
    """The larger of the two transfer errors, |H a - b| in image b and |H^-1 b - a| in image a.

    Parameters and errors as for `homography_error`; everything is infinite if H cannot be inverted.

    Returns
    -------
    errors : (M,) float64
        Pixels of whichever image.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.geometry import symmetric_homography_error
    >>> symmetric_homography_error(np.diag([2.0, 2.0, 1.0]), [[0, 0]], [[4, 0]]).tolist()
    [4.0]
    """
    a, b = _both(points_a, points_b)
    try:
        inverse = np.linalg.inv(_array(H, (3, 3), "H"))
    except np.linalg.LinAlgError:
        return np.full(len(a), np.inf)
    return np.maximum(homography_error(H, a, b), homography_error(inverse, b, a))


def on_one_side(H: Float64, points: Float64, inliers: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The inliers (M,) of a homography without those beyond the line that it sends to infinity, seen from the most.

    A camera sees a plane from one side of that line, the horizon of the other image's plane: what lies beyond it is
    behind the camera, though the equations may put it into the image (Hartley and Zisserman, Multiple View Geometry,
    2nd edition, section 21.1).
    """
    depth = _mapped(H[2:], points)[0]
    front = depth > 0
    many = 2 * np.count_nonzero(front & inliers) >= np.count_nonzero(inliers)
    return np.asarray(inliers & (front if many else depth < 0))


def _epipolar(F: ArrayLike, points_a: ArrayLike, points_b: ArrayLike) -> tuple[Float64, Float64, Float64]:
    """|b^T F a|, and the squared norms of the epipolar lines' normals: in b of F a, in a of F^T b; each (M,)."""
    a, b = _both(points_a, points_b)
    matrix = _array(F, (3, 3), "F")
    with np.errstate(over="ignore", invalid="ignore"):
        in_b_x, in_b_y, in_b = _mapped(matrix, a)  # the lines in b
        in_a_x, in_a_y = _mapped(matrix.T[:2], b)
        u, v = b.T
        return np.abs(u * in_b_x + v * in_b_y + in_b), in_b_x**2 + in_b_y**2, in_a_x**2 + in_a_y**2


def _ratio(numerator: Float64, denominator: Float64) -> Float64:
    # A line's normal vanishes at the epipole, through which every epipolar line passes: the distance is 0 there.
    with np.errstate(over="ignore", invalid="ignore"):
        ratio = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)
    return np.where(np.isnan(ratio), np.inf, ratio)  # not a number: squares that overflowed


def sampson_error(F: ArrayLike, points_a: ArrayLike, points_b: ArrayLike) -> Float64:
    """Sampson distance: to first order, by how much both points must move in all to satisfy b^T F a = 0.

    Hartley and Zisserman, Multiple View Geometry, 2nd edition, equation 11.9 (its square root).

    Parameters
    ----------
    F : (3, 3) array
        Fundamental matrix for pixels, or essential matrix for normalised coordinates.
    points_a, points_b : (M, 2) array
        [x, y], row by row of one match.

    Returns
    -------
    errors : (M,) float64
        In the points' unit.

    Raises
    ------
    InvalidInputError
        For other shapes, or unequal numbers of points.

    Examples
    --------
    >>> from tiepoints.geometry import sampson_error
    >>> F = [[0, 0, 0], [0, 0, -1], [0, 1, 0]]  # a camera that moves along x: lines are rows
    >>> sampson_error(F, [[10, 20]], [[90, 20]]).tolist()
    [0.0]
    """
    algebraic, normal_b, normal_a = _epipolar(F, points_a, points_b)
    return _ratio(algebraic, np.sqrt(normal_a + normal_b))


def epipolar_error(F: ArrayLike, points_a: ArrayLike, points_b: ArrayLike) -> Float64:
    """The larger of the two distances of a point from the epipolar line of the other, in image b and in image a.

    Parameters and errors as for `sampson_error`, which is the smaller: at most 1 / sqrt(2) of this.

    Returns
    -------
    errors : (M,) float64
        In the points' unit.

    Examples
    --------
    >>> from tiepoints.geometry import epipolar_error
    >>> F = [[0, 0, 0], [0, 0, -1], [0, 1, 0]]  # a camera that moves along x: lines are rows
    >>> epipolar_error(F, [[10, 20]], [[90, 23]]).tolist()
    [3.0]
    """
    algebraic, normal_b, normal_a = _epipolar(F, points_a, points_b)
    return np.maximum(_ratio(algebraic, np.sqrt(normal_b)), _ratio(algebraic, np.sqrt(normal_a)))


def unit_matrix(matrix: Float64) -> Float64:
    """The same matrix up to scale: Frobenius norm 1, its entry of the largest magnitude positive; (3, 3)."""
    largest = matrix.flat[np.argmax(np.abs(matrix))]
    if largest == 0:
        return matrix
    scaled = matrix / largest  # first, so that the norm cannot overflow
    return np.asarray(scaled / np.linalg.norm(scaled))


def fundamental_from_essential(E: ArrayLike, Ka: ArrayLike, Kb: ArrayLike) -> Float64:
    """F = Kb^-T E Ka^-1.

    Parameters
    ----------
    E : (3, 3) array
        b^T E a = 0 for normalised coordinates.
    Ka, Kb : (3, 3) array
        Calibration matrices of images a and b, in pixels.

    Returns
    -------
    F : (3, 3) float64
        b^T F a = 0 for pixels; Frobenius norm 1, entry of the largest magnitude positive.

    Raises
    ------
    InvalidInputError
        For other shapes, or a calibration matrix that cannot be inverted.

    Examples
    --------
    >>> import numpy as np, tiepoints as tp
    >>> from tiepoints.geometry import essential_from_pose, fundamental_from_essential
    >>> K = tp.Camera.from_focal(500, (640, 480)).matrix
    >>> fundamental_from_essential(essential_from_pose(np.eye(3), [1, 0, 0]), K, K).shape
    (3, 3)
    """
    try:
        inverse_a, inverse_b = (np.linalg.inv(_array(K, (3, 3), f"K{s}")) for K, s in ((Ka, "a"), (Kb, "b")))
    except np.linalg.LinAlgError as error:
        raise InvalidInputError(f"a calibration matrix cannot be inverted: {error}") from error
    return unit_matrix(inverse_b.T @ _array(E, (3, 3), "E") @ inverse_a)


def essential_from_fundamental(F: ArrayLike, Ka: ArrayLike, Kb: ArrayLike) -> Float64:
    """E = Kb^T F Ka, the inverse of `fundamental_from_essential`.

    The two singular values are equal only as far as F and the calibration are exact; `essential` estimates better.

    Parameters
    ----------
    F : (3, 3) array
        b^T F a = 0 for pixels.
    Ka, Kb : (3, 3) array
        Calibration matrices of images a and b, in pixels.

    Returns
    -------
    E : (3, 3) float64
        b^T E a = 0 for normalised coordinates; Frobenius norm 1, entry of the largest magnitude positive.

    Raises
    ------
    InvalidInputError
        For other shapes.

    Examples
    --------
    >>> import numpy as np, tiepoints as tp
    >>> from tiepoints.geometry import essential_from_fundamental
    >>> K = tp.Camera.from_focal(500, (640, 480)).matrix
    >>> essential_from_fundamental([[0, 0, 0], [0, 0, -1], [0, 1, 0]], K, K).shape
    (3, 3)
    """
    return unit_matrix(_array(Kb, (3, 3), "Kb").T @ _array(F, (3, 3), "F") @ _array(Ka, (3, 3), "Ka"))


def essential_from_pose(R: ArrayLike, t: ArrayLike) -> Float64:
    """E = [t]x R of the pose b_from_a.

    Parameters
    ----------
    R : (3, 3) array
    t : (3,) array
        x_b = R @ x_a + t; t of any length but 0.

    Returns
    -------
    E : (3, 3) float64
        b^T E a = 0 for normalised coordinates; Frobenius norm 1, entry of the largest magnitude positive.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.geometry import essential_from_pose
    >>> essential_from_pose(np.eye(3), [1, 0, 0]).shape
    (3, 3)
    """
    x, y, z = _array(t, (3,), "t")
    return unit_matrix(np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ _array(R, (3, 3), "R"))


def pose_error(R: ArrayLike, t: ArrayLike, R_gt: ArrayLike, t_gt: ArrayLike) -> tuple[float, float]:
    """Angles between an estimated relative pose and the true one.

    Parameters
    ----------
    R, R_gt : (3, 3) array
        Rotations, estimated and true.
    t, t_gt : (3,) array
        Translations of any length, estimated and true.

    Returns
    -------
    rotation : float
        Degrees, 0 to 180.
    translation : float
        Degrees between the two directions regardless of their sign, 0 to 90, as in the Image Matching Benchmark (Jin et
        al., IJCV 2021). 0 if the true translation is 0, which leaves nothing to miss; 90 if only the estimate is 0.

    Raises
    ------
    InvalidInputError
        For other shapes.

    Notes
    -----
    Both angles come from atan2 of sine and cosine: an arc cosine alone is off by 1e-6 degrees near 0 and 180.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.geometry import pose_error
    >>> [round(float(degrees), 6) for degrees in pose_error(np.eye(3), [1, 0, 0], np.eye(3), [0, 1, 0])]
    [0.0, 90.0]
    """
    difference = _array(R, (3, 3), "R") @ _array(R_gt, (3, 3), "R_gt").T
    axis = difference[[2, 0, 1], [1, 2, 0]] - difference[[1, 2, 0], [2, 0, 1]]  # 2 sin(angle) times the axis
    rotation = np.arctan2(np.linalg.norm(axis), np.trace(difference) - 1)
    estimate, truth = _array(t, (3,), "t"), _array(t_gt, (3,), "t_gt")
    if not truth.any():
        return float(np.degrees(rotation)), 0.0
    if not estimate.any():
        return float(np.degrees(rotation)), 90.0
    estimate, truth = estimate / np.linalg.norm(estimate), truth / np.linalg.norm(truth)
    translation = np.arctan2(np.linalg.norm(np.cross(estimate, truth)), abs(estimate @ truth))
    return float(np.degrees(rotation)), float(np.degrees(translation))
