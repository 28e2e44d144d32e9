"""MD-Net: one fully convolutional network that predicts k detection heatmaps and one dense descriptor map.

Santellani, Sormann, Rossi, Kuhn, Fraundorfer: MD-Net: Multi-Detector for Local Feature Extraction. ICPR 2022, arXiv
2208.05350. What the paper fixes is marked "paper" below, what we chose by experiment is marked "ours".

    image (B, 1, H, W)
      1/2 -> 1/4 -> 1/8 -> 1/16 -> 1/32         convolutions 3x3, batch normalisation, ReLU; residual from 1/8 on
       |      |      |       |       |
       |      +<-----+<------+<------+          top-down sums (feature pyramid)
       |      |
       |      +-> descriptors (B, D, H/4, W/4)
       +<-----+
       |                                        z (B, c0, H/2, W/2): what all heads see
       +-> head of k sets: logits in cells (B, 4 k, H/2, W/2), blurred -> pixel shuffle (B, k, H, W)

The trunk is everything but the heads. One trunk carries a head for each number of sets, so that k is chosen when the
network is used, and costs nothing where it is not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InvalidInputError

__all__ = ["SIZES", "Config", "MDNet"]

#: Height and width of what goes in must be multiples of this: five halvings.
STRIDE = 32

#: The descriptor map's resolution is 1 / CELL of the image's; its pixel (i, j) is the centre of a CELL x CELL block.
CELL = 4


#: What is added to an image's variance, so that noise on a blank wall stays noise.
VARIANCE = 1e-5


@dataclass(frozen=True)
class Config:
    """The shape of the network; every value is ours, chosen by time and accuracy (docs/training-log.md).

    Low resolutions are nearly free on a CPU, so most channels and blocks are there.

    Parameters
    ----------
    sets : tuple of int
        k of each detection head, the number of its heatmaps (paper: 2 in the published MD-2-Net).
    descriptor_size : int
        D.
    channels : tuple of int
        Of the stages at 1/2, 1/4, 1/8, 1/16 and 1/32 of the resolution: multiples of 16, which fill the vector
        registers.
    depths : tuple of int
        What each stage has after the convolution that halves the resolution: convolutions at 1/2 and 1/4, residual
        blocks of two convolutions below.
    pyramid : tuple of int
        Channels of the feature pyramid at 1/16, 1/8 and 1/4.
    fused : int
        Channels from which descriptors and heatmaps are made, at 1/4. At least D: fewer limit the descriptors' rank.
    head : int
        Hidden channels of each detection head; 0 for none, a head of one convolution.
    teacher : str
        The extractor whose descriptors this network learned to predict; empty where it learned from photographs alone.
    teacher_size : int
        Numbers of the teacher's descriptors; 0 without a teacher.
    rotations : int
        4 where descriptors learned to know those of the rotated image, see `tiepoints.Features.rotations`; else 1.
    """

    sets: tuple[int, ...] = (1, 2, 4, 8)
    descriptor_size: int = 64
    channels: tuple[int, int, int, int, int] = (16, 32, 64, 128, 128)
    depths: tuple[int, int, int, int, int] = (0, 1, 1, 1, 1)
    pyramid: tuple[int, int, int] = (96, 64, 48)
    fused: int = 64
    head: int = 16
    teacher: str = ""
    teacher_size: int = 0
    rotations: int = 1

    def __post_init__(self) -> None:
        if not self.sets or len(set(self.sets)) < len(self.sets) or not all(1 <= k <= 255 for k in self.sets):
            raise InvalidInputError(f"sets is {self.sets!r}, but must be one or more different numbers from 1 to 255")

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for checkpoints and metadata."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """The inverse of `as_dict`."""
        settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**settings)


#: The shapes by name.
SIZES = {
    "mdnet-small": Config(
        channels=(16, 16, 32, 64, 64), depths=(0, 0, 1, 1, 1), pyramid=(48, 32, 16), fused=48, head=0
    ),
    "mdnet": Config(),
    "mdnet-large": Config(channels=(16, 32, 64, 128, 192), depths=(0, 1, 2, 2, 2), pyramid=(128, 96, 64), fused=96),
}


class MDNet(nn.Module):
    """The network; `forward` gives logits, whose sigmoid is the heatmap D in [0, 1] of the paper.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    detect : ModuleDict
        The heads, by their number of sets as text: `detect["2"]`. All other modules are the trunk.
    basis : (teacher_size, D) tensor
        D numbers times its transpose are the teacher's, up to their length. Orthonormal directions on which the
        teacher's descriptors were projected before this network learned them, unless `rotations` is 4. No parameter; it
        is kept with the weights. (0, D) without one.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        c, up, fused, size = config.channels, config.pyramid, config.fused, config.descriptor_size
        self.stages = nn.ModuleList(
            nn.Sequential(_block(i, o, stride=2), *(_block(o, o) if level < 2 else _Residual(o) for _ in range(n)))
            for level, (i, o, n) in enumerate(zip((1, *c[:-1]), c, config.depths, strict=True))
        )
        self.lateral = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in zip((c[3], c[2], c[1]), up, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(i, o, 1, bias=False) for i, o in zip((c[4], *up[:-1]), up, strict=True))
        self.smooth = nn.ModuleList([_block(up[0], up[0]), _block(up[1], up[1]), _block(up[2], fused)])
        # Without the normalisation over the batch, the hardest negatives drive all descriptors to the same vector.
        self.describe = nn.Sequential(nn.Conv2d(fused, size, 1, bias=False), nn.BatchNorm2d(size))
        # The detection heads work at 1/2: from 1/4 alone most keypoints stay near the centres of the cells.
        self.detect_raise = nn.Conv2d(fused, c[0], 1)
        self.detect = nn.ModuleDict({str(k): _head(c[0], config.head, k) for k in config.sets})
        self.register_buffer("basis", torch.zeros(config.teacher_size, size))
        self.register_buffer("blur", _blur(), persistent=False)
        self.basis: Tensor
        self.blur: Tensor

    def teacher_directions(self) -> tuple[Tensor, Tensor | None]:
        """Orthonormal directions in the teacher's space (teacher_size, D), and what its numbers there are made by.

        Descriptors times the transpose of the latter (D, D) are the teacher's on these directions, up to their length;
        without it they are so themselves.
        """
        if self.config.rotations == 1:
            return self.basis, None
        directions, factor = torch.linalg.qr(self.basis)
        return directions, factor

    def forward(self, image: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        """Heatmap logits of all heads and descriptors.

        Parameters
        ----------
        image : (B, 1, H, W) tensor
            Grey in [0, 1]; H and W multiples of `STRIDE`.

        Returns
        -------
        logits : dict of (B, k, H, W) tensors
            By k, the head's number of sets.
        descriptors : (B, D, H/4, W/4) tensor
            Not normalised.
        """
        z, described = self.trunk(image)
        return {k: F.pixel_shuffle(self.cells(z, k), 2) for k in self.config.sets}, described

    def trunk(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What every head sees (B, c0, H/2, W/2), and descriptors (B, D, H/4, W/4), not normalised."""
        centred = image - _mean(image)
        return self.look(centred * torch.rsqrt(_mean(centred.square()) + VARIANCE))

    def look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `trunk`, of images of mean 0 and variance 1 or parts of them."""
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)  # (B, c[i], H / 2^(i + 1), W / 2^(i + 1))
        half, *middle, y = levels
        for below, lateral, down, smooth in zip(middle[::-1], self.lateral, self.down, self.smooth, strict=True):
            y = smooth(F.relu(lateral(below) + _double(down(y))))
        z = F.relu(half + _double(self.detect_raise(y)))
        return z, self.describe(y)  # y is (B, fused, H/4, W/4)

    def cells(self, z: Tensor, k: int) -> Tensor:
        """Logits of the head of k sets on what `trunk` gave: (B, 4 k, H/2, W/2), blurred.

        Pixel (2 i + a, 2 j + b) of set m is at channel 4 m + 2 a + b and cell (i, j).
        """
        return F.conv2d(self.get_submodule(f"detect.{k}.0")(z), *self.blurred(k), padding=1)

    def blurred(self, k: int) -> tuple[Tensor, Tensor]:
        """The last convolution of a head and the blur as one 3x3 convolution: weight (4 k, head, 3, 3), bias (4 k)."""
        weight, bias = (self.get_parameter(f"detect.{k}.1.{name}").view(k, 4, -1) for name in ("weight", "bias"))
        weight = torch.matmul(self.blur, weight)  # (k, 36, head): the rows are (a, b), y, x
        bias = torch.matmul(self.blur.view(4, 9, 4).sum(dim=1), bias)
        return weight.view(4 * k, 3, 3, -1).permute(0, 3, 1, 2), bias.view(-1)


class _Residual(nn.Module):
    """Two convolutions 3x3 whose result is added to what went in (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_block(channels, channels), *list(_block(channels, channels))[:2])

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + x)


def _head(inputs: int, hidden: int, sets: int) -> nn.Sequential:
    first = _block(inputs, hidden) if hidden else nn.Identity()
    return nn.Sequential(first, nn.Conv2d(hidden or inputs, 4 * sets, 1))


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
