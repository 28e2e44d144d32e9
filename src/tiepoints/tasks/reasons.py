"""Why pairs and photographs are not part of a reconstruction, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..collection import Verified
from ..collection.pairs import Pair

__all__ = ["OUTCOMES", "PairReport", "outcome_lines", "why_most_are_missing"]

#: What becomes of pairs, in a word (`Verified.outcome`, and failed), and what it means.
OUTCOMES = {
    "verified": "verified",
    "chance": "no more inliers than chance gives",
    "few": "too few matches",
    "planar": "all on a plane or by a camera that only rotated: no depth",
    "still": "nothing moves: the same picture, or a camera that stood still",
    "contradicted": "verified by themselves, but contradicted by stronger pairs: parts that look alike",
    "overlay": "only an overlay agrees that does not move, such as a label or a watermark",
    "failed": "failed",
}
_VERIFIED = ("verified", "planar", "still")
_FLAT = {
    "planar": "a plane, or the camera only rotated",
    "still": "the same picture, or the camera stood still",
}
_MOST = 10_000  # pairs that a report lists
# Reasons why a photograph is missing, as `PairReport.why` and `reconstruct` begin or end them, and what helps.
_UNCONNECTED = "add photographs taken between those that do not match, or try a larger --max-size"
_REMEDIES = {
    "no verified pair": _UNCONNECTED,
    "too few points seen three times": "add photographs, so that each point is seen from three places",
    "no depth": "add photographs taken from other places, for a camera that only turns or stands still sees no depth",
    "in a smaller model": _UNCONNECTED,
    "no pose in --model": "their names are not those of the model's images",
    "no second photograph": "give two or more, taken from different places",
    "no pair": "choose more pairs, for instance by --pairs exhaustive",
}
_UNREADABLE = ("could not be read or processed", "replace or remove these files")


def why_most_are_missing(missing: Mapping[str, str]) -> str:
    """The most common reason of photographs that are missing, of how many, and what helps.

    Parameters
    ----------
    missing : mapping
        From the names to the reasons, as `Reconstruction.missing`.

    Examples
    --------
    >>> from tiepoints.tasks.reasons import why_most_are_missing
    >>> why_most_are_missing({"a.jpg": "no pair: it was matched with no other photograph"})
    'no pair (1 of 1): choose more pairs, for instance by --pairs exhaustive'
    """
    kinds = Counter(next((kind for kind in _REMEDIES if kind in why), "") for why in missing.values())
    if not kinds:
        return ""
    kind, count = kinds.most_common(1)[0]
    reason, remedy = (kind, _REMEDIES[kind]) if kind else _UNREADABLE
    return f"{reason} ({count} of {len(missing)}): {remedy}"


def outcome_lines(outcomes: Mapping[str, int]) -> list[tuple[int, str]]:
    """What became of the pairs that are not simply verified: how many, and in words.

    First those that count as verified and tell no depth, "of them: ...", then those that are not verified.

    Examples
    --------
    >>> from tiepoints.tasks.reasons import outcome_lines
    >>> outcome_lines({"verified": 2, "few": 1})
    [(1, 'pair: too few matches')]
    """
    flat = [(outcomes[each], f"of them: {OUTCOMES[each]}") for each in _FLAT if outcomes.get(each)]
    wrong = [(count, "pair" if count == 1 else "pairs", each) for each, count in outcomes.items()]
    return flat + [(count, f"{noun}: {OUTCOMES[each]}") for count, noun, each in wrong if each not in _VERIFIED]


class PairReport:
    """What became of the pairs.

    Parameters
    ----------
    views : iterable of (pair, Verified)
    failed : mapping
        Items that failed, and why; those that are pairs count.

    Attributes
    ----------
    outcomes : Counter
        How many pairs there are of each of `OUTCOMES`.
    reasons : dict from pair to str
        Why a pair is not verified, or tells no depth.

    Examples
    --------
    >>> import numpy as np
    >>> import tiepoints as tp
    >>> from tiepoints.collection import Verified
    >>> from tiepoints.geometry import Geometry
    >>> from tiepoints.tasks.reasons import PairReport
    >>> none = Verified(tp.Matches.empty(), Geometry("fundamental", None, np.zeros(0, bool)), np.inf)
    >>> report = PairReport([(("a", "b"), none)], {})
    >>> report.why("a")
    'no verified pair (too few matches: 1 of 1)'
    """

    def __init__(self, views: Iterable[tuple[Any, Verified]], failed: Mapping[Any, str]) -> None:
        self.outcomes: Counter[str] = Counter()
        self.reasons: dict[Pair, str] = {}
        self._outcome: dict[Pair, str] = {}
        self._verified: dict[Pair, str] = {}
        self._of_image: dict[str, Counter[str]] = {}
        self._overlays: dict[Pair, int] = {}
        self._group: dict[str, str] = {}  # from a photograph to another of its group, see `_head`
        for pair, view in views:
            self._count(pair, view.outcome, view.reason)
            if view.geometry.watermark is not None:
                self._overlays[pair] = int(view.geometry.watermark.sum())
        for pair, message in failed.items():
            if isinstance(pair, tuple):
                self._count(pair, "failed", message)

    def _count(self, pair: Pair, outcome: str, reason: str) -> None:
        self.outcomes[outcome] += 1
        if reason:
            self.reasons[pair], self._outcome[pair] = reason, outcome
        for name in pair:
            self._of_image.setdefault(name, Counter())[outcome] += 1
        if outcome in _VERIFIED:
            self._verified[pair] = outcome
            self._group[self._head(pair[0])] = self._head(pair[1])

    def _head(self, name: str) -> str:
        """The photograph that stands for the group of another one."""
        head = name
        while (further := self._group.get(head, head)) != head:
            head = further
        while (further := self._group.get(name, name)) != name:  # so that the way is short the next time
            self._group[name], name = head, further
        return head

    def groups(self, names: Iterable[str]) -> list[list[str]]:
        """The photographs, in groups that verified pairs hold together; the largest first."""
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(self._head(name), []).append(name)
        return sorted(found.values(), key=lambda group: -len(group))

    def hopeful(self, group: Iterable[str]) -> tuple[str, list[str]]:
        """The photograph of a group with the most verified pairs, and those outside with which it is not verified, for
        lack of matches or by chance: those with the most verified pairs first.
        """
        name = max(group, key=self.verified)
        others = [
            b if a == name else a
            for (a, b), outcome in self._outcome.items()
            if name in (a, b) and outcome in ("few", "chance")
        ]
        return name, sorted(others, key=lambda other: -self.verified(other))

    @property
    def overlays(self) -> dict[Pair, int]:
        """Pairs with matches on an overlay that does not move, and how many of them were left out."""
        return self._overlays

    def verified(self, name: str | None = None) -> int:
        """How many pairs are verified: all, or those of an image."""
        counts = self.outcomes if name is None else self._of_image.get(name, Counter())
        return sum(counts[outcome] for outcome in _VERIFIED)

    def tells_depth(self, names: Iterable[str]) -> bool:
        """Whether the verified pairs among photographs can make a model: one tells depth, or several show a plane that
        is seen from more than two places. Where nothing moves, there is none.
        """
        inside = set(names)
        kinds = {outcome for (a, b), outcome in self._verified.items() if a in inside and b in inside}
        return "verified" in kinds or ("planar" in kinds and len(inside) > 2)

    @property
    def stood_still(self) -> bool:
        """Whether there are verified pairs, and nothing moves in any of them."""
        return set(self._verified.values()) == {"still"}

    def why(self, name: str) -> str:
        """Why a photograph is not registered, as far as its pairs tell."""
        counts = self._of_image.get(name, Counter())
        every = counts.total()
        if not self._of_image:
            return "no second photograph: there is nothing to match it with"
        if not every:
            return "no pair: it was matched with no other photograph"
        verified = self.verified(name)
        if not verified:
            parts = [f"{OUTCOMES[outcome]}: {number} of {every}" for outcome, number in counts.most_common()]
            return f"no verified pair ({', '.join(parts)})"
        if not counts["verified"]:
            flat = max(_FLAT, key=lambda outcome: counts[outcome])
            pairs = "verified pair shows" if verified == 1 else f"{verified} verified pairs show"
            return f"no depth: its {pairs} {_FLAT[flat]}"
        pairs = "one verified pair" if verified == 1 else f"{verified} verified pairs"
        return f"{pairs}, but too few points seen three times"

    def as_dict(self) -> dict[str, Any]:
        """As JSON can say it."""
        # What is surprising comes first; that most pairs show different things is not.
        order = list(reversed(OUTCOMES))
        listed = sorted(self.reasons.items(), key=lambda item: order.index(self._outcome[item[0]]))
        content: dict[str, Any] = {
            "pairs_by_outcome": dict(self.outcomes),
            "failed_pairs": [
                {"pair": list(pair), "outcome": self._outcome[pair], "why": why} for pair, why in listed[:_MOST]
            ],
            "pairs_with_overlays": [{"pair": list(p), "matches": n} for p, n in list(self._overlays.items())[:_MOST]],
        }
        if len(listed) > _MOST:
            content["failed_pairs_left_out"] = len(listed) - _MOST
        return content
