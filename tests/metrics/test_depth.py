"""Repeatability and matching score by depth maps: cases by hand, and the made-up scene where everything is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tiepoints.datasets.hdf5 import read_depth
from tiepoints.datasets.scenes import View, read_scene
from tiepoints.metrics.depth import depth_at, matching_scores, repeatabilities, transfer

K = np.array([[100.0, 0, 50], [0, 100, 50], [0, 0, 1]])


def view(x: float) -> View:
    """A camera at [x, 0, 0] that looks along z."""
    return View("", Path(), K, np.eye(3), np.array([-x, 0.0, 0]))


def test_depth_of_the_pixel_below() -> None:
    depth = np.array([[1, 2, 3], [4, 5, 0]], np.float32)
    points = [[0.4, 0.4], [0.6, 0.4], [1.4, 1.4], [2, 1], [-0.6, 0], [2.6, 0], [0, 1.6]]
    assert depth_at(depth, points).tolist() == [1, 2, 5, 0, 0, 0, 0]


def test_transfer_by_hand() -> None:
    # 2 m away, camera b is 0.1 m to the right: 0.1 / 2 * 100 = 5 pixels to the left.
    projected = transfer([[50, 50], [60, 40], [0, 0]], np.array([2.0, 2.0, 0.0]), view(0).camera, view(0.1).camera)
    np.testing.assert_allclose(projected[:2], [[45, 50], [55, 40]])
    assert np.isnan(projected[2]).all(), "without depth nothing is known"


def test_repeatability_with_a_part_of_the_image_shared() -> None:
    a = np.array([[10.0, 10], [20, 20], [30, 30], [90, 90], [70, 70]])
    a_in_b = np.array(
        [[10.0, 12.5], [20, 21], [30, 39], [140, 90], [np.nan, np.nan]]
    )  # the last two: outside, no depth
    b, b_in_a = np.array([[10.0, 10], [20, 20]]), np.array([[10.0, 10], [500, 20]])
    found = repeatabilities(a, b, a_in_b, b_in_a, (100, 100), (100, 100))
    # a in b: 2.5, 1 and 19.2 px of three covisible ones; b in a: 0 px of the one covisible.
    np.testing.assert_allclose(found[:3], [(0 / 3 + 1) / 2, (1 / 3 + 1) / 2, (2 / 3 + 1) / 2])
    assert found[9] == pytest.approx((2 / 3 + 1) / 2)
    nowhere = np.full((5, 2), np.nan)
    assert repeatabilities(a, b, nowhere, np.full((2, 2), np.nan), (100, 100), (100, 100)).tolist() == [0] * 10
    assert repeatabilities(a, np.zeros((0, 2)), a_in_b, np.zeros((0, 2)), (9, 9), (99, 99)).tolist() == [0] * 10


def test_matching_score_by_hand() -> None:
    a = np.array([[10.0, 10], [20, 20], [30, 30], [40, 40]])
    b_in_a = np.array([[10.0, 12.5], [20, 20.5], [np.nan, np.nan], [40, 40]])
    scores = matching_scores(a, b_in_a, np.array([1.0, 1, 1, 0]))
    np.testing.assert_allclose(scores[:3], [0.5, 0.5, 1], err_msg="the two without depth do not count")
    assert matching_scores(a, b_in_a, np.zeros(4)).tolist() == [0] * 10
    assert matching_scores(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0)).tolist() == [0] * 10


def test_true_points_are_repeatable(scene_folder: Path, world) -> None:
    scene = read_scene(scene_folder)
    names = list(scene.views)
    (pixels_a, true_a, shown_a), (pixels_b, _, shown_b) = world.seen(1), world.seen(4)
    a, b = (scene.views[names[i]] for i in (1, 4))
    depth_a, depth_b = (depth_at(read_depth(v.depth), p) for v, p in ((a, pixels_a), (b, pixels_b)))
    alone = np.abs(depth_a - true_a) < 1e-4  # where two points share a pixel of the map, one has the other's depth
    assert alone.mean() > 0.95
    a_in_b, b_in_a = transfer(pixels_a, depth_a, a.camera, b.camera), transfer(pixels_b, depth_b, b.camera, a.camera)
    _, in_a, in_b = np.intersect1d(shown_a, shown_b, return_indices=True)
    good = alone[in_a]
    assert len(in_a) > 300
    np.testing.assert_allclose(a_in_b[in_a][good], pixels_b[in_b][good], atol=1e-3)
    size = (640, 480)
    assert repeatabilities(pixels_a, pixels_b, a_in_b, b_in_a, size, size)[2] > 0.8
    assert matching_scores(pixels_a[in_a], b_in_a[in_b], depth_a[in_a])[2] > 0.95
    wrong = np.roll(in_b, 1)
    assert matching_scores(pixels_a[in_a], b_in_a[wrong], depth_a[in_a])[2] < 0.05
