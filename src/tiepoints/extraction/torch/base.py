"""What every network of a published method gives: a score map, and descriptors at any place of the image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ...threads import torch_threads
from ...weights import reading_weights

__all__ = [
    "Dense",
    "Found",
    "Network",
    "as_array",
    "build",
    "choose",
    "extract",
    "read_tensors",
    "run_patches",
    "sample",
    "suppress",
]


@dataclass(frozen=True)
class Dense:
    """What a network says about a batch of images of one size; usable as a teacher of another network.

    Parameters
    ----------
    score_map : Tensor
        (B, 1, H, W): how much each pixel of the image is a keypoint. Its range is the method's own.
    describe : callable
        From places, for each image (N, 2) [x, y] in pixels of the image, (0, 0) the centre of the top-left one, to
        descriptors, for each image (N, D) of unit length. Any place inside the image will do.
    state : optional
        What else the method's choice of keypoints needs.
    """

    score_map: Tensor
    describe: Callable[[Sequence[Tensor]], list[Tensor]]
    state: Any = None


@dataclass(frozen=True)
class Found:
    """Keypoints of one image, and what is known of each.

    Parameters
    ----------
    xy : Tensor
        (N, 2), in pixels, (0, 0) the centre of the top-left one.
    scores : Tensor
        (N,).
    scales : Tensor, optional
        (N,): diameter in pixels of the region.
    descriptors : Tensor, optional
        (N, D), where the method has them before `Dense.describe` is asked.
    """

    xy: Tensor
    scores: Tensor
    scales: Tensor | None = None
    descriptors: Tensor | None = None

    def select(self, rows: Tensor) -> Found:
        """Those that an index (K,) picks."""
        scales = None if self.scales is None else self.scales[rows]
        descriptors = None if self.descriptors is None else self.descriptors[rows]
        return Found(self.xy[rows], self.scores[rows], scales, descriptors)


class Network(nn.Module, ABC):
    """A method's network.

    `channels` is what it looks at: 3 for RGB, 1 for grey; values are in [0, 1].
    """

    channels: int = 3
    #: Channels that `core` sees, where it can be exported to ONNX.
    exports: int | None = None
    #: The authors' least score.
    threshold: float = 0.0

    def core(self, image: Tensor) -> tuple[Tensor, ...]:
        """The convolutions, from an image of a size that needs no padding to maps: what another run-time may do."""
        raise NotImplementedError

    @abstractmethod
    def forward(self, image: Tensor) -> Dense:
        """``image`` is (B, `channels`, H, W) of any height and width."""

    @abstractmethod
    def keypoints(self, dense: Dense, count: int, threshold: float) -> list[Found]:
        """For each image the best ``count`` keypoints with at least the score ``threshold``, in any order."""

    def read(self, path: Path) -> None:
        """Take the parameters from the authors' file.

        Raises
        ------
        RuntimeError, KeyError, TypeError
            If the file holds others; `build` says it in a line.
        """
        self.load_state_dict(read_tensors(path))


def read_tensors(path: Path) -> Any:
    """What a file that ``torch.save`` wrote holds, without running anything that is in it."""
    return torch.load(path, map_location="cpu", weights_only=True)


def build(module: str, variant: str, path: Path, device: str, *, name: str, optional: bool = True) -> Any:
    """A network with its weights, in evaluation mode, on a device.

    Parameters
    ----------
    module : str
        The file of this folder whose ``make(variant)`` makes the network.
    variant : str
    path : Path
        The authors' file.
    device : str
        As `torch_device` has checked it.
    name : str
        Of the method, for messages.
    optional : bool
        Whether the user may name another file, by the option `weights`.

    Raises
    ------
    WeightsError
        If the file cannot be read as weights, or holds those of another network.
    """
    network = import_module(f"{__package__}.{module}").make(variant)
    with reading_weights(path, name, optional=optional):
        network.read(path)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network.eval().to(device)


def extract(
    network: Network,
    images: Sequence[NDArray[np.uint8]],
    masks: Sequence[NDArray[np.uint8] | None],
    *,
    count: int,
    threshold: float | None = None,
    half: bool = False,
    threads: int | None = None,
) -> list[Found]:
    """Keypoints with descriptors of images of one size, as one batch.

    Parameters
    ----------
    network : Network
    images : sequence of (H, W) or (H, W, 3) uint8
    masks : sequence of (H, W) uint8 or None
        Keypoints are wanted where it is not 0.
    count : int
        Of each image, at most.
    threshold : float, optional
        Least score; the authors' by default.
    half : bool
        Convolutions and products in 16 bits, everything about places in 32; on a GPU.
    threads : int, optional
        Of torch, on a CPU.
    """
    device = next(network.parameters()).device
    batch = torch.stack([torch.from_numpy(np.array(image)) for image in images]).to(device)
    batch = batch[:, None] if batch.ndim == 3 else batch.permute(0, 3, 1, 2)
    with torch.inference_mode(), torch_threads(threads), torch.autocast(device.type, torch.float16, enabled=half):
        dense = network(batch.float() / 255)
        least = network.threshold if threshold is None else threshold
        most = count if all(mask is None for mask in masks) else batch.shape[-1] * batch.shape[-2]
        found = [
            _masked(each, mask, count) for each, mask in zip(network.keypoints(dense, most, least), masks, strict=True)
        ]
        if found[0].descriptors is None:
            vectors = dense.describe([each.xy for each in found])
            found = [replace(each, descriptors=those) for each, those in zip(found, vectors, strict=True)]
    return found


def run_patches(
    network: nn.Module, patches: NDArray[np.float32], batch: int, threads: int | None
) -> NDArray[np.float32]:
    """What a network says about patches (N, S, S) in [0, 255], so many at once; (N, ...)."""
    device = next(network.parameters()).device
    with torch.inference_mode(), torch_threads(threads):
        some = [
            as_array(network(torch.from_numpy(patches[start : start + batch, None]).to(device)))
            for start in range(0, max(len(patches), 1), batch)
        ]
    return np.concatenate(some)


def as_array(values: Tensor) -> NDArray[np.float32]:
    """A tensor on any device and of any precision as a NumPy array."""
    return np.asarray(values.float().cpu().numpy(), np.float32)


def _masked(found: Found, mask: NDArray[np.uint8] | None, count: int) -> Found:
    if mask is None:
        return found
    column, row = found.xy.round().long().unbind(1)
    allowed = torch.from_numpy(np.asarray(mask != 0)).to(found.xy.device)
    h, w = allowed.shape
    keep = allowed[row.clamp(0, h - 1), column.clamp(0, w - 1)].nonzero()[:, 0]
    best = keep[found.scores[keep].topk(min(count, len(keep))).indices]
    return found.select(best)


def sample(map_: Tensor, xy: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Values (C, N, M) of one map (C, H, W) at ``xy`` (N, M, 2) in its own pixels, zeros outside."""
    h, w = map_.shape[-2:]
    grid = xy * xy.new_tensor([2 / max(w - 1, 1), 2 / max(h - 1, 1)]) - 1
    return F.grid_sample(map_[None].to(xy.dtype), grid[None], mode=mode, align_corners=True)[0]


