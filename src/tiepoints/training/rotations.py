"""A network learns to know the descriptors of the rotated image from the image as it is.

A network's descriptors say how the image is rotated, so that those of a photograph and of the rotated photograph are
not alike. What it says of a place in all four rotations by quarter turns, 4 D numbers, does not: a quarter turn only
moves each D of them to the place of those before. Here these are brought to D numbers in four parts of which the same
is true, and the network learns to predict them from one look. `Features.rotated` and matchers then do the rest: the
descriptors are those of a steerable representation of the group of quarter turns (as in Bökman, Edstedt, Felsberg and
Kahl, Steerers: A framework for rotation equivariant keypoint descriptors, CVPR 2024, arXiv 2312.02152; there the
network is trained with rotated pairs, here it learns from itself). Its heatmaps become those of the mean of four looks.

All constants are ours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..errors import InvalidInputError
from .average import average_of
from .distillation import (
    FEW,
    MeanOfViews,
    check_sizes,
    crop_of,
    distillation_loss,
    lessons,
    outputs,
    take_space,
    weighed,
)
from .network import MDNet
from .photographs import Photographs
from .timed import train_for

__all__ = ["TURNS", "directions_of_rotations", "four_looks", "learn_rotations"]

TURNS = 4
_SAMPLED = 200  # crops from which the directions, and what makes the teacher's descriptors, are computed
_MANY = 0.5  # weight of heads of many sets, which learn to stay as they are, on a quarter of the crops


def four_looks(network: MDNet, images: Tensor, heads: list[int]) -> tuple[Tensor, Tensor]:
    """What a network says of square images (B, 1, S, S) in all four rotations, in the frame of the image as it is.

    Returns
    -------
    logits : (B, K, S, S)
        The mean of the heads that are named.
    descriptors : (B, 4, D, S / 4, S / 4)
        Of unit length: of the image as it is, and rotated counter-clockwise by one to three quarter turns.
    """
    logits, descriptors = torch.zeros(()), []
    for turns in range(TURNS):
        seen = torch.rot90(images, turns, (2, 3)).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            says, describes = outputs(network, seen, heads)
        logits = logits + torch.rot90(says, -turns, (2, 3)) / TURNS
        descriptors.append(torch.rot90(describes, -turns, (2, 3)))
    return logits, torch.stack(descriptors, dim=1)


def directions_of_rotations(descriptors: Tensor, size: int) -> Tensor:
    """Orthonormal directions that keep most of descriptors in four rotations, and how these change by a rotation.

    Parameters
    ----------
    descriptors : (N, 4, D)
        Of N places, as `four_looks` gives them.
    size : int
        How many numbers are kept, a multiple of 4.

    Returns
    -------
    directions : (4 D, size)
        Descriptors (N, 4 D) times these are `size` numbers in four parts. Where those of one rotation are moved to the
        place of those before, so are the parts.

    Raises
    ------
    InvalidInputError
        If `size` is no multiple of 4, or greater than D.

    Notes
    -----
    By a discrete Fourier transform over the rotations, a quarter turn multiplies the components by 1, i, -1 and -i. The
    principal directions of each of them, transformed back, are the only ones that keep the order of the parts.
    """
    columns = descriptors.shape[2]
    if size % TURNS or not 0 < size <= columns:
        raise InvalidInputError(f"size is {size}, but must be a multiple of {TURNS}, and at most {columns}")
    part = size // TURNS
    values = torch.fft.fft(descriptors.double(), dim=1, norm="ortho")  # (N, 4, D), complex
    kept: list[Tensor] = []
    for m in range(TURNS):
        if m == 3:  # that of real numbers is the conjugate of the first
            kept.append(kept[1].conj())
            continue
        one = values[:, m] if m == 1 else values[:, m].real.to(values.dtype)
        _, directions = torch.linalg.eigh(one.mH @ one)
        kept.append(directions.flip(1)[:, :part])
    unit = torch.eye(TURNS * columns, dtype=torch.float64).view(-1, TURNS, columns)
    components = torch.fft.fft(unit, dim=1, norm="ortho")
    projected = torch.stack([components[:, m] @ kept[m] for m in range(TURNS)], dim=1)
    back: Tensor = torch.fft.ifft(projected, dim=1, norm="ortho")
    return back.real.flatten(1).float()


def learn_rotations(
    start: MDNet,
    teacher: MDNet,
    photographs: Photographs,
    *,
    minutes: float,
    crop: int = 256,
    batch: int = 8,
    learning_rate: float = 1.5e-3,
    seed: int = 0,
    decay: float = 0.998,
    log: Callable[[str], None] | None = None,
    keep: Callable[[MDNet, int], None] | None = None,
    keep_minutes: float = 3.0,
) -> tuple[MDNet, int]:
    """Train a network to know the descriptors of the rotated image, and the mean of the heatmaps.

    Parameters
    ----------
    start : MDNet
        What to begin with; its batch normalisation stays as it is.
    teacher : MDNet
        The same network, whose descriptors say how the image is rotated; or a larger one.
    photographs : Photographs
    minutes : float
        How long; the learning rate falls to nearly 0 by a cosine.
    crop : int
        Edge of the crops in pixels, a multiple of 32.
    batch : int
        Crops a step, of which about one is new.
    learning_rate : float
        Of AdamW.
    seed : int
        Of the crops.
    decay : float
        Of the moving average of the weights, which is the result.
    log, keep : callable, optional
        As for `distil`.
    keep_minutes : float

    Returns
    -------
    network : MDNet
        The moving average, in evaluation mode; its `config.rotations` is 4.
    steps : int

    Raises
    ------
    InvalidInputError
        If the teacher knows the rotated image already, both have descriptors of other sizes, or of no multiple of 4.
    TrainingError
        If the loss is not finite any more.
    """
    if teacher.config.rotations > 1:
        raise InvalidInputError("the teacher knows the descriptors of the rotated image already; give an upright one")
    check_sizes(start, teacher)
    rng = np.random.default_rng(seed)
    heads = [k for k in start.config.sets if k in teacher.config.sets]
    few, many = ([k for k in heads if (k > FEW) == more] for more in (False, True))
    wise = average_of(teacher).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # faster on CPUs
    network = average_of(start).requires_grad_()

    some = [crop_of(photographs.pixels(int(i)), crop, rng) for i in rng.integers(len(photographs), size=_SAMPLED)]
    looks = torch.cat([_sampled(four_looks(wise, _as_images(one[None]), few or many[:1])[1]) for one in some])
    directions = directions_of_rotations(looks, start.config.descriptor_size)
    wanted = F.normalize(looks.flatten(1) @ directions, dim=1)
    # The teacher's descriptors of the image as it is, from those that are learned.
    upright = torch.linalg.lstsq(wanted, looks[:, 0]).solution
    take_space(network, teacher, teacher.basis @ upright.T, TURNS)

    def lesson(crops: NDArray[np.float32]) -> MeanOfViews:
        logits, descriptors = four_looks(wise, _as_images(crops), few)
        together = torch.einsum("bchw,cd->bdhw", descriptors.flatten(1, 2), directions)
        return MeanOfViews(logits.half(), F.normalize(together, dim=1).half())

    batches = lessons(lesson, photographs, crop, batch, rng, new=max(1, batch // 8), most=512 * batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0, fused=True)

    def of_step(step: int, done: float) -> tuple[Tensor, dict[str, Tensor]]:
        images, mean, plain = next(batches)
        heads, described = outputs(network, images, few)
        parts = distillation_loss(heads, described, mean)
        loss = weighed(parts)
        if many:
            some = slice(None, max(1, batch // 4))
            with torch.no_grad():
                stays = MeanOfViews(*outputs(wise, plain[some], many))
            found = distillation_loss(outputs(network, images[some], many)[0], stays.descriptors, stays)
            loss = loss + _MANY * weighed(found)
            parts["of many"] = found["heights"]
        return loss, parts

    return train_for(
        minutes, network, optimiser, of_step, schedule=lambda done: max(0.5 * (1 + np.cos(np.pi * done)), 0.02),
        clip=5.0, decay=decay, log=log, keep=keep, keep_minutes=keep_minutes,
    )  # fmt: skip


def _as_images(crops: NDArray[np.float32]) -> Tensor:
    """Crops (B, S, S) as (B, 1, S, S)."""
    return torch.from_numpy(np.ascontiguousarray(crops))[:, None]


def _sampled(descriptors: Tensor) -> Tensor:
    """Some places (N, 4, D) of maps (B, 4, D, h, w), none near the edge."""
    inner = descriptors[..., 4:-4:4, 4:-4:4]
    return inner.permute(0, 3, 4, 1, 2).flatten(0, 2)
