"""Scores of one pair of images of a plane, whose homography is known: the definitions behind the HPatches tables.

Everything here is plain arithmetic on features and matches. Which definition a protocol takes is in its `Profile`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from ..errors import InvalidInputError
from ..features import Features, Matches
from ..geometry import homography, homography_error, project, symmetric_homography_error
from ..matching import match

__all__ = [
    "PROFILES",
    "THRESHOLDS",
    "PlanarScores",
    "Profile",
    "corner_error",
    "covisible",
    "matching_cost",
    "profile_of",
    "repeatability",
    "score_planar_pair",
    "share_within",
]

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Pixels; every curve is taken at these.
THRESHOLDS = np.arange(1.0, 11.0)

_SEEDS = 5  # one estimate of a homography is a matter of luck; the mean of five moves half as much


@dataclass(frozen=True)
class Profile:
    """A protocol by name: what counts as correct, and what it is divided by.

    Parameters
    ----------
    name : str
    description : str
        For the report.
    error : {"forward", "larger"}
        |H a - b| in the second image, or the larger of both directions.
    score : {"mean", "rematched", "halves"}
        Matching score: correct matches / mean of the two covisible counts; the same with the covisible keypoints
        matched anew among themselves; or half the sum of correct / covisible in either image.
    repeats : {"one-to-one", "any"}
        A keypoint is repeated if it and a keypoint of the other image are each other's nearest within 3 pixels; or if
        any keypoint lies within 3 pixels.
    estimator : {"magsac", "ransac"}, optional
        Of the homography: `tiepoints.homography`, mean over 5 seeds; or OpenCV's RANSAC. Both with 3 pixels. None
        leaves the homography out, which saves most of the time.
    max_keypoints : int, optional
        No image may bring more; the best by score count.

    Examples
    --------
    >>> from tiepoints.metrics.planar import Profile
    >>> profile = Profile("mine", "As d2net, in both directions, without homographies.", error="larger", estimator=None)
    >>> profile.score, profile.repeats
    ('mean', 'one-to-one')
    """

    name: str
    description: str
    error: Literal["forward", "larger"] = "forward"
    score: Literal["mean", "rematched", "halves"] = "mean"
    repeats: Literal["one-to-one", "any"] = "one-to-one"
    estimator: Literal["magsac", "ransac"] | None = "magsac"
    max_keypoints: int | None = None


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "d2net",
            "Mutual nearest neighbours; a match is correct if |H a - b| <= t in the second image, original pixels; MMA "
            "is the mean over the pairs of correct / putative matches (Dusmanu et al., CVPR 2019). MS = correct / mean "
            "number of keypoints in the shared area; repeatability one to one within 3 px; homographies by MAGSAC++, "
            "mean over 5 seeds.",
        ),
        Profile(
            "aslfeat",
            "MMA as in d2net. Covisible keypoints are matched among themselves: MS = correct / mean of the two "
            "covisible counts; repeatability = mean of both directions' counts with a neighbour within 3 px / "
            "covisible; homographies by RANSAC with 3 px (Luo et al., CVPR 2020).",
            score="rematched",
            repeats="any",
            estimator="ransac",
        ),
        Profile(
            "strek",
            "Mutual nearest neighbours of at most 2048 keypoints; a match is correct if the larger of both directions' "
            "errors is at most t; MS = half of (correct / covisible in one image + correct / covisible in the other) "
            "(Santellani et al., ICCV 2023).",
            error="larger",
            score="halves",
            max_keypoints=2048,
        ),
    )
}


@dataclass(frozen=True, eq=False)
class PlanarScores:
    """Figures of one pair and one method.

    Parameters
    ----------
    keypoints : (int, int)
        Of both images.
    covisible : (int, int)
        Those whose place in the other image lies strictly inside it.
    matches : int
        Putative: mutual nearest neighbours.
    mma : (10,) float64
        Correct / putative matches at THRESHOLDS; 0 without matches.
    ms : (10,) float64
        Matching score at THRESHOLDS; 0 where nothing is covisible.
    repeatability : float
        Within 3 pixels.
    homography : (10,) float64
        Share of the estimates whose mean corner error is at most THRESHOLDS; NaN where the protocol has no estimator.
    cost, comparisons : float
        Matching cost relative to N0 N1, and the number of comparisons of descriptors.

    Examples
    --------
    >>> import numpy as np
    >>> import tiepoints as tp
    >>> from tiepoints.metrics.planar import THRESHOLDS, score_planar_pair
    >>> features = tp.load("orb", max_keypoints=100)("examples/box.png")
    >>> scores = score_planar_pair(features, features, np.eye(3))
    >>> dict(zip(THRESHOLDS.tolist(), scores.mma.tolist()))[3.0]
    1.0
    """

    keypoints: tuple[int, int]
    covisible: tuple[int, int]
    matches: int
    mma: Float64
    ms: Float64
    repeatability: float
    homography: Float64
    cost: float
    comparisons: float


def profile_of(profile: str | Profile) -> Profile:
    """The profile of this name.

    Raises
    ------
    InvalidInputError
        If there is none.

    Examples
    --------
    >>> from tiepoints.metrics.planar import profile_of
    >>> profile_of("strek").max_keypoints
    2048
    """
    if isinstance(profile, Profile):
        return profile
    if profile not in PROFILES:
        raise InvalidInputError(f"no profile is called {profile!r}; there are {', '.join(PROFILES)}")
    return PROFILES[profile]


def score_planar_pair(a: Features, b: Features, H: ArrayLike, profile: str | Profile = "d2net") -> PlanarScores:
    """All figures of one pair.

    Parameters
    ----------
    a, b : Features
        Of the two images, in their original pixels.
    H : (3, 3) array
        The true homography b_from_a, pixel-centre convention.
    profile : str or Profile

    Returns
    -------
    scores : PlanarScores

    Examples
    --------
    >>> import numpy as np
    >>> import tiepoints as tp
    >>> from tiepoints.metrics.planar import score_planar_pair
    >>> features = tp.load("orb")(tp.read("examples/box.png"))
    >>> scores = score_planar_pair(features, features, np.eye(3))
    >>> float(scores.mma[0]), scores.repeatability
    (1.0, 1.0)
    """
    rules = profile_of(profile)
    H = np.asarray(H, np.float64)
    if rules.max_keypoints is not None:
        a, b = (f if len(f) <= rules.max_keypoints else f.top(rules.max_keypoints) for f in (a, b))
    distance = homography_error if rules.error == "forward" else symmetric_homography_error
    matches = match(a, b)
    errors = distance(H, *matches.points(a, b))
    in_b, in_a = covisible(a, b, H)
    counts = int(in_b.sum()), int(in_a.sum())
    if rules.score == "rematched":
        seen_a, seen_b = a.select(in_b), b.select(in_a)
        correct = _count_within(distance(H, *match(seen_a, seen_b).points(seen_a, seen_b)))
    else:
        correct = _count_within(errors)
    cost, comparisons = matching_cost(a, b)
    return PlanarScores(
        keypoints=(len(a), len(b)),
        covisible=counts,
        matches=len(matches),
        mma=share_within(errors),
        ms=_matching_score(correct, counts, rules.score),
        repeatability=repeatability(a.keypoints[in_b], b.keypoints[in_a], H, one_to_one=rules.repeats == "one-to-one"),
        homography=_homography_accuracy(a, b, matches, H, rules.estimator),
        cost=cost,
        comparisons=comparisons,
    )


def share_within(errors: ArrayLike) -> Float64:
    """Share of the errors (M,) at most each of THRESHOLDS; zeros where there are none. (10,) float64.

    Examples
    --------
    >>> from tiepoints.metrics.planar import share_within
    >>> share_within([0.5, 2.5])[:3].tolist()
    [0.5, 0.5, 1.0]
    """
    values = np.asarray(checks.present(errors, "errors"), np.float64)
    return _count_within(values) / max(len(values), 1)


def covisible(a: Features, b: Features, H: ArrayLike) -> tuple[Mask, Mask]:
    """Which keypoints of either image lie, once mapped, strictly inside the other: between its outer pixels' centres.

    Parameters
    ----------
    a, b : Features
    H : (3, 3) array
        b_from_a.

    Returns
    -------
    of_a, of_b : (Na,), (Nb,) bool

    Examples
    --------
    >>> import numpy as np
    >>> import tiepoints as tp
    >>> from tiepoints.metrics.planar import covisible
    >>> f = tp.Features([(10, 10), (60, 20)], np.eye(2), np.ones(2), (64, 48))
    >>> shift = np.array([[1, 0, 20], [0, 1, 0], [0, 0, 1]])
    >>> [mask.tolist() for mask in covisible(f, f, shift)]
    [[True, False], [False, True]]
    """
    a, b = checks.instance(a, "a", Features), checks.instance(b, "b", Features)
    matrix = np.asarray(H, np.float64)
    return (
        _inside(project(matrix, a.keypoints), b.image_size),
        _inside(project(np.linalg.inv(matrix), b.keypoints), a.image_size),
    )


def repeatability(
    points_a: ArrayLike, points_b: ArrayLike, H: ArrayLike, *, threshold: float = 3.0, one_to_one: bool = True
) -> float:
    """How many of the covisible keypoints the detector found again, as a share of their mean number.

    Parameters
    ----------
    points_a, points_b : (Na, 2), (Nb, 2) array
        Covisible keypoints of both images.
    H : (3, 3) array
        b_from_a.
    threshold : float
        Pixels of the second image.
    one_to_one : bool
        Count pairs that are each other's nearest, so that a crowd around one spot counts once. Otherwise the mean of
        both directions' counts of keypoints with any neighbour, which a crowd raises.

    Returns
    -------
    share : float
        In [0, 1]; 0 where either image has none.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.metrics.planar import repeatability
    >>> repeatability([[10, 10], [30, 30]], [[11, 10], [50, 50]], np.eye(3))
    0.5
    """
    mapped, others = project(H, points_a), np.asarray(points_b, np.float64).reshape(-1, 2)
    if not len(mapped) or not len(others):
        return 0.0
    ahead, distance = _nearest(mapped, others)
    back, distance_back = _nearest(others, mapped)
    if one_to_one:
        mutual = (back[ahead] == np.arange(len(mapped))) & (distance <= threshold)
        found = float(np.count_nonzero(mutual))
    else:
        found = (np.count_nonzero(distance <= threshold) + np.count_nonzero(distance_back <= threshold)) / 2
    return float(found / ((len(mapped) + len(others)) / 2))


def corner_error(estimate: ArrayLike | None, truth: ArrayLike, image_size: tuple[int, int]) -> float:
    """Mean distance between the first image's corners, mapped by two homographies; infinite for None.

    Parameters
    ----------
    estimate, truth : (3, 3) array
        Homographies; the estimate may be None.
    image_size : (int, int)
        (width, height) of the first image.

    Returns
    -------
    error : float
        Pixels of the second image.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.metrics.planar import corner_error
    >>> corner_error(np.diag([2.0, 2, 2]), np.eye(3), (64, 48)), corner_error(None, np.eye(3), (64, 48))
    (0.0, inf)
    """
    if estimate is None:
        return float("inf")
    width, height = image_size
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)
    with np.errstate(invalid="ignore"):
        distances = np.linalg.norm(project(estimate, corners) - project(truth, corners), axis=1)
    return float(np.mean(distances)) if np.isfinite(distances).all() else float("inf")


def matching_cost(a: Features, b: Features) -> tuple[float, float]:
    """How many descriptors meet: the sum over the sets of N0s N1s, relative to N0 N1 and as a number.

    Parameters
    ----------
    a, b : Features

    Returns
    -------
    cost : float
        In [0, 1]; 1 without sets, and where an image has no keypoints.
    comparisons : float

    Examples
    --------
    >>> import numpy as np, tiepoints as tp
    >>> from tiepoints.metrics.planar import matching_cost
    >>> f = tp.Features(np.ones((4, 2)), np.eye(4), np.ones(4), (64, 48), sets=[0, 0, 1, 1])
    >>> matching_cost(f, f)
    (0.5, 8.0)
    """
    everything = len(checks.instance(a, "a", Features)) * len(checks.instance(b, "b", Features))
    if a.sets is None or b.sets is None or not everything:
        return 1.0, float(everything)
    counts_a, counts_b = (np.bincount(f.sets, minlength=256).astype(np.float64) for f in (a, b) if f.sets is not None)
    meeting = float(counts_a @ counts_b)
    return meeting / everything, meeting


def _count_within(errors: Float64) -> Float64:
    return np.asarray((errors[:, None] <= THRESHOLDS).sum(axis=0), np.float64)


def _matching_score(correct: Float64, counts: tuple[int, int], score: str) -> Float64:
    if min(counts) == 0:  # nothing of one image is in sight: nothing can be correct
        return np.zeros(len(THRESHOLDS))
    if score == "halves":
        return (correct / counts[0] + correct / counts[1]) / 2
    return correct / ((counts[0] + counts[1]) / 2)


def _inside(points: Float64, size: tuple[int, int]) -> Mask:
    return np.asarray(((points > 0) & (points < np.array(size) - 1)).all(axis=1))


def _nearest(queries: Float64, points: Float64) -> tuple[NDArray[np.int64], Float64]:
    """Each query's nearest point, exactly: its row (N,) and distance (N,). A k-d tree in single precision."""
    tree = cv2.flann.Index(points.astype(np.float32), {"algorithm": 4, "leaf_max_size": 10})
    rows, _ = tree.knnSearch(queries.astype(np.float32), 1, params={"checks": -1})
    nearest = np.asarray(rows[:, 0], np.int64)
    return nearest, np.asarray(np.linalg.norm(queries - points[nearest], axis=1))


def _homography_accuracy(a: Features, b: Features, matches: Matches, H: Float64, estimator: str | None) -> Float64:
    if estimator is None:
        return np.full(len(THRESHOLDS), np.nan)
    if estimator == "ransac":
        estimates = [_ransac(*matches.points(a, b))]
    else:
        estimates = [homography(a, b, matches, threshold=3.0, seed=seed).matrix for seed in range(_SEEDS)]
    errors = np.array([corner_error(estimate, H, a.image_size) for estimate in estimates])
    return share_within(errors)


def _ransac(points_a: NDArray[np.float32], points_b: NDArray[np.float32]) -> Float64 | None:
    if len(points_a) < 4:
        return None
    estimate, _ = cv2.findHomography(points_a, points_b, cv2.RANSAC, 3.0)
    return None if estimate is None else np.asarray(estimate, np.float64)
