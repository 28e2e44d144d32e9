"""Where the crops of a batch show what a teacher said about their photographs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .warps import View

__all__ = ["Lesson", "Places", "ScoreMaps", "choose_places"]

_EDGE = 3.0  # ours: pixels between a place and the crop's edge
_PREFERRED = 0.3  # ours: how much a teacher's keypoint comes before a random place, in lots of [0, 1)


class Lesson(NamedTuple):
    """What a teacher says about one photograph."""

    points: Tensor  # (M, 3) x, y in the photograph's pixels, and 1 for a keypoint or 0 for a random place
    values: Tensor  # (M, T) float16 descriptors there
    basis: Tensor  # (T, D) on which they are projected
    scores: Tensor  # (H, W) uint8: 255 times the greatest score within 5 x 5 pixels


class Places(NamedTuple):
    """Where the network's descriptors are compared with the teacher's."""

    at: Tensor  # (2 B, P, 2) pixels [x, y] of the crops
    values: Tensor  # (2 B, P, D) of unit length
    counted: Tensor  # (2 B, P) 1 where there is a value, else 0


def choose_places(lessons: Sequence[Lesson], a: View, b: View, size: int, count: int, lots: Tensor) -> Places:
    """Up to `count` places of each crop, keypoints before others, drawn by lots (B, 2 M) in [0, 1).

    `lessons` are those of the photographs of all images a, then of all images b.
    """
    device, half = lots.device, len(lessons) // 2
    most = max(len(lesson.points) for lesson in lessons)
    points = torch.full((len(lessons), most, 3), -1e4, device=device)
    for row, lesson in enumerate(lessons):
        points[row, : len(lesson.points)] = lesson.points
    at = torch.cat([a.from_photo(points[:half, :, :2]), b.from_photo(points[half:, :, :2])])
    inside = ((at > _EDGE) & (at < size - 1 - _EDGE)).all(dim=2)
    luck = torch.cat([lots[:, :most], lots[:, -most:]])
    preference = inside * (luck + _PREFERRED * (points[..., 2] > 0) + 0.01)
    best, rows = preference.topk(min(count, most), dim=1)
    at = at.gather(1, rows[..., None].expand(-1, -1, 2))
    values = torch.stack([_projected(lessons[n], rows[n]) for n in range(len(rows))])
    return Places(at, values, (best > 0).float())


def _projected(lesson: Lesson, rows: Tensor) -> Tensor:
    """Values (P, D) of unit length at some of the places; those beyond the last do not count."""
    values = lesson.values[rows.clamp(max=len(lesson.values) - 1)].float()
    return F.normalize(values @ lesson.basis, dim=1)


class ScoreMaps:
    """The teacher's scores where the crops of a batch lie, read at points.

    Parameters
    ----------
    maps : sequence of (H, W) uint8
        Of each crop's whole photograph, 255 for a score of 1.
    boxes : sequence of (x0, y0, x1, y1)
        The part of each that the crop shows.
    """

    def __init__(self, maps: Sequence[Tensor], boxes: Sequence[tuple[int, int, int, int]]) -> None:
        parts = [m[y0:y1, x0:x1] for m, (x0, y0, x1, y1) in zip(maps, boxes, strict=True)]
        height, width = (max(part.shape[axis] for part in parts) for axis in (0, 1))
        self._maps = maps[0].new_zeros(len(parts), height, width)
        for n, part in enumerate(parts):
            self._maps[n, : part.shape[0], : part.shape[1]] = part
        self._origin = torch.tensor([box[:2] for box in boxes], dtype=torch.float32).to(self._maps.device)[:, None]

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
