"""The extractor around a network that is still in torch's hands, for judging it while it trains."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..extraction.mdnet import MDNet as Extractor
from ..extraction.mdnet import Network
from .network import MDNet

__all__ = ["extractor_of"]


def extractor_of(network: MDNet, **options: Any) -> Extractor:
    """An extractor that runs this very network; options as those of `tiepoints.load("mdnet")`."""
    return _Training(network, **options)


class _Training(Extractor):
    def __init__(self, network: MDNet, **options: Any) -> None:
        self._given = network
        super().__init__(**options)

    def _open(self, sets: int | None, weights: object, threads: int | None) -> Network:
        return _Torch(self._given)


class _Torch:
    def __init__(self, network: MDNet) -> None:
        self.network = network
        self.sets = network.config.sets

    def __call__(self, image: NDArray[np.float32], /) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.network.eval()
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            tensor = torch.from_numpy(image).to(device, memory_format=torch.channels_last)
            logits, described = self.network(tensor)
        return logits.float().cpu().numpy(), described.float().permute(0, 2, 3, 1).contiguous().cpu().numpy()
