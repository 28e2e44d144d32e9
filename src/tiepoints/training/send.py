"""Many small arrays to a device at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["send"]

_ALIGNED = 16  # bytes


def send(arrays: Mapping[str, NDArray[Any]], device: torch.device) -> dict[str, Tensor]:
    """The arrays as tensors on the device.

    One copy, for each by itself waits for everything that is queued on the device, and so does its answer.
    """
    begins, total = [], 0
    for array in arrays.values():
        begins.append(total)
        total += -(-array.nbytes // _ALIGNED) * _ALIGNED
    host = torch.empty(total, dtype=torch.uint8, pin_memory=device.type == "cuda")
    bytes_ = host.numpy()
    for begin, array in zip(begins, arrays.values(), strict=True):
        bytes_[begin : begin + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    there = host.to(device, non_blocking=True)
    return {
        name: there[begin : begin + array.nbytes].view(torch.from_numpy(array).dtype).view(array.shape)
        for begin, (name, array) in zip(begins, arrays.items(), strict=True)
    }
