"""Interruption of the writers: by an exception, by SIGKILL at any time, and by another writer."""

from __future__ import annotations

import os
import re
import signal
import time

import numpy as np
import pytest

import tiepoints as tp
from tiepoints.errors import StorageError
from tiepoints.features import Features, Matches
from tiepoints.storage import FeatureReader, FeatureWriter, MatchReader, MatchWriter
from tiepoints.storage.journal import Journal

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
# Writes images 0, 1, 2 ... of `size` keypoints and tells after each; at `count` it leaves the block.
WRITE = """
import sys
import numpy as np
from tiepoints.features import Features
from tiepoints.storage import FeatureWriter

path, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with FeatureWriter(path) as writer:
    for i in range(count):
        points = np.full((size, 2), i)
        writer.write(f"new/{i}.jpg", Features(points, np.full((size, 64), i), np.zeros(size), (640, 480)))
        print(i, flush=True)
    print("closing", flush=True)
print("closed", flush=True)
"""


def numbered(i: int, size: int = 3) -> Features:
    return Features(np.full((size, 2), i), np.full((size, 64), i), np.zeros(size), (640, 480))


def is_numbered(features: Features, i: int) -> bool:
    return bool((features.keypoints == i).all() and (features.descriptors == i).all())


def test_an_exception_keeps_the_finished_and_the_old(tmp_path):
    path = tmp_path / "f.h5"
    with FeatureWriter(path) as writer:
        writer.write("old.jpg", numbered(0))
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), FeatureWriter(path) as writer:
        writer.write("1.jpg", numbered(1))
        raise ZeroDivisionError
    assert path.read_bytes() == before
    with FeatureWriter(path) as writer:
        assert "old.jpg" in writer
        assert "1.jpg" in writer
        assert "2.jpg" not in writer
        writer.write("2.jpg", numbered(2))
    with FeatureReader(path) as reader:
        assert reader.names() == ["1.jpg", "2.jpg", "old.jpg"]
        assert is_numbered(reader["1.jpg"], 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5"]


def test_matches_resume_too(tmp_path, matches, assert_same):
    path = tmp_path / "m.h5"
    some = matches(0, 9, 9)
    with pytest.raises(ZeroDivisionError), MatchWriter(path) as writer:
        writer.write(("x/a", "b"), some, (9, 9))
        raise ZeroDivisionError
    assert not path.exists()
    with MatchWriter(path) as writer:
        assert ("x/a", "b") in writer
        assert ("b", "x/a") in writer
        assert ("a", "b") not in writer
    with MatchReader(path) as reader:
        assert_same(reader["x/a", "b"], some)


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.02])
def test_killed_while_writing(tmp_path, child, delay):
    path = tmp_path / "f.h5"
    with FeatureWriter(path) as writer:
        writer.write("old.jpg", numbered(7))
    before = path.read_bytes()
    process = child(WRITE, path, 10_000, 2000)
    for _ in range(3):
        process.stdout.readline()
    time.sleep(delay)
    os.kill(process.pid, KILL)
    told = 3 + len(process.stdout.read().split())  # communicate() would lose what readline() read ahead
    assert path.read_bytes() == before
    with FeatureWriter(path) as writer:
        assert len(writer) in (1 + told, 2 + told), "at most one image was finished and not told"
        assert all(f"new/{i}.jpg" in writer for i in range(told))
    with FeatureReader(path) as reader:
        assert is_numbered(reader["old.jpg"], 7)
        assert all(is_numbered(reader[f"new/{i}.jpg"], i) for i in range(told))
        assert len(reader["new/0.jpg"]) == 2000


