"""What people do with tie points: reconstruct a scene, make a map of it, localize photographs in the map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .localization import Localization as Localization, Localizer as Localizer, build_map as build_map
    from .reconstruction import Reconstruction as Reconstruction, reconstruct as reconstruct
    from .verified import VerifiedPairs as VerifiedPairs, choose_pairs as choose_pairs, verified_pairs as verified_pairs

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "localization": ["Localization", "Localizer", "build_map"],
        "reconstruction": ["Reconstruction", "reconstruct"],
        "verified": ["VerifiedPairs", "choose_pairs", "verified_pairs"],
    },
)
