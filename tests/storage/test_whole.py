"""HDF5 files are whole or not there: after an exception, a kill at any time, a full disk, and with another writer."""

from __future__ import annotations

import re
import shutil
import signal
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiepoints as tp
from tiepoints.errors import StorageError
from tiepoints.features import Features, Matches
from tiepoints.storage import FeatureReader, FeatureWriter, MatchReader, MatchWriter

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
# Writes images 0, 1, 2 ... and tells after each; then leaves the block.
WRITE = """
import sys
import numpy as np
from tiepoints.features import Features
from tiepoints.storage import FeatureWriter

path, count = sys.argv[1], int(sys.argv[2])
with FeatureWriter(path) as writer:
    for i in range(count):
        writer.write(f"new/{i}.jpg", Features(np.full((9, 2), i), np.full((9, 64), i), np.zeros(9), (640, 480)))
        print(i, flush=True)
print("closed", flush=True)
"""


def numbered(i: int, size: int = 3) -> Features:
    return Features(np.full((size, 2), i), np.full((size, 64), i), np.zeros(size), (640, 480))


def is_numbered(features: Features, i: int) -> bool:
    return bool((features.keypoints == i).all() and (features.descriptors == i).all())


def test_an_exception_keeps_the_old(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with FeatureWriter(path) as writer:
        writer.write("old.jpg", numbered(0))
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), FeatureWriter(path) as writer:
        writer.write("1.jpg", numbered(1))
        raise ZeroDivisionError
    assert path.read_bytes() == before
    with FeatureWriter(path) as writer:
        assert "old.jpg" in writer and "1.jpg" not in writer
        writer.write("2.jpg", numbered(2))
    with FeatureReader(path) as reader:
        assert reader.names() == ["2.jpg", "old.jpg"]
        assert is_numbered(reader["2.jpg"], 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5"]


def test_killed_while_writing(tmp_path: Path, child: Callable[..., Any]) -> None:
    path = tmp_path / "f.h5"
    with FeatureWriter(path) as writer:
        writer.write("old.jpg", numbered(7))
    before = path.read_bytes()
    process = child(WRITE, path, 10_000)
    while process.stdout.readline() != "20\n":
        pass
    with pytest.raises(StorageError, match=r"f\.h5: another process is writing"), FeatureWriter(path):
        pass
    process.send_signal(KILL)
    process.wait()
    assert path.read_bytes() == before
    with FeatureWriter(path) as writer:
        writer.write("new.jpg", numbered(8))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5"], "what the killed one has left is removed"


DiskUsage = namedtuple("DiskUsage", ["total", "used", "free"])


@pytest.mark.parametrize("free", [0, 30_000, 60_000, 300_000])
def test_a_full_disk_is_one_line_and_keeps_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    path = tmp_path / "f.h5"
    with FeatureWriter(path) as writer:
        writer.write("old.jpg", numbered(0))
    before = path.read_bytes()

    def usage(folder: Path) -> Any:
        return DiskUsage(0, 0, free - sum(file.stat().st_size for file in Path(folder).iterdir()) + len(before))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with (
        pytest.raises(StorageError, match=r"f\.h5: cannot be written \(the disk is full"),
        FeatureWriter(path) as writer,
    ):
        for i in range(1000):
            writer.write(f"{i}.jpg", numbered(i))
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5"]


def test_overwrite_replaces_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with FeatureWriter(path, made_with="sift") as writer:
        writer.write("old.jpg", numbered(0))
    with FeatureWriter(path, made_with="orb", overwrite=True) as writer:
        assert "old.jpg" not in writer
        writer.write("new.jpg", numbered(1), key="0123")
        assert FeatureReader(path).names() == ["old.jpg"]
    with FeatureReader(path) as reader:
        assert reader.names() == ["new.jpg"] and reader.made_with == "orb"
        assert reader.made_from() == {"new.jpg": "0123"}


def test_features_of_two_makers_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with FeatureWriter(path, made_with="sift") as writer:
        writer.write("a", numbered(0))
    refused = pytest.raises(StorageError, match=r"f\.h5: was made with sift, not orb")
    with refused, FeatureWriter(path, made_with="orb"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5"], "who was refused leaves nothing behind"
    with FeatureWriter(path) as writer:
        writer.write("b", numbered(1))
    with FeatureReader(path) as reader:
        assert reader.made_with == "sift"


@pytest.mark.parametrize(
    ("now", "difference"),
    [
        (("sift", {"max_keypoints": 9}), "max_keypoints=2048, not max_keypoints=9;"),
        (
            ("sift", {"max_size": 64, "edge_threshold": 5.0}),
            "max_size=None, edge_threshold=10.0, not max_size=64, edge_",
        ),
        (("rootsift", {"max_keypoints": 9}), "sift, not rootsift;"),
    ],
)
def test_the_refusal_names_only_what_differs(tmp_path: Path, now: Any, difference: str) -> None:
    path = tmp_path / "f.h5"
    with FeatureWriter(path, made_with=repr(tp.load("sift"))) as writer:
        writer.write("a", numbered(0))
    name, options = now
    with (
        pytest.raises(StorageError, match=re.escape(f"f.h5: was made with {difference}")),
        FeatureWriter(path, made_with=repr(tp.load(name, **options))),
    ):
        pass


def test_what_is_in_the_way_is_not_destroyed(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    path.write_text("no HDF5")
    with pytest.raises(StorageError, match=r"f\.h5: not an HDF5 file"), FeatureWriter(path):
        pass
    assert path.read_text() == "no HDF5"
    path.unlink()
    with MatchWriter(path) as writer:
        writer.write(("a", "b"), Matches.empty(), (1, 1))
    with pytest.raises(StorageError, match="holds no features"), FeatureWriter(path):
        pass


def test_names_are_found_in_every_form_of_unicode(tmp_path: Path) -> None:
    composed, decomposed = "K\u00f6ln.jpg", "Ko\u0308ln.jpg"
    with FeatureWriter(tmp_path / "f.h5") as writer:
        writer.write(decomposed, numbered(4))
    with FeatureReader(tmp_path / "f.h5") as reader:
        assert list(reader) == [decomposed] and composed in reader
        assert is_numbered(reader[composed], 4)
    with MatchWriter(tmp_path / "m.h5") as matches:
        matches.write((composed, "b.jpg"), Matches([[0, 2]], [0.5]), (3, 3))
    with MatchReader(tmp_path / "m.h5") as reader:
        assert reader[decomposed, "b.jpg"].indices.tolist() == [[0, 2]]
        assert reader["b.jpg", decomposed].indices.tolist() == [[2, 0]]


def test_what_a_damaged_file_says_of_itself_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with FeatureWriter(path, made_with="x") as writer:
        writer.write("a", numbered(0))
    whole = path.read_bytes()
    refused = 0
    for place in range(96, 800, 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            with FeatureReader(path) as reader:
                assert isinstance(reader.made_with, str)
        except StorageError:
            refused += 1
    assert refused > 5
