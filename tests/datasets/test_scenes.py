"""Scenes as they lie on disk: whole, incomplete, damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from tiepoints.datasets.hdf5 import read_depth
from tiepoints.datasets.scenes import find_scenes, read_scene
from tiepoints.errors import StorageError

HEADER = "name,width,height," + ",".join(f"{m}{i}{j}" for m in "KR" for i in range(3) for j in range(3)) + ",T0,T1,T2"
CAMERA = "640,480,600,0,320,0,600,240,0,0,1,1,0,0,0,1,0,0,0,1,0.5,0,0"


def write_csv(folder: Path, rows: list[str], images: list[str]) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "cameras.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    for image in images:
        (folder / "images" / image).touch()
    return folder


def test_the_benchmarks_layout(scene_folder: Path, world) -> None:
    scene = read_scene(scene_folder)
    assert (scene.dataset, scene.name, len(scene.views)) == ("toy", "cloud", 7)
    view = scene.views["03_3"]
    np.testing.assert_allclose(view.K, [[600, 0, 320], [0, 600, 240], [0, 0, 1]], err_msg="moved from COLMAP's corner")
    np.testing.assert_allclose(view.R, world.cameras[3][0], atol=1e-12)
    np.testing.assert_allclose(view.t, world.cameras[3][1], atol=1e-12)
    assert scene.has_depth
    assert len(scene.pairs) == 21 and all(a > b for a, b in scene.pairs)
    assert scene.notes == ("all pairs: the scene has no list of pairs with a covisibility of at least 0.1",)
    for root in (scene_folder.parent, scene_folder.parents[1], scene_folder.parents[2]):
        assert [found.name for found in find_scenes(root)] == ["cloud"]


def test_pairs_and_bags_of_the_release(new_scene, tmp_path: Path) -> None:
    folder = new_scene(tmp_path / "d" / "s")
    (folder / "new-vis-pairs").mkdir()
    np.save(folder / "new-vis-pairs" / "keys-th-0.1.npy", np.array(["02_2-01_1", "05_5-00_0", "05_5-99_9"]))
    (folder / "sub_set").mkdir()
    (folder / "sub_set" / "3bag_000.txt").write_text("images/00_0.png\nimages/04_4.png\nimages/06_6.png\n")
    (folder / "sub_set" / "3bag_001.txt").write_text("images/00_0.png\nimages/04_4.png\nimages/77_7.png\n")
    scene = read_scene(folder)
    assert scene.pairs == (("02_2", "01_1"), ("05_5", "00_0"))
    assert scene.bags == {3: (("00_0", "04_4", "06_6"),)}
    assert scene.notes[0].startswith("1 of 3 covisible pairs left out")
    assert scene.notes[1].startswith("1 bag left out")


def test_the_older_lists_of_common_points(new_scene, tmp_path: Path) -> None:
    folder = new_scene(tmp_path / "d" / "s")
    names = [path.stem for path in sorted((folder / "images").iterdir())]
    (folder / "visibility").mkdir()
    (folder / "images.txt").write_text("".join(f"images/{name}.png\n" for name in names))
    (folder / "visibility.txt").write_text("".join(f"visibility/vis_{name}.txt\n" for name in names))
    counts = np.zeros((7, 7))
    counts[0, 1] = counts[5, 2] = 101
    counts[3, 4], counts[6, 6] = 100, 500
    for name, row in zip(names, counts, strict=True):
        np.savetxt(folder / "visibility" / f"vis_{name}.txt", row)
    scene = read_scene(folder)
    assert scene.pairs == (("01_1", "00_0"), ("05_5", "02_2"))
    assert scene.notes == ("pairs with more than 100 common points: the scene has no list by covisibility",)
    path = folder / "visibility" / "vis_02_2.txt"
    for content, message in (("1 2 3", "3 numbers for 7 images"), ("a b", "not numbers")):
        path.write_text(content)
        with pytest.raises(StorageError, match=rf"vis_02_2\.txt: {message}"):
            read_scene(folder)
    path.unlink()
    with pytest.raises(StorageError, match=r"vis_02_2\.txt: cannot be read"):
        read_scene(folder)


def test_sets_with_a_table_of_cameras(tmp_path: Path) -> None:
    folder = write_csv(
        tmp_path / "set", [f"{n}.jpg,{CAMERA}" for n in "abc"], ["a.jpg", "b.jpg", "extra.png", "notes.txt"]
    )
    scene = read_scene(folder)
    assert list(scene.views) == ["a", "b"] and scene.pairs == (("b", "a"),)
    assert scene.views["a"].size == (640, 480)
    assert not scene.has_depth
    assert any("1 image of cameras.csv missing: c" in note for note in scene.notes)
    assert any("1 image without a camera left out: extra" in note for note in scene.notes)


def test_development_sets(shared: Path) -> None:
    found = {scene.name: scene for root in ("strecha", "lund_door", "temple_ring")
             for scene in find_scenes(shared / "data" / root)}  # fmt: skip
    counts = {name: (len(scene.views), len(scene.pairs)) for name, scene in found.items()}
    assert counts == {
        "Herz-Jesus-P8": (8, 28), "fountain-P11": (11, 55), "lund_door": (12, 66), "temple_ring": (19, 171)
    }  # fmt: skip


def test_images_without_calibration_are_named(new_scene, tmp_path: Path) -> None:
    folder = new_scene(tmp_path / "d" / "s")
    (folder / "calibration" / "calibration_03_3.h5").unlink()
    (folder / "depth_maps" / "01_1.h5").unlink()
    scene = read_scene(folder)
    assert len(scene.views) == 6
    assert "1 image without calibration left out: 03_3" in scene.notes
    assert "1 of 6 images without a depth map" in scene.notes


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,640,480,1,2", "line 3: not name,width,height,K00..K22"),
        (f"a.jpg,{CAMERA.replace('600,0,320', 'abc,0,320')}", "line 3: not name"),
        (f"a.jpg,{CAMERA.replace('600,0,320', 'nan,0,320')}", "line 3: K, R and T must be finite"),
        (f"a.jpg,{CAMERA.replace('1,0,0,0,1,0,0,0,1,0.5', '1,0,0,0,1,0,0,0,1,-1e308')}", "must be finite numbers, and"),
        (f"a.jpg,{CAMERA.replace('600,0,320', '-600,0,320')}", "line 3: K is no calibration matrix"),
        (f"a.jpg,{CAMERA.replace('1,0,0,0,1,0,0,0,1,0.5', '1,0,0,0,2,0,0,0,1,0.5')}", "line 3: R is no rotation"),
        (f"a.jpg,{CAMERA.replace('1,0,0,0,1,0,0,0,1,0.5', '1,0,0,0,1,0,0,0,-1,0.5')}", "line 3: R is no rotation"),
        (f"a.jpg,{CAMERA.replace('640,480', '0,480')}", "line 3: an image of 0x480"),
        (f"b.jpg,{CAMERA}", "line 3: b.jpg is there twice"),
    ],
)
def test_damaged_tables_name_the_line(tmp_path: Path, row: str, message: str) -> None:
    folder = write_csv(tmp_path / "s", [f"b.jpg,{CAMERA}", row], ["a.jpg", "b.jpg"])
    with pytest.raises(StorageError, match=message) as error:
        read_scene(folder)
    assert "\n" not in str(error.value) and "cameras.csv" in str(error.value)


def test_folders_without_a_scene(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such folder"):
        find_scenes(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="no scene in it"):
        find_scenes(tmp_path)
    with pytest.raises(StorageError, match="1 image with a camera, but a scene needs two"):
        read_scene(write_csv(tmp_path / "one", [f"a.jpg,{CAMERA}"], ["a.jpg"]))
    with pytest.raises(StorageError, match=r"b\.png: b\.jpg has the same name"):
        read_scene(write_csv(tmp_path / "two", [f"b.jpg,{CAMERA}"], ["b.jpg", "b.png"]))


def spoil_pairs(folder: Path, content: bytes) -> Path:
    (folder / "new-vis-pairs").mkdir(exist_ok=True)
    path = folder / "new-vis-pairs" / "keys-th-0.1.npy"
    path.write_bytes(content)
    return path


def test_truncated_files_are_one_line(new_scene, tmp_path: Path) -> None:
    folder = new_scene(tmp_path / "d" / "s")
    calibration, depth = folder / "calibration" / "calibration_02_2.h5", folder / "depth_maps" / "02_2.h5"
    good = calibration.read_bytes()
    for content in (b"", b"no HDF5", good[: len(good) // 2], good[:-1]):
        calibration.write_bytes(content)
        with pytest.raises(StorageError, match=r"calibration_02_2\.h5: not an HDF5 file with K, R, T") as error:
            read_scene(folder)
        assert "\n" not in str(error.value)
    with h5py.File(calibration, "w") as file:
        file["K"], file["R"], file["T"] = np.eye(3), np.eye(2), np.zeros(3)
    with pytest.raises(StorageError, match="9, 4 and 3 numbers"):
        read_scene(folder)
    calibration.write_bytes(good)

    whole = np.array(["01_1-00_0", "02_2-00_0"])
    path = spoil_pairs(folder, b"")
    np.save(path, whole)
    saved = path.read_bytes()
    for content in (b"", saved[:20], saved[:-3], b"x" * 100):
        spoil_pairs(folder, content)
        with pytest.raises(StorageError, match=r"keys-th-0\.1\.npy: cannot be read as a list of pairs"):
            read_scene(folder)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StorageError, match="cannot be read as a list of pairs"):
        read_scene(folder)  # a pickle may run anything: it is not opened
    np.save(path, np.array(["x-y"]))
    with pytest.raises(StorageError, match="none of its 1 pairs"):
        read_scene(folder)
    shutil.rmtree(path.parent)

    depth.write_bytes(depth.read_bytes()[:-40])
    with pytest.raises(StorageError, match=r"02_2\.h5: not an HDF5 file with depth"):
        read_depth(depth)
    with h5py.File(depth, "w") as file:
        file["depth"] = np.zeros(5)
    with pytest.raises(StorageError, match="shape"):
        read_depth(depth)
    with h5py.File(depth, "w") as file:
        file["depth"] = np.array([[1, np.nan], [-2, np.inf]])
    np.testing.assert_array_equal(read_depth(depth), [[1, 0], [0, 0]])
