"""LIFT's orientation estimator and descriptor, trained on keypoints that SIFT finds in two views of a photograph.

Yi, Verdie, Fua and Lepetit, "Learning to Assign Orientations to Feature Points", CVPR 2016 (arXiv 1511.04273): the
network, its activation, the loss. Yi, Trulls, Lepetit and Fua, "LIFT: Learned Invariant Feature Transform", ECCV 2016
(arXiv 1603.09114): the stages; the descriptor is trained before the orientation.

Ours: the descriptor is the HardNet that comes with tiepoints, so that no weight depends on a file that is not free; the
pairs are of warped photographs, where the paper has those of reconstructions; before orientations learn to bring
descriptors together they learn the turn between the views, which is known here. The descriptor, which stands at the end
of this file, has the paper's network, and HardNet's loss, which came after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..extraction.patches import cut, frames_of
from ..extraction.torch.lift import LIFTDescriptor
from ..extraction.torch.patches import SIDE, normalised
from .keypoint_pairs import carried, check_enough, cut_pairs, found_again, sift_keypoints, warped_views
from .patch_models import save_patch_model
from .timed import train_for

__all__ = [
    "Descriptor",
    "OrientationEstimator",
    "OrientationPairs",
    "hinging",
    "orientation_pairs",
    "save_descriptor",
    "train_orientation",
]

_MOST = 120  # ours: pairs of a photograph
_WIDE_SIDE, _WIDE = 48, 1.5  # pixels of a patch that can be turned, and how many network's patches wide it is
_N = _M = 4  # sums and maxima of the activation (CVPR 2016)
_TURN = 0.6  # ours: share of the time in which the known turn is learned


def hinging(values: Tensor, n: int = _N, m: int = _M) -> Tensor:
    """Generalised hinging hyperplanes: sums over n of signs times maxima over m; (B, n m C, ...) -> (B, C, ...).

    The signs alternate, + first. The parts that are compared lie C channels apart.
    """
    parts = values.chunk(n * m, dim=1)
    total = reduce(torch.maximum, parts[:m])
    for i in range(1, n):
        highest = reduce(torch.maximum, parts[i * m : (i + 1) * m])
        total = total - highest if i % 2 else total + highest
    return total


class OrientationEstimator(nn.Module):
    """A direction (B, 2), cosine and sine of any length, of patches (B, 1, 32, 32) of mean 0 and deviation 1."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, size in ((1, 10, 5), (10, 20, 5)):
            layers += [nn.Conv2d(before, after, size), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers, nn.Conv2d(20, 50, 3), nn.ReLU(), nn.Flatten())
        self.hidden = nn.Linear(50 * 3 * 3, 32 * _N * _M)
        self.out = nn.Linear(32, 2 * _N * _M)

    def forward(self, patches: Tensor) -> Tensor:
        return hinging(self.out(hinging(self.hidden(self.features(patches)))))


@dataclass(frozen=True)
class OrientationPairs:
    """Upright patches of the same keypoints in two views.

    Parameters
    ----------
    a, b : (N, 48, 48) uint8
        1.5 times as wide as what the network sees, so that they can be turned.
    turns : (N,) float32
        By how many radians, from x towards y, the second view is turned against the first there.
    """

    a: NDArray[np.uint8]
    b: NDArray[np.uint8]
    turns: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.turns)


def orientation_pairs(
    paths: Sequence[Path], *, seed: int = 0, progress: Callable[[str, int, int], None] | None = None
) -> OrientationPairs:
    """Pairs of patches from photographs; those that cannot be read are left out.

    Raises
    ------
    TrainingError
        If there are none.
    """
    _, a, b, turns = cut_pairs(paths, _of_photograph, seed, progress)
    return OrientationPairs(a, b, turns)


