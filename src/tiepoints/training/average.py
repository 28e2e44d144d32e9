"""The moving average of a network's weights: what a training keeps."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

__all__ = ["average_of", "follow"]

Network = TypeVar("Network", bound=nn.Module)


def average_of(network: Network) -> Network:
    """A copy to begin with, in evaluation mode."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def follow(average: nn.Module, network: nn.Module, decay: float, steps: int) -> None:
    """Move the average towards a network that has made so many steps.

    It keeps the share `decay` of itself, less in the first steps, when the weights change most. What is no
    floating-point number is taken over.
    """
    means, values = [], []
    with torch.no_grad():
        for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                means.append(mean)
                values.append(value)
            else:
                mean.copy_(value)
        torch._foreach_lerp_(means, values, 1 - min(decay, steps / (steps + 9)))
