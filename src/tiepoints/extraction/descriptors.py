"""Descriptors at keypoints, from MD-Net's dense maps of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..features.descriptors import rotated

__all__ = ["described_at"]

Float32 = NDArray[np.float32]


def described_at(maps: list[Float32], keypoints: Float32, shape: tuple[int, int], rotations: int) -> Float32:
    """Unit descriptors at keypoints of an image of (height, width), from looks at it in one or four rotations.

    Of descriptors that know those of the `rotations` rotated images, the mean over the looks (N, D). Of those that do
    not (`rotations` is 1), those of all looks side by side (N, R D), which then know it.
    """
    if len(maps) == 1:
        return _sampled(maps[0], keypoints)
    height, width = shape
    parts: list[Float32] = []
    for turns, described in enumerate(maps):
        seen = _sampled(described, keypoints)
        parts.append(seen if rotations == 1 else rotated(seen, rotations, -turns))
        keypoints = np.stack([keypoints[:, 1], width - 1 - keypoints[:, 0]], axis=1)  # a quarter turn
        width, height = height, width
    if rotations == 1:
        return np.concatenate(parts, axis=1) / np.float32(np.sqrt(len(maps)))
    total: Float32 = np.sum(parts, axis=0, dtype=np.float32)
    total /= np.maximum(np.linalg.norm(total, axis=1, keepdims=True), np.float32(1e-12))
    return total


def _sampled(described: Float32, keypoints: Float32) -> Float32:
    """Unit descriptors (N, D) at keypoints, bilinear from the map (h, w, D), whose pixel i is centred on 4 i + 1.5."""
    height, width, size = described.shape
    flat = described.reshape(-1, size)
    place = np.clip((keypoints - 1.5) / 4, 0, [width - 1, height - 1]).astype(np.float32)
    corner = np.minimum(place.astype(np.intp), [max(width - 2, 0), max(height - 2, 0)])
    fx, fy = (place - corner).astype(np.float32).T[:, :, None]
    index = corner[:, 1] * width + corner[:, 0]
    right, down = (1 if width > 1 else 0), (width if height > 1 else 0)
    total: Float32 = flat[index]
    total *= (1 - fx) * (1 - fy)
    for step, weight in ((right, fx * (1 - fy)), (down, (1 - fx) * fy), (down + right, fx * fy)):
        row = flat[index + step]
        row *= weight
        total += row
    total /= np.maximum(np.sqrt(np.einsum("nd,nd->n", total, total)), np.float32(1e-12))[:, None]
    return total
