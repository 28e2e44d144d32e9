"""Patches of photographs, and the search for one of them in another photograph by least squares over grey values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError

__all__ = ["SCALE", "SIDE", "Located", "Picture", "Pictures", "locate", "prepared", "square"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# All ours, chosen on lund_door, fountain-P11, Herz-Jesus-P8, fox and temple_ring.
_HALF = 7
SIDE = 2 * _HALF + 1  # samples of a patch along its edge
_ITERATIONS = 6
_LEAST = 0.8  # correlation from which an alignment is believed
_MOST = 3.0  # pixels: keypoints move by at most so much
# Pixels of a patch, 13 x 13 that are weighted and smoothed, whose differences are independent. With so many, errors are
# in the median the distances of keypoints from their points after adjustment: from .04 pixels on, on six scenes.
_INDEPENDENT = 40
SCALE = 4.0  # patches that differ more in scale are left alone
_EDGE = 1600  # pixels: larger photographs are shrunk first
_SMOOTH = 0.7  # pixels
_KEPT = 32  # photographs in memory, of at most 7 MB each


class Picture(NamedTuple):
    """A photograph that `prepared` made ready, and by how much it was shrunk."""

    grey: Float32
    scale: float


class Pictures:
    """The last few photographs, by their names; None for those that cannot be read.

    Several threads may ask: each photograph is decoded by the first that does, and others are decoded meanwhile.
    """

    def __init__(self, read: Callable[[str], NDArray[np.uint8]]) -> None:
        self._read, self._kept, self._lock = read, OrderedDict[str, Future[Picture | None]](), Lock()

    def __getitem__(self, name: str) -> Picture | None:
        with self._lock:
            known = self._kept.get(name)
            if known is None:
                if len(self._kept) >= _KEPT:
                    self._kept.popitem(last=False)
                mine = self._kept[name] = Future()
            self._kept.move_to_end(name)
        if known is not None:
            return known.result()
        try:
            mine.set_result(self._prepared(name))
        except BaseException as error:
            mine.set_exception(error)
        return mine.result()

    def _prepared(self, name: str) -> Picture | None:
        try:
            return prepared(self._read(name))
        except ImageError:
            return None


def prepared(grey: NDArray[np.uint8], most: float = 1.0) -> Picture:
    """A photograph shrunk to this scale and to 1600 pixels, and smoothed a little so that bilinear samples follow the
    surface.
    """
    scale = min(1.0, most, _EDGE / max(grey.shape))
    if scale < 1:
        grey = np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    return Picture(np.asarray(cv2.GaussianBlur(grey.astype(np.float32), (0, 0), _SMOOTH), np.float32), scale)


def _grid() -> Float64:
    along = np.arange(-_HALF, _HALF + 1, dtype=np.float64)
    return np.stack(np.meshgrid(along, along))  # (2, 15, 15), x and y


def square(grey: Float32, place: Float64, unit: float | Float64 = 1.0) -> Float32:
    """The patches (N, 15, 15) around places (N, 2), with samples `unit` pixels apart."""
    frame = np.broadcast_to(np.asarray(unit) * np.eye(2), (len(place), 2, 2))
    return _sampled(grey, place, frame, _grid().reshape(2, -1)).reshape(-1, SIDE, SIDE)


class Located(NamedTuple):
    """Where `locate` found N patches."""

    place: Float64  # (N, 2)
    good: NDArray[np.bool_]  # (N,) whether that is to be believed
    error: Float64  # (N,) pixels: how far off it may be in its least certain direction, a standard deviation


def locate(patches: Float32, grey: Float32, place: Float64, frame: Float64) -> Located:
    """Where patches are in a photograph, from a first guess.

    An affine map, brightness and contrast are solved for by inverse compositional Gauss-Newton steps (Gruen, Adaptive
    least squares correlation, 1985; Baker and Matthews, Lucas-Kanade 20 years on, 2004).

    Parameters
    ----------
    patches : (N, 15, 15) float32
    grey : (H, W) float32
        As `prepared` makes it.
    place : (N, 2)
        Where their centres may be.
    frame : (N, 2, 2)
        From a step of one sample in the patch to pixels.

    Returns
    -------
    located : Located
        Good are those that correlate by at least .8, more than at the first guess, and are at most 3 pixels from there.
        The error is that of least squares: large along an edge, where there is little contrast, and where the patches
        differ.
    """
    grid = _grid()
    inner = patches[:, 1:-1, 1:-1].reshape(len(patches), -1)  # (N, P), where differences tell the gradient
    gx = ((patches[:, 1:-1, 2:] - patches[:, 1:-1, :-2]) / 2).reshape(inner.shape)
    gy = ((patches[:, 2:, 1:-1] - patches[:, :-2, 1:-1]) / 2).reshape(inner.shape)
    grid = grid[:, 1:-1, 1:-1].reshape(2, -1)
    weight = np.exp(-(grid**2).sum(axis=0) / (2 * (0.6 * _HALF) ** 2))
    weight = (weight / weight.sum()).astype(np.float32)
    template, contrast = _normalised(inner, weight)
    gx, gy = gx / contrast, gy / contrast
    x, y = grid.astype(np.float32)
    basis = np.stack([gx, gy, gx * x, gx * y, gy * x, gy * y], axis=1)  # (N, 6, P)
    # brightness and contrast are free: what they explain does not count
    basis -= (basis @ weight)[:, :, None]
    basis -= (basis @ (template * weight)[:, :, None]) * template[:, None]
    weighted = basis * weight
    normal = (weighted @ basis.transpose(0, 2, 1)).astype(np.float64)
    damping = np.trace(normal, axis1=1, axis2=2) / 6 * 1e-3 + 1e-12
    inverse = np.linalg.inv(normal + damping[:, None, None] * np.eye(6))

    warp, moved = np.tile(np.eye(2), (len(frame), 1, 1)), np.zeros((len(frame), 2))
    best, best_moved, best_warp, before = np.full(len(frame), -1.0), moved.copy(), warp.copy(), np.zeros(0)
    for iteration in range(_ITERATIONS):
        at = place + (frame @ moved[:, :, None])[:, :, 0]
        patch, _ = _normalised(_sampled(grey, at, frame @ warp, grid), weight)
        likeness = (patch * template) @ weight
        if iteration == 0:
            before = likeness
        better = likeness > best
        best[better], best_moved[better], best_warp[better] = likeness[better], moved[better], warp[better]
        change = (inverse @ (weighted @ (patch - template)[:, :, None]))[:, :, 0]
        undone = np.linalg.inv(np.eye(2) + np.clip(change[:, 2:], -0.2, 0.2).reshape(-1, 2, 2))
        warp = warp @ undone
        moved = moved - (warp @ np.clip(change[:, :2], -1, 1)[:, :, None])[:, :, 0]
    placed = place + (frame @ best_moved[:, :, None])[:, :, 0]
    inside = (placed >= 0).all(axis=1) & (placed <= np.array(grey.shape[::-1]) - 1).all(axis=1)
    far = np.linalg.norm(placed - place, axis=1)
    good = inside & (best >= _LEAST) & (best > before) & (far <= _MOST)
    to_pixels = frame @ best_warp
    spread = np.linalg.eigvalsh(to_pixels @ inverse[:, :2, :2] @ to_pixels.transpose(0, 2, 1))[:, 1]
    return Located(placed, good, np.sqrt(spread * (1 - np.minimum(best, 1) ** 2) / _INDEPENDENT))


def _sampled(grey: Float32, place: Float64, frame: Float64, grid: Float64) -> Float32:
    """Grey values (N, P) at place + frame grid."""
    at = (place[:, :, None] + frame @ grid).astype(np.float32)
    return np.asarray(
        cv2.remap(grey, at[:, 0].copy(), at[:, 1].copy(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
    )


def _normalised(patches: Float32, weight: Float32) -> tuple[Float32, Float32]:
    """Of weighted mean 0 and variance 1, and the contrast (N, 1) that they had."""
    patches = patches - (patches @ weight)[:, None]
    contrast = np.sqrt((patches * patches) @ weight)[:, None] + np.float32(1e-3)
    return patches / contrast, contrast
