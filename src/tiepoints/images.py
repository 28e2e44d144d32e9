"""Reading photographs right, whatever made them: one way in, uint8 RGB or grey out."""

from __future__ import annotations

import glob
import math
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from .camera import Camera
from .errors import ImageError, InvalidInputError

__all__ = ["camera_of", "find_images", "read", "resize_to", "to_grey"]

UInt8 = NDArray[np.uint8]
PathLike = str | os.PathLike[str]

#: What `find_images` takes for a photograph in a folder.
SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".pnm", ".gif", ".jp2", ".avif"]
    + [".heic", ".heif"]
)

#: Larger images are refused before they are decoded, unless told otherwise: 2**28 pixels, a 16,384-pixel square, holds
#: the largest phone pictures (200 megapixels) and takes 0.8 GB once decoded.
MAX_PIXELS = 2**28

_EXIF_IFD = 0x8769
_ORIENTATION, _FOCAL, _FOCAL_35MM = 0x0112, 0x920A, 0xA405
_PLANE_X_RESOLUTION, _PLANE_UNIT = 0xA20E, 0xA210
_open_lock = threading.Lock()


def read(path: PathLike, *, grey: bool = False, max_pixels: int | None = None) -> UInt8:
    """Read a photograph as it is meant to be looked at.

    The EXIF orientation is applied. Palette, CMYK and other colour spaces become RGB; what is transparent is laid on
    white. Deeper images are brought to 8 bits linearly: integers by the smallest whole number of bits that holds their
    maximum (a 12-bit sensor's values in a 16-bit file keep their full contrast), floats from [0, 1], or from their own
    range where they leave it. Of several pages or frames the first is read.

    Parameters
    ----------
    path : str or path
        JPEG, PNG, TIFF, WebP, AVIF, BMP, PNM, JPEG 2000, GIF, and HEIC with the extra ``heif``.
    grey : bool
        Return one channel (luma, ITU-R BT.601) instead of RGB.
    max_pixels : int, optional
        Refuse larger images before decoding them; by default the environment's TIEPOINTS_MAX_PIXELS, else 2**28.

    Returns
    -------
    image : (H, W, 3) or (H, W) uint8
        RGB or grey, C-contiguous.

    Raises
    ------
    ImageError
        If there is no such file, or it is empty, truncated, damaged, too large or no image; one line, naming the file.
    """
    path = Path(path)
    limit = _pixel_limit(max_pixels)
    with _opened(path, limit) as image:
        pixels = _decode(path, image)
        turn = _orientation(image)
    if grey:
        pixels = to_grey(pixels)
    elif pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return np.ascontiguousarray(_upright(pixels, turn))


def to_grey(image: UInt8) -> UInt8:
    """The luma of an RGB image (H, W, 3), by ITU-R BT.601; a grey image (H, W) comes back as it is."""
    if image.ndim == 2:
        return image
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def resize_to(image: UInt8, max_size: int | None) -> tuple[UInt8, tuple[float, float]]:
    """Shrink an image so that its long edge has at most `max_size` pixels; smaller ones stay as they are.

    Returns
    -------
    image : (h, w) or (h, w, 3) uint8
    scale : (float, float)
        Original size / new size in x and y. With pixel centres at whole numbers, a coordinate k of the small image lies
        at (k + 0.5) * scale - 0.5 in the original.
    """
    height, width = image.shape[:2]
    if max_size is None or max(height, width) <= max_size:
        return image, (1.0, 1.0)
    factor = max_size / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8), (width / size[0], height / size[1])


def find_images(sources: Iterable[PathLike]) -> list[Path]:
    """The image files that the given files, folders (with all below them) and glob patterns stand for.

    Returns
    -------
    paths : list of Path
        Without repetition; in the order given, inside a folder or a pattern by name.

    Raises
    ------
    ImageError
        If a source does not exist, or holds no image.
    """
    found: dict[Path, None] = {}
    for source in sources:
        try:
            found.update(dict.fromkeys(_images_of(source)))
        except PermissionError as error:  # noqa: PERF203 - a source is a folder of many images
            raise ImageError(f"{error.filename or source}: not readable (permission denied)") from None
    return list(found)


def _images_of(source: PathLike) -> list[Path]:
    path = Path(source)
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
    files = sorted(p for p in map(Path, hits) if p.is_file())
    if not files:
        raise ImageError(f"{source}: no file fits this pattern")
    return files


def camera_of(path: PathLike, *, default_focal: float = 1.2) -> Camera:
    """The camera that made a photograph, from its EXIF data.

    The focal length is taken from its 35 mm equivalent, else from the focal length and the density of the sensor's
    pixels. Where EXIF has neither, it is guessed as `default_focal` times the long edge and `focal_is_known` is False
    (COLMAP guesses the same).

    Returns
    -------
    camera : Camera
        SIMPLE_RADIAL for the upright image, with the principal point in the middle and no distortion.

    Raises
    ------
    ImageError
        If the file cannot be opened as an image.
    """
    path = Path(path)
    with _opened(path, _pixel_limit(None)) as image:
        width, height = image.size
        if _orientation(image) >= 5:
            width, height = height, width
        focal = _exif_focal(image)
    if focal is None:
        return Camera.from_focal(default_focal * max(width, height), (width, height), known=False)
    return Camera.from_focal(focal, (width, height))


