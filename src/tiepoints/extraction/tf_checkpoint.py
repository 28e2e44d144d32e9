"""TensorFlow's checkpoints as they lie on the disk, without TensorFlow.

A checkpoint NAME is two files. NAME.index is a table in LevelDB's format: the keys are the names of the tensors, the
values (BundleEntryProto of tensor_bundle.proto) say type, shape, place and checksum of each. The numbers lie in
NAME.data-00000-of-00001, raw, one tensor after another.

A table is a row of blocks and a footer of 48 bytes, which says where the index block lies; that one says where the
others lie. Behind each block are a byte for its compression and a checksum. A key is stored without the beginning that
it shares with the one before it. See leveldb/doc/table_format.md.

The files may come from anywhere: no size and no place is used before it is compared with what is there, nothing is read
twice, and nothing in them is run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .protobuf import fields, integer

__all__ = ["TensorFlowCheckpoint"]

_SUFFIX = ".index"
_FOOTER, _TRAILER = 48, 5  # bytes
_MAGIC = 0xDB4775248B80FB57
_LARGEST = 1 << 20  # ours: bytes of an index; 100 tensors take some 10 kB
_LONGEST = 512  # ours: bytes of a name
_FLOAT = 1  # DT_FLOAT of types.proto
_DAMAGED = "it is damaged or truncated"


class _Entry(NamedTuple):
    """What the index says of a tensor."""

    kind: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    checksum: int = 0
    sliced: bool = False


class TensorFlowCheckpoint:
    """The tensors of a checkpoint in TensorFlow's format V2, which its Saver writes since version 1.0.

    Parameters
    ----------
    path : path
        The file that ends in .index; the one with the numbers lies beside it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no index of a checkpoint, or a damaged one; the message does not name the file.
    """

    def __init__(self, path: Path) -> None:
        size = path.stat().st_size
        if path.suffix.lower() != _SUFFIX:
            raise ValueError(f"a checkpoint of TensorFlow is given by its file that ends in {_SUFFIX}")
        if size > _LARGEST:
            raise ValueError(f"it has {size} bytes, more than an index of tensors")
        self._path = path
        pairs = _table(memoryview(path.read_bytes()))
        header = {field.number: field.value for field in fields(pairs.pop(b"", memoryview(b"")))}
        self._shards = _kind(int, header.get(1, 0))
        if not 1 <= self._shards <= 99999:
            raise ValueError("it has no header of a checkpoint")
        if header.get(2, 0) != 0:
            raise ValueError("its numbers are big-endian, which are not read")
        self._entries = {key.decode("utf-8"): _entry(value) for key, value in pairs.items()}

    @property
    def names(self) -> list[str]:
        """Of all tensors, in the order of the file."""
        return list(self._entries)

    def tensor(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The values of a tensor of float32 whose shape is known; its checksum is checked.

        Parameters
        ----------
        name : str
        shape : tuple of int
            () of a single number.

        Raises
        ------
        RuntimeError
            If there is none by this name, or one of another type or shape.
        ValueError
            If the file with its numbers is missing or damaged; or if they are infinite, or no numbers.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise RuntimeError(f"it has no tensor {name}")
        if entry.kind != _FLOAT or entry.sliced:
            raise RuntimeError(f"its tensor {name} is not float32 in one piece")
        if entry.shape != shape:
            raise RuntimeError(f"its tensor {name} has the shape {entry.shape}, not {shape}")
        raw = self._numbers(name, entry, 4 * math.prod(shape))
        values = np.frombuffer(raw, "<f4").astype(np.float32).reshape(shape)
        if not np.isfinite(values).all():
            raise ValueError(f"its tensor {name} has values that are no numbers")
        return values

    def _numbers(self, name: str, entry: _Entry, size: int) -> bytes:
        stem = self._path.name.removesuffix(_SUFFIX)
        path = self._path.with_name(f"{stem}.data-{entry.shard:05d}-of-{self._shards:05d}")
        if entry.shard >= self._shards or not path.is_file():
            raise ValueError(f"{path.name}, with its numbers, is not beside it")
        if entry.size != size or entry.offset + size > path.stat().st_size:
            raise ValueError(f"{path.name} does not hold what it says of {name}: one of the two is damaged")
        with path.open("rb") as file:
            file.seek(entry.offset)
            raw = file.read(size)
        if _checksum(raw) != entry.checksum:
            raise ValueError(f"the checksum of {name} in {path.name} is wrong: it is damaged, or another checkpoint's")
        return raw


def _table(data: memoryview) -> dict[bytes, memoryview]:
    """The keys and values of a LevelDB table."""
    if len(data) < _FOOTER or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise ValueError(f"it is no index of a checkpoint, or {_DAMAGED}")
    end = len(data) - _FOOTER
    at = end
    for _ in range(2):  # of the block of further information, which is empty here
        _, at = integer(data, at)
    (index, at) = integer(data, at)
    found: dict[bytes, memoryview] = {}
    before = 0
    for _, handle in _pairs(_block(data[:end], index, integer(data, at)[0])):
        offset, at = integer(handle, 0)
        size, _ = integer(handle, at)
        if offset < before:  # so that no byte is read more than once, however many places the index names
            raise ValueError(_DAMAGED)
        before = offset + size
        for key, value in _pairs(_block(data[:end], offset, size)):
            if key in found:
                raise ValueError(_DAMAGED)
            found[key] = value
    return found


def _block(data: memoryview, offset: int, size: int) -> memoryview:
    """The content of a block."""
    end = offset + size
    if end + _TRAILER > len(data):
        raise ValueError(_DAMAGED)
    if _checksum(data[offset : end + 1]) != int.from_bytes(data[end + 1 : end + _TRAILER], "little"):
        raise ValueError(f"a checksum in it is wrong: {_DAMAGED}")
    if data[end] != 0:
        raise ValueError("it is compressed (Snappy), which TensorFlow's Saver does not do, and is not read")
    return data[offset:end]


def _pairs(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The keys and values of a block, in order."""
    restarts = int.from_bytes(block[-4:], "little")  # places where a key is stored whole, to search from
    end = len(block) - 4 * (restarts + 1)
    if len(block) < 4 or end < 0:
        raise ValueError(_DAMAGED)
    at, key = 0, b""
    while at < end:
        shared, at = integer(block, at)
        own, at = integer(block, at)
        size, at = integer(block, at)
        if shared > len(key) or shared + own > _LONGEST or at + own + size > end:
            raise ValueError(_DAMAGED)
        key = key[:shared] + bytes(block[at : at + own])
        at += own
        yield key, block[at : at + size]
        at += size


