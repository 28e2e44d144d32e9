"""Random numbers that depend on nothing but where they are asked for: the same in any batch, on any device.

Number i of stream s is the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014) of s + i times its increment: no state, so whole batches are drawn at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["normal", "streams", "uniform", "uniforms"]

_INCREMENT, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_BITS = 24  # of each number: what float32 holds


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
        return z ^ (z >> np.uint64(31))


def streams(seed: int, numbers: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """A stream of its own (B,) for each number under a seed."""
    keys = np.array([(seed * _INCREMENT + 0x5851F42D4C957F2D * (int(n) + 1)) % 2**64 for n in numbers], np.uint64)
    return _mixed(_mixed(keys)).view(np.int64)


def uniforms(stream: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """The first numbers (B, count) in [0, 1) of each stream (B,)."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_INCREMENT)
    with np.errstate(over="ignore"):
        mixed = _mixed(stream.view(np.uint64)[:, None] + steps)
    return np.asarray((mixed >> np.uint64(64 - _BITS)) / 2.0**_BITS, np.float64)


def uniform(stream: Tensor, count: int, skip: int = 0) -> Tensor:
    """As `uniforms`, float32 (B, count) on the device of the streams (B,), without the first `skip` ones."""
    steps = torch.arange(skip + 1, skip + count + 1, device=stream.device) * _signed(_INCREMENT)
    z = stream[:, None] + steps
    for shift, factor in ((30, _FIRST), (27, _SECOND), (31, None)):
        z ^= (z >> shift) & (2 ** (64 - shift) - 1)  # torch's shift is of signed numbers
        if factor is not None:
            z *= _signed(factor)
    numbers: Tensor = ((z >> (64 - _BITS)) & (2**_BITS - 1)).float() / 2**_BITS
    return numbers


def normal(stream: Tensor, count: int, skip: int = 0) -> Tensor:
    """Normally distributed numbers (B, count) of streams (B,), by Box and Muller's transform (1958)."""
    half = (count + 1) // 2
    u = uniform(stream, 2 * half, skip)
    radius = torch.sqrt(-2 * torch.log1p(-u[:, :half]))
    angle = u[:, half:] * (2 * math.pi)
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :count]


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
