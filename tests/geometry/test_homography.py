"""Homographies of synthetic planes and of real photographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tiepoints.features import Features, Matches
from tiepoints.geometry import homography, homography_error, project, symmetric_homography_error
from tiepoints.geometry.refinement import refined

CORNERS = np.array([[0, 0], [999, 0], [999, 799], [0, 799.0]])


def corner_error(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(project(found, CORNERS) - project(truth, CORNERS), axis=1).mean())


@pytest.mark.parametrize("n", [8, 20, 300])
def test_exact_points_give_the_exact_homography(plane_scene, n: int) -> None:
    scene = plane_scene(n=n)
    model = homography(scene.a, scene.b)
    assert model
    assert model.kind == "homography"
    assert model.inliers.all()
    assert model.matrix[2, 2] == 1
    # OpenCV computes in float32: 1e-3 pixels, and with 8 points no averaging
    assert corner_error(model.matrix, scene.H) < (0.02 if n == 8 else 5e-3)


@pytest.mark.parametrize(("outliers", "worst"), [(0.0, 0.6), (0.3, 0.7), (0.5, 0.8), (0.8, 2.0)])
def test_noise_and_outliers(plane_scene, outliers: float, worst: float) -> None:
    errors = []
    for seed in range(5):
        scene = plane_scene(seed, n=400, noise=0.5, outliers=outliers)
        model = homography(scene.a, scene.b)
        errors.append(corner_error(model.matrix, scene.H))
        found = model.inliers
        assert (found & scene.inlier).sum() > 0.97 * scene.inlier.sum()
        assert (found & ~scene.inlier).sum() <= 3
    assert max(errors) < worst
    assert np.median(errors) < worst / 2


def test_inliers_are_within_the_threshold_in_both_images(plane_scene) -> None:
    scene = plane_scene(noise=1.0, outliers=0.4)
    for threshold in (1.0, 2.5, 6.0):
        model = homography(scene.a, scene.b, threshold=threshold)
        errors = symmetric_homography_error(model.matrix, scene.a, scene.b)
        np.testing.assert_array_equal(model.inliers, errors <= threshold)
        assert (errors >= homography_error(model.matrix, scene.a, scene.b)).all()


def test_swapping_the_images_gives_the_inverse(plane_scene) -> None:
    scene = plane_scene()
    inverse = homography(scene.b, scene.a).matrix
    assert corner_error(np.linalg.inv(inverse), scene.H) < 0.01


def test_scaling_and_moving_both_images_transforms_the_homography(plane_scene) -> None:
    scene = plane_scene(noise=0.3, outliers=0.3)
    plain = homography(scene.a, scene.b, threshold=3.0)
    for scale, moved in ((2.0, np.array([0.0, 0])), (0.5, np.array([-700.0, 300])), (1.0, np.array([5000.0, -9000]))):
        other = homography(scale * scene.a + moved, scale * scene.b + moved, threshold=3.0 * scale)
        S = np.array([[scale, 0, moved[0]], [0, scale, moved[1]], [0, 0, 1]])
        np.testing.assert_array_equal(plain.inliers, other.inliers)
        assert corner_error(np.linalg.inv(S) @ other.matrix @ S, plain.matrix) < 0.4


def test_features_and_matches_are_the_same_as_their_points(plane_scene) -> None:
    scene = plane_scene(n=50, noise=0.3)
    order = np.random.default_rng(1).permutation(50)
    a = Features(scene.a, np.zeros((50, 4)), np.zeros(50), (1000, 800))
    b = Features(scene.b[order], np.zeros((50, 4)), np.zeros(50), (1000, 800))
    matches = Matches(np.column_stack((np.arange(50), np.argsort(order))), np.ones(50))
    model = homography(a, b, matches)
    points = homography(scene.a.astype(np.float32), scene.b.astype(np.float32))
    np.testing.assert_array_equal(model.matrix, points.matrix)
    np.testing.assert_array_equal(model.inliers, points.inliers)


def test_a_homography_may_send_the_corner_to_infinity() -> None:
    H = np.array([[600.0, 0, -1e5], [0, 300, 0], [1, 0, 0]])  # H[2, 2] = 0: (0, 0) is on the horizon
    a = np.random.default_rng(0).uniform([200, 100], [1000, 800], (100, 2))
    model = homography(a, project(H, a))
    assert model.inliers.all()
    assert homography_error(model.matrix, a, project(H, a)).max() < 0.01


def test_no_inliers_behind_the_camera() -> None:
    """Exact points on both sides of the line that goes to infinity: a plane is seen from one of them."""
    rng = np.random.default_rng(4)
    H = np.array([[1.0, 0.1, 20.0], [-0.1, 1.2, 5.0], [0.002, 0.0, -1.0]])  # x = 500 goes to infinity
    a = np.concatenate([rng.uniform((600, 0), (1000, 800), (60, 2)), rng.uniform((0, 0), (400, 800), (15, 2))])
    b = project(H, a)
    beyond = np.arange(75) >= 60
    assert (symmetric_homography_error(H, a, b) < 1e-6).all(), "the equations hold on both"
    model = homography(a, b)
    assert model and (model.inliers == ~beyond).all()
    wider = refined(model, a, b, None, 3.0)
    assert wider and (wider.inliers == ~beyond).all()


def test_a_mirrored_plane_is_no_view_of_it(plane_scene) -> None:
    scene = plane_scene()
    assert not homography(scene.a, scene.b * [-1, 1])


@pytest.mark.parametrize(("folder", "k"), [("v_boat", 2), ("v_dogman", 3), ("v_graffiti", 2), ("v_graffiti", 3)])
def test_real_planes(shared: Path, folder: str, k: int) -> None:
    sequence = shared / "data" / "hpatches" / folder
    sift = cv2.SIFT_create(2048, enable_precise_upscale=True)
    points, descriptors = [], []
    for number in (1, k):
        image = cv2.imread(str(next(sequence.glob(f"{number}.*"))), cv2.IMREAD_GRAYSCALE)
        keypoints, d = sift.detectAndCompute(image, None)
        points.append(np.array([p.pt for p in keypoints]))
        descriptors.append(d)
    matches = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(*descriptors)
    a, b = points[0][[m.queryIdx for m in matches]], points[1][[m.trainIdx for m in matches]]
    model = homography(a, b)
    assert model.num_inliers > 100
    truth = np.loadtxt(sequence / f"H_1_{k}")
    height, width = cv2.imread(str(next(sequence.glob("1.*"))), cv2.IMREAD_GRAYSCALE).shape
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1.0]])
    assert np.linalg.norm(project(model.matrix, corners) - project(truth, corners), axis=1).mean() < 3
