"""LIFT's detector, trained on peaks that agree between two warped views of photographs of every size.

Yi, Trulls, Lepetit and Fua, "LIFT: Learned Invariant Feature Transform", ECCV 2016 (arXiv 1603.09114), section 3.2,
after Verdie, Yi, Fua and Lepetit, "TILDE: A Temporally Invariant Learned DEtector", CVPR 2015: the network.

Ours: the loss, with squares of several sizes as in Barroso-Laguna et al., "Key.Net", ICCV 2019. By the paper's classes,
or by the scores of ALIKED, the detector became worse than it began. Filters are sums of derivatives of Gaussians, since
free ones became rough, and places inexact. It begins with blobs, less so along edges: the trace of the Hessian by its
absolute value, minus most of the difference of its eigenvalues. The photographs are shrunk or enlarged at random before
views are cut from them, and views also count in half their size, since the detector sees the levels of a pyramid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .keypoint_pairs import check_enough, cut_pairs, plain_views, relit
from .lift import hinging
from .patch_models import export_model
from .timed import train_for
from .warps import Warps

__all__ = ["Detector", "DetectorPairs", "detector_pairs", "save_detector", "train_detector"]

_SIDE, _FILTERS = 17, 16  # of the filters in pixels, and how many there are (paper)
# ours: of the Gaussians whose derivatives the filters are made of, pixels; that of the start is the first one.
_SIGMAS = 2.0, 1.3
# ours, of the start: the deviation of the trace; how much of the Hessian's difference is taken off; of all else.
_HEIGHT, _EDGES, _SMALL = 3.0, 0.8, 0.1
_NOISE = 0.001  # ours: of the mean variance, so that the faintest patterns are not made as strong as the others
_SIZE, _ROOM = 160, 224  # ours: pixels of a view, and of the square that it is cut from
_SMALLEST, _LARGEST = 0.25, 1.4  # ours: how much a photograph is resized; the logarithm is uniform
_WARPS = Warps(size=_SIZE, rotation=25, any_rotation=0.15, scale=1.5, perspective=0.2)
_HALF = torch.tensor([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])  # from pixels to those of half the size
_WINDOWS = 16, 48  # ours: pixels of the squares in which peaks have to agree


class Detector(nn.Module):
    """Scores (B, 1, H - 16, W - 16) of grey images (B, 1, H, W) of deviation 1: a sum of signed maxima of filters.

    Parameters
    ----------
    basis : (D, 289), optional
        What the filters are sums of; `smooth_basis` by default.
    """

    def __init__(self, basis: Tensor | None = None) -> None:
        super().__init__()
        basis = smooth_basis() if basis is None else basis
        self.register_buffer("basis", basis)
        start = torch.linalg.lstsq(basis.T, hessian().T).solution.T
        start *= _HEIGHT / start[0].norm()
        filters = torch.randn(_FILTERS, len(basis)) * (_SMALL / len(basis) ** 0.5)
        filters[[0, 1, 4, 5, 6, 7]] += start
        self.filters = nn.Parameter(filters)
        self.bias = nn.Parameter(torch.zeros(_FILTERS))

    def kernels(self) -> Tensor:
        """The filters (16, 1, 17, 17), of mean 0."""
        return (self.filters @ self.get_buffer("basis")).view(-1, 1, _SIDE, _SIDE)

    def answers(self, images: Tensor) -> Tensor:
        """What the basis answers to images: (B, 1, H, W) -> (B, D, H - 16, W - 16)."""
        return F.conv2d(images, self.get_buffer("basis").view(-1, 1, _SIDE, _SIDE))

    def of_answers(self, answers: Tensor) -> Tensor:
        """The scores: `forward` is this of `answers`, in one convolution."""
        return hinging(F.conv2d(answers, self.filters[:, :, None, None], self.bias))

    def forward(self, images: Tensor) -> Tensor:
        return hinging(F.conv2d(images, self.kernels(), self.bias))


def smooth_basis() -> Tensor:
    """Derivatives of two Gaussians up to the fourth, of mean 0 and norm 1 (30, 289)."""
    found = []
    for sigma in _SIGMAS:
        x = (torch.arange(_SIDE) - _SIDE // 2) / sigma
        hermite = [torch.ones_like(x), x, x**2 - 1, x**3 - 3 * x, x**4 - 6 * x**2 + 3]
        curves = [each * torch.exp(-(x**2) / 2) for each in hermite]
        found += [torch.outer(curves[j], curves[i]) for i in range(5) for j in range(5 - i)]
    basis = torch.stack(found).flatten(1)
    basis = basis - basis.mean(dim=1, keepdim=True)
    return F.normalize(basis, dim=1)


def hessian() -> Tensor:
    """Six filters (6, 289): trace, and what it is reduced by along edges, each with both signs."""
    along = (torch.arange(_SIDE) - _SIDE // 2) / _SIGMAS[0]
    x, y = along.expand(_SIDE, -1), along[:, None].expand(-1, _SIDE)
    gauss = torch.exp(-(x**2 + y**2) / 2)
    trace, straight, slanting = (x**2 + y**2 - 2) * gauss, (x**2 - y**2) * gauss, 2 * x * y * gauss
    filters = [trace - trace.mean(), _EDGES * straight, _EDGES * slanting]
    return torch.stack([sign * each.flatten() for each in filters for sign in (1, -1)])


def _whitened(basis: Tensor, views: Tensor) -> Tensor:
    """Combinations of a basis (D, 289) whose answers to views (B, 1, H, W) are uncorrelated and of deviation 1."""
    seen = F.conv2d(views, basis.view(-1, 1, _SIDE, _SIDE), stride=5).transpose(0, 1).flatten(1).double()
    values, vectors = torch.linalg.eigh(seen @ seen.T / seen.shape[1])
    root = (vectors * (values + _NOISE * values.mean()).rsqrt()) @ vectors.T
    combined: Tensor = root.float() @ basis
    return combined


@dataclass(frozen=True)
class DetectorPairs:
    """Two views of each of N squares of photographs.

    Parameters
    ----------
    views : (N, 2, 160, 160) uint8
        Each in a light of its own.
    b_from_a : (N, 3, 3) float32
        Homographies between the views.
    """

    views: NDArray[np.uint8]
    b_from_a: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.views)


def detector_pairs(
    paths: Sequence[Path],
    *,
    each: int = 2,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> DetectorPairs:
    """Pairs of views of photographs, `each` so many; photographs that cannot be read are left out.

    Raises
    ------
    TrainingError
        If there are none.
    """

    def of_photograph(image: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.generic], ...]:
        views, homographies = zip(*(_pair(image, rng) for _ in range(each)), strict=True)
        return np.stack(views), np.stack(homographies)

    _, views, b_from_a = cut_pairs(paths, of_photograph, seed, progress)
    return DetectorPairs(views, b_from_a)


def _pair(image: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    factor = np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST)))
    factor = max(factor, _ROOM / min(image.shape))
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, None, fx=factor, fy=factor, interpolation=kind)
    top, left = (rng.integers(0, max(length - _ROOM, 0) + 1) for length in resized.shape)
    image = np.asarray(resized[top : top + _ROOM, left : left + _ROOM], np.uint8)
    views, b_from_a = plain_views(image, _WARPS, rng)
    return np.stack([relit(view, rng) for view in views]), b_from_a.astype(np.float32)


class _Plain(nn.Module):
    """The detector as it is exported: its filters as they are."""

    def __init__(self, network: Detector) -> None:
        super().__init__()
        self.filters = nn.Conv2d(1, _FILTERS, _SIDE)
        self.filters.load_state_dict({"weight": network.kernels(), "bias": network.bias})

    def forward(self, images: Tensor) -> Tensor:
        return hinging(self.filters(images))


def save_detector(network: Detector, path: Path, about: dict[str, Any]) -> None:
    """Write a detector as ONNX for `tiepoints.extraction.lift`; arguments and errors are `save_patch_model`'s."""
    axes = {"images": {0: "count", 2: "height", 3: "width"}, "scores": {0: "count", 2: "rows", 3: "columns"}}
    export_model(_Plain(network), path, about, torch.zeros(1, 1, 40, 50), axes)


