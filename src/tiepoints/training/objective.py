"""All losses of MD-Net on a batch of pairs: where anchors and negatives come from, and how the parts are weighed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import losses
from .network import CELL

__all__ = ["Batch", "Weights", "objective"]


@dataclass(frozen=True)
class Weights:
    """How much each loss counts; 0 switches it off. All ours: the paper gives none.

    Parameters
    ----------
    similarity, peaky, intersections, unreliable, triplet : float
        Factors of the losses of these names.
    anchors : int
        Places a pair at which descriptors are compared; half of them at random, half at peaks of the heatmaps.
    window : int
        Edge of the windows of the similarity and peaky losses (paper: 16).
    exclusion : float
        Negatives nearer than this many pixels to the positive do not count.
    warm_up : int
        Steps of cross-entropy over all candidates before the hardest negatives are blended in, over as many steps
        again: hardest negatives from the first step end with all descriptors equal.
    """

    similarity: float = 1.0
    peaky: float = 0.5
    intersections: float = 0.5
    unreliable: float = 0.5
    triplet: float = 1.0
    anchors: int = 256
    window: int = 16
    exclusion: float = 8.0
    warm_up: int = 150


class Batch(NamedTuple):
    """Pairs as tensors; see `pairs.Pair`."""

    image_a: Tensor  # (B, 1, S, S)
    image_b: Tensor
    b_from_a: Tensor  # (B, S, S, 2)
    valid_a: Tensor  # (B, 1, S, S) float


TEMPERATURE = 0.07  # ours: of the cross-entropy of the warm-up


def objective(
    logits_a: Tensor,
    logits_b: Tensor,
    described_a: Tensor,
    described_b: Tensor,
    batch: Batch,
    weights: Weights,
    step: int,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of all losses, and each by its name.

    Parameters
    ----------
    logits_a, logits_b : (B, k, S, S)
    described_a, described_b : (B, D, S / 4, S / 4)
        Not normalised.
    batch : Batch
    weights : Weights
    step : int
        For the warm-up of the descriptors.
    generator : torch.Generator
        Of the random anchors.
    """
    heat_a, heat_b = torch.sigmoid(logits_a.float()), torch.sigmoid(logits_b.float())
    size = heat_a.shape[-1]
    grid = batch.b_from_a * (2 / (size - 1)) - 1
    heat_ba = F.grid_sample(heat_b, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    mask = batch.valid_a

    parts = {
        "similarity": losses.similarity(heat_a, heat_ba, mask, weights.window),
        "peaky": (losses.peaky(heat_a, mask, weights.window) + losses.peaky(heat_ba, mask, weights.window)) / 2,
    }
    if heat_a.shape[1] > 1:
        parts["intersections"] = losses.intersections(heat_a, mask)
    detected, positive, hardest, entropy = _compare(
        heat_a, described_a.float(), described_b.float(), batch, weights, generator
    )
    parts["unreliable"] = losses.unreliable(detected, positive, hardest)
    parts["triplet"] = losses.triplet(positive, hardest)
    blend = min(max(step / max(weights.warm_up, 1) - 1, 0), 1)
    total = sum(
        (getattr(weights, name) * value for name, value in parts.items() if name != "triplet"), heat_a.new_zeros(())
    )
    total = total + weights.triplet * (blend * parts["triplet"] + (1 - blend) * 0.2 * entropy)
    parts["positive"], parts["negative"] = positive.detach().mean(), hardest.detach().mean()
    return total, {name: value.detach() for name, value in parts.items()}


def _compare(
    heat: Tensor, described_a: Tensor, described_b: Tensor, batch: Batch, weights: Weights, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Descriptors at anchors of image a against those of image b.

    Returns
    -------
    detected : (N,)
        The heatmap at the anchors.
    positive, hardest : (N,)
        Scores of the true counterparts and of the hardest negatives.
    entropy : ()
        Cross-entropy of the true counterpart among all candidates.
    """
    at_a, usable = _anchors(heat.detach(), batch.valid_a, weights.anchors, generator)  # (B, N, 2), (B, N)
    at_b = _look_up(batch.b_from_a, at_a)
    fa, fb = _sample(described_a, at_a), _sample(described_b, at_b)  # (B, N, D), unit length
    scores = fa @ fb.transpose(1, 2)  # (B, N, N): the other anchors' counterparts are the negatives
    near = torch.cdist(at_b, at_b) < weights.exclusion
    own = torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
    barred = (near & ~own) | ~usable[:, None, :] | ~usable[:, :, None]
    negatives = scores.masked_fill(barred | own, -2.0)
    positive = scores.diagonal(dim1=1, dim2=2)[usable]
    # hardest in both directions: for the anchor among b's candidates, and for its counterpart among a's
    hardest = torch.maximum(negatives.amax(dim=2), negatives.amax(dim=1))[usable].clamp_min(-1)
    logits = scores.masked_fill(barred & ~own, -2.0) / TEMPERATURE
    target = torch.arange(scores.shape[1], device=scores.device).expand(scores.shape[:2])
    entropy = F.cross_entropy(logits[usable], target[usable]) if usable.any() else scores.sum() * 0
    places = at_a.long()
    rows = torch.arange(len(heat), device=heat.device)[:, None]
    detected = heat[rows, :, places[..., 1], places[..., 0]].amax(dim=2)[usable]
    return detected, positive, hardest, entropy


def _anchors(heat: Tensor, valid: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Places [x, y] (B, count, 2) at whole pixels, and which of them are valid (B, count).

    Half are drawn at random, half are the places of greatest response (jittered by chance) in cells of the image, where
    keypoints will be.
    """
    width = heat.shape[3]
    flat = valid.flatten(1)  # (B, S * S)
    noise = torch.rand(flat.shape, generator=generator).to(flat.device)
    random = (noise + flat).topk(count // 2, dim=1).indices
    strongest = heat.amax(dim=1, keepdim=True)
    cell = 8
    response = strongest * (0.5 + torch.rand(strongest.shape, generator=generator).to(heat.device)) * valid
    peak, where = F.max_pool2d(response, cell, cell, return_indices=True)
    lot = torch.rand(peak.flatten(1).shape, generator=generator).to(heat.device)
    chosen = ((peak.flatten(1) > 0).to(lot.dtype) + lot).topk(min(count - count // 2, lot.shape[1]), dim=1).indices
    peaks = where.flatten(1).gather(1, chosen)
    index = torch.cat([random, peaks], dim=1)
    places = torch.stack([index % width, index // width], dim=2).to(heat.dtype)
    return places, flat.gather(1, index) > 0.5


def _look_up(field: Tensor, at: Tensor) -> Tensor:
    """Values of a field (B, S, S, 2) at whole pixels (B, N, 2)."""
    x, y = at[..., 0].long(), at[..., 1].long()
    return field[torch.arange(len(field), device=field.device)[:, None], y, x]


def _sample(described: Tensor, at: Tensor) -> Tensor:
    """Unit descriptors (B, N, D) at image pixels [x, y]: the map's pixel i is centred on 4 i + 1.5."""
    h, w = described.shape[-2:]
    size = at.new_tensor([w, h])
    grid = ((at + 0.5) / CELL / size * 2 - 1)[:, :, None]
    sampled = F.grid_sample(described, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return F.normalize(sampled[..., 0].transpose(1, 2), dim=2)
