"""ALIKE: a score map and a dense descriptor map at full resolution; differentiable keypoints.

Zhao, Wu, Miao, Chen, Chen and Li, "ALIKE: Accurate and Lightweight Keypoint Detection and Descriptor Extraction", IEEE
Transactions on Multimedia 2022 (arXiv 2112.02906). Written from the paper and from the tensors of the published weights
(BSD-3-Clause).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .aliked import Block, detect, upsample
from .base import Dense, Found, Network, sample

__all__ = ["ALIKE", "make"]

STRIDE = 32

#: Channels of the four blocks and of the descriptor, and whether the head has a second convolution.
SIZES = {
    "t": ((8, 16, 32, 64), 64, False),
    "s": ((8, 16, 48, 96), 96, False),
    "n": ((16, 32, 64, 128), 128, False),
    "l": ((32, 64, 128, 128), 128, True),
}


class ALIKE(Network):
    """The network (paper, section III-A).

    Parameters
    ----------
    name : str
        "t", "s", "n" or "l": the models of the paper's table I.
    """

    exports = 3

    def __init__(self, name: str) -> None:
        super().__init__()
        c, dim, deep = SIZES[name]
        self.block1 = Block(3, c[0], residual=False, gate=F.relu)
        self.block2 = Block(c[0], c[1], residual=True, gate=F.relu)
        self.block3 = Block(c[1], c[2], residual=True, gate=F.relu)
        self.block4 = Block(c[2], c[3], residual=True, gate=F.relu)
        self.conv1, self.conv2, self.conv3, self.conv4 = (nn.Conv2d(n, dim // 4, 1, bias=False) for n in c)
        self.convhead1 = nn.Conv2d(dim, dim, 1, bias=False) if deep else None
        self.convhead2 = nn.Conv2d(dim, dim + 1, 1, bias=False)

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors (B, D, H, W) of unit length at each pixel, and score map (B, 1, H, W) in [0, 1]."""
        h, w = image.shape[-2:]
        (full,) = self.core(F.pad(image, (0, -w % STRIDE, 0, -h % STRIDE)))
        out = full[..., :h, :w].float()
        return F.normalize(out[:, :-1], dim=1), torch.sigmoid(out[:, -1:])

    def core(self, image: Tensor) -> tuple[Tensor, ...]:
        """Descriptors and the score's logit as one map (B, D + 1, H, W), of an image of a multiple of 32."""
        padded = image
        x1 = self.block1(padded)
        x2 = self.block2(F.max_pool2d(x1, 2))
        x3 = self.block3(F.max_pool2d(x2, 4))
        x4 = self.block4(F.max_pool2d(x3, 4))
        size = padded.shape[-2:]
        levels = ((self.conv1, x1), (self.conv2, x2), (self.conv3, x3), (self.conv4, x4))
        full = torch.cat([upsample(F.relu(conv(x)), size) for conv, x in levels], dim=1)
        if self.convhead1 is not None:
            full = F.relu(self.convhead1(full))
        return (self.convhead2(full),)

    def forward(self, image: Tensor) -> Dense:
        """``image`` is RGB (B, 3, H, W) in [0, 1]; the score map is in [0, 1]."""
        descriptors, score_map = self.maps(image)

        def describe(xy: Sequence[Tensor]) -> list[Tensor]:
            return [
                F.normalize(sample(one, at[:, None])[:, :, 0].T, dim=1) for one, at in zip(descriptors, xy, strict=True)
            ]

        return Dense(score_map, describe)

    def keypoints(self, dense: Dense, count: int, threshold: float) -> list[Found]:
        """`detect` 3 px from the left and top edges and 2 px from the others, as the authors do."""
        return detect(dense.score_map, count, threshold, border=(3, 3, 2, 2))


def make(variant: str) -> ALIKE:
    """The network of a published model."""
    return ALIKE(variant)
