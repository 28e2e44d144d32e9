"""What is handed to an extractor besides an image: several images, and masks."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..checks import has, shown
from ..errors import ImageError, InvalidInputError, counted
from ..files import forms
from ..images import SUFFIXES, with_mask

__all__ = ["find_mask", "is_batch", "mask_for", "mask_of", "no_mask", "paired"]

Mask = NDArray[np.bool_]

_LOSSY = (".jpg", ".jpeg", ".webp", ".heic", ".heif", ".avif")  # in which the 0 of a mask becomes a little more

_FEW = 200  # masks of a folder among which the nearest name is looked for: it is, for each image without a mask


def is_batch(image: Any) -> bool:
    """Whether it stands for several images: a list, an iterator, or an array or a tensor of four dimensions."""
    if isinstance(image, str | os.PathLike | Image.Image):
        return False
    if has(image, "ndim"):
        return bool(image.ndim == 4)
    return isinstance(image, Iterable)


def paired(images: Iterable[Any], mask: Any) -> Iterator[tuple[Any, Any]]:
    """Each image of a batch with its mask: those of a list or a batch in turn, or the same for all.

    Raises
    ------
    InvalidInputError
        If there are not as many masks as images.
    """
    if not isinstance(mask, list | tuple | Iterator) and not (has(mask, "ndim") and mask.ndim == 4):
        yield from ((image, mask) for image in images)
        return
    if isinstance(images, Sized) and isinstance(mask, Sized) and len(images) != len(mask):
        raise InvalidInputError(
            f"{counted(len(mask), 'mask')} for {counted(len(images), 'image')}: give one for each, or one for all"
        )
    masks = iter(mask)
    for image in images:
        try:
            yield image, next(masks)
        except StopIteration:  # noqa: PERF203 - inside a generator it would end in a RuntimeError
            raise InvalidInputError("there are fewer masks than images") from None


def mask_for(mask: Any, image: Any, taken: dict[Path, Path] | None = None) -> Any:
    """The mask of one image: where `mask` is a folder, the file in it that has the image's name; else `mask` itself.

    Of two photographs of one name, ``left/1.jpg`` and ``right/1.jpg``, each has its own in ``masks/left`` and
    ``masks/right``.

    Parameters
    ----------
    mask, image
        As an extractor takes them, of one image.
    taken : dict, optional
        Which image each mask of the folder went to, of the images of one batch; grows.

    Raises
    ------
    ImageError
        If the folder has no mask of the image.
    InvalidInputError
        If the image has no name, or its mask is another one's already.
    """
    if not isinstance(mask, str | os.PathLike) or not Path(mask).is_dir():
        return mask
    if not isinstance(image, str | os.PathLike):
        raise InvalidInputError(
            f"the mask {mask} is a folder, where masks are found by the names of images: give paths of images, "
            "or a mask for each image"
        )
    own = Path(os.path.abspath(image))  # noqa: PTH100 - links keep the names they have
    names = ("/".join(own.parts[start:]) for start in range(1, len(own.parts)))
    found = next((path for path in (find_mask(Path(mask), name) for name in names) if path is not None), None)
    if found is None:
        raise no_mask(own.name, mask)
    if taken is not None and (other := taken.setdefault(found, own)) != own:
        raise InvalidInputError(
            f"{found} would be the mask of {other} and of {own}: make folders in the folder of masks, or give a list"
        )
    return found


def no_mask(name: str, folder: str | os.PathLike[str]) -> ImageError:
    """The error where a folder has no mask of an image."""
    there = [path.name for path in Path(folder).iterdir()] if Path(folder).is_dir() else []
    near = difflib.get_close_matches(Path(name).name, there, n=1) if len(there) <= _FEW else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ImageError(
        f"there is no mask of {name} in {folder} (looked for {name}, {name}.png and other suffixes){hint}"
    )


def find_mask(folder: Path, name: str) -> Path | None:
    """The mask of the image of that name in a folder: of the same name, with .png added, or with another suffix."""
    for same in (folder / form for form in forms(name)):
        for path in (same, same.with_name(f"{same.name}.png")):
            if path.is_file():
                return path
        for path in sorted(same.parent.glob(f"{glob.escape(same.stem)}.*")) if same.parent.is_dir() else ():
            if path.suffix.lower() in SUFFIXES:
                return path
    return None


def mask_of(mask: Any, shape: tuple[int, int]) -> Mask | None:
    """A mask as (H, W) bool: where it is not 0 in any channel; of an image that is transparent somewhere, where not.

    NaN, and what a NumPy masked array masks, hide as 0 does: there are no data. In files of lossy compression, whose 0
    becomes a little more, it is where the value is above 127.

    Parameters
    ----------
    mask : path, PIL image, array or tensor, or None
        (H, W), (H, W, C) or (C, H, W) of any numbers.
    shape : (int, int)
        (height, width) of the image.

    Raises
    ------
    ImageError
        If a file cannot be read, or is of another size than the image.
    InvalidInputError
        If it is none, or of another size than the image.
    """
    if mask is None:
        return None
    name, least = "the mask", 0
    if isinstance(mask, str | os.PathLike):
        name = f"the mask {mask}"
        least = 127 if Path(mask).suffix.lower() in _LOSSY else 0
        pixels, visible = with_mask(mask, as_mask=True)
    elif isinstance(mask, Image.Image):
        pixels, visible = with_mask(mask, as_mask=True)
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
        kind = ImageError if isinstance(mask, str | os.PathLike) else InvalidInputError
        raise kind(f"{name} has {have} pixels, but the image has {want}")
    return np.ascontiguousarray(kept)


def _numbers(mask: Any) -> NDArray[Any]:
    """(H, W) or (H, W, C) of an array or a tensor; what differs from 0 is 1, but not NaN, nor what is masked."""
    if has(mask, "filled", "mask"):
        mask = mask.filled(0)
    try:
        array = np.asarray(mask.detach().cpu().float().numpy() if has(mask, "detach") else mask)
    except Exception:  # whatever a foreign object raises
        array = np.asarray(None)
    if array.dtype.kind not in "biuf" or array.ndim not in (2, 3):
        raise InvalidInputError(f"the mask is {shown(mask)}, but a path, a PIL image or an array (H, W) is expected")
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    return np.asarray((array != 0) & (array == array))  # NaN alone differs from itself
