"""The loop of a training that ends after some minutes: MD-Net's own, which can be interrupted, is `loop.py`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import TrainingError
from .average import average_of, follow

__all__ = ["train_for"]

Network = TypeVar("Network", bound=nn.Module)

_SECONDS = 20  # between two lines


def train_for(
    minutes: float,
    network: Network,
    optimiser: torch.optim.Optimizer,
    losses: Callable[[int, float], tuple[Tensor, Mapping[str, Tensor]]],
    *,
    schedule: Callable[[float], float],
    warmup: int = 50,
    clip: float = math.inf,
    decay: float = 0.995,
    log: Callable[[str], None] | None = None,
    keep: Callable[[Network, int], None] | None = None,
    keep_minutes: float = 3.0,
) -> tuple[Network, int]:
    """Train a network, in whichever mode it is, and average its weights.

    Parameters
    ----------
    minutes : float
    network : Module
    optimiser : Optimizer
        Of its parameters, with the highest learning rate.
    losses : callable
        From the number of steps made, and the share of the time gone, to the loss of the next step, and to parts of it
        by name, whose means are told.
    schedule : callable
        From the share of the time gone to that of the learning rate.
    warmup : int
        Steps in which the learning rate rises.
    clip : float
        Largest norm of the gradient.
    decay : float
        Of the moving average of the weights; 0: the average is the network itself.
    log : callable, optional
        Called with a line of figures every 20 seconds.
    keep : callable, optional
        Called with the average so far and the number of steps, every `keep_minutes`.
    keep_minutes : float

    Returns
    -------
    network : Module
        The moving average, in evaluation mode.
    steps : int

    Raises
    ------
    TrainingError
        If the loss is not finite any more.
    """
    average = average_of(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # faster on CPUs
    highest = optimiser.param_groups[0]["lr"]
    begun = told = kept = time.monotonic()
    sums: dict[str, float] = {}
    step = since = 0
    while (done := (time.monotonic() - begun) / (60 * minutes)) < 1:
        optimiser.param_groups[0]["lr"] = highest * min((step + 1) / warmup, 1) * schedule(done)
        loss, parts = losses(step, done)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        if not torch.isfinite(nn.utils.clip_grad_norm_(network.parameters(), clip)):
            raise TrainingError(f"step {step}: the loss is not finite; train again with a lower learning rate")
        optimiser.step()
        step, since, now = step + 1, since + 1, time.monotonic()
        follow(average, network, decay, step)
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if log is not None and now - told > _SECONDS:
            log(f"step {step}: " + " ".join(f"{name} {value / since:.4f}" for name, value in sums.items()))
            sums, since, told = {}, 0, now
        if keep is not None and now - kept > 60 * keep_minutes:
            keep(average, step)
            kept = now
    return average, step
