"""The extractor around a network that is still in torch's hands, for judging it while it trains."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..errors import InvalidInputError
from ..extraction.mdnet import MDNet as Extractor
from ..extraction.model import Network, blurred, head_for
from .network import MDNet

__all__ = ["extractor_of"]


def extractor_of(network: MDNet, *, sets: int | None = None, **options: Any) -> Extractor:
    """An extractor that runs this very network; options as those of `tiepoints.load("mdnet")`.

    Raises
    ------
    InvalidInputError
        If no head gives so many sets, or an option is out of range.
    """
    head = head_for(sets, network.config.sets)
    if not head:
        raise InvalidInputError(f"the network has heads of {network.config.sets} sets, which make no {sets}")
    return _Training(_Torch(network, head), sets, **options)


class _Training(Extractor):
    def __init__(self, given: _Torch, sets: int | None, **options: Any) -> None:
        self._given = given
        super().__init__(sets=sets, **options)

    def _open(self, sets: int | None, weights: object, threads: int | None) -> Network:
        return self._given


class _Torch:
    def __init__(self, network: MDNet, sets: int) -> None:
        self.network, self.sets = network, sets
        self.basis = network.basis.cpu().numpy() if len(network.basis) else None
        self.rotations = network.config.rotations

    def __call__(self, image: NDArray[np.float32], /) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.network.eval()
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            tensor = torch.from_numpy(image).to(device, memory_format=torch.channels_last)
            z, described = self.network.look(tensor)
            cells = self.network.get_submodule(f"detect.{self.sets}")(z)
            logits = F.pixel_shuffle(cells.float(), 2).contiguous().cpu().numpy()
        return blurred(logits[0])[None], described.float().permute(0, 2, 3, 1).contiguous().cpu().numpy()
