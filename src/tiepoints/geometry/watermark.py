"""Matches on an overlay that does not move: a burnt-in date, a camera's label, a logo in the corner."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["on_a_watermark"]

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Size = tuple[int, int]

_SHARE = 0.6  # of the inliers must not move; and of these so many lie near the border
_NEAR = 0.15  # of an image's width or height: the border
_FEWEST = 8  # inliers
_STILL = 1.5  # pixels: what a keypoint on an overlay seems to move
_CELLS, _MOST_CELLS = 16, 0.15  # an overlay covers few cells of a grid on the image; a scene that stands still, many


def on_a_watermark(a: Float64, b: Float64, inliers: Mask, size_a: Size | None, size_b: Size | None) -> Mask | None:
    """Which matches lie on an overlay, where most inliers do; None where the inliers are a scene.

    COLMAP calls such a pair a watermark where most inliers lie near the border and agree with one translation
    (``TwoViewGeometry::DetectWatermark``). Here the translation must be none, so that pictures with little overlap from
    a camera that was moved along stay pairs, and the inliers must crowd in a small part of the image, so that two
    pictures from a tripod do.

    Parameters
    ----------
    a, b : (M, 2) float64
        All matched points, in pixels.
    inliers : (M,) bool
    size_a, size_b : (int, int), optional
        (width, height) of the images, without which there is no telling.
    """
    if size_a is None or size_b is None or np.count_nonzero(inliers) < _FEWEST:
        return None
    (width_a, height_a), (width_b, height_b) = size_a, size_b
    anchors = [(0.0, 0.0)]
    if (width_a, height_a) != (width_b, height_b):  # overlays keep to a corner, whatever the size
        right, below = float(width_b - width_a), float(height_b - height_a)
        anchors += [(right, 0.0), (0.0, below), (right, below)]
    for anchor in anchors:
        still = np.hypot(*(b - a - anchor).T) < _STILL
        ours = still & inliers
        if np.count_nonzero(ours) < _SHARE * np.count_nonzero(inliers):
            continue
        images = ((a[ours], (width_a, height_a)), (b[ours], (width_b, height_b)))
        if all(_near_the_border(p, size) >= _SHARE and _covered(p, size) < _MOST_CELLS for p, size in images):
            return np.asarray(still, bool)
    return None


def _near_the_border(points: Float64, size: Size) -> float:
    share = (points + 0.5) / size
    return float(((share < _NEAR) | (share > 1 - _NEAR)).any(axis=1).mean())


def _covered(points: Float64, size: Size) -> float:
    """The share of a grid's cells that hold a point."""
    cells = np.clip((points + 0.5) / size * _CELLS, 0, _CELLS - 1).astype(int)
    return np.count_nonzero(np.bincount(cells[:, 0] * _CELLS + cells[:, 1])) / _CELLS**2
