"""A picture file opened and decoded: what is wrong with it in one line, its pixels as 8 bits, and where it has none.

Bit depth, bands and pixels without data are taken from what the file says, or from the bulk of its values, never from
its largest one: one hot pixel, or -9999 where nothing was measured, must not decide how the rest looks.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from . import checks
from .cutouts import shown_where
from .depth import Mask, UInt8, measured_where, to_8_bits
from .errors import ImageError, InvalidInputError, one_line

__all__ = [
    "Mask",
    "decode",
    "opened",
    "orientation_of",
    "pixel_limit",
    "turned",
    "upright_size",
]

#: Larger images are refused before they are decoded, unless told otherwise: 2**28 pixels, a 16,384-pixel square, holds
#: the largest phone pictures (200 megapixels) and takes 0.8 GB once decoded.
MAX_PIXELS = 2**28

_ORIENTATION, _BITS, _PLANES, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _NODATA, _DNG = 0x0112, 258, 284, 338, 339, 42113, 50706
_MOST_PACKED = 1100  # times that a compressed file may grow: deflate allows 1,032
_FEW = 1000  # files of a folder among which the nearest name is looked for
_open_lock = threading.Lock()


class Decoded(NamedTuple):
    """A picture as it is stored.

    pixels: (H, W) or (H, W, 3) uint8; mask: (H, W) bool, where there is a picture, or None if everywhere; orientation:
    what `turned` takes to turn both upright.
    """

    pixels: UInt8
    mask: Mask | None
    orientation: int


def pixel_limit(max_pixels: int | None) -> int:
    """The most pixels that are decoded: as asked for, else the environment's TIEPOINTS_MAX_PIXELS, else 2**28."""
    if max_pixels is not None:
        return checks.count(max_pixels, "max_pixels", least=1, most=2**62)
    setting = os.environ.get("TIEPOINTS_MAX_PIXELS", "")
    if not setting:
        return MAX_PIXELS
    if not setting.strip().isdecimal() or not int(setting):
        raise InvalidInputError(
            f"TIEPOINTS_MAX_PIXELS is {setting!r}, but must be a whole number of pixels, at least 1"
        )
    return int(setting)


@contextmanager
def opened(path: str | os.PathLike[str], max_pixels: int | None = None) -> Iterator[Image.Image]:
    """The file opened by Pillow, its header checked; whatever goes wrong inside becomes an ImageError."""
    path, limit = checks.path(path, "path"), pixel_limit(max_pixels)
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
            raise ImageError(f"{path}: not a regular file, but a pipe or a device")  # it could be waited for for ever
        if stat.S_ISREG(about.st_mode) and about.st_size == 0:
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
        raise ImageError(f"{path}: no such file{_why_not_there(path)}") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: this is a folder, not an image") from None
    except PermissionError:
        raise ImageError(f"{path}: not readable (permission denied)") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: {_why_unknown(path)}") from None
    except MemoryError:
        raise ImageError(f"{path}: not enough memory to decode this image") from None
    except Exception as error:  # Pillow's decoders raise nearly everything on damaged files
        if isinstance(error, OSError) and error.errno:
            raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
        raise ImageError(f"{path}: the image is damaged or truncated ({one_line(error)})") from None


