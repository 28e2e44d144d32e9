"""Which matchers there are: ours by a table, other packages' by the entry-point group ``tiepoints.matchers``."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from ..checks import choice, no_option, shown
from ..errors import InvalidInputError
from ..features import Features, Matches
from .base import Matcher

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["as_matcher", "load_matcher", "match", "matchers"]

GROUP = "tiepoints.matchers"

# Name -> module and class, imported when asked for.
_OURS: dict[str, tuple[str, str]] = {"nearest": ("nearest", "Nearest"), "lightglue": ("lightglue", "LightGlue")}


def matchers() -> list[str]:
    """The names that `match` and `load_matcher` take, ours first.

    Returns
    -------
    names : list of str

    Examples
    --------
    >>> from tiepoints.matching import matchers
    >>> "nearest" in matchers()
    True
    """
    return [*_OURS, *sorted(_plugins())]


def load_matcher(name: str, **options: Any) -> Matcher:
    """Make a matcher by its name.

    Parameters
    ----------
    name : str
        One of `matchers()`; case does not matter.
    **options
        Those of its class.

    Returns
    -------
    matcher : Matcher

    Raises
    ------
    InvalidInputError
        If there is no such matcher, it has no such option, or an option is out of its range.

    Examples
    --------
    >>> from tiepoints.matching import load_matcher
    >>> load_matcher("nearest", ratio=0.8)
    Nearest(ratio=0.8, min_similarity=None, mutual=True)
    """
    ours = name.lower() if isinstance(name, str) else ""
    if ours in _OURS:  # before other packages are looked for, which takes longer than all that follows
        module, attribute = _OURS[ours]
        kind = getattr(import_module(f"{__package__}.{module}"), attribute)
    else:
        name = choice(name, "matcher", matchers())
        kind = _plugins()[name].load()
    known = list(signature(kind).parameters)
    unknown = [option for option in options if option not in known]
    if unknown:
        raise InvalidInputError(no_option(f"the matcher {name}", unknown, known))
    made: Matcher = kind(**options)
    return made


def match(a: Features, b: Features, *, matcher: str | Matcher = "nearest", **options: Any) -> Matches:
    """Match the features of two images.

    Parameters
    ----------
    a, b : Features
        Of the same extractor.
    matcher : str or Matcher
        A name, see `matchers`, or a matcher that was made before. "nearest" is `Nearest`: mutual nearest neighbours;
        "lightglue" is `LightGlue`, which needs torch.
    **options
        Those of the matcher, where it is given by its name; of "nearest" `ratio`, `min_similarity` and `mutual`, of
        "lightglue" for instance `features`.

    Returns
    -------
    matches : Matches
        In the order of `a`'s features.

    Raises
    ------
    InvalidInputError
        If the features cannot be matched with each other, there is no such matcher, or an option is wrong.

    Examples
    --------
    >>> import tiepoints as tp
    >>> orb = tp.load("orb", max_keypoints=500)
    >>> a, b = orb("examples/box.png"), orb("examples/box_in_scene.png")
    >>> putative = tp.match(a, b, ratio=0.8)
    >>> points_a, points_b = putative.points(a, b)
    >>> points_a.shape == (len(putative), 2)
    True
    """
    return as_matcher(matcher, **options)(a, b)


def as_matcher(matcher: str | Matcher, **options: Any) -> Matcher:
    """A matcher by its name, or as it is.

    Raises
    ------
    InvalidInputError
        If it is neither, or a matcher that has its options already gets some.
    """
    if isinstance(matcher, Matcher):
        if options:
            raise InvalidInputError(f"{', '.join(options)}: {matcher!r} has its options already")
        return matcher
    if not isinstance(matcher, str):
        raise InvalidInputError(f"matcher is {shown(matcher)}, but must be a Matcher or one of {', '.join(matchers())}")
    return load_matcher(matcher, **options)


@cache
def _plugins() -> dict[str, EntryPoint]:
    """Other packages' matchers; none can replace one of ours."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in _OURS}
