"""Files of strangers: nothing is believed before it is checked, nothing else is opened, no foreign error escapes."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import tiepoints as tp
from tiepoints.cli import cli
from tiepoints.datasets.trajectories import read_trajectory
from tiepoints.errors import InvalidInputError, StorageError, TiepointsError
from tiepoints.storage import (
    FeatureReader,
    FeatureWriter,
    MatchReader,
    MatchWriter,
    load_features,
    load_imb,
    load_matches,
    load_meshroom,
    load_opensfm,
    read_colmap,
    save_features,
    save_imb,
    save_matches,
    save_meshroom,
    save_opensfm,
    write_colmap,
)
from tiepoints.storage.reading import set_texts

from .conftest import make_features

MATCHES = tp.Matches([[0, 1], [2, 2]], [1.0, 0.5])


def good_files(folder: Path) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    """A file of every format, and what reads all of it."""
    a = make_features(0, 9, 8, np.float32, ("sets", "scales", "angles"))
    features = {name: tp.Features(**{**vars(a), "image_size": (64, 48)}) for name in ("a.jpg", "b/c.jpg")}
    save_features(folder / "f.npz", a)
    save_matches(folder / "m.npz", MATCHES, inliers=[True, False])
    with FeatureWriter(folder / "f.h5", made_with="x") as writer:
        for name, each in features.items():
            writer.write(name, each, key="k")
    with MatchWriter(folder / "m.h5", made_with="x") as writer:
        writer.write(("a.jpg", "b/c.jpg"), MATCHES, (9, 9))
    save_imb(folder / "imb", {"a": a, "c": a}, {("a", "c"): MATCHES})
    (folder / "t.txt").write_text("\n".join(f"{i} {i} {i * i} 0 0 0 0 1" for i in range(6)))

    def all_features(path: Path) -> None:
        with FeatureReader(path) as reader:
            assert isinstance(reader.made_with, str)
            reader.made_from()
            for name in reader:
                assert isinstance(reader[name], tp.Features) and ".." not in name.split("/")

    def all_matches(path: Path) -> None:
        with MatchReader(path) as reader:
            assert isinstance(reader.made_with, str)
            for pair in reader:
                assert isinstance(reader[pair], tp.Matches)

    files: dict[str, tuple[Path, Callable[[Path], object]]] = {
        "npz of features": (folder / "f.npz", load_features),
        "npz of matches": (folder / "m.npz", load_matches),
        "hdf5 of features": (folder / "f.h5", all_features),
        "hdf5 of matches": (folder / "m.h5", all_matches),
        "imb keypoints": (folder / "imb" / "keypoints.h5", lambda path: load_imb(path.parent)),
        "imb matches": (folder / "imb" / "matches.h5", lambda path: load_imb(path.parent)),
        "trajectory": (folder / "t.txt", read_trajectory),
    }
    if "pycolmap" in sys.modules or __import__("importlib").util.find_spec("pycolmap"):
        camera = tp.Camera.from_focal(70, (64, 48))
        write_colmap(folder / "c.db", {n: (f, camera) for n, f in features.items()}, {("a.jpg", "b/c.jpg"): MATCHES})
        files["colmap"] = folder / "c.db", read_colmap
    return files


def mutated(good: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Bytes turned, overwritten by numbers that are sizes somewhere, cut off, doubled."""
    rng = np.random.default_rng(seed)
    for trial in range(count):
        data = bytearray(good)
        for place in rng.integers(0, len(data), rng.integers(1, 8)):
            # HDF5's and SQLite's structures stand at the beginning, zip's at the end.
            at = int(place) if trial % 2 else int(place) % 2000
            kind = rng.integers(4)
            if kind == 0:
                data[at % len(data)] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                data[at : at + 8] = int(rng.choice([0, 2**31 - 1, 2**32 - 1, 2**40, 2**63])).to_bytes(8, "little")
            elif kind == 2:
                data[at : at + 4] = rng.bytes(4)
            else:
                data[at : at + 16] = data[at // 2 : at // 2 + 16]
        yield bytes(data[: int(rng.integers(len(data)))] if trial % 10 == 0 else data)


@pytest.mark.parametrize("name", ["npz of features", "npz of matches", "trajectory", "colmap"])
def test_mutated_files_raise_our_errors_only(tmp_path: Path, name: str) -> None:
    files = good_files(tmp_path)
    if name not in files:
        pytest.skip("needs pycolmap")
    path, read = files[name]
    good = path.read_bytes()
    read(path)
    refused = 0
    for data in mutated(good, 40 if name == "colmap" else 150, seed=len(name)):
        path.write_bytes(data)
        with warnings.catch_warnings(record=True) as left_out:
            warnings.simplefilter("always")
            try:
                read(path)
            except TiepointsError as error:
                refused += 1
                assert str(error).isprintable()
        assert all(str(one.message).isprintable() for one in left_out)
        refused += bool(left_out)
    assert refused > 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", ["hdf5 of features", "hdf5 of matches", "imb keypoints", "imb matches"])
def test_mutated_hdf5_files_raise_our_errors_only(tmp_path: Path, name: str, child: Callable[..., Any]) -> None:
    """Each in a process of its own: the HDF5 library itself loops or crashes on a few, which no reader can prevent."""
    path, read = good_files(tmp_path)[name]
    read(path)
    good = path.read_bytes()
    paths = []
    for number, data in enumerate(mutated(good, 60, seed=len(name))):
        folder = tmp_path / str(number)
        shutil.copytree(path.parent, folder) if name.startswith("imb") else folder.mkdir()
        (folder / path.name).write_bytes(data)
        paths.append(folder / path.name)
    output, errors = child(_READ_EACH, name, *paths).communicate()
    results = Counter(output.split())
    assert results["foreign"] == 0, errors[-1500:]
    assert results["refused"] > 5 and results["killed"] <= 6 and results.total() == len(paths), results


_READ_EACH = """
import os, signal, sys, traceback
import tiepoints as tp
from pathlib import Path
from tiepoints.storage import FeatureReader, MatchReader, load_imb
import h5py  # before the children need it

def read(path):
    if sys.argv[1].startswith("imb"):
        return load_imb(path.parent)
    with (FeatureReader if "features" in sys.argv[1] else MatchReader)(path) as reader:
        assert isinstance(reader.made_with, str)
        return [reader[key] for key in reader]

for path in map(Path, sys.argv[2:]):
    pid = os.fork()
    if not pid:
        signal.alarm(1)
        try:
            read(path)
            os._exit(0)
        except tp.TiepointsError as error:
            os._exit(1 if str(error).isprintable() else 2)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(2)
    _, status = os.waitpid(pid, 0)
    print(["read", "refused", "foreign"][os.WEXITSTATUS(status)] if os.WIFEXITED(status) else "killed", flush=True)
"""


# -- other files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.h5"
    with FeatureWriter(path) as writer:
        writer.write("secret.jpg", make_features(1, 4))
    return path


def groups(file: h5py.File, secret: Path, how: str) -> None:
    if how == "external storage":
        group = file.create_group("a.jpg")
        group.create_dataset("keypoints", (8, 2), "u1", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
    elif how == "virtual dataset":
        layout = h5py.VirtualLayout((4, 2), "f4")
        layout[:] = h5py.VirtualSource(str(secret), "secret.jpg/keypoints", (4, 2))
        file.create_group("a.jpg").create_virtual_dataset("keypoints", layout)
    elif how == "external link to the dataset":
        file.create_group("a.jpg")["keypoints"] = h5py.ExternalLink(str(secret), "secret.jpg/keypoints")
    elif how == "external link to the group":
        file["a.jpg"] = h5py.ExternalLink(str(secret), "secret.jpg")
    elif how == "soft link to an external link":
        file["x"] = h5py.ExternalLink(str(secret), "secret.jpg")
        file["a.jpg"] = h5py.SoftLink("/x")
    else:  # one of the optional datasets
        group = file.create_group("a.jpg")
        group["keypoints"] = np.zeros((4, 2))
        group["scores"] = h5py.ExternalLink(str(secret), "secret.jpg/scores")


@pytest.mark.parametrize(
    "how",
    [
        "external storage",
        "virtual dataset",
        "external link to the dataset",
        "external link to the group",
        "soft link to an external link",
        "external link to the scores",
    ],
)
def test_hdf5_never_opens_another_file(tmp_path: Path, secret: Path, how: str) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        groups(file, secret, how)
    with FeatureReader(tmp_path / "f.h5") as reader, pytest.raises(StorageError, match=r"another file|somewhere else"):
        reader["a.jpg"]
    scene = tmp_path / "scene"
    scene.mkdir()
    with h5py.File(scene / "keypoints.h5", "w") as file:
        groups(file, secret, how)
        item = file["a.jpg"] if how == "external storage" else None
        if item is not None:
            file.move("a.jpg/keypoints", "b")
            del file["a.jpg"]
    with pytest.raises(StorageError):
        load_imb(scene)


@pytest.mark.parametrize("name", ["../../evil.jpg", "/evil.jpg", "a/../../evil.jpg", "C:\\evil.jpg", "a/./b.jpg"])
def test_names_that_lead_out_of_the_folder_are_refused_on_reading(tmp_path: Path, name: str) -> None:
    with h5py.File(tmp_path / "f.h5", "w", track_order=True) as file:
        group = file
        for part in name.strip("/").split("/"):
            group = group.create_group(part.encode()) if part != "." else group
        group["keypoints"] = np.zeros((2, 2))
    with FeatureReader(tmp_path / "f.h5") as reader:
        if ".." in name or "\\" in name:
            with pytest.raises(StorageError, match="evil"):
                list(reader)
        for wanted in (name, "../f.h5", "/etc/passwd"):
            with pytest.raises(KeyError):
                reader[wanted]
    with h5py.File(tmp_path / "m.h5", "w") as file:
        group = file.create_group("a-b/c-d")
        group["matches0"] = np.array([0, 1])
        set_texts(group, "names", name, "c.jpg")
    if name != "a/./b.jpg":
        with MatchReader(tmp_path / "m.h5") as matches, pytest.raises(StorageError, match="evil"):
            list(matches)


def test_texts_of_variable_length_are_left_alone(tmp_path: Path) -> None:
    """HDF5 keeps them in a heap; a damaged one made it loop for ever."""
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_group("a.jpg")["keypoints"] = np.zeros((2, 2))
        file["a.jpg"]["descriptors"] = np.zeros((4, 2))
        file.attrs["made_with"] = "a text of variable length"
        set_texts(file, "fingerprint", "a text of fixed length, \u00fc")
    with FeatureReader(tmp_path / "f.h5") as reader:
        assert reader.made_with == "" and reader.attribute("fingerprint") == "a text of fixed length, \u00fc"
        assert reader.made_from() == {"a.jpg": ""}


def test_messages_of_libraries_are_short(tmp_path: Path) -> None:
    save_matches(tmp_path / "m.npz", MATCHES)
    data = (tmp_path / "m.npz").read_bytes()
    at = data.index(b"indices.npy")
    (tmp_path / "m.npz").write_bytes(
        data[: at - 4] + (3000).to_bytes(2, "little") + data[at - 2 : at] + b"x" + data[at + 1 :]
    )
    with pytest.raises(StorageError) as caught:
        load_matches(tmp_path / "m.npz")
    assert len(str(caught.value)) < 500


def test_colmaps_bad_images_cost_no_others(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    f = make_features(0, 9)
    f = tp.Features(f.keypoints, f.descriptors, f.scores, (64, 48))
    cameras = [tp.Camera.from_focal(70 + i, (64, 48)) for i in range(4)]
    names = ["good.jpg", "unknown.jpg", "nan.jpg", "evil.jpg"]
    images = dict(zip(names, ((f, camera) for camera in cameras), strict=True))
    place = tp.exif.Position(55.7, 13.2, 86.5)
    pairs = {(names[0], other): MATCHES for other in names[1:]}
    write_colmap(tmp_path / "c.db", images, pairs, positions={"good.jpg": place})
    database = sqlite3.connect(tmp_path / "c.db")
    database.execute("update cameras set model=99 where camera_id=2")
    database.execute("update cameras set params=? where camera_id=3", (np.full(4, np.nan).tobytes(),))
    database.execute("update images set name='../../evil.jpg' where image_id=4")
    database.commit()
    database.close()
    warning = r"c\.db: unknown\.jpg is left out: .*install --upgrade pycolmap`.*, and so are nan\.jpg, .*evil\.jpg$"
    with pytest.warns(UserWarning, match=warning):
        found = read_colmap(tmp_path / "c.db")
    assert list(found.images) == ["good.jpg"] and not found.matches
    assert sorted(found.failed) == ["../../evil.jpg", "nan.jpg", "unknown.jpg"]
    assert found.positions == {"good.jpg": place}
    with pytest.warns(UserWarning, match=warning):
        result = CliRunner().invoke(cli, ["convert", str(tmp_path / "c.db"), str(tmp_path / "c.h5"), "--json"])
    assert result.exit_code == 1 and json.loads(result.stdout)["failed"] == found.failed
    with FeatureReader(tmp_path / "c-features.h5") as reader:
        assert list(reader) == ["good.jpg"]
    command = [sys.executable, "-m", "tiepoints", "convert", tmp_path / "c.db", tmp_path / "d.h5", "-q"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    (line,) = process.stderr.splitlines()  # without Python's "file.py:208: UserWarning"
    assert process.returncode == 1 and line.startswith(f"tiepoints: {tmp_path / 'c.db'}: unknown.jpg is left out")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.npz")
    for read in (load_features, load_matches, FeatureReader, MatchReader, read_trajectory, read_colmap):
        with pytest.raises(TiepointsError):
            read(tmp_path / "f.npz")
        for wrong in (None, 5, "", "a\0b"):
            with pytest.raises(TiepointsError):
                read(wrong)


def raising(error: Exception, module: str) -> Callable[..., None]:
    """A function of that module which raises the exception."""
    names: dict[str, Any] = {"__name__": module, "error": error}
    exec("def faulty(*_):\n    raise error", names)
    return names["faulty"]


@pytest.mark.parametrize("kind", [TypeError, AttributeError, NameError, AssertionError, NotImplementedError])
def test_a_fault_of_our_own_code_is_not_called_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    path = good_files(tmp_path)["npz of features"][0]
    monkeypatch.setattr("tiepoints.storage.npz.unpacked", raising(kind("of a library"), "zipfile"))
    with pytest.raises(StorageError, match=r"f.npz: it is damaged, or holds no features"):
        load_features(path)
    monkeypatch.setattr("tiepoints.storage.npz.unpacked", raising(kind("of ours"), "tiepoints.storage.reading"))
    with pytest.raises(kind, match="of ours"):
        load_features(path)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "there is not enough memory to read it"),
        (OSError(5, "Input/output error"), "cannot be read (Input/output error)"),
    ],
)
def test_a_lack_of_memory_and_a_broken_disk_are_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    path = good_files(tmp_path)["npz of features"][0]
    monkeypatch.setattr("tiepoints.storage.npz.unpacked", raising(error, "zipfile"))
    with pytest.raises(StorageError) as caught:
        load_features(path)
    assert says in str(caught.value) and "damaged" not in str(caught.value)


def test_a_closed_reader_is_not_called_a_damaged_file(tmp_path: Path) -> None:
    with FeatureReader(good_files(tmp_path)["hdf5 of features"][0]) as reader:
        pass
    for use in (lambda: reader["a.jpg"], lambda: "a.jpg" in reader, lambda: reader.made_with, reader.made_from):
        with pytest.raises(InvalidInputError, match="the reader is closed"):
            use()


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "null",
        '{"views": 3}',
        '{"views": [3]}',
        '{"views": [{"viewId": null}]}',
        '{"views": [{"viewId": "1", "width": "wide"}]}',
    ],
)
def test_json_of_another_layout_is_refused(tmp_path: Path, content: str) -> None:
    save_meshroom(tmp_path, {"a.jpg": make_features(0, 4, 8, np.float32, ())}, {})
    (tmp_path / "cameraInit.sfm").write_text(content)
    with pytest.raises(StorageError, match=r"cameraInit.sfm: it is damaged, or no views of Meshroom's"):
        load_meshroom(tmp_path)


@pytest.mark.parametrize("content", ["[]", "null", '{"width": null, "height": 3}', '{"width": [], "height": 3}'])
def test_a_note_of_another_layout_is_refused(tmp_path: Path, content: str) -> None:
    one = make_features(0, 4, 8, np.float32, ())
    save_opensfm(tmp_path, {"a.jpg": tp.Features(**{**vars(one), "image_size": (64, 48)})}, {})
    (tmp_path / "exif").mkdir()
    (tmp_path / "exif" / "a.jpg.exif").write_text(content)
    with pytest.raises(StorageError, match=r"a.jpg.exif: it is damaged, or no note of OpenSfM's"):
        load_opensfm(tmp_path)
