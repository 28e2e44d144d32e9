"""SuperPoint: keypoints from 8x8 cells with a dustbin, descriptors at 1/8 of the resolution.

DeTone, Malisiewicz and Rabinovich, "SuperPoint: Self-Supervised Interest Point Detection and Description", CVPR
workshops 2018 (arXiv 1712.07629). Written from the paper and from the tensors of the published weights, whose licence
(Magic Leap) allows no commercial use.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Dense, Found, Network, choose, suppress

__all__ = ["SuperPoint", "make"]

CELL = 8


class SuperPoint(Network):
    """The network (paper, section 3): a VGG encoder, a detector and a descriptor head."""

    channels = 1
    threshold = 0.005
    exports = 1

    def __init__(self) -> None:
        super().__init__()
        before = 1
        for stage, channels in enumerate((64, 64, 128, 128), start=1):
            setattr(self, f"conv{stage}a", nn.Conv2d(before, channels, 3, padding=1))
            setattr(self, f"conv{stage}b", nn.Conv2d(channels, channels, 3, padding=1))
            before = channels
        self.convPa, self.convPb = nn.Conv2d(before, 256, 3, padding=1), nn.Conv2d(256, CELL * CELL + 1, 1)
        self.convDa, self.convDb = nn.Conv2d(before, 256, 3, padding=1), nn.Conv2d(256, 256, 1)

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Cells' logits (B, 65, H / 8, W / 8), the last for no keypoint, and descriptors (B, 256, H / 8, W / 8)."""
        logits, descriptors = self.core(image)
        return logits, descriptors

    def core(self, image: Tensor) -> tuple[Tensor, ...]:
        """The same as `maps`."""
        x = image
        for stage in (1, 2, 3, 4):
            x = F.relu(getattr(self, f"conv{stage}a")(x))
            x = F.relu(getattr(self, f"conv{stage}b")(x))
            if stage < 4:
                x = F.max_pool2d(x, 2)
        return self.convPb(F.relu(self.convPa(x))), self.convDb(F.relu(self.convDa(x)))

    def forward(self, image: Tensor) -> Dense:
        """``image`` is grey (B, 1, H, W) in [0, 1]; scores are probabilities."""
        height, width = image.shape[-2:]
        logits, raw = self.maps(image)
        scores = F.pixel_shuffle(logits.float().softmax(dim=1)[:, :-1], CELL)
        descriptors = F.normalize(raw.float(), dim=1)
        h, w = descriptors.shape[-2:]
        # From the pixels' centres to those of the cells, the last of which is +1 for grid_sample.
        scale = scores.new_tensor([2 / (w * CELL - 4.5), 2 / (h * CELL - 4.5)])

        def describe(xy: Sequence[Tensor]) -> list[Tensor]:
            result = []
            for one, at in zip(descriptors, xy, strict=True):
                grid = (at - 3.5) * scale - 1
                values = F.grid_sample(one[None], grid[None, None], align_corners=True)[0, :, 0]
                result.append(F.normalize(values.T, dim=1))
            return result

        # The last pixels of a height or width that is no multiple of 8 lie in no cell.
        right, below = width - w * CELL, height - h * CELL
        return Dense(F.pad(scores, (0, right, 0, below)), describe, scores)

    def keypoints(self, dense: Dense, count: int, threshold: float) -> list[Found]:
        """Maxima of 9x9 pixels above `threshold`, at least 4 px from the edges of the cells."""
        scores = dense.state
        found = []
        for one, peaks in zip(scores[:, 0], suppress(scores, 4)[:, 0], strict=True):
            y, x = choose(peaks, count, threshold, (4, 4, 4, 4))
            found.append(Found(torch.stack([x, y], dim=1).float(), one[y, x]))
        return found


def make(variant: str) -> SuperPoint:
    """The network; there is one model."""
    return SuperPoint()