def _why_not_there(path: Path) -> str:
    """What helps where there is no such file: an address, a ~ that no shell replaced, one of nearly that name."""
    if path.parts[0] in ("http:", "https:"):
        return "; it is an address of the web: download it first"
    if path.parts[0].startswith("~"):
        return "; ~ is not replaced here: write the whole path"
    with suppress(OSError):
        names = [each.name for each in os.scandir(path.parent)]
        near = get_close_matches(path.name, names, n=1, cutoff=0.8) if len(names) <= _FEW else []
        return f"; did you mean {near[0]!r}?" if near else ""
    return ""


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
        except UnidentifiedImageError:
            image = _tiff_for_opencv(path)
            if image is None:
                raise
            return image
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _tiff_for_opencv(path: Path) -> Image.Image | None:
    """The header of a TIFF that Pillow does not know, as an image without pixels, where OpenCV decodes it.

    It has one band or three of floats of 32 or 64 bits, or whole numbers of 16 to 64 bits.
    """
    try:
        with path.open("rb") as file:
            tags = _tags_of_tiff(file)
        bits, forms = tags.get(_BITS, (1,)), tags.get(_SAMPLE_FORMAT, (1,))
        width, height = int(tags[256]), int(tags[257])
        orientation = int(tags.get(_ORIENTATION, 1))
    except Exception:  # `_why_unknown` says what it is
        return None
    kind = {1: "u", 2: "i", 3: "f"}.get(forms[0], "")
    known = (kind, bits[0]) in (("f", 32), ("f", 64), ("i", 16), ("i", 32), ("u", 32), ("u", 64), ("i", 64))
    if (
        not known
        or tags.get(_PLANES) == 2
        or len({*bits}) > 1
        or len({*forms}) > 1
        or tags.get(277, 1) != len(bits)
        or len(bits) not in (1, 3)
    ):
        return None
    if width * height * len(bits) * bits[0] // 8 > _MOST_PACKED * path.stat().st_size:
        return None  # more than any compression makes of so few bytes
    image: Any = Image.Image()
    image._size = (height, width) if 5 <= orientation <= 8 else (width, height)
    image._mode, image.format, image.tag_v2 = ("F" if len(bits) == 1 else "RGB"), "TIFF", tags
    image.filename, image.decoded_by_opencv = str(path), f"{kind}{bits[0] // 8}"
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    image.info["exif"] = exif.tobytes()
    return image  # type: ignore[no-any-return]


def _why_unknown(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(16)
        if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"heim", b"heis", b"hevc"):
            if find_spec("pillow_heif"):
                return "a HEIC image that is damaged or truncated"
            return "HEIC needs one more package: pip install 'tiepoints[heif]'"
        if head[8:12] in (b"avif", b"avis", b"WEBP"):
            return "an AVIF or WebP image that is damaged or truncated"
        if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            try:
                return _kind_of_tiff(file)
            except Exception:  # a damaged directory
                return "a TIFF that is damaged at its beginning"
    if head[4:8] == b"ftyp" or head[:4] in (b"RIFF", b"\x1aE\xdf\xa3"):
        return "a video, or another container that holds no picture; take single frames out of it first"
    if head.startswith(b"version https://"):
        return "a pointer of Git LFS, not the image itself: git lfs pull"
    if head.startswith(b"%PDF"):
        return "a PDF; convert its pages to PNG first"
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return "a page of the web or a drawing (HTML, SVG), no photograph; was it downloaded from the right address?"
    return "not an image of a known kind, or damaged at its beginning; convert it to JPEG, PNG or TIFF"


