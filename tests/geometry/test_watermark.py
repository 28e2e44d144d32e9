"""What does not move is not taken for structure: a burnt-in label is no evidence, a tripod's second picture is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.geometry import log_nfa

SIZE = (640, 480)
K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
LABEL = np.array([10, 440, 250, 470.0])  # left, top, right, bottom
ESTIMATES = {
    "homography": lambda a, b, m: tp.homography(a, b, m),
    "fundamental": lambda a, b, m: tp.fundamental(a, b, m),
    "relative_pose": lambda a, b, m: tp.relative_pose(a, b, m, camera_a=K, camera_b=K),
}


@pytest.fixture(params=ESTIMATES)
def estimate(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return ESTIMATES[request.param]


def label(count: int, rng: np.random.Generator, box: NDArray[np.float64] = LABEL) -> NDArray[np.float64]:
    return rng.uniform(box[:2], box[2:], (count, 2))


def run(estimate: Callable[..., Any], a: NDArray, b: NDArray, size_b: tuple[int, int] = SIZE) -> Any:
    def features(points: NDArray, size: tuple[int, int]) -> tp.Features:
        return tp.Features(points, np.eye(len(points), 8), np.ones(len(points)), size)

    rows = np.arange(len(a))
    return estimate(features(a, SIZE), features(b, size_b), tp.Matches(np.stack([rows, rows], 1), np.ones(len(a))))


def plane(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where another camera, 10 degrees to the side, sees a plane's points."""
    angle = np.radians(10)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    rays = np.column_stack((points, np.ones(len(points)))) @ np.linalg.inv(K).T
    depth = 5 + 1.5 * np.sin(points[:, :1] / 60)  # not only a plane for the epipolar models
    seen = (depth * rays) @ turn.T @ K.T + K @ np.array([0.8, 0.1, 0])
    return seen[:, :2] / seen[:, 2:]


@pytest.mark.parametrize(
    ("box", "size_b"),
    [
        (LABEL, SIZE),
        (np.array([400, 5, 630, 30.0]), SIZE),
        (np.array([3, 100, 40, 400.0]), SIZE),
        (LABEL, (800, 600)),  # keeps to the lower left corner
        (np.array([240, 200, 400, 280.0]), SIZE),  # in the middle
        (np.array([240, 200, 400, 280.0]), (800, 600)),
    ],
)
def test_unrelated_photographs_with_one_label_are_not_verified(
    estimate: Callable[..., Any], box: NDArray, size_b: tuple[int, int]
) -> None:
    rng = np.random.default_rng(1)
    still = label(130, rng, box)
    a = np.vstack([still, rng.uniform([0, 0], SIZE, (250, 2))])
    spare = np.subtract(size_b, SIZE)
    moved = still + rng.normal(0, 0.3, still.shape) + (spare / 2 if box[0] == 240 else [0, spare[1]])
    b = np.vstack([moved, rng.uniform([0, 0], size_b, (250, 2))])
    result = run(estimate, a, b, size_b)
    assert result.watermark is not None and result.watermark[:130].mean() > 0.95
    assert not result.inliers[:130][result.watermark[:130]].any() and "watermark" in repr(result)
    assert log_nfa(result, 1.0, size_b) > 0


def test_an_overlay_that_is_scaled_with_the_image(estimate: Callable[..., Any]) -> None:
    rng = np.random.default_rng(7)
    still = label(130, rng)
    a = np.vstack([still, rng.uniform([0, 0], SIZE, (300, 2))])
    b = np.vstack([(still + 0.5) * 1.5 - 0.5, rng.uniform([0, 0], (960, 720), (300, 2))])
    result = run(estimate, a, b, (960, 720))
    assert result.watermark is not None and result.watermark[:130].all()


def test_the_bars_of_a_video_are_no_scene(estimate: Callable[..., Any]) -> None:
    rng = np.random.default_rng(8)
    along = rng.uniform(0, 1, (400, 1))
    bars = np.vstack(
        [along[:100] * [640, 0] + [0, 40], along[100:200] * [640, 0] + [0, 440],
         along[200:300] * [0, 480] + [30, 0], along[300:] * [0, 480] + [610, 0]]
    )  # fmt: skip
    a = np.vstack([bars, rng.uniform([40, 50], [600, 430], (150, 2))])
    b = np.vstack([bars + rng.normal(0, 0.3, bars.shape), rng.uniform([40, 50], [600, 430], (150, 2))])
    result = run(estimate, a, b)
    assert result.watermark is not None and result.watermark[:400].mean() > 0.95
    assert log_nfa(result, 1.0, SIZE) > 0


