"""What a photograph's EXIF data say about the camera and where it stood, checked against the picture itself."""

from __future__ import annotations

import importlib.util
import math
import os
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, TiffImagePlugin

from .decode import opened, orientation_of, upright_size
from .optional import require

__all__ = ["Position", "gravity_from_exif", "position_from_exif"]

PathLike = str | os.PathLike[str]

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_FOCAL, _FOCAL_35MM, _PLANE_X_RESOLUTION, _PLANE_UNIT = 0x920A, 0xA405, 0xA20E, 0xA210
_PIXEL_X, _PIXEL_Y, _ZOOM = 0xA002, 0xA003, 0xA404
# By EXIF's orientation.
_DOWN = {1: (0.0, 1.0, 0.0), 3: (0.0, -1.0, 0.0), 6: (1.0, 0.0, 0.0), 8: (-1.0, 0.0, 0.0)}
_FILM = math.hypot(36, 24)  # mm
# The diagonals of sensors in mm, of cameras that write these tags: 1/4 inch, and medium format.
_SENSORS = 4.0, 80.0
# How much the ratio of a picture's edges may differ from the original's: rounding of a resized one, not a crop.
_SAME_SHAPE = 0.01


class Position(NamedTuple):
    """Where a photograph was taken, in the frame of WGS 84 (EPSG:4326 and the altitude).

    Examples
    --------
    >>> from tiepoints.exif import Position
    >>> Position(latitude=55.705, longitude=13.188, altitude=None).latitude
    55.705
    """

    latitude: float
    """Degrees, north positive."""
    longitude: float
    """Degrees, east positive."""
    altitude: float | None
    """Metres above sea level; None if EXIF has none."""


class Shot(NamedTuple):
    """What `Camera.from_exif` needs: the size of the upright picture, its orientation, the focal length in pixels."""

    size: tuple[int, int]
    orientation: int
    focal: float | None


def position_from_exif(path: PathLike) -> Position | None:
    """Where a photograph was taken, from the GPS tags of its EXIF data; a prior for reconstruction.

    Parameters
    ----------
    path : str or path
        The photograph.

    Returns
    -------
    position : Position or None
        None where EXIF has no position, or an impossible one: damaged tags, or 0 degrees north and 0 east, which
        receivers write before they know better.

    Raises
    ------
    ImageError
        If the file cannot be opened as an image.

    Examples
    --------
    >>> import tiepoints as tp
    >>> tp.position_from_exif("examples/desk_1.jpg") is None  # it does not say
    True
    """
    with opened(path) as image:
        try:
            tags = image.getexif().get_ifd(_GPS_IFD)
            latitude, longitude = _degrees(tags, 1, "S", 90), _degrees(tags, 3, "W", 180)
        except Exception:  # missing or damaged tags
            return None
        if latitude == 0 and longitude == 0:
            return None
        return Position(latitude, longitude, _altitude(tags))


def _degrees(tags: Any, reference: int, negative: str, most: float) -> float:
    """Degrees, minutes and seconds (EXIF 2.3, tags 1 to 4 of the GPS directory) as a number with a sign."""
    degrees, minutes, seconds = ([float(v) for v in tags[reference + 1]] + [0.0, 0.0])[:3]
    value = degrees + minutes / 60 + seconds / 3600
    if not 0 <= value <= most:
        raise ValueError("no such angle")
    return -value if str(tags[reference]).strip("\0 ").upper() == negative else value


def _altitude(tags: Any) -> float | None:
    try:
        value = float(tags[6])
        below = tags.get(5, 0) in (1, b"\1", "1")
    except Exception:  # missing or damaged
        return None
    return (-value if below else value) if math.isfinite(value) and abs(value) < 1e5 else None


def gravity_from_exif(path: PathLike) -> tuple[float, float, float] | None:
    """Where down is in the frame of the stored picture (x right, y down, z forwards), by EXIF's orientation.

    A camera knows to a quarter turn how it is held. COLMAP takes the same from the tag for a prior.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    gravity : (3,) float or None
        None where EXIF does not say, or the picture is mirrored.

    Raises
    ------
    ImageError
        If the file cannot be opened as an image.

    Examples
    --------
    >>> from tiepoints.exif import gravity_from_exif
    >>> gravity_from_exif("examples/desk_1.jpg") is None  # it does not say
    True
    """
    with opened(path) as image:
        try:
            return _DOWN.get(int(image.getexif()[0x0112]))
        except Exception:  # missing or damaged
            return None


