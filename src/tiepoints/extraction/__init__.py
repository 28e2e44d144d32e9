"""Feature extractors: one file a method, one contract (`Extractor`), one registry (`load`, `extractors`)."""

from .base import Card, Detections, Extractor, WeightFile
from .registry import Option, extractors, is_installed, load, options_of
from .stream import Extracted, extract_images

__all__ = [
    "Card",
    "Detections",
    "Extracted",
    "Extractor",
    "Option",
    "WeightFile",
    "extract_images",
    "extractors",
    "is_installed",
    "load",
    "options_of",
]
