"""The descriptors of an image as arrays: what they may be, and those of the rotated image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import InvalidInputError
from .rows import is_number


def check_rotations(descriptors: NDArray[Any], rotations: object) -> None:
    """Refuse descriptors that cannot be of so many rotations."""
    if not is_number(rotations) or rotations not in (1, 4):
        raise InvalidInputError(f"rotations is {checks.shown(rotations)}, but must be 1 or 4")
    if descriptors.shape[1] % int(rotations):
        raise InvalidInputError(f"descriptors of {rotations} rotations cannot have {descriptors.shape[1]} columns")


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


def rotated(descriptors: NDArray[Any], rotations: int, turns: int) -> NDArray[Any]:
    """Those of the image rotated counter-clockwise by quarter turns: each part in the place of the one before it."""
    return np.roll(descriptors, -turns * (descriptors.shape[1] // rotations), axis=1)
