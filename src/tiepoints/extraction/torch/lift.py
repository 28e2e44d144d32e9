"""LIFT's descriptor: three convolutions with L2 pooling and subtractive normalisation, of patches of 64x64 pixels.

Yi, Trulls, Lepetit and Fua, "LIFT: Learned Invariant Feature Transform", ECCV 2016 (arXiv 1603.09114); the layers are
those of Simo-Serra et al., "Discriminative Learning of Deep Convolutional Feature Point Descriptors", ICCV 2015.
Written from the papers and from the tensors of the published weights, which are for academic use only.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .patches import PatchNetwork

__all__ = ["LIFTDescriptor", "make"]


class LIFTDescriptor(PatchNetwork):
    """The network; its output is brought to unit length, which the authors' does not have."""

    side = 64
    pools = (2, 3, 4)

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList((nn.Conv2d(1, 32, 7), nn.Conv2d(32, 64, 6), nn.Conv2d(64, 128, 5)))
        self.register_buffer("filters", torch.empty(2, 5, 5))
        self.register_buffer("mean", torch.empty(1))
        self.register_buffer("std", torch.empty(1))

    def read(self, path: Path) -> None:
        """The file is HDF5: layers 1, 5 and 9 are convolutions, 4 and 8 normalisations."""

        def tensor(name: str) -> Tensor:
            return torch.from_numpy(np.array(file[name], np.float32))

        with h5py.File(path, "r") as file:
            ours = {"filters": torch.stack([tensor("l-4-filter"), tensor("l-8-filter")])}
            ours |= {"mean": tensor("patch-mean"), "std": tensor("patch-std")}
            for i, layer in enumerate((1, 5, 9)):
                ours[f"convs.{i}.weight"], ours[f"convs.{i}.bias"] = (
                    tensor(f"l-{layer}-weights"),
                    tensor(f"l-{layer}-bias"),
                )
        self.load_state_dict(ours)

    def forward(self, patches: Tensor) -> Tensor:
        return F.normalize(self.layers((patches - self.get_buffer("mean")) / self.get_buffer("std")), dim=1)

    def layers(self, x: Tensor) -> Tensor:
        """What the layers make of patches (N, 1, 64, 64) around 0: (N, 128) of any length."""
        for i, (conv, pool) in enumerate(zip(self.convs, self.pools, strict=True)):
            x = torch.tanh(conv(x))
            x = (F.avg_pool2d(x**2, pool) * pool**2).clamp_min(1e-12).sqrt()  # whose gradient is finite
            if i < 2:
                x = x - _local_mean(x, self.get_buffer("filters")[i])
        return x.flatten(1)


def _local_mean(x: Tensor, window: Tensor) -> Tensor:
    """The mean over a window and all channels (N, 1, H, W); at the edges of what lies inside."""
    kernel = (window / window.sum())[None, None]
    inside = F.conv2d(torch.ones_like(x[:1, :1]), kernel, padding=2)
    return F.conv2d(x.mean(dim=1, keepdim=True), kernel, padding=2) / inside


def make(variant: str) -> LIFTDescriptor:
    """The network; there is one model."""
    return LIFTDescriptor()
