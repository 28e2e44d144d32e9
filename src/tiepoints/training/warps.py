"""Where the two crops of a pair lie in their photograph: homographies in closed form, bends, and the exact maps.

The few numbers that fix a pair are drawn with NumPy on the CPU, each pair's from a stream of its own; points and pixels
are mapped by torch on the device that the network is on. Every range is ours; those that follow a publication name it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "BEND_UNIFORMS", "VIEW_UNIFORMS", "Bends", "Drawn", "View", "Warps", "centred", "draw_bends", "draw_views",
    "homography_from_square",
]  # fmt: skip

Float64 = NDArray[np.float64]

#: Draws of the two views of a pair, of which the first good one is taken.
_DRAWS = 8
_WAVES = 3
_FAR = 1e5  # pixels: where points go that a homography maps to infinity


@dataclass(frozen=True)
class Warps:
    """How strongly the two crops of a pair differ.

    Parameters
    ----------
    size : int
        Edge of the crops in pixels.
    rotation : float
        Most degrees between the two images of an ordinary pair.
    any_rotation : float
        Share of the pairs that are turned by any angle instead.
    scale : float
        Largest ratio of the scales of the two images.
    perspective : float
        Most displacement of a corner, as a share of the edge.
    strong : float
        Share of the pairs that are warped more: a ratio of scales up to 3, 40 degrees, corners moved by .35.
    bend : float
        Share of the pairs that are also bent by a smooth, locally non-rigid displacement.
    photometric : float
        Strength of the changes of light, noise, blur and compression; 0 for none.
    """

    size: int = 192
    rotation: float = 30.0
    any_rotation: float = 0.1
    scale: float = 2.0
    perspective: float = 0.2
    strong: float = 0.0
    bend: float = 0.2
    photometric: float = 1.0


_STRONG = (40.0, 3.0, 0.35)  # rotation, scale, perspective of the pairs that are warped more


class Drawn(NamedTuple):
    """The two views of each of B pairs."""

    photo_from_view: Float64  # (B, 2, 3, 3), pixels of the crops a and b to those of the photograph
    spans: Float64  # (B, 2) photograph pixels that a crop's pixel spans


#: Numbers of [0, 1) from which the views of a pair are drawn.
VIEW_UNIFORMS = 1 + _DRAWS * 30


def draw_views(sizes: Float64, warps: Warps, uniforms: Float64) -> Drawn:
    """The homographies of both crops into photographs; the first of a few draws that mostly lie inside.

    Where none does, the one whose crops share most.

    Parameters
    ----------
    sizes : (B, 2)
        Width and height of each pair's photograph.
    warps : Warps
    uniforms : (B, VIEW_UNIFORMS)
        In [0, 1).
    """
    size, count = warps.size, len(uniforms)
    strong = uniforms[:, :1] < warps.strong
    ordinary = warps.rotation, warps.scale, warps.perspective
    rotation, scale, perspective = (np.where(strong, *both) for both in zip(_STRONG, ordinary, strict=True))  # (B, 1)
    u = uniforms[:, 1:].reshape(count, _DRAWS, 30)
    # How many photograph pixels a crop pixel spans in each of the two images; the larger one is cut from the middle of
    # the possible range, so that small photographs work too.
    largest = sizes.min(axis=1, keepdims=True) / size
    low, high = np.log(np.minimum(0.6, largest)), np.log(np.clip(largest, 0.6, 2.0))
    base, ratio = np.exp(low + u[..., 0] * (high - low)), np.exp(u[..., 1] * np.log(scale))
    first = np.where(u[..., 2] < 0.5, base, base / ratio)
    spans = np.stack([first, base * base / ratio / first], axis=-1)  # (B, n, 2)
    turn = np.where(u[..., 3] < warps.any_rotation, (2 * u[..., 4] - 1) * 180, (2 * u[..., 4] - 1) * rotation)
    # both images get their part
    angles = np.deg2rad(np.stack([u[..., 5] * turn, (u[..., 5] - 1) * turn], axis=-1))
    room = size * spans.max(axis=-1, keepdims=True) / 2
    edges = sizes[:, None]
    near, far = np.minimum(room, edges / 2), np.maximum(edges - room, edges / 2)
    centre = near + u[..., 6:8] * (far - near)
    beside = (u[..., 8:12].reshape(count, _DRAWS, 2, 2) * 0.3 - 0.15) * size * spans[..., None]
    centres = centre[:, :, None] + beside

    unit = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    corners = (unit - 0.5) * (size - 1) * spans[..., None, None]  # (B, n, 2, 4, 2)
    c, s = np.cos(angles)[..., None], np.sin(angles)[..., None]
    x, y = corners[..., 0], corners[..., 1]
    corners = np.stack([x * c - y * s, x * s + y * c], axis=-1) + centres[..., None, :]
    # then the corners are moved, as SuperPoint's homographies do
    most = perspective[..., None, None, None] * u[..., 28:30, None, None]
    moved = (2 * u[..., 12:28].reshape(count, _DRAWS, 2, 4, 2) - 1) * most
    corners = corners + moved * size * spans[..., None, None] / 2
    views = homography_from_square(corners, size - 1)

    seen, shared = _inside(views, size, sizes)
    good = (seen.min(axis=-1) > 0.75) & (shared > 0.2)
    best = np.where(good.any(axis=1), good.argmax(axis=1), shared.argmax(axis=1))
    rows = np.arange(count)
    return Drawn(views[rows, best], spans[rows, best])


def homography_from_square(corners: Float64, edge: float) -> Float64:
    """The homographies (..., 3, 3) from the square of this edge at the origin to quadrilaterals (..., 4, 2).

    In closed form (Heckbert, Fundamentals of texture mapping and image warping, 1989, section 2.2.3). The corners are
    in the order (0, 0), (edge, 0), (edge, edge), (0, edge).
    """
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = (np.moveaxis(corners[..., i, :], -1, 0) for i in range(4))
    dx1, dx2, sx = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, sy = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    determinant = dx1 * dy2 - dx2 * dy1
    g, h = (sx * dy2 - dx2 * sy) / determinant, (dx1 * sy - sx * dy1) / determinant
    rows = [x1 - x0 + g * x1, x3 - x0 + h * x3, x0, y1 - y0 + g * y1, y3 - y0 + h * y3, y0, g, h, np.ones_like(g)]
    matrix = np.stack(rows, axis=-1).reshape(*g.shape, 3, 3)
    return np.asarray(matrix * [1 / edge, 1 / edge, 1], np.float64)


def _inside(views: Float64, size: int, sizes: Float64) -> tuple[Float64, Float64]:
    """Which share of each crop lies in the photograph (B, n, 2), and which share of a is seen in b (B, n)."""
    step = np.linspace(0, size - 1, 7)
    grid = np.stack([*(v.ravel() for v in np.meshgrid(step, step)), np.ones(49)])  # (3, 49)
    at = views @ grid  # (B, n, 2, 3, 49)
    at = at[..., :2, :] / at[..., 2:, :]
    limit = sizes[:, None, None, :, None] - 1
    seen = ((at >= 0) & (at <= limit)).all(axis=-2).mean(axis=-1)
    other = np.linalg.inv(views[:, :, 1]) @ views[:, :, 0] @ grid
    other = other[..., :2, :] / other[..., 2:, :]
    return seen, ((other >= 0) & (other <= size - 1)).all(axis=-2).mean(axis=-1)


def centred(views: Float64, at: Float64, size: int) -> Float64:
    """Homographies (..., 2, 3, 3), moved until the centre of each crop shows its own of two points (..., 2, 2)."""
    middle = views @ [(size - 1) / 2, (size - 1) / 2, 1]
    move = np.broadcast_to(np.eye(3), views.shape).copy()
    move[..., :2, 2] = at - middle[..., :2] / middle[..., 2:]
    return move @ views


#: Numbers of [0, 1) from which a bend is drawn.
BEND_UNIFORMS = 5 * _WAVES


def draw_bends(size: int, uniforms: Float64) -> dict[str, NDArray[np.float32]]:
    """Smooth displacements of the plane, from random numbers (n, BEND_UNIFORMS): sine waves, exact everywhere.

    Three waves whose gradients sum up to less than 0.3: one to one, and the iteration of the inverse converges.

    Returns
    -------
    amplitude : (n, 2, waves)
        Pixels.
    frequency : (n, waves, 2)
        Radians a pixel.
    phase : (n, waves, 1)
    """
    u = np.moveaxis(uniforms.reshape(-1, 5, _WAVES), 1, 0)
    frequency = (0.5 + u[0]) * 2 * np.pi / size
    steepness = 0.02 + 0.08 * u[1]
    direction, turned, phase = 2 * np.pi * u[2:]
    bends = {
        "amplitude": (steepness / frequency)[:, None] * np.stack([np.cos(turned), np.sin(turned)], axis=1),
        "frequency": frequency[..., None] * np.stack([np.cos(direction), np.sin(direction)], axis=2),
        "phase": phase[..., None],
    }
    return {name: values.astype(np.float32) for name, values in bends.items()}


class Bends(NamedTuple):
    """The bends of those pairs of a batch that have one, as `draw_bends` makes them."""

    rows: Tensor  # (n,) which pairs
    amplitude: Tensor
    frequency: Tensor
    phase: Tensor

    def _displacement(self, planes: Tensor) -> Tensor:
        """Of points (n, 2, N) of the pairs that are bent."""
        return torch.bmm(self.amplitude, torch.baddbmm(self.phase, self.frequency, planes).sin_())

    def add(self, planes: Tensor) -> Tensor:
        """Points p (B, 2, N) of all pairs -> p + bend(p)."""
        chosen = planes[self.rows]
        return planes.index_copy(0, self.rows, chosen + self._displacement(chosen))

    def solve(self, planes: Tensor) -> Tensor:
        """The q (B, 2, N) with q + bend(q) = the points."""
        target = planes[self.rows]
        q = target - self._displacement(target)
        for _ in range(8):  # the error shrinks to less than 0.3 of itself a step: from 10 px to below 1e-3 px
            q = target - self._displacement(q)
        return planes.index_copy(0, self.rows, q)


class View:
    """One crop of each pair of a batch: what its pixels show of the photographs, exactly, and back.

    Pixel q of a crop shows what the homography `photo_from_view` says of q + bend(q). Points are [x, y] in pixels whose
    centres lie at whole numbers.

    Parameters
    ----------
    there, back : (B, 3, 3)
        `photo_from_view` and its inverse, float32.
    bends : Bends, optional
    """

    def __init__(self, there: Tensor, back: Tensor, bends: Bends | None = None) -> None:
        self._there, self._back, self._bends = there, back, bends

    def to_photo(self, points: Tensor) -> Tensor:
        """Crop (B, N, 2) -> photograph (B, N, 2)."""
        return self.planes_to_photo(points.transpose(1, 2)).transpose(1, 2)

    def from_photo(self, points: Tensor) -> Tensor:
        """Photograph (B, N, 2) -> crop (B, N, 2), which may lie outside."""
        return self.planes_from_photo(points.transpose(1, 2)).transpose(1, 2)

    def planes_to_photo(self, planes: Tensor) -> Tensor:
        """`to_photo` of all x and all y, (B, 2, N), which is faster for many points."""
        return _mapped(self._there, planes if self._bends is None else self._bends.add(planes))

    def planes_from_photo(self, planes: Tensor) -> Tensor:
        """`from_photo` of all x and all y, (B, 2, N)."""
        planes = _mapped(self._back, planes)
        return planes if self._bends is None else self._bends.solve(planes)


def _mapped(homographies: Tensor, planes: Tensor) -> Tensor:
    """Points (B, 2, N) by (B, 3, 3); those at infinity go far away."""
    flat = torch.baddbmm(homographies[:, :, 2:], homographies[:, :, :2], planes)
    return torch.nan_to_num(flat[:, :2] / flat[:, 2:], _FAR, _FAR, -_FAR)
