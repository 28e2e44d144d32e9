"""Training pairs: two warped, photometrically changed crops of a photograph and the exact map between them.

A pair may also show two photographs that a camera took from one place at different times, or two of one scene from
different places, of which only single points correspond.

Pair number n is the same, but for rounding, whenever, in whichever batch and on whichever device it is made: all its
chance comes from (seed, n). A batch's few numbers are drawn on the CPU, and sent in one piece; its pixels are made in
torch on the device that the network is on, where nothing waits for the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .light import Lights, relit
from .photographs import Photographs
from .places import FAR, Box, Places, ScoreMaps, choose_places, padded, targets_of
from .plans import CHANCE, SHARED, Plan, Planner
from .random_streams import normal, uniform
from .scenes import Shared
from .send import send
from .teacher import Targets
from .warps import Bends, View, Warps

__all__ = ["Batch", "Correspondences", "Pairs", "uniforms_of"]

#: ours: from this many photograph pixels to a crop's pixel on, the photograph is halved first, against aliasing.
_HALVED = 1.5


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
    uniforms: Tensor  # (B, L) random numbers in [0, 1), for all draws in the losses
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


_OTHER_STREAM = 0x3C6EF372FE94F82B  # what leads from a pair's stream to those of its images' noise


def uniforms_of(size: int) -> int:
    """How many random numbers a pair of crops of this edge has: enough for every draw in `objective`."""
    return 3 * (size // 4) ** 2 + 4096


class Pairs:
    """The endless list of training pairs.

    Every photograph is used once before any is used again.

    Parameters
    ----------
    photographs : Photographs
    warps : Warps
    seed : int
    targets : Targets, optional
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
        targets: Targets | None = None,
        places: int = 320,
        *,
        static: Sequence[Sequence[int]] = (),
        views: Sequence[Shared] = (),
        real: float = 0.0,
    ) -> None:
        self.planner = Planner(photographs, warps, seed, static=static, views=views, real=real)
        self.photographs, self.warps = photographs, warps
        self.targets, self.places = targets, places
        self._stack = photographs.stacked()
        self._stacked_targets = targets.stacked() if targets is not None and self._stack is not None else None

    def batch(self, numbers: Sequence[int]) -> Batch:
        """The pairs with these numbers."""
        return self._made(self.planner.plan(numbers))

    def _made(self, plan: Plan) -> Batch:
        device, size, count = self.photographs.device, self.warps.size, len(plan.streams)
        boxes = [] if self._stack is not None else self._boxes(plan)
        sent = send(self._numbers(plan, boxes), device)
        bends = Bends(*(sent[name] for name in ("bent", "amplitude", "frequency", "phase"))) if len(plan.bent) else None
        a, b = (View(sent["there"][:, v], sent["back"][:, v], bends if v else None) for v in (0, 1))

        pixels = _pixels(size, device).expand(count, -1, -1)
        at = torch.cat([a.planes_to_photo(pixels), b.planes_to_photo(pixels)])  # (2 B, 2, S S)
        middle = sent["limits"][..., None] / 2
        shown = ((at - middle).abs_() <= middle).all(dim=1)  # in the photograph
        grid = b.planes_from_photo(at[:count]).mul_(2 / (size - 1)).sub_(1)
        known = self._correspondences(sent, a, b) if "known" in sent else None
        both = (grid.abs() <= 1).all(dim=1)
        if known is not None:
            both |= known.sparse[:, None]
            grid = torch.where(known.sparse[:, None, None], pixels * (2 / (size - 1)) - 1, grid)
        shown[:count] &= both

        at = at.view(2 * count, 2, size, size)
        images = self._crops(plan, boxes, sent, at)
        lights = {name: (sent[name], sent[f"{name}.values"]) for name in Lights._fields if name in sent}
        images = relit(images, lights, lambda rows: normal(sent["noises"][rows], size * size).view(-1, size, size))
        targets, most = self.targets, 0 if self.targets is None else self.targets.most
        uniforms = uniform(sent["streams"], uniforms_of(size) + 2 * most, CHANCE)
        batch = Batch(
            images[:, None],
            grid.view(count, 2, size, size).permute(0, 2, 3, 1),
            shown.view(2 * count, size, size),
            uniforms[:, : uniforms_of(size)],
            a,
            b,
            points=known,
        )
        if targets is not None:
            if self._stacked_targets is not None:
                of_batch = self._stacked_targets(sent["targets"])
            else:
                mirrored = plan.mirrored.tolist() * 2
                numbers = plan.photographs.T.ravel().tolist()
                of_batch = targets_of([targets[which] for which in zip(numbers, mirrored, strict=True)], boxes)
            chance = torch.cat(uniforms[:, uniforms_of(size) :].chunk(2, dim=1))
            batch.places = choose_places(of_batch, a, b, size, self.places, chance)
            batch.scores = of_batch.scores
        return batch

    def _numbers(self, plan: Plan, boxes: list[Box]) -> dict[str, NDArray[Any]]:
        """All that the device has to know."""
        numbers = plan.photographs.T.ravel()
        sizes = plan.sizes.transpose(1, 0, 2).reshape(-1, 2).astype(np.float32)
        views = plan.drawn.photo_from_view
        noises = np.concatenate([plan.streams, ~plan.streams]) ^ _OTHER_STREAM
        arrays: dict[str, NDArray[Any]] = {
            "there": views.astype(np.float32),
            "back": np.linalg.inv(views).astype(np.float32),
            "limits": sizes - 1,
            "grey": plan.grey / 255,
            "frames": _frames(plan, sizes, boxes),
            "streams": plan.streams,
            "noises": noises,
            "photographs": numbers,
            "targets": 2 * numbers + np.tile(plan.mirrored, 2),
        }
        if len(plan.bent):
            arrays |= {"bent": plan.bent} | plan.bends
        halved = np.flatnonzero(_halved(plan))
        if len(halved):
            arrays["halved"] = halved
        for name, (rows, values) in plan.lights._asdict().items():
            if len(rows):
                arrays |= {name: rows, f"{name}.values": values}
        if any(points is not None for points in plan.points):
            known = np.full((len(plan.points), SHARED, 2, 2), FAR, np.float32)
            there = np.zeros((len(plan.points), SHARED), bool)
            for row, points in enumerate(plan.points):
                if points is not None:
                    known[row, : len(points)], there[row, : len(points)] = points, True
            sparse = np.array([points is not None for points in plan.points])
            arrays |= {"known": known, "known.there": there, "sparse": sparse}
        return arrays

    def _correspondences(self, sent: dict[str, Tensor], a: View, b: View) -> Correspondences:
        """The shared points of the pairs in the crops."""
        photo = sent["known"]
        at = torch.stack([a.from_photo(photo[:, :, 0]), b.from_photo(photo[:, :, 1])], dim=2)
        # a bend may have moved them
        inside = ((at >= 0) & (at <= self.warps.size - 1)).all(dim=3).all(dim=2)
        return Correspondences(sent["sparse"], at, (inside & sent["known.there"]).float())

    def _boxes(self, plan: Plan) -> list[Box]:
        """The part of its photograph that each crop shows."""
        size = self.warps.size
        reach = np.zeros(len(plan.streams))
        if len(plan.bent):
            reach[plan.bent] = np.linalg.norm(plan.bends["amplitude"], axis=1).sum(axis=1)
        boxes = []
        for view in (0, 1):
            for row, (width, height) in enumerate(plan.sizes[:, view].astype(int).tolist()):
                beyond = reach[row] if view else 0.0
                boxes.append(_box(plan.drawn.photo_from_view[row, view], beyond, size, (width, height)))
        return boxes

    def _crops(self, plan: Plan, boxes: list[Box], sent: dict[str, Tensor], at: Tensor) -> Tensor:
        """Grey crops (2 B, S, S) in [0, 1]: the photographs at the places `at` (2 B, 2, S, S), bilinear.

        Beyond the photograph its edge goes on.
        """
        if self._stack is not None:
            # a channel after the other: the whole stack's part as float32 takes the memory three times
            grey = torch.zeros(len(at), *self._stack.shape[2:], device=at.device)
            for channel in range(3):
                shares = sent["grey"][:, channel, None, None]
                grey = torch.addcmul(grey, self._stack[sent["photographs"], channel].float(), shares)
            if "halved" in sent:
                small = F.avg_pool2d(grey[sent["halved"]], 2)
                grey[sent["halved"], : small.shape[1], : small.shape[2]] = small
        else:
            grey = padded(self._parts(plan, boxes, sent["grey"]))
        height, width = grey.shape[1:]
        # from the photograph's pixels to -1 ... 1 over the padded parts, and no farther than each part reaches
        frames = torch.stack(
            [sent["frames"][..., 0] * (2 / (width - 1)), sent["frames"][..., 1] * (2 / (height - 1))], 2
        )
        scale, shift, last = frames[..., None, None].unbind(1)  # (2 B, 2, 1, 1)
        places = torch.addcmul(shift - 1, at, scale)
        places = torch.minimum(places.clamp_min_(-1), last - 1).permute(0, 2, 3, 1)
        return F.grid_sample(grey[:, None], places, mode="bilinear", align_corners=True)[:, 0]

    def _parts(self, plan: Plan, boxes: list[Box], shares: Tensor) -> list[Tensor]:
        """The grey parts of the photographs in the boxes, halved where the crops are much smaller."""
        halved, mirrored = _halved(plan), np.tile(plan.mirrored, 2)
        parts = []
        for n, (number, (x0, y0, x1, y1)) in enumerate(zip(plan.photographs.T.ravel().tolist(), boxes, strict=True)):
            photograph = self.photographs[number]
            if mirrored[n]:
                width = photograph.shape[2]
                part = photograph[:, y0:y1, width - x1 : width - x0].flip(2)
            else:
                part = photograph[:, y0:y1, x0:x1]
            grey = torch.tensordot(shares[n], part.float(), dims=1)
            parts.append(F.avg_pool2d(grey[None], 2)[0] if halved[n] else grey)
        return parts


