"""From two images' descriptors to matches."""

from .nearest import match

__all__ = ["match"]
