"""From two images' descriptors to matches: one interface (`Matcher`), one registry (`match`, `load_matcher`)."""

from .base import Matcher
from .lightglue import LightGlue
from .nearest import Nearest
from .registry import load_matcher, match, matchers

__all__ = ["LightGlue", "Matcher", "Nearest", "load_matcher", "match", "matchers"]
