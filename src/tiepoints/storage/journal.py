"""Finished items kept on disk until the file that will hold them is complete, so that an interruption loses none.

A journal is one file, only ever appended to. It opens with a magic line; then each record is

    length of the body (8 bytes, little endian) | CRC-32 of the body (4 bytes) | body

and a body is an .npz with the item's arrays and its key as UTF-8 bytes. A process that is killed can only leave the
last record incomplete; opening the journal cuts that one off. The first record holds what the journal is for.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StorageError
from ..files import one_line
from .npz import read_arrays, write_arrays

_MAGIC = b"tiepoints partial 1\n"
_HEAD = struct.Struct("<QI")
_KEY = "key"
_HEADER = "\0header"  # no item has this key: names hold no NUL


class Journal:
    """Append-only storage of named arrays that survives the death of its process.

    Parameters
    ----------
    path : path
        The journal's file; made if missing, else its complete records are found again.
    header : dict
        What a new journal is for, as JSON; one that holds items already keeps its own.

    Attributes
    ----------
    header : dict
        What this journal is for.

    Raises
    ------
    StorageError
        If the file is no journal, or cannot be written.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.header = header
        self._offsets: dict[str, int] = {}
        try:
            # Unbuffered: what `append` wrote belongs to the operating system when it returns, and outlives a SIGKILL.
            path.touch()
            self._stream = path.open("r+b", buffering=0)
            try:
                if not self._recover():
                    self.header = header
                    self._stream.truncate(0)
                    self._stream.seek(0)
                    self._write(_MAGIC)
                    self.append(_HEADER, {"json": np.frombuffer(json.dumps(header).encode(), np.uint8)})
            except BaseException:
                self._stream.close()
                raise
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(f"{path}: cannot be written ({error.strerror or one_line(error)})") from error

    def __contains__(self, key: str) -> bool:
        return key in self._offsets

    def __iter__(self) -> Iterator[str]:
        return iter(self._offsets)

    def __len__(self) -> int:
        return len(self._offsets)

    def append(self, key: str, arrays: dict[str, NDArray[Any]]) -> None:
        """Keep an item; a later one of the same key counts.

        Raises
        ------
        StorageError
            If it cannot be written, for want of space for example; the items before it stay.
        """
        body = io.BytesIO()
        write_arrays(body, {**arrays, _KEY: np.frombuffer(key.encode(), np.uint8)})
        data = body.getbuffer()
        start = self._stream.seek(0, io.SEEK_END)
        try:
            self._write(_HEAD.pack(len(data), zlib.crc32(data)))
            self._write(data)
        except BaseException as error:
            self._stream.truncate(start)  # half a record would hide those that follow it
            if isinstance(error, OSError):
                raise StorageError(f"{self.path}: cannot be written ({error.strerror or one_line(error)})") from error
            raise
        if key != _HEADER:
            self._offsets[key] = start

    def read(self, key: str) -> dict[str, NDArray[Any]]:
        """The arrays of an item."""
        self._stream.seek(self._offsets[key])
        body = self._body()
        if body is None:
            raise StorageError(f"{self.path}: was changed or damaged while in use; delete it and start again")
        arrays = read_arrays(io.BytesIO(body))
        del arrays[_KEY]
        return arrays

    def close(self) -> None:
        """Let go of the file and keep it."""
        self._stream.close()

    def remove(self) -> None:
        """Let go of the file and delete it."""
        self._stream.close()
        self.path.unlink(missing_ok=True)

    def _recover(self) -> bool:
        """Find the complete records and cut off what follows them; False if there is no item."""
        magic = bytes(self._read(len(_MAGIC)))
        if not _MAGIC.startswith(magic):
            raise StorageError(f"{self.path}: is in the way and was not made by tiepoints; move or delete it")
        if magic != _MAGIC:
            return False
        start = len(_MAGIC)
        while (body := self._body()) is not None:
            arrays = np.load(io.BytesIO(body), allow_pickle=False)  # lazy: only the arrays that are asked for are read
            key = arrays[_KEY].tobytes().decode()
            if key == _HEADER:
                self.header = json.loads(arrays["json"].tobytes())
            else:
                self._offsets[key] = start
            start = self._stream.tell()
        self._stream.truncate(start)
        return bool(self._offsets)

    def _body(self) -> bytearray | None:
        """The body of the record at the stream's position; None if it is incomplete."""
        head = self._read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        length, checksum = _HEAD.unpack(head)
        here = self._stream.tell()
        if length > self._stream.seek(0, io.SEEK_END) - here:
            return None
        self._stream.seek(here)
        body = self._read(length)
        return body if zlib.crc32(body) == checksum and len(body) == length else None

    def _read(self, count: int) -> bytearray:
        """`count` bytes, or fewer at the end of the file: an unbuffered stream may give fewer at once."""
        data = bytearray()
        while len(data) < count and (more := self._stream.read(count - len(data))):
            data += more
        return data

    def _write(self, data: bytes | memoryview) -> None:
        """Write all of `data`: an unbuffered stream may take less at once."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._stream.write(rest) :]
