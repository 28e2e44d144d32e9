"""Keypoints of a model are moved to where the photographs agree."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from numpy.typing import NDArray
from PIL import Image

import tiepoints as tp
from tiepoints.collection import Collection
from tiepoints.errors import ImageError
from tiepoints.tasks import mapping, reconstruct
from tiepoints.tasks.alignment import PointPatches, align_keypoints, align_query, point_patches
from tiepoints.tasks.patches import Pictures, locate, square

SIZE, FOCAL, DISTANCE = (480, 360), 450.0, 3.0


def pose_of(angle: float, tilt: float, scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A camera that looks at the plane z = 0 from some direction and distance."""
    R = cv2.Rodrigues(np.array([np.deg2rad(tilt), np.deg2rad(angle), 0.05]))[0]
    return R, np.array([0.02, -0.03, DISTANCE * scale])


QUERY = pose_of(15, -12, 1.15)
POSES = [pose_of(0, 0, 1.0), pose_of(25, 5, 1.1), pose_of(-30, -8, 0.9), pose_of(10, 30, 1.3)]


@pytest.fixture(scope="module")
def pictures(examples: Path) -> list[NDArray[np.uint8]]:
    """The plane with a photograph on it, as each camera sees it."""
    return [picture_of(examples, R, t) for R, t in POSES]


def picture_of(examples: Path, R: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.uint8]:
    texture = cv2.GaussianBlur(tp.read(examples / "desk_1.jpg", grey=True), (0, 0), 0.8)
    w = texture.shape[1]
    K = np.array([[FOCAL, 0, SIZE[0] / 2 - 0.5], [0, FOCAL, SIZE[1] / 2 - 0.5], [0, 0, 1]])
    on_plane = np.array([[3.6 / w, 0, -1.8], [0, 3.6 / w, -1.35], [0, 0, 1]])
    return np.asarray(cv2.warpPerspective(texture, K @ np.c_[R[:, :2], t] @ on_plane, SIZE), np.uint8)


def model_of(noise: float) -> tuple[pycolmap.Reconstruction, list[NDArray[np.float64]]]:
    """Points of the plane, seen by all four cameras, each keypoint off by `noise`; and where they truly are."""
    rng = np.random.default_rng(0)
    xyz = np.c_[rng.uniform(-0.8, 0.8, (120, 2)), np.zeros(120)]
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(
        model="PINHOLE", width=SIZE[0], height=SIZE[1], params=[FOCAL, FOCAL, SIZE[0] / 2, SIZE[1] / 2], camera_id=1
    )
    model.add_camera_with_trivial_rig(camera)
    true = []
    for n, (R, t) in enumerate(POSES, start=1):
        x, y, z = R @ xyz.T + t[:, None]
        true.append(np.stack([FOCAL * x / z + SIZE[0] / 2, FOCAL * y / z + SIZE[1] / 2], axis=1))
        found = true[-1] + (rng.normal(0, noise, true[-1].shape) if n > 1 else 0)
        image = pycolmap.Image(f"{n}.png", pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in found]), 1, n)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pycolmap.Rotation3d(R), t))
    for k, point in enumerate(xyz):
        track = pycolmap.Track()
        for n in range(1, len(POSES) + 1):
            track.add_element(n, k)
        model.add_point3D(point, track)
    return model, true


def errors_of(model: pycolmap.Reconstruction, true: list[NDArray[np.float64]], n: int) -> NDArray[np.float64]:
    found = np.array([point.xy for point in model.image(n).points2D])
    return np.linalg.norm(found - true[n - 1], axis=1)


def test_keypoints_are_moved_to_a_tenth_of_a_pixel(pictures: list[NDArray[np.uint8]]) -> None:
    model, true = model_of(0.7)
    before = [np.median(errors_of(model, true, n)) for n in (2, 3, 4)]
    told: list[tuple[int, int]] = []
    moved, errors = align_keypoints(model, lambda name: pictures[int(name[0]) - 1], lambda *done: told.append(done))
    assert sorted(told) == [(number, len(told)) for number in range(1, len(told) + 1)] and len(told) >= 3
    after = [np.median(errors_of(model, true, n)) for n in (2, 3, 4)]
    assert min(before) > 0.7 and max(after) < 0.15, (before, after)
    assert moved > 250  # of 360
    assert (errors_of(model, true, 1) == 0).all() and (errors[1] == 0).all()  # the most frontal ones are the references
    assert sum(np.isfinite(errors[n]).sum() for n in (2, 3, 4)) == moved


def test_errors_tell_which_keypoints_are_off(pictures: list[NDArray[np.uint8]]) -> None:
    model, true = model_of(0.7)
    _, told = align_keypoints(model, lambda name: pictures[int(name[0]) - 1])
    expected = np.concatenate([told[n] for n in (2, 3, 4)])
    off = np.concatenate([errors_of(model, true, n) for n in (2, 3, 4)])
    found = np.isfinite(expected)
    expected, off = expected[found], off[found]
    certain, uncertain = (expected < np.quantile(expected, 0.3)), (expected > np.quantile(expected, 0.7))
    assert np.median(off[certain]) < 0.6 * np.median(off[uncertain])
    assert 0.3 < np.median(off) / np.median(expected) < 3


