"""Many images: collections of photographs, steps, stores that resume, engines, and `run`, which ties them together."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engines import Engine, Failure, Processes, Serial, Threads
    from .export import export_colmap, export_features, export_matches, export_npz
    from .images import Extracted, extract_images
    from .joining import join
    from .memory import Memory
    from .pairs import exhaustive, from_file, sequential, union
    from .photographs import Collection, Photograph, natural_order
    from .places import positions_of, spatial
    from .ray_engine import Ray
    from .records import register
    from .running import Given, Reference, Results, run, stored
    from .stages import Extract, Match, Verified, Verify
    from .steps import Step
    from .store import Store

_MODULES = {
    "engines": ("Engine", "Failure", "Processes", "Serial", "Threads"),
    "export": ("export_colmap", "export_features", "export_matches", "export_npz"),
    "images": ("Extracted", "extract_images"),
    "joining": ("join",),
    "memory": ("Memory",),
    "pairs": ("exhaustive", "from_file", "sequential", "union"),
    "places": ("positions_of", "spatial"),
    "photographs": ("Collection", "Photograph", "natural_order"),
    "ray_engine": ("Ray",),
    "records": ("register",),
    "running": ("Given", "Reference", "Results", "run", "stored"),
    "stages": ("Extract", "Match", "Verified", "Verify"),
    "steps": ("Step",),
    "store": ("Store",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Collection",
    "Engine",
    "Extract",
    "Extracted",
    "Failure",
    "Given",
    "Match",
    "Memory",
    "Photograph",
    "Processes",
    "Ray",
    "Reference",
    "Results",
    "Serial",
    "Step",
    "Store",
    "Threads",
    "Verified",
    "Verify",
    "exhaustive",
    "export_colmap",
    "export_features",
    "export_matches",
    "export_npz",
    "extract_images",
    "from_file",
    "join",
    "natural_order",
    "positions_of",
    "register",
    "run",
    "sequential",
    "spatial",
    "stored",
    "union",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
