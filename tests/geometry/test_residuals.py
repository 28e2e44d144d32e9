"""Residuals and errors against definitions written out, and at the edges."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import pytest

from tiepoints.errors import InvalidInputError
from tiepoints.geometry import (
    epipolar_error,
    essential_from_fundamental,
    essential_from_pose,
    fundamental_from_essential,
    homography_error,
    pose_error,
    project,
    sampson_error,
    symmetric_homography_error,
)


def about(axis: list[float], degrees: float) -> np.ndarray:
    axis_ = np.array(axis) / np.linalg.norm(axis)
    return cv2.Rodrigues(axis_ * np.radians(degrees))[0]


def test_project_is_perspective_division() -> None:
    H = np.array([[2.0, 0, 1], [0, 3, -1], [0.001, 0, 1]])
    assert project(H, [[0, 0], [1000, 10]]).tolist() == [[1, -1], [2001 / 2, 29 / 2]]
    assert project(H, np.zeros((0, 2))).shape == (0, 2)


def test_points_on_the_horizon_go_to_infinity_without_a_warning() -> None:
    H = np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 0]])
    assert np.isinf(project(H, [[0.0, 5], [0, 0]])).all()
    assert np.isinf(homography_error(H, [[0.0, 5]], [[1.0, 2]])).all()


def test_homography_errors_forward_and_symmetric() -> None:
    H = np.diag([2.0, 2, 1])  # image b is twice as large: an error there is half as much in image a
    a, b = np.array([[10.0, 20], [0, 0]]), np.array([[23.0, 44], [0, 1]])
    np.testing.assert_allclose(homography_error(H, a, b), [5, 1])
    np.testing.assert_allclose(symmetric_homography_error(H, a, b), [5, 1])
    np.testing.assert_allclose(symmetric_homography_error(np.linalg.inv(H), b, a), [5, 1])
    assert np.isinf(symmetric_homography_error(np.ones((3, 3)), a, b)).all()


def test_sampson_and_epipolar_error_of_a_sideways_motion(rigid_scene) -> None:
    # Motion along x of equal cameras: epipolar lines are rows, b^T F a = y_b - y_a up to sign.
    F = np.array([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    a, b = np.array([[10.0, 20], [3, 4]]), np.array([[700.0, 24], [9, 4]])
    np.testing.assert_allclose(epipolar_error(F, a, b), [4, 0])
    np.testing.assert_allclose(sampson_error(F, a, b), [4 / np.sqrt(2), 0])


def test_sampson_error_is_opencv_s(rigid_scene) -> None:
    scene = rigid_scene(noise=3.0)
    E = essential_from_pose(scene.rotation, scene.translation)
    F = fundamental_from_essential(E, scene.camera.matrix, scene.camera.matrix)
    ours = sampson_error(F, scene.a, scene.b)
    theirs = [
        cv2.sampsonDistance(np.array([*p, 1.0]), np.array([*q, 1.0]), F) for p, q in zip(scene.a, scene.b, strict=True)
    ]
    np.testing.assert_allclose(ours**2, theirs, rtol=1e-9)
    assert (ours <= epipolar_error(F, scene.a, scene.b) / np.sqrt(2) + 1e-12).all()
    np.testing.assert_allclose(ours, sampson_error(F.T, scene.b, scene.a))


def test_sampson_error_is_the_distance_to_the_nearest_exact_pair(rigid_scene) -> None:
    scene = rigid_scene(noise=0.5)
    E = essential_from_pose(scene.rotation, scene.translation)
    F = fundamental_from_essential(E, scene.camera.matrix, scene.camera.matrix)
    exact_a, exact_b = cv2.correctMatches(F, scene.a[None], scene.b[None])
    moved = np.linalg.norm(np.concatenate((exact_a[0] - scene.a, exact_b[0] - scene.b), axis=1), axis=1)
    np.testing.assert_allclose(sampson_error(F, scene.a, scene.b), moved, rtol=0.02, atol=1e-3)


def test_an_error_at_the_epipoles_is_zero() -> None:
    F = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 0]])  # forward motion, both epipoles at (0, 0)
    assert sampson_error(F, [[0.0, 0]], [[0.0, 0]]).tolist() == [0]
    assert epipolar_error(F, [[0.0, 0]], [[5.0, 0]]).tolist() == [0]


def test_fundamental_and_essential_are_inverse_of_each_other(rigid_scene) -> None:
    scene = rigid_scene()
    K_a, K_b = scene.camera.matrix, np.array([[700.0, 0, 320], [0, 710, 240], [0, 0, 1]])
    E = essential_from_pose(scene.rotation, scene.translation)
    np.testing.assert_allclose(essential_from_fundamental(fundamental_from_essential(E, K_a, K_b), K_a, K_b), E)
    assert np.linalg.norm(E) == pytest.approx(1)
    assert E.flat[np.abs(E).argmax()] > 0
    # all scales of a translation and both signs of E are the same E
    np.testing.assert_allclose(essential_from_pose(scene.rotation, -7 * scene.translation), E)
    with pytest.raises(InvalidInputError, match="inverted"):
        fundamental_from_essential(E, np.zeros((3, 3)), K_b)


def test_absurd_coordinates_are_infinitely_far_without_a_warning() -> None:
    absurd = np.array([[1e300, -1e300], [1e-310, 1e308]])
    for error in (homography_error, symmetric_homography_error, sampson_error, epipolar_error):
        values = error(np.array([[0.1, 2, 3], [4, 5, 6], [7, -8, 9]]), absurd, absurd[::-1])
        assert not np.isnan(values).any()
        assert (values > 1e100).all()


@pytest.mark.parametrize("degrees", [0.0, 1e-7, 1e-3, 1.0, 45.0, 90.0, 135.0, 179.999, 180 - 1e-6, 180.0])
def test_rotation_error_is_exact_from_0_to_180(degrees: float) -> None:
    truth = about([1, 2, -0.5], 70)
    rotation, _ = pose_error(about([0.3, -1, 2], degrees) @ truth, [0, 0, 1], truth, [0, 0, 1])
    assert rotation == pytest.approx(degrees, abs=1e-9)


@pytest.mark.parametrize("degrees", [0.0, 1e-7, 0.5, 30.0, 90 - 1e-7, 90.0])
def test_translation_error_is_exact_and_has_no_sign(degrees: float) -> None:
    t = np.array([3.0, -1, 2])
    other = 5 * about(np.cross(t, [0, 0, 1]).tolist(), degrees) @ t
    for sign in (1, -1):
        assert pose_error(np.eye(3), sign * other, np.eye(3), t)[1] == pytest.approx(degrees, abs=1e-9)


def test_translation_error_without_a_direction() -> None:
    zero, t = np.zeros(3), np.ones(3)
    assert pose_error(np.eye(3), t, np.eye(3), zero)[1] == 0
    assert pose_error(np.eye(3), zero, np.eye(3), t)[1] == 90


@pytest.mark.parametrize(
    "call",
    [
        lambda: project(np.eye(2), np.zeros((3, 2))),
        lambda: project(np.eye(3), np.zeros(2)),
        lambda: homography_error(np.eye(3), np.zeros((3, 2)), np.zeros((4, 2))),
        lambda: sampson_error(np.eye(3), np.zeros((3, 3)), np.zeros((3, 3))),
        lambda: epipolar_error([[1, 2], [3]], np.zeros((3, 2)), np.zeros((3, 2))),
        lambda: pose_error(np.eye(4), np.zeros(3), np.eye(3), np.zeros(3)),
        lambda: pose_error(np.eye(3), np.zeros((3, 1)), np.eye(3), np.zeros(3)),
        lambda: project(np.eye(3), [["a", "b"]]),
        lambda: project(np.eye(3), np.zeros((2, 2), complex)),
    ],
)
def test_wrong_shapes_are_refused(call) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidInputError):
            call()
