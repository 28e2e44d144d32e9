"""What HDF5 files of features and of matches share: reading one item, and writing a file that is whole or not there."""

from __future__ import annotations

import re
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import InvalidInputError, StorageError
from ..files import PathLike, check_name, check_space, one_line, real, replacing, write_lock
from .reading import linked, open_hdf5, reading, set_texts, text_of

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R", bound="Reader[Any, Any]")
W = TypeVar("W", bound="Writer[Any]")

# Bytes that the groups and datasets of an item take besides the arrays, generously.
_HEADERS = 32_768


class MissingItemError(StorageError, KeyError):
    """An image or a pair that a file does not hold.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.storage import FeatureReader, FeatureWriter, MissingItemError
    >>> with FeatureWriter("few.h5", overwrite=True) as writer:
    ...     writer.write("box.png", tp.load("orb", max_keypoints=50)("examples/box.png"))
    >>> try:
    ...     with FeatureReader("few.h5") as reader:
    ...         reader["desk_1.jpg"]
    ... except MissingItemError as error:
    ...     print(error.args[0])
    few.h5: holds no features of 'desk_1.jpg'
    """


class Reader(Mapping[K, V], ABC, Generic[K, V]):
    """A file as a read-only mapping; a subclass says what makes a group an item, and what its datasets mean."""

    what: str  # for the messages
    marker: str  # the dataset that makes a group an item

    def __init__(self, path: PathLike) -> None:
        self.path = checks.path(path, "path")
        self._groups: dict[K, str] | None = None
        self._file = open_hdf5(self.path)

    def __enter__(self: R) -> R:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @property
    def made_with(self) -> str:
        """What the file's writer said that it was made with; '' if nothing."""
        return self.attribute("made_with")

    def attribute(self, name: str) -> str:
        """A text that the file says of itself; '' if it does not.

        Raises
        ------
        StorageError
            If the file is damaged.
        """
        with self._reported():
            return text_of(self._file, name)

    def __iter__(self) -> Iterator[K]:
        return iter(self.groups())

    def __len__(self) -> int:
        return len(self.groups())

    def __contains__(self, key: object) -> bool:
        with self._reported():
            return self._find(key) is not None

    def __getitem__(self, key: K) -> V:
        with self._reported(f"the {self.what} of {key!r} are"):
            group = self._find(key)
            if group is not None:
                return self._value(key, group)
        raise MissingItemError(f"{self.path}: holds no {self.what} of {key!r}")

    def groups(self) -> dict[K, str]:
        """Every item's key and the name of its group."""
        if self._groups is None:
            with self._reported():
                self._groups = {self._key(name): name for name in self._list()}
                if not self._groups and len(self._file):
                    raise StorageError(f"{self.path}: holds no {self.what}; give the file that does")
        return self._groups

    def _reported(self, what: str = "it is") -> AbstractContextManager[None]:
        if not self._file:
            raise InvalidInputError(f"{self.path}: the reader is closed; use it inside its with block, or open another")
        return reading(self.path, what, layout="of another layout than hloc's")

    def _list(self) -> list[str]:
        """The names of the groups that are items."""
        names: list[str] = []
        # `visit` hands out names only; opening every object as well would take ten times as long.
        self._file.visit(names.append)  # follows no links
        ending = f"/{self.marker}"
        return [name[: -len(ending)] for name in names if name.endswith(ending) and self._is_item(self._file[name])]

    def _at(self, name: str) -> Any:
        """The group of this name if it is an item, else None."""
        marker = linked(self._file, f"{name}/{self.marker}")
        return linked(self._file, name) if self._is_item(marker) else None

    def _is_item(self, marker: Any) -> bool:
        import h5py

        return isinstance(marker, h5py.Dataset)

    def _checked(self, name: str) -> str:
        """A name from the file that may become a path: never one outside the folder of the images."""
        try:
            return check_name(name)
        except InvalidInputError as error:
            raise StorageError(f"{self.path}: {error}") from None

    @abstractmethod
    def _key(self, name: str) -> K:
        """An item's key from the name of its group."""

    @abstractmethod
    def _find(self, key: object) -> Any:
        """The group of an item, or None."""

    @abstractmethod
    def _value(self, key: K, group: Any) -> V:
        """An item from its group."""


