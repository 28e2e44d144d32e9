"""Drawing into RGB arrays, and pictures that notebooks show."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Picture", "circle", "line", "palette", "png", "scatter"]

UInt8 = NDArray[np.uint8]
Colour = tuple[int, int, int]

_SHIFT = 4  # OpenCV draws at 1/2**_SHIFT pixel
_FAR = 1e5  # pixels; OpenCV's fixed-point numbers end at 2**31 / 2**_SHIFT, and nothing is seen out there
_SHOWN = 480  # pixels, the long edge of the picture of features without their image


class Picture(np.ndarray[Any, np.dtype[np.uint8]]):  # NDArray is no class from Python 3.12 on
    """An image, (H, W) or (H, W, 3) uint8, which a notebook shows as a picture; in all else a NumPy array.

    Attributes
    ----------
    mask : (H, W) bool or None
        Where a photograph that was read is neither transparent nor without data. Whatever is made of the array, a part
        or a copy, has none.
    """

    mask: NDArray[np.bool_] | None = None

    def _repr_png_(self) -> bytes | None:
        image = self.dtype == np.uint8 and self.size and (self.ndim == 2 or (self.ndim == 3 and self.shape[2] == 3))
        return png(np.asarray(self)) if image and min(self.shape[:2]) > 1 else None


def png(picture: UInt8) -> bytes:
    """The bytes of a PNG file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


def palette(count: int) -> list[Colour]:
    """So many colours of even steps on the colour map plasma; RGB."""
    import cv2

    steps = np.linspace(0, 255, count).astype(np.uint8).reshape(-1, 1)
    return [(int(r), int(g), int(b)) for ((b, g, r),) in cv2.applyColorMap(steps, cv2.COLORMAP_PLASMA)]


def line(picture: UInt8, start: NDArray[Any], end: NDArray[Any], colour: Colour, width: int) -> None:
    """A smooth line between two points [x, y] of the picture, pixel-centre convention."""
    import cv2

    cv2.line(picture, _fixed(start), _fixed(end), colour, width, cv2.LINE_AA, _SHIFT)


def circle(picture: UInt8, centre: NDArray[Any], radius: float, colour: Colour, width: int) -> None:
    """A smooth circle; `width` -1 fills it."""
    import cv2

    if np.abs(centre).max() < _FAR and radius < _FAR:
        cv2.circle(picture, _fixed(centre), round(radius * 2**_SHIFT), colour, width, cv2.LINE_AA, _SHIFT)


def _fixed(point: NDArray[Any]) -> tuple[int, int]:
    x, y = np.rint(np.clip(np.asarray(point, np.float64), -_FAR, _FAR) * 2**_SHIFT).astype(int)
    return int(x), int(y)


def scatter(points: NDArray[np.float32], sets: NDArray[np.uint8] | None, image_size: tuple[int, int]) -> UInt8:
    """Points [x, y] as dots on white in the shape of their image, a colour for each set."""
    width, height = image_size
    if not width or not height:  # not known: as far as the points reach
        width, height = (np.clip(points.max(axis=0, initial=0), 0, _FAR).astype(int) + 1).tolist()
    factor = _SHOWN / max(width, height)
    picture = np.full((max(2, round(height * factor)), max(2, round(width * factor)), 3), 255, np.uint8)
    colours = palette(int(sets.max(initial=0)) + 2 if sets is not None else 2)
    groups = np.zeros(len(points), np.uint8) if sets is None else sets
    for point, group in zip((points + 0.5) * factor - 0.5, groups.tolist(), strict=True):
        circle(picture, point, 1.5, colours[group], -1)
    return picture
