"""Fundamental matrix, essential matrix and relative pose of synthetic scenes and of Strecha's photographs."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

import tiepoints as tp
from tiepoints.camera import Camera
from tiepoints.errors import InvalidInputError
from tiepoints.geometry import (
    absolute_pose,
    essential,
    essential_from_fundamental,
    essential_from_pose,
    fundamental,
    fundamental_from_essential,
    pose_error,
    relative_pose,
    sampson_error,
)

DISTORTED = [
    Camera("SIMPLE_PINHOLE", 1000, 800, (900.0, 499.5, 399.5)),
    Camera("PINHOLE", 1000, 800, (900.0, 950.0, 480, 410)),
    Camera("SIMPLE_RADIAL", 1000, 800, (900.0, 499.5, 399.5, -0.2)),
    Camera("RADIAL", 1000, 800, (900.0, 499.5, 399.5, -0.2, 0.05)),
    Camera("OPENCV", 1000, 800, (900.0, 910.0, 499.5, 399.5, -0.2, 0.05, 0.001, -0.002)),
    Camera("OPENCV_FISHEYE", 1000, 800, (600.0, 605.0, 499.5, 399.5, -0.03, 0.01, 0.001, 0.0)),
    Camera("FULL_OPENCV", 1000, 800, (900.0, 910.0, 499.5, 399.5, -0.1, 0.02, 0.001, -0.002, 0.01, 0.02, 0.01, 0.01)),
]


def true_fundamental(scene) -> np.ndarray:
    K = scene.camera.matrix
    return fundamental_from_essential(essential_from_pose(scene.rotation, scene.translation), K, K)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


@pytest.mark.parametrize("n", [8, 12, 300])
def test_exact_points_give_the_exact_fundamental_matrix(rigid_scene, n: int) -> None:
    scene = rigid_scene(n=n)
    model = fundamental(scene.a, scene.b)
    assert model.kind == "fundamental"
    assert model.inliers.all()
    assert np.linalg.norm(model.matrix) == pytest.approx(1)
    assert abs(np.linalg.det(model.matrix)) < 1e-15
    if n > 8:
        other = rigid_scene(n=300)
        assert sampson_error(model.matrix, other.a, other.b).max() < 0.1
        np.testing.assert_allclose(model.matrix, true_fundamental(scene), atol=1e-4)


@pytest.mark.parametrize(("outliers", "worst"), [(0.3, 0.25), (0.5, 0.3), (0.7, 0.6)])
def test_fundamental_matrix_with_noise_and_outliers(rigid_scene, outliers: float, worst: float) -> None:
    for seed in range(4):
        scene = rigid_scene(seed, n=400, noise=0.5, outliers=outliers)
        model = fundamental(scene.a, scene.b, threshold=2.0)
        # the true points' distance from the estimate, over the whole scene
        assert rms(sampson_error(model.matrix, scene.clean_a, scene.clean_b)) < worst
        np.testing.assert_array_equal(model.inliers, sampson_error(model.matrix, scene.a, scene.b) <= 2.0)
        assert (model.inliers & scene.inlier).sum() > 0.97 * scene.inlier.sum()


def test_a_dominant_plane_does_not_mislead_the_fundamental_matrix(rigid_scene) -> None:
    off_plane = []
    for seed in range(5):
        scene = rigid_scene(seed, n=400, noise=0.5, outliers=0.3, on_plane=0.8)
        F = fundamental(scene.a, scene.b, threshold=2.0).matrix
        off = np.abs(scene.world[:, 2] - (6 + 0.2 * scene.world[:, 0] - 0.3 * scene.world[:, 1])) > 1e-9
        assert 40 < off.sum() < 120  # those on the plane fit any of the matrices
        off_plane.append(rms(sampson_error(F, scene.clean_a[off], scene.clean_b[off])))
    assert np.median(off_plane) < 0.5
    assert max(off_plane) < 1.5


def test_a_planar_scene_still_separates_the_outliers(rigid_scene) -> None:
    scene = rigid_scene(n=400, noise=0.5, outliers=0.4, on_plane=1.0)
    model = fundamental(scene.a, scene.b)
    assert model
    assert (model.inliers & scene.inlier).sum() > 0.8 * scene.inlier.sum()


def test_swapping_the_images_transposes_the_fundamental_matrix(rigid_scene) -> None:
    scene = rigid_scene()
    F, swapped = fundamental(scene.a, scene.b).matrix, fundamental(scene.b, scene.a).matrix
    np.testing.assert_allclose(np.abs(F), np.abs(swapped.T), atol=1e-5)


def test_exact_points_give_the_exact_pose(rigid_scene) -> None:
    scene = rigid_scene()
    pose = relative_pose(scene.a, scene.b, camera_a=scene.camera, camera_b=scene.camera)
    assert pose.inliers.all()
    assert max(pose_error(pose.rotation, pose.translation, scene.rotation, scene.translation)) < 1e-6
    assert np.linalg.norm(pose.translation) == pytest.approx(1)
    assert pose.translation @ scene.translation > 0.999  # the sign is known: the points lie in front
    np.testing.assert_allclose(pose.rotation @ pose.rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(pose.rotation @ pose.center + pose.translation, 0, atol=1e-12)
    model = essential(scene.a, scene.b, camera_a=scene.camera, camera_b=scene.camera)
    K = scene.camera.matrix
    np.testing.assert_allclose(essential(scene.a, scene.b, None, K, K).matrix, model.matrix, atol=1e-6)
    for arguments, message in (((K,), "matches is .*camera_a=K"), ((None, K), "camera_b is missing"), ((), "camera_a")):
        for estimate in (essential, relative_pose):
            with pytest.raises(InvalidInputError, match=message):
                estimate(scene.a, scene.b, *arguments)
    with pytest.raises(InvalidInputError, match=r"matches is 3\.0, .*threshold=3\.0"):
        tp.homography(scene.a, scene.b, 3.0)
    assert model.kind == "essential"
    np.testing.assert_array_equal(model.inliers, pose.inliers)
    np.testing.assert_allclose(np.linalg.svd(model.matrix)[1], [np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-12)


@pytest.mark.parametrize("camera", DISTORTED, ids=lambda c: c.model)
def test_relative_pose_of_distorted_cameras(rigid_scene, camera: Camera) -> None:
    scene = rigid_scene(3, noise=0.3, outliers=0.5, camera=camera)
    other = Camera.from_matrix(camera.matrix, (1000, 800))
    pose = relative_pose(scene.a, scene.b, camera_a=camera, camera_b=camera)
    rotation, translation = pose_error(pose.rotation, pose.translation, scene.rotation, scene.translation)
    assert rotation < 0.15
    assert translation < 1.0
    assert (pose.inliers & scene.inlier).sum() > 0.9 * scene.inlier.sum()
    if camera.model not in ("SIMPLE_PINHOLE", "PINHOLE"):  # and the distortion mattered
        naive = relative_pose(scene.a, scene.b, camera_a=other, camera_b=other)
        assert pose_error(naive.rotation, naive.translation, scene.rotation, scene.translation)[0] > 1


def test_the_inliers_of_a_pose_follow_the_threshold_in_pixels(rigid_scene) -> None:
    scene = rigid_scene(noise=0.7, outliers=0.4)
    K = scene.camera.matrix
    for threshold in (0.5, 1.0, 3.0):
        model = essential(scene.a, scene.b, camera_a=scene.camera, camera_b=scene.camera, threshold=threshold)
        # of equal pinholes, the Sampson distance in pixels is that of the fundamental matrix
        errors = sampson_error(fundamental_from_essential(model.matrix, K, K), scene.a, scene.b)
        np.testing.assert_array_equal(model.inliers, errors <= threshold)


def test_a_point_on_the_principal_point_counts(rigid_scene) -> None:
    camera = Camera("SIMPLE_RADIAL", 1001, 801, (900.0, 500.0, 400.0, 0.0))
    scene = rigid_scene(camera=camera)
    a = np.vstack((scene.a, [[500.0, 400.0]]))
    ahead = scene.rotation @ [0, 0, 5.0] + scene.translation
    b = np.vstack((scene.b, 900 * ahead[:2] / ahead[2] + [500, 400]))
    pose = relative_pose(a, b, camera_a=camera, camera_b=camera)
    assert pose.inliers.all()
    assert absolute_pose(a, np.vstack((scene.world, [[0, 0, 5.0]])), camera).inliers.all()


def test_a_turning_camera_has_a_rotation_all_the_same(rigid_scene) -> None:
    scene = rigid_scene(noise=0.0)
    direction = scene.world @ scene.rotation.T
    b = direction[:, :2] / direction[:, 2:] * 900 + scene.camera.matrix[:2, 2]
    pose = relative_pose(scene.a, b, camera_a=scene.camera, camera_b=scene.camera)
    assert pose_error(pose.rotation, pose.translation, scene.rotation, np.zeros(3))[0] < 0.01


@pytest.mark.parametrize("camera", DISTORTED, ids=lambda c: c.model)
def test_absolute_pose_of_distorted_cameras(rigid_scene, camera: Camera) -> None:
    scene = rigid_scene(4, noise=0.5, outliers=0.6, camera=camera)
    # the world in millimetres and far from its origin
    world = scene.world * 1000 + [4e6, 5e6, 100]
    pose = absolute_pose(scene.b, world, camera)
    assert pose_error(pose.rotation, scene.translation, scene.rotation, scene.translation)[0] < 0.15
    centre = -scene.rotation.T @ scene.translation * 1000 + [4e6, 5e6, 100]
    assert np.linalg.norm(pose.center - centre) < 15  # of depths of 4,000 to 9,000
    assert (pose.inliers & scene.inlier).sum() > 0.99 * scene.inlier.sum()
    assert (pose.inliers & ~scene.inlier).sum() <= 2


def test_exact_points_give_the_exact_absolute_pose(rigid_scene) -> None:
    scene = rigid_scene(n=30)
    pose = absolute_pose(scene.b, scene.world, scene.camera, threshold=1.0)
    np.testing.assert_allclose(pose.rotation, scene.rotation, atol=1e-7)
    np.testing.assert_allclose(pose.translation, scene.translation, atol=1e-6)


def test_points_behind_the_camera_are_no_inliers(rigid_scene) -> None:
    scene = rigid_scene()
    a = np.vstack((scene.a, scene.a[:50]))
    world = np.vstack((scene.world, -scene.world[:50]))  # mirrored at the centre: the same pixel
    pose = absolute_pose(a, world, scene.camera)
    assert pose.inliers[:300].all()
    assert not pose.inliers[300:].any()


def test_essential_agrees_with_the_fundamental_matrix(rigid_scene) -> None:
    scene = rigid_scene()
    K = scene.camera.matrix
    E = essential(scene.a, scene.b, camera_a=scene.camera, camera_b=scene.camera).matrix
    F = fundamental(scene.a, scene.b).matrix
    np.testing.assert_allclose(essential_from_fundamental(F, K, K), E, atol=1e-3)


def strecha(shared: Path, scene: str, names: list[str]) -> dict[str, tuple]:
    """Camera, rotation, translation, keypoints and descriptors by image."""
    folder = shared / "data" / "strecha" / scene
    sift = cv2.SIFT_create(1500, enable_precise_upscale=True)
    found = {}
    with (folder / "cameras.csv").open() as file:
        for row in csv.reader(file):
            if row[0] in names:
                v = np.array(row[1:], float)
                camera = Camera.from_matrix(v[2:11].reshape(3, 3), (int(v[0]), int(v[1])))
                image = cv2.imread(str(folder / "images" / row[0]), cv2.IMREAD_GRAYSCALE)
                keypoints, descriptors = sift.detectAndCompute(image, None)
                points = np.array([p.pt for p in keypoints])
                found[row[0]] = camera, v[11:20].reshape(3, 3), v[20:23], points, descriptors
    return found


def mutual(a: np.ndarray, b: np.ndarray) -> tuple[list[int], list[int]]:
    matches = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(a, b)
    return [m.queryIdx for m in matches], [m.trainIdx for m in matches]


@pytest.mark.parametrize("scene", ["fountain-P11", "Herz-Jesus-P8"])
def test_real_photographs(shared: Path, scene: str) -> None:
    names = ["0003.jpg", "0004.jpg", "0005.jpg"]
    images = strecha(shared, scene, names)
    for x, y in pairwise(names):
        camera_a, R_a, t_a, points_a, d_a = images[x]
        camera_b, R_b, t_b, points_b, d_b = images[y]
        i, j = mutual(d_a, d_b)
        rotation = R_b @ R_a.T
        truth = rotation, t_b - rotation @ t_a
        pose = relative_pose(points_a[i], points_b[j], camera_a=camera_a, camera_b=camera_b)
        assert max(pose_error(pose.rotation, pose.translation, *truth)) < 1.0
        F = fundamental(points_a[i], points_b[j])
        K_a, K_b = camera_a.matrix, camera_b.matrix
        true_F = fundamental_from_essential(essential_from_pose(*truth), K_a, K_b)
        agreeing = F.inliers & pose.inliers
        assert agreeing.sum() > 0.8 * pose.num_inliers
        assert np.median(sampson_error(true_F, points_a[i][agreeing], points_b[j][agreeing])) < 0.7

    # the middle image, from points that the outer two triangulate with the true cameras
    (c, R_c, t_c, p_c, d_c), (q, R_q, t_q, p_q, d_q), (e, R_e, t_e, p_e, d_e) = (images[n] for n in names)
    i, j = mutual(d_c, d_e)
    projections = [k.matrix @ np.column_stack((R, t)) for k, R, t in ((c, R_c, t_c), (e, R_e, t_e))]
    world = cv2.triangulatePoints(*projections, p_c[i].T, p_e[j].T)
    world = (world[:3] / world[3]).T
    k, m = mutual(d_c[i], d_q)
    pose = absolute_pose(p_q[m], world[k], q)
    assert pose_error(pose.rotation, pose.translation, R_q, t_q)[0] < 0.1
    assert np.linalg.norm(pose.center + R_q.T @ t_q) < 0.03  # metres, of about 8 to the building


def test_a_camera_that_is_missing_is_a_mistake_of_the_caller(rigid_scene) -> None:
    scene = rigid_scene()
    with pytest.raises(InvalidInputError, match="camera_a is missing"):
        relative_pose(scene.a, scene.b)
    with pytest.raises(InvalidInputError, match="300 points2d but 299 points3d"):
        absolute_pose(scene.a, scene.world[1:], scene.camera)


def test_the_best_first_need_fewer_samples():
    """A quarter of right matches with the best scores: found in few samples, and flags stand where the matches do."""
    rng = np.random.default_rng(5)
    world = rng.uniform([-2, -2, 4], [2, 2, 8], (400, 3))
    a = world[:, :2] / world[:, 2:] * 500 + 320
    b = (world[:, :2] + [0.5, 0.1]) / (world[:, 2:] + 0.2) * 500 + 320
    right = np.arange(400) % 8 == 0
    b[~right] = rng.uniform(0, 640, (350, 2))
    features = [tp.Features(p, np.zeros((400, 0)), np.ones(400), (640, 640)) for p in (a, b)]
    matches = tp.Matches(np.column_stack([np.arange(400)] * 2), np.where(right, 0.9, 0.5))
    model = tp.fundamental(*features, matches, max_iterations=100, best_first=True)
    assert model and model.inliers[right].all() and model.num_inliers < 100
    assert not tp.fundamental(*features, matches, max_iterations=100).inliers[right].all()
