"""Synthetic scenes with known geometry: a plane, and a rigid scene before two cameras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tiepoints.camera import Camera
from tiepoints.geometry import project

Float64 = NDArray[np.float64]
SIZE = np.array([1000.0, 800.0])


@dataclass
class Scene:
    """Matches of two images, (M, 2) each, clean and as measured, and what they were made from."""

    a: Float64
    b: Float64
    clean_a: Float64
    clean_b: Float64
    inlier: NDArray[np.bool_]
    H: Float64 | None = None
    rotation: Float64 | None = None
    translation: Float64 | None = None
    world: Float64 | None = None  # (M, 3), in camera a's frame
    camera: Camera | None = None


def disturbed(
    rng: np.random.Generator, a: Float64, b: Float64, noise: float, outliers: float
) -> tuple[Float64, Float64, NDArray[np.bool_]]:
    """Gaussian noise on all points, and a share of the second image's points anywhere."""
    inlier = rng.permutation(len(a)) >= outliers * len(a)
    noisy_a, noisy_b = a + rng.normal(0, noise, a.shape), b + rng.normal(0, noise, b.shape)
    noisy_b[~inlier] = rng.uniform(0, 1, (np.count_nonzero(~inlier), 2)) * SIZE
    return noisy_a, noisy_b, inlier


def plane(seed: int = 0, n: int = 300, noise: float = 0.0, outliers: float = 0.0) -> Scene:
    """A plane; the homography moves the image's corners by up to a fifth of its size."""
    rng = np.random.default_rng(seed)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]]) * SIZE
    moved = corners + rng.uniform(-0.2, 0.2, (4, 2)) * SIZE
    H = cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32))
    clean_a = rng.uniform(0, 1, (n, 2)) * SIZE
    clean_b = project(H, clean_a)
    a, b, inlier = disturbed(rng, clean_a, clean_b, noise, outliers)
    return Scene(a, b, clean_a, clean_b, inlier, H=H / H[2, 2])


def _pixels(camera: Camera, points: Float64) -> Float64:
    """OpenCV's own projection, as an oracle for the distortion."""
    params = camera.params
    distortion = {
        "SIMPLE_RADIAL": lambda: np.array([params[3], 0, 0, 0]),
        "RADIAL": lambda: np.array([params[3], params[4], 0, 0]),
        "OPENCV": lambda: np.array(params[4:8]),
        "OPENCV_FISHEYE": lambda: np.array(params[4:8]),
        "FULL_OPENCV": lambda: np.array(params[4:12]),
    }.get(camera.model, lambda: np.zeros(4))()
    function = cv2.fisheye.projectPoints if camera.model == "OPENCV_FISHEYE" else cv2.projectPoints
    return function(points[:, None], np.zeros(3), np.zeros(3), camera.matrix, distortion)[0].reshape(-1, 2)


def rigid(
    seed: int = 0,
    n: int = 300,
    noise: float = 0.0,
    outliers: float = 0.0,
    camera: Camera | None = None,
    on_plane: float = 0.0,
) -> Scene:
    """Points at depths of 4 to 9 before two cameras 1 apart; a share of them on a plane."""
    rng = np.random.default_rng(seed)
    camera = camera or Camera("PINHOLE", 1000, 800, (900.0, 900.0, 499.5, 399.5))
    rotation = cv2.Rodrigues(rng.normal(0, 0.1, 3))[0]
    translation = rng.normal(size=3) * [1, 1, 0.5]
    translation /= np.linalg.norm(translation)
    depth = rng.uniform(4, 9, 20 * n)
    world = np.column_stack((rng.uniform(-0.5, 0.5, (20 * n, 2)) * depth[:, None], depth))
    flat = np.arange(20 * n) % n < on_plane * n
    world[flat, 2] = 6 + 0.2 * world[flat, 0] - 0.3 * world[flat, 1]
    in_b = world @ rotation.T + translation
    clean_a, clean_b = _pixels(camera, world), _pixels(camera, in_b)
    seen = ((clean_a >= 0) & (clean_a < SIZE) & (clean_b >= 0) & (clean_b < SIZE)).all(axis=1) & (in_b[:, 2] > 1)
    keep = np.flatnonzero(seen)[:n]
    assert len(keep) == n
    a, b, inlier = disturbed(rng, clean_a[keep], clean_b[keep], noise, outliers)
    return Scene(
        a,
        b,
        clean_a[keep],
        clean_b[keep],
        inlier,
        rotation=rotation,
        translation=translation,
        world=world[keep],
        camera=camera,
    )


@pytest.fixture
def plane_scene() -> Callable[..., Scene]:
    return plane


@pytest.fixture
def rigid_scene() -> Callable[..., Scene]:
    return rigid
