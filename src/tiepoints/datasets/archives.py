"""Unpacking an archive that nobody vouches for: plain files inside one folder, and no more than was agreed on."""

from __future__ import annotations

import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from .. import checks
from ..errors import StorageError
from ..files import PathLike, one_line

__all__ = ["extract"]

_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, NotImplementedError, RuntimeError)
#: A member: its name, its size, whether it is a file or a folder, and what unpacks it.
_Member = tuple[str, int, bool, Callable[[], object]]


def extract(
    archive: PathLike,
    folder: PathLike,
    *,
    max_bytes: int,
    max_files: int = 1_000_000,
    progress: Callable[[int], None] | None = None,
    ready: Callable[[list[str]], None] | None = None,
    ours: Collection[str] = (),
) -> list[Path]:
    """Unpack a .zip or .tar.gz archive into a folder, whole or not at all.

    Nothing is written outside the folder, no links and no devices are made, permissions are not taken over, and what is
    beyond the limits ends the work. Both readers of the standard library stop at the size that a member states.

    Parameters
    ----------
    archive : path
    folder : path
        Made if missing. Nothing of what the archive holds may be there yet.
    max_bytes, max_files : int
        Limits on what is unpacked.
    progress : callable, optional
        Called with the number of bytes written so far.
    ready : callable, optional
        Called with the names of the entries when all is unpacked, before any takes its place.
    ours : collection of str
        Entries that an earlier call with this archive put into their places; these stay as they are.

    Returns
    -------
    entries : list of Path
        The top-level files and folders that are there now.

    Raises
    ------
    StorageError
        If the archive is damaged or of another kind, holds a name that leads elsewhere, a link or a device, grows
        beyond a limit, or something is in its way. Nothing is left behind.

    Examples
    --------
    >>> import zipfile
    >>> from tiepoints.datasets.archives import extract
    >>> with zipfile.ZipFile("data.zip", "w") as archive:
    ...     archive.writestr("set/a.txt", "a")
    >>> [path.name for path in extract("data.zip", "unpacked", max_bytes=1000)]
    ['set']
    """
    archive, folder = checks.path(archive, "archive"), checks.path(folder, "folder")
    try:
        inside = folder / f".extracting-{archive.name}"
        shutil.rmtree(inside, ignore_errors=True)  # of a process that was killed
        inside.mkdir(parents=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written ({error.strerror or one_line(error)})") from error
    try:
        try:
            _unpack(archive, inside, max_bytes, max_files, progress)
        except StorageError:
            raise
        except _DAMAGED as error:
            raise StorageError(f"{archive}: damaged, or cannot be unpacked here ({one_line(error)})") from error
        names = sorted(path.name for path in inside.iterdir())
        if present := [name for name in names if name not in ours and (folder / name).exists()]:
            raise StorageError(f"{folder / present[0]}: is in the way of what {archive.name} holds; move it")
        if ready is not None:
            ready(names)
        for name in names:
            if not (folder / name).exists():
                (inside / name).rename(folder / name)
        return [folder / name for name in names]
    finally:
        shutil.rmtree(inside, ignore_errors=True)


def _unpack(
    archive: Path, inside: Path, max_bytes: int, max_files: int, progress: Callable[[int], None] | None
) -> None:
    written = 0
    for number, (name, size, plain, unpack) in enumerate(_members(archive, inside), start=1):
        if number > max_files:
            raise StorageError(f"{archive}: holds more than {max_files} files; it is not what it should be")
        target = inside / _safe(archive, name)
        if not plain:
            raise StorageError(f"{archive}: {name!r} is a link or a device, which data do not need; do not trust it")
        written += size
        if written > max_bytes:
            raise StorageError(
                f"{archive}: unpacks to more than the {max_bytes / 1e9:.3g} GB that it should hold at most"
            )
        if target.is_file():  # the second would replace what the first was checked for
            raise StorageError(f"{archive}: cannot be unpacked: it holds {name!r} twice")
        unpack()
        if progress is not None and size:
            progress(written)


def _safe(archive: Path, name: str) -> PurePosixPath:
    """The member's path, if it stays inside on every operating system."""
    path = PurePosixPath(name)
    odd = "\\" in name or "\0" in name or re.match(r"[A-Za-z]:", name)
    if not path.parts or path.is_absolute() or ".." in path.parts or odd:
        raise StorageError(f"{archive}: holds the name {name!r}, which leads out of its folder; do not trust it")
    return path


def _members(archive: Path, inside: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
                yield info.filename, info.file_size, plain, partial(zipped.extract, info, inside)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                unpack = partial(tar.extract, member, inside, set_attrs=False, filter="data")
                yield member.name, member.size, member.isreg() or member.isdir(), unpack
    else:
        raise StorageError(f"{archive}: is neither a .zip nor a .tar.gz archive, or it is damaged at its beginning")
