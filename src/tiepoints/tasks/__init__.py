"""What people do with tie points: reconstruct a scene, make a map of it, localize photographs in the map."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .localization import Localization, Localizer, build_map
    from .reconstruction import Reconstruction, reconstruct
    from .verified import VerifiedPairs, choose_pairs, verified_pairs

_MODULES = {
    "localization": ("Localization", "Localizer", "build_map"),
    "reconstruction": ("Reconstruction", "reconstruct"),
    "verified": ("VerifiedPairs", "choose_pairs", "verified_pairs"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Localization",
    "Localizer",
    "Reconstruction",
    "VerifiedPairs",
    "build_map",
    "choose_pairs",
    "reconstruct",
    "verified_pairs",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
