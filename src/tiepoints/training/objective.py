"""All losses of MD-Net on a batch of pairs: where they look, and how they are weighed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import losses
from .network import CELL
from .pairs import Batch, Correspondences

__all__ = [
    "LOSSES", "OF_TEACHER", "Objective", "Uniforms", "at_peaks", "at_random", "choose_anchors", "objective", "sample",
]  # fmt: skip

#: The losses by name: the paper's five; of our own, what needs nothing but photographs, and what needs a teacher.
LOSSES = (
    "similarity", "peaky", "intersections", "unreliable", "triplet",
    "entropy", "reprojection", "balance",
    "heights", "floor", "distance", "ranking",
)  # fmt: skip

#: Those that need a teacher.
OF_TEACHER = ("heights", "floor", "distance", "ranking")

SPACING = 2  # ours: every second pixel of the descriptor map, 8 px of the image, is a candidate
_PEAK_CELL = 4  # ours: pixels; a peak is the greatest of 3 x 3 such cells
_SOFT = 0.5  # ours: temperature of the soft-argmax that refines a peak
_FLOORS = 256  # ours: pixels of each image at which `floor` looks


@dataclass(frozen=True)
class Objective:
    """How much each loss counts; 0 switches it off. All ours: the paper gives none.

    Those that need a teacher have no effect without one.

    Parameters
    ----------
    similarity, peaky, intersections, unreliable, triplet, reprojection, balance, heights, floor, distance, ranking : \
float
        Factors of the losses of these names.
    entropy : float
        Factor of the cross-entropy of the true counterpart among all candidates (ours): it uses every negative, where
        the triplet loss uses the hardest one.
    warmup : int
        Steps before the triplet loss is blended in, over as many steps again: hardest negatives from the first step end
        with all descriptors equal.
    anchors : int
        Places a pair at which descriptors are compared; half of them at random (paper), half at peaks of the heatmaps
        (ours), where keypoints will be.
    peaks : int
        Peaks of each set and image at which `reprojection` and `heights` look.
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
    reprojection: float = 0.3
    balance: float = 1.0
    heights: float = 1.0
    floor: float = 2.0
    distance: float = 4.0
    ranking: float = 0.6
    warmup: int = 150
    anchors: int = 256
    peaks: int = 96
    window: int | None = None
    exclusion: float = 8.0

    def window_of(self, sets: int) -> int:
        """The edge of the windows for so many sets."""
        return self.window or max(losses.WINDOW, 8 * round(2 * math.sqrt(sets / 2)))


