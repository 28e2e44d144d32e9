"""Convolutions of 3x3 pixels whose taps lie at places that another convolution predicts.

Dai et al., "Deformable Convolutional Networks", ICCV 2017 (arXiv 1703.06211); with a weight for each tap, Zhu et al.,
"Deformable ConvNets v2", CVPR 2019 (arXiv 1811.11168).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["deform_conv"]

_LARGEST = 1 << 26  # ours: numbers that lie in memory at once, of nine times the map: 256 MB


def deform_conv(x: Tensor, offset: Tensor, weight: Tensor, modulation: Tensor | None = None) -> Tensor:
    """The convolution, with zeros outside the map and between pixels what is bilinear.

    Parameters
    ----------
    x : Tensor
        (B, C, H, W).
    offset : Tensor
        (B, 18, H, W): how far each tap is moved, dy and dx in pixels of the map, the taps row by row.
    weight : Tensor
        (D, C, 3, 3).
    modulation : Tensor, optional
        (B, 9, H, W): a factor for each tap.

    Returns
    -------
    Tensor
        (B, D, H, W).
    """
    b, c, h, w = x.shape
    offset = offset.float().view(b, 9, 2, h, w)  # places in 32 bits, whatever the network computes in
    tap = torch.arange(9, device=x.device)
    row, column = (torch.arange(n, device=x.device, dtype=offset.dtype) for n in (h, w))
    y = row[:, None] + (tap // 3 - 1)[:, None, None] + offset[:, :, 0]  # (B, 9, H, W)
    x_ = column + (tap % 3 - 1)[:, None, None] + offset[:, :, 1]
    # One row or column gives a division by zero: any number does there, 2 / 1 keeps it finite.
    grid = torch.stack([x_ * (2 / max(w - 1, 1)) - 1, y * (2 / max(h - 1, 1)) - 1], dim=-1)
    kernel = weight.reshape(-1, c * 9)
    x = x.to(grid.dtype)
    rows = max(_LARGEST // (9 * b * c * w), 1)
    bands = []
    for band in (slice(start, start + rows) for start in range(0, h, rows)):
        places = grid[:, :, band]
        n = places.shape[2]
        taps = F.grid_sample(x, places.reshape(b, 9 * n, w, 2), align_corners=True).view(b, c, 9, n * w)
        if modulation is not None:
            taps = taps * modulation[:, :, band].reshape(b, 1, 9, n * w)
        bands.append((kernel @ taps.view(b, c * 9, n * w)).view(b, -1, n, w))
    return torch.cat(bands, dim=2)
