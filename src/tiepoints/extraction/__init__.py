"""Feature extractors: one file a method, one contract (`Extractor`), one registry (`load`, `extractors`)."""

from .base import Card, Detections, Extractor, WeightFile
from .registry import extractors, is_installed, load

__all__ = ["Card", "Detections", "Extractor", "WeightFile", "extractors", "is_installed", "load"]
