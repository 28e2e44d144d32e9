"""The Image Matching Benchmark (Jin et al., IJCV 2021), on its own scenes and on any photographs with true cameras."""

from __future__ import annotations

from ...datasets.scenes import Scene, View, find_scenes, read_scene
from .evaluate import Options, evaluate_image_matching
from .export import export_submission
from .stereo import Track

__all__ = [
    "Options",
    "Scene",
    "Track",
    "View",
    "evaluate_image_matching",
    "export_submission",
    "find_scenes",
    "read_scene",
]
