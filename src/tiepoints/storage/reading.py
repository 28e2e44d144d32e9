"""Reading files that a stranger may have written: nothing is believed before it is checked, nothing else is opened."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import MissingDependencyError, StorageError, one_line
from ..files import PathLike, read_bytes

__all__ = [
    "array_of",
    "attribute_of",
    "check_regular",
    "linked",
    "open_hdf5",
    "reading",
    "set_texts",
    "text_of",
    "typed",
    "unpacked",
    "whole_of",
]

Kind = TypeVar("Kind")

_PACKAGE = __name__.partition(".")[0]

_HDF5 = b"\x89HDF\r\n\x1a\n"  # with which its files begin

#: No compression that HDF5 and zip files have (deflate is the best) makes less of anything: RFC 1951 allows 1,032.
_MOST_PACKED = 1100
_SMALL = 2**20  # bytes that may be asked for whatever the file's size
_LARGEST = 2**32  # bytes of one array: a hundred times what a photograph's features take


@contextmanager
def reading(path: PathLike, what: str = "it is", *, layout: str = "", remedy: str = "write it again") -> Iterator[None]:
    """Turn whatever a damaged file makes a reader raise into one StorageError that names the file.

    Libraries raise nearly everything on damaged files: lists of their exceptions were never complete. What is no
    damage is not called so: a lack of memory, the operating system's refusals, and faults of our own code, which pass.
    A reader therefore checks the types of what a file holds before it works with it: see `typed`.

    Parameters
    ----------
    path : str or path
    what : str
        What is damaged, with its verb.
    layout : str
        What the file ought to be, such as "of another layout than hloc's".
    remedy : str
    """
    try:
        yield
    except (StorageError, MissingDependencyError):
        raise
    except MemoryError:
        raise StorageError(
            f"{path}: there is not enough memory to read it; end other programs, or use a larger machine"
        ) from None
    except Exception as error:
        if _is_our_fault(error):
            raise
        if isinstance(error, OSError) and error.errno and error.strerror:
            raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) and error.args else one_line(error)
        raise StorageError(f"{path}: {what} damaged{layout and ', or '}{layout} ({reason}); {remedy}") from error


def _is_our_fault(error: Exception) -> bool:
    """Whether it is an exception that only a mistake in a program raises, and comes from a line of ours."""
    if not isinstance(error, NameError | AttributeError | TypeError | AssertionError | NotImplementedError):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith(f"{_PACKAGE}.")


def typed(value: Any, kind: type[Kind]) -> Kind:
    """The value, if the file holds one of that kind there.

    Raises
    ------
    ValueError
        If it holds another; see `reading`.
    """
    if not isinstance(value, kind):
        raise ValueError(f"{checks.shown(value)} instead of a {kind.__name__}")
    return value


def whole_of(value: Any) -> int:
    """A whole number of a file, which may be written as a text.

    Raises
    ------
    ValueError
        If it is none; see `reading`.
    """
    try:
        return int(value)
    except (TypeError, OverflowError):
        raise ValueError(f"{checks.shown(value)} instead of a whole number") from None


def check_regular(path: Path) -> None:
    """Refuse what is no regular file: a pipe would be waited for, a folder cannot be read.

    Raises
    ------
    StorageError
        If there is no such file, or it is something else.
    """
    try:
        regular, there = path.is_file(), path.exists()
    except (OSError, ValueError) as error:  # no permission, a NUL in the name
        raise StorageError(f"{path}: cannot be read ({one_line(error)})") from None
    if not regular:
        raise StorageError(f"{path}: {'is not a regular file' if there else 'no such file'}")


def open_hdf5(path: Path) -> Any:
    """An HDF5 file, open for reading.

    Raises
    ------
    StorageError
        If there is no such file, or it is no HDF5 file.
    """
    import h5py

    check_regular(path)
    try:
        return h5py.File(path, "r")
    except Exception as error:
        if read_bytes(path, len(_HDF5)) == _HDF5:
            raise StorageError(
                f"{path}: not an HDF5 file, or truncated ({one_line(error)}); delete it and write it again"
            ) from error
        # nothing of ours that may be deleted
        raise StorageError(f"{path}: not an HDF5 file, which features and matches are in") from error


def linked(group: Any, name: str) -> Any:
    """The object of this name, slashes nest, below an HDF5 group; None if there is none.

    Raises
    ------
    StorageError
        If a link on the way leads elsewhere: an external link opens any file of this machine that its maker named.
    """
    import h5py

    for part in name.split("/"):
        if not isinstance(group, h5py.Group):
            return None
        link = group.get(part, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise StorageError(f"{group.file.filename}: {name!r} is a link to somewhere else, which is not followed")
        group = group[part]
    return group


def array_of(dataset: Any, what: str = "") -> NDArray[Any]:
    """The numbers of an HDF5 dataset.

    Raises
    ------
    StorageError
        If it is no dataset of numbers, if its values are in other files, or if it is said to hold more than the file
        can.
    """
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{what or 'it'} is no dataset")
    where = f"{dataset.file.filename}: {what or dataset.name!r}"
    if dataset.external or dataset.is_virtual:
        raise StorageError(f"{where} has its values in another file, which is not opened")
    if dataset.dtype.kind not in "biuf" or dataset.shape is None:
        raise ValueError(f"{what or dataset.name!r} holds no numbers")
    size, stored = dataset.dtype.itemsize * int(np.prod(dataset.shape, dtype=object)), dataset.id.get_storage_size()
    if size > _LARGEST or size > _SMALL + _MOST_PACKED * stored:
        raise StorageError(f"{where} says that it holds {size} bytes, but there are {stored}; write it again")
    return np.asarray(dataset[()])


def attribute_of(owner: Any, name: str) -> NDArray[Any] | None:
    """The numbers, or the texts as bytes, of an attribute of an HDF5 object; None if it has no such one.

    Texts of variable length are left alone: HDF5 keeps them in a heap, and loops for ever in some damaged ones.
    """
    import h5py

    if not h5py.h5a.exists(owner.id, name.encode()):
        return None
    attribute = h5py.h5a.open(owner.id, name.encode())
    kind = attribute.get_type()
    simple = isinstance(kind, h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID | h5py.h5t.TypeStringID)
    if not simple or (isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()):
        return None
    if kind.get_size() * int(np.prod(attribute.shape, dtype=object)) > _SMALL:
        raise ValueError(f"the attribute {name!r} is too large")
    values = np.empty(attribute.shape, attribute.dtype)
    attribute.read(values)
    return values


def text_of(owner: Any, name: str) -> str:
    """The text of an attribute that `set_texts` wrote; '' if there is none."""
    values = attribute_of(owner, name)
    if values is None or values.dtype.kind != "S" or values.size != 1:
        return ""
    return bytes(values.reshape(-1)[0]).decode()


def set_texts(owner: Any, name: str, *texts: str) -> None:
    """Give an HDF5 object an attribute of one text or several, of fixed length."""
    values = np.array([text.encode() for text in texts], "S")
    owner.attrs[name] = values[0] if len(texts) == 1 else values


def unpacked(stream: IO[bytes]) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz stream; what is none raises whatever it will: see `reading`.

    NumPy's own reader sets aside what a header asks for; here it must fit the archive first.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            if member.file_size > min(_LARGEST, _SMALL + _MOST_PACKED * member.compress_size):
                raise ValueError(f"{member.filename!r} says that it holds {member.file_size} bytes")
            with archive.open(member) as content:
                arrays[member.filename[:-4]] = _npy(content, member.file_size)
    return arrays


def _npy(content: IO[bytes], size: int) -> NDArray[Any]:
    """An array in NumPy's .npy format of so many bytes."""
    version = np.lib.format.read_magic(content)
    if version == (1, 0):
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(content)
    elif version == (2, 0):
        shape, by_column, dtype = np.lib.format.read_array_header_2_0(content)
    else:
        raise ValueError(f"version {version} of NumPy's format")
    if dtype.kind == "V":
        raise ValueError("records instead of numbers")
    if dtype.hasobject:
        raise ValueError("objects, which may be programs, are not read")
    rest = size - content.tell()
    if min(shape, default=0) < 0 or dtype.itemsize * int(np.prod(shape, dtype=object)) != rest:
        raise ValueError(f"an array of shape {shape} does not fit {rest} bytes")
    array = np.frombuffer(content.read(rest), dtype)
    return array.reshape(shape, order="F" if by_column else "C")
