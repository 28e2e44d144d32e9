"""COLMAP databases, read back by us and by pycolmap, and accepted by COLMAP's own mapper."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tiepoints.camera import Camera
from tiepoints.errors import InvalidInputError, MissingDependencyError, StorageError
from tiepoints.features import Features, Matches
from tiepoints.storage import ColmapDatabase, TwoView, read_colmap, write_colmap

pycolmap = pytest.importorskip("pycolmap")

CAMERA = Camera("OPENCV", 640, 480, (500.0, 510.0, 319.0, 239.5, 0.1, -0.02, 0.001, 0.002))
MODELS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "RADIAL": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
}


def camera_for(features: Features, model: str = "PINHOLE", known: bool = True) -> Camera:
    return Camera(
        model, *features.image_size, tuple(max(features.image_size) + 0.5 + i for i in range(MODELS[model])), known
    )


@settings(deadline=None, max_examples=25)
@given(
    stored=st.lists(st.from_type(Features), min_size=1, max_size=3),
    model=st.sampled_from(sorted(MODELS)),
    known=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_comes_back(stored, model, known, seed, tmp_path_factory, matches):
    path = tmp_path_factory.mktemp("colmap") / "ü data base.db"
    images = {f"dir/{i} é.jpg": (f, camera_for(f, model, known)) for i, f in enumerate(stored)}
    names = list(images)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    found = {pair: matches(seed + i, *(len(images[n][0]) for n in pair)) for i, pair in enumerate(pairs)}
    write_colmap(path, images, found)
    back = read_colmap(path)
    assert list(back.images) == names
    for name, (before, camera) in images.items():
        after, after_camera = back.images[name]
        assert after_camera == camera
        np.testing.assert_allclose(after.keypoints, before.keypoints, rtol=0, atol=0.0005)
        assert after.image_size == before.image_size
        assert after.descriptors.shape == (len(before), 0)
        assert (after.scales is None) == (after.angles is None) == (before.scales is None and before.angles is None)
        if before.scales is not None:
            np.testing.assert_array_equal(after.scales, before.scales)
        if before.angles is not None:
            np.testing.assert_array_equal(after.angles, before.angles)
    # COLMAP does not keep pairs without matches.
    assert set(back.matches) == {pair for pair, some in found.items() if len(some)}
    for pair, some in back.matches.items():
        np.testing.assert_array_equal(some.indices, found[pair].indices)
    assert not back.two_views
    assert {p.name for p in path.parent.iterdir()} == {path.name}, "no log of SQLite's"


def test_as_pycolmap_sees_it(tmp_path):
    a = Features([[0, 0], [10, 20]], np.eye(2, 128), [2, 1], (640, 480), scales=[4, 6], angles=[0.5, -1])
    b = Features([[1, 2]], -np.eye(1, 128), [3], (640, 480))
    path = tmp_path / "a.db"
    F = np.array([[0, -1, 2], [1, 0, -3], [-2, 3, 0.5]])
    two_view = TwoView(Matches([[0, 1]], [1]), "uncalibrated", F, Matches([[0, 1], [0, 0]], [1, 1]))
    # b has the smaller id: COLMAP turns the pair round.
    write_colmap(path, {"b.jpg": (b, CAMERA), "x/a.jpg": (a, CAMERA)}, {("b.jpg", "x/a.jpg"): two_view})
    with pycolmap.Database.open(path) as database:
        images = {image.name: image for image in database.read_all_images()}
        assert set(images) == {"b.jpg", "x/a.jpg"}
        assert database.num_cameras() == database.num_rigs() == database.num_frames() == 2
        for frame in database.read_all_frames():
            (data,) = frame.image_ids
            image = database.read_image(data.id)
            assert frame.rig_id == frame.frame_id
            assert database.read_rig(frame.rig_id).ref_sensor_id.id == image.camera_id
        camera = database.read_camera(images["b.jpg"].camera_id)
        assert camera.model_name == "OPENCV"
        np.testing.assert_allclose(camera.params, [500, 510, 319.5, 240, 0.1, -0.02, 0.001, 0.002])
        assert camera.has_prior_focal_length
        table = database.read_keypoints(images["x/a.jpg"].image_id)
        np.testing.assert_array_equal(table, np.float32([[0.5, 0.5, 2, 0.5], [10.5, 20.5, 3, -1]]))
        np.testing.assert_array_equal(database.read_keypoints(images["b.jpg"].image_id), [[1.5, 2.5]])
        descriptors = database.read_descriptors(images["x/a.jpg"].image_id)
        assert descriptors.type == pycolmap.FeatureExtractorType.SIFT
        np.testing.assert_array_equal(descriptors.data, np.eye(2, 128) * 255)
        assert not database.exists_descriptors(images["b.jpg"].image_id), "negative: not SIFT's"
        ids = images["b.jpg"].image_id, images["x/a.jpg"].image_id
        np.testing.assert_array_equal(database.read_matches(*ids), [[0, 1], [0, 0]])
        geometry = database.read_two_view_geometry(*ids)
        assert geometry.config == pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED.value
        np.testing.assert_array_equal(geometry.inlier_matches, [[0, 1]])
        # x2' F x1 is the same number for the same points in both conventions.
        x1, x2 = np.array([3, 4, 1]), np.array([5, 7, 1])
        half = np.array([0.5, 0.5, 0])
        np.testing.assert_allclose((x2 + half) @ geometry.F @ (x1 + half), x2 @ F @ x1)


def test_sift_descriptors_are_rounded_as_colmaps(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.exponential(size=(50, 128)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    values[0, :3] = [0.5 / 512, 1.5 / 512, 2.4 / 512]
    f = Features(np.zeros((50, 2)), values, np.zeros(50), (640, 480))
    write_colmap(tmp_path / "a.db", {"a": (f, CAMERA)})
    with pycolmap.Database.open(tmp_path / "a.db") as database:
        stored = database.read_descriptors(1).data
    assert stored[0, :3].tolist() == [1, 2, 2], "halves go up"
    np.testing.assert_array_equal(stored, np.clip(np.floor(values * 512 + 0.5), 0, 255))
    back = read_colmap(tmp_path / "a.db").images["a"][0].descriptors
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, rtol=1e-5)
    assert np.einsum("nd,nd->n", back, values)[1:].min() > 0.999


@pytest.mark.parametrize("kind", ["calibrated", "uncalibrated", "planar", "panoramic", "degenerate", "watermark"])
@pytest.mark.parametrize("turned", [False, True])
def test_two_views_come_back(tmp_path, features, kind, turned):
    images = {name: (f := features(i, 9), camera_for(f)) for i, name in enumerate("ab")}
    inliers, putative = Matches([[0, 1], [2, 5]], [1, 1]), Matches([[0, 1], [2, 5], [3, 3]], [1, 1, 1])
    matrix = None
    if kind not in ("degenerate", "watermark"):
        matrix = np.array([[1, 0.5, 30], [-0.25, 2, 5], [0.001, 0.002, 1]])
    pair = ("b", "a") if turned else ("a", "b")
    write_colmap(tmp_path / "a.db", images, {pair: TwoView(inliers, kind, matrix, putative)})
    back = read_colmap(tmp_path / "a.db")
    two_view = back.two_views["a", "b"]
    order = slice(None, None, -1 if turned else 1)
    assert two_view.kind == kind
    np.testing.assert_array_equal(two_view.matches.indices, inliers.indices[:, order])
    np.testing.assert_array_equal(two_view.putative.indices, putative.indices[:, order])
    np.testing.assert_array_equal(back.matches["a", "b"].indices, putative.indices[:, order])
    if matrix is None:
        assert two_view.matrix is None
        return
    if turned:
        matrix = np.linalg.inv(matrix) if kind in ("planar", "panoramic") else matrix.T
    np.testing.assert_allclose(two_view.matrix / two_view.matrix[2, 2], matrix / matrix[2, 2], rtol=1e-9, atol=1e-9)


def test_equal_cameras_are_shared_on_request(tmp_path, features):
    f = [features(i, 3) for i in range(3)]
    images = {str(i): (Features(x.keypoints, x.descriptors, x.scores, (640, 480)), CAMERA) for i, x in enumerate(f)}
    images["other"] = (images["0"][0], Camera.from_focal(600, (640, 480), known=False))
    for share, count in ((False, 4), (True, 2)):
        write_colmap(tmp_path / "a.db", images, camera_mode="equal" if share else "per-image")
        with pycolmap.Database.open(tmp_path / "a.db") as database:
            assert database.num_cameras() == database.num_rigs() == count
            assert database.num_frames() == database.num_images() == 4
        assert {name: camera for name, (_, camera) in read_colmap(tmp_path / "a.db").images.items()} == {
            name: camera for name, (_, camera) in images.items()
        }


def test_affine_shapes_and_learned_descriptors_of_others_are_read(tmp_path):
    path = tmp_path / "a.db"
    values = np.eye(2, 128, dtype=np.float32)
    with pycolmap.Database.open(path) as database:
        camera = database.write_camera(pycolmap.Camera(model="PINHOLE", width=64, height=48, params=[50, 50, 32, 24]))
        image = database.write_image(pycolmap.Image(name="a", camera_id=camera))
        c, s = np.cos(0.3), np.sin(0.3)
        database.write_keypoints(image, np.float32([[1, 2, 3 * c, -3 * s, 3 * s, 3 * c], [5, 6, 1, 0, 0, 2]]))
        described = pycolmap.FeatureDescriptors(
            pycolmap.FeatureExtractorType.ALIKED_N16ROT, values.view(np.uint8).reshape(2, 512)
        )
        database.write_descriptors(image, described)
    f, camera = read_colmap(path).images["a"]
    assert f.keypoints.tolist() == [[0.5, 1.5], [4.5, 5.5]]
    np.testing.assert_allclose(f.scales, [6, 3], rtol=1e-6)
    np.testing.assert_allclose(f.angles, [0.3, 0], atol=1e-6)
    np.testing.assert_array_equal(f.descriptors, values)
    assert camera.params == (50, 50, 31.5, 23.5)
    assert not camera.focal_is_known


def test_unfit_input_is_refused_and_the_old_database_stays(tmp_path, features):
    path = tmp_path / "a.db"
    f = features(0, 5)
    camera = camera_for(f)
    write_colmap(path, {"old": (f, camera)})
    before = path.read_bytes()
    images = {"a": (f, camera), "b": (f, camera)}
    some = Matches([[0, 1]], [1])
    bad = [
        ({"a": (f, CAMERA)}, None, "its camera has 640x480"),
        ({"../a": (f, camera)}, None, "cannot be an image's name"),
        (images, {("a", "c"): some}, "'c' is not among the images"),
        (images, {("a", "a"): some}, "of one image"),
        (images, {("a", "b"): some, ("b", "a"): some}, "both directions"),
        (images, {("a", "b"): Matches([[0, 5]], [1])}, "refer to keypoint"),
        (images, {("a", "b"): TwoView(Matches([[5, 0]], [1]))}, "refer to keypoint"),
        (images, {("a", "b"): TwoView(some, putative=Matches([[5, 0]], [1]))}, "refer to keypoint"),
    ]
    for wrong, pairs, message in bad:
        with pytest.raises(InvalidInputError, match=message) as error:
            write_colmap(path, wrong, pairs)
        assert "\n" not in str(error.value)
        assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.db"]
    for kind, matrix in (
        ("nonsense", None),
        ("degenerate", np.eye(3)),
        ("planar", np.eye(2)),
        ("planar", np.full((3, 3), np.inf)),
    ):
        with pytest.raises(InvalidInputError):
            TwoView(some, kind, matrix)


def test_bad_files_are_one_line(tmp_path, features):
    path = tmp_path / "good.db"
    f = features(0, 2000)
    write_colmap(path, {"a": (f, camera_for(f))})
    content = path.read_bytes()
    for name, data in {
        "empty.db": b"",
        "text.db": b"no database" * 100,
        "head.db": content[:60],
        "half.db": content[: len(content) // 2],
        "tail.db": content[:-100],
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(StorageError, match=name) as error:
            read_colmap(tmp_path / name)
        assert "\n" not in str(error.value)
    for missing in (tmp_path / "none.db", tmp_path):
        with pytest.raises(StorageError, match=r"no such file|not a regular file"):
            read_colmap(missing)
    assert not (tmp_path / "none.db").exists()


def test_a_log_of_the_old_database_does_not_get_into_the_new(tmp_path, features):
    path = tmp_path / "a.db"
    f = features(0, 3)
    write_colmap(path, {"old": (f, camera_for(f))})
    database = pycolmap.Database.open(path)
    database.write_camera(pycolmap.Camera(model="PINHOLE", width=64, height=48, params=[50, 50, 32, 24]))
    with pytest.raises(StorageError, match=r"a\.db: is open in another program"):
        write_colmap(path, {"new": (f, camera_for(f))})
    log = (tmp_path / "a.db-wal").read_bytes()
    stale = path.read_bytes()
    database.close()
    assert list(read_colmap(path).images) == ["old"]
    path.write_bytes(stale)
    (tmp_path / "a.db-wal").write_bytes(log)  # what a crash leaves
    write_colmap(path, {"new": (f, camera_for(f))})
    assert list(read_colmap(path).images) == ["new"]
    path.unlink()
    (tmp_path / "a.db-wal").write_bytes(log)
    write_colmap(path, {"new": (f, camera_for(f))})
    back = read_colmap(path)
    assert list(back.images) == ["new"]


def test_without_pycolmap_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tiepoints\[sfm\]'"):
        read_colmap(tmp_path / "a.db")
    old = type(sys)("pycolmap")
    old.__version__ = "3.11.1"
    monkeypatch.setitem(sys.modules, "pycolmap", old)
    with pytest.raises(MissingDependencyError, match=r"pycolmap 3\.11\.1 is too old"):
        write_colmap(tmp_path / "a.db", {})


# --- a real scene --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene(shared: Path) -> tuple[Path, dict[str, tuple[Features, Camera]], dict[str, np.ndarray]]:
    """Five photographs of fountain-P11 at half size: their folder, features with cameras, and true rotations."""
    folder = shared / "data" / "strecha" / "fountain-P11"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    sift = cv2.SIFT_create(1500, enable_precise_upscale=True)
    images, rotations = {}, {}
    with (folder / "cameras.csv").open(newline="") as file:
        for row in list(csv.DictReader(file))[3:8]:
            grey = cv2.imread(str(folder / "images" / row["name"]), cv2.IMREAD_GRAYSCALE)
            grey = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            k = np.array([[float(row[f"K{i}{j}"]) for j in range(3)] for i in range(3)])
            k[:2, 2] += 0.5  # by half in the corner convention
            k[:2] *= 0.5
            k[:2, 2] -= 0.5
            rotations[row["name"]] = np.array([[float(row[f"R{i}{j}"]) for j in range(3)] for i in range(3)])
            points, descriptors = sift.detectAndCompute(grey, None)
            size = grey.shape[1], grey.shape[0]
            images[row["name"]] = (
                Features(
                    [p.pt for p in points],
                    descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True),
                    [p.response for p in points],
                    size,
                    scales=[p.size for p in points],
                    angles=np.deg2rad([p.angle for p in points]),
                ),
                Camera.from_matrix(k, size),
            )
    return folder / "images", images, rotations


def matched(a: Features, b: Features) -> Matches:
    """Mutual nearest neighbours with a ratio of 0.85."""
    similarity = a.descriptors @ b.descriptors.T
    forth, back = similarity.argmax(axis=1), similarity.argmax(axis=0)
    rows = np.arange(len(a))
    second = np.partition(similarity, -2, axis=1)[:, -2]
    best = similarity[rows, forth]
    good = (back[forth] == rows) & (np.sqrt(2 - 2 * best) < 0.85 * np.sqrt(2 - 2 * second))
    return Matches(np.stack([rows[good], forth[good]], axis=1), best[good])


def pairs_of(images: dict[str, tuple[Features, Camera]]) -> list[tuple[str, str]]:
    names = list(images)
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]


def verified(a: Features, b: Features, camera: Camera) -> TwoView:
    found = matched(a, b)
    points_a, points_b = found.points(a, b)
    E, mask = cv2.findEssentialMat(points_a, points_b, camera.matrix, cv2.USAC_MAGSAC, 0.999, 1.0)
    return TwoView(found.select(mask.ravel().astype(bool)), "calibrated", E, found)


def check_reconstruction(database: Path, folder: Path, output: Path, rotations: dict[str, np.ndarray]) -> None:
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = 2
    options.ba_refine_focal_length = False
    options.ba_refine_extra_params = False
    output.mkdir()
    models = pycolmap.incremental_mapping(database, folder, output, options)
    model = max(models.values(), key=lambda some: some.num_reg_images())
    assert model.num_reg_images() >= 4
    assert model.num_points3D() > 200
    assert model.compute_mean_reprojection_error() < 1
    poses = {image.name: image.cam_from_world().rotation.matrix() for image in model.images.values()}
    first = next(iter(poses))
    for name, rotation in poses.items():
        ours, true = rotation @ poses[first].T, rotations[name] @ rotations[first].T
        angle = np.degrees(np.arccos(np.clip((np.trace(ours @ true.T) - 1) / 2, -1, 1)))
        assert angle < 1, f"{name} is turned by {angle:.2f} degrees"


def test_colmaps_mapper_takes_our_two_views(scene, tmp_path):
    folder, images, rotations = scene
    pairs = {(a, b): verified(images[a][0], images[b][0], images[a][1]) for a, b in pairs_of(images)}
    write_colmap(tmp_path / "a.db", images, pairs, camera_mode="equal")
    check_reconstruction(tmp_path / "a.db", folder, tmp_path / "sparse", rotations)


def test_colmap_verifies_our_matches(scene, tmp_path):
    folder, images, rotations = scene
    path = tmp_path / "a.db"
    found = {(a, b): matched(images[a][0], images[b][0]) for a, b in pairs_of(images)}
    write_colmap(path, images, found)
    (tmp_path / "pairs.txt").write_text("".join(f"{a} {b}\n" for a, b in found))
    pycolmap.verify_matches(path, tmp_path / "pairs.txt")
    back = read_colmap(path)
    assert isinstance(back, ColmapDatabase)
    good = [two_view for two_view in back.two_views.values() if two_view.kind == "calibrated"]
    assert len(good) >= 5
    for pair, two_view in back.two_views.items():
        if two_view.kind == "calibrated" and len(two_view.matches) > 100:
            a, b = (images[name] for name in pair)
            x1, x2 = (
                np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(camera.matrix).T
                for points, camera in zip(two_view.matches.points(a[0], b[0]), (a[1], b[1]), strict=True)
            )
            lines = x1 @ two_view.matrix.T
            distance = np.abs(np.sum(x2 * lines, axis=1)) / np.hypot(lines[:, 0], lines[:, 1])
            assert np.median(distance) * a[1].params[0] < 1, "pixels from the epipolar line"
    check_reconstruction(path, folder, tmp_path / "sparse", rotations)


def test_a_note_lies_in_a_database_of_any_name_and_reading_changes_nothing(tmp_path: Path) -> None:
    from tiepoints.storage.notes import read_note, write_note

    folder = tmp_path / "a?b#c %20 \u00f6"
    folder.mkdir()
    write_note(folder / "x.db", {"ratio": "0.8"})
    write_note(folder / "x.db", {"ratio": "0.9", "-O": "no"})
    before = (folder / "x.db").read_bytes()
    assert read_note(folder / "x.db") == ({"ratio": "0.9", "-O": "no"}, [])
    assert (folder / "x.db").read_bytes() == before and [path.name for path in folder.iterdir()] == ["x.db"]
    assert read_note(folder / "gone.db") == ({}, []) and not (folder / "gone.db").exists()
    (folder / "x.db").write_bytes(before[:1000])
    assert read_note(folder / "x.db") == ({}, [])
