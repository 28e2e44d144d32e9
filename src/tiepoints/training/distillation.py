"""A network learns from the mean over eight views of each image: rotated by quarter turns, and mirrored.

What a network says of a place depends a little on how the image is rotated and mirrored, though what is to be found
does not. The mean of its heatmaps over the eight views is therefore better than each of them. Here the network learns
to predict that mean from the image as it is, so that it costs nothing when it is used (the distillation of an ensemble
into one network: Hinton, Vinyals and Dean 2015, arXiv 1503.02531). Descriptors stay as they are: of the image as it is.
So do the heatmaps of heads of more than two sets: which set of many a place belongs to depends on how the image is
rotated, so that their mean is none of them.

All constants are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..images import to_grey
from .average import average_of
from .light import relit
from .network import MDNet
from .photographs import Photographs
from .timed import train_for

__all__ = ["MeanOfViews", "distil", "distillation_loss", "mean_of_views"]

_SMALLEST = 0.35  # of the photograph: crops are seen at this to its whole size
_BORDER = 12  # pixels of a crop whose heatmap depends most on what is not in it
_SLOPES, _DESCRIPTORS = 4.0, 10.0  # weights beside the heights' 1
_LEAST, _OFFSET = 0.05, 2.0  # of the weight of a pixel, and of the logit by which it grows
_SEVERAL = 64  # crops that are there before the first step
_FEW = 2  # sets: of heads with more, nothing is averaged


class MeanOfViews(NamedTuple):
    """What a teacher says of images.

    Parameters
    ----------
    logits, mirrored_logits : (B, K, H, W)
        Of all heads that student and teacher have, for the images and for their mirror images: the mean over the views
        of heads of one or two sets, of the others the heatmaps themselves.
    descriptors, mirrored : (B, D, H / 4, W / 4)
        Of unit length: of the images, and of their mirror images.
    """

    logits: Tensor
    mirrored_logits: Tensor
    descriptors: Tensor
    mirrored: Tensor

    def of_mirror_images(self) -> MeanOfViews:
        """What is said of the mirror images."""
        return MeanOfViews(self.mirrored_logits, self.logits, self.mirrored, self.descriptors)


def mean_of_views(network: MDNet, images: Tensor, heads: list[int]) -> MeanOfViews:
    """What a network says of square images (B, 1, S, S) in the mean over their eight views."""
    averaged = torch.tensor([k <= _FEW for k in heads for _ in range(k)])[:, None, None]
    total, own, described = torch.zeros(()), [], []
    with torch.no_grad():
        for mirrored in (False, True):
            seen = images.flip(3) if mirrored else images
            for turns in range(4 if averaged.any() else 1):
                view = torch.rot90(seen, turns, (2, 3)).contiguous(memory_format=torch.channels_last)
                logits, descriptors = _outputs(network, view, heads)
                if turns == 0:
                    own.append(logits)
                    described.append(descriptors)
                upright = torch.rot90(logits, -turns, (2, 3))
                total = total + (upright.flip(3) if mirrored else upright)
    mean = total / 8
    plain, mirror = (torch.where(averaged, m, o) for m, o in zip((mean, mean.flip(3)), own, strict=True))
    return MeanOfViews(plain, mirror, *described)


def distillation_loss(logits: Tensor, descriptors: Tensor, mean: MeanOfViews) -> dict[str, Tensor]:
    """How far a network's logits and descriptors are from a mean.

    Parameters
    ----------
    logits, descriptors
        As in `MeanOfViews`; of the images as they are.
    mean : MeanOfViews

    Returns
    -------
    parts : dict
        heights, the squared differences of the logits, and slopes, those of their differences between neighbouring
        pixels, both weighted by how high the mean's heatmap is; descriptors, 1 less the cosine.
    """
    inner = slice(_BORDER, -_BORDER)
    found, wanted = logits[:, :, inner, inner], mean.logits[:, :, inner, inner]
    weight = _LEAST + torch.sigmoid(wanted + _OFFSET)
    slopes = torch.zeros(())
    for axis in (2, 3):
        steps, wanted_steps = found.diff(dim=axis), wanted.diff(dim=axis)
        slopes = slopes + _mean((steps - wanted_steps) ** 2, weight.narrow(axis, 1, steps.shape[axis]))
    return {
        "heights": _mean((found - wanted) ** 2, weight),
        "slopes": slopes,
        "descriptors": (1 - (descriptors * mean.descriptors).sum(dim=1)).mean(),
    }


def distil(
    start: MDNet,
    teacher: MDNet,
    photographs: Photographs,
    *,
    minutes: float,
    crop: int = 192,
    batch: int = 8,
    learning_rate: float = 5e-4,
    seed: int = 0,
    decay: float = 0.995,
    heads_of_many: bool = False,
    log: Callable[[str], None] | None = None,
    keep: Callable[[MDNet, int], None] | None = None,
    keep_minutes: float = 3.0,
) -> tuple[MDNet, int]:
    """Train a network on the mean of a teacher over eight views.

    Parameters
    ----------
    start : MDNet
        What to begin with; its batch normalisation stays as it is.
    teacher : MDNet
        The same network, or a larger one whose descriptors are in the same space.
    photographs : Photographs
    minutes : float
        How long; the learning rate falls to nearly 0 by a cosine.
    crop : int
        Edge of the crops in pixels, a multiple of 32.
    batch : int
        Crops a step. Each is used about four times: as it is or mirrored, in other light.
    learning_rate : float
        Of AdamW.
    seed : int
        Of the crops.
    decay : float
        Of the moving average of the weights, which is the result.
    heads_of_many : bool
        Only heads of more than two sets learn, beginning as the teacher's, to say on the trunk as it is what the
        teacher's say on its own: after a training that took no account of them.
    log : callable, optional
        Called with a line of figures now and then.
    keep : callable, optional
        Called with the network so far and the number of steps, every `keep_minutes`.
    keep_minutes : float

    Returns
    -------
    network : MDNet
        The moving average, in evaluation mode.
    steps : int

    Raises
    ------
    TrainingError
        If the loss is not finite any more.
    """
    heads = [k for k in start.config.sets if k in teacher.config.sets and (k > _FEW or not heads_of_many)]
    network = average_of(start)
    if heads_of_many:
        for k in heads:
            network.detect[str(k)].load_state_dict(teacher.detect[str(k)].state_dict())
    learning = [network.detect[str(k)] for k in heads] if heads_of_many else [network]
    parameters = [parameter for module in learning for parameter in module.requires_grad_().parameters()]
    wise = average_of(teacher).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # faster on CPUs
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0, fused=True)
    batches = _batches(wise, photographs, heads, crop, batch, np.random.default_rng(seed))

    def of_step(step: int, done: float) -> tuple[Tensor, dict[str, Tensor]]:
        images, mean = next(batches)
        parts = distillation_loss(*_outputs(network, images, heads), mean)
        return parts["heights"] + _SLOPES * parts["slopes"] + _DESCRIPTORS * parts["descriptors"], parts

    return train_for(
        minutes, network, optimiser, of_step, schedule=lambda done: max(0.5 * (1 + np.cos(np.pi * done)), 0.02),
        clip=5.0, decay=decay, log=log, keep=keep, keep_minutes=keep_minutes,
    )  # fmt: skip


def _batches(
    teacher: MDNet, photographs: Photographs, heads: list[int], edge: int, size: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, MeanOfViews]]:
    """Images and what is to be said of them, for ever: from a pool of crops, of which a quarter of a batch is new."""
    pool: list[tuple[Tensor, MeanOfViews]] = []
    most, oldest = 32 * size, 0
    while True:
        new = size if len(pool) < _SEVERAL else max(1, size // 4)
        numbers = rng.integers(len(photographs), size=new)
        crops = torch.stack([_crop(photographs.pixels(int(number)), edge, rng) for number in numbers])
        mean = mean_of_views(teacher, crops, heads)
        for row in range(new):
            item = crops[row], MeanOfViews(*(part[row] for part in mean))
            if len(pool) < most:
                pool.append(item)
            else:
                pool[oldest] = item
                oldest = (oldest + 1) % most
        if len(pool) < min(_SEVERAL, most):
            continue
        images, means = [], []
        for which in rng.choice(len(pool), size, replace=False):
            image, known = pool[which]
            if rng.random() < 0.5:
                image, known = image.flip(2), known.of_mirror_images()
            images.append(_other_light(image, rng) if rng.random() < 0.5 else image)
            means.append(known)
        together = MeanOfViews(*(torch.stack(list(part)) for part in zip(*means, strict=True)))
        yield torch.stack(images).contiguous(memory_format=torch.channels_last), together


def _crop(pixels: NDArray[np.generic], edge: int, rng: np.random.Generator) -> Tensor:
    """A square of a photograph (3, H, W) at some scale: grey (1, edge, edge) in [0, 1]."""
    grey = to_grey(np.asarray(pixels, np.uint8).transpose(1, 2, 0))
    least = max((edge + 1) / min(grey.shape), _SMALLEST)
    scale = float(np.exp(rng.uniform(min(np.log(least), 0), 0))) if least < 1 else least
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (int(rng.integers(length - edge + 1)) for length in small.shape)
    return torch.from_numpy(small[top : top + edge, left : left + edge].astype(np.float32) / 255)[None]


def _other_light(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Gamma, brightness and noise; the mean stays that of the image as it was."""
    gamma, factor = np.exp(rng.uniform(-0.5, 0.5)), rng.uniform(0.6, 1.2)
    noise, deviation = rng.normal(size=tuple(image.shape)).astype(np.float32), rng.uniform(0, 0.02)
    values = {
        "gamma": [gamma],
        "contrast": [[factor, (factor - 1) / 2]],  # about 0 instead of 0.5: brightness
        "noise": [deviation],
    }
    only = torch.zeros(1, dtype=torch.int64)
    lights = {name: (only, torch.tensor(some, dtype=torch.float32)) for name, some in values.items()}
    return relit(image.clone(), lights, lambda rows: torch.from_numpy(noise))


def _outputs(network: MDNet, images: Tensor, heads: list[int]) -> tuple[Tensor, Tensor]:
    """Logits of all heads (B, K, H, W) and unit descriptors, computed with 16 bits where that is faster."""
    with torch.autocast(images.device.type, torch.bfloat16):
        logits, described = network(images)
    return torch.cat([logits[k] for k in heads], dim=1).float(), F.normalize(described.float(), dim=1)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (weight * values).sum() / weight.sum()
