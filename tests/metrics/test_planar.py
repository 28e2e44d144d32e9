"""The definitions behind the tables, on features whose every figure is counted by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tiepoints as tp
from tiepoints.errors import InvalidInputError
from tiepoints.geometry import project
from tiepoints.metrics.planar import (
    PROFILES,
    THRESHOLDS,
    corner_error,
    covisible,
    matching_cost,
    repeatability,
    score_planar_pair,
    share_within,
)

Make = Callable[..., tp.Features]
GRID = np.stack(np.meshgrid(np.arange(20, 76, 8), np.arange(16, 64, 8)), axis=-1).reshape(-1, 2).astype(float)  # 42
TILT = np.array([[1.05, 0.03, -2.0], [-0.02, 0.98, 1.5], [2e-4, -1e-4, 1.0]])


def moved(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


@pytest.mark.parametrize("profile", PROFILES)
def test_perfect_features_give_one(features: Make, profile: str) -> None:
    a, b = features(GRID), features(project(TILT, GRID))
    scores = score_planar_pair(a, b, TILT, profile)
    assert scores.matches == len(GRID) and scores.covisible == (len(GRID), len(GRID))
    assert (scores.mma == 1).all() and (scores.ms == 1).all() and (scores.homography == 1).all()
    assert scores.repeatability == 1 and scores.cost == 1 and scores.comparisons == len(GRID) ** 2


@pytest.mark.parametrize("profile", PROFILES)
def test_shuffled_descriptors_give_about_nothing(features: Make, profile: str) -> None:
    other = np.random.default_rng(0).permutation(len(GRID))
    scores = score_planar_pair(features(GRID), features(project(TILT, GRID), other), TILT, profile)
    assert scores.matches == len(GRID), "they all match, but wrongly"
    assert scores.mma[2] < 0.1 and scores.ms[2] < 0.1 and scores.homography[2] == 0
    assert scores.repeatability == 1, "the detector knows nothing of descriptors"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("count_a", "count_b"), [(0, 0), (0, 5), (5, 0)])
def test_a_pair_without_matches_counts_zero(features: Make, profile: str, count_a: int, count_b: int) -> None:
    scores = score_planar_pair(features(GRID[:count_a]), features(GRID[:count_b]), np.eye(3), profile)
    assert scores.matches == 0 and scores.keypoints == (count_a, count_b)
    for curve in (scores.mma, scores.ms, scores.homography):
        np.testing.assert_array_equal(curve, np.zeros(10))
    assert scores.repeatability == 0 and scores.cost == 1 and scores.comparisons == 0


def test_matching_score_with_part_of_the_image_shared(features: Make) -> None:
    """Image b shows a's right half, 50 px to the left; counted by hand for each profile.

    a: labels 0, 1 in the left half, out of b's sight; 2 to 5 in the right half. b: 2 and 3 in place, 4 off by 2.5 px,
    5 by 30 px; 6 in a's sight without a partner; 7 and 8 beyond a's right edge; label 0 where b shows something else.
    """
    a = features([(10, 10), (20, 40), (60, 20), (70, 40), (80, 60), (90, 30)], [0, 1, 2, 3, 4, 5])
    places = [(10, 20), (20, 40), (32.5, 60), (40, 60), (30, 20), (70, 30), (80, 30), (45, 70)]
    b = features(places, [2, 3, 4, 5, 6, 7, 8, 0])
    H = moved(-50, 0)
    d2net, aslfeat, strek = (score_planar_pair(a, b, H, name) for name in ("d2net", "aslfeat", "strek"))
    for scores in (d2net, aslfeat, strek):
        assert scores.covisible == (4, 6)  # b: 2, 3, 4, 5, 6 and 0
        np.testing.assert_allclose(scores.mma[:3], [2 / 5, 2 / 5, 3 / 5])  # putative: 0, 2, 3, 4, 5
    np.testing.assert_allclose(d2net.ms[:3], [2 / 5, 2 / 5, 3 / 5])  # mean of 4 and 6
    np.testing.assert_allclose(aslfeat.ms[:3], [2 / 5, 2 / 5, 3 / 5])
    half = [(c / 4 + c / 6) / 2 for c in (2, 2, 3)]
    np.testing.assert_allclose(strek.ms[:3], half)
    # found again within 3 px: 2, 3 and 4, in both directions
    assert d2net.repeatability == aslfeat.repeatability == pytest.approx(3 / 5)


def test_covisible_keypoints_are_matched_anew_in_aslfeat(features: Make) -> None:
    """b's keypoint of label 1 is taken by a's out of b's sight; among the covisible it finds its right partner."""
    vectors = np.array([[1, 0, 0, 0], [0.9, np.sqrt(1 - 0.81), 0, 0]], np.float32)
    a = tp.Features([(10, 10), (60, 20)], vectors, [2, 1], (100, 80))
    b = tp.Features([(10, 20)], vectors[:1], [1], (100, 80))
    assert score_planar_pair(a, b, moved(-50, 0), "d2net").ms[0] == 0
    assert score_planar_pair(a, b, moved(-50, 0), "aslfeat").ms[0] == 1


def test_strek_takes_the_larger_direction(features: Make) -> None:
    """b is a at a tenth: half a pixel in b is five pixels in a."""
    H = np.diag([0.1, 0.1, 1.0])
    a, b = features([(50, 40)]), features([(5.5, 4)], size=(10, 8))
    np.testing.assert_array_equal(score_planar_pair(a, b, H, "d2net").mma, np.ones(10))
    np.testing.assert_array_equal(score_planar_pair(a, b, H, "strek").mma, THRESHOLDS >= 5)