@pytest.mark.parametrize("delay", [0.0, 0.04, 0.09])
def test_killed_while_the_file_is_put_together(tmp_path, child, delay):
    path = tmp_path / "f.h5"
    with FeatureWriter(path) as writer:
        writer.write("old.jpg", numbered(7))
    before = path.read_bytes()
    process = child(WRITE, path, 150, 20)
    while process.stdout.readline() != "closing\n":
        pass
    time.sleep(delay)
    os.kill(process.pid, KILL)
    closed = "closed" in process.communicate()[0]
    if path.read_bytes() == before:
        assert not closed
        assert (tmp_path / "f.h5.partial").exists()
    with FeatureWriter(path) as writer:
        assert len(writer) == 151
    with FeatureReader(path) as reader:
        assert len(reader) == 151
        assert all(is_numbered(reader[f"new/{i}.jpg"], i) for i in range(150))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5"]


def test_two_writers_in_two_processes(tmp_path, child):
    path = tmp_path / "f.h5"
    process = child(WRITE, path, 10_000, 2000)
    process.stdout.readline()
    with pytest.raises(StorageError, match=r"f\.h5: another process is writing"), FeatureWriter(path):
        pass
    other = child(WRITE, path, 1, 1)
    assert "another process is writing this file" in other.communicate(timeout=30)[1]
    with FeatureWriter(tmp_path / "g.h5"):
        pass
    os.kill(process.pid, KILL)
    process.wait()
    with FeatureWriter(path) as writer:
        assert "new/0.jpg" in writer


def test_every_truncation_of_the_journal_is_survived(tmp_path):
    path = tmp_path / "f.h5"
    partial = tmp_path / "f.h5.partial"
    ends = []
    with pytest.raises(ZeroDivisionError), FeatureWriter(path) as writer:
        for i in range(3):
            writer.write(f"{i}.jpg", numbered(i, 1))
            ends.append(partial.stat().st_size)
        raise ZeroDivisionError
    content = partial.read_bytes()
    assert len(content) == ends[-1]
    for cut in [*range(0, 60), *range(60, len(content), 37), *ends]:
        partial.write_bytes(content[:cut])
        with FeatureWriter(path) as writer:
            whole = sum(end <= cut for end in ends)
            assert len(writer) == whole
            writer.write("next.jpg", numbered(9, 1))
        with FeatureReader(path) as reader:
            assert reader.names() == [*(f"{i}.jpg" for i in range(whole)), "next.jpg"]
        path.unlink()


def test_a_damaged_record_cuts_off_the_rest(tmp_path):
    partial = tmp_path / "f.h5.partial"
    with pytest.raises(ZeroDivisionError), FeatureWriter(tmp_path / "f.h5") as writer:
        writer.write("0.jpg", numbered(0))
        end = partial.stat().st_size
        writer.write("1.jpg", numbered(1))
        raise ZeroDivisionError
    content = bytearray(partial.read_bytes())
    content[end + 100] ^= 1
    partial.write_bytes(content)
    with FeatureWriter(tmp_path / "f.h5") as writer:
        assert "0.jpg" in writer
        assert "1.jpg" not in writer


def test_a_full_disk_costs_the_last_image_only(tmp_path, monkeypatch):
    path = tmp_path / "f.h5"
    with FeatureWriter(path) as writer:
        writer.write("0.jpg", numbered(0))
        real = Journal._write

        def full(self, data):
            real(self, bytes(data)[: len(data) // 2])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Journal, "_write", full)
        with pytest.raises(StorageError, match="No space left on device"):
            writer.write("1.jpg", numbered(1))
        monkeypatch.undo()
        assert "1.jpg" not in writer
        writer.write("2.jpg", numbered(2))
    with FeatureReader(path) as reader:
        assert reader.names() == ["0.jpg", "2.jpg"]


def test_a_failure_at_the_end_keeps_everything(tmp_path, monkeypatch):
    path = tmp_path / "f.h5"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FeatureWriter, "_put", full)
    with pytest.raises(StorageError, match=r"f\.h5: cannot be written .+run again"), FeatureWriter(path) as writer:
        writer.write("0.jpg", numbered(0))
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5.partial"]
    with FeatureWriter(path) as writer:
        assert "0.jpg" in writer
    with FeatureReader(path) as reader:
        assert is_numbered(reader["0.jpg"], 0)


def test_overwrite_starts_anew_and_replaces_at_the_end(tmp_path):
    path = tmp_path / "f.h5"
    with FeatureWriter(path, made_with="sift") as writer:
        writer.write("old.jpg", numbered(0))
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), FeatureWriter(path, made_with="orb", overwrite=True) as writer:
        assert "old.jpg" not in writer
        writer.write("new.jpg", numbered(1))
        raise ZeroDivisionError
    assert path.read_bytes() == before
    with FeatureWriter(path, made_with="orb") as writer:
        assert "new.jpg" in writer
        assert "old.jpg" not in writer, "the interrupted run was to replace the file"
    with FeatureReader(path) as reader:
        assert reader.names() == ["new.jpg"]
        assert reader.made_with == "orb"


