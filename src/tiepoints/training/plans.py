"""What training pairs will be, drawn with NumPy before any pixel is touched: whole batches at once.

Pair number n is the same whenever and in whichever batch it is drawn: all its chance comes from (seed, n).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .light import LIGHT_UNIFORMS, Lights, draw_lights
from .photographs import Photographs
from .random_streams import streams, uniforms
from .scenes import Shared
from .warps import BEND_UNIFORMS, VIEW_UNIFORMS, Drawn, Warps, centred, draw_bends, draw_views

__all__ = ["CHANCE", "SHARED", "Plan", "Planner", "static_groups"]

_GREY = (4, 8, 3)  # ours: of the Dirichlet distribution of the three channels' shares; its mean is near the luma
SHARED = 256  # ours: at most so many shared points a pair
_ENOUGH = 16  # ours: shared points in both crops, in the first good one of so many draws:
_DRAWS = 12
_EDGE = 4  # ours: pixels between a shared point and the crop's edge


class Plan(NamedTuple):
    """B pairs before any pixel is touched."""

    photographs: NDArray[np.int64]  # (B, 2) of a and of b
    sizes: NDArray[np.float64]  # (B, 2, 2) their widths and heights
    mirrored: NDArray[np.bool_]  # (B,)
    drawn: Drawn
    bent: NDArray[np.int64]  # (n,) which pairs are bent,
    bends: dict[str, NDArray[np.float32]]  # and how
    grey: NDArray[np.float32]  # (2 B, 3) shares of the channels, of all images a, then of all images b
    lights: Lights  # of as many
    streams: NDArray[np.int64]  # (B,) the chance of everything else
    points: list[NDArray[np.float64] | None]  # (N, 2, 2) that the two photographs share, in their pixels


# Where each part of a pair's chance begins among its stream's numbers.
_REAL, _MIRROR, _BENT, _VIEWS = 0, 4, 5, 6
_BENDS = _VIEWS + VIEW_UNIFORMS
_GREYS = _BENDS + BEND_UNIFORMS
_LIGHTS = _GREYS + 2 * sum(_GREY)
CHANCE = _LIGHTS + 2 * LIGHT_UNIFORMS


class Planner:
    """Draws pairs; see `Pairs` for its parameters.

    Every photograph is used once before any is used again.
    """

    def __init__(
        self,
        photographs: Photographs,
        warps: Warps,
        seed: int,
        *,
        static: Sequence[Sequence[int]] = (),
        views: Sequence[Shared] = (),
        real: float = 0.0,
    ) -> None:
        self.photographs, self.warps, self.seed = photographs, warps, seed
        self.static, self.views, self.real = static, views, real if static or views else 0.0
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def _photograph(self, number: int) -> int:
        round_, place = divmod(number, len(self.photographs))
        if self._order[0] != round_:
            self._order = round_, np.random.default_rng((self.seed, 0, round_)).permutation(len(self.photographs))
        return int(self._order[1][place])

    def plan(self, numbers: Sequence[int]) -> Plan:
        """What the pairs with these numbers will be."""
        warps, count = self.warps, len(numbers)
        chance = streams(self.seed, numbers)
        u = uniforms(chance, CHANCE)
        photographs = np.array([[self._photograph(number)] * 2 for number in numbers])
        shared = [
            self._real(row[_REAL:_MIRROR], both) if row[_REAL] < self.real else None
            for row, both in zip(u, photographs, strict=True)
        ]
        sizes = np.array([[self.photographs.size(int(n)) for n in both] for both in photographs], np.float64)
        mirrored = u[:, _MIRROR] < 0.5  # mirrored photographs are photographs too
        drawn = draw_views(sizes[:, 0], warps, u[:, _VIEWS:_BENDS])
        points: list[NDArray[np.float64] | None] = [None] * count
        for row, found in enumerate(shared):
            if found is not None:
                at = found.points() * sizes[row] - 0.5
                if mirrored[row]:
                    at[..., 0] = sizes[row, :, 0] - 1 - at[..., 0]
                rng = np.random.default_rng((self.seed, 1, numbers[row]))
                drawn.photo_from_view[row], drawn.spans[row], points[row] = self._around(at, sizes[row], rng)
        bent = np.flatnonzero(u[:, _BENT] < warps.bend)
        of_images = [np.concatenate(np.split(u[:, a:b], 2, axis=1)) for a, b in ((_GREYS, _LIGHTS), (_LIGHTS, CHANCE))]
        # Grey as different filters and sensors would see the same colours. The shares of a Dirichlet distribution are
        # those of gamma distributed numbers, and these are sums of exponentially distributed ones.
        parts = np.add.reduceat(-np.log1p(-of_images[0]), np.cumsum((0, *_GREY[:-1])), axis=1)
        grey = np.asarray(parts / parts.sum(axis=1, keepdims=True), np.float32)
        lights = draw_lights(warps.photometric, of_images[1])
        bends = draw_bends(warps.size, u[bent, _BENDS:_GREYS])
        return Plan(photographs, sizes, mirrored, drawn, bent, bends, grey, lights, chance, points)

    def _real(self, u: NDArray[np.float64], photographs: NDArray[np.int64]) -> Shared | None:
        """Two photographs, by chance, in the place of one twice; what they share, if that is known at points only."""
        if self.views and (not self.static or u[1] < 0.5):
            shared = self.views[int(u[2] * len(self.views))]
            photographs[:] = shared.photographs
            return shared
        group = self.static[int(u[2] * len(self.static))]
        one, other = divmod(int(u[3] * len(group) * (len(group) - 1)), len(group) - 1)
        photographs[:] = group[one], group[other + (other >= one)]
        return None

    def _around(
        self, points: NDArray[np.float64], sizes: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Two crops near one of the shared points (N, 2, 2), warped as others are, and some of those in both.

        Of a few draws, the first whose crops share enough points, else the one that shares most.
        """
        size, most = self.warps.size, -1
        smaller = sizes.min(axis=0)[None].repeat(_DRAWS, 0)
        drawn = draw_views(smaller, self.warps, rng.random((_DRAWS, VIEW_UNIFORMS)))
        for views, spans in zip(*drawn, strict=True):
            beside = rng.uniform(-0.15, 0.15, (2, 2)) * size * spans[:, None]
            moved = centred(views, points[rng.integers(len(points))] + beside, size)
            back = np.linalg.inv(moved)
            at = np.einsum("vij,nvj->nvi", back[..., :2], points) + back[..., 2]
            at = at[..., :2] / at[..., 2:]
            inside = np.flatnonzero(((at > _EDGE) & (at < size - 1 - _EDGE)).all(axis=(1, 2)))
            if len(inside) > most:
                most, best = len(inside), (moved, spans, inside)
            if most >= _ENOUGH:
                break
        moved, spans, inside = best
        return moved, spans, points[rng.permutation(inside)[:SHARED]]


def static_groups(photographs: Photographs, paths: Sequence[Path]) -> list[list[int]]:
    """Those of these photographs that lie in one folder and have one size, as numbers; groups of at least two."""
    wanted, groups = set(paths), dict[tuple[Path, tuple[int, int]], list[int]]()
    for number, path in enumerate(photographs.paths):
        if path in wanted:
            groups.setdefault((path.parent, photographs.size(number)), []).append(number)
    return [group for group in groups.values() if len(group) > 1]