def as_image(image: Any) -> UInt8:
    """Check what was handed over as an image: (H, W) or (H, W, 3) uint8, at least one pixel; C-contiguous.

    Raises
    ------
    InvalidInputError
        For any other shape or type; the message says how to convert it.
    """
    array = np.asarray(image)
    if array.dtype == np.bool_ or array.dtype != np.uint8:
        hint = "multiply floats in [0, 1] by 255 and" if array.dtype.kind == "f" else "scale it to 0..255 and"
        raise InvalidInputError(f"an image must be uint8, but this one is {array.dtype}: {hint} use .astype('uint8')")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] == 3):
        alpha = array.ndim == 3 and array.shape[2] == 4
        hint = "drop the alpha channel with image[..., :3]" if alpha else "tp.read makes one from a file"
        raise InvalidInputError(f"an image is (H, W) or (H, W, 3) RGB, but this one has shape {array.shape}: {hint}")
    if array.size == 0:
        raise InvalidInputError(f"an image of shape {array.shape} has no pixels")
    return np.ascontiguousarray(array)


def _pixel_limit(max_pixels: int | None) -> int:
    if max_pixels is not None:
        return max_pixels
    setting = os.environ.get("TIEPOINTS_MAX_PIXELS", "")
    if not setting:
        return MAX_PIXELS
    try:
        return int(setting)
    except ValueError:
        raise InvalidInputError(f"TIEPOINTS_MAX_PIXELS is {setting!r}, but must be a whole number of pixels") from None


@contextmanager
def _opened(path: Path, limit: int) -> Iterator[Image.Image]:
    """The file opened by Pillow, its header checked; whatever goes wrong inside becomes an ImageError."""
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty (0 bytes)")
        with _open(path) as image:
            width, height = image.size
            if width * height > limit:
                raise ImageError(
                    f"{path}: {width}x{height} pixels are more than the limit of {limit}; if you trust the file, "
                    f"raise the limit with TIEPOINTS_MAX_PIXELS={width * height}"
                )
            yield image
    except (ImageError, InvalidInputError):
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: this is a folder, not an image") from None
    except PermissionError:
        raise ImageError(f"{path}: not readable (permission denied)") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: {_why_unknown(path)}") from None
    except MemoryError:
        raise ImageError(f"{path}: not enough memory to decode this image") from None
    except Exception as error:  # Pillow's decoders raise nearly everything on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path}: the image is damaged or truncated ({reason})") from None


def _open(path: Path) -> Image.Image:
    if path.suffix.lower() in (".heic", ".heif"):
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            pass  # `_why_unknown` names the remedy
        else:
            register_heif_opener()
    # Pillow's own limit is one global for the whole process and warns below it; ours is per call, checked right after.
    with _open_lock:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _why_unknown(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(16)
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"heim", b"heis", b"hevc"):
        return "HEIC needs one more package: pip install 'tiepoints[heif]'"
    return "not an image of a known kind, or damaged at its beginning; convert it to JPEG, PNG or TIFF"


def _decode(path: Path, image: Image.Image) -> UInt8:
    """(H, W) or (H, W, 3) uint8, not yet turned upright."""
    if isinstance(image, ImageFile.ImageFile):
        image.load()
    mode = image.mode
    if mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    if mode == "F" or mode.startswith("I"):
        return _to_8_bits(path, np.asarray(image))
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        return _on_white(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def _to_8_bits(path: Path, deep: NDArray[Any]) -> UInt8:
    if deep.dtype.kind == "f":
        finite = deep[np.isfinite(deep)]
        if not finite.size:
            raise ImageError(f"{path}: no pixel holds a finite number")
        low, high = min(0.0, float(finite.min())), max(1.0, float(finite.max()))
        if low < 0 or high > 1:
            low, high = float(finite.min()), float(finite.max())
        deep = np.nan_to_num(deep, nan=low, posinf=high, neginf=low)
    else:
        low, high = min(0, int(deep.min())), int(deep.max())
        if low == 0:
            high = 2 ** max(8, high.bit_length()) - 1
    return np.asarray(np.rint((deep.astype(np.float64) - low) * (255 / max(high - low, 1e-12))), dtype=np.uint8)


def _on_white(rgba: UInt8) -> UInt8:
    """RGBA (H, W, 4) over a white ground -> RGB (H, W, 3)."""
    alpha = rgba[:, :, 3:].astype(np.uint16)
    return np.asarray((rgba[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255, dtype=np.uint8)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation 1..8; 1 (upright) where it is missing or nonsense."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
        return int(value) if 1 <= int(value) <= 8 else 1
    except Exception:  # damaged EXIF data must not cost the image
        return 1


def _upright(image: UInt8, orientation: int) -> UInt8:
    """Undo the camera's rotation; the 8 cases of EXIF 2.3, tag Orientation."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def _exif_focal(image: Image.Image) -> float | None:
    """The focal length in pixels, or None where EXIF does not tell."""
    long_edge = max(image.size)
    try:
        exif = image.getexif()
        details = exif.get_ifd(_EXIF_IFD)
        if float(details.get(_FOCAL_35MM, 0)) > 0:
            # "35 mm equivalent" compares diagonals (CIPA DCG-001); film is 36 x 24 mm.
            focal = float(details[_FOCAL_35MM]) * math.hypot(*image.size) / math.hypot(36, 24)
        else:
            millimetres = {2: 25.4, 3: 10.0, 4: 1.0}[int(details.get(_PLANE_UNIT, 2))]
            focal = float(details[_FOCAL]) * float(details[_PLANE_X_RESOLUTION]) / millimetres
    except Exception:  # missing or damaged tags: the caller guesses
        return None
    # Images that were resized after the fact keep a sensor resolution that no longer fits: accept the plausible only.
    return focal if math.isfinite(focal) and 0.1 * long_edge < focal < 100 * long_edge else None


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
    with _opened(Path(path), _pixel_limit(None)) as image:
        width, height = image.size
        orientation = _orientation(image)
    return Header((height, width) if orientation >= 5 else (width, height), orientation)
