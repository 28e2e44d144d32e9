"""Feature extractors: one file a method, one interface (`Extractor`), one registry (`load`, `extractors`)."""

from .base import Detections, Extractor, Metadata, WeightFile
from .metadata import LICENCES
from .registry import Option, extractors, is_installed, is_ready, load, metadata_of, options_of
from .stream import Extracted, extract_images

__all__ = [
    "LICENCES",
    "Detections",
    "Extracted",
    "Extractor",
    "Metadata",
    "Option",
    "WeightFile",
    "extract_images",
    "extractors",
    "is_installed",
    "is_ready",
    "load",
    "metadata_of",
    "options_of",
]
