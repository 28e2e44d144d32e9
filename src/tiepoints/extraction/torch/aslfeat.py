"""ASLFeat: descriptors by deformable convolutions, keypoints where the maps of three levels have peaks.

Luo et al., "ASLFeat: Learning Local Features of Accurate Shape and Localization", CVPR 2020 (arXiv 2003.10071). Written
from the paper and from the layers, names and settings of the authors' code for TensorFlow 1.15. Where the two differ,
the code counts: what it computes is what the weights were trained for.

- The deformable convolutions are those of the public weights, by the code's settings: free offsets and a factor for
  each tap (DCN v2), not the paper's other kinds, by an affinity or a homography.
- A level's map is what its convolution gives, before batch normalisation and ReLU, over a number that the training
  kept: the running mean of the map's maximum.
- The edge test is made once, on the joined score map with derivatives over 3 pixels. The code's first version made it
  on each level and channel.
- Keypoints are moved by at most half a pixel along each axis, in the first version by a whole one.

Frame: (0, 0) is the centre of the top-left pixel, as in the authors' code. Maps are enlarged as TensorFlow does it, so
that their top-left pixels stay in place. TensorFlow pads a strided convolution of an even size at the right and below
only; for its weights that is done here as there, since a network trained so has learned the shift of some pixels
between the levels. Our own weights are for padding on all sides, where no level is shifted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..tf_checkpoint import TensorFlowCheckpoint
from .base import Dense, Found, Network, choose, sample
from .deformable import deform_conv

__all__ = ["ASLFeat", "ModulatedConv", "derivatives", "enlarged", "make", "peakiness", "same_padding"]

# Name, channels before and after, stride.
PLAIN = (
    ("conv0", 1, 32, 1),
    ("conv1", 32, 32, 1),
    ("conv2", 32, 64, 2),
    ("conv3", 64, 64, 1),
    ("conv4", 64, 128, 2),
    ("conv5", 128, 128, 1),
)
DEFORMABLE = ("conv6_0", "conv6_1", "conv6")
# Of the score: the layer, how far apart the pixels of its window are, its weight.
LEVELS = (("conv1", 3, 1 / 6), ("conv3", 2, 2 / 6), ("conv6", 1, 3 / 6))

# The authors' settings for HPatches: pixels at the edges without keypoints, the largest ratio of the principal
# curvatures, half a step of refinement at most.
BORDER, EDGE, STEP = 5, 10.0, 0.5
# Of several scales: a level's step, the smallest one, the long edge that none is below, the blur before each step.
SCALE, SMALLEST, EDGE_LENGTH, SIGMA = 0.5**0.5, 0.3, 128, 0.8


class ModulatedConv(nn.Module):
    """A 3x3 convolution whose nine taps are moved and weighted by what two others predict.

    While these two are all zeros, a training may take the plain convolution, which is the same and faster.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.plain = False
        self.offset = nn.Conv2d(channels, 2 * 9, 3, padding=1)
        self.amplitude = nn.Conv2d(channels, 9, 3, padding=1)
        self.kernel = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.plain:
            halved: Tensor = self.kernel(x) / 2  # the sigmoid of 0
            return halved
        return deform_conv(x, self.offset(x), self.kernel.weight, torch.sigmoid(self.amplitude(x)))


