"""R2D2: dense descriptors with a map of repeatability and a map of reliability, at several scales.

Revaud et al., "R2D2: Repeatable and Reliable Detector and Descriptor", NeurIPS 2019 (arXiv 1906.06195). Written from
the paper and from the tensors of the published weights, whose licence (CC BY-NC-SA 3.0) allows no commercial use.

Frame: a place in a smaller level is taken back with the pixel's centre as (0, 0). The authors' code leaves out half a
pixel there, so that its coordinates are ours plus (ratio - 1) / 2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Dense, Found, Network, read_tensors, sample

__all__ = ["R2D2", "make"]

STEP = 2**0.25
SMALLEST, LARGEST = 256, 1024  # long edges of the levels


class R2D2(Network):
    """The network (paper, section 3.1): L2-Net with dilated convolutions, its last 8x8 one as three of 2x2.

    Parameters
    ----------
    width : int
        An eighth of the first layers' channels: 4, or 6 in the big model.
    """

    threshold = 0.7
    exports = 3
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, dilation = 3, 1
        #        channels, kernel, stride that the dilation stands for, ReLU
        for channels, kernel, stride, relu in (
            (8 * width, 3, 1, True),
            (8 * width, 3, 1, True),
            (16 * width, 3, 2, True),
            (16 * width, 3, 1, True),
            (32 * width, 3, 2, True),
            (32 * width, 3, 1, True),
            (32 * width, 2, 2, False),
            (32 * width, 2, 2, False),
        ):
            padding = (kernel - 1) * dilation // 2
            layers += [
                nn.Conv2d(before, channels, kernel, padding=padding, dilation=dilation),
                nn.BatchNorm2d(channels, affine=False),
            ]
            layers += [nn.ReLU()] if relu else []
            before, dilation = channels, dilation * stride
        layers.append(nn.Conv2d(before, 128, 2, padding=dilation // 2, dilation=dilation))
        self.ops = nn.Sequential(*layers)
        self.clf = nn.Conv2d(128, 2, 1)
        self.sal = nn.Conv2d(128, 1, 1)

    def read(self, path: Path) -> None:
        """The file names its network in a text, which the authors' loader evaluates; here it is compared."""
        content = read_tensors(path)
        named = re.fullmatch(r"\s*Quad_L2Net_ConfCFS\(\s*(?:mchan\s*=\s*(\d+)\s*)?\)\s*", content["net"])
        width = int(named[1] or 4) if named else None
        if width is None or 8 * width != self._first():
            raise TypeError(f"it is made for {content['net']!r}")
        self.load_state_dict({name.removeprefix("module."): t for name, t in content["state_dict"].items()})

    def _first(self) -> int:
        return int(self.get_parameter("ops.0.weight").shape[0])

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Descriptors (B, 128, H, W) of unit length, reliability and repeatability (B, 1, H, W) in [0, 1]."""
        mean, std = (image.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        x, classes, salience = (each.float() for each in self.core((image - mean) / std))
        salient = F.softplus(salience)
        return F.normalize(x, dim=1), classes.softmax(dim=1)[:, 1:], salient / (1 + salient)

    def core(self, image: Tensor) -> tuple[Tensor, ...]:
        """Descriptors, not normalised, classes and salience before softmax and softplus, of a normalised image."""
        x = self.ops(image)
        return x, self.clf(x**2), self.sal(x**2)

    def forward(self, image: Tensor) -> Dense:
        """``image`` is RGB (B, 3, H, W) in [0, 1]; scores are reliability times repeatability at the image's size."""
        maps = self.maps(image)
        descriptors, reliability, repeatability = maps

        def describe(xy: Sequence[Tensor]) -> list[Tensor]:
            return [
                F.normalize(sample(one, at[:, None])[:, :, 0].T, dim=1) for one, at in zip(descriptors, xy, strict=True)
            ]

        return Dense(reliability * repeatability, describe, (image, maps))

    def keypoints(self, dense: Dense, count: int, threshold: float) -> list[Found]:
        """Maxima of 3x3 pixels of the repeatability in each level, where both maps reach `threshold`."""
        image, maps = dense.state
        height, width = image.shape[-2:]
        levels: list[list[Found]] = [[] for _ in image]
        scale, level = 1.0, image
        while scale + 0.001 >= min(SMALLEST / max(height, width), 1):
            if scale - 0.001 <= LARGEST / max(height, width):
                at_level = self._level(maps if scale == 1 else self.maps(level), threshold)
                for found, each in zip(levels, at_level, strict=True):
                    h, w = level.shape[-2:]
                    ratio = each.xy.new_tensor([width / w, height / h])
                    sizes = torch.full_like(each.scores, 32 / scale)
                    found.append(Found((each.xy + 0.5) * ratio - 0.5, each.scores, sizes, each.descriptors))
            scale /= STEP
            size = (max(round(height * scale), 1), max(round(width * scale), 1))
            level = F.interpolate(level, size, mode="bilinear")
        return [_best(found, count) for found in levels]

    @staticmethod
    def _level(maps: tuple[Tensor, Tensor, Tensor], threshold: float) -> list[Found]:
        found = []
        for descriptors, reliable, repeatable in zip(*maps, strict=True):
            peak = repeatable == F.max_pool2d(repeatable, 3, 1, 1)
            y, x = (peak & (repeatable >= threshold) & (reliable >= threshold))[0].nonzero().unbind(1)
            scores = (reliable * repeatable)[0, y, x]
            xy = torch.stack([x, y], dim=1).float()
            found.append(Found(xy, scores, None, descriptors[:, y, x].T))
        return found


def _best(levels: list[Found], count: int) -> Found:
    scores = torch.cat([each.scores for each in levels])
    both = Found(
        torch.cat([each.xy for each in levels]),
        scores,
        torch.cat([each.scales for each in levels if each.scales is not None]),
        torch.cat([each.descriptors for each in levels if each.descriptors is not None]),
    )
    return both.select(scores.topk(min(count, len(scores))).indices)


def make(variant: str) -> R2D2:
    """The network of a published model."""
    return R2D2(6 if variant.endswith("big") else 4)
