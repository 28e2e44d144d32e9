"""Maps, and where queries were taken in them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.spatial.transform import Rotation

import tiepoints as tp
from tiepoints.cli import cli
from tiepoints.collection import Collection
from tiepoints.geometry import Geometry
from tiepoints.tasks import Localize, Localizer, Reconstruction, build_map
from tiepoints.tasks.maps import Map
from tiepoints.tasks.reconstruction import load_model


@pytest.fixture(scope="module")
def queries(photographs: Collection) -> list[str]:
    return [name for name in photographs if name != "other.png"][2:7:3]


@pytest.fixture(scope="module")
def made(
    photographs: Collection,
    queries: list[str],
    scene: Reconstruction,
    extractor: tp.Extractor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Map:
    """A map without the queries, in the frame of the scene with them: its cameras and poses are given."""
    few = photographs.select(name for name in photographs if name not in queries)
    folder = tmp_path_factory.mktemp("map") / "map"
    found, reconstruction = build_map(few, folder, extractor=extractor, model=scene.folder / "sparse" / "0")
    assert reconstruction is None
    return found


def truth(scene: Reconstruction, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation and centre of a photograph in the scene, and the scene's extent."""
    model = load_model(scene.folder / "sparse" / "0")
    pose = model.find_image_with_name(name).cam_from_world()
    centres = np.array([model.image(i).projection_center() for i in model.reg_image_ids()])
    return pose.rotation.matrix(), pose.inverse().translation, float(np.linalg.norm(np.ptp(centres, axis=0)))


def off_by(found: Geometry, wanted: tuple[np.ndarray, np.ndarray, float]) -> tuple[float, float]:
    """Degrees, and the distance of the centres as a share of the scene's extent."""
    rotation, centre, extent = wanted
    assert found.rotation is not None and found.center is not None
    angle = np.degrees(Rotation.from_matrix(found.rotation @ rotation.T).magnitude())
    return float(angle), float(np.linalg.norm(found.center - centre)) / extent


def test_queries_are_where_the_reconstruction_with_them_has_them(
    made: Map, scene: Reconstruction, photographs: Collection, queries: list[str]
) -> None:
    localizer = Localizer(made.folder)
    for name in queries:
        found = localizer(photographs[name].path)
        assert found
        degrees, share = off_by(found.pose, truth(scene, name))
        assert degrees < 0.5
        assert share < 0.02
        assert found.inliers > 100 and found.log_nfa < -100
        w, x, y, z = found.quaternion
        np.testing.assert_allclose(Rotation.from_quat([x, y, z, w]).as_matrix(), found.pose.rotation, atol=1e-9)


def test_aligned_queries_are_nearer_to_where_the_reconstruction_has_them(
    made: Map, scene: Reconstruction, photographs: Collection, queries: list[str], broken: Path
) -> None:
    camera = next(iter(load_model(scene.folder / "sparse" / "0").cameras.values()))
    known = tp.Camera.from_pycolmap(camera)
    shares = {}
    for align in (False, True):
        localizer = Localizer(made.folder, align=align)
        found = [localizer(photographs[name].path, known) for name in queries]
        assert all(found)
        shares[align] = np.mean([off_by(f.pose, truth(scene, n))[1] for f, n in zip(found, queries, strict=True)])
    assert shares[True] < 0.8 * shares[False]
    # A map without patches, as another program's is, answers as without alignment.
    for path in broken.rglob("patches.npy"):
        path.unlink()
    old = Localizer(broken)(photographs[queries[0]].path, known)
    plain = Localizer(made.folder, align=False)(photographs[queries[0]].path, known)
    np.testing.assert_array_equal(old.pose.matrix, plain.pose.matrix)