def suppress(score_map: Tensor, radius: int, rounds: int = 2) -> Tensor:
    """The score map (B, 1, H, W) with all but its local maxima set to zero.

    After the first maxima, their neighbourhoods are emptied and maxima sought among the rest, ``rounds`` times, so that
    a maximum hidden by a higher one that is itself no maximum is found (SuperPoint's published rule).
    """

    def largest(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2 * radius + 1, stride=1, padding=radius)

    kept = score_map == largest(score_map)
    for _ in range(rounds):
        covered = largest(kept.to(score_map)) > 0
        rest = score_map.masked_fill(covered, 0)
        kept = kept | ((rest == largest(rest)) & ~covered)
    return score_map * kept


def choose(peaks: Tensor, count: int, threshold: float, border: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Rows and columns, each (N,), of the highest ``count`` values above ``threshold`` of one map (H, W).

    ``border`` is what is left out: pixels at the left, top, right and bottom.
    """
    h, w = peaks.shape
    left, top, right, bottom = border
    inside = torch.zeros_like(peaks, dtype=torch.bool)
    inside[top : max(h - bottom, top), left : max(w - right, left)] = True
    flat = torch.where(inside & (peaks > threshold), peaks, -torch.inf).reshape(-1)
    order = flat.topk(min(count, int((flat > -torch.inf).sum()))).indices
    return order // w, order % w
