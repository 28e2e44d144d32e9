"""Pose errors and mAA: cases by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tiepoints.errors import InvalidInputError
from tiepoints.geometry import pose_error
from tiepoints.metrics.poses import (
    accuracies,
    mean_average_accuracy,
    pairwise_errors,
    relative_pose_between,
)

INF = float("inf")


def turned(*degrees: float) -> np.ndarray:
    return cv2.Rodrigues(np.radians(degrees))[0]


@pytest.mark.parametrize(
    ("errors", "expected", "at_5"),
    [
        ([0.0, 0.5, 0.999], 1.0, 1.0),
        ([INF, INF], 0.0, 0.0),
        ([10.0, 11, 180], 0.0, 0.0),  # the last bin is [9, 10)
        ([9.999], 0.1, 0.0),
        ([1.0], 0.9, 0.8),  # 1 is not below 1
        ([4.5], 0.6, 0.2),
        # two of four pairs: right from 1 degree on, and from 3 on; then (.25 * 2 + .5 * 8) / 10
        ([0.3, 2.2, INF, 90.0], 0.45, 0.4),
    ],
)
def test_maa_by_hand(errors: list[float], expected: float, at_5: float) -> None:
    assert mean_average_accuracy(errors) == pytest.approx(expected, abs=1e-12)
    assert mean_average_accuracy(errors, 5) == pytest.approx(at_5, abs=1e-12)


def test_accuracies_are_the_cumulative_histogram() -> None:
    np.testing.assert_allclose(accuracies([0.3, 2.2, INF, 90.0]), [0.25, 0.25] + [0.5] * 8)
    assert np.isnan(mean_average_accuracy([])), "no pairs: no figure, rather than a bad one"


@pytest.mark.parametrize(
    ("histogram", "maa5", "maa10"),
    [
        # The benchmark's released results of RootSIFT-upright (rootsift-upright-2k-both-degensac.json): pairs with a
        # covisibility of at least 0.2 and 0.5 of the stereo task, and bags of 25.
        ([0.3166935, 0.1415506, 0.0850423, 0.0575911, 0.0365140, 0.0259225, 0.0241990, 0.0177244, 0.0158435, 0.0128569],
         0.5112985, 0.6067576),
        ([0.3579228, 0.1796087, 0.0916010, 0.0799740, 0.0349056, 0.0318199, 0.0345909, 0.0094007, 0.0160673, 0.0163820],
         0.5955411, 0.7071947),
        ([0.5755111, 0.2003111, 0.0674667, 0.0317333, 0.0207556, 0.0140444, 0.0095111, 0.0082667, 0.0067111, 0.0049778],
         0.7930844, 0.8595778),
    ],
)  # fmt: skip
def test_maa_of_the_benchmarks_own_histograms(histogram: list[float], maa5: float, maa10: float) -> None:
    counts = np.rint(1e6 * np.array(histogram)).astype(int)
    errors = np.repeat(np.arange(10) + 0.5, counts)
    errors = np.concatenate((errors, np.full(1_000_000 - len(errors), INF)))
    assert mean_average_accuracy(errors) == pytest.approx(maa10, abs=2e-6)
    assert mean_average_accuracy(errors, 5) == pytest.approx(maa5, abs=2e-6)


@given(st.lists(st.floats(0, 200) | st.just(INF), min_size=1, max_size=30))
def test_maa_is_what_its_definition_says(errors: list[float]) -> None:
    expected = np.mean([np.mean([error < t for error in errors]) for t in range(1, 11)])
    assert mean_average_accuracy(errors) == pytest.approx(expected, abs=1e-12)
    assert mean_average_accuracy([*errors, INF]) <= mean_average_accuracy(errors) + 1e-12
    assert mean_average_accuracy(errors, 5) <= mean_average_accuracy(errors) + 1e-12


@pytest.mark.parametrize("errors", [[-1.0], [float("nan")]])
def test_what_is_no_error_is_refused(errors: list[float]) -> None:
    with pytest.raises(InvalidInputError, match="infinity for a pair without a pose"):
        mean_average_accuracy(errors)
    with pytest.raises(InvalidInputError, match="limit"):
        accuracies([1.0], 0)


def test_errors_of_constructed_poses() -> None:
    R, t = turned(10, -20, 5), np.array([1.0, 2, 3])
    assert pose_error(R, t, R, t) == pytest.approx((0, 0), abs=1e-6)
    assert pose_error(turned(0, 0, 7) @ R, t, R, t)[0] == pytest.approx(7)
    assert pose_error(R, turned(0, 0, 4) @ [1.0, 0, 0], R, [2.0, 0, 0])[1] == pytest.approx(4)
    assert pose_error(R, -5 * t, R, t)[1] == pytest.approx(0, abs=1e-6), (
        "the translation's sign and length do not count"
    )
    assert pose_error(R, [0, 1.0, 0], R, [1.0, 0, 0])[1] == pytest.approx(90)


def test_relative_pose_between_cameras() -> None:
    a, b = (turned(5, 10, 0), np.array([0.1, 0.2, 0.3])), (turned(-3, 20, 9), np.array([-1.0, 0.5, 2]))
    point = np.array([0.3, -0.7, 4.0])
    R, t = relative_pose_between(a, b)
    np.testing.assert_allclose(R @ (a[0] @ point + a[1]) + t, b[0] @ point + b[1], atol=1e-12)


def test_pairs_of_a_reconstruction() -> None:
    truth = {name: (turned(0, 10 * i, 0), np.array([i, 0.5 * i * i, 0.1 * i])) for i, name in enumerate("abcd")}
    # Another frame and scale: x' = 3 Q x + c; then cam_from_world' = (R Q^T, 3 t - R Q^T c).
    Q, c = turned(30, 40, 50), np.array([5.0, 6, 7])
    moved = {name: (R @ Q.T, 3 * t - R @ Q.T @ c) for name, (R, t) in truth.items()}
    errors = pairwise_errors(moved, truth)
    assert len(errors) == 6
    assert max(errors.values()) < 1e-5
    moved["b"] = (turned(0, 0, 6) @ moved["b"][0], turned(0, 0, 6) @ moved["b"][1])  # turned about its own centre
    errors = pairwise_errors(moved, truth)
    assert errors["a", "b"] == pytest.approx(6)
    assert errors["a", "c"] < 1e-5
    del moved["d"]
    errors = pairwise_errors(moved, truth)
    assert {pair for pair, error in errors.items() if error == INF} == {("a", "d"), ("b", "d"), ("c", "d")}
    assert mean_average_accuracy([*errors.values()]) == pytest.approx((3 / 6 * 4 + 1 / 6 * 6) / 10, abs=0.11)
    assert set(pairwise_errors({}, truth).values()) == {INF}
