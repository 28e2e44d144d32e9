"""All losses of MD-Net on a batch of pairs: where anchors and negatives come from, and how the parts are weighed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import losses
from .network import CELL

__all__ = ["LOSSES", "Batch", "Objective", "objective"]

#: The losses by name: the paper's five, and the cross-entropy that starts the descriptors off.
LOSSES = ("similarity", "peaky", "intersections", "unreliable", "triplet", "entropy")


TEMPERATURE = 0.07  # ours: of the cross-entropy among candidates
SPACING = 2  # ours: every second pixel of the descriptor map, 8 px of the image, is a candidate


@dataclass(frozen=True)
class Objective:
    """How much each loss counts; 0 switches it off. All ours: the paper gives none.

    Parameters
    ----------
    similarity, peaky, intersections, unreliable, triplet : float
        Factors of the losses of these names.
    entropy : float
        Factor of the cross-entropy of the true counterpart among all candidates (ours): it uses every negative, where
        the triplet loss uses the hardest one.
    warm_up : int
        Steps before the triplet loss is blended in, over as many steps again: hardest negatives from the first step end
        with all descriptors equal.
    anchors : int
        Places a pair at which descriptors are compared; half of them at random (paper), half at peaks of the heatmaps
        (ours), where keypoints will be.
    window : int, optional
        Edge of the windows of the similarity, peaky and intersections losses (paper: 16), an even number. By default
        16, and for k > 2 sets 16 sqrt(k / 2) in steps of 8 (ours): every window must hold a peak of every set, and so
        the sets together ask for as many keypoints as two do.
    exclusion : float
        Negatives nearer than this many pixels to the positive do not count.
    """

    similarity: float = 1.0
    peaky: float = 1.0
    intersections: float = 1.0
    unreliable: float = 0.5
    triplet: float = 0.5
    entropy: float = 0.3
    warm_up: int = 150
    anchors: int = 256
    window: int | None = None
    exclusion: float = 8.0

    def window_of(self, sets: int) -> int:
        """The edge of the windows for so many sets."""
        return self.window or max(losses.WINDOW, 8 * round(2 * math.sqrt(sets / 2)))


class Batch(NamedTuple):
    """B pairs as tensors; see `pairs.Pair`."""

    image_a: Tensor  # (B, 1, S, S) in [0, 1]
    image_b: Tensor  # (B, 1, S, S)
    b_from_a: Tensor  # (B, S, S, 2) [x, y] in pixels
    valid_a: Tensor  # (B, 1, S, S), 1 or 0
    noise: Tensor  # (B, S, S) in [0, 1): the lot of each pixel of a, for drawing anchors


def objective(
    outputs: tuple[Tensor, Tensor, Tensor, Tensor], batch: Batch, weights: Objective, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of all losses, and each by its name.

    Parameters
    ----------
    outputs : logits of a and of b (B, k, S, S), descriptors of a and of b (B, D, S / 4, S / 4)
        Descriptors not normalised.
    batch : Batch
    weights : Objective
    step : int
        For the warm-up of the descriptors, and for the shift of the windows.
    """
    logits_a, logits_b, described_a, described_b = outputs
    heat_a, heat_b = torch.sigmoid(logits_a.float()), torch.sigmoid(logits_b.float())
    size = heat_a.shape[-1]
    grid = batch.b_from_a * (2 / (size - 1)) - 1
    heat_ba = F.grid_sample(heat_b, grid, mode="bilinear", padding_mode="zeros", align_corners=True)

    window = weights.window_of(heat_a.shape[1])
    half = window // 2
    left, top = step % half, step // half % half
    a, b, mask = (x[..., top:, left:] for x in (heat_a, heat_ba, batch.valid_a))
    parts = {
        "similarity": losses.similarity(a, b, mask, window),
        "peaky": (losses.peaky(a, mask, window) + losses.peaky(b, mask, window)) / 2,
    }
    if heat_a.shape[1] > 1:
        parts["intersections"] = losses.intersections(a, mask, window=window)
    scores = _compare(heat_a, described_a.float(), described_b.float(), batch, weights)
    parts["unreliable"] = losses.unreliable(scores.detected, scores.positive, scores.hardest, scores.usable)
    parts["triplet"] = losses.triplet(scores.positive, scores.hardest, scores.usable)
    parts["entropy"] = scores.entropy
    blend = min(max(step / max(weights.warm_up, 1) - 1, 0), 1)
    factors = {name: getattr(weights, name) for name in parts}
    factors["triplet"] *= blend
    total = torch.stack([factor * parts[name] for name, factor in factors.items() if factor]).sum()
    for name, score in (("positive", scores.positive), ("negative", scores.hardest)):
        parts[name] = (score * scores.usable).sum() / scores.usable.sum().clamp_min(1)
    return total, {name: value.detach() for name, value in parts.items()}


