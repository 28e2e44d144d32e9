"""Homography and fundamental matrix from matches with outliers: uncalibrated geometry of two images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import poselib
from numpy.typing import ArrayLike, NDArray

from ..features import Features, Matches
from .border import without_border
from .inputs import check_options, correspondences, image_size, line_tolerance, on_a_line, supported, usable_pixels
from .residuals import on_one_side, sampson_error, symmetric_homography_error, unit_matrix
from .results import Geometry, Kind
from .watermark import on_a_watermark

__all__ = ["fundamental", "homography"]

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Size = tuple[int, int]


def homography(
    a: Features | ArrayLike,
    b: Features | ArrayLike,
    matches: Matches | None = None,
    *,
    threshold: float = 3.0,
    confidence: float = 0.9999,
    max_iterations: int = 100_000,
    min_inliers: int = 8,
    seed: int = 0,
) -> Geometry:
    """Find the homography that maps image a onto image b: a plane, or any scene from a camera that only rotated.

    MAGSAC++ (Barath et al., CVPR 2020) of OpenCV's USAC. It takes no homography that mirrors, and no inliers on both
    sides of the line that it sends to infinity: no camera sees a plane so.

    Parameters
    ----------
    a, b : Features or (M, 2) array
        Features together with `matches`; or points [x, y] in pixels, row by row of one match, without.
    matches : Matches, optional
        Between the features `a` and `b`.
    threshold : float
        Pixels. An inlier's transfer error is at most this in both images. It hardly moves the model, whose weights
        fade out up to 8 pixels (or the threshold, if larger).
    confidence : float
        Probability, between 0 and 1, of having drawn a sample without outliers before stopping.
    max_iterations : int
        Samples drawn at most; they are enough down to about 10 % of inliers.
    min_inliers : int
        Fewer inliers, counting the distinct points of either image, are no model; at least 4. See the notes.
    seed : int
        Of the random samples: the same input and seed give the same result. No global random state is touched.

    Returns
    -------
    model : Geometry
        Of kind "homography". Falsy if there is no model: too few matches or inliers, or inliers of which all but one
        lie on a line in an image, as far as their errors tell, which leave it undetermined. Matches on an overlay that
        does not move are left out, see `Geometry.watermark`.

    Raises
    ------
    InvalidInputError
        If shapes or numbers differ from the above, a coordinate is not finite or an option is out of range.

    Notes
    -----
    Chance alone finds inliers. Among random matches in 1000x800 pixels we counted, at 3 pixels, 5 inliers of 100
    matches, 6 of 1,000 and up to 8 of 2,000. Points beyond 10^6 pixels are outliers.

    Examples
    --------
    >>> import numpy as np, tiepoints as tp
    >>> points_a = np.random.default_rng(0).uniform(0, 500, (50, 2))
    >>> points_b = 2 * points_a + (10, -5)
    >>> model = tp.homography(points_a, points_b)
    >>> model.num_inliers, model.matrix.round(3).tolist()
    (50, [[2.0, 0.0, 10.0], [0.0, 2.0, -5.0], [0.0, 0.0, 1.0]])
    """
    check_options(threshold, confidence, max_iterations, min_inliers, seed, fewest=4)
    points_a, points_b = correspondences(a, b, matches)
    params = _usac_params(threshold, confidence, max_iterations, seed)
    params.score = cv2.SCORE_METHOD_MAGSAC
    params.loMethod = cv2.LOCAL_OPTIM_SIGMA
    params.loIterations, params.loSampleSize = 10, 50
    params.final_polisher = cv2.MAGSAC

    def estimate(p: Float64, q: Float64) -> Float64 | None:
        return _usac(cv2.findHomography, p, q, params)

    def back(H: Float64, from_a: Float64, from_b: Float64) -> Float64 | None:
        return _normalised_homography(np.linalg.inv(from_b) @ H @ from_a)

    task = _Task("homography", estimate, back, symmetric_homography_error, threshold, min_inliers)
    return _two_view(task, points_a, points_b, image_size(a), image_size(b))


def fundamental(
    a: Features | ArrayLike,
    b: Features | ArrayLike,
    matches: Matches | None = None,
    *,
    threshold: float = 1.0,
    confidence: float = 0.9999,
    max_iterations: int = 100_000,
    min_inliers: int = 8,
    seed: int = 0,
    best_first: bool = False,
) -> Geometry:
    """Find the fundamental matrix F, b^T F a = 0, of two images of a rigid scene by cameras that are not calibrated.

    OpenCV's USAC: seven-point samples, local optimisation (Lebeda et al., BMVC 2012) and the search for a second model
    off the plane where most points lie on one (DEGENSAC: Chum et al., CVPR 2005); then PoseLib's non-linear refinement
    of the Sampson distance. Where the calibration is known, `essential` and `relative_pose` are better.

    Parameters
    ----------
    a, b : Features or (M, 2) array
        Features together with `matches`; or points [x, y] in pixels, row by row of one match, without.
    matches : Matches, optional
        Between the features `a` and `b`.
    threshold : float
        Pixels. An inlier's Sampson distance is at most this. 0.5 is better for keypoints as exact as SIFT's, 2 for
        coarse ones.
    confidence : float
        Probability, between 0 and 1, of having drawn a sample without outliers before stopping.
    max_iterations : int
        Samples drawn at most; they are enough down to about 20 % of inliers.
    min_inliers : int
        Fewer inliers, counting the distinct points of either image, are no model; at least 8. See the notes.
    seed : int
        Of the random samples: the same input and seed give the same result. No global random state is touched.
    best_first : bool
        Draw samples from the matches with the highest scores first, and from ever more of them (PROSAC: Chum and Matas,
        CVPR 2005); points without `matches` are then in that order. It finds the same models in far fewer samples.

    Returns
    -------
    model : Geometry
        Of kind "fundamental". Falsy if there is no model: too few matches or inliers, or inliers of which all but one
        lie on a line in an image, as far as their errors tell, which leave it undetermined. Matches on an overlay that
        does not move are left out, see `Geometry.watermark`.

    Raises
    ------
    InvalidInputError
        If shapes or numbers differ from the above, a coordinate is not finite or an option is out of range.

    Notes
    -----
    If all points lie on a plane, or the camera only rotated, infinitely many matrices fit: the one returned still tells
    matches that agree with each other from outliers, but a pose from it means nothing.

    Chance alone finds inliers, for a line is easily met. Among random matches in 1000x800 pixels we counted, at 1
    pixel, 8 to 9 inliers of 20 matches, 10 to 14 of 100, 19 to 24 of 1,000 and up to 35 of 2,000: to decide whether
    two images show the same scene, ask for more. The default is the Image Matching Benchmark's limit of a failure.

    Examples
    --------
    >>> import tiepoints as tp
    >>> sift = tp.load("rootsift")
    >>> a, b = sift("examples/desk_1.jpg"), sift("examples/desk_2.jpg")
    >>> model = tp.fundamental(a, b, tp.match(a, b))
    >>> model.matrix.shape, model.num_inliers > 100
    ((3, 3), True)
    """
    check_options(threshold, confidence, max_iterations, min_inliers, seed, fewest=8)
    points_a, points_b = correspondences(a, b, matches)
    order = np.arange(len(points_a))
    if best_first and matches is not None:
        order = np.argsort(-matches.scores, kind="stable")
    params = _usac_params(threshold, confidence, max_iterations, seed)
    # Inner and iterative local optimisation and graph cut (USAC_ACCURATE) are equally good; this one needs no grid of
    # neighbours, whose cells are in pixels. From the best matches the iterations gain nothing: mAA@10 over six scenes
    # and three extractors is .604 with them, and without in two thirds of the time.
    params.score = cv2.SCORE_METHOD_MSAC
    params.sampler = cv2.SAMPLING_PROSAC if best_first else cv2.SAMPLING_UNIFORM
    params.loMethod = cv2.LOCAL_OPTIM_INNER_LO if best_first else cv2.LOCAL_OPTIM_INNER_AND_ITER_LO
    params.loIterations, params.loSampleSize = 15, 20
    params.final_polisher = cv2.COV_POLISHER

    def estimate(p: Float64, q: Float64) -> Float64 | None:
        F = _usac(cv2.findFundamentalMat, p, q, params)
        return None if F is None else _refined_fundamental(F, p, q, threshold)

    def back(F: Float64, from_a: Float64, from_b: Float64) -> Float64 | None:
        return unit_matrix(from_b.T @ F @ from_a)

    task = _Task("fundamental", estimate, back, sampson_error, threshold, min_inliers)
    model = _two_view(task, points_a[order], points_b[order], image_size(a), image_size(b))
    rows = np.argsort(order)
    overlay = None if model.watermark is None else model.watermark[rows]
    return replace(model, inliers=model.inliers[rows], watermark=overlay)


def _usac_params(threshold: float, confidence: float, max_iterations: int, seed: int) -> Any:
    """OpenCV's parameters; with these, unlike with the flags, USAC takes its seed from us."""
    params = cv2.UsacParams()
    params.threshold = float(threshold)
    params.confidence = float(confidence)
    params.maxIterations = int(max_iterations)
    params.randomGeneratorState = int(seed)
    params.sampler = cv2.SAMPLING_UNIFORM
    params.isParallel = False  # threads would race, and the result would change from run to run
    params.final_polisher_iterations = 3
    return params


