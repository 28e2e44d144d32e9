"""EdgePoint2: 20 to 150 thousand parameters, distilled from ALIKED; keypoints at whole pixels.

Yao, Hao, Wang, Wang and Wang, "EdgePoint2: Compact Descriptors for Superior Efficiency and Accuracy", 2025 (arXiv
2504.17280). Written from the paper and from the tensors of the published weights (MIT).

Frame: the image is resized to multiples of 32 so that the centres of its outermost pixels stay where they are, and
places are taken back in the same way. The authors multiply by the ratio of the sizes instead: up to a tenth of a pixel
more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Dense, Found, Network, choose, read_tensors

__all__ = ["EdgePoint2", "make"]


@dataclass(frozen=True)
class Size:
    """Channels of the first convolution, of the three levels, of the descriptor head, and of the detection head."""

    first: int
    levels: tuple[int, int, int]
    head: int
    score: int


SIZES = {
    "t": Size(8, (8, 16, 24), 48, 8),
    "s": Size(8, (8, 24, 32), 64, 8),
    "m": Size(8, (16, 32, 48), 96, 8),
    "l": Size(8, (16, 48, 64), 128, 8),
    "e": Size(16, (16, 48, 64), 128, 16),
}


def layer(channels_in: int, channels: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    conv = nn.Conv2d(channels_in, channels, kernel, stride, 1, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


class Residual(nn.Module):
    """Two convolutions beside a shortcut, which is a 1x1 convolution where the channels change."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *layer(channels_in, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.skip = nn.Identity() if channels_in == channels else nn.Conv2d(channels_in, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layer(x) + self.skip(x))


class EdgePoint2(Network):
    """The network (paper, section 3).

    Parameters
    ----------
    size : Size
    dim : int
        Of the descriptor.
    """

    threshold = -5.0
    exports = 1

    def __init__(self, size: Size, dim: int) -> None:
        super().__init__()
        a, b, c = size.levels
        self.block1 = nn.Sequential(layer(1, size.first, 4, 2), layer(size.first, a), Residual(a, a))
        self.block2 = Residual(a, b)
        self.block3 = Residual(b, c)
        h = size.head
        self.desc_head = nn.Sequential(nn.Conv2d(a + b + c, h, 1), layer(h, h, groups=h // 16), nn.Conv2d(h, dim, 1))
        s = size.score
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(n, s, 1) for n in size.levels)
        self.score_head = nn.Sequential(
            nn.Conv2d(s, s, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(s, s, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(s, 4, 3, padding=1),
        )

    def read(self, path: Path) -> None:
        """The file's names have one more ``layer`` in plain convolutions."""
        tensors = read_tensors(path)
        plain = ("block1.0.", "block1.1.", "desc_head.1.")
        self.load_state_dict(
            {name.replace(".layer.", ".") if name.startswith(plain) else name: t for name, t in tensors.items()}
        )

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors (B, D, H / 4, W / 4) not normalised, and logits of the score (B, 1, H, W)."""
        descriptors, score = self.core(image.mean(dim=1, keepdim=True))
        return descriptors, score

    def core(self, image: Tensor) -> tuple[Tensor, ...]:
        """`maps` of a grey image."""
        x = F.instance_norm(image)
        x1 = self.block1(x)
        x2 = self.block2(F.avg_pool2d(x1, 4))
        x3 = self.block3(F.avg_pool2d(x2, 4))
        quarter = F.avg_pool2d(x1, 2)
        size = quarter.shape[-2:]
        descriptors = self.desc_head(torch.cat([quarter, _up(x2, size), _up(x3, size)], dim=1))
        half = x1.shape[-2:]
        score = self.conv1(x1) + _up(self.conv2(x2), half) + _up(self.conv3(x3), half)
        return descriptors, F.pixel_shuffle(self.score_head(score), 2)

    def forward(self, image: Tensor) -> Dense:
        """``image`` is RGB (B, 3, H, W), or grey; scores are logits."""
        height, width = image.shape[-2:]
        h, w = (max(length // 32 * 32, 32) for length in (height, width))
        if (h, w) != (height, width):
            image = F.interpolate(image, (h, w), mode="bilinear", align_corners=True)
        raw, score = self.maps(image)
        raw, score = raw.float(), score.float()
        # The outermost pixels' centres are kept by the resizing; the authors take (W / w) for the ratio of the places.
        ratio = score.new_tensor([(width - 1) / (w - 1), (height - 1) / (h - 1)])

        def describe(xy: Sequence[Tensor]) -> list[Tensor]:
            result = []
            for one, at in zip(raw, xy, strict=True):
                grid = (at / ratio + 0.5) * at.new_tensor([2 / w, 2 / h]) - 1
                values = F.grid_sample(one[None], grid[None, None], align_corners=False)[0, :, 0]
                result.append(F.normalize(values.T, dim=1))
            return result

        whole = score
        if (h, w) != (height, width):
            whole = F.interpolate(score, (height, width), mode="bilinear", align_corners=True)
        return Dense(whole, describe, (score, ratio))

    def keypoints(self, dense: Dense, count: int, threshold: float) -> list[Found]:
        """Maxima of 5x5 pixels above the logit `threshold`, at least 4 px from the edges."""
        score, ratio = dense.state
        peaks = torch.where(score == F.max_pool2d(score, 5, 1, 2), score, -torch.inf)
        found = []
        for one, peak in zip(score[:, 0], peaks[:, 0], strict=True):
            y, x = choose(peak, count, threshold, (4, 4, 4, 4))
            found.append(Found(torch.stack([x, y], dim=1) * ratio, one[y, x]))
        return found


def make(variant: str) -> EdgePoint2:
    """The network of a published model, such as "s64"."""
    return EdgePoint2(SIZES[variant[0].lower()], int(variant[1:]))


def _up(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