def test_strek_keeps_the_best_2048(features: Make) -> None:
    rng = np.random.default_rng(0)
    many = tp.Features(rng.uniform(1, 90, (2100, 2)), np.tile(np.eye(4), (525, 1)), np.arange(2100), (100, 100))
    assert score_planar_pair(many, many, np.eye(3), "strek").keypoints == (2048, 2048)
    assert score_planar_pair(many, many, np.eye(3), "d2net").keypoints == (2100, 2100)


def test_thresholds_are_inclusive() -> None:
    np.testing.assert_allclose(share_within([1.0, 1.0001, 10.0, np.inf])[[0, 1, 8, 9]], [0.25, 0.5, 0.5, 0.75])
    np.testing.assert_array_equal(share_within([]), np.zeros(10))


def test_covisible_is_strictly_inside(features: Make) -> None:
    points = [(0, 10), (0.01, 10), (99, 10), (98.99, 10), (10, 0), (10, 79), (10, 78.99), (50, 40)]
    inside, back = covisible(features(points), features(points), np.eye(3))
    assert inside.tolist() == back.tolist() == [False, True, False, True, False, False, True, True]


def test_points_that_go_to_infinity_are_not_covisible(features: Make) -> None:
    H = np.array([[1.0, 0, 0], [0, 1, 0], [-0.02, 0, 1]])  # x = 50 goes to infinity
    inside, _ = covisible(features([(50, 40), (10, 10)]), features([(10, 10)]), H)
    assert inside.tolist() == [False, True]


def test_repeatability_of_a_crowd() -> None:
    """Four keypoints around one of the other image: one repeats one to one, all have a neighbour."""
    crowd, single = [(10, 10), (11, 10), (10, 11), (9, 10)], [(10, 10), (50, 50)]
    assert repeatability(crowd, single, np.eye(3)) == pytest.approx(1 / 3)
    assert repeatability(crowd, single, np.eye(3), one_to_one=False) == pytest.approx(((4 + 1) / 2) / 3)
    assert repeatability(crowd, [(40, 40)], np.eye(3)) == 0
    assert repeatability([(10, 10)], [(13, 10)], np.eye(3)) == 1, "3 px are within 3 px"
    assert repeatability([(10, 10)], [(13.01, 10)], np.eye(3)) == 0


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60), st.booleans())
def test_repeatability_agrees_with_all_distances(seed: int, n: int, m: int, one_to_one: bool) -> None:
    rng = np.random.default_rng(seed)
    p, q = rng.uniform(0, 40, (n, 2)), rng.uniform(0, 40, (m, 2))
    distances = np.linalg.norm(p[:, None] - q[None], axis=2)
    ahead, back = distances.argmin(axis=1), distances.argmin(axis=0)
    if one_to_one:
        found = sum(back[ahead[i]] == i and distances[i, ahead[i]] <= 3 for i in range(n))
    else:
        found = ((distances.min(axis=1) <= 3).sum() + (distances.min(axis=0) <= 3).sum()) / 2
    assert repeatability(p, q, np.eye(3), one_to_one=one_to_one) == pytest.approx(found / ((n + m) / 2))


def test_corner_error() -> None:
    assert corner_error(moved(3, 4), np.eye(3), (640, 480)) == pytest.approx(5)
    assert corner_error(np.diag([1.01, 1.0, 1.0]), np.eye(3), (101, 50)) == pytest.approx(0.5)  # 0, 1, 1, 0 px
    assert corner_error(None, np.eye(3), (640, 480)) == np.inf
    horizon = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 639, 0, 1]])  # a corner at infinity
    assert corner_error(horizon, np.eye(3), (640, 480)) == np.inf


def test_matching_cost_of_sets(features: Make) -> None:
    whole = features(GRID[:12])
    assert matching_cost(whole, whole) == (1.0, 144.0)
    a = features(GRID[:6], sets=[0, 0, 0, 1, 1, 2])
    b = features(GRID[:4], sets=[0, 1, 1, 3])
    assert matching_cost(a, b) == (pytest.approx((3 * 1 + 2 * 2) / 24), 7.0)


def test_matches_stay_inside_their_sets(features: Make) -> None:
    """The same descriptors in other sets do not meet: half of the perfect matches go."""
    sets = np.arange(len(GRID)) % 2
    other = np.where(np.arange(len(GRID)) < len(GRID) // 2, sets, 1 - sets)
    scores = score_planar_pair(features(GRID, sets=sets), features(GRID, sets=other), np.eye(3))
    assert scores.cost == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(scores.ms, 0.5, atol=0.05)


def test_homographies_are_the_mean_over_five_seeds(features: Make) -> None:
    """So many outliers that the estimate depends on the samples that are drawn."""
    rng = np.random.default_rng(1)
    places = project(TILT, GRID) + rng.normal(0, 0.5, GRID.shape)
    places[:18] = rng.uniform(5, 75, (18, 2))
    a, b = features(GRID), features(places)
    matches = tp.match(a, b)
    shares = [
        corner_error(tp.homography(a, b, matches, threshold=3, seed=seed).matrix, TILT, a.image_size) <= THRESHOLDS
        for seed in range(5)
    ]
    assert len(np.unique(shares, axis=0)) > 1, "the seeds do not agree"
    np.testing.assert_allclose(score_planar_pair(a, b, TILT).homography, np.mean(shares, axis=0))


def test_unknown_profile(features: Make) -> None:
    with pytest.raises(InvalidInputError, match="d2net, aslfeat, strek"):
        score_planar_pair(features(GRID), features(GRID), np.eye(3), "d2-net")
