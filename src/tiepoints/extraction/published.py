"""The published methods that run in PyTorch: their metadata and weight files, as data."""

from __future__ import annotations

from typing import Any

from ..weights import WeightFile
from .learned import Learned
from .metadata import Metadata

__all__ = ["CLASSES", "Learned"]

#: Name -> class, in the order of the list of extractors.
CLASSES: dict[str, type[Learned]] = {}


def _register(
    network: str,
    variant: str,
    *,
    file: str,
    url: str,
    sha256: str,
    colour: bool = True,
    docs: str = "",
    **facts: Any,
) -> None:
    """Make the class of one model; `facts` are fields of `Metadata`."""
    name = f"{network}-{variant}".lower() if variant else network
    metadata = Metadata(
        name=name,
        code_licence="Apache-2.0",
        learned=True,
        weights=(WeightFile(file, url, sha256),),
        requires=("torch",),
        extra="learned",
        **facts,
    )
    attribute = f"Learned_{name.replace('-', '_')}"
    kind = type(
        attribute,
        (Learned,),
        {
            "__doc__": f"{metadata.summary}.",
            "__module__": __name__,
            "metadata": metadata,
            "network": network,
            "variant": variant,
            "wants_colour": colour,
        },
    )
    globals()[attribute] = kind  # where pickle finds it
    CLASSES[name] = kind


for _variant, _dim, _sha256 in (
    ("t16", 64, "56782336919db220144a884e710e2b6af13b3b8f8da15b915a239078ab471085"),
    ("n16", 128, "5be8704840ed662d9d8c561bf7279c222092674e7eb05fd0feab94899e9d82f2"),
    ("n16rot", 128, "ddf3abbf38e86f6a74540d214e1a9712c54b2d8551abc864542199f2347d7332"),
    ("n32", 128, "055283fd1624d3ab46a05c3b617b1a79a3f28d1f551737eef2d653e8c8232890"),
):
    _register(
        "aliked",
        _variant,
        file=f"aliked-{_variant}.pth",
        url=f"https://github.com/Shiaoming/ALIKED/raw/main/models/aliked-{_variant}.pth",
        sha256=_sha256,
        summary=f"ALIKED {_variant}: score map and a deformable descriptor head",
        paper="Zhao, Wu, Chen, Chen, Xu and Lee, ALIKED: A Lighter Keypoint and Descriptor Extraction Network via "
        "Deformable Transformation, IEEE TIM 2023",
        weights_licence="BSD-3-Clause",
        descriptor_size=_dim,
    )
