"""Features, matches and cameras in files: .npz, HDF5 as hloc's, Image Matching Benchmark folders, COLMAP databases.

Each format is a module of its own and is imported when one of its names is used; h5py and pycolmap only when a file is
read or written.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .colmap import ColmapDatabase, TwoView, read_colmap, write_colmap
    from .hdf5 import MissingItemError
    from .hdf5_features import FeatureReader, FeatureWriter
    from .hdf5_matches import MatchReader, MatchWriter
    from .imb import load_imb, save_imb
    from .npz import load_features, load_matches, save_features, save_matches

__all__ = [
    "ColmapDatabase",
    "FeatureReader",
    "FeatureWriter",
    "MatchReader",
    "MatchWriter",
    "MissingItemError",
    "TwoView",
    "load_features",
    "load_imb",
    "load_matches",
    "read_colmap",
    "save_features",
    "save_imb",
    "save_matches",
    "write_colmap",
]

_MODULES = {
    "colmap": ("ColmapDatabase", "TwoView", "read_colmap", "write_colmap"),
    "hdf5": ("MissingItemError",),
    "hdf5_features": ("FeatureReader", "FeatureWriter"),
    "hdf5_matches": ("MatchReader", "MatchWriter"),
    "imb": ("load_imb", "save_imb"),
    "npz": ("load_features", "load_matches", "save_features", "save_matches"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