class Writer(ABC, Generic[K]):
    """A new file that takes the old one's place at the end; a subclass says what an item's key and datasets are."""

    what: str  # for the messages

    def __init__(self, path: PathLike, *, made_with: str = "", overwrite: bool = False) -> None:
        self.path = real(checks.path(path, "path"))
        self.made_with = checks.instance(made_with, "made_with", str)
        self.overwrite = checks.flag(overwrite, "overwrite")
        self._stack = ExitStack()
        self._file: Any = None  # opened with the first item
        self._written = 0

    def __enter__(self: W) -> W:
        with ExitStack() as stack:
            stack.enter_context(write_lock(self.path))
            self._keep_old = self.path.exists() and not self.overwrite
            if self._keep_old:
                self._know_old()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._file is None and not self._keep_old:
            try:
                self._open()
            except BaseException:
                self._stack.__exit__(*sys.exc_info())
                raise
        # What was entered last is left first: the HDF5 file is closed, then it replaces the old one unless there is an
        # exception, then the lock goes.
        self._stack.__exit__(kind, error, trace)

    def check_made_with(self, path: Path, before: str) -> None:
        """Refuse to mix what `path` holds with what another maker writes."""
        if before and self.made_with and before != self.made_with:
            old, new = differences(before, self.made_with)
            raise StorageError(
                f"{path}: was made with {old}, not {new}; write to another file, or "
                "replace this one with --overwrite (overwrite=True)"
            )

    def attributes(self, **values: str) -> None:
        """Texts that the file says of itself."""
        self._open()
        for name, value in values.items():
            set_texts(self._file, name, value)

    def _open(self) -> None:
        import h5py

        if not hasattr(self, "_keep_old"):
            raise InvalidInputError(f"{self.path}: the writer is not open; use it in a with block")
        if self._file is not None:
            return
        temporary = self._stack.enter_context(replacing(self.path))
        if self._keep_old:
            check_space(self.path, self.path.stat().st_size + _HEADERS)
            shutil.copyfile(self.path, temporary)
        else:
            check_space(self.path, _HEADERS)
        try:
            self._file = h5py.File(temporary, "a")
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be written ({one_line(error)})") from error
        self._stack.callback(self._close)
        if self.made_with:
            set_texts(self._file, "made_with", self.made_with)

    def _close(self) -> None:
        file, self._file = self._file, None
        try:
            file.close()
        except (OSError, RuntimeError) as error:
            raise StorageError(f"{self.path}: cannot be written ({one_line(error)})") from error

    def _append(self, key: K, arrays: dict[str, NDArray[Any]]) -> Any:
        """Write an item, in place of the one of this key if there is one; returns its group."""
        self._open()
        # HDF5 crashes on a full disk, at the latest when it is closed: so ask before, also for what it holds back.
        size = sum(array.nbytes for array in arrays.values())
        check_space(self.path, size + _HEADERS + min(_HEADERS * self._written // 8, 64 * _HEADERS))
        try:
            name = self._group(key)
            if name in self._file:
                del self._file[name]
            group = self._file.create_group(name)
            self._put(group, key, arrays)
        except (OSError, RuntimeError, ValueError) as error:
            raise StorageError(f"{self.path}: cannot be written ({one_line(error)})") from error
        self._written += 1
        return group

    def _put(self, group: Any, key: K, arrays: dict[str, NDArray[Any]]) -> None:
        """Write an item's arrays into its group."""
        # As `group[name] = value`, which takes twice as long: for small images a tenth of the whole extraction.
        from h5py import h5d, h5s, h5t

        for name, value in arrays.items():
            values = np.ascontiguousarray(value).reshape(value.shape)
            kind = h5t.py_create(values.dtype, logical=True)
            made = h5d.create(group.id, name.encode(), kind, h5s.create_simple(values.shape))
            if values.size:
                made.write(h5s.ALL, h5s.ALL, values)

    @abstractmethod
    def _know_old(self) -> None:
        """Take note of the items of the finished file."""

    @abstractmethod
    def _group(self, key: K) -> str:
        """The name of the group of an item."""


def differences(before: str, now: str) -> tuple[str, str]:
    """What two makers differ in: their names, else the options of their representations, else the whole texts."""
    (name, options), (other, others) = _maker(before), _maker(now)
    if name != other:
        return name, other
    differing = [key for key in {**options, **others} if options.get(key) != others.get(key)]
    if not differing:
        return before, now
    old, new = (", ".join(f"{key}={some.get(key, '?')}" for key in differing) for some in (options, others))
    return old, new


def _maker(text: str) -> tuple[str, dict[str, str]]:
    """Name and options of an `Extractor`'s representation, <NAME extractor: KEY=VALUE, KEY=VALUE>."""
    name, _, options = text.strip("<>").partition(" extractor: ")
    return name, dict(re.findall(r"(\w+)=(.*?)(?=, \w+=|$)", options))