def _usac(function: Callable[..., Any], a: Float64, b: Float64, params: Any) -> Float64 | None:
    try:
        model, _ = function(a, b, params)
    except cv2.error:  # an assertion on samples without a solution: no model
        return None
    if model is None or model.shape[0] < 3 or not np.isfinite(model[:3]).all():
        return None
    return np.asarray(model[:3], dtype=np.float64)


def _refined_fundamental(F: Float64, a: Float64, b: Float64, threshold: float) -> Float64:
    near = sampson_error(F, a, b) <= threshold
    if np.count_nonzero(near) < 8:
        return F
    # On Strecha's pairs, a mAA@10 of up to .014 above that of a loss truncated at the threshold. Smaller steps than
    # this move no error by .001 pixels, and take a third of the time.
    options = {"loss_type": "CAUCHY", "loss_scale": threshold / 2, "step_tol": 1e-6}
    refined, _ = poselib.refine_fundamental(a[near], b[near], F, options)
    return np.asarray(refined, dtype=np.float64) if np.isfinite(refined).all() else F


def _normalised_homography(H: Float64) -> Float64 | None:
    unit = unit_matrix(H)
    # A determinant of rounding errors: the plane is seen edge-on, all of image a falls on a line.
    if not np.isfinite(unit).all() or abs(np.linalg.det(unit)) < 1e-18:
        return None
    return unit / unit[2, 2] if abs(unit[2, 2]) > 1e-8 else unit