def _tags_of_tiff(file: Any) -> Any:
    """The tags of a TIFF's first page."""
    from PIL import TiffImagePlugin

    file.seek(0)
    head = file.read(8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(head + (file.read(8) if 43 in head[2:4] else b""))  # 43: BigTIFF
    file.seek(tags.next)
    tags.load(file)
    return tags


def _kind_of_tiff(file: Any) -> str:
    """What a TIFF that Pillow does not know holds."""
    tags = _tags_of_tiff(file)
    bits = tags.get(_BITS, (1,))
    bands, form = tags.get(277, len(bits)), tags.get(_SAMPLE_FORMAT, (1,))[0]
    kind = {2: ", signed", 3: ", floating point", 5: ", complex integers", 6: ", complex"}.get(form, "")
    return (
        f"TIFF of {bands} band{'s' if bands != 1 else ''} of {bits[0]} bits{kind}, which tiepoints does not read: "
        "save one band, or red, green and blue, for instance with "
        f"gdal_translate {'-b 1' if bands < 3 else '-b 1 -b 2 -b 3'}{'' if form in (1, 2) else ' -ot Float32'} IN OUT"
    )


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation 1..8; 1 (upright) where it is missing or nonsense.

    Of a TIFF it must be asked for before the pixels are loaded: Pillow then turns them, and forgets the tag.
    """
    try:
        value = int(image.getexif().get(_ORIENTATION, 1))
        return value if 1 <= value <= 8 else 1
    except Exception:  # damaged EXIF data must not cost the image
        return 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an opened image, upright, before its pixels are loaded."""
    width, height = image.size
    # Pillow gives the size of a TIFF as it is upright, and of the others as they are stored.
    return (height, width) if orientation_of(image) >= 5 and image.format != "TIFF" else (width, height)


def decode(
    image: Image.Image, where: str, value_range: tuple[float, float] | None = None, *, as_mask: bool = False
) -> Decoded:
    """The pixels of an opened image as 8 bits, as they are stored: not yet turned upright.

    Parameters
    ----------
    image : PIL.Image.Image
    where : str
        Its name, for messages.
    value_range : (float, float), optional
        What becomes black and white in images of more than 8 bits; by default their own range: see `to_8_bits`.
    as_mask : bool
        The values are a mask's or labels: no number is called no data, and more than 8 bits become 0, or 255 where they
        are not 0.

    Raises
    ------
    ImageError
        If no pixel holds a number, or it is a camera's raw file.
    """
    tags: Any = getattr(image, "tag_v2", {})
    if _DNG in tags:
        raise ImageError(
            f"{where}: a camera's raw file, of which this would be the preview; develop it to JPEG or TIFF"
        )
    if tags.get(_PLANES) == 2 and max(tags.get(_BITS, (8,))) > 8 and len(tags.get(_BITS, (8,))) > 1:
        raise ImageError(
            f"{where}: a TIFF of {len(tags[_BITS])} bands of {tags[_BITS][0]} bits in a plane each, which tiepoints "
            "does not read: gdal_translate -co INTERLEAVE=PIXEL IN OUT"
        )
    deep = _deep_colour(image)  # first: asking a PNG for its orientation loads its pixels
    orientation = orientation_of(image)
    turn = orientation if image.format == "TIFF" else 1
    nodata, extra, wide = tags.get(_NODATA), tags.get(_EXTRA_SAMPLES, (2,)), tags.get(_BITS) == (32,)
    forms = tags.get(_SAMPLE_FORMAT, (1,))
    unsigned = forms == (1,)
    premultiplied = deep is not None and 1 in extra
    if deep is None:
        if isinstance(image, ImageFile.ImageFile):
            # Pillow divides premultiplied colours by the alpha, which garbles them if the band is none.
            premultiplied = "'RGBa'" in str(image.tile)
            if premultiplied:
                tiles: Any = image.tile
                image.tile = [tile._replace(args=("RGBA", *tile.args[1:])) for tile in tiles]
            if turn >= 5 and hasattr(image, "filename"):
                image.filename = ""  # by its name Pillow 13 would map the file into memory, with the edges swapped
            image.load()
        stored = _stored(np.asarray(image), turn) if image.mode == "F" or image.mode.startswith("I") else None
        if stored is not None and wide and unsigned and stored.dtype == np.int32:
            stored = stored.view(np.uint32)  # Pillow has only signed ones
        elif stored is None and set(forms) == {2} and set(tags.get(_BITS, (8,))) == {8}:
            stored = _stored(np.asarray(image), turn).view(np.int8)  # and takes these for unsigned ones
        deep = stored
    elif turn != 1:
        deep = _stored(deep, turn)  # OpenCV turns a TIFF too
    if deep is not None:
        colours, alpha = (deep[:, :, :3], deep[:, :, 3]) if deep.ndim == 3 and deep.shape[2] == 4 else (deep, None)
        visible = None if alpha is None or 0 in extra else _visible((alpha >> 8).astype(np.uint8))
        if as_mask:
            kept = np.where(np.nan_to_num(colours) != 0, 255, 0).astype(np.uint8)
            return Decoded(*_laid(kept, visible, None, premultiplied), orientation)
        mask = measured_where(colours, _number(nodata))
        if not mask.any():
            raise ImageError(f"{where}: no pixel holds a finite number")
        measured = None if mask.all() else mask
        pixels = to_8_bits(colours, measured, value_range)
        return Decoded(*_laid(pixels, visible, measured, premultiplied), orientation)
    bands = image.getbands()
    hidden = "transparency" in image.info and image.mode in ("P", "L", "RGB", "1")
    if hidden or "A" in bands or "a" in bands:
        array = np.asarray(image.convert("RGBA"))
        visible, colours = _visible(array[:, :, 3]), array[:, :, :3]
    else:
        visible = None
        colours = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    colours = np.asarray(_stored(colours, turn), np.uint8)
    visible = None if visible is None else np.asarray(_stored(visible, turn), np.uint8)
    value = None if as_mask else _number(nodata)
    mask = measured_where(colours, value) if value is not None else np.ones(1, bool)
    mask_or_none = None if mask.all() or not mask.any() else mask
    return Decoded(*_laid(colours, visible, mask_or_none, premultiplied), orientation)


def _stored(pixels: NDArray[Any], turn: int) -> NDArray[Any]:
    """Undo the turning upright that Pillow and OpenCV do to TIFFs as they load them."""
    return pixels if turn == 1 else turned(pixels, {6: 8, 8: 6}.get(turn, turn))


def turned(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A stored image (H, W, ...) turned upright; the 8 cases of EXIF 2.3, tag Orientation."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def _deep_colour(image: Image.Image) -> NDArray[Any] | None:
    """(H, W, 3) RGB or (H, W, 4) RGBA of 16 bits, of which Pillow would keep the upper 8; None for other images."""
    path, kind = getattr(image, "filename", ""), getattr(image, "decoded_by_opencv", "")
    if kind:
        array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        if array is None or array.dtype != np.dtype(kind) or (array.ndim == 3) != (image.mode == "RGB"):
            raise OSError("OpenCV cannot decode it")
        return np.asarray(array if array.ndim == 2 else array[:, :, ::-1])
    if image.mode not in ("RGB", "RGBA", "RGBX", "LA") or not path or not isinstance(image, ImageFile.ImageFile):
        return None
    tiles: Any = image.tile
    said = str([tile[3] for tile in tiles])
    if image.format == "JPEG2000":
        is_deep = _bits_of_jpeg_2000(path) > 8
    else:
        is_deep = ";16" in said or (image.format == "PPM" and tiles[0][0] == "ppm" and tiles[0][3][1] > 255)
    if not is_deep:
        return None
    array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16 or array.ndim != 3:
        raise OSError("OpenCV cannot decode its 16 bits a colour")
    order = cv2.COLOR_BGR2RGB if array.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return np.asarray(cv2.cvtColor(array, order))


def _bits_of_jpeg_2000(path: str) -> int:
    """The bits of the first component, from the marker SIZ (ISO/IEC 15444-1, A.5.1)."""
    with Path(path).open("rb") as file:
        head = file.read(2**16)
    at = head.find(b"\xff\x4f\xff\x51")
    return (head[at + 42] & 0x7F) + 1 if 0 <= at < len(head) - 42 else 8


def _number(text: Any) -> float | None:
    """The number in GDAL's tag, a text such as '-9999'."""
    try:
        return float(str(text).strip().strip("\0"))
    except ValueError:
        return None


def _visible(alpha: UInt8) -> UInt8 | None:
    """The band itself if it says what is transparent, else None.

    A mask is 0 and 255 but for its edges. What is neither over most of the picture is another band under this name, as
    the near infrared in aerial images that GDAL wrote; what is 0 everywhere would leave nothing to look at.
    """
    if (alpha == 255).all() or not (alpha == 255).any():
        return None
    return alpha if ((alpha == 0) | (alpha == 255)).mean() >= 0.5 else None


def _laid(pixels: UInt8, alpha: UInt8 | None, mask: Mask | None, premultiplied: bool) -> tuple[UInt8, Mask | None]:
    """On white where transparent; the mask of what is there."""
    if alpha is None:
        return pixels, mask
    share = alpha.astype(np.uint16)
    if pixels.ndim == 3:
        share = share[:, :, None]
    # Colours that are premultiplied are at most their alpha; where a file says otherwise, 16 bits would overflow.
    coloured = np.minimum(pixels, share) * np.uint16(255) if premultiplied else pixels * share
    laid = np.asarray((coloured + 255 * (255 - share) + 127) // 255, dtype=np.uint8)
    shown = shown_where(alpha)
    return laid, shown if mask is None else shown & mask
