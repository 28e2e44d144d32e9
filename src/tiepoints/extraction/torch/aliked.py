"""ALIKED: a score map, a feature map, and descriptors from a deformable head.

Zhao et al., "ALIKED: A Lighter Keypoint and Descriptor Extraction Network via Deformable Transformation", IEEE
Transactions on Instrumentation and Measurement 2023 (arXiv 2304.03608). Keypoints are detected as in its predecessor,
"ALIKE: Accurate and Lightweight Keypoint Detection and Descriptor Extraction", IEEE Transactions on Multimedia 2022
(arXiv 2112.02906). Written from the papers and from the tensors of the published weights (BSD-3-Clause).

Frame: (0, 0) is the centre of the top-left pixel, x to the right, y down, in pixels of the image given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Dense, Found, Network, choose, sample, suppress
from .deformable import deform_conv

__all__ = ["ALIKED", "Block", "detect", "make", "upsample"]

STRIDE = 32  # of the deepest block: images are padded to a multiple of it


@dataclass(frozen=True)
class Size:
    """What tells one published ALIKED from another: channels of the four blocks, of the descriptor, and samples M."""

    blocks: tuple[int, int, int, int]
    dim: int
    samples: int


SIZES = {
    "t16": Size((8, 16, 32, 64), 64, 16),
    "n16": Size((16, 32, 64, 128), 128, 16),
    "n16rot": Size((16, 32, 64, 128), 128, 16),
    "n32": Size((16, 32, 64, 128), 128, 32),
}


class DeformableConv(nn.Module):
    """A 3x3 convolution whose nine taps are moved by offsets that another convolution predicts (paper, eq. 2)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.offset_conv = nn.Conv2d(channels_in, 2 * 9, 3, padding=1)
        self.regular_conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        limit = max(x.shape[-2:]) / 4
        return deform_conv(x, self.offset_conv(x).clamp(-limit, limit), self.regular_conv.weight)


class Block(nn.Module):
    """Two convolutions with batch normalisation; with a ``downsample`` convolution it is a residual block.

    ALIKE's have ReLU in the place of SELU.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        *,
        residual: bool,
        deformable: bool = False,
        gate: Callable[[Tensor], Tensor] = F.selu,
    ) -> None:
        super().__init__()
        self.gate = gate

        def conv(n: int) -> nn.Module:
            return DeformableConv(n, channels) if deformable else nn.Conv2d(n, channels, 3, padding=1, bias=False)

        self.conv1, self.bn1 = conv(channels_in), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels), nn.BatchNorm2d(channels)
        self.downsample = nn.Conv2d(channels_in, channels, 1) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.gate(self.bn1(self.conv1(x)))))
        return self.gate(out if self.downsample is None else out + self.downsample(x))


class DescriptorHead(nn.Module):
    """Sparse deformable descriptor head (paper, section IV): M features around a keypoint, at places it predicts."""

    def __init__(self, dim: int, samples: int) -> None:
        super().__init__()
        self.samples = samples
        n = 2 * samples
        self.offset_conv = nn.Sequential(nn.Conv2d(dim, n, 3), nn.SELU(), nn.Conv2d(n, n, 1))
        self.sf_conv = nn.Conv2d(dim, dim, 1, bias=False)
        self.agg_weights = nn.Parameter(torch.empty(samples, dim, dim))

    def forward(self, feature_map: Tensor, xy: Tensor) -> Tensor:
        """Descriptors (N, dim) of unit length of one ``feature_map`` (dim, H, W) at ``xy`` (N, 2)."""
        dim, h, w = feature_map.shape
        limit = max(h, w) / 4
        # The 3x3 patch lies at the keypoint cut to a whole pixel, the samples at the keypoint itself.
        padded = F.pad(feature_map, (1, 1, 1, 1))
        column, row = xy.detach().long().unbind(1)
        near = torch.arange(3, device=xy.device)
        rows, columns = (row[:, None] + near)[:, :, None], (column[:, None] + near)[:, None]
        patch = padded[:, rows, columns].transpose(0, 1)  # (N, dim, 3, 3)
        offset = self.offset_conv(patch).clamp(-limit, limit).view(-1, 2, self.samples)  # all dx, then all dy
        features = sample(feature_map, xy[:, None] + offset.transpose(1, 2))  # (dim, N, M)
        features = F.selu(torch.einsum("oc,cnm->nmo", self.sf_conv.weight[:, :, 0, 0], features))
        n = len(xy)
        # The sum over samples and channels as one product, (N, M * dim) by (M * dim, dim).
        return F.normalize(features.reshape(n, self.samples * dim) @ self.agg_weights.view(-1, dim), dim=1)


class ALIKED(Network):
    """The network.

    Parameters
    ----------
    name : str
        "t16", "n16", "n16rot" or "n32": the models of the paper's table I.
    """

    def __init__(self, name: str = "n16") -> None:
        super().__init__()
        size = SIZES[name]
        c = size.blocks
        self.block1 = Block(3, c[0], residual=False)
        self.block2 = Block(c[0], c[1], residual=True)
        self.block3 = Block(c[1], c[2], residual=True, deformable=True)
        self.block4 = Block(c[2], c[3], residual=True, deformable=True)
        quarter = size.dim // 4
        self.conv1, self.conv2, self.conv3, self.conv4 = (nn.Conv2d(n, quarter, 1, bias=False) for n in c)
        self.score_head = nn.Sequential(
            nn.Conv2d(size.dim, 8, 1, bias=False),
            nn.SELU(),
            nn.Conv2d(8, 4, 3, padding=1, bias=False),
            nn.SELU(),
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            nn.SELU(),
            nn.Conv2d(4, 1, 3, padding=1, bias=False),
        )
        self.desc_head = DescriptorHead(size.dim, size.samples)

    def forward(self, image: Tensor) -> Dense:
        """``image`` is RGB (B, 3, H, W) in [0, 1]; the score map is in [0, 1]."""
        feature_map, score_map = self.maps(image)

        def describe(xy: Sequence[Tensor]) -> list[Tensor]:
            return [self.desc_head(one, at) for one, at in zip(feature_map, xy, strict=True)]

        return Dense(score_map, describe)

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Feature map (B, dim, H, W) of unit length at each pixel, and score map (B, 1, H, W) in [0, 1]."""
        h, w = image.shape[-2:]
        top, left = -h % STRIDE // 2, -w % STRIDE // 2
        padded = F.pad(image, (left, -w % STRIDE - left, top, -h % STRIDE - top), mode="replicate")
        x1 = self.block1(padded)
        x2 = self.block2(F.avg_pool2d(x1, 2))
        x3 = self.block3(F.avg_pool2d(x2, 4))
        x4 = self.block4(F.avg_pool2d(x3, 4))
        size = padded.shape[-2:]
        levels = ((self.conv1, x1), (self.conv2, x2), (self.conv3, x3), (self.conv4, x4))
        full = torch.cat([upsample(F.selu(conv(x)), size) for conv, x in levels], dim=1)
        score_map = torch.sigmoid(self.score_head(full).float())
        inside = (..., slice(top, top + h), slice(left, left + w))
        return F.normalize(full[inside].float(), dim=1), score_map[inside]

    def keypoints(self, dense: Dense, count: int, threshold: float) -> list[Found]:
        """`detect` at least 2 px from the edges."""
        return detect(dense.score_map, count, threshold, border=(2, 2, 2, 2))