def test_without_a_focal_length_it_is_tried_out(
    made: Map, scene: Reconstruction, photographs: Collection, queries: list[str]
) -> None:
    half = Image.open(photographs[queries[0]].path)
    half = half.resize((half.width // 2, half.height // 2), Image.Resampling.BOX)  # of no size that the map knows
    found = Localizer(made.folder)(half)
    assert found and not found.camera.focal_is_known
    assert off_by(found.pose, truth(scene, queries[0]))[0] < 2


def test_poses_are_text_and_no_other_kind_of_file(tmp_path: Path) -> None:
    for name in ("poses.json", "poses.csv", "poses.h5"):
        result = CliRunner().invoke(cli, ["localize", str(tmp_path), "q.jpg", "--out", str(tmp_path / name)])
        assert result.exit_code == 2 and f"{name} must end in .txt; --json prints JSON" in result.stderr


def test_what_is_elsewhere_is_not_localized(made: Map, examples: Path) -> None:
    found = Localizer(made.folder)(examples / "desk_1.jpg")
    assert not found
    assert not found.pose
    assert found.reason
    with pytest.raises(tp.InvalidInputError, match="no pose"):
        _ = found.quaternion


def test_an_image_without_features_is_not_localized(made: Map) -> None:
    found = Localizer(made.folder)(np.zeros((100, 120), np.uint8))
    assert not found and found.matches == 0


def test_a_map_is_only_read(made: Map, photographs: Collection, queries: list[str], tmp_path: Path) -> None:
    copied = Path(shutil.copytree(made.folder, tmp_path / "map"))

    def state() -> dict[str, tuple[str, int]]:
        return {
            p.name: (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns)
            for p in sorted(copied.rglob("*"))
            if p.is_file()
        }

    before = state()
    for path in (*copied.rglob("*"), copied):
        path.chmod(0o555 if path.is_dir() else 0o444)
    command = ["localize", str(copied), str(photographs[queries[0]].path), "--out", str(tmp_path / "poses.txt")]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0 and f"wrote {tmp_path / 'poses.txt'}, 1 pose\n" in result.stdout
    for path in (copied, *copied.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o444)
    assert state() == before


def test_a_wrong_camera_is_refused(made: Map, photographs: Collection, queries: list[str]) -> None:
    localizer, path = Localizer(made.folder), photographs[queries[0]].path
    with pytest.raises(tp.InvalidInputError, match="10x10"):
        localizer(path, tp.Camera.from_focal(10, (10, 10)))
    with pytest.raises(tp.InvalidInputError, match="the camera"):
        localizer(path, np.eye(2))
    size = photographs[queries[0]].header.size
    plain = tp.Camera.from_focal(900, size)
    found = [localizer(path, camera) for camera in (plain, plain.matrix)]
    np.testing.assert_allclose(found[0].pose.matrix, found[1].pose.matrix, atol=1e-6)


@pytest.fixture
def broken(made: Map, tmp_path: Path) -> Iterator[Path]:
    yield Path(shutil.copytree(made.folder, tmp_path / "map"))


@pytest.mark.parametrize("what", ["map.json", "xyz.npy", "descriptors.npy", "offsets.npy", "patches.npy"])
def test_a_damaged_map_is_one_line(broken: Path, what: str) -> None:
    path = next(broken.rglob(what))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(tp.StorageError, match="damaged or incomplete"):
        Localizer(broken)


def test_points_that_do_not_exist_are_refused(broken: Path) -> None:
    path = next(broken.rglob("points.npy"))
    points = np.load(path)
    points[0] = 10**6
    np.save(path, points)
    with pytest.raises(tp.StorageError, match="damaged"):
        Localizer(broken)
    with pytest.raises(tp.StorageError, match="no map here"):
        Localizer(broken.parent / "none")


def test_poses_of_rotated_files_are_those_of_the_stored_pixels(
    made: Map, scene: Reconstruction, photographs: Collection, queries: list[str], tmp_path: Path
) -> None:
    """The same photograph, stored on its side with EXIF's orientation 6: COLMAP reads it without the rotation."""
    upright = Image.open(photographs[queries[0]].path)
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(tmp_path / "side.jpg", exif=exif, quality=95)
    (tmp_path / "black.png").write_bytes(b"no image")
    command = ["localize", str(made.folder), str(tmp_path / "side.jpg"), str(tmp_path / "black.png"), "--json"]
    focal = next(iter(load_model(scene.folder / "sparse" / "0").cameras.values())).focal_length
    result = CliRunner().invoke(cli, [*command, "--focal", str(focal), "--out", str(tmp_path / "poses.txt")])
    assert result.exit_code == 1  # of two files one is no image
    said = json.loads(result.stdout)
    assert list(said["failed"]) == ["black.png"]
    explained = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8").split("\n## ")[4]
    assert [key for key in (*said, *said["queries"][0]) if f"`{key}`" not in explained] == []
    name, *numbers = (tmp_path / "poses.txt").read_text().split()
    assert name == "side.jpg"
    w, x, y, z, *translation = map(float, numbers)
    rotation = Rotation.from_quat([x, y, z, w]).as_matrix()
    pose = Geometry("absolute_pose", np.column_stack([rotation, translation]), np.ones(1, bool))
    wanted, centre, extent = truth(scene, queries[0])
    # The stored camera is turned by a quarter: its x is the upright one's y, its y minus the upright one's x.
    turned = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]]) @ wanted
    degrees, share = off_by(pose, (turned, centre, extent))
    assert degrees < 1 and share < 0.03


