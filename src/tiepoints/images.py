"""Reading photographs right, whatever made them: one way in, uint8 RGB or grey out."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import checks
from .cutouts import shown_where, unmasked
from .decode import Mask, decode, opened, orientation_of, turned, upright_size
from .drawing import Picture
from .errors import ImageError, InvalidInputError, one_line

__all__ = ["as_image", "find_images", "read", "resize_to", "to_grey", "with_mask"]

UInt8 = NDArray[np.uint8]
PathLike = str | os.PathLike[str]

_CHANNELS = (1, 3, 4)
_ROUNDING = 1e-3  # by which resampling may leave [0, 1]

#: What `find_images` takes for a photograph in a folder.
SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".pnm", ".gif", ".jp2", ".avif"]
    + [".heic", ".heif"]
)
#: Suffixes of videos, whose frames are taken where the video itself is named.
VIDEOS = frozenset([".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".mts", ".3gp"])


@overload
def read(
    path: PathLike,
    *,
    grey: bool = False,
    upright: bool = True,
    with_mask: Literal[False] = False,
    value_range: tuple[float, float] | None = None,
    max_pixels: int | None = None,
) -> UInt8: ...
@overload
def read(
    path: PathLike,
    *,
    grey: bool = False,
    upright: bool = True,
    with_mask: Literal[True],
    value_range: tuple[float, float] | None = None,
    max_pixels: int | None = None,
) -> tuple[UInt8, Mask | None]: ...
def read(
    path: PathLike,
    *,
    grey: bool = False,
    upright: bool = True,
    with_mask: bool = False,
    value_range: tuple[float, float] | None = None,
    max_pixels: int | None = None,
) -> UInt8 | tuple[UInt8, Mask | None]:
    """Read a photograph as it is meant to be looked at.

    The EXIF orientation is applied. Palette, CMYK and other colour spaces become RGB; what is transparent is laid on
    white. Of several pages or frames the first is read.

    Images of more than 8 bits, whole numbers and floats, are stretched linearly, all channels by the same scale: the
    percentiles 0.1 and 99.9 of the pixels that hold data become black and white, except for outliers beyond a quarter
    of the range of the middle 98 %, which are cut off. So the scale depends neither on the number of bits nor on single
    pixels; `value_range` sets it for frames that are to be on exactly one. No data are NaN, infinity, the value that
    GDAL's tag names, else -9999, -32768 and the like, and 0 or the type's largest number where they lie far from all
    other values; they become 0.

    Parameters
    ----------
    path : str or path
        JPEG, PNG, TIFF, WebP, AVIF, BMP, PNM, JPEG 2000, GIF, and HEIC with the extra ``heif``.
    grey : bool
        Return one channel (luma, ITU-R BT.601) instead of RGB.
    upright : bool
        Whether to apply the EXIF orientation; False gives the pixels as they are stored, as COLMAP reads them.
    with_mask : bool
        Return also where there is a picture.
    value_range : (float, float), optional
        The values that become 0 and 255 in images of more than 8 bits.
    max_pixels : int, optional
        Refuse larger images before decoding them; by default the environment's TIEPOINTS_MAX_PIXELS, else 2**28.

    Returns
    -------
    image : (H, W, 3) or (H, W) uint8
        RGB or grey, C-contiguous, the caller's own; a notebook shows it. Without `with_mask` the mask below is its
        attribute `mask`, which extractors obey.
    mask : (H, W) bool or None
        With `with_mask`: False where the picture is transparent, by more than half, or holds no data; None where it is
        neither anywhere. A fourth band counts as transparency where it is mostly 0 or 255, as masks are.

    Raises
    ------
    ImageError
        If there is no such file, or it is empty, truncated, damaged, too large or no image; one line, naming the file.
    InvalidInputError
        If an argument is none of the above.

    Examples
    --------
    >>> import tiepoints as tp
    >>> image = tp.read("examples/desk_1.jpg")
    >>> image.shape, image.dtype.name
    ((480, 640, 3), 'uint8')
    """
    path = checks.path(path, "path")
    for name, value in (("grey", grey), ("upright", upright), ("with_mask", with_mask)):
        checks.flag(value, name)
    limits = None
    if value_range is not None:
        low, high = (float(v) for v in checks.array(value_range, "value_range", (2,)))
        if not low < high:
            raise InvalidInputError(f"value_range is {checks.shown(value_range)}, but must be (low, high), low < high")
        limits = low, high
    with opened(path, max_pixels) as image:
        pixels, mask, turn = decode(image, str(path), limits)
    pixels, mask = _finished(pixels, mask, turn if upright else 1, grey)
    if with_mask:
        return pixels, mask
    picture = pixels.view(Picture)
    picture.mask = mask
    return picture


def _finished(pixels: UInt8, mask: Mask | None, turn: int, grey: bool) -> tuple[UInt8, Mask | None]:
    if grey:
        pixels = to_grey(pixels)
    elif pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    pixels = np.require(turned(pixels, turn), requirements=["C", "W", "O"])  # a copy where Pillow owns the memory
    return pixels, None if mask is None else np.ascontiguousarray(turned(mask, turn))


def to_grey(image: UInt8) -> UInt8:
    """The luma of an RGB image, by ITU-R BT.601; a grey image comes back as it is.

    Parameters
    ----------
    image : (H, W, 3) or (H, W) uint8
        RGB, or grey.

    Returns
    -------
    grey : (H, W) uint8

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.images import to_grey
    >>> to_grey(tp.read("examples/desk_1.jpg")).shape
    (480, 640)
    """
    checks.instance(image, "image", np.ndarray)
    if image.ndim == 2:
        return image
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def resize_to(image: UInt8, max_size: int | None) -> tuple[UInt8, tuple[float, float]]:
    """Shrink an image so that its long edge has at most `max_size` pixels; smaller ones stay as they are.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) uint8
    max_size : int, optional
        In pixels; None leaves the image as it is.

    Returns
    -------
    image : (h, w) or (h, w, 3) uint8
    scale : (float, float)
        Original size / new size in x and y. With pixel centres at whole numbers, a coordinate k of the small image lies
        at (k + 0.5) * scale - 0.5 in the original.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.images import resize_to
    >>> small, scale = resize_to(tp.read("examples/desk_1.jpg"), 320)
    >>> small.shape, scale
    ((240, 320, 3), (2.0, 2.0))
    """
    checks.instance(image, "image", np.ndarray)
    height, width = image.shape[:2]
    if max_size is None or max(height, width) <= max_size:
        return image, (1.0, 1.0)
    factor = max_size / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8), (width / size[0], height / size[1])


def find_images(sources: Iterable[PathLike]) -> list[Path]:
    """The image files that the given files, folders (with all below them) and glob patterns stand for.

    Parameters
    ----------
    sources : iterable of path

    Returns
    -------
    paths : list of Path
        Without repetition; in the order given, inside a folder or a pattern by name.

    Raises
    ------
    ImageError
        If a source does not exist, or holds no image.

    Examples
    --------
    >>> from tiepoints.images import find_images
    >>> [path.name for path in find_images(["examples/box.png", "examples/desk_*.jpg"])]
    ['box.png', 'desk_1.jpg', 'desk_2.jpg']
    """
    checks.iterable(sources, "sources", "paths")
    found: dict[Path, None] = {}
    for source in sources:
        try:
            found.update(dict.fromkeys(_images_of(source)))
        except PermissionError as error:  # noqa: PERF203 - a source is a folder of many images
            raise ImageError(f"{error.filename or source}: not readable (permission denied)") from None
    return list(found)


def _images_of(source: PathLike) -> list[Path]:
    path = checks.path(source, "source")
    if path.is_dir():

        def refuse(error: OSError) -> None:  # os.walk would leave the folder out without a word
            raise error

        names = (Path(folder) / name for folder, _, files in os.walk(path, onerror=refuse) for name in files)
        inside = sorted(p for p in names if p.suffix.lower() in SUFFIXES)
        if not inside:
            raise ImageError(f"{path}: no images in this folder (looked for {', '.join(sorted(SUFFIXES))})")
        return inside
    if path.exists():
        return [path]
    if not glob.has_magic(str(source)):
        raise ImageError(f"{path}: no such file or folder")
    hits = glob.glob(str(source), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    files = sorted(p for p in map(Path, hits) if not p.is_dir())
    if not files:
        raise ImageError(f"{source}: no file fits this pattern")
    return files


def as_image(image: Any) -> UInt8:
    """What was handed over as an image, as (H, W) or (H, W, 3) uint8 with at least one pixel; C-contiguous.

    Parameters
    ----------
    image : array, PIL image or torch tensor
        An array or a tensor is (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels (grey, RGB, RGBA) of uint8,
        truth values or floats in [0, 1]; a tensor may be on any device. A PIL image of any mode is decoded as `read`
        does, its EXIF orientation applied.

    Returns
    -------
    image : (H, W) or (H, W, 3) uint8

    Raises
    ------
    InvalidInputError
        For any other shape or type; the message says how to convert it.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.images import as_image
    >>> image = as_image(np.ones((3, 48, 64)))  # channels first, floats in [0, 1]
    >>> image.shape, int(image.max())
    ((48, 64, 3), 255)
    """
    return with_mask(image)[0]


def with_mask(image: Any, *, as_mask: bool = False) -> tuple[UInt8, Mask | None]:
    """An image as `as_image` takes it, or the path of one, and where it shows something.

    Parameters
    ----------
    image : path, array, PIL image or torch tensor
    as_mask : bool
        Whether a file or a PIL image is a mask or holds labels, of which none stands for no data, and all but 0 count
        alike where there are more than 8 bits.

    Returns
    -------
    pixels : (H, W) or (H, W, 3) uint8
    mask : (H, W) bool or None
        As `read` returns it: False where it is transparent or holds no data.

    Raises
    ------
    ImageError
        If a file cannot be read.
    InvalidInputError
        If it is nothing of the kind.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.images import with_mask
    >>> rgba = np.full((48, 64, 4), 255, np.uint8)
    >>> rgba[:, :32, 3] = 0  # the left half is transparent
    >>> pixels, mask = with_mask(rgba)
    >>> pixels.shape, float(mask.mean())
    ((48, 64, 3), 0.5)
    """
    if isinstance(image, str | os.PathLike):
        with opened(image) as file:
            pixels, mask, turn = decode(file, str(image), as_mask=as_mask)
        return _finished(pixels, mask, turn, grey=False)
    if isinstance(image, Image.Image):
        try:
            pixels, mask, turn = decode(image, "the PIL image", as_mask=as_mask)
        except ImageError:
            raise
        except Exception as error:  # a lazy one's file may be damaged, or closed
            raise InvalidInputError(f"the PIL image cannot be decoded ({one_line(error)})") from error
        return np.ascontiguousarray(turned(pixels, turn)), None if mask is None else turned(mask, turn)
    if isinstance(image, Picture) and image.mask is not None and image.mask.shape == image.shape[:2]:
        return as_image(np.asarray(image)), image.mask
    if checks.has(image, "filled", "mask"):  # a masked array; numpy.ma takes long to import where there is none
        pixels, mask = with_mask(image.filled(0))
        return pixels, unmasked(image, pixels, mask)
    tensor = checks.has(image, "detach", "numpy")
    array = _to_8_bits(_channels_last(_of_tensor(image) if tensor else _as_array(image), first=tensor))
    if array.ndim == 3 and array.shape[2] == 4:
        mask = shown_where(array[:, :, 3])
        return np.ascontiguousarray(array[:, :, :3]), None if mask.all() else mask
    return np.ascontiguousarray(array[:, :, 0] if array.shape[2:] == (1,) else array), None


def _as_array(image: Any) -> NDArray[Any]:
    try:
        array = np.asarray(image)
    except Exception as error:  # whatever a foreign object's __array__ raises
        raise InvalidInputError(f"the image cannot be read as an array: {one_line(error)}") from None
    if array.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"the image is {checks.shown(image)}, but a path, an array, a PIL image or a torch tensor is expected"
        )
    return array


def _of_tensor(tensor: Any) -> NDArray[Any]:
    """A torch tensor of any type, on any device, as an array."""
    try:
        tensor = tensor.detach().cpu()
        return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())
    except Exception as error:  # sparse or quantized ones, those of the device meta
        raise InvalidInputError(f"the tensor cannot be read as an image: {one_line(error)}") from None


def _channels_last(array: NDArray[Any], first: bool) -> NDArray[Any]:
    """(H, W) or (H, W, C) of an array; where both ends could be the channels, `first` says which they are."""
    if array.ndim == 3 and array.shape[0] in _CHANNELS and (first or array.shape[2] not in _CHANNELS):
        array = array.transpose(1, 2, 0)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
        raise InvalidInputError(
            f"an image is (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels, but this one has shape {array.shape}"
        )
    if array.size == 0:
        raise InvalidInputError(f"an image of shape {array.shape} has no pixels")
    return array


def _to_8_bits(array: NDArray[Any]) -> UInt8:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind != "f":
        raise InvalidInputError(
            f"an image must be uint8, or floats in [0, 1], but this one is {array.dtype}: "
            "scale it to 0..255 and use .astype('uint8')"
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # NaN fails too
        held = f"in [{low:g}, {high:g}]: divide it by its largest possible value, or, of 255, use .astype('uint8')"
        if not np.isfinite(array).all():
            held = "holds NaN or infinity: replace these, for instance by np.nan_to_num(image, posinf=1, neginf=0)"
        raise InvalidInputError(f"an image of floats lies in [0, 1], but this one {held}")
    return np.asarray(np.rint(np.clip(array, 0, 1) * 255), np.uint8)


class Header(NamedTuple):
    """What the header of an image file tells."""

    size: tuple[int, int]
    """(width, height) of the upright image in pixels."""
    orientation: int
    """EXIF's, 1 to 8; the pixels are stored upright where it is 1."""


def header_of(path: PathLike) -> Header:
    """Size and orientation of an image file, without decoding it.

    Raises
    ------
    ImageError
        If the file cannot be opened as an image.
    """
    with opened(path) as image:
        return Header(upright_size(image), orientation_of(image))
