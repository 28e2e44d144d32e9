"""tiepoints: the same physical points found in different photographs.

>>> import tiepoints as tp
>>> extractor = tp.load("mdnet")
>>> a, b = extractor(tp.read("a.jpg")), extractor(tp.read("b.jpg"))
>>> matches = tp.match(a, b)
>>> model = tp.homography(a, b, matches)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import attach

if TYPE_CHECKING:
    from .camera import Camera as Camera
    from .collection import extract_images as extract_images
    from .errors import (
        ImageError as ImageError,
        InvalidInputError as InvalidInputError,
        LicenceError as LicenceError,
        MissingDependencyError as MissingDependencyError,
        StorageError as StorageError,
        TiepointsError as TiepointsError,
        TrainingError as TrainingError,
        UnknownExtractorError as UnknownExtractorError,
        WeightsError as WeightsError,
    )
    from .exif import position_from_exif as position_from_exif
    from .extraction import Extractor as Extractor, Metadata as Metadata, extractors as extractors, load as load
    from .features import Features as Features, Matches as Matches
    from .geometry import (
        absolute_pose as absolute_pose,
        essential as essential,
        fundamental as fundamental,
        homography as homography,
        relative_pose as relative_pose,
    )
    from .images import read as read
    from .matching import Matcher as Matcher, match as match
    from .pair import match_images as match_images
    from .plot import (
        plot_keypoints as plot_keypoints,
        plot_matches as plot_matches,
        plot_overlay as plot_overlay,
        save_image as save_image,
    )

__version__ = "0.1.0.dev0"

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "camera": ["Camera"],
        "collection": ["extract_images"],
        "errors": [
            "ImageError",
            "InvalidInputError",
            "LicenceError",
            "MissingDependencyError",
            "StorageError",
            "TiepointsError",
            "TrainingError",
            "UnknownExtractorError",
            "WeightsError",
        ],
        "exif": ["position_from_exif"],
        "extraction": ["Extractor", "Metadata", "extractors", "load"],
        "features": ["Features", "Matches"],
        "geometry": ["absolute_pose", "essential", "fundamental", "homography", "relative_pose"],
        "images": ["read"],
        "matching": ["Matcher", "match"],
        "pair": ["match_images"],
        "plot": ["plot_keypoints", "plot_matches", "plot_overlay", "save_image"],
    },
    modules=("collection", "datasets", "extraction", "geometry", "matching", "metrics", "storage", "tasks"),
)
