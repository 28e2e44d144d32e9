"""Relative pose of a pair of images from their matches, as the Image Matching Benchmark's stereo task judges it.

Two tracks. `fundamental` is the published one: robust fundamental matrix, E = Kb^T F Ka, and OpenCV's ``recoverPose``
on the inliers. `essential` is the modern one: PoseLib's relative pose with known calibration. Source of the first: Jin
et al., IJCV 2021, section 4, and the benchmark's released code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...camera import Camera
from ...datasets.scenes import View
from ...errors import InvalidInputError, MissingDependencyError
from ...features import Features, Matches
from ...geometry import essential_from_fundamental, fundamental, pose_error, relative_pose
from ...matching import match
from ...metrics.poses import relative_pose_between

__all__ = ["Estimator", "PairPose", "Track", "estimator_for", "judge_pair", "match_pair"]

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
#: DEGENSAC (pydegensac), OpenCV's USAC as `tiepoints.geometry.fundamental` sets it up, PoseLib's relative pose.
Estimator = Literal["degensac", "usac", "poselib"]

_FEWEST = 8  # matches or inliers; with less a pair is a failure


@dataclass(frozen=True)
class Track:
    """How poses are estimated.

    Parameters
    ----------
    estimator : {"degensac", "usac", "poselib"}
        The first two estimate a fundamental matrix; the third uses the calibration.
    threshold : float
        Pixels; how far an inlier may be from its epipolar line (Sampson distance).
    confidence, max_iterations : float, int
        When sampling stops.
    seed : int
        Of the random samples.
    """

    estimator: Estimator
    threshold: float
    confidence: float = 0.999999
    max_iterations: int = 100_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.estimator not in get_args(Estimator):
            raise InvalidInputError(f"{self.estimator!r} is no estimator; known are {', '.join(get_args(Estimator))}")
        if not self.threshold > 0:
            raise InvalidInputError(f"threshold is {self.threshold}, but a positive number of pixels is expected")
        if self.estimator == "degensac" and find_spec("pydegensac") is None:
            raise MissingDependencyError("the estimator degensac needs pydegensac: pip install 'tiepoints[bench]'")

    @property
    def description(self) -> str:
        """In words, with everything that moves the figures."""
        names = {
            "degensac": "fundamental matrix by DEGENSAC (pydegensac)",
            "usac": "fundamental matrix by OpenCV's USAC with DEGENSAC's test of planes, refined by PoseLib",
            "poselib": "relative pose by PoseLib, known calibration",
        }
        return (
            f"{names[self.estimator]}, {self.threshold:g} px, confidence {self.confidence:g}, "
            f"at most {self.max_iterations} samples"
        )


@dataclass(frozen=True, eq=False)
class PairPose:
    """What came of a pair.

    Parameters
    ----------
    error : float
        Degrees, the larger of the rotation's and the translation's angle; infinite if there is no pose.
    rotation, translation : float
        The two angles; the translation's without its sign, 0 to 90.
    inliers : (M,) bool
        Of the matches; all False if there is no pose.
    """

    error: float
    rotation: float
    translation: float
    inliers: Mask


def estimator_for(track: Literal["fundamental", "essential"]) -> Estimator:
    """The estimator that a track uses here: DEGENSAC where pydegensac is installed, as published, else USAC."""
    if track == "essential":
        return "poselib"
    return "degensac" if find_spec("pydegensac") is not None else "usac"


def match_pair(a: Features, b: Features, ratio: float | None) -> Matches:
    """The benchmark's matches: nearest neighbours both ways, ratio test both ways, no two of the same places.

    Parameters
    ----------
    a, b : Features
        Of one extractor; where there are sets, only the same ones meet.
    ratio : float or None
        Greatest ratio of the distances to the nearest and the second nearest; None for no such test.

    Returns
    -------
    matches : Matches
        Of matches whose keypoints are at the same places in both images (SIFT with several orientations) the first.
    """
    found = match(a, b, ratio=None if ratio is None or ratio >= 1 else ratio)
    if not len(found):
        return found
    _, first = np.unique(np.hstack(found.points(a, b)), axis=0, return_index=True)
    return found.select(np.sort(first))


def judge_pair(points_a: ArrayLike, points_b: ArrayLike, a: View, b: View, track: Track) -> PairPose:
    """Estimate the pose of a pair and compare it with the truth.

    Parameters
    ----------
    points_a, points_b : (M, 2) array
        The matched keypoints in pixels, pixel-centre convention.
    a, b : View
        The true cameras.
    track : Track

    Returns
    -------
    result : PairPose
        A failure, with infinite errors, if there are fewer than 8 matches or inliers.
    """
    p, q = (np.ascontiguousarray(points, dtype=np.float64) for points in (points_a, points_b))
    failure = PairPose(np.inf, np.inf, np.inf, np.zeros(len(p), bool))
    if len(p) < _FEWEST:
        return failure
    estimate = _calibrated if track.estimator == "poselib" else _uncalibrated
    found = estimate(p, q, a, b, track)
    if found is None:
        return failure
    rotation, translation, inliers = found
    errors = pose_error(rotation, translation, *relative_pose_between((a.R, a.t), (b.R, b.t)))
    return PairPose(max(errors), *errors, inliers)


_Found = tuple[Float64, Float64, Mask]


def _calibrated(points_a: Float64, points_b: Float64, a: View, b: View, track: Track) -> _Found | None:
    pose = relative_pose(
        points_a,
        points_b,
        camera_a=_camera(a, points_a),
        camera_b=_camera(b, points_b),
        threshold=track.threshold,
        confidence=track.confidence,
        max_iterations=track.max_iterations,
        min_inliers=_FEWEST,
        seed=track.seed,
    )
    if pose.rotation is None or pose.translation is None:
        return None
    return pose.rotation, pose.translation, pose.inliers


def _camera(view: View, points: Float64) -> Camera:
    """The view's pinhole camera; its size matters to no pinhole, but a camera has one."""
    width, height = (max(1, int(edge) + 1) for edge in points.max(axis=0))
    return Camera.from_matrix(view.K, view.size or (width, height))