def make(variant: str) -> ALIKED:
    """The network of a published model."""
    return ALIKED(variant)


def upsample(x: Tensor, size: torch.Size) -> Tensor:
    """The map at another size, its outermost pixels' centres where they were."""
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=True)


def detect(
    score_map: Tensor,
    count: int,
    threshold: float,
    *,
    border: tuple[int, int, int, int],
    radius: int = 2,
    temperature: float = 0.1,
) -> list[Found]:
    """Differentiable keypoint detection (ALIKE, section III-B): local maxima, then the soft-argmax around each.

    Parameters
    ----------
    score_map : Tensor
        (B, 1, H, W).
    count : int
        Keypoints of an image at most; the highest maxima are kept.
    threshold : float
        Lower maxima are left out.
    border : tuple of int
        Pixels without keypoints: left, top, right, bottom.
    radius : int
        Maxima of windows of ``2 * radius + 1`` pixels; the soft-argmax sees the same window.
    temperature : float
        Of the soft-argmax (eq. 4).

    Returns
    -------
    list of Found
        For each image; scores are the score map's bilinear values at the refined places. Both carry gradients.
    """
    with torch.no_grad():
        maxima = suppress(score_map.detach(), radius)[:, 0]
    step = torch.arange(-radius, radius + 1, device=score_map.device)
    dy, dx = (t.reshape(-1) for t in torch.meshgrid(step, step, indexing="ij"))
    found = []
    for scores, peaks in zip(score_map[:, 0], maxima, strict=True):
        y, x = choose(peaks, count, threshold, border)
        window = F.pad(scores, (radius,) * 4)[y[:, None] + dy + radius, x[:, None] + dx + radius]
        peak = window.detach()[:, len(dx) // 2, None]
        weight = ((window - peak) / temperature).exp()
        weight = weight / weight.sum(1, keepdim=True)
        xy = torch.stack([x + (weight * dx).sum(1), y + (weight * dy).sum(1)], dim=1)
        found.append(Found(xy, sample(scores[None], xy[:, None])[0, :, 0]))
    return found
