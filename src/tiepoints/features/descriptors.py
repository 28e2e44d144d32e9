"""The descriptors of an image as arrays: what they may be, and those of one rotation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import InvalidInputError
from .rows import is_number


def columns_of_one(descriptors: NDArray[Any], rotations: object) -> int:
    """The columns of the descriptors of one rotation."""
    if not is_number(rotations) or rotations not in (1, 4):
        raise InvalidInputError(f"rotations is {checks.shown(rotations)}, but must be 1 or 4")
    columns, rest = divmod(descriptors.shape[1], int(rotations))
    if rest:
        raise InvalidInputError(f"descriptors of {rotations} rotations cannot have {descriptors.shape[1]} columns")
    return int(columns)


def refuse_quantised(descriptors: NDArray[Any]) -> None:
    """Refuse SIFT's vectors of 128 bytes, which would be taken for 1,024 bits; OpenCV and COLMAP scale them to 512."""
    if descriptors.dtype != np.uint8 or descriptors.shape[1] != 128:
        return
    lengths = np.linalg.norm(descriptors.astype(np.float32), axis=1)
    lengths = lengths[lengths > 0]
    if len(lengths) and (np.abs(lengths / 512 - 1) < 0.05).all():  # of random bits it is about 1670
        raise InvalidInputError(
            "descriptors are SIFT's of 128 bytes, but uint8 means bits: "
            "use descriptors.astype('float32') / 512, or Features.from_opencv"
        )


def of_rotation(descriptors: NDArray[Any], rotations: int, turns: int) -> NDArray[Any]:
    """The columns of one of the rotations, brought to the length of the whole: unit length, 127 times it, or bits."""
    columns = descriptors.shape[1] // rotations
    one = descriptors[:, turns * columns : (turns + 1) * columns]
    if descriptors.dtype == np.uint8:
        return one
    lengths = np.linalg.norm(one.astype(np.float32), axis=1, keepdims=True)
    unit = np.asarray(one / np.maximum(lengths, np.float32(1e-12)), np.float32)
    return np.rint(127 * unit).astype(np.int8) if descriptors.dtype == np.int8 else unit
