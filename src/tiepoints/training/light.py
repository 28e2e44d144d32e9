"""Changes of light, focus, noise and compression that make two crops of a photograph look like two photographs.

All in torch, each only on those images of a batch that have it. Every range is ours.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Light", "draw_light", "jpeg", "relit"]

_REACH = 4  # pixels: of the blurs
_HARD = 0.12  # share of the images that are much darker or brighter and noisier

#: Luminance quantisation of JPEG at quality 50 (ITU-T T.81, table K.1).
_QUANTISATION = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip


class Light(NamedTuple):
    """What is done to one image; None where that is not done."""

    shadow: tuple[float, float, float, float] | None  # angle, offset as a share of the edge, width in pixels, strength
    gamma: float | None
    contrast: tuple[float, float] | None  # factor, offset
    blur: NDArray[np.float32] | None  # (9, 9) kernel
    noise: float | None  # standard deviation
    quality: float | None  # of JPEG


def draw_light(strength: float, rng: np.random.Generator) -> Light:
    """Shadow, gamma, contrast and brightness, blur, noise and JPEG, each with its own chance."""
    if strength <= 0:
        return Light(None, None, None, None, None, None)
    chance = rng.random(6) < np.array([0.3, 0.5, 0.8, 0.4, 0.5, 0.25]) * min(strength, 1)
    u = rng.random(13)
    more = strength * (2 if u[0] < _HARD else 1)
    return Light(
        (2 * np.pi * u[1], 0.8 * u[2] - 0.4, 2 + 38 * u[3], 1.1 * u[4] - 0.4) if chance[0] else None,
        math.exp((1.4 * u[5] - 0.7) * more) if chance[1] else None,
        (math.exp((0.9 * u[6] - 0.5) * more), (0.3 * u[7] - 0.15) * strength) if chance[2] else None,
        _kernel(u[8:11], strength) if chance[3] else None,
        0.04 * u[11] * more if chance[4] else None,
        20 + 70 * u[12] if chance[5] else None,
    )


def _kernel(u: NDArray[np.float64], strength: float) -> NDArray[np.float32]:
    """Out of focus, or moved in a straight line during the exposure: (9, 9), sums up to 1."""
    offset = np.arange(-_REACH, _REACH + 1)
    if u[0] < 0.6:
        along = np.exp(-(offset**2) / (2 * ((0.3 + 1.3 * u[1]) * strength) ** 2 + 1e-6))
        kernel = np.outer(along, along)
    else:
        t = np.linspace(-0.5, 0.5, 17) * (1 + 5 * u[1]) * min(strength, 1.5)
        x, y = t * np.cos(np.pi * u[2]), t * np.sin(np.pi * u[2])
        kernel = np.einsum("ty,tx->yx", *(np.maximum(1 - abs(p[:, None] - offset), 0) for p in (y, x)))
    return np.asarray(kernel / kernel.sum(), np.float32)


def relit(images: Tensor, lights: list[Light], noise: Tensor) -> Tensor:
    """Change images (n, S, S) in [0, 1], in this order: shadow, gamma, contrast, blur, noise, JPEG.

    Parameters
    ----------
    images : (n, S, S)
        Changed in place.
    lights : list of Light
        One for each image.
    noise : (n, S, S)
        Normally distributed.
    """
    device = images.device

    def of(field: str) -> tuple[Tensor, Tensor] | None:
        """Which images have it, and their values."""
        rows = [i for i, light in enumerate(lights) if getattr(light, field) is not None]
        if not rows:
            return None
        values = np.array([getattr(lights[i], field) for i in rows], np.float32)
        return torch.tensor(rows).to(device), torch.from_numpy(values).to(device)

    if found := of("shadow"):
        rows, values = found
        images[rows] *= _shadow(values, images.shape[-1])
    if found := of("gamma"):
        rows, values = found
        images[rows] = images[rows].clamp(1e-4, 1) ** values[:, None, None]
    if found := of("contrast"):
        rows, values = found
        factor, offset = values[:, 0, None, None], values[:, 1, None, None]
        images[rows] = (images[rows] - 0.5) * factor + (0.5 + offset)
    if found := of("blur"):
        rows, kernels = found
        padded = F.pad(images[rows][None], (_REACH,) * 4, mode="reflect")
        images[rows] = F.conv2d(padded, kernels[:, None], groups=len(rows))[0]
    if found := of("noise"):
        rows, values = found
        images[rows] += noise[rows] * values[:, None, None]
    images.clamp_(0, 1)
    if found := of("quality"):
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
