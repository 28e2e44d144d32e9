"""Which verified pairs are contradicted by stronger ones: look-alike parts of a scene, such as the columns of a temple.

A wrong pair of photographs of a symmetric scene can have a model with many more inliers than chance would give. No test
on that pair alone finds it. Others do: what two photographs share with those between them says which of their keypoints
show the same point, and whether the model agrees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..features import Features
from ..geometry.residuals import sampson_error, symmetric_homography_error
from .stages import Verified

__all__ = ["ConsistentViews"]

Pair = tuple[Any, Any]

_LEAST = 10  # implied matches by which a pair is judged
# Pixels: implied matches come over several images, each of which adds its error to the 1 pixel of an inlier.
_TOLERANCE = 4.0


class ConsistentViews(Mapping[Pair, Verified]):
    """Verified pairs, where each knows how well stronger ones agree with it.

    The pairs are taken in the order of their inliers, most first. The inliers of those so far form tracks: keypoints of
    several images that show one point, at most one of each image. The next pair's images share some of these tracks
    already; its `Verified.agreement` is the share of these implied matches that are near what its model allows. A pair
    whose agreement is low is contradicted: it is no longer verified, and its inliers do not go into the tracks. Where
    few tracks are shared a pair is not judged.

    Building tracks best pair first follows Snavely, Seitz, Szeliski (Photo tourism, 2006); judging pairs by what others
    imply is in the spirit of Zach, Klopschitz, Pollefeys (Disambiguating visual relations using loop constraints,
    CVPR 2010), without their cameras.

    Parameters
    ----------
    views : mapping from pair to Verified
        Such as the results of `Verify`.
    features : mapping from image to Features

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection import Collection, ConsistentViews, Extract, Match, Verify, exhaustive, run
    >>> photos = Collection.from_folder("examples").select(["desk_1.jpg", "desk_2.jpg"])
    >>> features = run(Extract("orb"), photos)
    >>> matches = run(Match(), exhaustive(photos), None, features)
    >>> views = ConsistentViews(run(Verify(), matches, None, features), features)
    >>> [view.outcome for view in views.values()]
    ['verified']
    """

    def __init__(self, views: Mapping[Any, Verified], features: Mapping[Any, Features]) -> None:
        checks.instance(views, "views", Mapping)
        self._views: Mapping[Pair, Verified] = views
        self._agreement: dict[Pair, float] = {}
        strength = {pair: view.geometry.num_inliers for pair, view in self._views.items() if view}
        # each image's features are read from the store once, however many pairs it is in
        tracks = _Tracks({name: features[name].keypoints for name in {name for pair in strength for name in pair}})
        for pair in sorted(strength, key=lambda pair: -strength[pair]):
            view = self._views[pair]
            p, q = tracks.shared(*pair)
            if len(p) >= _LEAST:
                error = symmetric_homography_error if view.geometry.kind == "homography" else sampson_error
                assert view.geometry.matrix is not None
                agreement = float((error(view.geometry.matrix, p, q) <= _TOLERANCE).mean())
                self._agreement[pair], view = agreement, replace(view, agreement=agreement)
            if view:
                tracks.add(*pair, view.inliers.indices)

    def __getitem__(self, pair: Pair) -> Verified:
        view = self._views[pair]
        return replace(view, agreement=self._agreement[pair]) if pair in self._agreement else view

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __contains__(self, pair: object) -> bool:
        return pair in self._views


class _Tracks:
    """Keypoints of several images that show the same point."""

    def __init__(self, keypoints: dict[Any, NDArray[np.float32]]) -> None:
        self._keypoints = keypoints
        self._of = {name: np.full(len(points), -1, np.int64) for name, points in keypoints.items()}
        self._members: list[dict[Any, int]] = []  # of each track: image -> number of its keypoint

    def shared(self, a: Any, b: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Positions (N, 2) in a and in b of the tracks that both have."""
        in_a, in_b = self._of[a], self._of[b]
        rows_a, rows_b = np.flatnonzero(in_a >= 0), np.flatnonzero(in_b >= 0)
        _, i, j = np.intersect1d(in_a[rows_a], in_b[rows_b], assume_unique=True, return_indices=True)
        return self._keypoints[a][rows_a[i]], self._keypoints[b][rows_b[j]]

    def add(self, a: Any, b: Any, matches: NDArray[np.integer[Any]]) -> None:
        """Let matches (N, 2) of a and b start tracks, prolong and join them, where no image comes to be there twice."""
        in_a, in_b = self._of[a], self._of[b]
        x, y = in_a[matches[:, 0]], in_b[matches[:, 1]]
        for i, j in matches[(x < 0) | (x != y)].tolist():  # most are of one track already, once there are many images
            x, y = int(in_a[i]), int(in_b[j])
            if x < 0 and y < 0:
                in_a[i] = in_b[j] = len(self._members)
                self._members.append({a: i, b: j})
            elif y < 0:
                if b not in self._members[x]:
                    self._members[x][b], in_b[j] = j, x
            elif x < 0:
                if a not in self._members[y]:
                    self._members[y][a], in_a[i] = i, y
            elif x != y and self._members[x].keys().isdisjoint(self._members[y]):
                kept, gone = (x, y) if len(self._members[x]) >= len(self._members[y]) else (y, x)
                for name, k in self._members[gone].items():
                    self._of[name][k] = kept
                self._members[kept] |= self._members[gone]
                self._members[gone] = {}
