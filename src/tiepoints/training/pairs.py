"""Training pairs: two warped, photometrically changed crops of a photograph and the exact map between them.

A pair may also show two photographs that a camera took from one place at different times, or two of one scene from
different places, of which only single points correspond.

Pair number n is the same, but for rounding, whenever and in whichever batch it is made: all its chance comes from
(seed, n). Its few numbers are drawn on the CPU; its pixels are made in torch on the device that the network is on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .light import Light, draw_light, relit
from .photographs import Photographs
from .places import Places, ScoreMaps, choose_places
from .scenes import Shared
from .teacher import Lessons
from .warps import Bend, Bends, Drawn, View, Warps, centred, draw_bend, draw_views

__all__ = ["Batch", "Pairs", "lots_of", "static_groups"]

#: ours: from this many photograph pixels to a crop's pixel on, the photograph is halved first, against aliasing.
_HALVED = 1.5
_GREY = (4.0, 8.0, 3.0)  # ours: of the Dirichlet distribution of the three channels' shares; its mean is near the luma


_SHARED = 256  # ours: at most so many shared points a pair
_ENOUGH = 16  # ours: shared points in both crops, in the first good one of so many draws:
_DRAWS = 12
_EDGE = 4  # ours: pixels between a shared point and the crop's edge


class Correspondences(NamedTuple):
    """Of the pairs whose map is known at single points only, those points."""

    sparse: Tensor  # (B,) bool: which pairs
    at: Tensor  # (B, N, 2, 2) pixels [x, y] of a and of b
    counted: Tensor  # (B, N) 1 where there is a point inside both crops, else 0


@dataclass
class Batch:
    """B pairs as tensors: all images a, then all images b."""

    images: Tensor  # (2 B, 1, S, S) grey in [0, 1]
    grid: Tensor  # (B, S, S, 2) where each pixel of a lies in b: -1 and 1 are the centres of b's outermost pixels
    valid: Tensor  # (2 B, S, S) bool: in a, what b shows too and the photograph holds; in b, what the photograph holds
    lots: Tensor  # (B, L) in [0, 1): the chance of all draws in the losses
    a: View
    b: View
    places: Places | None = None  # where a teacher's values are known
    scores: ScoreMaps | None = None  # of the teacher
    #: Where some pairs' map is known at points only. Their `grid` is that of b itself, and `valid` what the photograph
    #: holds.
    points: Correspondences | None = None

    def __len__(self) -> int:
        return len(self.grid)

    def halves(self) -> tuple[tuple[View, slice], tuple[View, slice]]:
        """Both views and their rows in what is stacked as `images` is."""
        return (self.a, slice(None, len(self))), (self.b, slice(len(self), None))


class _Plan(NamedTuple):
    """One pair before any pixel is touched."""

    photographs: tuple[int, int]  # of a and of b
    mirrored: bool
    drawn: Drawn
    bend: Bend | None
    grey: tuple[np.ndarray, np.ndarray]
    lights: tuple[Light, Light]
    seed: int
    points: np.ndarray | None = None  # (N, 2, 2) that the two photographs share, in their pixels


def lots_of(size: int) -> int:
    """How many lots a pair of crops of this edge has: enough for every draw in `objective`."""
    return 3 * (size // 4) ** 2 + 4096


class Pairs:
    """The endless list of training pairs.

    Every photograph is used once before any is used again.

    Parameters
    ----------
    photographs : Photographs
    warps : Warps
    seed : int
    lessons : Lessons, optional
        A teacher's values for the same photographs.
    places : int
        An image: at most so many of the teacher's values.
    static : sequence of sequence of int
        Groups of photographs, by their numbers, that a camera took from one place at different times: every pixel of
        one is the same point in another. See `static_groups`.
    views : sequence of Shared
        Pairs of photographs of one scene from different places. See `scenes`.
    real : float
        Share of the pairs that are of two photographs, of a group or from different places; half of each where there
        are both.
    """

    def __init__(
        self,
        photographs: Photographs,
        warps: Warps,
        seed: int,
        lessons: Lessons | None = None,
        places: int = 320,
        *,
        static: Sequence[Sequence[int]] = (),
        views: Sequence[Shared] = (),
        real: float = 0.0,
    ) -> None:
        self.photographs, self.warps, self.seed = photographs, warps, seed
        self.lessons, self.places = lessons, places
        self.static, self.views, self.real = static, views, real if static or views else 0.0
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))
        self._generator = torch.Generator(photographs.device)

    def batch(self, numbers: Sequence[int]) -> Batch:
        """The pairs with these numbers."""
        return self._made([self._plan(number) for number in numbers])

    def _photograph(self, number: int) -> int:
        round_, place = divmod(number, len(self.photographs))
        if self._order[0] != round_:
            self._order = round_, np.random.default_rng((self.seed, 0, round_)).permutation(len(self.photographs))
        return int(self._order[1][place])

    def _plan(self, number: int) -> _Plan:
        rng = np.random.default_rng((self.seed, 1, number))
        one = other = self._photograph(number)
        shared = None
        if self.real and rng.random() < self.real:
            if self.views and (not self.static or rng.random() < 0.5):
                shared = self.views[int(rng.integers(len(self.views)))]
                one, other = shared.photographs
            else:
                group = self.static[int(rng.integers(len(self.static)))]
                one, other = (int(n) for n in rng.choice(group, 2, replace=False))
        sizes = np.array([self.photographs[n].shape[:0:-1] for n in (one, other)])  # (2, 2) width, height
        warps = self.warps
        mirrored = bool(rng.random() < 0.5)  # mirrored photographs are photographs too
        points = None
        if shared is None:
            drawn = draw_views(int(sizes[0, 0]), int(sizes[0, 1]), warps, rng)
        else:
            points = shared.points() * sizes - 0.5
            if mirrored:
                points[..., 0] = sizes[:, 0] - 1 - points[..., 0]
            drawn, points = self._around(points, sizes, rng)
        bend = draw_bend(warps.size, rng) if rng.random() < warps.bend else None
        # Grey as different filters and sensors would see the same colours.
        grey = rng.dirichlet(_GREY), rng.dirichlet(_GREY)
        lights = draw_light(warps.photometric, rng), draw_light(warps.photometric, rng)
        return _Plan((one, other), mirrored, drawn, bend, grey, lights, int(rng.integers(2**62)), points)

    def _around(self, points: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> tuple[Drawn, np.ndarray]:
        """Two crops near one of the shared points (N, 2, 2), warped as others are, and some of those in both.

        Of a few draws, the first whose crops share enough points, else the one that shares most.
        """
        size, most = self.warps.size, -1
        width, height = sizes.min(axis=0).tolist()
        for _ in range(_DRAWS):
            views = draw_views(width, height, self.warps, rng)
            beside = rng.uniform(-0.15, 0.15, (2, 2)) * size * views.spans[:, None]
            views = centred(views, points[rng.integers(len(points))] + beside, size)
            back = np.linalg.inv(views.photo_from_view)
            at = np.einsum("vij,nvj->nvi", back[..., :2], points) + back[..., 2]
            at = at[..., :2] / at[..., 2:]
            inside = np.flatnonzero(((at > _EDGE) & (at < size - 1 - _EDGE)).all(axis=(1, 2)))
            if len(inside) > most:
                most, best = len(inside), (views, inside)
            if most >= _ENOUGH:
                break
        drawn, inside = best
        return drawn, points[rng.permutation(inside)[:_SHARED]]

    def _made(self, plans: list[_Plan]) -> Batch:
        device, size, count = self.photographs.device, self.warps.size, len(plans)
        photographs = [self.photographs[plan.photographs[view]] for view in (0, 1) for plan in plans]
        limits = torch.tensor([[p.shape[2] - 1, p.shape[1] - 1] for p in photographs], dtype=torch.float32).to(device)
        bent = {i: plan.bend for i, plan in enumerate(plans) if plan.bend is not None}
        bends = Bends(list(bent), list(bent.values()), device) if bent else None
        homographies = np.stack([plan.drawn.photo_from_view for plan in plans])  # (B, 2, 3, 3)
        a, b = View(homographies[:, 0], device), View(homographies[:, 1], device, bends)

        pixels = _pixels(size, device).expand(count, -1, -1)
        at = torch.cat([a.planes_to_photo(pixels), b.planes_to_photo(pixels)])  # (2 B, 2, S S)
        middle = limits[..., None] / 2
        shown = ((at - middle).abs_() <= middle).all(dim=1)  # in the photograph
        grid = b.planes_from_photo(at[:count]).mul_(2 / (size - 1)).sub_(1)
        known = self._correspondences(plans, a, b) if any(plan.points is not None for plan in plans) else None
        both = (grid.abs() <= 1).all(dim=1)
        if known is not None:
            both |= known.sparse[:, None]
            grid = torch.where(known.sparse[:, None, None], pixels * (2 / (size - 1)) - 1, grid)
        shown[:count] &= both

        boxes = [_box(plan, n // count, size, photographs[n]) for n, plan in enumerate(plans * 2)]
        images = _crops(photographs, plans * 2, boxes, at.view(2 * count, 2, size, size))
        lots, noise = self._chances(plans, device)
        images = relit(images, [plan.lights[view] for view in (0, 1) for plan in plans], noise)
        batch = Batch(
            images[:, None],
            grid.view(count, 2, size, size).permute(0, 2, 3, 1),
            shown.view(2 * count, size, size),
            lots[:, : lots_of(size)],
            a,
            b,
            points=known,
        )
        if self.lessons is not None:
            taught = [self.lessons[plan.photographs[view], plan.mirrored] for view in (0, 1) for plan in plans]
            batch.places = choose_places(taught, a, b, size, self.places, lots[:, lots_of(size) :])
            batch.scores = ScoreMaps([lesson.scores for lesson in taught], boxes)
        return batch

    def _correspondences(self, plans: list[_Plan], a: View, b: View) -> Correspondences:
        """The shared points of the pairs in the crops."""
        size, device = self.warps.size, self.photographs.device
        known = np.full((len(plans), _SHARED, 2, 2), -1e4, np.float32)  # far outside
        for row, plan in enumerate(plans):
            if plan.points is not None:
                known[row, : len(plan.points)] = plan.points
        sparse = torch.tensor([plan.points is not None for plan in plans]).to(device)
        photo = torch.from_numpy(known).to(device)
        at = torch.stack([a.from_photo(photo[:, :, 0]), b.from_photo(photo[:, :, 1])], dim=2)
        there = (
            torch.arange(_SHARED, device=device)
            < torch.tensor([0 if plan.points is None else len(plan.points) for plan in plans]).to(device)[:, None]
        )
        inside = ((at >= 0) & (at <= size - 1)).all(dim=3).all(dim=2)  # a bend may have moved them
        return Correspondences(sparse, at, (inside & there).float())

    def _chances(self, plans: list[_Plan], device: torch.device) -> tuple[Tensor, Tensor]:
        """Lots in [0, 1) (B, L) and normally distributed noise (2 B, S, S), each pair's from its own seed."""
        size = self.warps.size
        length = lots_of(size) + (2 * self.lessons.most if self.lessons is not None else 0)
        lots = torch.empty(len(plans), length, device=device)
        noise = torch.zeros(2, len(plans), size, size, device=device)
        for i, plan in enumerate(plans):
            self._generator.manual_seed(plan.seed)
            torch.rand(length, generator=self._generator, out=lots[i])
            for view in (0, 1):
                if plan.lights[view].noise is not None:
                    noise[view, i].normal_(generator=self._generator)
        return lots, noise.flatten(0, 1)


