"""What every part of tiepoints passes on: the features of an image, and the matches between two images."""

from .features import Features, Keypoint
from .matches import Match, Matches

__all__ = ["Features", "Keypoint", "Match", "Matches"]
