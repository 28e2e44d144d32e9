"""Models from matches: exact on exact data, right with noise and outliers, falsy where there is none, seeded."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.geometry import homography_error, pose_error, project, sampson_error

H = np.array([[0.9, 0.1, 30.0], [-0.08, 1.1, -12.0], [1e-4, -5e-5, 1.0]])
CAMERA = tp.Camera("PINHOLE", 1000, 800, (900, 905, 498, 402))
DISTORTED = tp.Camera("OPENCV", 1000, 800, (900, 905, 498, 402, -0.2, 0.05, 0.001, -0.002))
ROTATION = np.array([[0.98, 0.0, 0.19899749], [0.0, 1.0, 0.0], [-0.19899749, 0.0, 0.98]])
TRANSLATION = np.array([-0.9, 0.1, 0.2]) / np.linalg.norm([-0.9, 0.1, 0.2])
ESTIMATES: dict[str, Callable[..., Any]] = {
    "homography": tp.homography,
    "fundamental": tp.fundamental,
    "essential": lambda a, b, **o: tp.essential(a, b, camera_a=CAMERA, camera_b=CAMERA, **o),
    "relative_pose": lambda a, b, **o: tp.relative_pose(a, b, camera_a=CAMERA, camera_b=CAMERA, **o),
}


def plane(n: int, seed: int = 0) -> tuple[NDArray, NDArray]:
    points = np.random.default_rng(seed).uniform([0, 0], [1000, 800], (n, 2))
    return points, project(H, points)


def scene(n: int, seed: int = 0, camera: tp.Camera = CAMERA) -> tuple[NDArray, NDArray, NDArray]:
    """Points (n, 3) in front of both cameras, and where each camera sees them."""
    import poselib

    world = np.random.default_rng(seed).uniform([-2, -1.5, 4], [2, 1.5, 8], (n, 3))
    lens = poselib.Camera(camera.model, list(camera.params), camera.width, camera.height)
    second = world @ ROTATION.T + TRANSLATION
    seen = [np.asarray(lens.project(p[:, :2] / p[:, 2:])).reshape(-1, 2) for p in (world, second)]
    return world, seen[0], seen[1]


def spoilt(b: NDArray, share: float, noise: float, seed: int = 1) -> tuple[NDArray, NDArray]:
    """Noise on all points, another place for a share of them; and which are still right."""
    rng = np.random.default_rng(seed)
    b = b + rng.normal(0, noise, b.shape) if noise else b.copy()
    right = np.arange(len(b)) >= share * len(b)
    b[~right] = rng.uniform([0, 0], [1000, 800], ((~right).sum(), 2))
    return b, right


def test_exact_data_give_the_exact_model() -> None:
    a, b = plane(50)
    model = tp.homography(a, b)
    assert model and model.kind == "homography" and model.inliers.all()
    assert homography_error(model.matrix, a, b).max() < 1e-3  # OpenCV works on float32 points
    world, a, b = scene(100)
    f = tp.fundamental(a, b)
    assert f.num_inliers == 100 and sampson_error(f.matrix, a, b).max() < 1e-3
    pose = tp.relative_pose(a, b, camera_a=CAMERA, camera_b=CAMERA)
    assert max(pose_error(pose.rotation, pose.translation, ROTATION, TRANSLATION)) < 0.01
    e = tp.essential(a, b, camera_a=CAMERA, camera_b=CAMERA)
    assert e.found and e.matrix.shape == (3, 3)
    pose = tp.absolute_pose(b, world, CAMERA)
    np.testing.assert_allclose(pose.translation, TRANSLATION, atol=1e-4)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_noise_and_outliers(share: float) -> None:
    a, clean = plane(600)
    b, right = spoilt(clean, share, 0.5)
    model = tp.homography(a, b)
    assert (model.inliers & right).sum() > 0.95 * right.sum()
    assert homography_error(model.matrix, a, clean).mean() < 0.5
    world, a, clean = scene(600)
    b, right = spoilt(clean, share, 0.5)
    f = tp.fundamental(a, b, threshold=2.0)
    assert (f.inliers & right).sum() > 0.9 * right.sum()
    pose = tp.relative_pose(a, b, camera_a=CAMERA, camera_b=CAMERA, threshold=2.0)
    assert max(pose_error(pose.rotation, pose.translation, ROTATION, TRANSLATION)) < 1.5
    pose = tp.absolute_pose(b, world, CAMERA)
    assert max(pose_error(pose.rotation, pose.translation, ROTATION, TRANSLATION)) < 0.5


def test_lens_distortion_is_undone() -> None:
    world, a, b = scene(200, camera=DISTORTED)
    b, _ = spoilt(b, 0.3, 0.2)
    pose = tp.relative_pose(a, b, camera_a=DISTORTED, camera_b=DISTORTED)
    assert max(pose_error(pose.rotation, pose.translation, ROTATION, TRANSLATION)) < 0.5
    pose = tp.absolute_pose(b, world, DISTORTED)
    assert max(pose_error(pose.rotation, pose.translation, ROTATION, TRANSLATION)) < 0.3


@pytest.mark.parametrize("name", list(ESTIMATES))
def test_the_same_seed_gives_the_same_result_and_no_global_state_moves(name: str) -> None:
    _, a, clean = scene(300)
    b, _ = spoilt(clean, 0.6, 0.5)
    np.random.seed(3)
    before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    first, second = (ESTIMATES[name](a, b, seed=5) for _ in range(2))
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # type: ignore[index]
    np.testing.assert_array_equal(first.inliers, second.inliers)
    for field in ("matrix", "rotation", "translation"):
        np.testing.assert_array_equal(getattr(first, field, None), getattr(second, field, None))


def test_inliers_lie_within_the_threshold() -> None:
    a, clean = plane(300)
    b, _ = spoilt(clean, 0.4, 1.0)
    for threshold in (0.5, 1.0, 4.0):
        model = tp.homography(a, b, threshold=threshold)
        assert homography_error(model.matrix, a, b)[model.inliers].max() <= threshold + 1e-9
    _, a, clean = scene(300)
    b, _ = spoilt(clean, 0.4, 1.0)
    f = tp.fundamental(a, b, threshold=1.5)
    np.testing.assert_array_equal(f.inliers, sampson_error(f.matrix, a, b) <= 1.5)


def degenerate(n: int = 30) -> dict[str, tuple[NDArray, NDArray]]:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 500, (n, 2))
    line = np.stack([np.arange(n), 2.0 * np.arange(n)], axis=1)
    return {
        "none": (np.zeros((0, 2)), np.zeros((0, 2))),
        "three": (points[:3], points[:3] + 5),
        "identical": (np.full((n, 2), 7.0), np.full((n, 2), 7.0)),
        "line": (line, line + 3),
        "line, lengthwise": (line, line[::-1].copy()),
        "two places": (points[[0, 1] * (n // 2)], points[[2, 3] * (n // 2)]),
        "one goal": (points, np.full((n, 2), 100.0)),
        "far away": (points * 1e12, points * 1e12),
    }


@pytest.mark.parametrize("kind", list(degenerate()))
@pytest.mark.parametrize("name", list(ESTIMATES))
def test_degenerate_points_have_no_model(name: str, kind: str) -> None:
    a, b = degenerate()[kind]
    result = ESTIMATES[name](a, b)
    assert not result and not result.found
    assert result.inliers.shape == (len(a),) and not result.inliers.any() and result.num_inliers == 0


def test_absolute_pose_of_degenerate_points() -> None:
    line = np.stack([np.arange(30.0)] * 3, axis=1)
    for points in (line, np.zeros((30, 3)), line[:2]):
        pose = tp.absolute_pose(np.full((len(points), 2), 400.0), points, CAMERA)
        assert not pose and not pose.inliers.any()


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(ESTIMATES)),
    n=st.integers(0, 12),
    values=st.lists(st.sampled_from([0.0, 1.0, 2.0, 100.0, 1e7, -1e7, 1e30, 0.5]), min_size=48, max_size=48),
)
def test_nothing_but_our_own_error_comes_out(name: str, n: int, values: list[float]) -> None:
    numbers = np.array(values)
    result = ESTIMATES[name](numbers[: 2 * n].reshape(n, 2), numbers[24 : 24 + 2 * n].reshape(n, 2))
    assert result.inliers.shape == (n,)
    assert bool(result) == (result.num_inliers > 0)


@pytest.mark.parametrize("name", list(ESTIMATES))
def test_wrong_input_is_refused_with_its_numbers(name: str) -> None:
    estimate = ESTIMATES[name]
    a = np.zeros((9, 2))
    nan = a.copy()
    nan[0] = np.nan
    for pair in ((a, a[:8]), (np.zeros((9, 3)), np.zeros((9, 3))), (nan, a), ("text", a)):
        with pytest.raises(tp.InvalidInputError):
            estimate(*pair)
    for options in ({"threshold": 0}, {"threshold": -1}, {"confidence": 2}, {"max_iterations": 0}):
        with pytest.raises(tp.InvalidInputError):
            estimate(a, a, **options)


def test_any_kind_of_array_gives_the_same() -> None:
    a, b = plane(60)
    a, b = np.rint(a), np.rint(b)
    expected = tp.homography(a, b).matrix
    locked = a.copy()
    locked.flags.writeable = False
    for points in (
        a.astype(np.float32),
        a.astype(np.int64),
        np.asfortranarray(a),
        np.repeat(a, 2, axis=0)[::2],
        locked,
    ):
        np.testing.assert_allclose(tp.homography(points, b).matrix, expected, atol=1e-9)


def test_relative_pose_of_real_photographs(shared: Path) -> None:
    """RootSIFT on five neighbours of fountain-P11 against the surveyed cameras."""
    folder = shared / "data" / "strecha" / "fountain-P11"
    with (folder / "cameras.csv").open(encoding="utf-8") as file:
        rows = [[float(v) for v in row[1:]] for row in csv.reader(file) if row[1:2] and row[1].isdigit()][:5]
        assert len(rows) == 5
    with (folder / "cameras.csv").open(encoding="utf-8") as file:
        names = [row[0] for row in csv.reader(file) if row[1:2] and row[1].isdigit()][:5]
    extractor = tp.load("rootsift", max_size=768, contrast_threshold=0.01)
    features = [extractor(tp.read(folder / "images" / name)) for name in names]
    off = []
    for i in range(4):
        poses = [(np.reshape(r[11:20], (3, 3)), np.array(r[20:23])) for r in rows[i : i + 2]]
        cameras = [tp.Camera.from_matrix(np.reshape(r[2:11], (3, 3)), (int(r[0]), int(r[1]))) for r in rows[i : i + 2]]
        rotation = poses[1][0] @ poses[0][0].T
        translation = poses[1][1] - rotation @ poses[0][1]
        a, b = features[i], features[i + 1]
        pose = tp.relative_pose(a, b, tp.match(a, b), camera_a=cameras[0], camera_b=cameras[1], threshold=2.0)
        off.append(max(pose_error(pose.rotation, pose.translation, rotation, translation)))
    assert max(off) < 2
