"""What is handed to an extractor besides an image: several images, and masks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..checks import has, shown
from ..errors import InvalidInputError
from ..images import read, with_mask

__all__ = ["is_batch", "mask_of", "masks_of"]

Mask = NDArray[np.bool_]

_LOSSY = (".jpg", ".jpeg", ".webp", ".heic", ".heif", ".avif")  # in which the 0 of a mask becomes a little more


def is_batch(image: Any) -> bool:
    """Whether it stands for several images: a list, an iterator, or an array or a tensor of four dimensions."""
    if isinstance(image, str | os.PathLike | Image.Image):
        return False
    if has(image, "ndim"):
        return bool(image.ndim == 4)
    return isinstance(image, Iterable)


def masks_of(mask: Any) -> Iterator[Any]:
    """A mask for each image of a batch: those of a list or a batch in turn, or the same for all."""
    if isinstance(mask, list | tuple | Iterator) or (has(mask, "ndim") and mask.ndim == 4):
        yield from mask
        raise InvalidInputError("there are fewer masks than images")
    while True:
        yield mask


def mask_of(mask: Any, shape: tuple[int, int]) -> Mask | None:
    """A mask as (H, W) bool: where it is not 0 in any channel; of an image that is transparent somewhere, where not.

    In files of lossy compression, whose 0 becomes a little more, it is where the value is above 127.

    Parameters
    ----------
    mask : path, PIL image, array or tensor, or None
        (H, W), (H, W, C) or (C, H, W) of any numbers.
    shape : (int, int)
        (height, width) of the image.

    Raises
    ------
    ImageError
        If a file cannot be read.
    InvalidInputError
        If it is none, or of another size than the image.
    """
    if mask is None:
        return None
    name, least = "the mask", 0
    if isinstance(mask, str | os.PathLike):
        name = f"the mask {mask}"
        least = 127 if Path(mask).suffix.lower() in _LOSSY else 0
        pixels, visible = read(mask, with_mask=True)
    elif isinstance(mask, Image.Image):
        pixels, visible = with_mask(mask)
    else:
        pixels, visible = _numbers(mask), None
    if visible is not None:
        kept = visible
    elif pixels.ndim == 3:
        seen = pixels.shape[2] == 4 and bool((pixels[:, :, 3] == 0).any())
        kept = pixels[:, :, 3] > 0 if seen else pixels[:, :, :3].max(axis=2) > least
    else:
        kept = pixels > least
    if kept.shape != shape:
        have, want = (f"{width}x{height}" for height, width in (kept.shape, shape))
        raise InvalidInputError(f"{name} has {have} pixels, but the image has {want}")
    return np.ascontiguousarray(kept)


def _numbers(mask: Any) -> NDArray[Any]:
    """(H, W) or (H, W, C) of an array or a tensor; what differs from 0 is 1."""
    try:
        array = np.asarray(mask.detach().cpu().float().numpy() if has(mask, "detach") else mask)
    except Exception:  # whatever a foreign object raises
        array = np.asarray(None)
    if array.dtype.kind not in "biuf" or array.ndim not in (2, 3):
        raise InvalidInputError(f"the mask is {shown(mask)}, but a path, a PIL image or an array (H, W) is expected")
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    return np.asarray(array != 0)
