"""Features, matches and cameras in files: .npz, HDF5 as hloc's, Image Matching Benchmark folders, COLMAP databases.

Each format is a module of its own and is imported when one of its names is used; h5py and pycolmap only when a file is
read or written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .colmap import (
        ColmapDatabase as ColmapDatabase,
        TwoView as TwoView,
        read_colmap as read_colmap,
        write_colmap as write_colmap,
    )
    from .hdf5 import MissingItemError as MissingItemError
    from .hdf5_features import FeatureReader as FeatureReader, FeatureWriter as FeatureWriter
    from .hdf5_matches import MatchReader as MatchReader, MatchWriter as MatchWriter
    from .imb import load_imb as load_imb, save_imb as save_imb
    from .npz import (
        load_features as load_features,
        load_matches as load_matches,
        save_features as save_features,
        save_matches as save_matches,
    )

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "colmap": ["ColmapDatabase", "TwoView", "read_colmap", "write_colmap"],
        "hdf5": ["MissingItemError"],
        "hdf5_features": ["FeatureReader", "FeatureWriter"],
        "hdf5_matches": ["MatchReader", "MatchWriter"],
        "imb": ["load_imb", "save_imb"],
        "npz": ["load_features", "load_matches", "save_features", "save_matches"],
    },
)