def _of_photograph(
    image: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """Patches of the keypoints that a photograph and a warped copy of it share, and the turns between them."""
    views, b_from_a = warped_views(image, rng)
    known = [sift_keypoints(view) for view in views]
    chosen = (rows[:_MOST] for rows in found_again(known[0], known[1], b_from_a, rng))
    patches, turns = [], np.zeros(0)
    for view, (xy, scale, _), rows in zip(views, known, chosen, strict=True):
        upright = xy[rows], scale[rows], np.zeros(len(rows), np.float32)
        patches.append(cut(view, xy[rows], frames_of(scale[rows] * np.float32(_WIDE), upright[2]), _WIDE_SIDE))
        if len(patches) == 1 and len(rows):
            _, _, turns = carried(upright, b_from_a)
    a, b = (np.rint(some).astype(np.uint8) for some in patches)
    return a, b, turns.astype(np.float32)


def train_orientation(
    pairs: OrientationPairs,
    descriptor: nn.Module,
    *,
    minutes: float,
    batch: int = 128,
    learning_rate: float = 1e-3,
    seed: int = 0,
    log: Callable[[str], None] | None = None,
) -> tuple[OrientationEstimator, int]:
    """Train the orientation estimator.

    In the first 60 % of the time on the known turn, which is ours; then on the distance of the descriptors of both
    views (CVPR 2016).

    Parameters
    ----------
    pairs : OrientationPairs
    descriptor : Module
        From patches (N, 1, 32, 32) in [0, 255] to descriptors; it is not trained.
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
    network : OrientationEstimator
        In evaluation mode.
    steps : int

    Raises
    ------
    TrainingError
        If there are fewer pairs than a batch has, or the loss is not finite any more.
    """
    check_enough(pairs, batch)
    torch.manual_seed(seed)
    network = OrientationEstimator()
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    order, angles = np.random.default_rng(seed), np.random.default_rng(seed)

    def of_step(step: int, done: float) -> tuple[Tensor, dict[str, Tensor]]:
        rows = order.choice(len(pairs), batch, replace=False)
        start = torch.from_numpy(angles.uniform(-np.pi, np.pi, (2, batch)).astype(np.float32))
        patches = [torch.from_numpy(each[rows][:, None].astype(np.float32)) for each in (pairs.a, pairs.b)]
        a, b = (
            _rotated(F.normalize(network(normalised(_turned(some, _direction(angle)))), dim=1), angle)
            for some, angle in zip(patches, start, strict=True)
        )
        if done < _TURN:
            loss = 1 - (_rotated(a, torch.from_numpy(pairs.turns[rows])) * b).sum(dim=1).mean()
            return loss, {"turn": loss}
        one, other = (descriptor(_turned(some, to)) for some, to in zip(patches, (a, b), strict=True))
        loss = (one - other).square().sum(dim=1).mean()
        return loss, {"distance": loss}

    return train_for(minutes, network, optimiser, of_step, schedule=lambda done: 1 - done, decay=0.0, log=log)


def _direction(angles: Tensor) -> Tensor:
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def _rotated(directions: Tensor, angles: Tensor) -> Tensor:
    """Directions (N, 2) turned by angles (N,)."""
    c, s = _direction(angles).unbind(1)
    x, y = directions.unbind(1)
    return torch.stack([c * x - s * y, s * x + c * y], dim=1)


def _turned(patches: Tensor, directions: Tensor) -> Tensor:
    """What the network sees (N, 1, 32, 32) of wider patches (N, 1, 48, 48) if it is turned to directions (N, 2)."""
    c, s = (directions / _WIDE).unbind(1)
    zero = torch.zeros_like(c)
    frames = torch.stack([c, -s, zero, s, c, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(frames, [len(patches), 1, SIDE, SIDE], align_corners=False)
    return F.grid_sample(patches, grid, padding_mode="border", align_corners=False)


class Descriptor(LIFTDescriptor):
    """LIFT's descriptor (N, 128) of patches (N, 1, 64, 64) in [0, 255], to be trained by `train_hardnet`.

    Ours: each patch less its mean, by its own deviation; the window of the normalisations is Torch's Gaussian of 5x5; a
    batch normalisation at the end, as HardNet has one, since what L2 pooling gives is never negative.
    """

    def __init__(self) -> None:
        super().__init__()
        gauss = torch.from_numpy(cv2.getGaussianKernel(5, 5 / 4).astype(np.float32))
        self.get_buffer("filters").copy_(gauss @ gauss.T)
        self.get_buffer("mean").zero_()
        self.get_buffer("std").fill_(1)
        self.last = nn.BatchNorm1d(128, affine=False)

    def layers(self, x: Tensor) -> Tensor:
        return self.last(super().layers(x))  # type: ignore[no-any-return]

    def forward(self, patches: Tensor) -> Tensor:
        return F.normalize(self.layers(normalised(patches)), dim=1)


class _Layers(nn.Module):
    """The descriptor as it is exported: of patches that are normalised."""

    def __init__(self, network: Descriptor) -> None:
        super().__init__()
        self.network = network

    def forward(self, patches: Tensor) -> Tensor:
        return self.network.layers(patches)


def save_descriptor(network: Descriptor, path: Path, about: dict[str, Any]) -> None:
    """Write a descriptor for `tiepoints.extraction.patch_model`; arguments and errors are `save_patch_model`'s."""
    save_patch_model(_Layers(network), path, about | {"descriptor_size": 128}, network.side)