class _Task(NamedTuple):
    """What the two estimators differ in."""

    kind: Kind
    estimate: Callable[[Float64, Float64], Float64 | None]
    back: Callable[[Float64, Float64, Float64], Float64 | None]
    error: Callable[[ArrayLike, ArrayLike, ArrayLike], Float64]
    threshold: float
    min_inliers: int


def _two_view(task: _Task, a: Float64, b: Float64, size_a: Size | None, size_b: Size | None) -> Geometry:
    """The model of all matches, or where these are an overlay that does not move, of the others."""
    usable = usable_pixels(a, b)
    model = _model(task, a, b, usable)
    overlay = on_a_watermark(a, b, model.inliers, size_a, size_b)
    if overlay is None:
        return without_border(model, a, b, size_a, size_b)
    rest = _model(task, a, b, usable & ~overlay)
    return replace(rest, watermark=overlay)


def _model(task: _Task, a: Float64, b: Float64, usable: Mask) -> Geometry:
    """Estimate from shifted points, bring the matrix back to pixels, and judge it."""
    nothing = Geometry(task.kind, None, np.zeros(len(a), bool), threshold=task.threshold)
    if not supported(task.min_inliers, a[usable], b[usable]):
        return nothing
    # From each image's corner of the points, as from an image's own: around the centre, where half the coordinates are
    # negative, OpenCV's fundamental matrices lost up to .03 of mAA@10. The scale stays: its constants are in pixels.
    corner_a, corner_b = a[usable].min(axis=0), b[usable].min(axis=0)
    model = task.estimate(a[usable] - corner_a, b[usable] - corner_b)
    if model is None:
        return nothing
    matrix = task.back(model, _translation(-corner_a), _translation(-corner_b))
    if matrix is None:
        return nothing
    errors = task.error(matrix, a[usable], b[usable])
    inliers = usable.copy()
    inliers[usable] = errors <= task.threshold
    if task.kind == "homography":
        inliers = on_one_side(matrix, a, inliers)
    tolerance = line_tolerance(errors[inliers[usable]], task.threshold)
    if not supported(task.min_inliers, a[inliers], b[inliers]) or any(
        on_a_line(points[inliers], tolerance) for points in (a, b)
    ):
        return nothing
    return replace(nothing, matrix=matrix, inliers=inliers)


def _translation(offset: Float64) -> Float64:
    matrix = np.eye(3)
    matrix[:2, 2] = offset
    return matrix
