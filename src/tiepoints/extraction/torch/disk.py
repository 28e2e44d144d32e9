"""DISK: a U-Net that gives a heatmap and descriptors at full resolution, trained by policy gradient.

Tyszkiewicz, Fua and Trulls, "DISK: Learning local features with policy gradient", NeurIPS 2020 (arXiv 2006.13566).
Written from the paper and from the tensors of the published weights (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Dense, Found, Network, choose, read_tensors, sample

__all__ = ["DISK", "make"]

STRIDE = 16
DOWN = (16, 32, 64, 64, 64)
UP = (64, 64, 64, 129)


class Gated(nn.Sequential):
    """Instance normalisation and PReLU before a 5x5 convolution; the first one has the image before it instead."""

    def __init__(self, channels_in: int, channels: int, *, first: bool = False) -> None:
        before = (nn.Identity(), nn.Identity()) if first else (nn.InstanceNorm2d(channels_in), nn.PReLU(channels_in))
        super().__init__(*before, nn.Conv2d(channels_in, channels, 5, padding=2))


class DISK(Network):
    """The network (paper, section 3.1 and the supplement): four halvings and back, with the maps of the way down."""

    exports = 3

    def __init__(self) -> None:
        super().__init__()
        ins = (3, *DOWN[:-1])
        self.down = nn.ModuleList(Gated(a, b, first=i == 0) for i, (a, b) in enumerate(zip(ins, DOWN, strict=True)))
        up, below = [], DOWN[-1]
        for beside, out in zip(DOWN[-2::-1], UP, strict=True):
            up.append(Gated(below + beside, out))
            below = out
        self.up = nn.ModuleList(up)

    def read(self, path: Path) -> None:
        """The file calls them unet.path_down.1.1.3 (convolution of the second block down) and so on."""
        tensors = read_tensors(path)["extractor"]
        places = {"1": "1", "3": "2"}  # PReLU, convolution
        ours = {}
        for name, tensor in tensors.items():
            parts = name.split(".")
            way, block, kind = parts[1].removeprefix("path_"), parts[2], parts[4]
            ours[f"{way}.{block}.{places[kind]}.{parts[5]}"] = tensor
        self.load_state_dict(ours)

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors (B, 128, H, W) not normalised, and heatmap (B, 1, H, W) of any range."""
        h, w = image.shape[-2:]
        # Two pixels at least are left at the bottom, which the instance normalisation there needs.
        below, right = (max(-length % STRIDE, 2 * STRIDE - length) for length in (h, w))
        (x,) = self.core(F.pad(image, (0, right, 0, below)))
        x = x[..., :h, :w].float()
        return x[:, :-1], x[:, -1:]

    def core(self, image: Tensor) -> tuple[Tensor, ...]:
        """Descriptors and heat as one map (B, 129, H, W), of an image of a multiple of 16."""
        x, levels = image, []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else F.avg_pool2d(x, 2))
            levels.append(x)
        for block, beside in zip(self.up, levels[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="bilinear"), beside], dim=1))
        return (x,)

    def forward(self, image: Tensor) -> Dense:
        """``image`` is RGB (B, 3, H, W) in [0, 1]; scores have any range."""
        raw, heat = self.maps(image)

        def describe(xy: Sequence[Tensor]) -> list[Tensor]:
            return [F.normalize(sample(one, at[:, None])[:, :, 0].T, dim=1) for one, at in zip(raw, xy, strict=True)]

        return Dense(heat, describe)

    def keypoints(self, dense: Dense, count: int, threshold: float) -> list[Found]:
        """Maxima of 5x5 pixels above `threshold`."""
        heat = dense.score_map
        peaks = torch.where(heat == F.max_pool2d(heat, 5, 1, 2), heat, -torch.inf)
        found = []
        for one, peak in zip(heat[:, 0], peaks[:, 0], strict=True):
            y, x = choose(peak, count, threshold, (0, 0, 0, 0))
            found.append(Found(torch.stack([x, y], dim=1).float(), one[y, x]))
        return found


def make(variant: str) -> DISK:
    """The network; the models differ in their weights only."""
    return DISK()