def test_a_small_thing_before_a_blank_ground_is_a_scene(estimate: Callable[..., Any]) -> None:
    """From a tripod: nothing else has keypoints, and a few that are wrong change nothing."""
    rng = np.random.default_rng(9)
    thing = rng.uniform([240, 200], [400, 300], (200, 2))
    a = np.vstack([thing, rng.uniform([0, 0], SIZE, (30, 2))])
    b = np.vstack([thing + rng.normal(0, 0.2, thing.shape), rng.uniform([0, 0], SIZE, (30, 2))])
    result = run(estimate, a, b)
    assert result.watermark is None and result.inliers[:200].mean() > 0.9


def test_the_scene_behind_a_label_is_found(estimate: Callable[..., Any]) -> None:
    rng = np.random.default_rng(2)
    still, scene = label(150, rng), rng.uniform([0, 0], SIZE, (90, 2))
    a, b = np.vstack([still, scene]), np.vstack([still, plane(scene)])
    result = run(estimate, a, b)
    if result.kind == "homography":
        return  # the scene is none
    assert result.watermark is not None and result.inliers[150:].mean() > 0.8
    assert not result.inliers[:150].any() and log_nfa(result, 1.0, SIZE) < 0


@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (-400, 0), (0, 350), (560, 430)])
def test_pictures_from_a_tripod_a_scanner_or_of_little_overlap_are_pairs(shift: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    a = rng.uniform([0, 0], SIZE, (2000, 2))
    b = a + shift + rng.normal(0, 0.2, a.shape)
    inside = ((b >= 0) & (b < SIZE)).all(axis=1)
    for name in ("homography", "fundamental"):
        result = run(ESTIMATES[name], a[inside], b[inside])
        assert result and result.watermark is None and result.inliers.mean() > 0.9


@pytest.mark.parametrize("threshold", [0.5, 3, 10, 20, 40])
def test_a_wide_threshold_makes_no_line_of_a_strip(threshold: float) -> None:
    rng = np.random.default_rng(4)
    a = rng.uniform([0, 0], [300, 60], (200, 2))
    result = tp.homography(a, a * 0.9 + 20, threshold=threshold)
    assert result.inliers.all()
    a = rng.uniform([100, 100], [400, 300], (200, 2))
    assert tp.fundamental(a, plane(a), threshold=threshold).num_inliers > 190


def test_the_camera_may_be_a_matrix_and_must_fit_the_image() -> None:
    rng = np.random.default_rng(5)
    a = rng.uniform([0, 0], SIZE, (200, 2))
    b = plane(a)
    camera = tp.Camera.from_matrix(K, SIZE)
    by_camera = tp.relative_pose(a, b, camera_a=camera, camera_b=camera)
    for given in (K, K.tolist(), 2 * K):
        np.testing.assert_array_equal(tp.relative_pose(a, b, camera_a=given, camera_b=given).matrix, by_camera.matrix)
    essential = tp.essential(a, b, camera_a=K, camera_b=camera)
    assert essential and essential.focal_is_known
    world = np.column_stack(((a - K[:2, 2]) / 600, np.ones(200))) * rng.uniform(2, 4, (200, 1))
    np.testing.assert_allclose(tp.absolute_pose(a, world, K).matrix, np.eye(3, 4), atol=1e-6)
    guessed = tp.Camera.from_focal(600, SIZE, known=False)
    for result in (
        run(lambda x, y, m: tp.relative_pose(x, y, m, camera_a=guessed, camera_b=camera), a, b),
        run(lambda x, y, m: tp.essential(x, y, m, camera_a=camera, camera_b=guessed), a, b),
        tp.absolute_pose(a, world, guessed),
    ):
        assert not result.focal_is_known and "focal length guessed" in repr(result)
    other = tp.Camera.from_matrix(np.diag([2, 2, 1]) @ K, (1280, 960))
    with pytest.raises(tp.InvalidInputError, match=r"camera_b is of 1280x960 pixels, but its image has 640x480"):
        run(lambda x, y, m: tp.relative_pose(x, y, m, camera_a=camera, camera_b=other), a, b)
    with pytest.raises(tp.InvalidInputError, match="transposed"):
        tp.essential(a, b, camera_a=K.T, camera_b=K)
    for wrong in (None, "K", 600, np.eye(2)):
        with pytest.raises(tp.InvalidInputError, match="camera"):
            tp.absolute_pose(a, world, wrong)


@pytest.mark.parametrize(
    ("model", "extra"),
    [
        ("FOV", (0.6,)),
        ("SIMPLE_RADIAL_FISHEYE", (0.02,)),
        ("RADIAL_FISHEYE", (0.02, -0.01)),
        ("THIN_PRISM_FISHEYE", (0.02, 0.01, 1e-3, 1e-3, 0, 0, 1e-3, 1e-3)),
        ("SIMPLE_DIVISION", (-0.1,)),
        ("DIVISION", (-0.1,)),
        ("FISHEYE", ()),
        ("EUCM", (0.6, 1.1)),
    ],
)
def test_cameras_of_all_models_give_poses(model: str, extra: tuple[float, ...]) -> None:
    """Points projected by COLMAP; PoseLib lacks these models, and would return memory that was never written."""
    pytest.importorskip("pycolmap")
    single = model.startswith("SIMPLE") or model.startswith("RADIAL")
    camera = tp.Camera(model, *SIZE, ((300,) if single else (300, 310)) + (319.5, 239.5) + extra)
    rng = np.random.default_rng(6)
    world = rng.uniform([-2, -1.5, 3], [2, 1.5, 6], (150, 3))
    angle = 0.1
    R = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    t = np.array([0.5, 0.1, -0.05])
    theirs = camera.to_pycolmap()
    a, b = (np.asarray(theirs.img_from_cam(points)) - 0.5 for points in (world, world @ R.T + t))
    pose = tp.relative_pose(a, b, camera_a=camera, camera_b=camera)
    assert pose.inliers.all()
    assert max(tp.geometry.pose_error(pose.rotation, pose.translation, R, t)) < 0.05
    absolute = tp.absolute_pose(b, world, camera, threshold=1.0)
    assert absolute.inliers.all()
    np.testing.assert_allclose(absolute.matrix, np.column_stack((R, t)), atol=1e-3)


def copies(rng: np.random.Generator, elsewhere: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matches on a thing that is repeated every 110x80 pixels, so many of them with a neighbouring copy."""
    corners = np.array([(x, y) for x in range(110, 520, 110) for y in range(80, 390, 80)])
    a = (corners[:, None] + rng.uniform(0, 70, (12, 2))).reshape(-1, 2)
    step = rng.choice([-110.0, 110], len(a)) * (rng.uniform(size=len(a)) < elsewhere)
    return a, a + np.column_stack([step, np.zeros(len(a))]) + rng.normal(0, 0.3, a.shape)


@pytest.mark.parametrize("name", ["fundamental", "relative_pose"])
def test_an_overlay_all_over_the_picture(name: str) -> None:
    rng = np.random.default_rng(3)
    a, b = copies(rng, 0.5)
    lies = len(a)
    a, b = (np.vstack([p, rng.uniform([0, 0], SIZE, (300, 2))]) for p in (a, b))
    result = run(ESTIMATES[name], a, b)
    assert result.watermark is not None and result.watermark[:lies].mean() > 0.95
    assert result.watermark[lies:].mean() < 0.1 and log_nfa(result, 1.0, SIZE) > 0


def test_a_still_or_moving_scene_of_equal_things_is_none(estimate: Callable[..., Any]) -> None:
    """A facade: matches with the window beside the right one are wrong, and few."""
    rng = np.random.default_rng(4)
    a, b = copies(rng, 0.1)
    for there in (b, plane(b)):
        result = run(estimate, a, there)
        assert result.watermark is None
    assert run(estimate, a, b).inliers.mean() > 0.85


def lattice(rng: np.random.Generator, angle: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matches from copies of a turned text to copies along one of its lines, hardly any to the same one."""
    along = 120 * np.array([np.cos(angle), np.sin(angle)])
    a = rng.uniform([0, 0], SIZE, (400, 2))
    b = a + rng.choice([-2, -1, 1, 1, 1, 2], (400, 1)) * along + rng.normal(0, 0.4, a.shape)
    inside = ((b > 0) & (b < SIZE)).all(axis=1)
    return a[inside][:60], b[inside][:60]


@pytest.mark.parametrize("angle", [0, 0.3, 1.2])
def test_copies_in_disorder_are_no_scene(angle: float) -> None:
    rng = np.random.default_rng(5)
    a, b = lattice(rng, angle)
    lies = len(a)
    a, b = (np.vstack([p, rng.uniform([0, 0], SIZE, (120, 2))]) for p in (a, b))
    result = run(tp.fundamental, a, b)
    assert result.watermark is not None and result.watermark[:lies].mean() > 0.9
    assert log_nfa(result, 1.0, SIZE) > -8


def test_two_layers_that_move_by_themselves_are_a_scene() -> None:
    """A near thing before a far ground, seen by a camera that was moved: two ways, each in its own place."""
    rng = np.random.default_rng(6)
    a = rng.uniform([0, 0], SIZE, (200, 2))
    near = (np.abs(a - (320, 240)) < (120, 100)).all(axis=1)
    b = a + np.where(near[:, None], (60.0, 0), (15.0, 0)) + rng.normal(0, 0.3, a.shape)
    result = run(tp.fundamental, a, b)
    assert result.watermark is None and result.inliers.mean() > 0.9