def test_a_patch_on_an_edge_is_uncertain_along_it() -> None:
    rng = np.random.default_rng(0)
    edge = cv2.GaussianBlur(np.where(np.mgrid[:60, :60][1] < 30, 50.0, 200.0), (0, 0), 1.5)
    texture = cv2.GaussianBlur(rng.normal(120, 250, (60, 60)), (0, 0), 1.5)
    on_edge, on_texture = (
        locate(
            square((one + rng.normal(0, 2, one.shape)).astype(np.float32), np.array([[30.0, 30.0]])),
            (one + rng.normal(0, 2, one.shape)).astype(np.float32),
            np.array([[30.4, 29.7]]),
            np.eye(2)[None],
        )
        for one in (edge, texture)
    )
    assert on_texture.good[0] and np.abs(on_texture.place - 30).max() < 0.05
    assert on_texture.error[0] < 0.05 and on_edge.error[0] > 3 * on_texture.error[0]


def test_cameras_follow_the_observations_that_are_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 120 points 60 are off to one side in a photograph, all by as much, and alignment was not certain of them."""
    monkeypatch.setattr(mapping, "_ENOUGH", 50)
    job = {"mapper": "incremental", "refine_focal": False, "refine_extra": False, "threads": 1}
    certain = {n: np.full(120, 0.05) for n in range(1, 5)}
    aware = certain | {3: np.where(np.arange(120) < 60, 0.05, 0.5)}
    turned = []
    for errors in (certain, aware):
        model, _ = model_of(0.0)
        for point in list(model.image(3).points2D)[60:]:
            point.xy = point.xy + np.array([0.3, 0.1])
        mapping._refine_by_certain(pycolmap, model, job, errors)
        one, three = (model.image(n).cam_from_world().rotation.matrix() for n in (1, 3))
        turn = three @ one.T @ POSES[0][0] @ POSES[2][0].T
        turned.append(float(np.degrees(np.linalg.norm(cv2.Rodrigues(turn)[0]))))
        assert model.num_points3D() == 120 and model.compute_num_observations() == 480  # nothing is lost
    assert turned[1] < 0.002 < turned[0] / 5, turned


@pytest.mark.parametrize(("enough", "seen"), [(50, (100, 360)), (120, (120, 480))])
def test_photographs_with_few_observations_keep_them(
    monkeypatch: pytest.MonkeyPatch, enough: int, seen: tuple[int, int]
) -> None:
    """Points 100 to 119 have no certain observation, and points 80 to 99 two."""
    monkeypatch.setattr(mapping, "_ENOUGH", enough)
    errors = {n: np.where(np.arange(120) < 100, 0.05, np.inf) for n in range(1, 5)}
    for n in (1, 2):
        errors[n][80:100] = 0.3
    model, _ = model_of(0.0)
    mapping._leave_out_uncertain(model, errors)
    assert (model.num_points3D(), model.compute_num_observations()) == seen


def test_light_and_contrast_do_not_matter(pictures: list[NDArray[np.uint8]]) -> None:
    def read(name: str) -> NDArray[np.uint8]:
        n = int(name[0]) - 1
        return np.asarray(np.clip(pictures[n] * (0.5 + 0.12 * n) + 15 * n, 0, 255), np.uint8)

    model, true = model_of(0.7)
    align_keypoints(model, read)
    assert max(np.median(errors_of(model, true, n)) for n in (2, 3, 4)) < 0.15


def test_a_photograph_that_cannot_be_read_stays_as_it_is(pictures: list[NDArray[np.uint8]]) -> None:
    def read(name: str) -> NDArray[np.uint8]:
        if name == "3.png":
            raise ImageError("3.png: no such file")
        return pictures[int(name[0]) - 1]

    model, true = model_of(0.7)
    kept = errors_of(model, true, 3)
    assert align_keypoints(model, read).moved > 150
    assert (errors_of(model, true, 3) == kept).all()
    assert np.median(errors_of(model, true, 2)) < 0.15


def test_what_does_not_look_alike_stays(pictures: list[NDArray[np.uint8]]) -> None:
    """Wrong tracks, blank photographs and an empty model."""
    model, true = model_of(0.7)
    kept = errors_of(model, true, 2)
    noise = np.random.default_rng(1).integers(0, 255, pictures[1].shape, dtype=np.uint8)
    others = [pictures[0], noise, np.full_like(noise, 128), np.zeros_like(noise)]
    assert align_keypoints(model, lambda name: others[int(name[0]) - 1]).moved < 20
    assert (errors_of(model, true, 2) == kept).mean() > 0.9
    assert all(np.isfinite(point.xy).all() for n in (2, 3, 4) for point in model.image(n).points2D)
    assert align_keypoints(pycolmap.Reconstruction(), lambda name: noise) == (0, {})


def test_a_query_is_aligned_with_what_the_points_look_like(pictures: list[NDArray[np.uint8]], examples: Path) -> None:
    """From another place, in another light, with a pose that is a little off."""
    model, _ = model_of(0.0)
    known = point_patches(model, lambda name: pictures[int(name[0]) - 1])
    R, t = QUERY
    pose = np.c_[R, t]
    seen = np.clip(picture_of(examples, R, t) * 0.6 + 40, 0, 255).astype(np.uint8)
    camera = tp.Camera("PINHOLE", *SIZE, (FOCAL, FOCAL, SIZE[0] / 2 - 0.5, SIZE[1] / 2 - 0.5))
    world = np.array([model.point3D(point).xyz for point in sorted(model.point3D_ids())])
    projected = (world @ R.T + t) @ camera.matrix.T
    true = projected[:, :2] / projected[:, 2:]
    pixels = true + np.random.default_rng(3).normal(0, 0.7, true.shape)
    off = cv2.Rodrigues(np.array([0.01, -0.01, 0.01]))[0]
    placed, good = align_query(seen, camera, np.c_[off @ R, t + 0.02], pixels, world, known)
    assert good.mean() > 0.7
    assert np.median(np.linalg.norm(placed - true, axis=1)[good]) < 0.15
    assert (placed[~good] == pixels[~good]).all()
    # a larger picture of the same, which is shrunk first
    large = np.asarray(cv2.resize(seen, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC), np.uint8)
    placed, good = align_query(large, camera.resized((1920, 1440)), pose, pixels * 4 + 1.5, world, known)
    assert good.mean() > 0.7
    assert np.median(np.linalg.norm(placed - (true * 4 + 1.5), axis=1)[good]) < 0.6
    # points without a patch, a picture of nothing, and no points at all
    none = PointPatches(known.patches, np.zeros_like(known.frames))
    assert not align_query(seen, camera, pose, pixels, world, none)[1].any()
    assert not align_query(np.full_like(seen, 90), camera, pose, pixels, world, known)[1].any()
    few = known.of(slice(0))
    assert len(align_query(seen, camera, pose, pixels[:0], world[:0], few)[1]) == 0


def test_patches_of_photographs_that_cannot_be_read_are_missing(pictures: list[NDArray[np.uint8]]) -> None:
    def read(name: str) -> NDArray[np.uint8]:
        raise ImageError(f"{name}: no such file")

    model, _ = model_of(0.0)
    assert not point_patches(model, read).frames.any()
    assert len(point_patches(pycolmap.Reconstruction(), read).patches) == 0


def test_photographs_are_decoded_at_once_and_each_of_them_once() -> None:
    decoded: list[str] = []
    both = threading.Barrier(2, timeout=20)

    def read(name: str) -> NDArray[np.uint8]:
        decoded.append(name)
        both.wait()  # for the thread that decodes the other one
        if name == "b":
            raise ImageError("b: no such file")
        return np.full((20, 30), 7, np.uint8)

    pictures = Pictures(read)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(pictures.__getitem__, ["a", "b"] * 3))
    assert sorted(decoded) == ["a", "b"]
    assert [one is None for one in found] == [False, True] * 3
    assert all(one.grey.shape == (20, 30) for one in found if one is not None)


def test_a_reconstruction_is_the_better_for_it(
    photographs: Collection, extractor: tp.Extractor, tmp_path: Path
) -> None:
    """Also where a photograph is stored lying on its side, and EXIF says so."""
    door = [photographs[name].path for name in photographs if name != "other.png"][:5]
    (tmp_path / "photos").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for n, path in enumerate(door):
        upright = Image.open(path)
        if n == 2:
            upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photos" / f"{n}.png", exif=exif)
        else:
            upright.save(tmp_path / "photos" / f"{n}.png")
    found = [
        reconstruct(
            tmp_path / "photos", tmp_path / str(align), extractor=extractor, store=tmp_path / "store", align=align
        )
        for align in (False, True)
    ]
    assert found[0].registered == found[1].registered == 5
    assert found[1].reprojection_error < 0.8 * found[0].reprojection_error
    assert found[1].points > 0.95 * found[0].points
    turned = [error_of(pycolmap.Reconstruction(one.folder / "sparse" / "0"), "2.png") for one in found]
    assert turned[1] < 0.8 * turned[0]


def error_of(model: pycolmap.Reconstruction, name: str) -> float:
    """Median distance of an image's keypoints from their points, in pixels."""
    image = model.find_image_with_name(name)
    camera = model.camera(image.camera_id)
    seen = [point for point in image.points2D if point.has_point3D()]
    world = np.array([model.point3D(point.point3D_id).xyz for point in seen])
    pose = image.cam_from_world()
    there = camera.img_from_cam(world @ pose.rotation.matrix().T + pose.translation)
    return float(np.median(np.linalg.norm(there - np.array([point.xy for point in seen]), axis=1)))
