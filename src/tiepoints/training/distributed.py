"""Several processes that train one network: what torch's own engine needs beside its wrapper."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["World", "agree", "share_statistics", "world"]

Network = TypeVar("Network", bound=nn.Module)


class World(NamedTuple):
    """Which of how many processes this is, and where it computes."""

    rank: int
    size: int
    device: torch.device


@contextmanager
def world() -> Iterator[World]:
    """Join the processes that torchrun started, or be alone.

    The device is this process's own CUDA device where there is one, else the CPU.
    """
    cuda = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local % torch.cuda.device_count()) if cuda else torch.device("cpu")
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield World(0, 1, device)
        return
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield World(dist.get_rank(), size, device)
    finally:
        # torch's wrapper lies in cycles, and must not be the group's last owner: it would wait with Python's lock for a
        # thread of the group that now and then waits for that lock, for ever.
        gc.collect()
        dist.destroy_process_group()


def agree(values: list[float], where: World) -> list[float]:
    """The first process's values, in all of them: clocks differ, decisions must not."""
    if where.size == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=where.device)
    dist.broadcast(tensor, 0)
    return [float(value) for value in tensor]


def share_statistics(network: Network, device: torch.device) -> Network:
    """Let every batch normalisation see the batches of all processes, as one process with all of them would.

    By torch's own SyncBatchNorm on CUDA, the only device that it supports.
    """
    if device.type == "cuda":
        converted: Network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return converted
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = _SharedBatchNorm
    return network


class _Sum(torch.autograd.Function):
    """The sum over all processes, through which gradients pass: that of each term is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class _SharedBatchNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        # Statistics are of float32 whatever the precision, and so is what the processes tell each other.
        precision, x = x.dtype, x.float()
        # every process holds equally many values of each channel
        mean_of = torch.stack([x.mean(dim=(0, 2, 3)), x.square().mean(dim=(0, 2, 3))])
        total: Tensor = _Sum.apply(mean_of)  # type: ignore[no-untyped-call]
        mean, square = total / dist.get_world_size()
        variance = square - mean * mean
        with torch.no_grad():
            count = x.numel() / x.shape[1] * dist.get_world_size()
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(variance.detach() * count / (count - 1), self.momentum)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        normalised: Tensor = (x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]
        return normalised.to(precision)
