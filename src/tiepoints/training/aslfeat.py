"""ASLFeat, trained on warped photographs.

Luo et al., "ASLFeat: Learning Local Features of Accurate Shape and Localization", CVPR 2020 (arXiv 2003.10071): the
network and the loss, equations 10 and 11: the hardest negative of the batch, each correspondence as much as both score
maps say. The paper trains plain convolutions first and makes the last three deformable then.

Ours: the pairs are of warped photographs, where the paper has those of reconstructions. The plain convolutions, which
have the shapes of HardNet's, begin as those of the HardNet that comes with tiepoints. The deformable ones begin as
plain ones. A teacher may give descriptors and heights of scores, and the maps of both images have to peak at the same
places; these losses are MD-Net's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..extraction.torch.aslfeat import DEFORMABLE, LEVELS, PLAIN, ASLFeat, ModulatedConv
from ..files import write_whole
from . import losses
from .objective import Objective, Uniforms, at_peaks, at_random, choose_anchors
from .pairs import Batch, Pairs
from .patch_models import shipped_hardnet
from .timed import train_for

__all__ = ["aslfeat_loss", "begun", "save_aslfeat", "train_aslfeat"]

_POSITIVE, _NEGATIVE = 0.2, 1.0  # margins (paper)
_EXCLUSION = 12.0  # ours: pixels to the nearest negative of the same image, three of the map of descriptors
_FLAT, _STEP = -3.0, 0.1  # ours: the logit of the least score of a keypoint, and how much higher it is per unit
_MOMENTUM = 0.05  # ours: of the running means of the maps' maxima
_PLAIN = 0.7  # ours: share of the time in which all convolutions are plain
_WEIGHTS = Objective()


def begun() -> ASLFeat:
    """The network as a training begins."""
    network = ASLFeat()
    first = [layer for layer in shipped_hardnet().features if isinstance(layer, nn.Conv2d)]
    for (name, *_), layer in zip(PLAIN, first, strict=False):
        network.convs[name].load_state_dict({"weight": layer.weight})
    for name in DEFORMABLE:
        deformable = network.convs[name]
        assert isinstance(deformable, ModulatedConv)
        for part in (deformable.offset, deformable.amplitude):
            nn.init.zeros_(part.weight)
            assert part.bias is not None
            nn.init.zeros_(part.bias)
    return network


def _deform(network: ASLFeat, always: bool = True) -> None:
    """Let the deformable convolutions be computed as such; if not `always`, those that are no plain ones."""
    for name in DEFORMABLE:
        layer = network.convs[name]
        assert isinstance(layer, ModulatedConv)
        moved = any(bool(value.any()) for part in (layer.offset, layer.amplitude) for value in part.parameters())
        layer.plain = not (always or moved)


def aslfeat_loss(a: Tensor, b: Tensor, scores: Tensor, apart: Tensor, usable: Tensor) -> Tensor:
    """The loss of detection and description (paper, equations 10 and 11).

    Parameters
    ----------
    a, b : (N, D)
        Descriptors of unit length; rows correspond.
    scores : (N,)
        The product of both images' scores there: how much each correspondence counts.
    apart : (N, N) bool
        Whether two of the places are different ones, so that one may be the other's negative.
    usable : (N,)
        1 where there is a correspondence, else 0.
    """
    distances = (2 - 2 * a @ b.T).clamp(min=1e-8).sqrt()
    there = usable > 0
    negative = torch.where(apart & there[:, None] & there, distances, 10.0)
    hardest = torch.minimum(negative.amin(dim=0), negative.amin(dim=1))
    each = F.relu(distances.diagonal() - _POSITIVE) + F.relu(_NEGATIVE - hardest)
    shares = scores * usable
    return (shares * each).sum() / shares.sum().clamp_min(1e-8)


def _sampled(maps: Tensor, at: Tensor, stride: int) -> Tensor:
    """Values (B, N, C) of maps (B, C, h, w), whose pixel i lies at the image's pixel `stride` i, at (B, N, 2)."""
    last = at.new_tensor([maps.shape[-1] - 1, maps.shape[-2] - 1])
    grid = at * (2 / stride) / last - 1
    found = F.grid_sample(maps, grid[:, :, None], padding_mode="border", align_corners=True)
    return found[..., 0].transpose(1, 2)


