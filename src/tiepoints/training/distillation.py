"""A network learns from its mean over many views of each image: rotated, mirrored, larger, smaller and moved.

What a network says of a place depends a little on how the image is rotated, mirrored and sampled, though what is to be
found does not. The mean of its heatmaps and descriptors over such views is therefore better than each of them. Here the
network learns to predict that mean from the image as it is, so that it costs nothing when it is used (the distillation
of an ensemble into one network: Hinton, Vinyals and Dean 2015, arXiv 1503.02531).

Half of the views differ little from the image: by a rotation of some degrees, a change of scale, a part of a cell of
the network. The others are mirrored or rotated by quarter turns besides. Only heatmaps of heads of one or two sets are
averaged over these, too: descriptors say how the image is rotated, and so does which set of many a place belongs to.

All constants are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..errors import InvalidInputError
from ..images import to_grey
from .average import average_of
from .light import relit
from .network import CELL, MDNet
from .photographs import Photographs
from .timed import train_for

__all__ = [
    "DESCRIPTORS", "FEW", "MeanOfViews", "check_sizes", "crop_of", "distil", "distillation_loss", "lessons",
    "mean_of_views", "outputs", "take_space", "weighed", "weight_of",
]  # fmt: skip

_SMALLEST = 0.35  # of the photograph: crops are seen at this to its whole size
_BORDER = 12  # pixels of an image's edge where the heatmap depends most on what is not in it
_VIEWS = 4  # of each kind, besides the image as it is
_DEGREES, _MOST_DEGREES = 12.0, 30.0  # standard deviation of a view's rotation, and its limit
_SCALE = 0.35  # largest logarithm of a view's scale
_SLOPES = 4.0  # weight beside the heights' 1
_LEAST, _OFFSET = 0.05, 2.0  # of the weight of a pixel, and of the logit by which it grows
_SEVERAL = 64  # crops that are there before the first step

#: Weight of 1 less the descriptors' cosine, beside the heights' 1.
DESCRIPTORS = 10.0
#: Sets: of heads with more, nothing is averaged over quarter turns and mirror images.
FEW = 2

Float32 = NDArray[np.float32]


class MeanOfViews(NamedTuple):
    """What a teacher says of images in the mean over their views.

    Parameters
    ----------
    logits : (B, K, H, W)
        Of all heads that student and teacher have.
    descriptors : (B, D, H / 4, W / 4)
        Of unit length.
    """

    logits: Tensor
    descriptors: Tensor


class _View(NamedTuple):
    """How an image is seen.

    Parameters
    ----------
    matrix : (2, 3)
        From pixels of the image to those of the view.
    turned : bool
        By quarter turns, or mirrored.
    """

    matrix: NDArray[np.float64]
    turned: bool


def mean_of_views(network: MDNet, images: Float32, heads: list[int], rng: np.random.Generator) -> MeanOfViews:
    """What a network says of square grey images (B, S, S) in the mean over views that are drawn for each of them."""
    turned = any(k <= FEW for k in heads)
    means = [_mean_of_one(network, image, heads, _views(len(image), rng, turned)) for image in images]
    return MeanOfViews(*(torch.from_numpy(np.stack(part)) for part in zip(*means, strict=True)))


def _views(edge: int, rng: np.random.Generator, turned: bool) -> list[_View]:
    """The image as it is, and others."""
    centre = (edge - 1) / 2
    views = [_View(np.eye(2, 3), turned=False)]
    for number in range(2 * _VIEWS if turned else _VIEWS):
        angle = np.deg2rad(np.clip(rng.normal(0, _DEGREES), -_MOST_DEGREES, _MOST_DEGREES))
        cosine, sine = np.cos(angle), np.sin(angle)
        linear = np.exp(rng.uniform(-_SCALE, _SCALE)) * np.array([[cosine, -sine], [sine, cosine]])
        if other := number >= _VIEWS:
            which = rng.integers(1, 8)  # of the square's eight symmetries all but the first, which changes nothing
            linear = linear @ np.linalg.matrix_power([[0, -1], [1, 0]], which % 4) @ np.diag([1 - 2 * (which // 4), 1])
        move = centre - linear @ (centre, centre) + rng.uniform(0, CELL, 2)
        views.append(_View(np.column_stack([linear, move]), turned=other))
    return views


def _mean_of_one(network: MDNet, image: Float32, heads: list[int], views: list[_View]) -> tuple[Float32, Float32]:
    """Logits (K, S, S) and unit descriptors (D, S / 4, S / 4) in the mean over views of an image (S, S)."""
    seen = np.stack([_warped(image, view.matrix, len(image)) for view in views])[:, None]
    with torch.no_grad():
        says_all = outputs(network, torch.from_numpy(seen).contiguous(memory_format=torch.channels_last), heads)
    logits, described = (values.numpy() for values in says_all)
    few = np.array([k <= FEW for k in heads for _ in range(k)])
    total, weight = np.zeros_like(logits[0]), np.zeros((len(few), 1, 1), np.float32)
    descriptors = np.zeros_like(described[0])
    for view, says, describes in zip(views, logits, described, strict=True):
        rows = few if view.turned else np.full(len(few), True)
        inside = _inside(view.matrix, len(image), _BORDER)
        total[rows] += _unwarped(says[rows], view.matrix) * inside
        weight = weight + np.where(rows[:, None, None], inside, np.float32(0))
        if not view.turned:
            coarse = view.matrix.copy()  # pixel i of the descriptor map is the centre of four of the image's
            first = np.full(2, (CELL - 1) / 2)
            coarse[:, 2] = (coarse[:, :2] @ first + coarse[:, 2] - first) / CELL
            inside = _inside(coarse, describes.shape[1], _BORDER / CELL)
            descriptors += _unwarped(describes, coarse) * inside
    # Where no view says anything, at the edges, the loss does not look.
    return total / np.maximum(weight, 1), descriptors / np.maximum(np.linalg.norm(descriptors, axis=0), 1e-6)


def _warped(image: Float32, matrix: NDArray[np.float64], edge: int) -> Float32:
    """A view (edge, edge) of an image."""
    shrunk = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if shrunk < 1:
        sigma = max(0.5 * float(np.sqrt(shrunk**-2 - 1)), 0.1)
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)
    view = cv2.warpAffine(image, matrix, (edge, edge), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(view, np.float32)


def _unwarped(maps: Float32, matrix: NDArray[np.float64]) -> Float32:
    """Maps (C, h, w) of a view, in the image's frame."""
    height, width = maps.shape[1:]
    parts = []
    for start in range(0, len(maps), 4):  # as many channels as OpenCV takes
        part = np.ascontiguousarray(maps[start : start + 4].transpose(1, 2, 0))
        back = cv2.warpAffine(
            part, matrix, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        )
        parts.append(back.reshape(height, width, -1))
    return np.ascontiguousarray(np.concatenate(parts, axis=2).transpose(2, 0, 1), np.float32)


