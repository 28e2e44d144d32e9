"""What people do with tie points: reconstruct a scene, make a map of it, localize photographs in the map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .localization import Localize as Localize, Localizer as Localizer
    from .map_adding import Added as Added, add_to_map as add_to_map
    from .map_building import build_map as build_map
    from .poses import Localization as Localization
    from .reconstruction import Reconstruction as Reconstruction, reconstruct as reconstruct
    from .verified import VerifiedPairs as VerifiedPairs, choose_pairs as choose_pairs, verified_pairs as verified_pairs

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "localization": ["Localize", "Localizer"],
        "map_adding": ["Added", "add_to_map"],
        "map_building": ["build_map"],
        "poses": ["Localization"],
        "reconstruction": ["Reconstruction", "reconstruct"],
        "verified": ["VerifiedPairs", "choose_pairs", "verified_pairs"],
    },
)
