"""The relative pose of a pair of images from their matches, as the Image Matching Benchmark's stereo task judges it.

Two tracks. `fundamental` is the published one: robust fundamental matrix, E = Kb^T F Ka, and OpenCV's ``recoverPose``
on the inliers. `essential` is the modern one: PoseLib's relative pose with known calibration. Source of the first: Jin
et al., IJCV 2021, section 4, and the benchmark's released code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...camera import Camera
from ...collection import Step, register
from ...errors import InvalidInputError, MissingDependencyError
from ...features import Features, Matches
from ...geometry import essential_from_fundamental, fundamental, pose_error, relative_pose
from ...matching import match
from ...metrics.depth import CalibratedPose, matching_scores, repeatabilities, transfer
from ...metrics.planar import matching_cost
from ...metrics.poses import relative_pose_between

__all__ = [
    "Estimator",
    "JudgePair",
    "MatchPair",
    "PairPose",
    "PairRecord",
    "Track",
    "TrackRecord",
    "estimator_for",
    "judge_pair",
    "match_pair",
]

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
    def sampling(self) -> dict[str, Any]:
        """What the estimators of `tiepoints.geometry` are given."""
        own = {name: getattr(self, name) for name in ("threshold", "confidence", "max_iterations", "seed")}
        return own | {"min_inliers": _FEWEST}

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


def judge_pair(
    points_a: ArrayLike, points_b: ArrayLike, a: CalibratedPose, b: CalibratedPose, track: Track
) -> PairPose:
    """Estimate the pose of a pair and compare it with the truth.

    Parameters
    ----------
    points_a, points_b : (M, 2) array
        The matched keypoints in pixels, pixel-centre convention.
    a, b : ((3, 3) array, (3, 3) array, (3,) array)
        K, R, t of the true cameras, x_cam = R @ x_world + t.
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
    found = estimate(p, q, a[0], b[0], track)
    if found is None:
        return failure
    rotation, translation, inliers = found
    errors = pose_error(rotation, translation, *relative_pose_between(a[1:], b[1:]))
    return PairPose(max(errors), *errors, inliers)


@register("tiepoints.TrackRecord")
@dataclass(frozen=True)
class TrackRecord:
    """A pair on one track: inliers, errors in degrees (infinite without a pose), matching scores @1..10 or None."""

    inliers: int
    rotation: float
    translation: float
    scores: Float64 | None = None

    @property
    def error(self) -> float:
        """The larger of the two angles."""
        return max(self.rotation, self.translation)


@register("tiepoints.PairRecord")
@dataclass(frozen=True)
class PairRecord:
    """A pair of the stereo task: its matches, what matching cost, its tracks, and repeatability @1..10 or None."""

    matches: int
    cost: float
    tracks: Mapping[str, TrackRecord]
    repeatability: Float64 | None = None


class MatchPair(Step):
    """`match_pair` with a ratio."""

    def __init__(self, ratio: float | None) -> None:
        self.ratio = ratio

    def __call__(self, a: Features, b: Features) -> Matches:
        """The matches of a pair."""
        return match_pair(a, b, self.ratio)


class JudgePair(Step):
    """The errors of a pair's pose on every track, and what depth maps say of its keypoints and matches."""

    packages = ("numpy", "opencv", "poselib", "pydegensac")

    def __init__(self, tracks: Mapping[str, Track]) -> None:
        self.tracks = dict(tracks)

    def __call__(
        self,
        a: Features,
        b: Features,
        matches: Matches,
        cameras: tuple[CalibratedPose, CalibratedPose],
        *depths: Float64,
    ) -> PairRecord:
        """The record of a pair.

        Parameters
        ----------
        a, b : Features
        matches : Matches
        cameras : (CalibratedPose, CalibratedPose)
            The true ones.
        *depths : (Na,), (Nb,) float64
            The depth of the keypoints, where both images have a depth map.
        """
        points_a, points_b = (points.astype(np.float64) for points in matches.points(a, b))
        repeatability, b_in_a = None, np.empty((0, 2))
        if depths:
            a_in_b = transfer(a.keypoints, depths[0], *cameras)
            b_in_a = transfer(b.keypoints, depths[1], *cameras[::-1])
            sizes = a.image_size, b.image_size
            repeatability = repeatabilities(a.keypoints, b.keypoints, a_in_b, b_in_a, *sizes)
        records = {}
        for name, track in self.tracks.items():
            pose = judge_pair(points_a, points_b, *cameras, track)
            scores = None
            if depths:
                rows_a, rows_b = matches.indices[pose.inliers].T
                scores = matching_scores(a.keypoints[rows_a], b_in_a[rows_b], depths[0][rows_a])
            records[name] = TrackRecord(int(np.count_nonzero(pose.inliers)), pose.rotation, pose.translation, scores)
        return PairRecord(len(matches), matching_cost(a, b)[0], records, repeatability)


_Found = tuple[Float64, Float64, Mask]


def _calibrated(points_a: Float64, points_b: Float64, K_a: Float64, K_b: Float64, track: Track) -> _Found | None:
    a, b = _camera(K_a, points_a), _camera(K_b, points_b)
    pose = relative_pose(points_a, points_b, camera_a=a, camera_b=b, **track.sampling)
    if pose.rotation is None or pose.translation is None:
        return None
    return pose.rotation, pose.translation, pose.inliers


def _camera(K: Float64, points: Float64) -> Camera:
    """A pinhole camera; its size matters to none, but a camera has one."""
    width, height = (max(1, int(edge) + 1) for edge in points.max(axis=0))
    return Camera.from_matrix(K, (width, height))


def _uncalibrated(points_a: Float64, points_b: Float64, K_a: Float64, K_b: Float64, track: Track) -> _Found | None:
    estimate: Callable[[Float64, Float64, Track], tuple[Float64, Mask] | None]
    estimate = _degensac if track.estimator == "degensac" else _usac
    found = estimate(points_a, points_b, track)
    if found is None or np.count_nonzero(found[1]) < _FEWEST:
        return None
    F, inliers = found
    E = essential_from_fundamental(F, K_a, K_b)
    if not np.isfinite(E).all():
        return None
    rays_a, rays_b = _normalised(points_a[inliers], K_a), _normalised(points_b[inliers], K_b)
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
    model = fundamental(points_a, points_b, **track.sampling)
    return None if model.matrix is None else (model.matrix, model.inliers)