def train_detector(
    pairs: DetectorPairs,
    *,
    minutes: float,
    batch: int = 3,
    learning_rate: float = 5e-3,
    seed: int = 0,
    log: Callable[[str], None] | None = None,
) -> tuple[Detector, int]:
    """Train the detector.

    In squares of 16 and of 48 pixels the softmax of the scores has to be sharp, and the same in both views. No label is
    needed, and no teacher.

    Parameters
    ----------
    pairs : DetectorPairs
    minutes : float
        How long; the learning rate falls to 0 until then.
    batch : int
        Pairs a step.
    learning_rate : float
        Of Adam.
    seed : int
    log : callable, optional
        Called with a line of figures now and then.

    Returns
    -------
    network : Detector
        In evaluation mode.
    steps : int

    Raises
    ------
    TrainingError
        If there are fewer pairs than a batch has, or the loss is not finite any more.
    """
    check_enough(pairs, batch)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    views, b_from_a = _mirrored(pairs, rng)
    network = Detector(_whitened(smooth_basis(), views[:200]))
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    # The basis is not learned, so its answers are computed once.
    levels = {
        "whole": (_answers(network, views), b_from_a),
        "half": (_answers(network, F.avg_pool2d(views, 2)), _HALF @ b_from_a @ _HALF.inverse()),
    }

    def of_step(step: int, done: float) -> tuple[Tensor, dict[str, Tensor]]:
        rows = torch.from_numpy(rng.choice(len(pairs), batch, replace=False))
        parts = {}
        for name, (answers, homographies) in levels.items():
            scores = network.of_answers(answers[rows].flatten(0, 1).float())
            both = [_disagreement(scores[::2], scores[1::2], homographies[rows], window) for window in _WINDOWS]
            parts[name] = torch.stack(both).sum()
        return torch.stack(list(parts.values())).sum(), parts

    return train_for(minutes, network, optimiser, of_step, schedule=lambda done: 1 - done, decay=0.98, log=log)