def _inside(matrix: NDArray[np.float64], edge: int, border: float) -> Float32:
    """1 where a pixel of the image is in the view, and not near its edge, else 0: (edge, edge)."""
    x, y = np.meshgrid(np.arange(edge), np.arange(edge))
    places = np.stack([x, y, np.ones_like(x)], axis=-1) @ matrix.T
    within = ((places >= border) & (places <= edge - 1 - border)).all(axis=-1)
    return np.asarray(within, np.float32)


def weight_of(logits: Tensor) -> Tensor:
    """How much pixels count: by how high the heatmaps with these logits are."""
    return _LEAST + torch.sigmoid(logits + _OFFSET)


def distillation_loss(logits: Tensor, descriptors: Tensor | None, mean: MeanOfViews) -> dict[str, Tensor]:
    """How far a network's logits and descriptors are from a mean.

    Parameters
    ----------
    logits, descriptors
        As in `MeanOfViews`; of the images as they are. Without descriptors nothing is said of them.
    mean : MeanOfViews

    Returns
    -------
    parts : dict
        heights, the squared differences of the logits, and slopes, those of their differences between neighbouring
        pixels, both weighted by how high the mean's heatmap is; descriptors, 1 less the cosine.
    """
    inner, coarse = slice(_BORDER, -_BORDER), slice(_BORDER // CELL, -_BORDER // CELL)
    found, wanted = logits[:, :, inner, inner], mean.logits[:, :, inner, inner]
    weight = weight_of(wanted)
    slopes = torch.zeros(())
    for axis in (2, 3):
        steps, wanted_steps = found.diff(dim=axis), wanted.diff(dim=axis)
        slopes = slopes + _mean((steps - wanted_steps) ** 2, weight.narrow(axis, 1, steps.shape[axis]))
    parts = {"heights": _mean((found - wanted) ** 2, weight), "slopes": slopes}
    if descriptors is not None:
        parts["descriptors"] = (1 - (descriptors * mean.descriptors).sum(dim=1)[:, coarse, coarse]).mean()
    return parts


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
    """Train a network on the mean of a teacher over many views.

    Unless only heads learn, its descriptors become the teacher's, also in what they know of the rotated image, and in
    what makes those of the teacher's own teacher of them.

    Parameters
    ----------
    start : MDNet
        What to begin with; its batch normalisation stays as it is.
    teacher : MDNet
        The same network, or another with descriptors of the same size.
    photographs : Photographs
    minutes : float
        How long; the learning rate falls to nearly 0 by a cosine.
    crop : int
        Edge of the crops in pixels, a multiple of 32.
    batch : int
        Crops a step. Each is used about four times, in other light.
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
    InvalidInputError
        If both have descriptors of other sizes.
    TrainingError
        If the loss is not finite any more.
    """
    check_sizes(start, teacher)
    heads = [k for k in start.config.sets if k in teacher.config.sets and (k > FEW or not heads_of_many)]
    network = average_of(start)
    if heads_of_many:
        for k in heads:
            network.detect[str(k)].load_state_dict(teacher.detect[str(k)].state_dict())
    else:
        take_space(network, teacher, teacher.basis, teacher.config.rotations)
    learning = [network.detect[str(k)] for k in heads] if heads_of_many else [network]
    parameters = [parameter for module in learning for parameter in module.requires_grad_().parameters()]
    wise = average_of(teacher).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # faster on CPUs
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0, fused=True)
    rng = np.random.default_rng(seed)
    batches = lessons(
        lambda crops: mean_of_views(wise, crops, heads, rng), photographs, crop, batch, rng,
        new=max(1, batch // 4), most=32 * batch,
    )  # fmt: skip

    def of_step(step: int, done: float) -> tuple[Tensor, dict[str, Tensor]]:
        images, mean, _ = next(batches)
        parts = distillation_loss(*outputs(network, images, heads), mean)
        return weighed(parts), parts

    return train_for(
        minutes, network, optimiser, of_step, schedule=lambda done: max(0.5 * (1 + np.cos(np.pi * done)), 0.02),
        clip=5.0, decay=decay, log=log, keep=keep, keep_minutes=keep_minutes,
    )  # fmt: skip


def check_sizes(network: MDNet, teacher: MDNet) -> None:
    """Refuse a teacher with descriptors of another size."""
    sizes = network.config.descriptor_size, teacher.config.descriptor_size
    if sizes[0] != sizes[1]:
        raise InvalidInputError(f"the network has descriptors of {sizes[0]} numbers, the teacher of {sizes[1]}")


def take_space(network: MDNet, teacher: MDNet, basis: Tensor, rotations: int) -> None:
    """Make a network say that its descriptors are in a teacher's space, by a basis, and what they know of rotations."""
    network.basis = basis.clone()
    network.config = replace(
        network.config, teacher=teacher.config.teacher, teacher_size=teacher.config.teacher_size, rotations=rotations
    )


def weighed(parts: dict[str, Tensor]) -> Tensor:
    """The sum of what `distillation_loss` gives."""
    weights = {"heights": 1.0, "slopes": _SLOPES, "descriptors": DESCRIPTORS}
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum()


def lessons(
    lesson: Callable[[Float32], MeanOfViews],
    photographs: Photographs,
    edge: int,
    size: int,
    rng: np.random.Generator,
    *,
    new: int,
    most: int,
) -> Iterator[tuple[Tensor, MeanOfViews, Tensor]]:
    """Images, what is to be said of them, and the images before their light was changed, for ever.

    They come from a pool of at most `most` crops, of which `new` are new in each batch; `lesson` is what is to be said
    of crops (B, S, S).
    """
    pool: list[tuple[Tensor, MeanOfViews]] = []
    oldest = 0
    while True:
        missing = size if len(pool) < _SEVERAL else new
        numbers = rng.integers(len(photographs), size=missing)
        crops = np.stack([crop_of(photographs.pixels(int(number)), edge, rng) for number in numbers])
        mean = lesson(crops)
        for row in range(missing):
            item = torch.from_numpy(crops[row])[None], MeanOfViews(*(part[row] for part in mean))
            if len(pool) < most:
                pool.append(item)
            else:
                pool[oldest] = item
                oldest = (oldest + 1) % most
        if len(pool) < min(_SEVERAL, most):
            continue
        images, means = zip(*(pool[which] for which in rng.choice(len(pool), size, replace=False)), strict=True)
        lit = [_other_light(image, rng) if rng.random() < 0.5 else image for image in images]
        together = MeanOfViews(*(torch.stack(list(part)).float() for part in zip(*means, strict=True)))
        changed, plain = (torch.stack(list(one)).contiguous(memory_format=torch.channels_last) for one in (lit, images))
        yield changed, together, plain


def crop_of(pixels: NDArray[np.generic], edge: int, rng: np.random.Generator) -> Float32:
    """A square of a photograph (3, H, W) at some scale, mirrored or not: grey (edge, edge) in [0, 1]."""
    grey = to_grey(np.asarray(pixels, np.uint8).transpose(1, 2, 0))
    least = max((edge + 1) / min(grey.shape), _SMALLEST)
    scale = float(np.exp(rng.uniform(min(np.log(least), 0), 0))) if least < 1 else least
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (int(rng.integers(length - edge + 1)) for length in small.shape)
    crop = small[top : top + edge, left : left + edge][:, :: -1 if rng.random() < 0.5 else 1]
    return np.ascontiguousarray(crop, np.float32) / np.float32(255)


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


def outputs(network: MDNet, images: Tensor, heads: list[int]) -> tuple[Tensor, Tensor]:
    """Logits of these heads (B, K, H, W) and unit descriptors, computed with 16 bits where that is faster."""
    with torch.autocast(images.device.type, torch.bfloat16):
        z, described = network.trunk(images)
        logits = [F.pixel_shuffle(network.cells(z, k), 2) for k in heads]
    return torch.cat(logits, dim=1).float(), F.normalize(described.float(), dim=1)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (weight * values).sum() / weight.sum()
