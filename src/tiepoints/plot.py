"""Pictures of keypoints and matches, drawn straight into an RGB array."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from . import checks
from .drawing import Colour, Picture, circle, line, palette
from .errors import InvalidInputError, StorageError, counted, one_line
from .features import Features, Matches
from .files import replacing
from .geometry import Geometry
from .geometry.chance import is_verified
from .geometry.outline import corners
from .images import with_mask

__all__ = ["plot_keypoints", "plot_matches", "plot_overlay", "save_image"]

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

_GAP = 8  # white pixels between the two images
_GREEN, _RED, _YELLOW, _BLACK = (0, 190, 60), (230, 40, 40), (255, 200, 0), (30, 30, 30)
_LONGEST = {"JPEG": 65500, "WEBP": 16383, "GIF": 65535, "AVIF": 65536}  # pixels along an edge, by kind of file
_THROUGH = 0.45  # how much of a line's colour covers the photograph


class _Lines(NamedTuple):
    """Rows of the matches that are drawn, and the colour of each."""

    rows: NDArray[np.intp]
    colours: list[Colour]


def plot_matches(
    image_a: Any,
    image_b: Any,
    a: Features,
    b: Features,
    matches: Matches,
    geometry: Geometry | ArrayLike | None = None,
    *,
    outliers: bool = False,
    legend: bool = True,
    title: str = "",
    max_lines: int | None = 100,
    max_size: int | None = 1600,
) -> Picture:
    """Draw two images side by side with a line for each match: inliers green, putative matches by their score.

    The outline of image a is drawn in image b where the geometry is a homography.

    Parameters
    ----------
    image_a, image_b : path, array, ...
        Whatever an extractor takes; their sizes may differ.
    a, b : Features
        Of these images.
    matches : Matches
        Between `a` and `b`.
    geometry : Geometry or (M,) bool, optional
        What was estimated from these matches, or which of them are inliers: only inliers are drawn. None: all matches,
        coloured by their score (blue: low, yellow: high). So it is, too, where an estimate has no more inliers than
        chance gives, and the legend says NOT VERIFIED.
    outliers : bool
        Draw the other matches too, in red.
    legend : bool
        Write below how many there are, and how many of them are drawn.
    title : str
        What the legend begins with.
    max_lines : int, optional
        Draw at most so many inliers and so many outliers, evenly chosen by their scores; None for all.
    max_size : int, optional
        Shrink each image to this long edge (pixels) first; None for full size.

    Returns
    -------
    picture : (h, w, 3) uint8
        RGB; a notebook shows it.

    Raises
    ------
    InvalidInputError
        If there are not as many inliers as matches, the matches refer to other features, an image has another size than
        its features', or an option is wrong.

    Examples
    --------
    >>> import tiepoints as tp
    >>> image_a, image_b = tp.read("examples/box.png"), tp.read("examples/box_in_scene.png")
    >>> orb = tp.load("orb", max_keypoints=500)
    >>> a, b = orb(image_a), orb(image_b)
    >>> matches = tp.match(a, b, ratio=0.9)
    >>> picture = tp.plot_matches(image_a, image_b, a, b, matches, tp.homography(a, b, matches))
    >>> tp.save_image("matches.png", picture)
    """
    checks.flag(outliers, "outliers")
    checks.flag(legend, "legend")
    checks.instance(title, "title", str)
    checks.instance(matches, "matches", Matches)
    if max_lines is not None:
        checks.count(max_lines, "max_lines")
    inliers = _inliers(geometry, len(matches))
    points_a, points_b = matches.points(a, b)
    unverified = isinstance(geometry, Geometry) and is_verified(geometry, _size_of(image_b, b)) is False
    if unverified:
        geometry = inliers = None
    groups = _groups(matches.scores, inliers, outliers, max_lines)

    left, scale_a = _canvas(image_a, a, max_size)
    right, scale_b = _canvas(image_b, b, max_size)
    height = max(len(left), len(right))
    picture = np.full((height, left.shape[1] + _GAP + right.shape[1], 3), 255, np.uint8)
    picture[: len(left), : left.shape[1]] = left
    picture[: len(right), left.shape[1] + _GAP :] = right
    shift = np.array([left.shape[1] + _GAP, 0], np.float32)
    ends_a = (points_a + 0.5) * scale_a - 0.5
    ends_b = (points_b + 0.5) * scale_b - 0.5 + shift
    width = max(1, round(height / 600))
    photographs = picture.copy()
    for group in groups:
        for row, colour in zip(group.rows.tolist(), group.colours, strict=True):
            line(picture, ends_a[row], ends_b[row], colour, width)
    picture = np.asarray(cv2.addWeighted(picture, _THROUGH, photographs, 1 - _THROUGH, 0), np.uint8)
    for group in groups:
        for row, colour in zip(group.rows.tolist(), group.colours, strict=True):
            for end in (ends_a[row], ends_b[row]):
                circle(picture, end, 2 * width, colour, width)
    found = corners(geometry, _size_of(image_a, a)) if isinstance(geometry, Geometry) else None
    if found is not None:
        _polygon(picture, (found + 0.5) * scale_b - 0.5 + shift, left.shape[1] + _GAP, 2 * width)
    if legend:
        parts = _legend(len(matches), inliers, groups, geometry, found is not None)
        heads = [(f"{title}:", _BLACK)] if title else []
        heads += [("NOT VERIFIED", _RED)] if unverified else []
        picture = _with_legend(picture, [*heads, *parts])
    return picture.view(Picture)


def _inliers(geometry: Any, count: int) -> NDArray[np.bool_] | None:
    if geometry is None:
        return None
    mask = geometry.inliers if isinstance(geometry, Geometry) else checks.numbers(geometry, "geometry")
    if mask.dtype != bool or mask.shape != (count,):
        raise InvalidInputError(
            f"geometry is {checks.shown(geometry)}, but an estimated model of these {count} matches, "
            f"or ({count},) bool, is expected"
        )
    return mask


def _groups(scores: Float32, inliers: NDArray[np.bool_] | None, outliers: bool, max_lines: int | None) -> list[_Lines]:
    """What is drawn, in this order, so that the best lie on top."""

    def some(rows: NDArray[np.intp]) -> NDArray[np.intp]:
        rows = rows[np.argsort(scores[rows], kind="stable")]
        if max_lines is not None and len(rows) > max_lines:
            rows = rows[np.linspace(0, len(rows) - 1, max_lines).round().astype(int)]
        return rows

    if inliers is None:
        rows = some(np.arange(len(scores)))
        span = float(np.ptp(scores)) if len(scores) else 0.0
        steps = (scores[rows] - scores.min()) / span * 255 if span else np.full(len(rows), 255.0)
        colours = palette(256)
        return [_Lines(rows, [colours[step] for step in steps.astype(int).tolist()])]
    kinds = [(~inliers, _RED)] if outliers else []
    return [
        _Lines(rows, [colour] * len(rows))
        for which, colour in (*kinds, (inliers, _GREEN))
        for rows in (some(np.flatnonzero(which)),)
    ]


def _legend(
    count: int, inliers: NDArray[np.bool_] | None, groups: Sequence[_Lines], geometry: Any, outlined: bool
) -> list[tuple[str, Colour]]:
    """What the line below the pictures says, each part in its colour."""

    def part(what: str, number: int, group: _Lines, more: str = "") -> str:
        return counted(number, what) + more + (f", {len(group.rows)} drawn" if len(group.rows) < number else "")

    if inliers is None:
        return [(part("putative match", count, groups[0], ", by score"), _BLACK)]
    number = int(np.count_nonzero(inliers))
    kind = f" of one {geometry.kind}" if isinstance(geometry, Geometry) else ""
    kind += " matrix" if kind and geometry.kind != "homography" else ""
    parts = [(counted(count, "putative match"), _BLACK), (part("inlier", number, groups[-1], kind), _GREEN)]
    if len(groups) > 1:
        parts.append((part("outlier", count - number, groups[0]), _RED))
    return parts + ([("outline of image a", _YELLOW)] if outlined else [])


def _with_legend(picture: UInt8, parts: list[tuple[str, Colour]]) -> UInt8:
    """The picture with a white line below it; words that do not fit beside each other make it several lines."""
    size = max(0.4, min(1.2, picture.shape[1] / 1800))
    high = round(30 * size / 0.6)
    rows: list[list[tuple[str, Colour, int]]] = [[]]
    x = _GAP
    for text, colour in parts:
        (wide, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        if rows[-1] and x + wide > picture.shape[1]:
            rows.append([])
            x = _GAP
        rows[-1].append((text, colour, x))
        x += wide + 3 * _GAP
    below = np.full((high * len(rows), picture.shape[1], 3), 255, np.uint8)
    for k, row in enumerate(rows):
        for text, (r, g, b), x in row:
            dark = (r * 3 // 4, g * 3 // 4, b * 3 // 4)
            at = (x, round((k + 0.7) * high))
            cv2.putText(below, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, dark, 1, cv2.LINE_AA)
    return np.concatenate([picture, below])


def _polygon(picture: UInt8, points: NDArray[Any], left: int, width: int) -> None:
    """A closed outline in the part of the picture from column `left` on."""
    part = np.ascontiguousarray(picture[:, left:])
    shifted = points - (left, 0)
    for start, end in zip(shifted, np.roll(shifted, -1, axis=0), strict=True):
        line(part, start, end, _YELLOW, width)
    picture[:, left:] = part


def plot_overlay(image_a: Any, image_b: Any, geometry: Geometry) -> Picture:
    """Lay image a on image b by a homography, half transparent, with its outline.

    Parameters
    ----------
    image_a, image_b : path, array, ...
        Whatever an extractor takes.
    geometry : Geometry
        The homography from a to b.

    Returns
    -------
    picture : (H, W, 3) uint8
        Of image b's size.

    Raises
    ------
    InvalidInputError
        If it is no homography, or none was found.

    Examples
    --------
    >>> import tiepoints as tp
    >>> pair = tp.match_images("examples/box.png", "examples/box_in_scene.png", geometry="homography")
    >>> tp.plot_overlay(pair.image_a, pair.image_b, pair.geometry).shape
    (384, 512, 3)
    """
    if not isinstance(geometry, Geometry) or geometry.kind != "homography" or geometry.matrix is None:
        raise InvalidInputError(f"geometry is {checks.shown(geometry)}, but a homography that was found is expected")
    above, below = _rgb(image_a), _rgb(image_b)
    size = below.shape[1::-1]
    warped = cv2.warpPerspective(above, geometry.matrix, size, flags=cv2.INTER_LINEAR)
    covered = cv2.warpPerspective(np.full(above.shape[:2], 255, np.uint8), geometry.matrix, size) > 127
    picture = below.copy()
    picture[covered] = cv2.addWeighted(warped, 0.5, below, 0.5, 0)[covered]
    found = corners(geometry, above.shape[1::-1])
    if found is not None:
        _polygon(picture, found, 0, max(1, round(len(picture) / 300)))
    return picture.view(Picture)


def plot_keypoints(image: Any, features: Features, *, max_size: int | None = 1600) -> Picture:
    """Draw an image with its keypoints: a colour for each set, a circle of each scale where there are scales.

    Parameters
    ----------
    image : path, array, ...
        Whatever an extractor takes.
    features : Features
        Of this image.
    max_size : int, optional
        Shrink the image to this long edge (pixels) first; None for full size.

    Returns
    -------
    picture : (h, w, 3) uint8
        RGB; a notebook shows it.

    Raises
    ------
    InvalidInputError
        If the image has another size than the features', or an option is wrong.

    Examples
    --------
    >>> import tiepoints as tp
    >>> image = tp.read("examples/box.png")
    >>> tp.plot_keypoints(image, tp.load("orb")(image)).shape
    (223, 324, 3)
    """
    checks.instance(features, "features", Features)
    picture, scale = _canvas(image, features, max_size)
    sets = np.zeros(len(features), np.uint8) if features.sets is None else features.sets
    colours = palette(int(sets.max(initial=0)) + 2)
    points = (features.keypoints + 0.5) * scale - 0.5
    radii = np.full(len(features), 3.0) if features.scales is None else np.maximum(features.scales / 2 * scale[0], 2)
    width = max(1, round(len(picture) / 800))
    for row in range(len(features) - 1, -1, -1):
        circle(picture, points[row], float(radii[row]), colours[1 + sets[row]], width)
    return picture.view(Picture)


def save_image(path: str | os.PathLike[str], picture: UInt8) -> None:
    """Write a picture; the kind of file follows from the name (.png, .jpg, .webp, ...).

    Parameters
    ----------
    path : str or path
        Its folder is made if missing.
    picture : (H, W), (H, W, 3) or (H, W, 4) uint8
        Grey, RGB or RGBA; JPEG has no RGBA.

    Raises
    ------
    InvalidInputError
        If it is no such array.
    StorageError
        If the kind is unknown or the folder cannot be written; an older file of that name then stays as it was.

    Examples
    --------
    >>> import numpy as np, tiepoints as tp
    >>> tp.save_image("black.png", np.zeros((48, 64, 3), np.uint8))
    """
    path = checks.path(path, "path")
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise StorageError(
            f"{path}: pictures cannot be written as {path.suffix or 'a file without suffix'}; use .png or .jpg"
        )
    pixels = np.asarray(picture) if isinstance(picture, np.ndarray) else np.zeros(0)
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    known = (1, 3) if kind == "JPEG" else (1, 3, 4)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or channels not in known or not pixels.size:
        raise InvalidInputError(
            f"picture is {checks.shown(picture)}, but (H, W) or (H, W, 3) uint8 is expected; "
            "floats in [0, 1] become that by (255 * picture).round().astype('uint8')"
        )
    if max(pixels.shape[:2]) > _LONGEST.get(kind, math.inf):
        raise StorageError(
            f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels are more than a {path.suffix} file has room for, "
            f"{_LONGEST[kind]} along an edge; use .png, or make the picture smaller"
        )
    options: dict[str, Any] = {"quality": 92} if kind in ("JPEG", "WEBP") else {}
    with replacing(path) as temporary:
        try:
            whole = pixels[:, :, 0] if pixels.ndim == 3 and channels == 1 else pixels
            Image.fromarray(np.ascontiguousarray(whole)).save(temporary, format=kind, **options)
        except Exception as error:  # Pillow's encoders have limits of their own, and raise nearly everything
            reason = getattr(error, "strerror", None) or one_line(error)
            raise StorageError(f"{path}: cannot be written ({reason})") from None


def _rgb(image: Any) -> UInt8:
    pixels = with_mask(image)[0]
    return pixels if pixels.ndim == 3 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)


def _size_of(image: Any, features: Features) -> tuple[int, int]:
    """(width, height) of the image that the features are of; of the given one where they do not know."""
    width, height = features.image_size
    if width and height:
        return width, height
    height, width = with_mask(image)[0].shape[:2]
    return width, height


def _canvas(image: Any, features: Features, max_size: int | None) -> tuple[UInt8, Float32]:
    """An RGB copy to draw on, and its scale (x, y) against the features' coordinates."""
    if max_size is not None:
        checks.count(max_size, "max_size", least=1)
    pixels = _rgb(image)
    height, width = pixels.shape[:2]
    factor = 1.0 if max_size is None else min(1.0, max_size / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    drawn = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if factor < 1 else pixels.copy()
    known = features.image_size if all(features.image_size) else (width, height)
    if known != (width, height):
        raise InvalidInputError(
            f"the image has {width}x{height} pixels, but the features are of one of {known[0]}x{known[1]}: give the "
            "image that they were extracted from; max_size makes the picture smaller"
        )
    return np.asarray(drawn, np.uint8), np.asarray(np.array(size) / known, np.float32)
