"""Checks of what callers hand over: numbers, counts, choices, paths, arrays; one line says what is wrong.

Every function takes the value and its name (`what`, as the caller knows it) and returns the value in the type that the
code behind it works with, or raises InvalidInputError.
"""

from __future__ import annotations

import ast
import math
import os
import reprlib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidInputError, nearest_name, one_line

__all__ = [
    "array",
    "choice",
    "count",
    "did_you_mean",
    "flag",
    "frozen",
    "has",
    "instance",
    "iterable",
    "no_option",
    "number",
    "numbers",
    "path",
    "present",
    "setting",
    "several",
    "shown",
    "size",
    "spelled",
]

Kind = TypeVar("Kind")

_LISTED = 20  # names that a message lists whole
_MOST = 2**31 - 1  # what C libraries hold in an int


def setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE; the value is a Python literal, or else a text."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip().isidentifier():
        raise InvalidInputError(f"{text!r} is not of the form KEY=VALUE")
    try:
        return key.strip(), ast.literal_eval(value.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # all of them, its documentation says
        return key.strip(), value


def shown(value: object) -> str:
    """The value on one line of at most some 60 characters, for a message."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, np.generic):
        value = value.item()
    try:
        return " ".join(short.repr(value).split())
    except Exception:  # a foreign repr may fail
        return f"a {type(value).__name__}"


def number(
    value: object,
    what: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """A finite real number within bounds; `least` and `most` belong to the range, `above` and `below` do not.

    Raises
    ------
    InvalidInputError
        If it is no number, not finite or out of the range; truth values and texts are no numbers.
    """
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    try:
        result = float(value) if real else math.nan  # type: ignore[arg-type]
    except OverflowError:
        result = math.nan
    if (
        not math.isfinite(result)
        or (least is not None and result < least)
        or (most is not None and result > most)
        or (above is not None and result <= above)
        or (below is not None and result >= below)
    ):
        raise InvalidInputError(f"{what} is {shown(value)}, but must be a {_range(least, most, above, below)}")
    return result


def _range(least: float | None, most: float | None, above: float | None, below: float | None) -> str:
    """The bounds in words."""
    low = f"at least {least:g}" if least is not None else f"above {above:g}" if above is not None else ""
    high = f"at most {most:g}" if most is not None else f"below {below:g}" if below is not None else ""
    return "finite number" + (" " if low or high else "") + " and ".join(bound for bound in (low, high) if bound)


def count(value: object, what: str, *, least: int = 0, most: int = _MOST) -> int:
    """A whole number from `least` to `most`; floats are none, even 3.0.

    Raises
    ------
    InvalidInputError
        If it is no whole number or out of the range.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not least <= int(value) <= most:  # type: ignore[call-overload]
        upper = f", at least {least}" if most == _MOST else f" from {least} to {most}"
        raise InvalidInputError(f"{what} is {shown(value)}, but must be a whole number{upper}")
    return int(value)  # type: ignore[call-overload, no-any-return]


def flag(value: object, what: str) -> bool:
    """True or False, and nothing that merely counts as one of them.

    Raises
    ------
    InvalidInputError
        If it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise InvalidInputError(f"{what} is {shown(value)}, but must be True or False")
    return bool(value)


def several(values: Any, what: str, kind: str) -> Iterator[Any]:
    """Several values, of which a text is none, though its characters are.

    Raises
    ------
    InvalidInputError
        If they cannot be gone through; `kind` says what is expected.
    """
    if not isinstance(values, str | bytes):
        with suppress(Exception):  # whatever a foreign object raises
            return iter(values)
    raise InvalidInputError(f"{what} is {shown(values)}, but {kind} is expected")


def no_option(what: str, unknown: Sequence[str], known: Sequence[str]) -> str:
    """What is wrong with options that something does not take: the nearest of those that it takes, and all of them."""
    near = [repr(match) for name in unknown if (match := nearest_name(name, known)) is not None]
    hint = f" (did you mean {', '.join(near)}?)" if near else ""
    return f"{what} has no option {', '.join(unknown)}{hint}; it takes {', '.join(known)}"


def did_you_mean(name: str, known: Sequence[str], listing: str = "") -> str:
    """The end of a message about an unknown name: the nearest of those that there are, or the first of them.

    `listing` says what lists all of them, where they are many.
    """
    near = nearest_name(name, known)
    if near is not None:
        return f"did you mean {near!r}?"
    if len(known) <= _LISTED:
        return f"there are {', '.join(known)}"
    return f"there are {len(known)}, such as {', '.join(known[:3])}" + (f"; {listing}" if listing else "")


def choice(value: object, what: str, known: Sequence[str]) -> str:
    """One of the names in `known`, whatever its case.

    Raises
    ------
    InvalidInputError
        If it is none of them; the message has the nearest.
    """
    if isinstance(value, str):
        for name in known:
            if name.lower() == value.lower():
                return name
        raise InvalidInputError(f"{what} is {shown(value)}: {did_you_mean(value, known)}")
    raise InvalidInputError(f"{what} is {shown(value)}, but must be one of {', '.join(known)}")


def path(value: object, what: str) -> Path:
    """A path of the file system, see `spelled`.

    Raises
    ------
    InvalidInputError
        If it is neither a text nor a path, or holds a NUL, which no file system takes.
    """
    if not isinstance(value, str | os.PathLike):
        raise InvalidInputError(f"{what} is {shown(value)}, but must be the path of a file")
    text = os.fsdecode(value)
    if not text or "\0" in text:
        raise InvalidInputError(f"{what} is {shown(text)}, but must be the path of a file")
    return Path(spelled(text))


def spelled(path: str) -> str:
    """A path as its files and folders are called, where they are there under another Unicode form of these names.

    macOS writes names decomposed, a keyboard writes them composed: they look the same, and Linux takes them for others.
    """
    if path.isascii() or os.path.lexists(path):
        return path
    whole = Path(path)
    found = Path(whole.anchor)
    for part in whole.relative_to(whole.anchor).parts:
        others = (unicodedata.normalize(form, part) for form in ("NFC", "NFD"))
        found = next((found / name for name in (part, *others) if os.path.lexists(found / name)), found / part)
    return str(found)


def size(value: object, what: str = "image_size", *, least: int = 1) -> tuple[int, int]:
    """(width, height) in whole pixels.

    Raises
    ------
    InvalidInputError
        If it is anything else than two whole numbers of at least `least`.
    """
    try:
        width, height = list(value)  # type: ignore[call-overload]
    except Exception:  # not iterable, or not two; whatever a foreign object raises
        raise InvalidInputError(f"{what} is {shown(value)}, but must be (width, height) in whole pixels") from None
    return count(width, f"the width in {what}", least=least), count(height, f"the height in {what}", least=least)


def array(
    values: object,
    what: str,
    shape: tuple[int | str, ...] | None = None,
    dtype: Any = np.float64,
    *,
    least: float | None = None,
    finite: bool = True,
) -> NDArray[Any]:
    """An array of real numbers of a type and a shape, C-contiguous, with the values that came in.

    Whole numbers are never cut or wrapped: 300 is no uint8, 0.9 no index. What is too large for a float is refused too.

    Parameters
    ----------
    values : array_like
        A torch tensor that NumPy cannot read is refused with what makes it readable.
    what : str
        What they are, in the plural or the singular that the caller's name has.
    shape : tuple of int or str, optional
        What is expected: a number for a fixed length, a letter for any.
    dtype : dtype
        What is returned.
    least : float, optional
        The least value that is allowed.
    finite : bool
        Whether NaN and infinities are refused.

    Raises
    ------
    InvalidInputError
        If it cannot be read as such an array.
    """
    wanted = np.dtype(dtype)
    given = numbers(values, what)
    if shape is not None:
        fits = given.ndim == len(shape) and all(
            isinstance(want, str) or have == want for have, want in zip(given.shape, shape, strict=True)
        )
        if not fits:
            text = f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
            raise InvalidInputError(f"{what} have shape {given.shape}, but {text} is expected")
    if given.dtype == wanted and wanted.kind in "biu":
        pass
    elif wanted.kind == "f":
        _check_floats(given, what, wanted, finite)
    elif wanted.kind in "iu":
        _check_whole(given, what, wanted)
    if least is not None and given.size and given.min() < least:
        raise InvalidInputError(f"{what} hold {given.min():g}, but must be at least {least:g}")
    return np.ascontiguousarray(given, dtype=wanted)


def has(value: object, *names: str) -> bool:
    """Whether an object has all these attributes, whatever it does when it is asked."""
    try:
        return all(hasattr(value, name) for name in names)
    except Exception:
        return False


def instance(value: Any, what: str, kind: type[Kind], hint: str = "") -> Kind:
    """The value, if it is of that class.

    Raises
    ------
    InvalidInputError
        If it is of another one.
    """
    if not isinstance(value, kind):
        raise InvalidInputError(f"{what} is {shown(value)}, but {kind.__name__} is expected{hint and f': {hint}'}")
    return value


def present(value: Kind | None, what: str) -> Kind:
    """The value, if there is one.

    Raises
    ------
    InvalidInputError
        If it is None.
    """
    if value is None:
        raise InvalidInputError(f"{what} is None, but is needed")
    return value


def iterable(values: Iterable[Kind], what: str, of: str) -> Iterable[Kind]:
    """A list or anything else that can be gone through, but no text; `of` says what it holds, in the plural.

    Raises
    ------
    InvalidInputError
        If it is none.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidInputError(f"{what} is {shown(values)}, but several {of} are expected")
    return values


def numbers(values: object, what: str) -> NDArray[Any]:
    """Whatever it is as a NumPy array of real numbers or truth values, of any shape.

    Raises
    ------
    InvalidInputError
        If it cannot be read as one; the message has the remedy for a torch tensor.
    """
    remedy = _of_tensor(values)
    if remedy:
        raise InvalidInputError(f"{what} cannot be read as an array: a torch tensor {remedy}")
    try:
        given = np.asarray(values)
    except Exception as error:  # whatever a foreign object's __array__ raises
        raise InvalidInputError(f"{what} cannot be read as an array of numbers: {one_line(error)}") from None
    if given.dtype.kind not in "biuf":
        kind = {"c": "complex numbers", "O": "objects that are no numbers", "M": "dates", "m": "durations"}
        found = kind.get(given.dtype.kind, "texts" if given.dtype.kind in "US" else str(given.dtype))
        raise InvalidInputError(f"{what} cannot be read as an array of numbers: they hold {found}")
    return given


def _of_tensor(values: object) -> str:
    """What a torch tensor lacks for NumPy to read it, and the remedy; empty where it can be read."""
    if not has(values, "detach", "requires_grad", "dtype"):
        return ""
    tensor: Any = values
    if tensor.requires_grad:
        return "that requires grad; use .detach()"
    if str(tensor.dtype) == "torch.bfloat16":
        return "of bfloat16, which NumPy lacks; use .float()"
    device = str(getattr(tensor, "device", "cpu"))
    return "" if device.startswith("cpu") else f"on {device}; use .cpu()"


def _check_floats(given: NDArray[Any], what: str, wanted: np.dtype[Any], finite: bool) -> None:
    if not given.size or given.dtype.kind != "f":
        return
    if finite and not np.isfinite(given).all():
        raise InvalidInputError(f"{what} hold values that are not finite")
    if given.dtype.itemsize > wanted.itemsize:
        numbers = given[np.isfinite(given)]
        if numbers.size and max(numbers.max(), -numbers.min()) > np.finfo(wanted).max:
            raise InvalidInputError(f"{what} hold values that are too large for {wanted}")


def _check_whole(given: NDArray[Any], what: str, wanted: np.dtype[Any]) -> None:
    info = np.iinfo(wanted)
    if not given.size or given.dtype.kind == "b":
        return
    low, high = given.min(), given.max()  # NaN, if there is one
    if given.dtype.kind == "f" and not np.isfinite([low, high]).all():
        wrong: Any = low if not np.isfinite(low) else high
    elif low < info.min or high > info.max:
        wrong = low if low < info.min else high
    elif given.dtype.kind == "f" and (given != np.rint(given)).any():
        wrong = given[given != np.rint(given)][0]
    else:
        return
    raise InvalidInputError(f"{what} hold {wrong}, but must be whole numbers from {info.min} to {info.max}")


def frozen(values: NDArray[Any]) -> NDArray[Any]:
    """The same values in memory that nobody else can write to: read-only, and copied where someone could.

    Parameters
    ----------
    values : ndarray
        As `array` returns it.
    """
    owner: Any = values
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            values = values.copy()
            values.flags.writeable = False
            return values
        owner = owner.base
    if owner is not None:  # memory of another kind, which may change: a buffer, a mapped file
        values = values.copy()
        values.flags.writeable = False
    return values
