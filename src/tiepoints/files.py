"""Files that are whole or not there: atomic replacement, one writer at a time, and safe names of images."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
import shutil
import stat
import tempfile
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from . import checks
from .errors import InvalidInputError, StorageError, one_line as one_line

PathLike = str | os.PathLike[str]
Value = TypeVar("Value")

_HANDED_OVER = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")  # pipes that a shell made for a command


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the ``with`` block ends without an exception.

    Until then readers see the old file, whole; after an exception the temporary is removed and the old file stays. The
    content is flushed to the disk before the swap, so that a power cut leaves one of the two. Folders are made as
    needed, and a symbolic link is followed, not replaced.

    Parameters
    ----------
    path : str or path
        The file to be written.

    Yields
    ------
    temporary : path
        A name in the same folder at which no file exists yet.

    Raises
    ------
    StorageError
        If the folder or the file cannot be written.
    """
    target = real(path)
    with _reported(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_file():  # which a file would take the place of, or could not
            what = "a folder" if target.is_dir() else "a pipe or a device"
            raise StorageError(f"{target}: cannot be written: there is {what} of this name")
    temporary = target.with_name(f"{_temporary_prefix(target)}{os.getpid()}-{os.urandom(4).hex()}")
    try:
        yield temporary
        with _reported(target):
            with temporary.open("r+b") as stream:
                os.fsync(stream.fileno())
            temporary.replace(target)
    finally:
        # By their names: to look for them would read the whole folder at every write. The endings are SQLite's.
        for ending in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):  # a disk that cannot be written, of which an exception tells already
                temporary.with_name(temporary.name + ending).unlink(missing_ok=True)


def read_bytes(path: PathLike, size: int = -1, *, remedy: str = "") -> bytes:
    """A file's content, or its first `size` bytes.

    Raises
    ------
    StorageError
        If there is no such file, which the message follows by `remedy`, or it cannot be read, or is a pipe or a device
        that no shell made for this command.
    """
    try:
        whole = checks.path(path, "path")
        if not str(whole).startswith(_HANDED_OVER):
            _check_no_pipe(whole)
        with whole.open("rb") as stream:
            return stream.read(size)
    except StorageError:
        raise
    except FileNotFoundError:
        raise StorageError(f"{path}: no such file" + (f"; {remedy}" if remedy else "")) from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror or one_line(error)})") from error


def read_text(path: PathLike, what: str) -> str:
    """A text that a person or an editor wrote: UTF-8, or UTF-16 as PowerShell writes it, with its mark.

    Raises
    ------
    StorageError
        If the file cannot be read.
    InvalidInputError
        If it is no text; `what` says what it ought to be.
    """
    content = read_bytes(path)
    utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInputError(f"{path}: not {what} in UTF-8") from None


def read_lines(path: PathLike, what: str) -> list[str]:
    """The lines of such a text, without their ends.

    Names of files hold anything: so only line feeds and carriage returns end a line, not Unicode's other separators.

    Raises
    ------
    StorageError, InvalidInputError
        As for `read_text`.
    """
    return re.split("\r\n|\r|\n", read_text(path, what))


def fits_a_line(name: str) -> bool:
    r"""Whether a text with a line for each image, where a tab may end the name, can hold a name.

    Examples
    --------
    >>> from tiepoints.files import fits_a_line
    >>> fits_a_line("my photographs/1.jpg"), fits_a_line("1\n2.jpg")
    (True, False)
    """
    return not any(character in name for character in "\n\r\t")


def write_whole(path: PathLike, content: bytes | memoryview) -> None:
    """Write a file that is whole or not there; see `replacing`.

    Raises
    ------
    StorageError
        If it cannot be written, for instance because the disk is full; the old file stays.
    """
    with replacing(path) as temporary, _reported(real(path)):
        temporary.write_bytes(content)


def check_space(path: PathLike, size: int) -> None:
    """Ask whether the disk has room for `size` bytes beside `path`, before a library that fails badly is let write.

    Raises
    ------
    StorageError
        If it has not.
    """
    target = Path(path)
    with _reported(target):
        free = shutil.disk_usage(target.parent).free
    if free < size:
        raise StorageError(
            f"{target}: cannot be written (the disk is full: {free / 1e6:.1f} MB are free, {size / 1e6:.1f} MB are "
            "needed now); free some space, or write to another disk"
        )


