"""A writer of TensorFlow's checkpoints, byte by byte from the description of the format; see `tf_checkpoint`."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

_TABLE = []
for _byte in range(256):
    _value = _byte
    for _ in range(8):
        _value = (_value >> 1) ^ (0x82F63B78 * (_value & 1))
    _TABLE.append(_value)


def crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) % 256] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


class CheckpointWriter:
    """The parts of a checkpoint, so that tests can put them together wrongly."""

    @staticmethod
    def masked(data: bytes) -> bytes:
        assert crc32c(b"123456789") == 0xE3069283  # the check value that is published with the polynomial
        crc = crc32c(data)
        return struct.pack("<I", ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32)

    @staticmethod
    def varint(value: int) -> bytes:
        low, rest = value % 128, value // 128
        return bytes([low + 128]) + CheckpointWriter.varint(rest) if rest else bytes([low])

    def field(self, number: int, value: int | bytes) -> bytes:
        """A field of a message: a number, or bytes."""
        if isinstance(value, int):
            return self.varint(number * 8) + self.varint(value)
        return self.varint(number * 8 + 2) + self.varint(len(value)) + value

    def entry(self, shape: Sequence[int], offset: int, content: bytes, kind: int = 1, more: bytes = b"") -> bytes:
        """A BundleEntryProto; zeros are left out, as protobuf does."""
        sizes = b"".join(self.field(2, self.field(1, length)) for length in shape)
        place = self.field(4, offset) if offset else b""
        size = self.field(5, len(content))
        return (
            self.field(1, kind) + self.field(2, sizes) + place + size + bytes([6 * 8 + 5]) + self.masked(content) + more
        )

    def block(self, pairs: Mapping[bytes, bytes], every: int = 16) -> bytes:
        out, restarts, before = b"", [], b""
        for i, (key, value) in enumerate(pairs.items()):
            shared = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(before, key, strict=False)))
            if i % every == 0:
                restarts.append(len(out))
                shared = 0
            lengths = (shared, len(key) - shared, len(value))
            out += b"".join(self.varint(length) for length in lengths) + key[shared:] + value
            before = key
        places = restarts or [0]
        return out + b"".join(struct.pack("<I", place) for place in [*places, len(places)])

    def table(
        self, blocks: Sequence[bytes], *, kind: int = 0, handles: Sequence[tuple[int, int]] | None = None
    ) -> bytes:
        """A LevelDB table of such blocks; `handles` says otherwise where they lie."""
        out, places = b"", []
        for block in [*blocks, self.block({})]:
            places.append((len(out), len(block)))
            out += block + bytes([kind]) + self.masked(block + bytes([kind]))
        named = [self.varint(a) + self.varint(b) for a, b in handles or places[:-1]]
        index = self.block({f"{i:06d}".encode(): handle for i, handle in enumerate(named)}, every=1)
        footer = b"".join(self.varint(n) for n in (*places[-1], len(out), len(index)))
        out += index + bytes(1) + self.masked(index + bytes(1))
        return out + footer.ljust(40, bytes(1)) + struct.pack("<Q", 0xDB4775248B80FB57)

    def write(self, path: Path, tensors: Mapping[str, NDArray[np.generic]]) -> Path:
        """A checkpoint of these tensors, several blocks of its index; the path ends in .index."""
        numbers, pairs = b"", {b"": self.field(1, 1) + self.field(3, self.field(1, 1))}
        for name, values in sorted(tensors.items()):
            content = values.astype(values.dtype.newbyteorder("<")).tobytes()
            kind = {"float32": 1, "float64": 2, "int32": 3, "int64": 9}[values.dtype.name]
            pairs[name.encode()] = self.entry(values.shape, len(numbers), content, kind)
            numbers += content
        items = list(pairs.items())
        path.write_bytes(self.table([self.block(dict(items[i : i + 20])) for i in range(0, len(items), 20)]))
        path.with_name(f"{path.stem}.data-00000-of-00001").write_bytes(numbers)
        return path


@pytest.fixture(scope="session")
def checkpoints() -> CheckpointWriter:
    return CheckpointWriter()
