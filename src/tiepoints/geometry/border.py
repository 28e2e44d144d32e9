"""Matches along an edge of both images: a network sees its own padding there, which is the same in all images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .chance import VERIFIED, log_nfa_of
from .results import Geometry

__all__ = ["without_border"]

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Size = tuple[int, int]

# How far padding reaches, in pixels and as a share of the long edge, for images may have been shrunk; how alike the
# distances from an edge are that it makes match; and which share of the inliers is suspicious.
_PIXELS, _SHARE, _ALIKE, _MANY = 32.0, 0.05, 8.0, 0.4


def without_border(model: Geometry, a: Float64, b: Float64, size_a: Size | None, size_b: Size | None) -> Geometry:
    """The model, without its inliers along one edge of both images where the others are no evidence.

    A descriptor near an edge tells how far the edge is, whatever the image shows. Keypoints as far from it match each
    other, and an epipolar geometry with lines along the edge explains them: of MD-Net's matches of two images of noise
    it had two to three times as many inliers as chance gives, half of them within 32 pixels of that edge.

    Parameters
    ----------
    model : Geometry
        Of two views, with its threshold.
    a, b : (M, 2) float64
        All matched points, in pixels.
    size_a, size_b : (int, int), optional
        (width, height) of the images, without which there is no telling.
    """
    if size_a is None or size_b is None or model.threshold is None or not model:
        return model
    border = _along_an_edge(a, b, size_a, size_b)
    there = border & model.inliers
    if np.count_nonzero(there) < _MANY * model.num_inliers:
        return model
    n, k = int((~border).sum()), int((model.inliers & ~border).sum())
    if log_nfa_of(model.kind, n, k, model.threshold, size_b) <= VERIFIED:
        return model
    return replace(model, inliers=model.inliers & ~border)


def _along_an_edge(a: Float64, b: Float64, size_a: Size, size_b: Size) -> Mask:
    """Which matches are near the same edge of both images, and as far from it."""
    ways = [np.hstack([points, np.subtract(size, 1) - points]) for points, size in ((a, size_a), (b, size_b))]
    wide = [max(_PIXELS, _SHARE * max(size)) for size in (size_a, size_b)]
    near = (ways[0] < wide[0]) & (ways[1] < wide[1])
    alike = np.abs(ways[0] / wide[0] - ways[1] / wide[1]) < _ALIKE / _PIXELS
    return np.asarray((near & alike).any(axis=1))
