"""Whether photographs that match nothing would match if they were rotated: tried on a few of them, by quarter turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import checks
from ..collection import Collection, Match, MatchVerified, Photograph, Step, Verified, Verify, run
from ..errors import TiepointsError
from ..extraction import Extractor
from ..features import Features
from ..pair import TURNS
from .reasons import PairReport

if TYPE_CHECKING:
    from .localization import Localizer

__all__ = ["ExtractRotated", "rotated_photograph", "rotated_query", "strength_by"]

_TRIED = 2  # photographs
_PARTNERS = 3  # others that each is matched with
_LEAST = 16  # keypoints


class ExtractRotated(Step):
    """The features of a photograph that is rotated, in pixels of the rotated photograph.

    Parameters
    ----------
    extractor : Extractor
    turns : int
        Quarter turns against the clock.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection import Collection
    >>> from tiepoints.tasks.rotated import ExtractRotated
    >>> box = Collection.from_folder("examples")["box.png"]
    >>> ExtractRotated(tp.load("upright-rootsift", max_keypoints=100), 1)(box)
    Features(100 keypoints, 128-D, image 223x324)
    """

    def __init__(self, extractor: Extractor, turns: int) -> None:
        self.extractor = checks.instance(extractor, "extractor", Extractor)
        self.turns = turns

    def __call__(self, photograph: Photograph) -> Features:
        """The features of a photograph, where its mask allows them."""
        mask = photograph.read_mask()
        kept = None if mask is None else np.ascontiguousarray(np.rot90(mask, self.turns))
        return self.extractor(np.ascontiguousarray(np.rot90(photograph.read(), self.turns)), kept)


def rotated_photograph(
    photographs: Collection,
    features: Mapping[Any, Features],
    report: PairReport,
    extractor: Extractor,
    strength: Callable[[Features, Features], int],
) -> str:
    """One line that names a photograph which matches others if it is rotated, and what helps; empty if none is found.

    Verified pairs hold photographs together in groups. Of the groups beside the largest one, two are tried: a
    photograph of each, rotated in three ways, with three photographs outside of its group with which it does not match
    as it is. That are six extractions at most.

    Parameters
    ----------
    photographs : Collection
    features : mapping
        Of the photographs, by their names.
    report : PairReport
    extractor : Extractor
        What found the features.
    strength : callable
        How many inliers the features of two images have, see `strength_by`.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection import Collection
    >>> from tiepoints.tasks.reasons import PairReport
    >>> from tiepoints.tasks.rotated import rotated_photograph
    >>> rotated_photograph(Collection([]), {}, PairReport([], {}), tp.load("mdnet"), lambda a, b: 100)
    ''
    """
    checks.instance(photographs, "photographs", Mapping)
    checks.instance(extractor, "extractor", Extractor)
    if extractor.in_any_rotation() is extractor:
        return ""
    groups = report.groups(map(str, features))[1:]
    for group in [groups[i] for i in sorted({0, len(groups) // 2})[:_TRIED]] if groups else []:
        name, others = report.hopeful(group)
        if name not in photographs or len(features[name]) < _LEAST:
            continue
        tried = []
        for turns, words in TURNS.items():
            step = ExtractRotated(extractor, turns)  # kept, so that the same command does not do it once more
            found = run(step, {name: photographs[name]}, getattr(features, "store", None))
            tried += [(strength(features[a], found[name]), words, a) for a in others[:_PARTNERS] if name in found]
        inliers, words, other = max(tried, key=lambda one: one[0], default=(0, "", ""))
        if inliers:
            return f"{name} matches {other} if it is rotated {words}: {remedy_for(extractor)}"
    return ""


def strength_by(match: Match | MatchVerified, verify: Verify | None = None) -> Callable[[Features, Features], int]:
    """What counts the inliers of two images' features by the steps that judge all pairs: 0 if they are not verified.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection import Match, Verify
    >>> from tiepoints.tasks.rotated import strength_by
    >>> box = tp.load("rootsift", max_keypoints=200)("examples/box.png")
    >>> strength_by(Match(), Verify("homography"))(box, box) > 100
    True
    """
    checks.present(match, "match")

    def strength(a: Features, b: Features) -> int:
        found = match(a, b)
        view = found if isinstance(found, Verified) else (verify or Verify("fundamental"))(found, a, b)
        return len(view.inliers)

    return strength


def remedy_for(extractor: Extractor) -> str:
    """What makes photographs match that are rotated to each other."""
    if extractor.in_any_rotation() is None:
        return "-e mdnet and -e rootsift match photographs that are rotated to each other"
    return "--rotation any matches photographs that are rotated to each other"


def rotated_query(localizer: Localizer, photographs: Collection, names: Iterable[str]) -> str:
    """One line that names a query which is localized if it is rotated; empty if none is found among the first two.

    Parameters
    ----------
    localizer : Localizer
    photographs : Collection
    names : iterable of str
        Those that are not localized.

    Examples
    --------
    >>> from tiepoints.tasks import Localizer
    >>> from tiepoints.tasks.rotated import rotated_query
    >>> rotated_query(Localizer("map/"), queries, ["a.jpg"])    # doctest: +SKIP
    'a.jpg is localized if it is rotated 90 degrees to the left: a map made with --rotation any localizes it as it is'
    """
    checks.present(localizer, "localizer")
    if not localizer.map.extractor or localizer.extractor.in_any_rotation() is localizer.extractor:
        return ""
    for name in list(names)[:_TRIED]:
        with suppress(TiepointsError):
            tried = []
            for turns, words in TURNS.items():
                found = localizer.localize(ExtractRotated(localizer.extractor, turns)(photographs[name]))
                tried += [(found.inliers, words)] if found else []
            if tried:
                able = localizer.extractor.in_any_rotation() is not None
                made = "--rotation any" if able else "-e mdnet or -e rootsift"
                words = max(tried)[1]
                return f"{name} is localized if it is rotated {words}: a map made with {made} localizes it as it is"
    return ""
