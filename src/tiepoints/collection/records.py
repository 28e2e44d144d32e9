"""Results as bytes: what steps return, written so that a single wrong byte is noticed, and read without running code.

A record is ``TPR1``, the length of its header (4 bytes, little endian), the CRC-32 of all that follows, the header as
JSON, and the arrays, each at a multiple of 8 bytes. The header holds the value with ``{"$array": number}`` where an
array belongs, and each array's type and shape.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

from .. import checks
from ..errors import InvalidInputError, StorageError

__all__ = ["decode", "encode", "is_whole", "register"]

_MAGIC = b"TPR1"
_HEAD = struct.Struct("<4sII")
_ALIGN = 8

T = TypeVar("T", bound=type)

# What may stand in a record besides plain values: dataclasses by the name that the record has for them.
_CLASSES: dict[str, type] = {}
_NAMES: dict[type, str] = {}


def register(name: str) -> Callable[[T], T]:
    """Let a dataclass be stored as a result, under a name that must stay the same as long as stores are to be read.

    Parameters
    ----------
    name : str
        Unique; by convention the package's name and the class's, such as "mine.Score".

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from tiepoints.collection import register
    >>> from tiepoints.collection.records import decode, encode
    >>> @register("example.Score")
    ... @dataclass
    ... class Score:
    ...     error: float
    >>> decode(encode(Score(0.5)))
    Score(error=0.5)
    """
    checks.instance(name, "name", str)

    def add(kind: T) -> T:
        if not is_dataclass(kind):
            raise InvalidInputError(f"{kind.__name__} is no dataclass, so that its fields are not known")
        if _CLASSES.get(name, kind) is not kind and _CLASSES[name].__qualname__ != kind.__qualname__:
            raise InvalidInputError(f"{name!r} is registered for {_CLASSES[name].__name__} already")
        _CLASSES[name], _NAMES[kind] = kind, name
        return kind

    return add


def encode(value: Any) -> bytes:
    """The record of a value: None, truth values, numbers, texts, arrays, registered dataclasses, and lists, tuples and
    dictionaries (with texts as keys) of these.

    Raises
    ------
    InvalidInputError
        If the value holds anything else.

    Examples
    --------
    >>> from tiepoints.collection.records import decode, encode
    >>> decode(encode({"scores": [0.5, 1.0]}))
    {'scores': [0.5, 1.0]}
    """
    _register_ours()
    arrays: list[np.ndarray[Any, Any]] = []
    tree = _flat(value, arrays)
    about = [[array.dtype.str, list(array.shape)] for array in arrays]
    header = json.dumps({"value": tree, "arrays": about}, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-(len(header) + _HEAD.size) % _ALIGN)
    parts: list[Any] = [header]
    for array in arrays:
        parts += [array.reshape(-1).view(np.uint8).data, b"\0" * (-array.nbytes % _ALIGN)]
    body = b"".join(parts)
    return _HEAD.pack(_MAGIC, len(header), zlib.crc32(body)) + body


def decode(record: bytes) -> Any:
    """The value of a record; arrays are read-only and share its memory.

    Raises
    ------
    StorageError
        If the record is damaged, or holds a class that is not registered.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.collection.records import decode, encode
    >>> decode(encode(np.arange(3))).tolist()
    [0, 1, 2]
    """
    _register_ours()
    try:
        if not is_whole(record):
            raise StorageError("a result is damaged: its checksum differs")
        body, size = memoryview(record)[_HEAD.size :], _HEAD.unpack_from(record)[1]
        header = json.loads(bytes(body[:size]))
        arrays, start = [], size
        for dtype, shape in header["arrays"]:
            kind = np.dtype(dtype)
            if kind.hasobject or any(length < 0 for length in shape):
                raise StorageError("a result is damaged: it holds objects, or an array of a negative size")
            count = math.prod(shape)
            arrays.append(np.frombuffer(body, kind, count, start).reshape(shape))
            start += count * kind.itemsize + -(count * kind.itemsize) % _ALIGN
        return _built(header["value"], arrays)
    except (StorageError, MemoryError):
        raise
    except Exception as error:  # whatever a record with a right checksum and foreign content makes NumPy or JSON raise
        raise StorageError(f"a result is damaged or of another version ({type(error).__name__})") from error


def is_whole(record: bytes) -> bool:
    """Whether a record's checksum is right.

    Examples
    --------
    >>> from tiepoints.collection.records import encode, is_whole
    >>> record = encode([1, 2])
    >>> is_whole(record), is_whole(record[:-1])
    (True, False)
    """
    checks.instance(record, "record", bytes)
    if len(record) < _HEAD.size:
        return False
    magic, _, checksum = _HEAD.unpack_from(record)
    return bool(magic == _MAGIC and zlib.crc32(memoryview(record)[_HEAD.size :]) == checksum)


def _flat(value: Any, arrays: list[np.ndarray[Any, Any]]) -> Any:
    """The value as JSON can say it; arrays are appended to `arrays`."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return _flat(value.item(), arrays)
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise InvalidInputError("an array of objects cannot be stored as a result")
        arrays.append(np.ascontiguousarray(value).reshape(value.shape))
        return {"$array": len(arrays) - 1}
    if type(value) in _NAMES:
        own = {field.name: _flat(getattr(value, field.name), arrays) for field in fields(value) if field.init}
        return {"$class": _NAMES[type(value)], "fields": own}
    if isinstance(value, tuple):
        return {"$tuple": [_flat(item, arrays) for item in value]}
    if isinstance(value, list):
        return [_flat(item, arrays) for item in value]
    if isinstance(value, Mapping):
        if any(not isinstance(key, str) or key.startswith("$") for key in value):
            raise InvalidInputError("a dictionary that is stored as a result has texts as keys that begin with no '$'")
        return {key: _flat(item, arrays) for key, item in value.items()}
    raise InvalidInputError(
        f"a {type(value).__name__} cannot be stored as a result: return arrays, numbers, texts, Features, Matches, "
        "lists and dictionaries of these, or a dataclass that `collection.register` knows"
    )


def _built(tree: Any, arrays: list[np.ndarray[Any, Any]]) -> Any:
    """The inverse of `_flat`."""
    if isinstance(tree, list):
        return [_built(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if "$array" in tree:
        return arrays[tree["$array"]]
    if "$tuple" in tree:
        return tuple(_built(item, arrays) for item in tree["$tuple"])
    if "$class" in tree:
        if tree["$class"] not in _CLASSES:
            raise StorageError(f"a result is a {tree['$class']}, which this program does not know: import its module")
        return _CLASSES[tree["$class"]](**{name: _built(item, arrays) for name, item in tree["fields"].items()})
    return {name: _built(item, arrays) for name, item in tree.items()}


def _register_ours() -> None:
    """The classes of rooms below; at the first use, so that importing this module imports none of them."""
    if "tiepoints.Features" in _CLASSES:
        return
    from ..features import Features, Matches
    from ..geometry.results import Geometry

    for kind in (Features, Matches, Geometry):
        register(f"tiepoints.{kind.__name__}")(kind)
