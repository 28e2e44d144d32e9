"""Cameras: COLMAP's models, plain calibration matrices, sizes that must fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tiepoints as tp
from tiepoints.camera import _MODELS, as_camera

K = np.array([[520.9, 0, 325.1], [0, 521.0, 249.7], [0, 0, 1]])


def test_a_transposed_matrix_is_refused_and_skew_is_said_to_be_left_out() -> None:
    assert tp.Camera.from_matrix(2 * K, (640, 480)).params == pytest.approx((520.9, 521.0, 325.1, 249.7))
    with pytest.raises(tp.InvalidInputError, match="transposed"):
        tp.Camera.from_matrix(K.T, (640, 480))
    skewed = K.copy()
    skewed[0, 1] = 35
    with pytest.warns(UserWarning, match="skew of 35 is left out"):
        assert tp.Camera.from_matrix(skewed, (640, 480)).params == (520.9, 521.0, 325.1, 249.7)
    for wrong in (K[:2], np.zeros((3, 3)), K * np.nan, np.full((3, 3), 1j), "K", None, np.diag([-500, 500, 1])):
        with pytest.raises(tp.InvalidInputError):
            tp.Camera.from_matrix(wrong, (640, 480))


@pytest.mark.parametrize(
    "change",
    [
        {"width": float("nan")},
        {"width": 0},
        {"height": 1.5},
        {"height": "480"},
        {"width": 10**400},
        {"params": (np.nan, 1, 1, 0)},
        {"params": (1j, 1, 1, 0)},
        {"params": None},
        {"params": "abcd"},
        {"params": (0, 1, 1, 0)},
        {"params": (-500, 1, 1, 0)},
        {"params": (1e300, 1, 1, 0)},
        {"params": (1e-9, 1, 1, 0)},
        {"params": (1, 1, 1)},
        {"model": "simple-radial"},
        {"model": None},
        {"model": ["SIMPLE_RADIAL"]},
        {"focal_is_known": "yes"},
    ],
)
def test_what_is_no_camera_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(tp.InvalidInputError):
        tp.Camera(**{"model": "SIMPLE_RADIAL", "width": 640, "height": 480, "params": (500, 320, 240, 0)} | change)


def test_a_focal_length_that_no_camera_has_is_refused_with_the_range() -> None:
    for focal in (0, -5, 1e-9, 31, 640_001, 1e300):
        with pytest.raises(tp.InvalidInputError, match="640x480 pixels is between 32 and 640000"):
            tp.Camera.from_focal(focal, (640, 480))
    for focal in (float("nan"), float("inf"), None, "wide"):
        with pytest.raises(tp.InvalidInputError, match="focal"):
            tp.Camera.from_focal(focal, (640, 480))  # type: ignore[arg-type]
    for focal in (32, 640_000):
        assert tp.Camera.from_focal(focal, (640, 480)).params[0] == focal
    for k in (np.eye(3), np.diag([30_000, 30_000, 1]), [[500, 0, 320], [0, 500, 240], [0, 0, 1]]):
        assert (as_camera(k, "camera_a").matrix == k).all(), "the size is not known: nothing is"


def test_every_model_of_colmap_there_and_back() -> None:
    pycolmap = pytest.importorskip("pycolmap")
    for name, model in pycolmap.CameraModelId.__members__.items():
        if name == "INVALID":
            continue
        theirs = pycolmap.Camera.create_from_model_id(1, model, 500.0, 640, 480)
        ours = tp.Camera.from_pycolmap(theirs)
        assert _MODELS[name] == (
            len(theirs.params), tuple(theirs.focal_length_idxs()), tuple(theirs.principal_point_idxs())
        )  # fmt: skip
        if name != "EQUIRECTANGULAR":
            assert ours.matrix[:2, 2].tolist() == [319.5, 239.5], "the centre of the top-left pixel is (0, 0)"
        back = ours.to_pycolmap()
        assert list(back.params) == list(theirs.params) and back.model == theirs.model
        assert ours.resized((640, 480)) == ours and ours.resized((1280, 960)).resized((640, 480)) == ours


def test_a_resized_camera_sees_the_same() -> None:
    camera = tp.Camera.from_matrix(K, (640, 480)).resized((1280, 960))
    # The left edge of the image, -0.5, has the same direction at every size.
    np.testing.assert_allclose((-0.5 - camera.params[2]) / camera.params[0], (-0.5 - K[0, 2]) / K[0, 0])
    assert (camera.width, camera.height) == (1280, 960)


def test_a_plain_matrix_stands_for_a_camera() -> None:
    assert as_camera(K, "camera_a", (640, 480)) == tp.Camera.from_matrix(K, (640, 480))
    assert as_camera(K.tolist(), "camera_a", (0, 0)).params == as_camera(K, "camera_a").params
    camera = tp.Camera.from_matrix(K, (640, 480))
    assert as_camera(camera, "camera_a", (0, 0)) is camera
    with pytest.raises(tp.InvalidInputError, match=r"camera_a is of 640x480.*has 1280x960.*resized\(\(1280, 960\)\)"):
        as_camera(camera, "camera_a", (1280, 960))
    for wrong in (None, "K", 500, np.eye(4)):
        with pytest.raises(tp.InvalidInputError, match="camera_a"):
            as_camera(wrong, "camera_a", (640, 480))
