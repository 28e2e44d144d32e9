"""The relative pose of a pair of images from their matches, as the Image Matching Benchmark's stereo task judges it.

Two tracks. `fundamental` is the published one: robust fundamental matrix, E = Kb^T F Ka, and OpenCV's ``recoverPose``
on the inliers. `essential` is the modern one: PoseLib's relative pose with known calibration. Source of the first: Jin
et al., IJCV 2021, section 4, and the benchmark's released code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...camera import Camera
from ...collection import Step
from ...errors import InvalidInputError, MissingDependencyError
from ...features import Features, Matches
from ...geometry import essential_from_fundamental, fundamental, pose_error, relative_pose
from ...matching import match
from ...metrics.depth import CalibratedPose, matching_scores, repeatabilities, transfer
from ...metrics.planar import matching_cost
from ...metrics.poses import relative_pose_between
from ..report import Value

__all__ = ["Estimator", "JudgePair", "MatchPair", "PairPose", "Track", "estimator_for", "judge_pair"]

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
    rotation, translation : float
        Degrees; the translation's angle without its sign, 0 to 90. Infinite if there is no pose.
    inliers : (M,) bool
        Of the matches; all False if there is no pose.
    """

    rotation: float
    translation: float
    inliers: Mask

    @property
    def error(self) -> float:
        """The larger of the two angles."""
        return max(self.rotation, self.translation)


def estimator_for(track: Literal["fundamental", "essential"]) -> Estimator:
    """The estimator that a track uses here: DEGENSAC where pydegensac is installed, as published, else USAC."""
    if track == "essential":
        return "poselib"
    return "degensac" if find_spec("pydegensac") is not None else "usac"


class MatchPair(Step):
    """The benchmark's matches: nearest neighbours both ways, ratio test both ways, no two of the same places.

    Parameters
    ----------
    ratio : float or None
        Greatest ratio of the distances to the nearest and the second nearest; None for no such test.
    """

    def __init__(self, ratio: float | None) -> None:
        self.ratio = ratio

    def __call__(self, a: Features, b: Features) -> Matches:
        """Match two images; of matches between the same places (SIFT with several orientations) the first."""
        found = match(a, b, ratio=None if self.ratio is None or self.ratio >= 1 else self.ratio)
        if not len(found):
            return found
        _, first = np.unique(np.hstack(found.points(a, b)), axis=0, return_index=True)
        return found.select(np.sort(first))


class JudgePair(Step):
    """The errors of a pair's pose on every track, and what depth maps say of its keypoints and matches."""

    version = 2
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
    ) -> dict[str, Value]:
        """The record of a pair, by the names of the details' columns.

        `cameras` are the true ones; `depths`, (Na,) and (Nb,), those of the keypoints where both images have a map.
        """
        points_a, points_b = (points.astype(np.float64) for points in matches.points(a, b))
        record: dict[str, Value] = {"matches": len(matches), "cost": matching_cost(a, b)[0], "rep3": None}
        b_in_a = np.empty((0, 2))
        if depths:
            a_in_b = transfer(a.keypoints, depths[0], *cameras)
            b_in_a = transfer(b.keypoints, depths[1], *cameras[::-1])
            sizes = a.image_size, b.image_size
            record["rep3"] = float(repeatabilities(a.keypoints, b.keypoints, a_in_b, b_in_a, *sizes)[2])
        for name, track in self.tracks.items():
            pose = judge_pair(points_a, points_b, *cameras, track)
            score = None
            if depths:
                rows_a, rows_b = matches.indices[pose.inliers].T
                score = float(matching_scores(a.keypoints[rows_a], b_in_a[rows_b], depths[0][rows_a])[2])
            record |= {
                f"{name}_inliers": int(np.count_nonzero(pose.inliers)),
                f"{name}_rotation": pose.rotation,
                f"{name}_translation": pose.translation,
                f"{name}_ms3": score,
            }
        return record


def judge_pair(
    points_a: ArrayLike, points_b: ArrayLike, a: CalibratedPose, b: CalibratedPose, track: Track
) -> PairPose:
    """Estimate the pose of a pair from matched keypoints, (M, 2) pixels, and compare it with the true cameras.

    A failure, with infinite errors, if there are fewer than 8 matches or inliers.
    """
    p, q = (np.ascontiguousarray(points, dtype=np.float64) for points in (points_a, points_b))
    estimate = _calibrated if track.estimator == "poselib" else _uncalibrated
    found = estimate(p, q, a[0], b[0], track) if len(p) >= _FEWEST else None
    if found is None:
        return PairPose(np.inf, np.inf, np.zeros(len(p), bool))
    rotation, translation, inliers = found
    return PairPose(*pose_error(rotation, translation, *relative_pose_between(a[1:], b[1:])), inliers)


_Found = tuple[Float64, Float64, Mask]


def _calibrated(points_a: Float64, points_b: Float64, K_a: Float64, K_b: Float64, track: Track) -> _Found | None:
    # A camera has a size, though it matters to nothing here.
    sizes = ((max(1, int(width) + 1), max(1, int(height) + 1)) for width, height in (points_a.max(0), points_b.max(0)))
    a, b = (Camera.from_matrix(K, size) for K, size in zip((K_a, K_b), sizes, strict=True))
    pose = relative_pose(points_a, points_b, camera_a=a, camera_b=b, **track.sampling)
    if pose.rotation is None or pose.translation is None:
        return None
    return pose.rotation, pose.translation, pose.inliers


def _uncalibrated(points_a: Float64, points_b: Float64, K_a: Float64, K_b: Float64, track: Track) -> _Found | None:
    if track.estimator == "degensac":
        F, inliers = _degensac(points_a, points_b, track)
    else:
        F, inliers = fundamental(points_a, points_b, **track.sampling)
    if F is None or np.count_nonzero(inliers) < _FEWEST:
        return None
    E = essential_from_fundamental(F, K_a, K_b)
    if not np.isfinite(E).all():
        return None
    # On the image plane at distance 1.
    a, b = ((p[inliers] - K[:2, 2]) / K[[0, 1], [0, 1]] for p, K in ((points_a, K_a), (points_b, K_b)))
    try:
        _, rotation, translation, _ = cv2.recoverPose(E, a, b)
    except cv2.error:  # a matrix of rank 1 has no pose
        return None
    if not (np.isfinite(rotation).all() and np.isfinite(translation).all()):
        return None
    return np.asarray(rotation, np.float64), np.asarray(translation, np.float64).reshape(3), inliers


def _degensac(points_a: Float64, points_b: Float64, track: Track) -> tuple[Float64 | None, Mask]:
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
    usable = F is not None and np.shape(F) == (3, 3) and np.isfinite(F).all() and np.any(F)
    return np.asarray(F, np.float64) if usable else None, np.asarray(inliers).astype(bool).ravel()