class ASLFeat(Network):
    """The network.

    Parameters
    ----------
    multi_scale : bool
        Whether `keypoints` looks at smaller images as well.
    """

    channels = 1
    threshold = 0.5

    def __init__(self, *, multi_scale: bool = False) -> None:
        super().__init__()
        self.multi_scale = multi_scale
        self.centred = True  # whether strided convolutions are padded on all sides
        self.convs, self.norms = nn.ModuleDict(), nn.ModuleDict()
        for name, before, after, stride in PLAIN:
            self.convs[name] = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
            self.norms[name] = nn.BatchNorm2d(after, affine=False)
        for name in DEFORMABLE:
            self.convs[name] = ModulatedConv(128)
            if name != DEFORMABLE[-1]:
                self.norms[name] = nn.BatchNorm2d(128, affine=False)
        self.register_buffer("largest", torch.ones(len(LEVELS)))

    def read(self, path: Path) -> None:
        """The file is one of ours, or the index of a TensorFlow checkpoint, whose further tensors are left alone."""
        wanted = self.state_dict()
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as ours:
                found = {name: torch.from_numpy(ours[name]) for name in ours.files if name != "about"}
            counts = {name: value for name, value in wanted.items() if name.endswith("num_batches_tracked")}
            self.load_state_dict(found | counts)
            return
        checkpoint, self.centred = TensorFlowCheckpoint(path), False
        ours = {}
        for name, like in wanted.items():
            if name.endswith("num_batches_tracked"):
                ours[name] = like
            elif name == "largest":
                ours[name] = torch.tensor([checkpoint.tensor(f"tower/{x}/instance_max", ()).item() for x, *_ in LEVELS])
            elif like.ndim == 4:  # TensorFlow has the kernel's rows and columns first, then channels before and after
                after, before, rows, columns = like.shape
                tensor = checkpoint.tensor(published_name(name), (rows, columns, before, after))
                ours[name] = torch.from_numpy(tensor).permute(3, 2, 0, 1)
            else:
                ours[name] = torch.from_numpy(checkpoint.tensor(published_name(name), tuple(like.shape)))
        self.load_state_dict(ours)

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Score map (B, 1, H, W), and features (B, 128, H / 4, W / 4) that are not normalised."""
        x = image.float() * 255
        variance, mean = torch.var_mean(x, dim=(-2, -1), correction=0, keepdim=True)
        x = (x - mean) / (variance + 1e-5).sqrt()
        levels = {}
        for name, _, _, stride in PLAIN:
            if self.centred:
                levels[name] = self.convs[name](x)
            else:
                padded = F.pad(x, same_padding(x.shape[-2:], stride))
                levels[name] = F.conv2d(padded, self.convs[name].weight, stride=stride)  # type: ignore[arg-type]
            x = F.relu(self.norms[name](levels[name]))
        for name in DEFORMABLE[:-1]:
            x = F.relu(self.norms[name](self.convs[name](x)))
        features = levels[DEFORMABLE[-1]] = self.convs[DEFORMABLE[-1]](x).float()
        size = image.shape[-2:]
        score = image.new_zeros(len(image), 1, *size)
        for (name, dilation, weight), largest in zip(LEVELS, self.get_buffer("largest"), strict=True):
            score += weight * enlarged(peakiness(levels[name].float() / largest, dilation), size)
        return score, features

    def forward(self, image: Tensor) -> Dense:
        """``image`` is grey (B, 1, H, W) in [0, 1]; scores are positive, without a bound."""
        score_map, features = self.maps(image)
        last = features.new_tensor([features.shape[-1] - 1, features.shape[-2] - 1])

        def describe(xy: Sequence[Tensor]) -> list[Tensor]:
            at = [torch.minimum((each / 4).clamp(min=0), last) for each in xy]
            return [
                F.normalize(sample(one, places[:, None])[:, :, 0].T, dim=1)
                for one, places in zip(features, at, strict=True)
            ]

        return Dense(score_map, describe, image)

    def keypoints(self, dense: Dense, count: int, threshold: float) -> list[Found]:
        """Maxima of 3x3 pixels of the score map that are no edges, refined; of smaller images too if `multi_scale`."""
        found = _peaks(dense.score_map, count, threshold)
        if not self.multi_scale:
            return found
        image = small = dense.state
        height, width = image.shape[-2:]
        levels = [_described(dense, found)]
        smallest = max(SMALLEST, EDGE_LENGTH / max(height, width))
        for _ in range(1, math.floor(max(math.log2(smallest) / math.log2(SCALE), 1))):
            small = _smaller(small)
            dense = self(small)
            # The authors' code takes places back without half a pixel.
            ratio = small.new_tensor([width / small.shape[-1], height / small.shape[-2]])
            found = [
                replace(each, xy=(each.xy + 0.5) * ratio - 0.5)
                for each in _described(dense, _peaks(dense.score_map, count, threshold))
            ]
            levels.append(found)
        return [_best(several, count) for several in zip(*levels, strict=True)]


def published_name(name: str) -> str:
    """What the checkpoint calls a parameter of ours."""
    group, layer, *rest = name.split(".")
    if group == "norms":
        return f"{layer}/bn/{rest[0].replace('running_mean', 'moving_mean').replace('running_var', 'moving_variance')}"
    if len(rest) == 1 or rest[0] == "kernel":
        return f"{layer}/kernel"
    return f"deform_param/{layer}/{rest[0]}/{'kernel' if rest[1] == 'weight' else 'bias'}"


def same_padding(size: torch.Size, stride: int) -> tuple[int, int, int, int]:
    """TensorFlow's padding "SAME" of a 3x3 convolution with stride 1 or 2: left, right, top, bottom."""
    top, left = (1 if stride == 1 else length % 2 for length in size)
    return left, 1, top, 1