@contextmanager
def write_lock(path: PathLike) -> Iterator[None]:
    """Be the only writer of `path` during the ``with`` block.

    The lock is the operating system's on `<path>.lock`, so it ends with its process even when that is killed. What
    killed writers left beside `path` under temporary names is removed.

    Raises
    ------
    StorageError
        At once, if another writer holds the lock, or if the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    target = real(path)
    with _reported(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{target}.lock", blocking=False, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            Path(lock.lock_file).touch()  # where no file can be made, that is why
            raise StorageError(
                f"{target}: another process is writing this file; wait for it to end, or write to another file"
            ) from None
    try:
        remove_leftovers(target)
        yield
    finally:
        # Removed while it is still held: who opened it before sees on locking that it is gone, and makes a new one.
        with suppress(OSError):  # Windows removes no open file
            Path(lock.lock_file).unlink()
        lock.release()


@contextmanager
def folder_beside(path: PathLike) -> Iterator[Path]:
    """A temporary folder beside `path`, for the one who holds its `write_lock`: which removes what killed ones left."""
    target = real(path)
    with _reported(target):
        whole = tempfile.TemporaryDirectory(dir=target.parent, prefix=_temporary_prefix(target))
    with whole as folder:
        yield Path(folder)


def work_beside(path: PathLike) -> Path:
    """Where work for a file or a folder is kept: beside it, under its name with .work added.

    Raises
    ------
    InvalidInputError
        If there is no beside: for the root of a disk.

    Examples
    --------
    >>> from tiepoints.files import work_beside
    >>> work_beside("out/map").as_posix()
    'out/map.work'
    """
    plain = checks.path(path, "path")
    whole = plain if plain.name not in ("", "..") else Path(os.path.abspath(plain))  # noqa: PTH100
    if not whole.name:
        raise InvalidInputError(f"{plain}: the root of a disk is no place for results; name a folder below it")
    return whole.with_name(f"{whole.name}.work")


def real(path: PathLike) -> Path:
    """The path with its symbolic links resolved: what is replaced is the file, never the link to it."""
    return Path(os.path.realpath(path))


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of `path` left under temporary names; only for one who knows that none is alive."""
    _remove_temporaries(path.parent, _temporary_prefix(path))


def check_name(name: str) -> str:
    """Check that an image's name can be a key: a relative path with slashes, of any characters that UTF-8 can hold.

    Raises
    ------
    InvalidInputError
        If the name is empty, absolute, has empty, '.' or '..' parts or a NUL, or is not valid Unicode.
    """
    if not isinstance(name, str):
        raise InvalidInputError(f"an image's name is {checks.shown(name)}, but must be a text")
    parts = name.split("/")
    if not name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise InvalidInputError(
            f"{name!r} cannot be an image's name: use its path relative to the folder of the images, such as 'a/b.jpg'"
        )
    if re.match(r"[A-Za-z]:[\\/]|\\\\", name):
        raise InvalidInputError(f"{name!r} is an absolute path: use the one relative to the folder of the images")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInputError(f"{name!r} is not valid Unicode: rename the image") from None
    return name


def composed(name: str) -> str:
    """The composed form of a name: macOS writes names decomposed, and they look the same."""
    return unicodedata.normalize("NFC", name)


def forms(name: str) -> list[str]:
    """A name, and the same in Unicode's other forms."""
    return list(dict.fromkeys([name, composed(name), unicodedata.normalize("NFD", name)]))


def named_as(values: Mapping[str, Value], names: Iterable[str], what: str = "") -> dict[str, Value]:
    r"""The same values, with the names of a list where theirs differ from it in the Unicode form only.

    Parameters
    ----------
    values : mapping from str
    names : iterable of str
        Of photographs.
    what : str
        What the values are; names that no photograph has are then warned of.

    Examples
    --------
    >>> from tiepoints.files import named_as
    >>> named_as({"Ko\u0308ln.jpg": 1, "b.jpg": 2}, ["K\u00f6ln.jpg"]) == {"K\u00f6ln.jpg": 1, "b.jpg": 2}
    True
    """
    known = {composed(name): name for name in names}
    own = {name: known.get(composed(name), name) for name in values}
    unknown = [name for name in values if composed(name) not in known] if what else []
    if unknown:
        warnings.warn(
            f"{what}: {len(unknown)} of {len(values)} names are no photograph's and are left out, for instance "
            f"{unknown[0]!r}: {checks.did_you_mean(unknown[0], list(known.values()))}",
            stacklevel=3,
        )
    return {name if own[name] in values else own[name]: value for name, value in values.items()}


def not_among(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """The names that are not among others, which may have further folders before them.

    Examples
    --------
    >>> from tiepoints.files import not_among
    >>> not_among(["a.jpg", "b.jpg"], ["photos/a.jpg"])
    ['b.jpg']
    """
    known = {"/".join(parts[k:]) for parts in (composed(name).split("/") for name in others) for k in range(len(parts))}
    return [name for name in names if composed(name) not in known]


def sha256_of(path: PathLike) -> str:
    """The SHA-256 of a file's content, 64 hexadecimal digits.

    Raises
    ------
    StorageError
        If it is a pipe or a device.
    """
    _check_no_pipe(Path(path))
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _check_no_pipe(path: Path) -> None:
    """Refuse what would be waited for, or be read, for ever."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise StorageError(f"{path}: not a regular file, but a pipe or a device")


@contextmanager
def _reported(target: Path) -> Iterator[None]:
    """Turn the operating system's errors about `target` into a StorageError that names it."""
    try:
        yield
    except StorageError:
        raise
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageError(f"{target}: cannot be written: a part of this path is a file, not a folder") from error
    except OSError as error:
        raise StorageError(f"{target}: cannot be written ({error.strerror or one_line(error)})") from error


def _temporary_prefix(target: Path) -> str:
    return f".{target.name}.tmp-"


def _remove_temporaries(folder: Path, prefix: str) -> None:
    """Remove the files and folders whose names begin with `prefix`."""
    for path in folder.iterdir():
        if path.name.startswith(prefix):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
