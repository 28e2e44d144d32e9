"""Where the crops of a batch show what a teacher said about their photographs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .warps import View

__all__ = ["BatchTargets", "Box", "Places", "ScoreMaps", "Target", "choose_places", "padded", "targets_of"]

#: Columns and rows x0, y0, x1, y1 (not included) of a photograph.
Box = tuple[int, int, int, int]

FAR = -1e4  # pixels: a place that no crop shows

_EDGE = 3.0  # ours: pixels between a place and the crop's edge
_PREFERRED = 0.3  # ours: how much a teacher's keypoint comes before a random place, in random numbers of [0, 1)


class Target(NamedTuple):
    """What a teacher says about one photograph."""

    points: Tensor  # (M, 3) x, y in the photograph's pixels, and 1 for a keypoint or 0 for a random place
    values: Tensor  # (M, T) float16 descriptors there
    basis: Tensor  # (T, D) on which they are projected
    scores: Tensor  # (H, W) uint8: 255 times the greatest score within 5 x 5 pixels


class BatchTargets(NamedTuple):
    """What a teacher says about the photographs of a batch: n images."""

    points: Tensor  # (n, M, 3) as a `Target`'s, those that are missing far outside
    values: Callable[[Tensor], Tensor]  # from which of them (n, P) to values (n, P, D) of unit length
    scores: ScoreMaps


def targets_of(targets: Sequence[Target], boxes: Sequence[Box]) -> BatchTargets:
    """Of single targets, and the parts of their photographs that are shown."""
    points = torch.full((len(targets), max(len(target.points) for target in targets), 3), FAR)
    points = points.to(targets[0].points.device)
    for row, target in enumerate(targets):
        points[row, : len(target.points)] = target.points

    def values(rows: Tensor) -> Tensor:
        return torch.stack([_projected(target, rows[n]) for n, target in enumerate(targets)])

    return BatchTargets(points, values, ScoreMaps.of_parts([target.scores for target in targets], boxes))


def _projected(target: Target, rows: Tensor) -> Tensor:
    """Values (P, D) of unit length at some of the places; those beyond the last do not count."""
    values = target.values[rows.clamp(max=len(target.values) - 1)].float()
    return F.normalize(values @ target.basis, dim=1)


class Places(NamedTuple):
    """Where the network's descriptors are compared with the teacher's."""

    at: Tensor  # (2 B, P, 2) pixels [x, y] of the crops
    values: Tensor  # (2 B, P, D) of unit length
    counted: Tensor  # (2 B, P) 1 where there is a value, else 0


def choose_places(targets: BatchTargets, a: View, b: View, size: int, count: int, uniforms: Tensor) -> Places:
    """Up to `count` places of each crop, keypoints before others, drawn by random numbers (2 B, at least M) in [0, 1).

    They are of all images a, then of all images b.
    """
    points = targets.points
    half, most = len(points) // 2, points.shape[1]
    at = torch.cat([a.from_photo(points[:half, :, :2]), b.from_photo(points[half:, :, :2])])
    inside = ((at > _EDGE) & (at < size - 1 - _EDGE)).all(dim=2)
    preference = inside * (uniforms[:, :most] + _PREFERRED * (points[..., 2] > 0) + 0.01)
    best, rows = preference.topk(min(count, most), dim=1)
    at = at.gather(1, rows[..., None].expand(-1, -1, 2))
    return Places(at, targets.values(rows), (best > 0).float())


class ScoreMaps:
    """A teacher's scores where the crops of a batch lie, read at points.

    Parameters
    ----------
    maps : (n, H, W) uint8
        255 for a score of 1.
    origin : (n, 2), optional
        The pixel [x, y] of each photograph where its map begins; by default its first one.
    """

    def __init__(self, maps: Tensor, origin: Tensor | None = None) -> None:
        self._maps = maps
        self._origin = torch.zeros(1, 1, 2, device=maps.device) if origin is None else origin[:, None]

    @classmethod
    def of_parts(cls, maps: Sequence[Tensor], boxes: Sequence[Box]) -> ScoreMaps:
        """Of the parts in the boxes of each photograph's map (H, W)."""
        parts = [m[y0:y1, x0:x1] for m, (x0, y0, x1, y1) in zip(maps, boxes, strict=True)]
        return cls(padded(parts), torch.tensor([box[:2] for box in boxes], dtype=torch.float32).to(parts[0].device))

    def at(self, points: Tensor) -> Tensor:
        """Scores (2 B, N) in [0, 1] at photograph pixels (2 B, N, 2), bilinear; 0 outside."""
        height, width = self._maps.shape[1:]
        flat = self._maps.flatten(1)
        place = points - self._origin
        corner = place.floor()
        total = torch.zeros_like(place[..., 0])
        for dx in (0, 1):
            for dy in (0, 1):
                x, y = corner[..., 0] + dx, corner[..., 1] + dy
                weight = (1 - (place[..., 0] - x).abs()) * (1 - (place[..., 1] - y).abs())
                inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
                index = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long()
                total += weight * inside * flat.gather(1, index)
        return total / 255


def padded(parts: Sequence[Tensor]) -> Tensor:
    """Maps (h, w) of different sizes as one tensor (n, H, W), each in the corner and 0 beside it."""
    height, width = (max(part.shape[axis] for part in parts) for axis in (0, 1))
    whole = parts[0].new_zeros(len(parts), height, width)
    for n, part in enumerate(parts):
        whole[n, : part.shape[0], : part.shape[1]] = part
    return whole