def peakiness(features: Tensor, dilation: int) -> Tensor:
    """How much a place stands out among its neighbours and among its channels: the largest of any channel.

    Parameters
    ----------
    features : Tensor
        (B, C, H, W).
    dilation : int
        Pixels between the 3x3 neighbours.

    Returns
    -------
    Tensor
        (B, 1, H, W).
    """
    h, w = features.shape[-2:]
    padded = F.pad(features, (dilation,) * 4, mode="reflect")
    rows = padded[..., :h, :] + padded[..., dilation : dilation + h, :] + padded[..., 2 * dilation :, :]
    around = (rows[..., :w] + rows[..., dilation : dilation + w] + rows[..., 2 * dilation :]) / 9
    spatial = F.softplus(features - around)
    channel = F.softplus(features - features.mean(dim=1, keepdim=True))
    return (spatial * channel).amax(dim=1, keepdim=True)


def enlarged(map_: Tensor, size: torch.Size) -> Tensor:
    """The map at another size as TensorFlow 1 makes it: the top-left pixels' centres stay where they are."""
    for dim, length in zip((-2, -1), size, strict=True):
        n = map_.shape[dim]
        at = torch.arange(length, device=map_.device) * (n / length)
        low = at.long()
        share = (at - low).view((-1, 1) if dim == -2 else (-1,))
        high = (low + 1).clamp(max=n - 1)
        map_ = torch.lerp(map_.index_select(dim, low), map_.index_select(dim, high), share)
    return map_


def derivatives(score_map: Tensor, step: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Differences dy, dx, dyy, dxy, dxx of a map (B, 1, H, W) between pixels `step` apart, zeros outside; as large."""
    h, w = score_map.shape[-2:]
    padded = F.pad(score_map, (step,) * 4)

    def at(row: int, column: int) -> Tensor:
        top, left = (1 + row) * step, (1 + column) * step
        return padded[..., top : top + h, left : left + w]

    centre = at(0, 0)
    return (
        (at(1, 0) - at(-1, 0)) / 2,
        (at(0, 1) - at(0, -1)) / 2,
        at(1, 0) - 2 * centre + at(-1, 0),
        (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4,
        at(0, 1) - 2 * centre + at(0, -1),
    )


def _peaks(score_map: Tensor, count: int, threshold: float) -> list[Found]:
    """The highest maxima of each map (B, 1, H, W)."""
    _, _, dyy, dxy, dxx = derivatives(score_map, 3)
    determinant = dyy * dxx - dxy**2
    corner = (determinant > 0) & ((dyy + dxx) ** 2 <= (EDGE + 1) ** 2 / EDGE * determinant)
    peak = corner & (score_map == F.max_pool2d(score_map, 3, 1, 1))
    near = derivatives(score_map)
    found = []
    for i, peaks in enumerate(score_map.masked_fill(~peak, -torch.inf)[:, 0]):
        y, x = choose(peaks, count, threshold, (BORDER,) * 4)
        dy, dx, dyy, dxy, dxx = (each[i, 0, y, x] for each in near)
        determinant = dyy * dxx - dxy**2
        steps = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], dim=1) / determinant[:, None]
        steps = torch.where(determinant[:, None] != 0, steps, 0).clamp(-STEP, STEP)
        found.append(Found(torch.stack([x, y], dim=1) + steps, peaks[y, x]))
    return found


def _described(dense: Dense, found: list[Found]) -> list[Found]:
    vectors = dense.describe([each.xy for each in found])
    return [replace(each, descriptors=those) for each, those in zip(found, vectors, strict=True)]


def _smaller(image: Tensor) -> Tensor:
    """The next level of several scales."""
    sigma = SIGMA / SCALE
    kernel = torch.exp(-(torch.arange(-4.0, 5, device=image.device) ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    blurred = F.conv2d(F.pad(image, (4,) * 4, mode="reflect"), torch.outer(kernel, kernel)[None, None])
    h, w = image.shape[-2:]
    return F.interpolate(blurred, (round(h * SCALE), round(w * SCALE)), mode="bilinear")


def _best(levels: Sequence[Found], count: int) -> Found:
    scores = torch.cat([each.scores for each in levels])
    rows = scores.topk(min(count, len(scores))).indices
    descriptors = torch.cat([each.descriptors for each in levels if each.descriptors is not None])
    return Found(torch.cat([each.xy for each in levels]), scores, None, descriptors).select(rows)


def make(variant: str) -> ASLFeat:
    """The network; there is one model."""
    return ASLFeat()
