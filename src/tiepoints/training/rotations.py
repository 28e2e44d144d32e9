"""A network learns to know the descriptors of the rotated image from the image as it is.

A network's descriptors say how the image is rotated, so that those of a photograph and of the rotated photograph are
not alike. What it says of a place in all four rotations by quarter turns, 4 D numbers, does not: a quarter turn only
moves each D of them to the place of those before. Here these are brought to D numbers in four parts of which the same
is true, and the network learns to predict them from one look. `Features.rotated` and matchers then do the rest: the
descriptors are those of a steerable representation of the group of quarter turns (as in Bökman, Edstedt, Felsberg and
Kahl, Steerers: A framework for rotation equivariant keypoint descriptors, CVPR 2024, arXiv 2312.02152; there the
network is trained with rotated pairs, here it learns from itself). Its heatmaps become those of the mean of four looks
and their mirror images.

Half of the crops are seen warped and in other light (`views`), where the network has to say the same of the same
places. Places count by the heatmaps' height, as descriptors are taken at keypoints.

All constants are ours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InvalidInputError
from .average import average_of
from .distillation import (
    DESCRIPTORS,
    FEW,
    MeanOfViews,
    check_sizes,
    crop_of,
    distillation_loss,
    lessons,
    outputs,
    take_space,
    weighed,
    weight_of,
)
from .network import CELL, MDNet
from .photographs import Photographs
from .timed import train_for
from .views import seen_from_elsewhere

__all__ = [
    "TURNS", "begin_with", "descriptors_loss", "directions_of_rotations", "four_looks", "importance",
    "learn_rotations", "ranking_loss", "turning_into",
]  # fmt: skip

TURNS = 4
_SAMPLED = 160  # crops from which the directions, and what makes the teacher's descriptors, are computed
_MANY = 0.5  # weight of heads of many sets, which learn to stay as they are, on a quarter of the crops
_RANKING = 1.5  # weight of what tells a place from others, beside `DESCRIPTORS`
_PLACES, _TEMPERATURE, _NEAR = 256, 0.07, 2  # of an image; of the similarities; cells
_BORDER = 3  # cells of an image's edge, which depend most on what is not in it


def four_looks(network: MDNet, images: Tensor, heads: list[int], *, mirrored: bool = False) -> tuple[Tensor, Tensor]:
    """What a network says of square images (B, 1, S, S) in all four rotations, in the frame of the image as it is.

    Parameters
    ----------
    network : MDNet
    images : (B, 1, S, S)
    heads : list of int
        Numbers of sets.
    mirrored : bool
        Look at the mirror image in all rotations, too, for the logits.

    Returns
    -------
    logits : (B, K, S, S)
        The mean of the heads that are named.
    descriptors : (B, 4, D, S / 4, S / 4)
        Of unit length: of the image as it is, and rotated counter-clockwise by one to three quarter turns.
    """
    whole = [images, images.flip(3)] if mirrored else [images]
    seen = torch.cat([torch.rot90(each, turns, (2, 3)) for each in whole for turns in range(TURNS)])
    with torch.no_grad():
        says, describes = outputs(network, seen.contiguous(memory_format=torch.channels_last), heads)
    logits = torch.zeros(())
    for number, part in enumerate(torch.split(says, len(images))):
        back = torch.rot90(part, -(number % TURNS), (2, 3))
        logits = logits + (back.flip(3) if number >= TURNS else back) / (TURNS * len(whole))
    looks = torch.split(describes, len(images))[:TURNS]
    return logits, torch.stack([torch.rot90(part, -turns, (2, 3)) for turns, part in enumerate(looks)], dim=1)


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
    return _of_components(kept)


def turning_into(descriptors: Tensor, others: Tensor) -> Tensor:
    """How descriptors in four parts are rotated into others, which stand for the same places, as well as can be.

    Parameters
    ----------
    descriptors, others : (N, D)
        Of unit length; what they say of the rotated image is what they say, with the parts moved.

    Returns
    -------
    turning : (D, D)
        Orthonormal, so that it changes no similarity; parts of descriptors that are moved are moved afterwards, too.
        Descriptors times this have the least squared distance to the others (the orthogonal Procrustes problem,
        Schönemann 1966, in each component of the Fourier transform over the parts).
    """
    one, other = (torch.fft.fft(each.double().view(len(each), TURNS, -1), dim=1) for each in (descriptors, others))
    kept: list[Tensor] = []
    for m in range(TURNS):
        if m == 3:  # as above
            kept.append(kept[1].conj())
            continue
        together = one[:, m].mH @ other[:, m]
        u, _, v = torch.linalg.svd(together if m == 1 else together.real)
        kept.append((u @ v).to(one.dtype))
    return _of_components(kept)


def _of_components(kept: list[Tensor]) -> Tensor:
    """A real matrix (4 A, 4 B) from what it does to each component of the Fourier transform over four parts, (A, B)."""
    columns = len(kept[0])
    unit = torch.eye(TURNS * columns, dtype=torch.float64).view(-1, TURNS, columns)
    components = torch.fft.fft(unit, dim=1, norm="ortho")
    projected = torch.stack([components[:, m] @ kept[m] for m in range(TURNS)], dim=1)
    back: Tensor = torch.fft.ifft(projected, dim=1, norm="ortho")
    return back.real.flatten(1).float()


def importance(logits: Tensor) -> Tensor:
    """How much each cell's descriptor (B, S / 4, S / 4) counts: by the highest pixel of the heatmaps (B, K, S, S)."""
    return F.max_pool2d(weight_of(logits).amax(dim=1, keepdim=True), CELL)[:, 0]