def static_groups(photographs: Photographs, paths: Sequence[Path]) -> list[list[int]]:
    """Those of these photographs that lie in one folder and have one size, as numbers; groups of at least two."""
    wanted, groups = set(paths), dict[tuple[Path, tuple[int, ...]], list[int]]()
    for number, path in enumerate(photographs.paths):
        if path in wanted:
            groups.setdefault((path.parent, tuple(photographs[number].shape)), []).append(number)
    return [group for group in groups.values() if len(group) > 1]


@cache
def _pixels(size: int, device: torch.device) -> Tensor:
    """All x and all y of a crop, (1, 2, S S)."""
    along = torch.arange(size, device=device, dtype=torch.float32)
    return torch.stack(torch.meshgrid(along, along, indexing="xy")).view(1, 2, -1)


def _box(plan: _Plan, view: int, size: int, photograph: Tensor) -> tuple[int, int, int, int]:
    """Columns and rows x0, y0, x1, y1 (not included) of the photograph that a crop shows."""
    height, width = photograph.shape[1:]
    reach = 0.0 if plan.bend is None or view == 0 else float(np.linalg.norm(plan.bend.amplitude, axis=1).sum())
    low, high = -reach, size - 1 + reach
    corners = np.array([[low, high, high, low], [low, low, high, high], [1, 1, 1, 1]])
    x, y, depth = plan.drawn.photo_from_view[view] @ corners
    if depth.min() <= 0:
        return 0, 0, width, height
    (left, right), (top, bottom) = ((int(v.min()) - 1, int(v.max()) + 3) for v in (x / depth, y / depth))
    left, top = min(max(left, 0), width - 2), min(max(top, 0), height - 2)
    return left, top, max(min(right, width), left + 2), max(min(bottom, height), top + 2)