def _entry(message: memoryview) -> _Entry:
    entry = _Entry()
    for field in fields(message):
        if field.number == 2:
            dims = (part.value for part in fields(_kind(memoryview, field.value)) if part.number == 2)
            entry = entry._replace(shape=tuple(_length(_kind(memoryview, dim)) for dim in dims))
        elif field.number == 6:
            entry = entry._replace(checksum=int.from_bytes(_kind(memoryview, field.value), "little"))
        elif field.number == 7:
            entry = entry._replace(sliced=True)
        elif name := {1: "kind", 3: "shard", 4: "offset", 5: "size"}.get(field.number):
            entry = entry._replace(**{name: _kind(int, field.value)})
    return entry


def _length(dim: memoryview) -> int:
    """Of one dimension of a tensor."""
    return int(next((_kind(int, field.value) for field in fields(dim) if field.number == 1), 0))


def _kind(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(_DAMAGED)
    return value


def _checksum(data: bytes | memoryview) -> int:
    """CRC-32C, then rotated by 15 bits and shifted by a constant, as LevelDB and TensorFlow store it."""
    crc, table = 0xFFFFFFFF, _crc_table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _crc_table() -> list[int]:
    """What a byte makes of the checksum; the polynomial is Castagnoli's, its bits reversed."""
    table = list(range(256))
    for _ in range(8):
        table = [(crc >> 1) ^ (0x82F63B78 if crc & 1 else 0) for crc in table]
    return table
