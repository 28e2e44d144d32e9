"""Training pairs from single photographs: two warped, photometrically changed crops and the exact map between them.

Every range below is ours; those that follow a published recipe name it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..images import read, resize_to

__all__ = ["Pair", "Photographs", "Warps", "make_pair", "warp_points"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Warps:
    """How strongly the two crops of a pair differ.

    Parameters
    ----------
    size : int
        Edge of the crops in pixels.
    rotation : float
        Most degrees between the two images of an ordinary pair.
    any_rotation : float
        Share of the pairs that are turned by any angle instead.
    scale : float
        Largest ratio of the scales of the two images.
    perspective : float
        Most displacement of a corner, as a share of the edge.
    bend : float
        Share of the pairs that are also bent by a smooth, locally non-rigid displacement.
    photometric : float
        Strength of the changes of light, noise, blur and compression; 0 for none.
    """

    size: int = 192
    rotation: float = 30.0
    any_rotation: float = 0.1
    scale: float = 2.0
    perspective: float = 0.2
    bend: float = 0.2
    photometric: float = 1.0


class Pair(NamedTuple):
    """Two images of the same photograph, and where each pixel of one lies in the other.

    `b_from_a[y, x]` is the place [x, y] in image b of the pixel (x, y) of image a, in pixels with centres at whole
    numbers; it may lie outside of b. `valid_a` tells where both ends lie inside both images and the photograph.
    """

    image_a: Float32  # (S, S), grey in [0, 1]
    image_b: Float32
    b_from_a: Float32  # (S, S, 2)
    a_from_b: Float32
    valid_a: NDArray[np.bool_]  # (S, S)
    valid_b: NDArray[np.bool_]


class Photographs(Sequence[NDArray[np.uint8]]):
    """The photographs of a folder, decoded once and kept in memory up to a bound.

    Parameters
    ----------
    paths : sequence of path
    max_edge : int
        Larger ones are shrunk to this long edge.
    max_bytes : int
        Memory for decoded images; beyond it the ones used longest ago are decoded again when needed.
    """

    def __init__(self, paths: Sequence[Path], *, max_edge: int = 800, max_bytes: int = 2 * 2**30) -> None:
        self.paths = list(paths)
        self.max_edge = max_edge
        self.max_bytes = max_bytes
        self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._held = 0

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:  # type: ignore[override] # slices make no sense here
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        image, _ = resize_to(read(self.paths[index]), self.max_edge)
        self._cache[index] = image
        self._held += image.nbytes
        while self._held > self.max_bytes and len(self._cache) > 1:
            self._held -= self._cache.popitem(last=False)[1].nbytes
        return image

    def drop_unreadable(self, least_edge: int) -> list[str]:
        """Leave out what cannot be read or is smaller than `least_edge`; what was wrong with each, a line an image."""
        good, wrong = [], []
        for path in self.paths:
            try:
                image = read(path)
            except ImageError as error:  # noqa: PERF203 - one bad file must not end the training
                wrong.append(str(error))
            else:
                if min(image.shape[:2]) < least_edge:
                    wrong.append(f"{path}: {image.shape[1]}x{image.shape[0]} pixels are less than {least_edge}")
                else:
                    good.append(path)
        self.paths = good
        return wrong


def make_pair(photograph: NDArray[np.uint8], warps: Warps, rng: np.random.Generator) -> Pair:
    """Cut two crops out of an RGB photograph (H, W, 3) and change each on its own.

    Image a is seen through the homography `a_from_photo`, image b through `b_from_photo` after a bend of its own frame:
    the pixel q of b shows what `b_from_photo` would show at q + bend(q). Both maps are exact: a to b is solved for q by
    fixed-point iteration, to less than 1e-3 px.
    """
    size = warps.size
    if rng.uniform() < 0.5:  # mirrored photographs are photographs too
        photograph = np.ascontiguousarray(photograph[:, ::-1])
    a_from_photo, b_from_photo = _views(photograph.shape[:2], warps, rng)
    bend = _bend(size, rng) if rng.uniform() < warps.bend else None
    grid = _grid(size)

    photo_at_a = warp_points(np.linalg.inv(a_from_photo), grid)
    straight = grid if bend is None else grid + bend(grid)
    photo_at_b = warp_points(np.linalg.inv(b_from_photo), straight)
    a_from_b = warp_points(a_from_photo, photo_at_b)
    b_from_a = warp_points(b_from_photo, photo_at_a)
    if bend is not None:
        b_from_a = _solve_bend(b_from_a, bend)

    # Grey as different filters and sensors would see the same colours; on average near the weights of the luma.
    grey = [_mixed(photograph, rng.dirichlet((4.0, 8.0, 3.0))) for _ in range(2)]
    image_a, image_b = (_sampled(g, at) for g, at in zip(grey, (photo_at_a, photo_at_b), strict=True))
    shown_a, shown_b = _within(photo_at_a, photograph.shape[:2]), _within(photo_at_b, photograph.shape[:2])
    valid_a = shown_a & _within(b_from_a, (size, size)) & _shown_at(shown_b, b_from_a)
    valid_b = shown_b & _within(a_from_b, (size, size)) & _shown_at(shown_a, a_from_b)
    return Pair(
        _relit(image_a, warps.photometric, rng),
        _relit(image_b, warps.photometric, rng),
        b_from_a,
        a_from_b,
        valid_a,
        valid_b,
    )


def warp_points(homography: NDArray[Any], points: NDArray[np.floating]) -> Float32:
    """Map points (..., 2) [x, y] by a 3x3 homography."""
    flat = np.ascontiguousarray(points, np.float32).reshape(-1, 1, 2)
    return np.asarray(cv2.perspectiveTransform(flat, homography), np.float32).reshape(points.shape)


@cache
def _grid(size: int) -> Float32:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    return np.stack([x, y], axis=-1)


def _views(shape: tuple[int, ...], warps: Warps, rng: np.random.Generator) -> tuple[Float64, Float64]:
    """The homographies from the photograph to both crops; tried until both mostly lie inside it."""
    height, width = shape[0], shape[1]
    size = warps.size
    for attempt in range(20):
        # How many photograph pixels a crop pixel spans in each of the two images; the larger one is cut from the middle
        # of the possible range, so that small photographs work too.
        largest = min(height, width) / size
        ratio = np.exp(rng.uniform(0, np.log(warps.scale)))
        base = np.exp(rng.uniform(np.log(min(0.6, largest)), np.log(max(0.6, min(largest, 2.0)))))
        spans = np.array([base, base / ratio])[rng.permutation(2)] if attempt < 15 else np.array([base, base])
        turn = rng.uniform(-180, 180) if rng.uniform() < warps.any_rotation else rng.uniform(-1, 1) * warps.rotation
        share = rng.uniform()  # who is turned how much: both images get their part
        angles = np.deg2rad([share * turn, (share - 1) * turn])
        room = size * spans.max() / 2
        centre = np.array([_inside(rng, width, room), _inside(rng, height, room)])
        views = []
        for span, angle in zip(spans, angles, strict=True):
            shift = rng.uniform(-0.15, 0.15, 2) * size * span
            views.append(_view(size, centre + shift, span, angle, warps.perspective, rng))
        corners = np.array([[0, 0], [size - 1, 0], [size - 1, size - 1], [0, size - 1]], np.float64)
        seen = [_within(warp_points(np.linalg.inv(view), _grid(size)[::16, ::16]), shape[:2]).mean() for view in views]
        overlap = _within(warp_points(views[1] @ np.linalg.inv(views[0]), corners * 0.5 + size / 4), (size, size))
        if min(seen) > 0.75 and overlap.any():
            return views[0], views[1]
    return views[0], views[1]


def _inside(rng: np.random.Generator, length: int, room: float) -> float:
    low, high = min(room, length / 2), max(length - room, length / 2)
    return float(rng.uniform(low, high))


def _view(
    size: int, centre: Float64, span: float, angle: float, perspective: float, rng: np.random.Generator
) -> Float64:
    """The homography photograph -> crop: similarity, then its corners are moved (as SuperPoint's homographies)."""
    corners = np.array([[0, 0], [size - 1, 0], [size - 1, size - 1], [0, size - 1]], np.float64)
    centred = (corners - (size - 1) / 2) * span
    c, s = np.cos(angle), np.sin(angle)
    source = centred @ np.array([[c, s], [-s, c]]) + centre
    source += rng.uniform(-1, 1, (4, 2)) * perspective * rng.uniform() * size * span / 2
    return np.asarray(
        cv2.getPerspectiveTransform(source.astype(np.float32), corners.astype(np.float32)), dtype=np.float64
    )


class _Bend(NamedTuple):
    """A smooth displacement of the plane: a few sine waves, exact at every place without interpolation."""

    amplitude: Float32  # (waves, 2), pixels
    frequency: Float32  # (waves, 2), radians a pixel
    phase: Float32  # (waves,)

    def __call__(self, points: Float32) -> Float32:
        """The displacement (..., 2) at points (..., 2)."""
        total = np.zeros_like(points)
        for amplitude, frequency, phase in zip(*self, strict=True):
            wave = np.sin(points[..., 0] * frequency[0] + points[..., 1] * frequency[1] + phase)
            total += wave[..., None] * amplitude
        return total


def _bend(size: int, rng: np.random.Generator) -> _Bend:
    """Three waves whose gradients sum up to less than 0.3: one to one, and the iteration of the inverse converges."""
    directions = rng.uniform(0, 2 * np.pi, 3)
    frequency = rng.uniform(0.5, 1.5, 3)[:, None] * 2 * np.pi / size
    wave = frequency * np.stack([np.cos(directions), np.sin(directions)], axis=1)
    turned = rng.uniform(0, 2 * np.pi, 3)
    steepness = rng.uniform(0.02, 0.1, 3)[:, None]
    amplitude = steepness / frequency * np.stack([np.cos(turned), np.sin(turned)], axis=1)
    phase = rng.uniform(0, 2 * np.pi, 3)
    return _Bend(amplitude.astype(np.float32), wave.astype(np.float32), phase.astype(np.float32))


def _solve_bend(target: Float32, bend: _Bend) -> Float32:
    """The q with q + bend(q) = target, for points (S, S, 2)."""
    q = target - bend(target)
    for _ in range(8):  # the error shrinks to less than 0.3 of itself a step: from 10 px to below 1e-3 px
        q = target - bend(q)
    return q


def _within(points: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether points (..., 2) lie between the centres of the outermost pixels of an image (H, W)."""
    x, y = points[..., 0], points[..., 1]
    return np.asarray((x >= 0) & (y >= 0) & (x <= shape[1] - 1) & (y <= shape[0] - 1))


def _shown_at(shown: NDArray[np.bool_], at: NDArray[np.floating]) -> NDArray[np.bool_]:
    """The mask's value at the pixel nearest to each place; False outside."""
    size = shown.shape[0]
    x, y = (np.clip(np.rint(at[..., i]), -1, size).astype(int) for i in (0, 1))
    inside = (x >= 0) & (y >= 0) & (x < size) & (y < size)
    return np.asarray(inside & shown[np.clip(y, 0, size - 1), np.clip(x, 0, size - 1)])


_NO_MAP: Any = None  # `at` holds x and y together


def _sampled(grey: NDArray[np.uint8], at: Float32) -> Float32:
    """The image in [0, 1] at the places `at` (S, S, 2); smoothed first where it is shrunk, against aliasing."""
    middle = at.shape[0] // 2
    step = float(np.linalg.norm(at[middle, middle] - at[middle, middle - 1]))
    if step > 1.2:
        grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), 0.5 * np.sqrt(step**2 - 1)), np.uint8)
    sampled = cv2.remap(grey, at, _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(sampled, np.float32) / np.float32(255)


# -- light, noise, blur, compression ---------------------------------------------------------------------------------


def _mixed(photograph: NDArray[np.uint8], weights: Float64) -> NDArray[np.uint8]:
    """Grey (H, W) in 0..255 as a weighted sum of the three channels; the weights sum up to 1."""
    return np.asarray(cv2.transform(photograph, weights.reshape(1, 3)), np.uint8)


def _relit(image: Float32, strength: float, rng: np.random.Generator) -> Float32:
    """Shadow, gamma, contrast, brightness, blur, noise and JPEG, each with its own chance; (S, S) in [0, 1]."""
    image = np.clip(image, 0, 1)
    if strength <= 0:
        return image

    def chance(p: float) -> bool:
        return bool(rng.uniform() < p * min(strength, 1))

    if chance(0.3):
        image = _shadowed(image, rng)
    if chance(0.5):
        image = image ** np.float32(np.exp(rng.uniform(-0.7, 0.7) * strength))
    if chance(0.8):
        gain, offset = np.exp(rng.uniform(-0.5, 0.4) * strength), rng.uniform(-0.15, 0.15) * strength
        image = (image - 0.5) * np.float32(gain) + np.float32(0.5 + offset)
    if chance(0.4):
        image = _blurred(image, strength, rng)
    if chance(0.5):
        deviation = rng.uniform(0, 0.04) * strength
        image = image + rng.standard_normal(image.shape, np.float32) * np.float32(deviation)
    image = np.clip(image, 0, 1).astype(np.float32)
    if chance(0.25):
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 90))]
        _, code = cv2.imencode(".jpg", (image * 255).astype(np.uint8), quality)
        image = np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), np.float32) / np.float32(255)
    return image


def _shadowed(image: Float32, rng: np.random.Generator) -> Float32:
    """Darken or brighten one side of a soft, slanted edge."""
    size = image.shape[0]
    angle, offset, width = rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 0.4) * size, rng.uniform(2, 40)
    y, x = np.ogrid[0:size, 0:size]
    side = (x - size / 2) * np.cos(angle) + (y - size / 2) * np.sin(angle) - offset
    ramp = 1 / (1 + np.exp(np.clip(-side / width, -30, 30)))
    return np.asarray(image * (1 - ramp * rng.uniform(-0.4, 0.7)), np.float32)


def _blurred(image: Float32, strength: float, rng: np.random.Generator) -> Float32:
    """Out of focus, or moved in a straight line during the exposure."""
    if rng.uniform() < 0.6:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.6) * strength + 1e-3), np.float32)
    length, angle = rng.uniform(1, 6) * strength, rng.uniform(0, np.pi)
    kernel = np.zeros((9, 9), np.float32)
    for t in np.linspace(-0.5, 0.5, 33):
        kernel[round(4 + t * length * np.sin(angle)), round(4 + t * length * np.cos(angle))] += 1
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101), np.float32)