@cache
def _pixels(size: int, device: torch.device) -> Tensor:
    """All x and all y of a crop, (1, 2, S S)."""
    along = torch.arange(size, device=device, dtype=torch.float32)
    return torch.stack(torch.meshgrid(along, along, indexing="xy")).view(1, 2, -1)


def _halved(plan: Plan) -> NDArray[np.bool_]:
    """Which crops (2 B,) are cut from the photograph at half its size."""
    return plan.drawn.spans.T.ravel() > _HALVED


def _frames(plan: Plan, sizes: NDArray[np.float32], boxes: list[Box]) -> NDArray[np.float32]:
    """From the pixels of (mirrored) photographs to those of what is read: factor, offset and last pixel (2 B, 3, 2).

    That is the part in the box, mirrored already, or where there are no boxes, all of the photograph as it is.
    """
    halved = _halved(plan)[:, None]
    share, start = np.where(halved, 0.5, 1.0), np.where(halved, 0.25, 0.0)  # pixel i of a half lies at 2 i + 0.5
    if boxes:
        x0, y0, x1, y1 = np.array(boxes, np.float32).T
        edges, origin, sign = np.stack([x1 - x0, y1 - y0], axis=1), np.stack([x0, y0], axis=1), np.ones_like(sizes)
    else:
        turned = np.tile(plan.mirrored, 2)
        origin = np.zeros_like(sizes)
        origin[turned, 0] = sizes[turned, 0] - 1
        edges, sign = sizes, np.stack([np.where(turned, -1, 1), np.ones(len(turned))], axis=1)
    frames = np.stack([share * sign, -origin * share * sign - start, np.floor(edges * share) - 1], axis=1)
    return np.asarray(frames, np.float32)


def _box(view: NDArray[np.float64], reach: float, size: int, limits: tuple[int, int]) -> Box:
    """The part of a photograph of this width and height that a crop shows, which a bend moves by so much at most."""
    width, height = limits
    low, high = -reach, size - 1 + reach
    corners = np.array([[low, high, high, low], [low, low, high, high], [1, 1, 1, 1]])
    x, y, depth = view @ corners
    if depth.min() <= 0:
        return 0, 0, width, height
    (left, right), (top, bottom) = ((int(v.min()) - 1, int(v.max()) + 3) for v in (x / depth, y / depth))
    left, top = min(max(left, 0), width - 4), min(max(top, 0), height - 4)
    return left, top, max(min(right, width), left + 4), max(min(bottom, height), top + 4)
