"""Matching and verification in one step, set by set, that stops as soon as the answer is certain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..checks import flag, instance
from ..features import Features, Matches
from ..geometry import log_nfa
from ..geometry.refinement import refined
from ..matching import Matcher, load_matcher
from ..matching.base import aligned
from .stages import Verified, Verify
from .steps import Step

__all__ = ["MatchVerified"]

# After the first set so many samples are drawn, a third of what `Verify` draws at most. Chosen on 379 pairs of phones
# and tourists' photographs (MD-Net, 2,048 keypoints in two sets): 182 of the 221 pairs that are verified in the end are
# certain by then, and 132 of the 158 others hopeless, with 2 of the verified ones among them. Ours.
_ITERATIONS = 3000
_CERTAIN, _HOPELESS = -12.0, 8.0
_FEWEST = 50  # matches


class MatchVerified(Step):
    """The matches of two images' features, verified: `Match` and `Verify` in one step that stops early.

    The features of the first set are matched, and a model is looked for with few samples. Where it has far more inliers
    than chance would give, the other sets are matched too, and the model, refined on all, tells their inliers. Where it
    has far fewer, the pair is not verified. Only what is left in doubt gets all samples; where there are more than two
    sets, after each of them. Features without sets are all matched first.

    Parameters
    ----------
    matcher : str or Matcher
    verify : Verify, optional
        By default ``Verify("fundamental")``.
    rest : bool
        Whether the other sets are matched once a pair is certain. Without it, pairs have fewer inliers, and
        reconstructions fewer points.
    **options
        Those of the matcher, where it is given by its name.

    Notes
    -----
    docs/collections.md has what it saves and what it costs.

    Examples
    --------
    >>> from tiepoints.collection import Collection, Extract, MatchVerified, Verify, run
    >>> features = run(Extract("mdnet"), Collection.from_folder("examples"))
    >>> views = run(MatchVerified(), [("box.png", "box_in_scene.png"), ("box.png", "desk_1.jpg")], None, features)
    >>> [bool(view) for view in views.values()]
    [True, False]
    """

    packages = Verify.packages

    def __init__(
        self, matcher: str | Matcher = "nearest", verify: Verify | None = None, *, rest: bool = True, **options: Any
    ) -> None:
        made = load_matcher(matcher, **options) if isinstance(matcher, str) else matcher
        self.matcher = instance(made, "matcher", Matcher)
        self.verify = Verify("fundamental") if verify is None else verify
        self.rest = flag(rest, "rest")

    def __call__(self, a: Features, b: Features) -> Verified:
        """The verified pair."""
        # How the images are rotated is found once, from all sets, as a matcher does that gets them all.
        one, other = aligned(a, b)
        alike = replace(one, rotations=1), replace(other, rotations=1)
        sets = _sets(a, b)
        matches, left = Matches.empty(), list(range(sets))
        while len(left) > 1 or left == [0]:
            matches = _together(matches, self._of_set(*alike, left.pop(0), sets))
            if len(matches) < _FEWEST:
                continue  # nothing can be told yet, and the rest costs little
            view = self.verify.attempt(matches, a, b, max_iterations=_ITERATIONS)
            if view.geometry.watermark is not None:
                break
            if view.log_nfa <= _CERTAIN:
                if self.rest:
                    view = self._refined(view, self._all(view.matches, *alike, left, sets), a, b)
                return self.verify.judged(view, a, b)
            if view.log_nfa >= _HOPELESS:
                return view
        return self.verify(self._all(matches, *alike, left, sets), a, b)

    def _refined(self, view: Verified, matches: Matches, a: Features, b: Features) -> Verified:
        """With the matches of all sets, and the model refined on them."""
        threshold = self.verify.threshold
        model = refined(view.geometry, a, b, matches, threshold)
        return Verified(matches, model, log_nfa(model, threshold, b.image_size))

    def _all(self, matches: Matches, a: Features, b: Features, left: list[int], sets: int) -> Matches:
        for which in left:
            matches = _together(matches, self._of_set(a, b, which, sets))
        return matches

    def _of_set(self, a: Features, b: Features, which: int, sets: int) -> Matches:
        """The matches of one set, with the rows of all features."""
        if sets == 1:
            return self.matcher(a, b)
        assert a.sets is not None and b.sets is not None
        rows_a, rows_b = np.flatnonzero(a.sets == which), np.flatnonzero(b.sets == which)
        found = self.matcher(a[rows_a], b[rows_b])
        indices = np.stack([rows_a[found.indices[:, 0]], rows_b[found.indices[:, 1]]], axis=1)
        return Matches(indices.astype(np.int32), found.scores)

    def memory(self, *inputs: Any) -> int:
        """Some megabytes: features, and a block of similarities."""
        return 20_000_000


def _sets(a: Features, b: Features) -> int:
    """How many sets the features are in; 1 without any."""
    if a.sets is None or b.sets is None or not len(a) or not len(b):
        return 1
    return int(max(a.sets.max(), b.sets.max())) + 1


def _together(one: Matches, other: Matches) -> Matches:
    """The matches of different sets, in the order of the first image's rows, as a matcher gives them."""
    indices = np.concatenate([one.indices, other.indices])
    order = np.argsort(indices[:, 0], kind="stable")
    return Matches(indices[order], np.concatenate([one.scores, other.scores])[order])
