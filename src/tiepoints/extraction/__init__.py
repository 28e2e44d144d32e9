"""Feature extractors: one file a method, one interface (`Extractor`), one registry (`load`, `extractors`)."""

from .base import Detections, Extractor, Metadata, WeightFile
from .metadata import LICENCES
from .registry import Option, extractors, is_installed, is_ready, load, metadata_of, options_of

__all__ = [
    "LICENCES",
    "Detections",
    "Extractor",
    "Metadata",
    "Option",
    "WeightFile",
    "extractors",
    "is_installed",
    "is_ready",
    "load",
    "metadata_of",
    "options_of",
]
