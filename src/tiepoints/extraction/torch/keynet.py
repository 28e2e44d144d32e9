"""Key.Net: a detector of handcrafted derivatives and a few learned filters, in a pyramid.

Barroso-Laguna, Riba, Ponsa and Mikolajczyk, "Key.Net: Keypoint Detection by Handcrafted and Learned CNN Filters", ICCV
2019 (arXiv 1904.00889). Written from the paper and from the tensors of the published weights (MIT).

Frame: a place in another level is taken back with the pixel's centre as (0, 0); the authors' code leaves out half a
pixel there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Dense, Found, Network, choose, read_tensors

__all__ = ["KeyNet", "make"]

# The authors' settings of the detection: a level's step, levels up and down, the window of the maxima, the border, and
# half the side of a patch in its level. A patch is 6 times as wide as what we call a keypoint's scale.
STEP = 2**0.5
UP, DOWN = 1, 4
WINDOW, BORDER = 15, 15
SCALE = 2 * 22 / 6


class KeyNet(Network):
    """The network (paper, section 3): three levels of a pyramid with the factor 1.2, joined at the first one's size."""

    channels = 1

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential()
        before = 10
        for _ in range(3):
            self.blocks.extend([nn.Conv2d(before, 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU()])
            before = 8
        self.last = nn.Conv2d(3 * 8, 1, 5, padding=2)
        sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
        self.register_buffer("sobel", torch.stack([sobel, sobel.T])[:, None], persistent=False)
        binomial = torch.tensor([1.0, 4, 6, 4, 1]) / 16
        self.register_buffer("blur", torch.outer(binomial, binomial)[None, None], persistent=False)

    def read(self, path: Path) -> None:
        """The file calls the convolutions feature_extractor.lb_block.conv0.0, and so on."""
        ours = {}
        for name, tensor in read_tensors(path)["state_dict"].items():
            parts = name.split(".")
            if parts[0] == "last_conv":
                ours[f"last.{parts[-1]}"] = tensor
            else:
                ours[f"blocks.{3 * int(parts[2].removeprefix('conv')) + int(parts[3])}.{parts[-1]}"] = tensor
        self.load_state_dict(ours)

    def _gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        both = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), self.get_buffer("sobel"))
        return both[:, :1], both[:, 1:]

    def _smaller(self, x: Tensor, factor: float) -> Tensor:
        h, w = (max(int(length / factor), 1) for length in x.shape[-2:])
        blurred = F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.get_buffer("blur"))
        return F.interpolate(blurred, (h, w), mode="bilinear")

    def response(self, image: Tensor) -> Tensor:
        """The map (B, 1, H, W) of a grey image in [0, 1]; values may reach 10,000."""
        size, x, levels = image.shape[-2:], image, []
        for level in range(3):
            x = x if level == 0 else self._smaller(x, 1.2)
            dx, dy = self._gradient(x)
            dxx, dxy = self._gradient(dx)
            _, dyy = self._gradient(dy)
            products = (dx, dy, dx**2, dy**2, dx * dy, dxy, dxy**2, dxx, dyy, dxx * dyy)
            features = self.blocks(torch.cat(products, dim=1))
            levels.append(features if level == 0 else F.interpolate(features, size, mode="bilinear"))
        return F.relu(self.last(torch.cat(levels, dim=1)))

    def forward(self, image: Tensor) -> Dense:
        """``image`` is grey (B, 1, H, W) in [0, 1]. There are no descriptors."""

        def describe(xy: Sequence[Tensor]) -> list[Tensor]:
            return [at.new_zeros(len(at), 0) for at in xy]

        return Dense(self.response(image), describe, image)

    def keypoints(self, dense: Dense, count: int, threshold: float) -> list[Found]:
        """Maxima of 15x15 pixels in levels of sqrt(2), each level's share of `count` by its area."""
        image = dense.state
        height, width = image.shape[-2:]
        shares = torch.tensor([STEP ** (-2 * level) for level in range(-UP, DOWN + 1)])
        wanted = (count * shares / shares.sum()).int().tolist()
        levels: list[list[Found]] = [[] for _ in image]
        left, small = [count - sum(wanted)] * len(image), image
        for level, share in zip(range(-UP, DOWN + 1), wanted, strict=True):
            if level > 0:
                small = self._smaller(small, STEP)
            h, w = small.shape[-2:]
            if min(h, w) <= 2 * BORDER:
                break
            if level < 0:
                size = (int(height * STEP**-level), int(width * STEP**-level))
                response = self.response(F.interpolate(image, size, mode="bilinear"))
            else:
                response = dense.score_map if level == 0 else self.response(small)
            h, w = response.shape[-2:]
            peaks = torch.where(response == F.max_pool2d(response, WINDOW, 1, WINDOW // 2), response, 0)
            ratio = response.new_tensor([width / w, height / h])
            for i, peak in enumerate(peaks[:, 0]):
                y, x = choose(peak, share + left[i], threshold, (BORDER,) * 4)
                left[i] += share - len(x)
                xy = torch.stack([x, y], dim=1).float()
                scores = peak[y, x]
                levels[i].append(Found((xy + 0.5) * ratio - 0.5, scores, torch.full_like(scores, SCALE * width / w)))
        return [_joined(found, image) for found in levels]


def _joined(levels: list[Found], image: Tensor) -> Found:
    if not levels:
        return Found(image.new_zeros(0, 2), image.new_zeros(0), image.new_zeros(0))
    scales = [each.scales for each in levels if each.scales is not None]
    return Found(
        torch.cat([each.xy for each in levels]), torch.cat([each.scores for each in levels]), torch.cat(scales)
    )


def make(variant: str) -> KeyNet:
    """The network; there is one model."""
    return KeyNet()
