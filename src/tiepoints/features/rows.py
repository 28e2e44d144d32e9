"""One row of features, and picking rows of features and of matches."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import array, numbers
from ..errors import InvalidInputError

__all__ = ["Keypoint", "index_of", "is_number", "locked"]


class Keypoint(NamedTuple):
    """One row of `Features`: what iterating over them and indexing them by a number gives.

    Examples
    --------
    >>> import tiepoints as tp
    >>> keypoint = tp.load("orb")("examples/box.png")[0]
    >>> 0 <= keypoint.x <= 323, keypoint.set is None, keypoint.scale is None
    (True, True, False)
    """

    x: float
    y: float
    score: float
    set: int | None = None
    scale: float | None = None
    angle: float | None = None
    uncertainty: float | None = None


def is_number(which: object) -> bool:
    """Whether it picks one row."""
    return isinstance(which, int | np.integer) and not isinstance(which, bool)


def index_of(which: ArrayLike | slice, length: int, what: str) -> NDArray[Any] | slice:
    """What picks rows: a slice, a mask of the right length, or numbers in range (negative ones count from the end)."""
    if isinstance(which, slice):
        return which
    given = numbers(which, "row numbers")
    if given.dtype == bool:
        if given.shape != (length,):
            raise InvalidInputError(f"the mask has shape {given.shape}, but there are {length} {what}")
        return given
    index = array(given if given.size else np.zeros(0), "row numbers", ("K",), np.intp)
    if index.size and not -length <= index.min() <= index.max() < length:
        raise InvalidInputError(f"row numbers reach {index.min()} to {index.max()}, but there are {length} {what}")
    return index


def locked(values: NDArray[Any]) -> NDArray[Any]:
    """A fresh array (or a view of a frozen one) as read-only, so that it need not be copied again."""
    values.flags.writeable = False
    return values