def _mirrored(pairs: DetectorPairs, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Views (2 N, 1, H, W) of deviation 1 and homographies (N, 3, 3), mirrored by chance."""
    views, b_from_a, last = [], [], _SIZE - 1
    for both, homography in zip(pairs.views, pairs.b_from_a, strict=True):
        across, down = rng.choice([-1, 1], 2)
        views.append(both[:, ::down, ::across])
        mirror = np.array([[across, 0, last * (across < 0)], [0, down, last * (down < 0)], [0, 0, 1]])
        b_from_a.append(mirror @ homography @ mirror)
    joined = torch.from_numpy(np.concatenate(views)[:, None].astype(np.float32))
    joined /= joined.std(dim=(1, 2, 3), keepdim=True).clamp_min(1)
    return joined, torch.from_numpy(np.stack(b_from_a).astype(np.float32))


@torch.no_grad()
def _answers(network: Detector, views: Tensor) -> Tensor:
    """What the basis answers to pairs of views: (2 N, 1, H, W) -> (N, 2, D, H - 16, W - 16), in float16."""
    answers = torch.cat([network.answers(views[i : i + 16]).half() for i in range(0, len(views), 16)])
    return answers.view(-1, 2, *answers.shape[1:])


def _disagreement(a: Tensor, b: Tensor, b_from_a: Tensor, window: int) -> Tensor:
    """How little the scores of two views are high at the same places: cross entropies in squares of pixels of `a`."""
    side, margin = a.shape[-1], _SIDE // 2
    along = torch.arange(side, dtype=torch.float32) + margin
    places = torch.stack([along.expand(side, side), along[:, None].expand(side, side), torch.ones(side, side)], dim=-1)
    there = torch.einsum("bij,hwj->bhwi", b_from_a, places)
    xy = there[..., :2] / there[..., 2:].clamp_min(1e-6) - margin
    inside = ((xy >= 0) & (xy <= side - 1)).all(dim=-1)
    other = F.grid_sample(b, xy * (2 / (side - 1)) - 1, align_corners=True)

    def squares(values: Tensor) -> Tensor:
        return F.unfold(values, window, stride=window).transpose(1, 2).flatten(0, 1)

    whole = squares(inside[:, None].float()).all(dim=1)
    one, two = (squares(each)[whole].log_softmax(dim=1) for each in (a, other))
    both = (one.exp() * two).sum(dim=1) + (two.exp() * one).sum(dim=1)
    return -both.sum() / (2 * whole.sum()).clamp_min(1)