def _uncalibrated(points_a: Float64, points_b: Float64, a: View, b: View, track: Track) -> _Found | None:
    estimate: Callable[[Float64, Float64, Track], tuple[Float64, Mask] | None]
    estimate = _degensac if track.estimator == "degensac" else _usac
    found = estimate(points_a, points_b, track)
    if found is None or np.count_nonzero(found[1]) < _FEWEST:
        return None
    F, inliers = found
    E = essential_from_fundamental(F, a.K, b.K)
    if not np.isfinite(E).all():
        return None
    rays_a, rays_b = _normalised(points_a[inliers], a.K), _normalised(points_b[inliers], b.K)
    try:
        _, rotation, translation, _ = cv2.recoverPose(E, rays_a, rays_b)
    except cv2.error:  # a matrix of rank 1 has no pose
        return None
    if not (np.isfinite(rotation).all() and np.isfinite(translation).all()):
        return None
    return np.asarray(rotation, np.float64), np.asarray(translation, np.float64).reshape(3), inliers


def _normalised(points: Float64, K: Float64) -> Float64:
    return (points - K[:2, 2]) / K[[0, 1], [0, 1]]


def _degensac(points_a: Float64, points_b: Float64, track: Track) -> tuple[Float64, Mask] | None:
    import pydegensac

    # As the benchmark calls it; its random numbers are seeded, which the benchmark's are not.
    F, inliers = pydegensac.findFundamentalMatrix(
        points_a,
        points_b,
        track.threshold,
        track.confidence,
        track.max_iterations,
        0,
        error_type="sampson",
        symmetric_error_check=True,
        enable_degeneracy_check=True,
        seed=track.seed,
    )
    if F is None or np.shape(F) != (3, 3) or not np.isfinite(F).all() or not np.any(F):
        return None
    return np.asarray(F, np.float64), np.asarray(inliers).astype(bool).ravel()


def _usac(points_a: Float64, points_b: Float64, track: Track) -> tuple[Float64, Mask] | None:
    model = fundamental(
        points_a,
        points_b,
        threshold=track.threshold,
        confidence=track.confidence,
        max_iterations=track.max_iterations,
        min_inliers=_FEWEST,
        seed=track.seed,
    )
    return None if model.matrix is None else (model.matrix, model.inliers)