def _losses(network: ASLFeat, batch: Batch, bfloat16: bool) -> dict[str, Tensor]:
    """All losses of a batch by name, without their weights."""
    images = batch.images.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        score, features = network.maps(images)
    logits = (score - network.threshold) / _STEP + _FLAT
    count, uniforms = len(batch), Uniforms(batch.uniforms)
    at_a, usable = choose_anchors(torch.sigmoid(logits[:count]).detach(), batch, _WEIGHTS.anchors, uniforms)
    places = at_a.float()
    other = batch.b.from_photo(batch.a.to_photo(places))
    a, b = (
        F.normalize(_sampled(maps, at, 4), dim=2).flatten(0, 1)
        for maps, at in zip(features.chunk(2), (places, other), strict=True)
    )
    heights = [
        _sampled(maps, at, 1).flatten() - network.threshold
        for maps, at in zip(score.chunk(2), (places, other), strict=True)
    ]
    number = torch.arange(count).repeat_interleave(places.shape[1])
    near = (torch.cdist(other, other) < _EXCLUSION).flatten(0, 1)  # (B N, N)
    apart = number[:, None] != number
    apart[apart.logical_not()] = near.logical_not().flatten()
    product = heights[0].clamp_min(1e-3) * heights[1].clamp_min(1e-3)
    parts = {"published": aslfeat_loss(a, b, product, apart, usable.flatten())}
    parts |= at_peaks(logits, batch, _WEIGHTS, uniforms)
    if batch.scores is not None:
        parts["floor"] = at_random(torch.sigmoid(logits), batch, uniforms)
    if batch.places is not None:
        at, target, counted = batch.places
        values = F.normalize(_sampled(features, at, 4), dim=2)
        parts["distance"] = losses.distance(values, target, counted)
        parts["ranking"] = losses.ranking(values, target, at, counted)
    return parts


def _watch_largest(network: ASLFeat) -> Callable[[], None]:
    """Let the network keep the running means of its maps' maxima while it is trained; returns what ends that."""
    largest = network.get_buffer("largest")

    def note(row: int) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if module.training:
                found = output.detach().float().amax(dim=(1, 2, 3)).mean()
                largest[row] = torch.lerp(largest[row], found, _MOMENTUM)

        return hook

    hooks = [network.convs[name].register_forward_hook(note(row)) for row, (name, *_) in enumerate(LEVELS)]

    def end() -> None:
        for hook in hooks:
            hook.remove()

    return end


def train_aslfeat(
    pairs: Pairs,
    *,
    minutes: float,
    start: ASLFeat | None = None,
    batch: int = 4,
    learning_rate: float = 2e-3,
    bfloat16: bool = False,
    decay: float = 0.995,
    log: Callable[[str], None] | None = None,
    keep: Callable[[ASLFeat, int], None] | None = None,
    keep_minutes: float = 3.0,
) -> tuple[ASLFeat, int]:
    """Train the network.

    Parameters
    ----------
    pairs : Pairs
    minutes : float
        How long; in the last two fifths the learning rate falls to 0.
    start : ASLFeat, optional
        What to go on from instead of `begun`.
    batch : int
        Pairs a step.
    learning_rate : float
        Of AdamW.
    bfloat16 : bool
        Convolutions in 16 bits: less time on CPUs that can (AVX-512 BF16, AMX).
    decay : float
        Of the moving average of the weights, which is the result.
    log : callable, optional
        Called with a line of figures now and then.
    keep : callable, optional
        Called with the network so far and the number of steps, every `keep_minutes`.
    keep_minutes : float

    Returns
    -------
    network : ASLFeat
        The moving average, in evaluation mode.
    steps : int

    Raises
    ------
    TrainingError
        If the loss is not finite any more.
    """
    network = (begun() if start is None else start).requires_grad_()
    _deform(network, False)
    unwatch = _watch_largest(network.train())
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4, fused=True)

    def of_step(step: int, done: float) -> tuple[Tensor, dict[str, Tensor]]:
        if done >= _PLAIN:
            _deform(network)
        parts = _losses(network, pairs.batch(range(step * batch, (step + 1) * batch)), bfloat16)
        return torch.stack([getattr(_WEIGHTS, name, 1.0) * value for name, value in parts.items()]).sum(), parts

    average, steps = train_for(
        minutes, network, optimiser, of_step, schedule=lambda done: min((1 - done) / 0.4, 1), warmup=100, clip=1.0,
        decay=decay, log=log, keep=keep, keep_minutes=keep_minutes,
    )  # fmt: skip
    unwatch()
    _deform(average)
    return average, steps


def save_aslfeat(network: ASLFeat, path: Path, about: dict[str, Any]) -> None:
    """Write the network's tensors in float16 as NumPy's .npz, for ``tp.load("aslfeat", weights=path)``.

    Parameters
    ----------
    network : ASLFeat
    path : path
    about : dict
        Plain values: licence, how it was trained, figures.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    tensors = {
        name: value.numpy().astype(np.float16 if value.ndim == 4 else np.float32)
        for name, value in network.state_dict().items()
        if value.is_floating_point()
    }
    buffer = BytesIO()
    np.savez_compressed(buffer, about=np.array(json.dumps(about)), **tensors)
    write_whole(path, buffer.getbuffer())
