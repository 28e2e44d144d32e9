"""tiepoints: the same physical points found in different photographs.

>>> import tiepoints as tp
>>> extractor = tp.load("mdnet")
>>> a, b = extractor(tp.read("a.jpg")), extractor(tp.read("b.jpg"))
>>> matches = tp.match(a, b)
>>> model = tp.homography(a, b, matches)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .camera import Camera as Camera
    from .collection import extract_images as extract_images
    from .errors import ImageError as ImageError
    from .errors import InvalidInputError as InvalidInputError
    from .errors import LicenceError as LicenceError
    from .errors import MissingDependencyError as MissingDependencyError
    from .errors import StorageError as StorageError
    from .errors import TiepointsError as TiepointsError
    from .errors import TrainingError as TrainingError
    from .errors import UnknownExtractorError as UnknownExtractorError
    from .errors import WeightsError as WeightsError
    from .exif import position_from_exif as position_from_exif
    from .extraction import Extractor as Extractor
    from .extraction import Metadata as Metadata
    from .extraction import extractors as extractors
    from .extraction import load as load
    from .features import Features as Features
    from .features import Matches as Matches
    from .geometry import absolute_pose as absolute_pose
    from .geometry import essential as essential
    from .geometry import fundamental as fundamental
    from .geometry import homography as homography
    from .geometry import relative_pose as relative_pose
    from .images import read as read
    from .matching import match as match
    from .pair import match_images as match_images
    from .plot import plot_keypoints as plot_keypoints
    from .plot import plot_matches as plot_matches
    from .plot import plot_overlay as plot_overlay
    from .plot import save_image as save_image

__version__ = "0.1.0.dev0"

# Name -> module that has it. Imported at first use: `tiepoints --help` must not pay for OpenCV.
_HOMES = {
    "Camera": "camera",
    "Metadata": "extraction",
    "Extractor": "extraction",
    "Features": "features",
    "ImageError": "errors",
    "InvalidInputError": "errors",
    "LicenceError": "errors",
    "Matches": "features",
    "MissingDependencyError": "errors",
    "StorageError": "errors",
    "TiepointsError": "errors",
    "TrainingError": "errors",
    "UnknownExtractorError": "errors",
    "WeightsError": "errors",
    "absolute_pose": "geometry",
    "essential": "geometry",
    "extract_images": "collection",
    "extractors": "extraction",
    "fundamental": "geometry",
    "homography": "geometry",
    "load": "extraction",
    "match": "matching",
    "match_images": "pair",
    "plot_keypoints": "plot",
    "plot_matches": "plot",
    "plot_overlay": "plot",
    "position_from_exif": "exif",
    "read": "images",
    "relative_pose": "geometry",
    "save_image": "plot",
}

# Modules that are public as a whole, imported at first use too: `tiepoints.storage.save_features`.
_MODULES = frozenset({"collection", "extraction", "geometry", "matching", "metrics", "storage"})

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module 'tiepoints' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
