"""Keypoints of heatmaps: their peaks, how exactly each is known, and which are the best."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..threads import scratch

__all__ = ["UNCERTAINTY", "Peaks", "allowed_places", "best_rows", "find_peaks", "sigmoid"]

Float32 = NDArray[np.float32]

_REACH = 8  # ours: pixels; between the squares of a checkerboard keypoints lie up to 5 px beside the corner
# ours: pixels. On warped photographs, as the exact paraboloid through 3 x 3: MMA@1 .445 -> .452, MMA@3 .772 -> .781.
_FIT_RADIUS, _FIT_SIGMA = 2, 1.0
_DULL = 0.1  # ours, per pixel: the sharpness of what has no summit

#: ours: the standard deviation of a peak's place, along x or y, is this over its sharpness. On warped photographs the
#: median distance of matches from their true counterparts follows this law over the whole range, from 0.5 to 1.3 px.
UNCERTAINTY = 0.35


class Peaks(NamedTuple):
    """Local maxima of heatmaps, in the order of the heatmaps.

    Parameters
    ----------
    heats : (N,) int
        Of which heatmap.
    keypoints : (N, 2) float32
        [x, y] of the summit.
    values : (N,) float32
        What to rank them by: the logit of the summit's pixel plus the logarithm of the sharpness. Of peaks of one
        height the sharper ones are found again more exactly: on warped photographs MMA@1 .471 -> .478.
    sharpness : (N,) float32
        The fourth root of the determinant of the logits' second derivatives: an inverse width, 1 / pixel.
    """

    heats: NDArray[np.intp]
    keypoints: Float32
    values: Float32
    sharpness: Float32


def find_peaks(logits: Float32, allowed: NDArray[np.bool_], radius: int, radius_across: int) -> Peaks:
    """All peaks of heatmaps that are allowed.

    Parameters
    ----------
    logits : (k, H, W) float32
        Not the heatmaps, which are flat where they saturate.
    allowed : (H, W) bool
    radius, radius_across : int
        Peaks of one heatmap, and of different ones, keep more than so many pixels apart, in x or in y.
    """
    heats, y, x = _places(_local_maxima(logits, allowed, radius, radius_across))
    keypoints, sharpness = _summits(logits, heats, y, x)
    return Peaks(heats, keypoints, logits[heats, y, x] + np.log(sharpness), sharpness)


def allowed_places(image: NDArray[np.uint8], mask: NDArray[np.uint8] | None, border: int) -> NDArray[np.bool_]:
    """Where keypoints may be: not at the edge, not where the mask is 0, not far from any change of grey."""
    height, width = image.shape
    allowed = np.zeros((height, width), bool)
    inner = slice(border, max(height - border, border)), slice(border, max(width - border, border))
    # Where nothing changes there is nothing to find: there the network sees its own padding and offsets.
    around = np.ones((2 * _REACH + 1,) * 2, np.uint8)
    np.not_equal(cv2.morphologyEx(image, cv2.MORPH_GRADIENT, around)[inner], 0, out=allowed[inner])
    if mask is not None:
        allowed &= mask != 0
    return allowed


def _local_maxima(logits: Float32, allowed: NDArray[np.bool_], radius: int, radius_across: int) -> NDArray[np.bool_]:
    """Where each heatmap (k, H, W) has a local maximum that no stronger one of any set is near."""
    around = None
    if len(logits) > 1 and radius_across > 0:
        strongest = np.maximum.reduce(logits, axis=0, out=scratch("strongest", allowed.shape))
        around = _greatest(strongest, radius_across, "around")
    peaks = np.empty(logits.shape, bool)
    for m, heat in enumerate(logits):
        np.equal(heat, _greatest(heat, radius, "dilated"), out=peaks[m])
        peaks[m] &= allowed
        if around is not None:
            peaks[m] &= heat >= around
    return peaks


def _greatest(values: Float32, radius: int, name: str) -> Float32:
    """The maximum within `radius` pixels to each side, in the memory of this name."""
    square = np.ones((2 * radius + 1,) * 2, np.uint8)
    return np.asarray(cv2.dilate(values, square, dst=scratch(name, values.shape)), np.float32)


def _places(peaks: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Heatmap, row and column of all peaks (k, H, W)."""
    places = [cv2.findNonZero(allowed.view(np.uint8)) for allowed in peaks]  # ten times as fast as numpy.nonzero
    found = [np.zeros((0, 2), np.intp) if p is None else p.reshape(-1, 2).astype(np.intp) for p in places]
    x, y = np.concatenate(found).T
    return np.repeat(np.arange(len(peaks)), [len(p) for p in found]), y, x


def _least_squares(radius: int, sigma: float) -> Float32:
    """From the values around a pixel, row by row, to the derivatives [x, y, xx, xy, yy] of a paraboloid through them.

    The paraboloid has the least squared error, weighted by a Gaussian; ((2 radius + 1)^2, 5).
    """
    along = np.arange(-radius, radius + 1.0)
    y, x = (axis.ravel() for axis in np.meshgrid(along, along, indexing="ij"))
    terms = np.stack([np.ones_like(x), x, y, x * x / 2, x * y, y * y / 2], axis=1)
    weights = np.exp(-(x * x + y * y) / (4 * sigma**2))[:, None]  # the roots of the Gaussian's
    return np.asarray((np.linalg.pinv(terms * weights) * weights.T)[1:].T, np.float32)


_FIT = _least_squares(_FIT_RADIUS, _FIT_SIGMA)


def _summits(
    logits: Float32, heats: NDArray[np.intp], y: NDArray[np.intp], x: NDArray[np.intp]
) -> tuple[Float32, Float32]:
    """Keypoints [x, y] (N, 2) at the summits of the paraboloids that fit 5 x 5 logits around each peak; sharpness (N,).

    A summit farther than a pixel away is none of this peak's and is cut off there.
    """
    height, width = logits.shape[1:]
    around = np.arange(-_FIT_RADIUS, _FIT_RADIUS + 1)
    rows = (np.clip(y[:, None] + around, 0, height - 1) + heats[:, None] * height) * width
    columns = np.clip(x[:, None] + around, 0, width - 1)
    values = logits.reshape(-1)[(rows[:, :, None] + columns[:, None]).reshape(len(x), len(_FIT))]
    dx, dy, dxx, dxy, dyy = ((values - values[:, len(_FIT) // 2, None]) @ _FIT).T
    determinant = dxx * dyy - dxy * dxy
    summit = (determinant > _DULL**4) & (dxx < 0)
    offset = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=1) / np.where(summit, determinant, 1)[:, None]
    offset = np.where(summit[:, None], np.clip(offset, -1, 1), 0)
    keypoints = np.asarray(np.stack([x, y], axis=1) + offset, np.float32)
    return keypoints, np.asarray(np.where(summit, determinant, _DULL**4) ** 0.25, np.float32)


def best_rows(values: Float32, group: NDArray[np.intp], groups: int, count: int) -> NDArray[np.intp]:
    """The rows of the `count` largest values, as many from each of the groups."""
    if groups == 1:
        return _largest(values, np.arange(len(values)), count)
    share = [count // groups + (m < count % groups) for m in range(groups)]
    return np.concatenate([_largest(values, np.flatnonzero(group == m), n) for m, n in enumerate(share)])


def _largest(values: Float32, rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Those `count` of the rows that have the largest values."""
    if len(rows) <= count:
        return rows
    if count == 0:
        return rows[:0]
    return rows[np.argpartition(-values[rows], count - 1)[:count]]


def sigmoid(x: Float32) -> Float32:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 * np.tanh(0.5 * x) + 0.5, np.float32)