def _crops(photographs: list[Tensor], plans: list[_Plan], boxes: list[tuple[int, int, int, int]], at: Tensor) -> Tensor:
    """Grey crops (2 B, S, S) in [0, 1]: the photographs at the places `at` (2 B, 2, S, S), bilinear.

    Only the parts in the boxes are touched. Beyond the photograph its edge goes on.
    """
    device, half = at.device, len(plans) // 2
    parts, frames = [], []
    for n, (photograph, plan, (x0, y0, x1, y1)) in enumerate(zip(photographs, plans, boxes, strict=True)):
        view = n // half
        weights = torch.from_numpy((plan.grey[view] / 255).astype(np.float32)).to(device)
        if plan.mirrored:
            width = photograph.shape[2]
            part = photograph[:, y0:y1, width - x1 : width - x0].flip(2)
        else:
            part = photograph[:, y0:y1, x0:x1]
        grey = torch.tensordot(weights, part.float(), dims=1)
        shrunk = plan.drawn.spans[view] > _HALVED and min(grey.shape) >= 4
        if shrunk:
            grey = F.avg_pool2d(grey[None], 2)[0]
        share, start = (0.5, 0.25) if shrunk else (1.0, 0.0)  # pixel i of the halved photograph is centred on 2 i + 0.5
        parts.append(grey)
        frames.append((share, -x0 * share - start, -y0 * share - start, grey.shape[1] - 1, grey.shape[0] - 1))
    height, width = (max(part.shape[axis] for part in parts) for axis in (0, 1))
    padded = torch.zeros(len(parts), 1, height, width, device=device)
    for n, part in enumerate(parts):
        padded[n, 0, : part.shape[0], : part.shape[1]] = part
    # from the photograph's pixels to -1 ... 1 over the padded parts, and no farther than each part reaches
    frame = torch.tensor(frames, dtype=torch.float32).to(device)
    unit = torch.tensor([2 / (width - 1), 2 / (height - 1)], device=device)
    scale, shift, last = ((frame[:, n] * unit)[..., None, None] for n in ([0, 0], [1, 2], [3, 4]))  # (2 B, 2, 1, 1)
    places = torch.addcmul(shift - 1, at, scale)
    places = torch.minimum(places.clamp_min_(-1), last - 1).permute(0, 2, 3, 1)
    return F.grid_sample(padded, places, mode="bilinear", align_corners=True)[:, 0]
