"""ONNX files as they lie on the disk: a part of a graph, the description, the checksum, without the package onnx.

ONNX is protobuf. The numbers of fields are those of onnx.proto3, which never change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .protobuf import Field, fields, integer

__all__ = ["CHECKSUM", "METADATA", "OnnxFile", "checksum"]

#: The key under which a model's file holds the description that `tiepoints export` wrote, as JSON.
METADATA = "tiepoints"

#: The key under which it holds `checksum`.
CHECKSUM = "tiepoints.sha256"

_GRAPH, _PROPERTY = 7, 14  # of ModelProto
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12  # of GraphProto
_DTYPES = {1: np.float32, 10: np.float16, 11: np.float64, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64}


def checksum(graph: bytes | memoryview, about: str) -> str:
    """SHA-256 of a serialised graph, weights included, followed by its description in UTF-8."""
    digest = hashlib.sha256(graph)
    digest.update(about.encode())
    return digest.hexdigest()


class OnnxFile:
    """The content of an ONNX file; whatever is not one raises a ValueError, here or later.

    Parameters
    ----------
    data : bytes
    """

    def __init__(self, data: bytes) -> None:
        self._fields = list(fields(memoryview(data)))
        (self._graph,) = (field for field in self._fields if field.number == _GRAPH)
        self._parts = list(fields(self._graph.value))

    @cached_property
    def properties(self) -> dict[str, str]:
        """The file's metadata."""
        entries = (
            {f.number: f.value for f in fields(field.value)} for field in self._fields if field.number == _PROPERTY
        )
        return {_text(entry[1]): _text(entry[2]) for entry in entries}

    @property
    def about(self) -> dict[str, Any]:
        """The description that `tiepoints export` wrote.

        Raises
        ------
        ValueError
            If there is none, or the file is not what was written with it.
        """
        text = self.properties.get(METADATA, "")
        if self.properties.get(CHECKSUM) != checksum(self._graph.value, text):
            raise ValueError("the checksum is another")
        about = json.loads(text)
        if not isinstance(about, dict):
            raise ValueError("the description is not a table")
        return about

    @property
    def outputs(self) -> list[str]:
        """The names of the graph's outputs."""
        return [_name(part.value, 1) for part in self._parts if part.number == _OUTPUT]

    @cached_property
    def weights(self) -> dict[str, NDArray[Any]]:
        """All constants of the graph, by name, in the file's memory."""
        return dict(_tensor(part.value) for part in self._parts if part.number == _INITIALIZER)

    def cut(self, outputs: Sequence[str], start: str) -> bytes:
        """The file with so much of its graph as these outputs need, from the value `start` on in place of its input.

        The value has the input's type and shape.
        """
        needed, kept = set(outputs), []
        for part in reversed(
            self._parts
        ):  # nodes are in topological order, by the standard; of other parts any will do
            if part.number == _NODE:
                own = list(fields(part.value))
                made = [_text(field.value) for field in own if field.number == 2]
                if needed.isdisjoint(made) or start in made:
                    continue
                needed.update(_text(field.value) for field in own if field.number == 1)
            kept.append(part)
        names = {_INITIALIZER: 8, _OUTPUT: 1}  # the fields that hold the name
        wanted = {_INITIALIZER: needed, _OUTPUT: set(outputs)}
        graph = b"".join(
            _renamed(part, start) if part.number == _INPUT else part.whole
            for part in reversed(kept)
            if part.number not in names or _name(part.value, names[part.number]) in wanted[part.number]
        )
        return b"".join(
            _tagged(_GRAPH, graph) if field is self._graph else bytes(field.whole) for field in self._fields
        )


def _renamed(value: Field, name: str) -> bytes:
    """A ValueInfoProto with another name."""
    rest = b"".join(field.whole for field in fields(value.value) if field.number != 1)
    return _tagged(value.number, _tagged(1, name.encode()) + rest)


def _tagged(number: int, value: bytes) -> bytes:
    """A field of bytes."""
    return _written(number << 3 | 2) + _written(len(value)) + value


def _written(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(value: memoryview) -> str:
    return str(value, "utf-8")


def _name(message: memoryview, number: int) -> str:
    return next((_text(field.value) for field in fields(message) if field.number == number), "")


def _tensor(message: memoryview) -> tuple[str, NDArray[Any]]:
    """Name and values of a TensorProto whose values are raw bytes, little-endian."""
    name, kind, raw, shape = "", 0, memoryview(b""), list[int]()
    for field in fields(message):
        if field.number == 1:
            packed = field.value
            if isinstance(packed, int):
                shape.append(packed)
            else:
                at = 0
                while at < len(packed):
                    size, at = integer(packed, at)
                    shape.append(size)
        elif field.number == 2:
            kind = field.value
        elif field.number == 8:
            name = _text(field.value)
        elif field.number == 9:
            raw = field.value
    if kind not in _DTYPES:
        raise ValueError(f"{name}: numbers of an unknown type {kind}")
    dtype = np.dtype(_DTYPES[kind]).newbyteorder("<")
    return name, np.frombuffer(raw, dtype).reshape(shape)