def descriptors_loss(descriptors: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """1 less the cosine of unit descriptors (B, D, h, w) and those that are wanted, in the weighted mean (B, h, w)."""
    return ((1 - (descriptors * wanted).sum(dim=1)) * weights).sum() / weights.sum()


def ranking_loss(descriptors: Tensor, wanted: Tensor, weights: Tensor, luck: Tensor) -> Tensor:
    """How hard it is to tell which of the wanted descriptors of an image is a place's own.

    The cross-entropy of the softmax over the similarities with those of up to 256 places of the image, none of the
    others nearer than two cells, and of that over the places: the mean of both. The temperature is .07.

    Parameters
    ----------
    descriptors, wanted : (B, D, h, w)
        Of unit length.
    weights : (B, h, w)
        Places are drawn by weight times luck, none where it is 0.
    luck : (B, h, w)
        In [0, 1).
    """
    columns = weights.shape[2]
    chance = (weights * luck).flatten(1)
    found, at = chance.topk(min(_PLACES, chance.shape[1]), dim=1)  # (B, N)
    counted = found > 0
    one, other = (
        maps.flatten(2).gather(2, at[:, None].expand(-1, maps.shape[1], -1)) for maps in (descriptors, wanted)
    )
    similar = torch.einsum("bdi,bdj->bij", one, other) / _TEMPERATURE
    far = torch.zeros_like(similar, dtype=torch.bool)
    for axis in (at % columns, at // columns):
        far |= (axis[:, :, None] - axis[:, None]).abs() >= _NEAR
    itself = torch.eye(at.shape[1], dtype=torch.bool, device=at.device)
    rivals = (far | itself) & counted[:, :, None] & counted[:, None]
    similar = similar.masked_fill(~rivals, -1e4)
    own = similar.diagonal(dim1=1, dim2=2)
    loss = (similar.logsumexp(dim=1) + similar.logsumexp(dim=2)) / 2 - own
    return (loss * counted).sum() / counted.sum().clamp(min=1)


def begin_with(network: MDNet, mixing: Tensor) -> None:
    """Make a network say its descriptors times `mixing` (D, D), to begin with what is most like those to be learned.

    Its batch normalisation becomes one that changes nothing.
    """
    convolution, normalisation = network.describe
    assert isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d)
    mean, variance = normalisation.running_mean, normalisation.running_var
    assert mean is not None and variance is not None
    with torch.no_grad():
        scale = normalisation.weight * torch.rsqrt(variance + normalisation.eps)
        offset = normalisation.bias - mean * scale
        weight = convolution.weight * scale[:, None, None, None]
        convolution.weight.copy_(torch.einsum("oihw,od->dihw", weight, mixing))
        normalisation.bias.copy_(offset @ mixing)
        normalisation.weight.fill_(1)
        mean.zero_()
        variance.fill_(1 - normalisation.eps)


def learn_rotations(
    start: MDNet,
    teacher: MDNet,
    photographs: Photographs,
    *,
    minutes: float,
    space: MDNet | None = None,
    crop: int = 256,
    batch: int = 16,
    learning_rate: float = 1.2e-3,
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
    space : MDNet, optional
        A network that knows the rotated image, with whose descriptors those that are learned shall match. By default
        the one to begin with, if it does.
    crop : int
        Edge of the crops in pixels, a multiple of 32.
    batch : int
        Crops a step, of which an eighth is new.
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
        If the teacher knows the rotated image already, or the network that gives the space does not; if descriptors are
        of different sizes, or of no multiple of 4; if there is no head of one or two sets in common.
    TrainingError
        If the loss is not finite any more.
    """
    if teacher.config.rotations > 1:
        raise InvalidInputError("the teacher knows the descriptors of the rotated image already; give an upright one")
    check_sizes(start, teacher)
    if space is not None:
        check_sizes(space, teacher)
        if space.config.rotations == 1:
            raise InvalidInputError("the network that gives the space does not know the rotated image")
    rng = np.random.default_rng(seed)
    heads = [k for k in start.config.sets if k in teacher.config.sets]
    few, many = ([k for k in heads if (k > FEW) == more] for more in (False, True))
    if not few:
        raise InvalidInputError(f"the network and the teacher have no head of at most {FEW} sets in common")
    wise = average_of(teacher).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # faster on CPUs
    network = average_of(start).requires_grad_()

    some = [crop_of(photographs.pixels(int(i)), crop, rng) for i in rng.integers(len(photographs), size=_SAMPLED)]
    samples = [_as_images(one[None]) for one in some]
    looks, counts = (torch.cat(part) for part in zip(*(_looks_at(wise, one, few) for one in samples), strict=True))
    before = torch.cat([_described(network, one, few) for one in samples])
    if space is None and start.config.rotations == TURNS:
        space = start
    directions = directions_of_rotations(looks * counts[:, None, None], start.config.descriptor_size)
    wanted = F.normalize(looks.flatten(1) @ directions, dim=1)
    if space is not None:
        there = before if space is start else torch.cat([_described(space, one, few) for one in samples])
        turning = turning_into(wanted * counts[:, None], there * counts[:, None])
        directions, wanted = directions @ turning, wanted @ turning
    counted = wanted * counts[:, None]
    # The teacher's descriptors of the image as it is, from those that are learned.
    upright = torch.linalg.lstsq(counted, looks[:, 0] * counts[:, None]).solution
    take_space(network, teacher, teacher.basis @ upright.T, TURNS)
    begin_with(network, torch.linalg.lstsq(before * counts[:, None], counted).solution)

    def lesson(crops: NDArray[np.float32]) -> MeanOfViews:
        logits, descriptors = four_looks(wise, _as_images(crops), few, mirrored=True)
        together = torch.einsum("bchw,cd->bdhw", descriptors.flatten(1, 2), directions)
        return MeanOfViews(logits.half(), F.normalize(together, dim=1).half())

    batches = lessons(lesson, photographs, crop, batch, rng, new=max(1, batch // 8), most=128 * batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0, fused=True)
    # Half of the crops are seen as they are, the others from elsewhere; heatmaps are learned from the former.
    half = (batch + 1) // 2

    def of_step(step: int, done: float) -> tuple[Tensor, dict[str, Tensor]]:
        images, mean, plain = next(batches)
        weights = importance(mean.logits)
        seen = seen_from_elsewhere(plain[half:], mean.descriptors[half:], weights[half:], rng)
        together = torch.cat([images[:half], seen.images]).contiguous(memory_format=torch.channels_last)
        says, described = outputs(network, together, few)
        wanted = torch.cat([mean.descriptors[:half], F.normalize(seen.maps, dim=1)])
        counts = torch.cat([weights[:half], seen.weights])
        for axis in (1, 2):
            for edge in (0, counts.shape[axis] - _BORDER):
                counts.narrow(axis, edge, _BORDER).zero_()
        luck = torch.from_numpy(rng.random(tuple(counts.shape), np.float32))
        parts = {
            "descriptors": descriptors_loss(described, wanted, counts),
            "ranking": ranking_loss(described, wanted, counts, luck),
        }
        loss = DESCRIPTORS * parts["descriptors"] + _RANKING * parts["ranking"]
        of_heatmaps = distillation_loss(says[:half], None, MeanOfViews(mean.logits[:half], mean.descriptors[:half]))
        parts["heights"] = of_heatmaps["heights"]
        loss = loss + weighed(of_heatmaps)
        if many:
            some = slice(None, max(1, batch // 5))
            with torch.no_grad():
                stays = MeanOfViews(*outputs(wise, plain[some], many))
            found = distillation_loss(outputs(network, images[some], many)[0], None, stays)
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


_INNER = slice(4, -4, 4)  # cells along an edge that are sampled, none near the end


def _looks_at(teacher: MDNet, image: Tensor, heads: list[int]) -> tuple[Tensor, Tensor]:
    """At some places of an image (1, 1, S, S), what a teacher says in four rotations (N, 4, D), and the square roots of
    how much they count (N,).
    """
    logits, looks = four_looks(teacher, image, heads)
    counts = importance(logits)[0, _INNER, _INNER].flatten().sqrt()
    return looks[0, :, :, _INNER, _INNER].permute(2, 3, 0, 1).flatten(0, 1), counts


def _described(network: MDNet, image: Tensor, heads: list[int]) -> Tensor:
    """What a network says of the same places (N, D)."""
    with torch.no_grad():
        says = outputs(network, image, heads)[1]
    return says[0, :, _INNER, _INNER].permute(1, 2, 0).flatten(0, 1)
