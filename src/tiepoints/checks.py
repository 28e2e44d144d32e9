"""Arguments checked where they come in: numbers, counts, arrays and paths, each refused in one line that names it.

Every function takes the value and `what` it is, for the message, and returns the value in the one type that the code
behind it works with.
"""

from __future__ import annotations

import math
import numbers
import os
import reprlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .errors import InvalidInputError, one_line

__all__ = ["as_array", "as_choice", "as_count", "as_flag", "as_number", "as_path", "as_size", "shown"]

_MOST = 2**31 - 1  # what C's int holds, and with it OpenCV's and ONNX Runtime's options


def shown(value: object) -> str:
    """The value for a message: one line, not too long, whatever it is."""
    try:
        return reprlib.repr(value) if isinstance(value, int | str | list | tuple | dict | set) else _cut(repr(value))
    except Exception:  # a whole number of more digits than Python prints, or a repr that fails
        return f"a {type(value).__name__}"


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:77] + "..."


def as_number(
    value: object,
    what: str,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    below: float = math.inf,
    at_most: float = math.inf,
    expected: str = "",
) -> float:
    """A finite real number in the range, as float.

    Parameters
    ----------
    value : object
        An int, a float, one of NumPy's, or an array of one number without dimensions; never a bool or a string.
    what : str
        The argument's name.
    above, at_least, below, at_most : float
        The range, without and with its ends.
    expected : str
        What the message asks for, in place of the range.

    Raises
    ------
    InvalidInputError
        For anything else, NaN and infinity too.
    """
    number = _scalar(value)
    if number is not None and above < number < below and at_least <= number <= at_most and math.isfinite(number):
        return float(number)
    raise InvalidInputError(f"{what} is {shown(value)}, but {expected or _range(above, at_least, below, at_most)}")


def as_count(value: object, what: str, *, at_least: int = 0, at_most: int = _MOST, expected: str = "") -> int:
    """A whole number in the range, as int; 2.0 is one, 2.5, True and "2" are none.

    Raises
    ------
    InvalidInputError
        For anything else.
    """
    number = _scalar(value)
    if number is not None and at_least <= number <= at_most and number == int(number):
        return int(number)
    highest = "2^31 - 1" if at_most == _MOST else str(at_most)
    raise InvalidInputError(
        f"{what} is {shown(value)}, but {expected or f'a whole number from {at_least} to {highest} is expected'}"
    )


def _scalar(value: object) -> Any:
    """A real number (int or float) of the value, or None."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        return None
    try:
        number = int(value) if isinstance(value, numbers.Integral) else float(value)
        float(number)
    except (OverflowError, ValueError, TypeError):  # 10**400
        return None
    return number


def _range(above: float, at_least: float, below: float, at_most: float) -> str:
    low = f"above {above:g}" if above > -math.inf else f"at least {at_least:g}" if at_least > -math.inf else ""
    high = f"below {below:g}" if below < math.inf else f"at most {at_most:g}" if at_most < math.inf else ""
    return f"a finite number {' and '.join(part for part in (low, high) if part)}".rstrip() + " is expected"


def as_flag(value: object, what: str) -> bool:
    """True or False, and nothing that merely counts as one."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise InvalidInputError(f"{what} is {shown(value)}, but True or False is expected")


def as_choice(value: object, what: str, choices: Iterable[str]) -> str:
    """One of the words."""
    known = list(choices)
    if isinstance(value, str) and value in known:
        return value
    raise InvalidInputError(f"{what} is {shown(value)}; known are {', '.join(known)}")


def as_path(value: object, what: str = "path") -> Path:
    """The path of a file or folder: a string or a path, not empty, without NUL."""
    try:
        text = os.fspath(value)  # type: ignore[call-overload]
    except TypeError:
        raise InvalidInputError(f"{what} is {shown(value)}, but the path of a file is expected") from None
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    if not text or "\0" in text:
        raise InvalidInputError(f"{what} is {shown(text)}, which cannot be a path")
    return Path(text)


def as_size(value: object, what: str = "image_size", *, at_least: int = 1) -> tuple[int, int]:
    """(width, height) in whole pixels."""
    try:
        pair = list(value)  # type: ignore[call-overload]
        if len(pair) == 2:
            return as_count(pair[0], what, at_least=at_least), as_count(pair[1], what, at_least=at_least)
    except (TypeError, InvalidInputError):
        pass
    raise InvalidInputError(f"{what} is {shown(value)}, but (width, height) in whole pixels is expected")


