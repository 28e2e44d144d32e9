"""Matches along an edge, which padding makes, are no evidence by themselves; in a scene they stay."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import tiepoints as tp
from tiepoints.geometry.chance import is_verified

from .test_watermark import SIZE, plane, run

EDGES = {"left": (0, 0), "top": (1, 0), "right": (0, 1), "bottom": (1, 1)}


def along(edge: str, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points as far from the edge in both images, and anywhere along it."""
    axis, far = EDGES[edge]
    a, b = rng.uniform([5, 5], np.subtract(SIZE, 6), (2, count, 2))
    depth = rng.uniform(4, 31, count)
    a[:, axis] = (SIZE[axis] - 1 - depth) if far else depth
    b[:, axis] = a[:, axis] + rng.normal(0, 0.5, count)
    return a, b


@pytest.mark.parametrize("edge", EDGES)
def test_matches_along_an_edge_are_no_evidence(edge: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (np.vstack([p, rng.uniform([0, 0], SIZE, (400, 2))]) for p in along(edge, 70, rng))
    found = run(tp.fundamental, a, b)
    assert is_verified(tp.fundamental(a, b), SIZE), "without the images' sizes they look like evidence"
    assert found and not is_verified(found, SIZE) and not found.inliers[:70].mean() > 0.5


CAMERA = tp.Camera.from_focal(500, SIZE)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("estimate", [tp.relative_pose, tp.essential])
def test_nor_are_they_for_calibrated_cameras(edge: str, estimate: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = (np.vstack([p, rng.uniform([0, 0], SIZE, (400, 2))]) for p in along(edge, 120, rng))
    assert is_verified(estimate(a, b, None, CAMERA, CAMERA), SIZE), "without the images' sizes they look like evidence"
    found = run(partial(estimate, camera_a=CAMERA, camera_b=CAMERA), a, b)
    assert not is_verified(found, SIZE) and not found.inliers[:120].mean() > 0.5


def test_a_scene_of_calibrated_cameras_stays() -> None:
    rng = np.random.default_rng(3)
    world = np.column_stack([rng.uniform(-3, 3, 200), rng.uniform(-2, 2, 200), rng.uniform(3, 8, 200)])
    a, b = (500 * seen[:, :2] / seen[:, 2:] + np.subtract(SIZE, 1) / 2 for seen in (world, world - (0.4, 0.1, 0.2)))
    there = ((a > 0) & (b > 0) & (a < SIZE) & (b < SIZE)).all(axis=1)
    low = there & (a[:, 1] > SIZE[1] - 60) | (there & (rng.uniform(0, 1, 200) < 0.2))
    assert low.sum() > 20
    assert run(partial(tp.relative_pose, camera_a=CAMERA, camera_b=CAMERA), a[low], b[low]).inliers.all()


def test_inliers_of_a_scene_along_an_edge_stay() -> None:
    rng = np.random.default_rng(1)
    scene = rng.uniform([40, 40], np.subtract(SIZE, 40), (60, 2))
    a, _ = along("bottom", 60, rng)
    moved = np.vstack([plane(scene), plane(a)])
    found = run(tp.fundamental, np.vstack([scene, a]), moved)
    assert found.inliers.mean() > 0.95 and is_verified(found, SIZE)
    still = np.vstack([scene, a])
    assert run(tp.fundamental, still, still).inliers.all(), "a tripod's second picture"


def test_a_seam_of_a_panorama_stays() -> None:
    """What one image shows along its right edge, the other shows along its left one."""
    rng = np.random.default_rng(2)
    a = rng.uniform([SIZE[0] - 30, 0], SIZE, (120, 2))
    found = run(tp.homography, a, a - (SIZE[0] - 30, -3))
    assert found.inliers.all() and is_verified(found, SIZE)


@pytest.mark.parametrize("seed", [2, 3])
def test_two_images_of_noise_are_not_verified(seed: int) -> None:
    a, b = np.random.default_rng(seed).integers(0, 256, (2, 480, 640), np.uint8)
    pair = tp.match_images(a, b)
    assert pair.verified is False
    points_a, points_b = pair.matches.points(pair.a, pair.b)
    assert is_verified(tp.fundamental(points_a, points_b), SIZE), "or this tests nothing"
