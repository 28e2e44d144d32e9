"""Real matches are told from chance, whatever the number of matches."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tiepoints as tp
from tiepoints.geometry import log_nfa


@pytest.mark.parametrize("estimate", [tp.homography, tp.fundamental])
@pytest.mark.parametrize("count", [50, 300, 1000])
def test_unrelated_points_are_chance(estimate, count):
    rng = np.random.default_rng(count)
    a, b = rng.uniform([0, 0], [640, 480], (2, count, 2))
    model = estimate(a, b, threshold=1.0)
    assert log_nfa(model, 1.0, (640, 480)) > 0


@pytest.mark.parametrize("count", [100, 300, 1000])
def test_a_plane_among_outliers_is_not(count):
    rng = np.random.default_rng(count)
    a, b = rng.uniform([0, 0], [640, 480], (2, count, 2))
    b[: count // 3] = a[: count // 3] * 0.9 + 20
    assert log_nfa(tp.homography(a, b, threshold=1.0), 1.0, (640, 480)) < -20
    assert log_nfa(tp.fundamental(a, b, threshold=1.0), 1.0, (640, 480)) < 0 or count == 100


def test_more_inliers_are_better_evidence():
    def evidence(inliers: int) -> float:
        model = tp.geometry.Geometry("fundamental", np.eye(3), np.arange(500) < inliers)
        return log_nfa(model, 1.0, (640, 480))

    values = [evidence(n) for n in (60, 100, 200, 400)]
    assert values == sorted(values, reverse=True)
    nothing = tp.geometry.Geometry("fundamental", None, np.zeros(500, bool))
    assert log_nfa(nothing, 1.0, (640, 480)) == math.inf
    with pytest.raises(tp.InvalidInputError):
        log_nfa(tp.geometry.Geometry("fundamental", np.eye(3), np.ones(20, bool)), 0, (640, 480))
