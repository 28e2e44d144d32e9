"""Atomic replacement, the writers' lock, and names."""

from __future__ import annotations

import errno
import hashlib
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tiepoints.errors import InvalidInputError, StorageError
from tiepoints.files import (
    check_name,
    read_bytes,
    read_lines,
    replacing,
    sha256_of,
    work_beside,
    write_lock,
    write_whole,
)

HOLD = """
import sys, time
from tiepoints.files import replacing, write_lock
with write_lock(sys.argv[1]), replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("holding", flush=True)
    time.sleep(60)
"""


def test_replaces_at_the_end_and_only_then(tmp_path):
    path = tmp_path / "new folder" / "ü file.bin"
    with replacing(path) as temporary:
        temporary.write_text("one")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "one"
    with replacing(path) as temporary:
        temporary.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_an_exception_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "file.bin"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_mode_is_that_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege there")
def test_follows_a_symbolic_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with replacing(tmp_path / "link") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "x"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file.+cannot be written") as error, replacing(tmp_path / "file" / "x"):
        pass
    assert "\n" not in str(error.value)


def test_the_second_writer_is_refused_and_a_killed_one_does_not_block(tmp_path, child):
    path = tmp_path / "features.h5"
    path.write_text("old")
    process = child(HOLD, path)
    assert process.stdout.readline() == "holding\n"
    message = r"features\.h5: another process is writing this file"
    with pytest.raises(StorageError, match=message) as error, write_lock(path):
        pass
    assert "\n" not in str(error.value)
    assert len(list(tmp_path.glob(".features.h5.tmp-*"))) == 1
    os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()
    assert path.read_text() == "old"
    with write_lock(path):
        assert not list(tmp_path.glob(".features.h5.tmp-*")), "what the dead writer left is removed"


def test_the_lock_ends_with_the_block(tmp_path):
    for _ in range(2):
        with write_lock(tmp_path / "x"):
            pass
    with pytest.raises(ZeroDivisionError), write_lock(tmp_path / "x"):
        raise ZeroDivisionError
    with write_lock(tmp_path / "x"), pytest.raises(StorageError, match="another process"), write_lock(tmp_path / "x"):
        pass


@pytest.mark.parametrize(
    "name", ["a.jpg", "a/b c/d.e.jpg", "ü/ß 漢字.png", "...", "a..b", ".hidden", "-", "a\\b", "😀"]
)
def test_good_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/a.jpg",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "./a",
        "a\0b",
        "C:/a",
        "c:\\a",
        "\\\\host\\a",
        "\udc80",
    ],
)
def test_bad_names(name):
    with pytest.raises(InvalidInputError) as error:
        check_name(name)
    assert "\n" not in str(error.value)


COUNT = """
import sys
from pathlib import Path
from tiepoints.errors import StorageError
from tiepoints.files import write_lock
path, done = Path(sys.argv[1]), 0
while done < 100:
    try:
        with write_lock(path):
            path.write_text(str(int(path.read_text()) + 1))
    except StorageError:
        continue
    done += 1
"""


def test_no_two_writers_at_once_though_the_lock_file_comes_and_goes(tmp_path):
    path = tmp_path / "count"
    path.write_text("0")
    children = [subprocess.Popen([sys.executable, "-c", COUNT, str(path)]) for _ in range(3)]
    try:
        assert [child.wait(timeout=200) for child in children] == [0, 0, 0]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert path.read_text() == "300"
    assert list(tmp_path.iterdir()) == [path]


def test_the_checksum_of_a_file(tmp_path):
    """The two examples of FIPS 180-2, appendix B, and more than one block."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(b"a" * 1_000_000)
    assert sha256_of(path) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
    path.write_bytes(b"a" * 3_000_000)
    assert sha256_of(path) == hashlib.sha256(b"a" * 3_000_000).hexdigest()


def test_a_write_does_not_read_its_whole_folder(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("the folder was listed")

    for name in ("iterdir", "glob"):
        monkeypatch.setattr(pathlib.Path, name, refuse)
    monkeypatch.setattr("os.listdir", refuse)
    monkeypatch.setattr("os.scandir", refuse)
    write_whole(tmp_path / "a.txt", b"new")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "b.txt") as temporary:
        temporary.write_bytes(b"half")
        temporary.with_name(f"{temporary.name}-wal").write_bytes(b"SQLite's")
        1 / 0  # noqa: B018
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_work_is_kept_beside_whatever_is_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    assert work_beside("map") == pathlib.Path("map.work") and work_beside("a/map.db") == pathlib.Path("a/map.db.work")
    assert work_beside(".") == tmp_path / "here" / "below.work" and work_beside("..") == tmp_path / "here.work"
    with pytest.raises(InvalidInputError, match="root of a disk"):
        work_beside(pathlib.Path(pathlib.Path.cwd().anchor))
    with pytest.raises(InvalidInputError, match="must be the path of a file"):
        work_beside("")


def test_a_file_where_a_folder_should_be(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="a part of this path is a file, not a folder"):
        write_whole(tmp_path / "file" / "x.csv", b"")


def test_a_disk_that_is_not_writable_is_told_of_by_the_files_own_name(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the temporary one's, which cannot be removed either."""

    def refuse(self: pathlib.Path, *_: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    for name in ("write_bytes", "unlink", "open"):
        monkeypatch.setattr(pathlib.Path, name, refuse)
    with pytest.raises(StorageError, match=r"f\.txt: cannot be written \(Read-only file system\)$"):
        write_whole(tmp_path / "f.txt", b"content")


@pytest.mark.skipif(not pathlib.Path("/proc/self").exists(), reason="needs a folder where no file can be made")
def test_where_no_file_can_be_made_no_other_process_is_to_blame() -> None:
    with pytest.raises(StorageError, match="x: cannot be written"), write_lock("/proc/x"):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with a name")
def test_pipes_are_not_waited_for_and_devices_not_read_to_their_end(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    signal.alarm(30)  # instead of a test that hangs
    for path in (tmp_path / "pipe", pathlib.Path("/dev/zero")):
        for read in (read_bytes, sha256_of, lambda one: read_lines(one, "a list")):
            with pytest.raises(StorageError, match=f"{path}: not a regular file, but a pipe or a device"):
                read(path)
    signal.alarm(0)
    ours, theirs = os.pipe()
    os.write(theirs, b"a.jpg\nb.jpg")
    os.close(theirs)
    assert read_lines(f"/dev/fd/{ours}", "a list") == ["a.jpg", "b.jpg"]  # as of `<(ls)`
    os.close(ours)
