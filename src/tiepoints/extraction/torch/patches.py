"""Networks that look at one patch of 32x32 pixels: descriptors TFeat, HardNet, HardTFeat; shapes AffNet and OriNet.

Balntas, Riba, Ponsa and Mikolajczyk, "Learning local feature descriptors with triplets and shallow convolutional neural
networks", BMVC 2016 (TFeat). Mishchuk, Mishkin, Radenovic and Matas, "Working hard to know your neighbor's margins",
NeurIPS 2017 (HardNet). Mishkin, Radenovic and Matas, "Repeatability Is Not Enough: Learning Affine Regions via
Discriminability", ECCV 2018 (AffNet, OriNet, HardTFeat). Written from the papers and from the tensors of the published
weights (MIT).

A patch is grey, (N, 1, 32, 32), in [0, 255].
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import read_tensors

__all__ = ["SIDE", "make"]

SIDE = 32


def normalised(patches: Tensor) -> Tensor:
    """Each patch less its mean, by its (unbiased) standard deviation."""
    flat = patches.flatten(1)
    mean, std = flat.mean(1), flat.std(1)
    return (patches - mean[:, None, None, None]) / (std[:, None, None, None] + 1e-7)


class PatchNetwork(nn.Module):
    """A network of patches; `forward` gives (N, D) descriptors, or (N, 2, 2) shapes, or (N,) angles."""

    side = SIDE

    def read(self, path: Path) -> None:
        """Take the parameters from the authors' file."""
        content = read_tensors(path)
        content = content.get("state_dict", content)
        self.load_state_dict({name: t for name, t in content.items() if not name.startswith("SIFT.")})


class TFeat(PatchNetwork):
    """Two convolutions with tanh; the authors compare the raw output, here it is brought to unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.InstanceNorm2d(1), nn.Conv2d(1, 32, 7), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 6), nn.Tanh()
        )
        self.descr = nn.Sequential(nn.Linear(64 * 8 * 8, 128), nn.Tanh())

    def raw(self, patches: Tensor) -> Tensor:
        """The output before it is normalised."""
        return self.descr(self.features(patches).flatten(1))  # type: ignore[no-any-return]

    def forward(self, patches: Tensor) -> Tensor:
        return F.normalize(self.raw(patches), dim=1)


class HardTFeat(PatchNetwork):
    """TFeat's layout, trained with HardNet's loss."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 32, 7), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 6), nn.Tanh())
        self.classifier = nn.Sequential(nn.Identity(), nn.Conv2d(64, 128, 8), nn.Tanh())

    def forward(self, patches: Tensor) -> Tensor:
        return F.normalize(self.classifier(self.features(normalised(patches))).flatten(1), dim=1)


class L2Net(PatchNetwork):
    """Six convolutions, two of them with stride 2, and a last one over all that is left (Tian et al. 2017).

    Parameters
    ----------
    channels : tuple of int
        Of each pair of convolutions.
    out : int
        Of the last convolution, which has a bias where `bias` is set.
    padding : int
        Of the last convolution.
    """

    def __init__(self, channels: tuple[int, int, int], out: int, *, bias: bool, padding: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for i, n in enumerate(channels):
            for stride in (1 if i == 0 else 2, 1):
                conv = nn.Conv2d(before, n, 3, stride, 1, bias=False)
                layers += [conv, nn.BatchNorm2d(n, affine=False), nn.ReLU()]
                before = n
        layers += [nn.Identity(), nn.Conv2d(before, out, 8, padding=padding, bias=bias)]
        self.features = nn.Sequential(*layers)


class HardNet(L2Net):
    """HardNet: L2-Net with another loss."""

    def __init__(self) -> None:
        super().__init__((32, 64, 128), 128, bias=False)
        self.features.append(nn.BatchNorm2d(128, affine=False))

    def forward(self, patches: Tensor) -> Tensor:
        return F.normalize(self.features(normalised(patches)).flatten(1), dim=1)


class AffNet(L2Net):
    """Affine shapes (N, 2, 2) of patches: lower triangular, of determinant 1, so that "up" stays up."""

    def __init__(self) -> None:
        super().__init__((16, 32, 64), 3, bias=True)

    def raw(self, patches: Tensor) -> Tensor:
        """Three numbers (N, 3) around 0."""
        return torch.tanh(self.features(normalised(patches))).mean(dim=(2, 3))

    def forward(self, patches: Tensor) -> Tensor:
        a, b, d = self.raw(patches).unbind(1)
        a, d = 1 + a, 1 + d
        root = (a * d).abs().add(1e-10).sqrt()
        length = a.abs()
        zero = torch.zeros_like(a)
        return torch.stack([length / root, zero, b * a / (length * root), root / length], dim=1).view(-1, 2, 2)


class OriNet(L2Net):
    """The angle (N,) by which a patch is turned, in radians from the x axis against the y axis, which points down."""

    def __init__(self) -> None:
        super().__init__((16, 32, 64), 2, bias=True, padding=1)

    def raw(self, patches: Tensor) -> Tensor:
        """Sine and cosine (N, 2), of any length."""
        return torch.tanh(self.features(normalised(patches))).mean(dim=(2, 3))

    def forward(self, patches: Tensor) -> Tensor:
        sine, cosine = (self.raw(patches) + 1e-8).unbind(1)
        return torch.atan2(sine, cosine)


_KINDS: dict[str, type[PatchNetwork]] = {
    "tfeat": TFeat,
    "hardtfeat": HardTFeat,
    "hardnet": HardNet,
    "affnet": AffNet,
    "orinet": OriNet,
}


def make(variant: str) -> PatchNetwork:
    """The network of a published model."""
    return _KINDS[variant]()