def as_array(
    values: ArrayLike,
    what: str,
    dtype: DTypeLike = np.float64,
    shape: Sequence[int | str] | None = None,
    *,
    finite: bool = True,
    at_least: float | None = None,
    at_most: float | None = None,
) -> NDArray[Any]:
    """A C-contiguous array of real numbers of this type and shape; no value is changed on the way.

    The result may share memory with what came in: who keeps it makes a copy.

    Parameters
    ----------
    values : array_like
        Nested lists, an array, or what converts itself to one, such as a torch tensor on the CPU without gradients.
    what : str
        What they are, in the plural, for the message: 'keypoints'.
    dtype : dtype
        Of the result. For whole numbers the values must be whole and within its range, for bool they must be bool.
    shape : sequence of int and str, optional
        What is expected; a string stands for any length: ``("N", 2)``. The same string is the same length.
    finite : bool
        Whether NaN and infinity are refused.
    at_least, at_most : float, optional
        The range.

    Raises
    ------
    InvalidInputError
        For anything else.
    """
    wanted = np.dtype(dtype)
    try:
        array = np.asarray(values)
    except Exception as error:  # torch raises RuntimeError and TypeError, ragged lists ValueError
        raise InvalidInputError(
            f"{what} cannot be read as an array of {wanted.name}: {_remedy(values) or one_line(error)}"
        ) from error
    if array.size == 0 and array.dtype.kind not in "biuf":
        array = array.astype(wanted)  # an empty list of anything
    allowed = "b" if wanted.kind == "b" else "iuf"
    if array.dtype.kind not in allowed and not (array.size == 0 and array.dtype.kind in "biuf"):
        kind = "words" if array.dtype.kind in "US" else "complex numbers" if array.dtype.kind == "c" else array.dtype
        if array.dtype.kind == "O":
            kind = "objects, or numbers that are too large"
        raise InvalidInputError(f"{what} cannot be read as an array of {wanted.name}: they are {kind}")
    if shape is not None:
        _check_shape(array, what, shape)
    if array.dtype.kind == "f" and finite and not np.isfinite(array).all():
        raise InvalidInputError(f"{what} hold values that are not finite")
    if wanted.kind in "iu" and array.dtype != wanted and array.size:
        info = np.iinfo(wanted)
        with np.errstate(invalid="ignore"):
            good = (array >= info.min) & (array <= info.max) & (np.floor(array) == array)
        if not good.all():
            bad = array[~good].flat[0]
            raise InvalidInputError(f"{what} hold {bad}, but whole numbers from {info.min} to {info.max} are expected")
    if array.size and (
        (at_least is not None and array.min() < at_least) or (at_most is not None and array.max() > at_most)
    ):
        low, high = "" if at_least is None else f"at least {at_least}", "" if at_most is None else f"at most {at_most}"
        raise InvalidInputError(
            f"{what} hold values from {array.min()} to {array.max()}, but "
            f"{' and '.join(part for part in (low, high) if part)} is expected"
        )
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(array, dtype=wanted)
    if wanted.kind == "f" and finite and array.dtype != wanted and not np.isfinite(result).all():
        raise InvalidInputError(f"{what} hold values that are too large for {wanted.name}")
    return result.reshape(array.shape)  # ascontiguousarray makes a row of a single number


def _check_shape(array: NDArray[Any], what: str, shape: Sequence[int | str]) -> None:
    lengths: dict[str, int] = {}
    fits = array.ndim == len(shape) and all(
        lengths.setdefault(want, have) == have if isinstance(want, str) else want == have
        for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        expected = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise InvalidInputError(f"{what} have shape {array.shape}, but ({expected}) is expected")


def _remedy(values: object) -> str:
    """What makes an array of a tensor that refuses to become one; '' for what is no tensor."""
    steps = ""
    if isinstance(values, list | tuple) and values:
        return _remedy(values[0])
    if getattr(values, "requires_grad", False) is True:
        steps += ".detach()"
    if str(getattr(values, "layout", "torch.strided")) != "torch.strided":
        steps += ".to_dense()"
    if getattr(getattr(values, "device", None), "type", "cpu") not in ("cpu", None):
        steps += ".cpu()"
    if str(getattr(values, "dtype", "")) == "torch.bfloat16":
        steps += ".float()"
    return f"use {steps} on the tensor first" if steps else ""
