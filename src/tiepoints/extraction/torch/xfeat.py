"""XFeat: a small network for CPUs; keypoints from 8x8 cells, a reliability map, descriptors at 1/8 of the resolution.

Potje, Cadar, Araujo, Martins and Nascimento, "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024.
Written from the paper and from the tensors of the published weights (Apache-2.0).

Frame: the image is resized to multiples of 32, and places are taken back with the pixel's centre as (0, 0). The
authors' code leaves out half a pixel there, so that its coordinates are ours plus (ratio - 1) / 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Dense, Found, Network, choose, read_tensors

__all__ = ["XFeat", "make"]


def layer(channels_in: int, channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation without scale and shift, ReLU."""
    conv = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels, affine=False), nn.ReLU())


class XFeat(Network):
    """The network (paper, section 3.1)."""

    channels = 3
    exports = 1
    threshold = 0.05

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(1)
        self.skip1 = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(1, 24, 1))
        self.block1 = nn.Sequential(layer(1, 4), layer(4, 8, stride=2), layer(8, 8), layer(8, 24, stride=2))
        self.block2 = nn.Sequential(layer(24, 24), layer(24, 24))
        self.block3 = nn.Sequential(layer(24, 64, stride=2), layer(64, 64), layer(64, 64, 1))
        self.block4 = nn.Sequential(layer(64, 64, stride=2), layer(64, 64), layer(64, 64))
        self.block5 = nn.Sequential(layer(64, 128, stride=2), layer(128, 128), layer(128, 128), layer(128, 64, 1))
        self.block_fusion = nn.Sequential(layer(64, 64), layer(64, 64), nn.Conv2d(64, 64, 1))
        self.heatmap_head = nn.Sequential(layer(64, 64, 1), layer(64, 64, 1), nn.Conv2d(64, 1, 1))
        self.keypoint_head = nn.Sequential(layer(64, 64, 1), layer(64, 64, 1), layer(64, 64, 1), nn.Conv2d(64, 65, 1))

    def read(self, path: Path) -> None:
        """The file's names have ``layer`` in them, and a matcher that is not used here."""
        tensors = read_tensors(path)
        self.load_state_dict(
            {name.replace(".layer.", "."): t for name, t in tensors.items() if not name.startswith("fine_matcher")}
        )

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Descriptors (B, 64, h, w), cells' logits (B, 65, h, w) and reliability (B, 1, h, w), where h is H / 8."""
        fused, logits, reliability = self.core(image.mean(dim=1, keepdim=True))
        return fused, logits, torch.sigmoid(reliability.float())

    def core(self, image: Tensor) -> tuple[Tensor, ...]:
        """`maps` of a grey image, before the sigmoid."""
        x = self.norm(image)
        x3 = self.block3(self.block2(self.block1(x) + self.skip1(x)))
        x4 = self.block4(x3)
        x5 = self.block5(x4)
        size = x3.shape[-2:]
        x4, x5 = (F.interpolate(level, size, mode="bilinear") for level in (x4, x5))
        fused = self.block_fusion(x3 + x4 + x5)
        cells = F.pixel_unshuffle(x, 8)
        return fused, self.keypoint_head(cells), self.heatmap_head(fused)

    def forward(self, image: Tensor) -> Dense:
        """``image`` is RGB (B, 3, H, W), or grey; scores are the product of both maps, in [0, 1]."""
        height, width = image.shape[-2:]
        h, w = (max(length // 32 * 32, 32) for length in (height, width))
        small = image if (h, w) == (height, width) else F.interpolate(image, (h, w), mode="bilinear")
        fused, logits, reliability = self.maps(small)
        heat = F.pixel_shuffle(logits.float().softmax(dim=1)[:, :64], 8)
        descriptors = F.normalize(fused.float(), dim=1)
        ratio = heat.new_tensor([width / w, height / h])

        def describe(xy: Sequence[Tensor]) -> list[Tensor]:
            places = [(at + 0.5) / ratio - 0.5 for at in xy]
            return [
                F.normalize(_sample(one, at, (h, w), "bicubic").T, dim=1)
                for one, at in zip(descriptors, places, strict=True)
            ]

        whole = heat * F.interpolate(reliability, (h, w), mode="bilinear")
        if (h, w) != (height, width):
            whole = F.interpolate(whole, (height, width), mode="bilinear")
        return Dense(whole, describe, (heat, reliability, ratio))

    def keypoints(self, dense: Dense, count: int, threshold: float) -> list[Found]:
        """Maxima of 5x5 pixels of the heatmap above `threshold`; the best by heat times reliability."""
        heat, reliability, ratio = dense.state
        size = heat.shape[-2:]
        peaks = torch.where(heat == F.max_pool2d(heat, 5, 1, 2), heat, 0)
        found = []
        for one, sure, peak in zip(heat, reliability, peaks[:, 0], strict=True):
            y, x = choose(peak, peak.numel(), threshold, (0, 0, 0, 0))
            xy = torch.stack([x, y], dim=1).float()
            scores = _sample(one, xy, size, "nearest")[0] * _sample(sure, xy, size, "bilinear")[0]
            scores, order = scores.topk(min(count, int((scores > 0).sum())))
            found.append(Found((xy[order] + 0.5) * ratio - 0.5, scores))
        return found


def make(variant: str) -> XFeat:
    """The network; there is one model."""
    return XFeat()


def _sample(map_: Tensor, xy: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """Values (C, N) of one map, at places in pixels of the resized image, scaled to the map as the authors do."""
    h, w = size
    grid = xy * xy.new_tensor([2 / (w - 1), 2 / (h - 1)]) - 1
    return F.grid_sample(map_[None], grid[None, None], mode=mode, align_corners=False)[0, :, 0]
