"""Changes of light, focus, noise and compression that make two crops of a photograph look like two photographs.

All in torch, each only on those images of a batch that have it. Every range is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["LIGHT_UNIFORMS", "Lights", "draw_lights", "jpeg", "relit"]

Rows = NDArray[np.int64]
Values = NDArray[np.float32]

_REACH = 4  # pixels: of the blurs
_HARD = 0.12  # share of the images that are much darker or brighter and noisier


class Lights(NamedTuple):
    """What is done to some of n images: of each change which images have it (m,), and its values there."""

    shadow: tuple[Rows, Values]  # (m, 4): angle, offset as a share of the edge, width in pixels, strength
    gamma: tuple[Rows, Values]  # (m,)
    contrast: tuple[Rows, Values]  # (m, 2): factor, offset
    blur: tuple[Rows, Values]  # (m, 9, 9): kernels
    noise: tuple[Rows, Values]  # (m,): standard deviation
    quality: tuple[Rows, Values]  # (m,): of JPEG


#: Luminance quantisation of JPEG at quality 50 (ITU-T T.81, table K.1).
_QUANTISATION = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip


#: Numbers of [0, 1) from which the light of an image is drawn.
LIGHT_UNIFORMS = 19


def draw_lights(strength: float, uniforms: NDArray[np.float64]) -> Lights:
    """Shadow, gamma, contrast and brightness, blur, noise and JPEG of n images, each with its own chance.

    Parameters
    ----------
    strength : float
    uniforms : (n, LIGHT_UNIFORMS)
        In [0, 1).
    """
    chance = uniforms[:, :6] < np.array([0.3, 0.5, 0.8, 0.4, 0.5, 0.25]) * np.clip(strength, 0, 1)
    u = uniforms[:, 6:].T
    more = strength * np.where(u[0] < _HARD, 2, 1)
    drawn = (
        np.stack([2 * np.pi * u[1], 0.8 * u[2] - 0.4, 2 + 38 * u[3], 1.1 * u[4] - 0.4], axis=1),
        np.exp((1.4 * u[5] - 0.7) * more),
        np.stack([np.exp((0.9 * u[6] - 0.5) * more), (0.3 * u[7] - 0.15) * strength], axis=1),
        u[8:11].T,
        0.04 * u[11] * more,
        20 + 70 * u[12],
    )
    rows = [np.flatnonzero(there) for there in chance.T]
    values = [np.asarray(some[which], np.float32) for some, which in zip(drawn, rows, strict=True)]
    values[3] = _kernels(drawn[3][rows[3]], strength)
    return Lights(*zip(rows, values, strict=True))


def _kernels(u: NDArray[np.float64], strength: float) -> NDArray[np.float32]:
    """Out of focus, or moved in a straight line during the exposure: (n, 9, 9) that sum up to 1, from u (n, 3)."""
    offset = np.arange(-_REACH, _REACH + 1)
    along = np.exp(-(offset**2) / (2 * ((0.3 + 1.3 * u[:, 1:2]) * strength) ** 2 + 1e-6))
    out_of_focus = along[:, :, None] * along[:, None]
    t = np.linspace(-0.5, 0.5, 17) * (1 + 5 * u[:, 1:2]) * min(strength, 1.5)
    x, y = t * np.cos(np.pi * u[:, 2:]), t * np.sin(np.pi * u[:, 2:])
    moved = np.einsum("nty,ntx->nyx", *(np.maximum(1 - abs(p[..., None] - offset), 0) for p in (y, x)))
    kernels = np.where(u[:, 0, None, None] < 0.6, out_of_focus, moved)
    return np.asarray(kernels / kernels.sum(axis=(1, 2), keepdims=True), np.float32)


def relit(images: Tensor, lights: Mapping[str, tuple[Tensor, Tensor]], noise: Callable[[Tensor], Tensor]) -> Tensor:
    """Change images (n, S, S) in [0, 1], in this order: shadow, gamma, contrast, blur, noise, JPEG.

    Parameters
    ----------
    images : (n, S, S)
        Changed in place.
    lights : mapping
        By the names of `Lights`' fields: which images (m,), and their values; what no image has may be missing.
    noise : callable
        Normally distributed numbers (m, S, S) of these images (m,).
    """
    if found := lights.get("shadow"):
        rows, values = found
        images[rows] *= _shadow(values, images.shape[-1])
    if found := lights.get("gamma"):
        rows, values = found
        images[rows] = images[rows].clamp(1e-4, 1) ** values[:, None, None]
    if found := lights.get("contrast"):
        rows, values = found
        factor, offset = values[:, 0, None, None], values[:, 1, None, None]
        images[rows] = (images[rows] - 0.5) * factor + (0.5 + offset)
    if found := lights.get("blur"):
        rows, kernels = found
        padded = F.pad(images[rows][None], (_REACH,) * 4, mode="reflect")
        images[rows] = F.conv2d(padded, kernels[:, None], groups=len(rows))[0]
    if found := lights.get("noise"):
        rows, values = found
        images[rows] += noise(rows) * values[:, None, None]
    images.clamp_(0, 1)
    if found := lights.get("quality"):
        rows, values = found
        images[rows] = jpeg(images[rows], values)
    return images


def _shadow(values: Tensor, size: int) -> Tensor:
    """Factors (n, S, S) that darken or brighten one side of a soft, slanted edge."""
    angle, offset, width, strength = values.T[..., None, None]
    along = torch.arange(size, device=values.device) - size / 2
    side = along * torch.cos(angle) + along[:, None] * torch.sin(angle) - offset * size
    factors: Tensor = 1 - torch.sigmoid(side / width) * strength
    return factors


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """What JPEG (ITU-T T.81) makes of grey images: 8x8 blocks' cosine transforms, rounded by the quality's table.

    Parameters
    ----------
    images : (n, H, W)
        In [0, 1], edges multiples of 8.
    quality : (n,)
        1 to 100, scaled as the Independent JPEG Group's library does.
    """
    n, height, width = images.shape
    transform, table = _tables(images.device)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50).view(n, 1, 1, 1, 1)
    steps = (table * scale).round().clamp(1, 255)
    blocks = (images * 255 - 128).view(n, height // 8, 8, width // 8, 8).transpose(2, 3)
    coded = torch.round(transform @ blocks @ transform.T / steps) * steps
    decoded = (transform.T @ coded @ transform).transpose(2, 3).reshape(n, height, width)
    return ((decoded + 128) / 255).clamp(0, 1)


@cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor]:
    """The orthonormal cosine transform of 8 values, and the quantisation table."""
    k = np.arange(8)
    transform = np.cos((2 * k + 1) * k[:, None] * np.pi / 16) / 2
    transform[0] /= np.sqrt(2)
    return tuple(torch.tensor(np.asarray(v, np.float32), device=device) for v in (transform, _QUANTISATION))  # type: ignore[return-value]