def test_a_query_is_read_once_and_aligned_as_it_is_stored(
    examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiepoints.collection import photographs as module

    class Given:
        extractor = tp.load("orb", max_keypoints=50)

        def localize(self, features: tp.Features, camera: Any, grey: Callable[[], Any]) -> Any:
            return features.image_size, grey()

    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.open(examples / "box.png").save(tmp_path / f"{orientation}.png", exif=exif)
    reads: list[Path] = []
    monkeypatch.setattr(module, "read", lambda path, **how: reads.append(path) or tp.read(path, **how))
    for one in Collection.from_folder(tmp_path).values():
        reads.clear()
        size, grey = Localize(Given())(one)  # type: ignore[arg-type]
        assert reads == [one.path]
        np.testing.assert_array_equal(grey, tp.read(one.path, grey=True, upright=False))
        assert size == grey.shape[::-1]


def test_a_camera_of_another_size_fails_its_photograph_alone(
    made: Map, photographs: Collection, queries: list[str], tmp_path: Path
) -> None:
    wrong, right = (photographs[name] for name in queries[:2])
    width, height = right.header.size
    lines = [
        f"{wrong.name} PINHOLE 1936 1296 900 900 968 648",
        f"{right.name} PINHOLE {width} {height} 900 900 320 240",
    ]
    (tmp_path / "cameras.txt").write_text("\n".join(lines))
    command = [
        "localize",
        str(made.folder),
        str(wrong.path),
        str(right.path),
        "--cameras",
        str(tmp_path / "cameras.txt"),
    ]
    result = CliRunner().invoke(cli, [*command, "--json"])
    said = json.loads(result.stdout)
    assert [query["name"] for query in said["queries"]] == [right.name]
    (message,) = said["failed"].values()
    assert message.startswith(f"{wrong.path}: the camera is of 1936x1296 pixels, but its image has {width}x{height}")
    assert "give the camera of that size" in message


def test_a_map_is_made_without_poses_too(photographs: Collection, extractor: tp.Extractor, tmp_path: Path) -> None:
    three = photographs.select(list(photographs)[:3])
    found, reconstruction = build_map(three, tmp_path / "map", extractor=extractor)
    assert reconstruction is not None and reconstruction.registered == len(found) == 3
    assert found.extractor == "mdnet" and found.options["max_size"] == extractor.max_size


def test_cameras_are_read_as_hloc_lists_them(tmp_path: Path) -> None:
    from tiepoints.cli.many import read_cameras

    path = tmp_path / "cameras.txt"
    path.write_text(
        "# queries\na b.jpg\tSIMPLE_RADIAL 640 480 500 320 240 0.1\nc.jpg PINHOLE 640 480 500 501 320 240\n"
    )
    found = read_cameras(path)
    assert found["a b.jpg"].params == (500, 319.5, 239.5, 0.1)
    assert found["c.jpg"].params == (500, 501, 319.5, 239.5)
    path.write_text("c.jpg PINHOLE 640 480 500\n")
    with pytest.raises(tp.InvalidInputError, match="line 1"):
        read_cameras(path)
