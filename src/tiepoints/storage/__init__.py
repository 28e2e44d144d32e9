"""Features, matches and cameras in files: .npz, HDF5 as hloc's, Image Matching Benchmark folders, COLMAP databases.

Each format is a module of its own and is imported when one of its names is used; h5py and pycolmap only when a file is
read or written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .colmap import read_colmap as read_colmap, write_colmap as write_colmap
    from .exchange import Exchange as Exchange, read_exchange as read_exchange, write_exchange as write_exchange
    from .hdf5 import MissingItemError as MissingItemError
    from .hdf5_features import FeatureReader as FeatureReader, FeatureWriter as FeatureWriter
    from .hdf5_matches import MatchReader as MatchReader, MatchWriter as MatchWriter
    from .imb import load_imb as load_imb, save_imb as save_imb
    from .meshroom import load_meshroom as load_meshroom, save_meshroom as save_meshroom
    from .npz import (
        load_features as load_features,
        load_matches as load_matches,
        save_features as save_features,
        save_matches as save_matches,
    )
    from .opensfm import load_opensfm as load_opensfm, save_opensfm as save_opensfm
    from .two_view import ColmapDatabase as ColmapDatabase, TwoView as TwoView

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "colmap": ["read_colmap", "write_colmap"],
        "exchange": ["Exchange", "read_exchange", "write_exchange"],
        "hdf5": ["MissingItemError"],
        "hdf5_features": ["FeatureReader", "FeatureWriter"],
        "hdf5_matches": ["MatchReader", "MatchWriter"],
        "imb": ["load_imb", "save_imb"],
        "meshroom": ["load_meshroom", "save_meshroom"],
        "npz": ["load_features", "load_matches", "save_features", "save_matches"],
        "opensfm": ["load_opensfm", "save_opensfm"],
        "two_view": ["ColmapDatabase", "TwoView"],
    },
)
