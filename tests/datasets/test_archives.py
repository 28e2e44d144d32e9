"""Archives that mean harm, and archives that are merely broken."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tiepoints.datasets.archives import extract
from tiepoints.errors import StorageError

LIMIT = 1_000_000


def tar(path: Path, members: list[tuple[str, bytes | tarfile.TarInfo]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


MAKERS: list[Callable[[Path, list[tuple[str, bytes]]], Path]] = [
    lambda folder, members: tar(folder / "a.tar.gz", members),  # type: ignore[arg-type]
    lambda folder, members: zipped(folder / "a.zip", members),
]


@pytest.fixture(params=MAKERS, ids=["tar", "zip"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[list[tuple[str, bytes]]], Path]:
    return lambda members: request.param(tmp_path, members)


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_plain_archives(make: Callable[..., Path], tmp_path: Path) -> None:
    archive = make([("set/a/1.ppm", b"one"), ("set/H_1_2", b"1 0 0"), ("README", b"hi")])
    seen: list[int] = []
    entries = extract(archive, tmp_path / "to" / "here", max_bytes=LIMIT, progress=seen.append)
    assert [path.name for path in entries] == ["README", "set"]
    assert everything(tmp_path / "to" / "here") == ["README", "set", "set/H_1_2", "set/a", "set/a/1.ppm"]
    assert (tmp_path / "to" / "here" / "set" / "a" / "1.ppm").read_bytes() == b"one"
    assert seen == [3, 8, 10]


@pytest.mark.parametrize(
    "name",
    ["../evil", "set/../../evil", "/tmp/evil", "C:/evil", "C:evil", "..\\evil", "set\\..\\..\\evil", "\\\\host\\evil"],
)
def test_names_that_lead_out(make: Callable[..., Path], tmp_path: Path, name: str) -> None:
    archive = make([("set/good", b"good"), (name, b"evil")])
    with pytest.raises(StorageError, match="leads out of its folder"):
        extract(archive, tmp_path / "inner" / "to", max_bytes=LIMIT)
    assert everything(tmp_path / "inner") == ["to"], "nothing is left, inside or outside"
    assert not list(tmp_path.rglob("evil")) and not Path("/tmp/evil").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE], ids=repr
)
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    """The classic: a link to a folder outside, then a file through it."""
    link = tarfile.TarInfo("set/link")
    link.type, link.linkname = kind, "../../outside"
    archive = tar(tmp_path / "a.tar.gz", [("set/good", b"good"), ("", link), ("set/link/evil", b"evil")])
    (tmp_path / "outside").mkdir()
    with pytest.raises(StorageError, match="'set/link' is a link or a device"):
        extract(archive, tmp_path / "to", max_bytes=LIMIT)
    assert everything(tmp_path / "to") == [] and everything(tmp_path / "outside") == []


def test_links_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("set/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(StorageError, match="is a link"):
        extract(tmp_path / "a.zip", tmp_path / "to", max_bytes=LIMIT)
    assert everything(tmp_path / "to") == []


def test_bombs(make: Callable[..., Path], tmp_path: Path) -> None:
    archive = make([("set/bomb", bytes(3 * LIMIT))])
    assert archive.stat().st_size < LIMIT / 10
    with pytest.raises(StorageError, match=r"more than the 0\.001 GB"):
        extract(archive, tmp_path / "to", max_bytes=LIMIT)
    assert everything(tmp_path / "to") == []
    many = make([(f"set/{i}", b"") for i in range(101)])
    with pytest.raises(StorageError, match="more than 100 files"):
        extract(many, tmp_path / "to", max_bytes=LIMIT, max_files=100)


def test_a_lie_about_the_size(tmp_path: Path) -> None:
    """A zip whose headers promise one byte for a member of many."""
    archive = zipped(tmp_path / "a.zip", [("set/liar", bytes(3 * LIMIT))])
    data = archive.read_bytes().replace((3 * LIMIT).to_bytes(4, "little"), (1).to_bytes(4, "little"))
    archive.write_bytes(data)
    with pytest.raises(StorageError):
        extract(archive, tmp_path / "to", max_bytes=LIMIT)
    assert everything(tmp_path / "to") == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice(make: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be unpacked"):
        extract(make([("set/a", b"1"), ("set/a", b"2")]), tmp_path / "to", max_bytes=LIMIT)
    with pytest.raises(StorageError, match="cannot be unpacked"):
        extract(make([("set/a", b"1"), ("set/a/b", b"2")]), tmp_path / "to", max_bytes=LIMIT)
    assert everything(tmp_path / "to") == []


def test_set_user_id_is_not_taken_over(tmp_path: Path) -> None:
    info = tarfile.TarInfo("tool")
    info.mode = 0o4777
    archive = tar(tmp_path / "a.tar.gz", [("", info)])
    (path,) = extract(archive, tmp_path / "to", max_bytes=LIMIT)
    assert not path.stat().st_mode & (stat.S_ISUID | stat.S_IWOTH | stat.S_IXUSR)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_archives(make: Callable[..., Path], tmp_path: Path, share: float) -> None:
    import random

    archive = make([("set/a", random.Random(0).randbytes(50_000)), ("set/b", b"b")])
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(StorageError, match=str(archive.name)):
        extract(archive, tmp_path / "to", max_bytes=LIMIT)
    assert everything(tmp_path / "to") == []


def test_what_is_in_the_way_stays(make: Callable[..., Path], tmp_path: Path) -> None:
    archive = make([("set/a", b"new")])
    (tmp_path / "to" / "set").mkdir(parents=True)
    (tmp_path / "to" / "set" / "a").write_bytes(b"old")
    with pytest.raises(StorageError, match="is in the way"):
        extract(archive, tmp_path / "to", max_bytes=LIMIT)
    assert (tmp_path / "to" / "set" / "a").read_bytes() == b"old" and everything(tmp_path / "to") == ["set", "set/a"]


def test_what_a_killed_process_left_is_removed(make: Callable[..., Path], tmp_path: Path) -> None:
    archive = make([("set/a", b"new")])
    left = tmp_path / "to" / f".extracting-{archive.name}" / "set"
    left.mkdir(parents=True)
    (left / "old").touch()
    extract(archive, tmp_path / "to", max_bytes=LIMIT)
    assert everything(tmp_path / "to") == ["set", "set/a"]


def test_entries_of_an_earlier_call_stay_and_others_are_in_the_way(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one/x.txt", "new")
        archive.writestr("two.txt", "new")
    (tmp_path / "out" / "one").mkdir(parents=True)
    (tmp_path / "out" / "one" / "x.txt").write_text("earlier")
    names: list[str] = []
    with pytest.raises(StorageError, match="one: is in the way"):
        extract(tmp_path / "a.zip", tmp_path / "out", max_bytes=100, ready=names.extend)
    assert names == [] and not (tmp_path / "out" / "two.txt").exists()
    found = extract(tmp_path / "a.zip", tmp_path / "out", max_bytes=100, ready=names.extend, ours=["one"])
    assert names == [path.name for path in found] == ["one", "two.txt"]
    assert (tmp_path / "out" / "one" / "x.txt").read_text() == "earlier"
    assert (tmp_path / "out" / "two.txt").read_text() == "new"
