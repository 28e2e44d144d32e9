"""Many images: collections of photographs, steps, stores that resume, engines, and `run`, which ties them together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .consistency import ConsistentViews as ConsistentViews
    from .early import MatchVerified as MatchVerified
    from .engines import (
        Engine as Engine,
        Failure as Failure,
        Processes as Processes,
        Serial as Serial,
        Threads as Threads,
    )
    from .export import (
        export_colmap as export_colmap,
        export_features as export_features,
        export_matches as export_matches,
        export_npz as export_npz,
    )
    from .images import Extracted as Extracted, extract_images as extract_images
    from .joining import join as join
    from .memory import Memory as Memory
    from .pairs import exhaustive as exhaustive, from_file as from_file, sequential as sequential, union as union
    from .photographs import Collection as Collection, Photograph as Photograph, natural_order as natural_order
    from .places import positions_of as positions_of, spatial as spatial
    from .ray_engine import Ray as Ray
    from .records import register as register
    from .running import Given as Given, Reference as Reference, Results as Results, run as run, stored as stored
    from .stages import Extract as Extract, Match as Match, Verified as Verified, Verify as Verify
    from .steps import Step as Step
    from .store import Store as Store

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "consistency": ["ConsistentViews"],
        "early": ["MatchVerified"],
        "engines": ["Engine", "Failure", "Processes", "Serial", "Threads"],
        "export": ["export_colmap", "export_features", "export_matches", "export_npz"],
        "images": ["Extracted", "extract_images"],
        "joining": ["join"],
        "memory": ["Memory"],
        "pairs": ["exhaustive", "from_file", "sequential", "union"],
        "photographs": ["Collection", "Photograph", "natural_order"],
        "places": ["positions_of", "spatial"],
        "ray_engine": ["Ray"],
        "records": ["register"],
        "running": ["Given", "Reference", "Results", "run", "stored"],
        "stages": ["Extract", "Match", "Verified", "Verify"],
        "steps": ["Step"],
        "store": ["Store"],
    },
)
