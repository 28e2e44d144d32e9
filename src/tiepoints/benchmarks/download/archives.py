"""Unpacking an archive that nobody vouches for: plain files inside one folder, and no more than was agreed on."""

from __future__ import annotations

import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from ...errors import StorageError
from ...files import PathLike, one_line

__all__ = ["extract"]

_BLOCK = 2**20
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, NotImplementedError, RuntimeError)

#: A member: its path, whether it is a folder, and what opens it.
_Member = tuple[str, bool, Callable[[], IO[bytes]]]


def extract(
    archive: PathLike,
    folder: PathLike,
    *,
    max_bytes: int,
    max_files: int = 1_000_000,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Unpack a .zip or .tar.gz archive into a folder, whole or not at all.

    Nothing is written outside the folder, no links and no devices are made, permissions are not taken over, and what
    grows beyond the limits (which count the bytes written, not those promised) ends the work.

    Parameters
    ----------
    archive : path
    folder : path
        Made if missing. Nothing of what the archive holds may be there yet.
    max_bytes, max_files : int
        Limits on what is unpacked.
    progress : callable, optional
        Called with the number of bytes written so far.

    Returns
    -------
    entries : list of Path
        The top-level files and folders that are there now.

    Raises
    ------
    StorageError
        If the archive is damaged or of another kind, holds a name that leads elsewhere, a link or a device, grows
        beyond a limit, or something is in its way. Nothing is left behind.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        inside = folder / f".extracting-{archive.name}"
        shutil.rmtree(inside, ignore_errors=True)  # of a process that was killed
        inside.mkdir(parents=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written ({error.strerror or one_line(error)})") from error
    try:
        try:
            with _members(archive) as members:
                _write(archive, inside, members, max_bytes, max_files, progress)
        except StorageError:
            raise
        except _DAMAGED as error:
            raise StorageError(f"{archive}: damaged, or cannot be unpacked here ({one_line(error)})") from error
        names = sorted(path.name for path in inside.iterdir())
        if present := [name for name in names if (folder / name).exists()]:
            raise StorageError(f"{folder / present[0]}: is in the way of what {archive.name} holds; move it")
        return [(inside / name).rename(folder / name) for name in names]
    finally:
        shutil.rmtree(inside, ignore_errors=True)


def _write(
    archive: Path,
    inside: Path,
    members: Iterator[_Member],
    max_bytes: int,
    max_files: int,
    progress: Callable[[int], None] | None,
) -> None:
    written = 0
    for number, (name, is_folder, opened) in enumerate(members, start=1):
        if number > max_files:
            raise StorageError(f"{archive}: holds more than {max_files} files; it is not what it should be")
        target = inside / _safe(archive, name)
        if is_folder:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        # "x": a name that comes twice would let the second replace what the first was checked for
        with opened() as source, target.open("xb") as sink:
            while block := source.read(_BLOCK):
                written += len(block)
                if written > max_bytes:
                    raise StorageError(
                        f"{archive}: unpacks to more than the {max_bytes / 1e9:.3g} GB that it should hold at most"
                    )
                sink.write(block)
        if progress is not None:
            progress(written)


def _safe(archive: Path, name: str) -> PurePosixPath:
    """The member's path, if it stays inside on every operating system."""
    path = PurePosixPath(name)
    parts = path.parts
    odd = "\\" in name or "\0" in name or re.match(r"[A-Za-z]:", name)
    if not parts or path.is_absolute() or ".." in parts or odd:
        raise StorageError(f"{archive}: holds the name {name!r}, which leads out of its folder; do not trust it")
    return path


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield _zip_members(archive, opened)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as opened:
            yield _tar_members(archive, opened)
    else:
        raise StorageError(f"{archive}: is neither a .zip nor a .tar.gz archive, or it is damaged at its beginning")


def _zip_members(archive: Path, opened: zipfile.ZipFile) -> Iterator[_Member]:
    for info in opened.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(archive, info.filename)
        yield info.filename, info.is_dir(), lambda info=info: opened.open(info)  # type: ignore[misc]


def _tar_members(archive: Path, opened: tarfile.TarFile) -> Iterator[_Member]:
    for info in opened:
        if not info.isreg() and not info.isdir():
            raise _refused(archive, info.name)

        def source(info: tarfile.TarInfo = info) -> IO[bytes]:
            stream = opened.extractfile(info)
            assert stream is not None  # regular files have one
            return stream

        yield info.name, info.isdir(), source


def _refused(archive: Path, name: str) -> StorageError:
    return StorageError(f"{archive}: {name!r} is a link or a device, which data do not need; do not trust it")
