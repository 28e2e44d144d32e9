"""What every part of tiepoints passes on: the features of an image, and the matches between two images."""

from .features import Features
from .matches import Match, Matches
from .rows import Keypoint

__all__ = ["Features", "Keypoint", "Match", "Matches"]
