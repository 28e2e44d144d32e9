"""MD-Net: one fully convolutional network that predicts k detection heatmaps and one dense descriptor map.

Santellani, Sormann, Rossi, Kuhn, Fraundorfer: MD-Net: Multi-Detector for Local Feature Extraction. ICPR 2022, arXiv
2208.05350. What the paper fixes is marked "paper" below, what we chose by experiment is marked "ours".

    image (B, 1, H, W)
      stem 1/2 -> stage 1/4 -> stage 1/8 -> stage 1/16          convolutions 3x3, batch normalisation, ReLU
          |           |           |            |
          |           +<-- 1/4 <--+<--- 1/8 <--+                top-down sums (feature pyramid)
          |           |
          |           +-> descriptors (B, D, H/4, W/4)
          +<--- 1/2 <-+
          |
          +-> heatmap logits in cells (B, 4 k, H/2, W/2), blurred -> pixel shuffle (B, k, H, W)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Config", "MDNet"]

#: Height and width of what goes in must be multiples of this: four halvings.
STRIDE = 16

#: The descriptor map's resolution is 1 / CELL of the image's; its pixel (i, j) is the centre of a CELL x CELL block.
CELL = 4


@dataclass(frozen=True)
class Config:
    """The shape of the network; every value is ours, chosen by time and accuracy (docs/training-log.md).

    Parameters
    ----------
    sets : int
        k, the number of heatmaps (paper: 2 in the published MD-2-Net).
    descriptor_size : int
        D.
    channels : tuple of int
        Of the stages at 1/2, 1/4, 1/8 and 1/16 of the resolution: multiples of 16, which fill the vector registers.
    depths : tuple of int
        Convolutions in each stage after the one that halves the resolution.
    fused : int
        Channels of the feature pyramid.
    head : int
        Hidden channels of the detection head.
    """

    sets: int = 2
    descriptor_size: int = 64
    channels: tuple[int, int, int, int] = (16, 32, 64, 96)
    depths: tuple[int, int, int, int] = (0, 1, 2, 2)
    fused: int = 48
    head: int = 16

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for checkpoints and metadata."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """The inverse of `as_dict`."""
        settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**settings)


class MDNet(nn.Module):
    """The network; `forward` gives logits, whose sigmoid is the heatmap D in [0, 1] of the paper.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        c, depth, fused = config.channels, config.depths, config.fused
        inputs = (1, *c[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(_block(i, o, stride=2), *(_block(o, o) for _ in range(n)))
            for i, o, n in zip(inputs, c, depth, strict=True)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(channels, fused, 1) for channels in c[1:])  # of 1/4, 1/8, 1/16
        self.smooth = nn.ModuleList([_block(fused, fused), _block(fused, fused)])  # at 1/4, 1/8
        # Without the normalisation over the batch, the hardest negatives drive all descriptors to the same vector.
        self.describe = nn.Sequential(
            nn.Conv2d(fused, config.descriptor_size, 1, bias=False), nn.BatchNorm2d(config.descriptor_size)
        )
        # The detection head works at 1/2: from 1/4 alone most keypoints stay near the centres of the cells.
        self.detect_raise = nn.Conv2d(fused, c[0], 1)
        self.detect = nn.Sequential(_block(c[0], config.head), nn.Conv2d(config.head, 4 * config.sets, 1))
        self.register_buffer("blur", _blur(), persistent=False)
        self.blur: Tensor

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Grey (B, 1, H, W) in [0, 1] -> heatmap logits (B, k, H, W), descriptors (B, D, H/4, W/4), not normalised."""
        cells, described = self.heads(image)
        return F.pixel_shuffle(cells, 2), described

    def heads(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, with the logits of pixel (2 i + a, 2 j + b) and set m at channel 4 m + 2 a + b and cell (i, j).

        Models are exported so, because run-times are slow at the pixel shuffle.
        """
        centred = image - _mean(image)
        x = centred * torch.rsqrt(_mean(centred.square()) + 1e-5)
        half = self.stages[0](x)  # (B, c0, H/2, W/2)
        fourth = self.stages[1](half)  # (B, c1, H/4, W/4)
        eighth = self.stages[2](fourth)  # (B, c2, H/8, W/8)
        sixteenth = self.stages[3](eighth)  # (B, c3, H/16, W/16)
        y = self.smooth[1](F.relu(self.lateral[1](eighth) + _double(self.lateral[2](sixteenth))))
        y = self.smooth[0](F.relu(self.lateral[0](fourth) + _double(y)))  # (B, fused, H/4, W/4)
        z = F.relu(half + _double(self.detect_raise(y)))  # (B, c0, H/2, W/2)
        return self._blurred_logits(self.detect[0](z)), self.describe(y)

    def _blurred_logits(self, hidden: Tensor) -> Tensor:
        """The last convolution of the detection head and the blur, as one convolution by the product of both."""
        k = self.config.sets
        weight, bias = (self.get_parameter(f"detect.1.{name}").view(k, 4, -1) for name in ("weight", "bias"))
        weight = torch.matmul(self.blur, weight)  # (k, 36, head): the rows are (a, b), y, x
        weight = weight.view(4 * k, 3, 3, -1).permute(0, 3, 1, 2)
        bias = torch.matmul(self.blur.view(4, 9, 4).sum(dim=1), bias).view(-1)
        return F.conv2d(hidden, weight, bias, padding=1)


def _blur() -> Tensor:
    """A 5x5 blur of pixels as a 3x3 convolution of cells of 2x2: (36, 4), from the pixels of a cell to (a, b), y, x.

    Pixel shuffle can put a spike at a fixed place of each cell; that satisfies the peaky loss and ties keypoints to a
    lattice. This blur is zero at the frequencies of cells of 2 and of 4 pixels: whatever repeats from cell to cell
    comes out flat, so that a peak has to be earned by what the image shows. It gives the sub-pixel fit a smooth summit.
    """
    row = torch.tensor([1.0, 2.0, 2.0, 2.0, 1.0]) / 8  # a box of 4 after a box of 2
    along = torch.zeros(2, 3, 2)  # [a, cell, b]: pixel a of the middle cell gathers pixel b of its neighbour
    for a in range(2):
        for tap in range(5):
            place = a + tap  # pixels from the first one of the cell before
            along[a, place // 2, place % 2] = row[tap]
    return torch.einsum("ayc,bxd->abyxcd", along, along).reshape(36, 4)


def _block(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _mean(image: Tensor) -> Tensor:
    """Of all pixels, row by row first: run-times that sum a million floats one by one are off by 1e-4 otherwise."""
    return image.mean(dim=3, keepdim=True).mean(dim=2, keepdim=True)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