class _Scores(NamedTuple):
    detected: Tensor  # (B, N) the heatmap at the anchors, of the set that fires most
    positive: Tensor  # (B, N) scores of the true counterparts
    hardest: Tensor  # (B, N) scores of the hardest negatives
    entropy: Tensor  # () of the true counterpart among all candidates
    usable: Tensor  # (B, N) 1 where the anchor is seen in both images, else 0


def _compare(heat: Tensor, described_a: Tensor, described_b: Tensor, batch: Batch, weights: Objective) -> _Scores:
    """Descriptors at anchors of a against those of b, and their counterparts' against those of a.

    The negatives of an anchor are the other anchors' counterparts and a grid over the whole of the other image, both
    without the neighbours of its own counterpart.
    """
    places, usable = _anchors(heat.detach(), batch, weights.anchors)  # (B, N, 2) whole pixels, (B, N)
    rows = torch.arange(len(heat), device=heat.device)[:, None]
    x, y = places.unbind(2)
    at_a, at_b = places.to(heat.dtype), batch.b_from_a[rows, y, x]
    fa, fb = sample(described_a, at_a), sample(described_b, at_b)  # (B, N, D)
    positive = (fa * fb).sum(2)
    hardest, entropy = [], []
    for anchors, candidates, at, described in ((fa, fb, at_b, described_b), (fb, fa, at_a, described_a)):
        grid, grid_at = _grid(described)
        scores = anchors @ torch.cat([candidates, grid], dim=1).transpose(1, 2)  # (B, N, N + M)
        barred = torch.cdist(at, torch.cat([at, grid_at.expand(len(at), -1, -1)], dim=1)) < weights.exclusion
        barred[..., : at.shape[1]] |= (usable == 0)[:, None]
        scores = scores.masked_fill(barred, -2.0)
        hardest.append(scores.amax(dim=2))
        everything = torch.cat([positive[..., None], scores], dim=2) / TEMPERATURE
        entropy.append(everything.logsumexp(dim=2) - positive / TEMPERATURE)
    mean = torch.stack(entropy).mean(0) * usable
    detected = heat[rows, :, y, x].amax(dim=2)
    return _Scores(
        detected,
        positive,
        torch.maximum(*hardest).clamp_min(-1),
        (mean.sum(1) / usable.sum(1).clamp_min(1)).mean(),
        usable,
    )


def _anchors(heat: Tensor, batch: Batch, count: int) -> tuple[Tensor, Tensor]:
    """Places [x, y] (B, count, 2) at whole pixels, and 1 for those that are valid (B, count).

    Half are drawn at random; half are the places of greatest response, by the luck of their lot, in cells of the image.
    """
    size = heat.shape[-1]
    valid, noise = batch.valid_a.flatten(1), batch.noise.flatten(1)  # (B, S * S)
    random = (noise + valid).topk(count // 2, dim=1).indices
    response = heat.amax(dim=1, keepdim=True) * (0.5 + batch.noise[:, None]) * batch.valid_a
    peak, where = F.max_pool2d(response, 8, 8, return_indices=True)
    lot = (peak.flatten(1) > 0).to(noise.dtype) + noise[:, : peak[0].numel()]
    chosen = lot.topk(min(count - count // 2, lot.shape[1]), dim=1).indices
    index = torch.cat([random, where.flatten(1).gather(1, chosen)], dim=1)
    return torch.stack([index % size, index // size], dim=2), (valid.gather(1, index) > 0.5).to(heat.dtype)


def _grid(described: Tensor) -> tuple[Tensor, Tensor]:
    """Unit descriptors (B, M, D) of a regular grid over the map, and their places [x, y] in the image (1, M, 2)."""
    picked = described[..., ::SPACING, ::SPACING]
    y, x = (torch.arange(n, device=described.device) * (SPACING * CELL) + (CELL - 1) / 2 for n in picked.shape[-2:])
    at = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2).flatten(0, 1)[None]
    return F.normalize(picked.flatten(2).transpose(1, 2), dim=2), at.to(described.dtype)


def sample(described: Tensor, at: Tensor) -> Tensor:
    """Unit descriptors (B, N, D) at image pixels [x, y] (B, N, 2): the map's pixel i is centred on 4 i + 1.5."""
    height, width = described.shape[-2:]
    grid = ((at + 0.5) / CELL / at.new_tensor([width, height]) * 2 - 1)[:, :, None]
    sampled = F.grid_sample(described, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return F.normalize(sampled[..., 0].transpose(1, 2), dim=2)