def shot(path: PathLike) -> Shot:
    """Size, orientation and focal length of a photograph."""
    with opened(path) as image:
        size = upright_size(image)
        return Shot(size, orientation_of(image), _plausible(_focal(image, size), size, path))


def _focal(image: Image.Image, size: tuple[int, int]) -> float | None:
    """The focal length in pixels of the picture, or None where EXIF does not tell, or tells of another picture."""
    try:
        exif = image.getexif()
        details = exif.get_ifd(_EXIF_IFD)
        original = _original_size(details)
        scale = 1.0
        if original is not None:
            # Long edge to long edge: a program that turned the picture may have left the tags.
            shape, shape_then = max(size) / min(size), max(original) / min(original)
            if abs(shape / shape_then - 1) > _SAME_SHAPE + 1 / min(size):
                return None  # a part of the original: neither the angle of view nor the middle is known
            scale = max(size) / max(original)
        if float(details.get(_FOCAL_35MM, 0)) > 0:
            # "35 mm equivalent" compares diagonals (CIPA DCG-001); film is 36 x 24 mm.
            return float(details[_FOCAL_35MM]) * math.hypot(*size) / _FILM
        zoom = float(details.get(_ZOOM, 1))  # of a part of the sensor, at which the focal length is not told
        millimetres = float(details[_FOCAL]) * max(zoom, 1.0)
        density = _density(details)
        if density is not None:
            density *= scale
            if _SENSORS[0] <= math.hypot(*size) / density <= _SENSORS[1]:
                return millimetres * density
        width = _sensor_width(str(exif.get(0x010F, "")), str(exif.get(0x0110, "")))
        return None if width is None else millimetres / width * max(size)
    except Exception:  # missing or damaged tags: the caller guesses
        return None


def _original_size(details: Any) -> tuple[float, float] | None:
    """The size for which the tags were written, which programs that resize a picture mostly leave."""
    try:
        width, height = float(details[_PIXEL_X]), float(details[_PIXEL_Y])
    except Exception:  # missing or damaged
        return None
    return (width, height) if width > 0 and height > 0 else None


def _density(details: Any) -> float | None:
    """Pixels of the original in a millimetre of the sensor."""
    try:
        per_unit = float(details[_PLANE_X_RESOLUTION])
        density = per_unit / {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}[int(details.get(_PLANE_UNIT, 2))]
    except Exception:  # missing or damaged
        return None
    return density if math.isfinite(density) and density > 0 else None


def _plausible(focal: float | None, size: tuple[int, int], path: PathLike) -> float | None:
    """The focal length, unless no camera has it: None then, and a warning where it is a number at all."""
    long_edge = max(size)
    if not focal or not math.isfinite(focal):  # 0/0, 0 and 1/0 say in EXIF that it is not known
        return None
    if 0.1 * long_edge < focal < 100 * long_edge:
        return focal
    warnings.warn(
        f"{path}: its EXIF data tell a focal length of {focal:.3g} pixels, which no camera with {size[0]}x{size[1]} "
        "pixels has: it is ignored",
        stacklevel=4,
    )
    return None


@cache
def _sensor_width(make: str, model: str) -> float | None:
    """The width of a camera's sensor in mm, from COLMAP's table where pycolmap is installed; None if it lacks it.

    COLMAP looks a camera up only while it reads a picture's focal length: so it gets one, of 1,000 pixels at 100 mm.
    """
    if not (make and model) or importlib.util.find_spec("pycolmap") is None:
        return None
    pycolmap = require("pycolmap", "the table of sensors", "sfm")
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = make, model, 1
    exif.get_ifd(_EXIF_IFD).update({_FOCAL: TiffImagePlugin.IFDRational(100, 1), 0x9000: b"0230"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "camera.jpg"
        Image.new("L", (1000, 8)).save(path, exif=exif)
        focal = pycolmap.Bitmap.read(str(path), False).exif_focal_length()
    return 100 * 1000 / focal if focal else None