def test_an_overwrite_that_wrote_nothing_leaves_no_trace(tmp_path):
    path = tmp_path / "f.h5"
    with FeatureWriter(path) as writer:
        writer.write("old.jpg", numbered(0))
    with pytest.raises(ZeroDivisionError), FeatureWriter(path, overwrite=True):
        raise ZeroDivisionError
    with FeatureWriter(path) as writer:
        assert "old.jpg" in writer


def test_features_of_two_makers_are_not_mixed(tmp_path):
    path = tmp_path / "f.h5"
    with FeatureWriter(path, made_with="sift") as writer:
        writer.write("a", numbered(0))
    with (
        pytest.raises(StorageError, match=r"f\.h5: was made with sift, not orb"),
        FeatureWriter(path, made_with="orb"),
    ):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5"], "who was refused leaves nothing behind"
    with FeatureWriter(path) as writer:
        writer.write("b", numbered(1))
    with FeatureReader(path) as reader:
        assert reader.made_with == "sift"
    path.unlink()
    with pytest.raises(ZeroDivisionError), FeatureWriter(path, made_with="sift") as writer:
        writer.write("a", numbered(0))
        raise ZeroDivisionError
    with (
        pytest.raises(StorageError, match=r"f\.h5\.partial: was made with sift"),
        FeatureWriter(path, made_with="orb"),
    ):
        pass


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
def test_the_refusal_names_only_what_differs(tmp_path, now, difference):
    path = tmp_path / "f.h5"
    with FeatureWriter(path, made_with=repr(tp.load("sift"))) as writer:
        writer.write("a", numbered(0))
    name, options = now
    with (
        pytest.raises(StorageError, match=re.escape(f"f.h5: was made with {difference}")),
        FeatureWriter(path, made_with=repr(tp.load(name, **options))),
    ):
        pass


def test_what_is_in_the_way_is_not_destroyed(tmp_path):
    path = tmp_path / "f.h5"
    partial = tmp_path / "f.h5.partial"
    partial.write_text("something else")
    with pytest.raises(StorageError, match=r"f\.h5\.partial: is in the way"), FeatureWriter(path):
        pass
    assert partial.read_text() == "something else"
    partial.unlink()
    path.write_text("no HDF5")
    with pytest.raises(StorageError, match=r"f\.h5: not an HDF5 file"), FeatureWriter(path):
        pass
    assert path.read_text() == "no HDF5"
    path.unlink()
    with MatchWriter(path) as writer:
        writer.write(("a", "b"), Matches.empty(), (1, 1))
    with pytest.raises(StorageError, match="holds no features"), FeatureWriter(path):
        pass
    with pytest.raises(ZeroDivisionError), MatchWriter(path) as writer:
        writer.write(("a", "c"), Matches.empty(), (1, 1))
        raise ZeroDivisionError
    with pytest.raises(StorageError, match="unfinished matches, not features"), FeatureWriter(path):
        pass
