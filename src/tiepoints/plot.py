"""Pictures of keypoints and matches, drawn straight into an RGB array."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from .errors import InvalidInputError, StorageError
from .features import Features, Matches
from .files import one_line, replacing
from .images import as_image

__all__ = ["plot_keypoints", "plot_matches", "save_image"]

UInt8 = NDArray[np.uint8]

_GAP = 8  # white pixels between the two images
_SHIFT = 4  # OpenCV draws at 1/2**_SHIFT pixel


def plot_matches(
    image_a: ArrayLike,
    image_b: ArrayLike,
    a: Features,
    b: Features,
    matches: Matches,
    inliers: ArrayLike | None = None,
    *,
    max_lines: int | None = 500,
    max_size: int | None = 1600,
) -> UInt8:
    """Draw two images side by side with a line for each match, coloured by its score (blue: low, yellow: high).

    Parameters
    ----------
    image_a, image_b : (H, W) or (H, W, 3) uint8
        Grey or RGB; their sizes may differ.
    a, b : Features
        Of these images.
    matches : Matches
        Between `a` and `b`.
    inliers : (M,) bool, optional
        Draw only these matches.
    max_lines : int, optional
        Draw at most so many, spread evenly over the scores; None for all.
    max_size : int, optional
        Shrink each image to this long edge (pixels) first; None for full size.

    Returns
    -------
    picture : (h, w, 3) uint8
        RGB.

    Raises
    ------
    InvalidInputError
        If `inliers` has another length than `matches`, or these refer to other features.
    """
    if inliers is not None:
        keep = np.asarray(inliers, bool)
        if keep.shape != (len(matches),):
            raise InvalidInputError(f"inliers have shape {keep.shape}, but ({len(matches)},) is expected")
        matches = matches.select(keep)
    colours = _colours(matches.scores)
    order = np.argsort(matches.scores, kind="stable")  # the best are drawn last, on top
    if max_lines is not None and len(order) > max_lines:
        order = order[np.linspace(0, len(order) - 1, max_lines).round().astype(int)]
    points_a, points_b = matches.points(a, b)

    left, scale_a = _canvas(image_a, a, max_size)
    right, scale_b = _canvas(image_b, b, max_size)
    height = max(len(left), len(right))
    picture = np.full((height, left.shape[1] + _GAP + right.shape[1], 3), 255, np.uint8)
    picture[: len(left), : left.shape[1]] = left
    picture[: len(right), left.shape[1] + _GAP :] = right

    ends_a = (points_a + 0.5) * scale_a - 0.5
    ends_b = (points_b + 0.5) * scale_b - 0.5 + np.array([left.shape[1] + _GAP, 0], np.float32)
    width = max(1, round(height / 600))
    for row in order:
        _line(picture, ends_a[row], ends_b[row], colours[row], width)
        for end in (ends_a[row], ends_b[row]):
            _circle(picture, end, 2 * width, colours[row], width)
    return picture


def plot_keypoints(image: ArrayLike, features: Features, *, max_size: int | None = 1600) -> UInt8:
    """Draw an image with its keypoints: a colour for each set, a circle of each scale where there are scales.

    Returns
    -------
    picture : (h, w, 3) uint8
        RGB.
    """
    picture, scale = _canvas(image, features, max_size)
    sets = np.zeros(len(features), np.uint8) if features.sets is None else features.sets
    palette = _colours(np.arange(int(sets.max(initial=0)) + 2, dtype=np.float32))
    points = (features.keypoints + 0.5) * scale - 0.5
    radii = np.full(len(features), 3.0) if features.scales is None else np.maximum(features.scales / 2 * scale[0], 2)
    width = max(1, round(len(picture) / 800))
    for row in range(len(features) - 1, -1, -1):
        _circle(picture, points[row], float(radii[row]), palette[1 + sets[row]], width)
    return picture


def save_image(path: str | os.PathLike[str], picture: UInt8) -> None:
    """Write an RGB picture; the kind of file follows from the name (.png, .jpg, .webp, ...).

    Raises
    ------
    StorageError
        If the kind is unknown or the folder cannot be written; an older file of that name then stays as it was.
    """
    path = Path(path)
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise StorageError(
            f"{path}: pictures cannot be written as {path.suffix or 'a file without suffix'}; use .png or .jpg"
        )
    options: dict[str, Any] = {"quality": 92} if kind in ("JPEG", "WEBP") else {}
    with replacing(path) as temporary:
        try:
            Image.fromarray(picture).save(temporary, format=kind, **options)
        except OSError as error:
            raise StorageError(f"{path}: cannot be written ({one_line(error)})") from None


def _canvas(image: ArrayLike, features: Features, max_size: int | None) -> tuple[UInt8, NDArray[np.float32]]:
    """An RGB copy to draw on, and its scale (x, y) against the features' coordinates."""
    pixels = as_image(image)
    height, width = pixels.shape[:2]
    factor = 1.0 if max_size is None else min(1.0, max_size / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    drawn = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if factor < 1 else pixels.copy()
    if drawn.ndim == 2:
        drawn = cv2.cvtColor(drawn, cv2.COLOR_GRAY2RGB)
    full = np.maximum(features.image_size, 1)
    return np.asarray(drawn, np.uint8), np.asarray(np.array(size) / full, np.float32)


def _colours(values: NDArray[np.float32]) -> list[tuple[int, int, int]]:
    """RGB of each value between the least and the greatest, on the colour map plasma."""
    span = float(np.ptp(values)) if len(values) else 0.0
    steps = np.full(len(values), 255.0) if span == 0 else (values - values.min()) / span * 255
    if not len(values):
        return []
    mapped = cv2.applyColorMap(steps.astype(np.uint8).reshape(-1, 1), cv2.COLORMAP_PLASMA)
    return [(int(r), int(g), int(b)) for ((b, g, r),) in mapped]


def _fixed(point: NDArray[np.float32]) -> tuple[int, int]:
    x, y = np.rint(point * 2**_SHIFT).astype(int)
    return int(x), int(y)


def _line(
    picture: UInt8, start: NDArray[np.float32], end: NDArray[np.float32], colour: tuple[int, int, int], width: int
) -> None:
    cv2.line(picture, _fixed(start), _fixed(end), colour, width, cv2.LINE_AA, _SHIFT)


def _circle(
    picture: UInt8, centre: NDArray[np.float32], radius: float, colour: tuple[int, int, int], width: int
) -> None:
    cv2.circle(picture, _fixed(centre), round(radius * 2**_SHIFT), colour, width, cv2.LINE_AA, _SHIFT)
