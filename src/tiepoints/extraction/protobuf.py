"""Reading protobuf, in which ONNX files and TensorFlow's checkpoints say what they hold.

A message is a sequence of fields; each is a number with a type, and a value: a variable-length integer, 4 or 8 bytes,
or so many bytes, which may be a message again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Field", "fields", "integer"]


class Field(NamedTuple):
    """A field of a message.

    Parameters
    ----------
    number : int
    value : int or memoryview
        An integer of variable length as it is, anything else as its bytes.
    whole : memoryview
        The field with its number and length.
    """

    number: int
    value: Any
    whole: memoryview


def fields(data: memoryview) -> Iterator[Field]:
    """The fields of a message.

    Raises
    ------
    ValueError
        If these bytes are no message.

    Examples
    --------
    >>> from tiepoints.extraction.protobuf import fields
    >>> [(field.number, field.value) for field in fields(memoryview(bytes([0x08, 0x96, 0x01])))]
    [(1, 150)]
    """
    at, end = 0, len(data)
    while at < end:
        start = at
        key, at = integer(data, at)
        kind = key & 7
        if kind == 0:
            value, at = integer(data, at)
            yield Field(key >> 3, value, data[start:at])
            continue
        if kind == 2:
            length, at = integer(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"no protobuf: a field of type {kind}")
        if at + length > end:
            raise ValueError("no protobuf, or truncated")
        yield Field(key >> 3, data[at : at + length], data[start : at + length])
        at += length


def integer(data: memoryview, at: int) -> tuple[int, int]:
    """A variable-length integer, seven bits a byte from the lowest on, and where it ends.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> from tiepoints.extraction.protobuf import integer
    >>> integer(memoryview(bytes([0x96, 0x01])), 0)
    (150, 2)
    """
    if at < len(data) and data[at] < 128:  # most are of one byte
        return data[at], at + 1
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("no protobuf, or truncated")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("no protobuf: an integer of more than 64 bits")