def objective(
    logits: dict[int, Tensor],
    described: Tensor,
    batch: Batch,
    weights: Objective,
    step: int,
    of_teacher: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of all losses, and each by its name.

    Of several detection heads, the mean of each loss counts.

    Parameters
    ----------
    logits : dict of (2 B, k, S, S)
        By k: of the images a, then of the images b.
    described : (2 B, D, S / 4, S / 4)
        Not normalised.
    batch : Batch
    weights : Objective
    step : int
        For the warm-up of the descriptors, and for the shift of the windows.
    of_teacher : (D, D), optional
        See `MDNet.teacher_directions`.
    """
    heads = {k: values.float() for k, values in logits.items()}
    heats = {k: torch.sigmoid(values) for k, values in heads.items()}
    described = described.float()
    uniforms = Uniforms(batch.uniforms)
    first = heats[2] if 2 in heats else next(iter(heats.values()))
    scores = _compare(first[: len(batch)], described, batch, weights, uniforms)
    each = [_detection(heads[k], heat, scores, batch, weights, step, uniforms.again()) for k, heat in heats.items()]
    parts = {
        name: torch.stack([part[name] for part in each if name in part]).mean()
        for name in LOSSES
        if any(name in part for part in each)
    }
    parts |= {"triplet": losses.triplet(scores.positive, scores.hardest, scores.usable), "entropy": scores.entropy}
    if batch.places is not None and (weights.distance or weights.ranking):
        at, target, counted = batch.places
        values = sample(described, at)
        if of_teacher is not None:
            values = F.normalize(values @ of_teacher.T, dim=2)
        parts["distance"] = losses.distance(values, target, counted)
        parts["ranking"] = losses.ranking(values, target, at, counted)
    factors = {name: getattr(weights, name) for name in parts}
    factors["triplet"] *= min(max(step / max(weights.warmup, 1) - 1, 0), 1)
    total = torch.stack([factor * parts[name] for name, factor in factors.items() if factor]).sum()
    for name, score in (("positive", scores.positive), ("negative", scores.hardest)):
        parts[name] = (score * scores.usable).sum() / scores.usable.sum().clamp_min(1)
    return total, {name: value.detach() for name, value in parts.items()}


class Uniforms:
    """Uniform random numbers of a batch, taken one after the other."""

    def __init__(self, uniforms: Tensor, taken: int = 0) -> None:
        self._uniforms, self._taken = uniforms, taken

    def take(self, count: int) -> Tensor:
        """The next ones (B, count) in [0, 1)."""
        self._taken += count
        assert self._taken <= self._uniforms.shape[1], "uniforms_of() is too small"
        return self._uniforms[:, self._taken - count : self._taken]

    def again(self) -> Uniforms:
        """Those that are left, for each of several takers."""
        return Uniforms(self._uniforms, self._taken)


# -- detection -------------------------------------------------------------------------------------------------------


def _detection(
    logits: Tensor, heat: Tensor, scores: _Scores, batch: Batch, weights: Objective, step: int, uniforms: Uniforms
) -> dict[str, Tensor]:
    """The losses of one head's heatmaps (2 B, k, S, S)."""
    count, k = len(batch), heat.shape[1]
    heat_a, heat_b = heat.chunk(2)
    heat_ba = F.grid_sample(heat_b, batch.grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    window = weights.window_of(k)
    half = window // 2
    left, top = step % half, step // half % half
    a, b, mask = (x[..., top:, left:] for x in (heat_a, heat_ba, batch.valid[:count, None].float()))
    mapped, mask_b = mask, mask
    if batch.points is not None:  # pairs without a map of all pixels: each image by itself, b in its own frame
        sparse = batch.points.sparse[:, None, None, None]
        mapped, mask_b = mask * ~sparse, torch.where(sparse, batch.valid[count:, None, top:, left:].float(), mask)
    parts = {
        "similarity": losses.similarity(a, b, mapped, window),
        "peaky": (losses.peaky(a, mask, window) + losses.peaky(b, mask_b, window)) / 2,
    }
    if batch.points is not None:
        parts["similarity"] = parts["similarity"] - batch.points.sparse.float().mean()  # they add nothing
    if k > 1:
        parts["intersections"] = losses.intersections(a, mask, window=window)
        parts["balance"] = (losses.balance(a, mask, window) + losses.balance(b, mask_b, window)) / 2
    rows = torch.arange(count, device=heat.device)[:, None]
    detected = heat_a[rows, :, scores.at[..., 1], scores.at[..., 0]].amax(dim=2)
    parts["unreliable"] = losses.unreliable(detected, scores.positive, scores.hardest, scores.usable)
    has_scores = batch.scores is not None and bool(weights.heights or weights.floor)
    if weights.reprojection or has_scores:
        parts |= at_peaks(logits, batch, weights, uniforms)
    if has_scores:
        parts["floor"] = at_random(heat, batch, uniforms)
    return parts


def at_peaks(logits: Tensor, batch: Batch, weights: Objective, uniforms: Uniforms) -> dict[str, Tensor]:
    """`reprojection` in both directions, and `heights`, at peaks of each set (2 B, k, N)."""
    count, size = len(batch), logits.shape[2]
    cells = (size // _PEAK_CELL) ** 2
    uniform = torch.cat([uniforms.take(cells), uniforms.take(cells)])
    with torch.no_grad():
        index, at, weight = _peaks(logits, batch.valid, uniform, weights.peaks)
        photo_a, photo_b = (view.to_photo(at[half].flatten(1, 2)) for view, half in batch.halves())
        other = torch.cat([batch.b.from_photo(photo_a), batch.a.from_photo(photo_b)]).view(at.shape)
        reach = losses.REACH + 1
        inside = ((other > reach) & (other < size - 1 - reach)).all(dim=3)
        if batch.points is not None:
            inside &= ~batch.points.sparse.repeat(2)[:, None, None]
    swapped = torch.cat([logits[count:], logits[:count]])
    parts = {"reprojection": losses.reprojection(swapped, other, (weight * inside).sqrt())}
    if batch.scores is not None:
        target = batch.scores.at(torch.cat([photo_a, photo_b]))  # (2 B, k N)
        peaks = logits.flatten(2).gather(2, index).flatten(1)
        parts["heights"] = losses.heights(peaks, target, (weight > 0).flatten(1))
    return parts


def _peaks(logits: Tensor, valid: Tensor, uniform: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Local maxima of each map, by height and chance: index and weight (2 B, k, N), refined places (2 B, k, N, 2).

    The weight is 0 for what is no peak or not valid.
    """
    size = logits.shape[2]
    top, index = F.max_pool2d(logits, _PEAK_CELL, return_indices=True)  # (2 B, k, S / 4, S / 4)
    peak = (top >= F.max_pool2d(top, 3, 1, 1)).flatten(2)
    top, index = top.flatten(2), index.flatten(2)
    allowed = valid.flatten(1)[:, None].expand(-1, index.shape[1], -1).gather(2, index)
    preference = torch.sigmoid(top) * (0.3 + uniform[:, None]) * (peak & allowed)
    weight, chosen = preference.topk(min(count, preference.shape[2]), dim=2)
    index = index.gather(2, chosen)
    # the soft-argmax of the 3 x 3 pixels around it
    x, y = index % size, index // size
    weight = weight * ((x > 0) & (y > 0) & (x < size - 1) & (y < size - 1))
    along = torch.arange(-1, 2, device=logits.device)
    dy, dx = (v.reshape(-1) for v in torch.meshgrid(along, along, indexing="ij"))
    around = (y.clamp(1, size - 2)[..., None] + dy) * size + x.clamp(1, size - 2)[..., None] + dx
    share = F.softmax(logits.flatten(2).gather(2, around.flatten(2)).view(around.shape) / _SOFT, dim=3)
    return index, torch.stack([x + (share * dx).sum(3), y + (share * dy).sum(3)], dim=3), weight


def at_random(heat: Tensor, batch: Batch, uniforms: Uniforms) -> Tensor:
    """`floor` at random pixels of all images."""
    size = heat.shape[2]
    places = (uniforms.take(4 * _FLOORS).view(len(batch), 2, _FLOORS, 2).transpose(0, 1).flatten(0, 1) * size).long()
    photo = torch.cat([view.to_photo(places[half].float()) for view, half in batch.halves()])
    assert batch.scores is not None
    index = places[..., 1] * size + places[..., 0]  # (2 B, N)
    d = heat.flatten(2).gather(2, index[:, None].expand(-1, heat.shape[1], -1)).flatten(1)
    counted, scores = (
        x[:, None].expand(-1, heat.shape[1], -1).flatten(1)
        for x in (batch.valid.flatten(1).gather(1, index), batch.scores.at(photo))
    )
    return losses.floor(d, scores, counted)


# -- description -----------------------------------------------------------------------------------------------------


class _Scores(NamedTuple):
    at: Tensor  # (B, N, 2) the anchors, whole pixels [x, y] of a
    positive: Tensor  # (B, N) scores of the true counterparts
    hardest: Tensor  # (B, N) scores of the hardest negatives
    entropy: Tensor  # () of the true counterpart among all candidates
    usable: Tensor  # (B, N) 1 where the anchor is seen in both images, else 0


def _compare(heat: Tensor, described: Tensor, batch: Batch, weights: Objective, uniforms: Uniforms) -> _Scores:
    """Descriptors at anchors of a against those of b, and their counterparts' against those of a.

    The negatives of an anchor are the other anchors' counterparts and a grid over the whole of the other image, both
    without the neighbours of its own counterpart.
    """
    described_a, described_b = described.chunk(2)
    places, usable = choose_anchors(heat.detach(), batch, weights.anchors, uniforms)  # (B, N, 2) whole pixels, (B, N)
    at_a = places.to(heat.dtype)
    at_b = batch.b.from_photo(batch.a.to_photo(at_a))
    if batch.points is not None:  # the only places whose counterpart is known are the anchors there
        places, at_a, at_b, usable = _known(batch.points, places, at_a, at_b, usable)
    fa, fb = sample(described_a, at_a), sample(described_b, at_b)  # (B, N, D)
    positive = (fa * fb).sum(2)
    hardest, entropy = [], []
    for anchors, candidates, at, other in ((fa, fb, at_b, described_b), (fb, fa, at_a, described_a)):
        grid, grid_at = _grid(other)
        scores = anchors @ torch.cat([candidates, grid], dim=1).transpose(1, 2)  # (B, N, N + M)
        barred = torch.cdist(at, torch.cat([at, grid_at.expand(len(at), -1, -1)], dim=1)) < weights.exclusion
        barred[..., : at.shape[1]] |= (usable == 0)[:, None]
        scores = scores.masked_fill(barred, -2.0)
        hardest.append(scores.amax(dim=2))
        everything = torch.cat([positive[..., None], scores], dim=2) / losses.TEMPERATURE
        entropy.append(everything.logsumexp(dim=2) - positive / losses.TEMPERATURE)
    mean = torch.stack(entropy).mean(0) * usable
    return _Scores(
        places,
        positive,
        torch.maximum(*hardest).clamp_min(-1),
        (mean.sum(1) / usable.sum(1).clamp_min(1)).mean(),
        usable,
    )


def choose_anchors(heat: Tensor, batch: Batch, count: int, uniforms: Uniforms) -> tuple[Tensor, Tensor]:
    """Places [x, y] (B, count, 2) at whole pixels of a, and 1 for those that are valid (B, count).

    Half are drawn at random, valid ones first; half are the places of greatest response in cells of the image.
    """
    size = heat.shape[-1]
    valid = batch.valid[: len(batch)].flatten(1)  # (B, S S)
    tries = (uniforms.take(2 * count) * (size * size)).long().clamp(max=size * size - 1)  # (B, 4 count / 2)
    first = valid.gather(1, tries).float().topk(count // 2, dim=1).indices
    random = tries.gather(1, first)
    response = heat.amax(dim=1, keepdim=True) * valid.view(len(heat), 1, size, size)
    peak, where = F.max_pool2d(response, 8, 8, return_indices=True)
    preference = (peak.flatten(1) > 0).to(heat.dtype) + uniforms.take(peak[0].numel())
    chosen = preference.topk(min(count - count // 2, preference.shape[1]), dim=1).indices
    index = torch.cat([random, where.flatten(1).gather(1, chosen)], dim=1)
    return torch.stack([index % size, index // size], dim=2), valid.gather(1, index).to(heat.dtype)


def _known(
    points: Correspondences, places: Tensor, at_a: Tensor, at_b: Tensor, usable: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Anchors and counterparts, those of sparse pairs being the points that are known."""
    count = places.shape[1]
    short = max(count - points.at.shape[1], 0)
    at = F.pad(points.at[:, :count], (0, 0, 0, 0, 0, short))
    counted = F.pad(points.counted[:, :count], (0, short))
    at = at * counted[..., None, None]  # what does not count must be a place all the same
    sparse = points.sparse[:, None]
    at_a, at_b = (torch.where(sparse[..., None], at[:, :, n], x) for n, x in enumerate((at_a, at_b)))
    places = torch.where(sparse[..., None], at[:, :, 0].round().long(), places)
    return places, at_a, at_b, torch.where(sparse, counted, usable)


def _grid(described: Tensor) -> tuple[Tensor, Tensor]:
    """Unit descriptors (B, M, D) of a regular grid over the map, and their places [x, y] in the image (1, M, 2)."""
    picked = described[..., ::SPACING, ::SPACING]
    y, x = (torch.arange(n, device=described.device) * (SPACING * CELL) + (CELL - 1) / 2 for n in picked.shape[-2:])
    at = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2).flatten(0, 1)[None]
    return F.normalize(picked.flatten(2).transpose(1, 2), dim=2), at.to(described.dtype)


def sample(described: Tensor, at: Tensor) -> Tensor:
    """Unit descriptors (B, N, D) at image pixels [x, y] (B, N, 2): the map's pixel i is centred on 4 i + 1.5."""
    height, width = described.shape[-2:]
    x, y = at.unbind(2)
    grid = torch.stack([(x + 0.5) * (2 / CELL / width) - 1, (y + 0.5) * (2 / CELL / height) - 1], dim=2)[:, :, None]
    sampled = F.grid_sample(described, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return F.normalize(sampled[..., 0].transpose(1, 2), dim=2)
