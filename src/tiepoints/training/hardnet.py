"""HardNet, or another descriptor of patches, trained on patches that SIFT finds again in warped photographs.

Mishchuk, Mishkin, Radenovic and Matas, "Working hard to know your neighbor's margins: Local descriptor learning loss",
NeurIPS 2017: the network, the loss with the hardest negative in the batch, and margin 1. The pairs are ours: two warped
views of a photograph in different light, keypoints that SIFT finds in both at the same place, and the patches around
them as each view's own keypoint has them. So the network sees the errors of a real detector. A teacher may help at
first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..extraction.patches import cut, frames_of
from ..extraction.torch.patches import SIDE, HardNet, PatchNetwork
from .keypoint_pairs import check_enough, cut_pairs, found_again, sift_keypoints, warped_views
from .patch_models import save_patch_model
from .timed import train_for

__all__ = [
    "PatchPairs",
    "hardnet_loss",
    "patch_pairs",
    "save_hardnet",
    "train_hardnet",
]

_SEED = 0

Network = TypeVar("Network", bound=PatchNetwork)


@dataclass(frozen=True)
class PatchPairs:
    """Patches of the same points in two views.

    Parameters
    ----------
    a, b : (N, side, side) uint8
    photograph : (N,) int32
        Which one they come from.
    places : (N, 3) float32
        x, y and diameter in pixels of the keypoint in the first view.
    """

    a: NDArray[np.uint8]
    b: NDArray[np.uint8]
    photograph: NDArray[np.int32]
    places: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.a)


def patch_pairs(
    paths: Sequence[Path],
    *,
    side: int = SIDE,
    seed: int = _SEED,
    progress: Callable[[str, int, int], None] | None = None,
) -> PatchPairs:
    """Pairs of patches of `side` x `side` pixels from photographs; those that cannot be read are left out.

    Raises
    ------
    TrainingError
        If there are no pairs.
    """
    photograph, a, b, places = cut_pairs(paths, partial(_of_photograph, side=side), seed, progress)
    return PatchPairs(a, b, photograph, places)


def _of_photograph(
    image: NDArray[np.uint8], rng: np.random.Generator, side: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """Patches of the keypoints that a photograph and a warped copy of it share."""
    views, b_from_a = warped_views(image, rng)
    (xy_a, scale_a, angle_a), (xy_b, scale_b, angle_b) = (sift_keypoints(view) for view in views)
    rows, columns = found_again((xy_a, scale_a, angle_a), (xy_b, scale_b, angle_b), b_from_a, rng)
    a = cut(views[0], xy_a[rows], frames_of(scale_a[rows], angle_a[rows]), side)
    b = cut(views[1], xy_b[columns], frames_of(scale_b[columns], angle_b[columns]), side)
    places = np.column_stack([xy_a, scale_a])[rows].astype(np.float32)
    return np.rint(a).astype(np.uint8), np.rint(b).astype(np.uint8), places


def hardnet_loss(a: Tensor, b: Tensor, apart: Tensor, margin: float = 1.0) -> Tensor:
    """The triplet loss with the hardest negative of the batch (paper, equation 1).

    Parameters
    ----------
    a, b : (N, D)
        Descriptors of unit length; rows correspond.
    apart : (N, N) bool
        Whether two of the points are different ones, so that one may be the other's negative; False on the diagonal.
    margin : float
    """
    distances = (2 - 2 * a @ b.T).clamp(min=1e-8).sqrt()
    positive = distances.diagonal()
    negative = torch.where(apart, distances, 10.0)
    hardest = torch.minimum(negative.amin(dim=0), negative.amin(dim=1))
    return F.relu(margin + positive - hardest).mean()


def _apart(pairs: PatchPairs, rows: NDArray[np.intp]) -> Tensor:
    """Which points of a batch are different ones: of other photographs, or a third of their patch apart."""
    photograph, places = pairs.photograph[rows], pairs.places[rows]
    distance = np.hypot(*(places[:, None, :2] - places[None, :, :2]).transpose(2, 0, 1))
    reach = 2 * np.maximum(places[:, None, 2], places[None, :, 2])
    return torch.from_numpy((photograph[:, None] != photograph[None]) | (distance > reach))


def _batches(pairs: PatchPairs, size: int, seed: int) -> Iterator[NDArray[np.intp]]:
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(pairs))
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size]


def _turned(patches: Tensor, turns: int, flip: bool) -> Tensor:
    patches = torch.rot90(patches, turns, (2, 3))
    return patches.flip(3) if flip else patches


def train_hardnet(
    pairs: PatchPairs,
    network: Network,
    *,
    minutes: float,
    batch: int = 256,
    learning_rate: float = 2e-3,
    teacher: PatchNetwork | None = None,
    bfloat16: bool = False,
    decay: float = 0.995,
    seed: int = _SEED,
    log: Callable[[str], None] | None = None,
    keep: Callable[[Network, int], None] | None = None,
    keep_minutes: float = 5.0,
) -> tuple[Network, int]:
    """Train a network with HardNet's loss.

    Parameters
    ----------
    pairs : PatchPairs
    network : PatchNetwork
        From patches in [0, 255] of the pairs' side to descriptors, such as `HardNet()`; it begins anew.
    minutes : float
        How long; the learning rate falls to 0 until then.
    batch : int
        Pairs a step.
    learning_rate : float
        Of AdamW.
    teacher : PatchNetwork, optional
        Of as many numbers: at first the descriptors also learn to be its; this fades in the first half.
    bfloat16 : bool
        Convolutions in 16 bits: half the time on CPUs that can (AVX-512 BF16, AMX).
    decay : float
        Of the moving average of the weights, which is the result.
    seed : int
    log : callable, optional
        Called with a line of figures now and then.
    keep : callable, optional
        Called with the network so far and the number of steps, every `keep_minutes`.
    keep_minutes : float

    Returns
    -------
    network : PatchNetwork
        The moving average, in evaluation mode.
    steps : int

    Raises
    ------
    TrainingError
        If there are fewer pairs than a batch has, or the loss is not finite any more.
    """
    check_enough(pairs, batch)
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.orthogonal_(module.weight, gain=0.6)  # as the paper's code does
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    rng, batches = np.random.default_rng(seed), _batches(pairs, batch, seed)

    def of_step(step: int, done: float) -> tuple[Tensor, dict[str, Tensor]]:
        rows = next(batches)
        images = torch.from_numpy(np.concatenate([pairs.a[rows], pairs.b[rows]])[:, None].astype(np.float32))
        images = _turned(images, int(rng.integers(4)), bool(rng.random() < 0.5))
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            vectors = network(images)
        vectors = F.normalize(vectors.float(), dim=1)
        a, b = vectors[:batch], vectors[batch:]
        loss = hardnet_loss(a, b, _apart(pairs, rows))
        nearest = (a @ b.T).detach().argmax(dim=1)
        parts = {"triplet": loss, "right": (nearest == torch.arange(batch)).float().mean()}
        weight = max(0.0, 1 - 2 * done)
        if teacher is not None and weight > 0:
            with torch.no_grad():
                wanted = teacher(images)
            parts["teacher"] = (1 - (vectors * wanted).sum(dim=1)).mean()
            loss = loss + 2 * weight * parts["teacher"]
        return loss, parts

    return train_for(
        minutes, network, optimiser, of_step, schedule=lambda done: 1 - done,
        decay=decay, log=log, keep=keep, keep_minutes=keep_minutes,
    )  # fmt: skip


def save_hardnet(network: HardNet, path: Path, about: dict[str, Any]) -> None:
    """Write the network for `tiepoints.extraction.patch_model`; see `save_patch_model`."""
    save_patch_model(nn.Sequential(*network.features, nn.Flatten()), path, about | {"descriptor_size": 128})
