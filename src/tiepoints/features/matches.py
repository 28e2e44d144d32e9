"""The matches between the features of two images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import array, frozen, instance, shown
from ..errors import InvalidInputError, counted
from . import interop
from .features import Features
from .rows import index_of, is_number, locked

if TYPE_CHECKING:
    import cv2

__all__ = ["Match", "Matches"]

Float32 = NDArray[np.float32]


class Match(NamedTuple):
    """One row of `Matches`: what iterating over them and indexing them by a number gives.

    Examples
    --------
    >>> import tiepoints as tp
    >>> tp.Matches([[3, 5]], [0.5])[0]
    Match(a=3, b=5, score=0.5)
    """

    a: int
    """Row in the first image's features."""
    b: int
    """Row in the second's."""
    score: float


@dataclass(frozen=True, eq=False, repr=False)
class Matches:
    """Pairs of features of two images that show the same point.

    They can be indexed by a number (a `Match`), a slice, a mask or numbers (`Matches`), and iterated.

    Parameters
    ----------
    indices : (M, 2) int32
        Row numbers [in the first image's features, in the second's], 0 or more.
    scores : (M,) float32
        Similarity of the two descriptors in [-1, 1]: the dot product of unit vectors, or for binary descriptors
        1 - 2 * Hamming distance / number of bits. Matchers that are learned give their confidence.

    Raises
    ------
    InvalidInputError
        If a shape is wrong, an index is no whole number or negative, or a score is not finite.

    Examples
    --------
    >>> import tiepoints as tp
    >>> matches = tp.Matches([[0, 4], [3, 1]], [0.9, 0.8])
    >>> [(match.a, match.b) for match in matches]
    [(0, 4), (3, 1)]
    >>> matches[:1]
    Matches(1)
    """

    indices: NDArray[np.int32]
    scores: Float32

    def __post_init__(self) -> None:
        indices = array(self.indices, "indices", ("M", 2), np.int32, least=0)
        scores = array(self.scores, "scores", (len(indices),), np.float32)
        object.__setattr__(self, "indices", frozen(indices))
        object.__setattr__(self, "scores", frozen(scores))

    @classmethod
    def empty(cls) -> Matches:
        """No matches."""
        return cls(np.zeros((0, 2), np.int32), np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, which: int) -> Match: ...
    @overload
    def __getitem__(self, which: ArrayLike | slice) -> Matches: ...
    def __getitem__(self, which: Any) -> Match | Matches:
        """One `Match` by its number; `Matches` by a slice, a boolean mask (M,) or an array of numbers (K,)."""
        if not is_number(which):
            return self.select(which)
        row = range(len(self))[which]
        first, second = self.indices[row].tolist()
        return Match(first, second, float(self.scores[row]))

    def __iter__(self) -> Iterator[Match]:
        return map(Match, self.indices[:, 0].tolist(), self.indices[:, 1].tolist(), self.scores.tolist())

    def __repr__(self) -> str:
        return f"Matches({len(self)})"

    def _repr_html_(self) -> str:
        """The first matches as a table, as a notebook shows them."""
        rows = "".join(f"<tr><td>{i}</td><td>{j}</td><td>{score:.3f}</td></tr>" for i, j, score in self[:8])
        more = f"<p>and {len(self) - 8} more</p>" if len(self) > 8 else ""
        head = f"<p>{counted(len(self), 'match')}</p>"
        return f"{head}<table><tr><th>a</th><th>b</th><th>score</th></tr>{rows}</table>{more}"

    def select(self, which: ArrayLike | slice) -> Matches:
        """Those matches that numbers, a mask or a slice pick.

        Parameters
        ----------
        which : array or slice
            Numbers (K,), a boolean mask (M,), or a slice.

        Returns
        -------
        matches : Matches
            In the order of the numbers.

        Raises
        ------
        InvalidInputError
            If the mask has another length, or an index is no whole number or out of range.
        """
        index = index_of(which, len(self), "matches")
        return Matches(locked(self.indices[index]), locked(self.scores[index]))

    def points(self, a: Features, b: Features) -> tuple[Float32, Float32]:
        """The matched keypoints of both images, row by row.

        Parameters
        ----------
        a, b : Features
            Of the two images.

        Returns
        -------
        points_a, points_b : (M, 2) float32
            [x, y] in pixels, pixel-centre convention.

        Raises
        ------
        InvalidInputError
            If an index points outside `a` or `b`: the matches belong to other features.
        """
        self._check(a, b)
        return a.keypoints[self.indices[:, 0]], b.keypoints[self.indices[:, 1]]

    def _check(self, a: Features, b: Features) -> None:
        instance(a, "a", Features, "call an extractor first")
        instance(b, "b", Features, "call an extractor first")
        if len(self) and (self.indices.max(axis=0) >= (len(a), len(b))).any():
            raise InvalidInputError(
                f"matches refer to keypoint {self.indices.max(axis=0).tolist()} but the features hold "
                f"{len(a)} and {len(b)}: these matches were made from other features"
            )

    def to_opencv(self, a: Features | None = None) -> list[cv2.DMatch]:
        """OpenCV's matches, for ``cv2.drawMatches`` and the like.

        Parameters
        ----------
        a : Features, optional
            The first image's. Where its descriptors are bits, a match's `distance` is Hamming's, a whole number;
            otherwise it is Euclidean, of unit vectors.

        Returns
        -------
        matches : list of cv2.DMatch
        """
        if a is not None:
            instance(a, "a", Features)
        bits = None if a is None or not a.binary else 8 * a.descriptors.shape[1]
        return interop.to_dmatches(self.indices, self.scores, bits)

    @classmethod
    def from_opencv(
        cls, matches: Sequence[cv2.DMatch], a: Features | None = None, b: Features | None = None
    ) -> Matches:
        """Matches from OpenCV's.

        Parameters
        ----------
        matches : sequence of cv2.DMatch
            As ``match`` returns them; of ``knnMatch`` the first of each row, after a ratio test.
        a, b : Features, optional
            Of the query image and of the train image: with them the scores are the similarities of the descriptors, as
            `match` gives them. What a distance means depends on the descriptors; without them the scores are
            1 / (1 + distance), of which only the order has a meaning.

        Returns
        -------
        matches : Matches

        Raises
        ------
        InvalidInputError
            If these are no DMatches, they were made from other features, or there are features of one image only.

        Examples
        --------
        >>> import cv2, tiepoints as tp
        >>> orb = tp.load("orb", max_keypoints=200)
        >>> a, b = orb("examples/box.png"), orb("examples/box_in_scene.png")
        >>> theirs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(a.to_opencv()[1], b.to_opencv()[1])
        >>> len(tp.Matches.from_opencv(theirs)) == len(tp.Matches.from_opencv(theirs, a, b)) == len(theirs)
        True
        """
        indices = interop.from_dmatches(matches)
        if a is None and b is None:
            distances = np.array([match.distance for match in matches], np.float32)
            return cls(indices, np.asarray(1 / (1 + np.maximum(distances, 0)), np.float32))
        if a is None or b is None:
            raise InvalidInputError("a and b are the features of the query image and of the train image: give both")
        matched = cls(indices, np.zeros(len(indices), np.float32))
        matched._check(a, b)
        if a.binary != b.binary or a.descriptors.shape[1] != b.descriptors.shape[1]:
            raise InvalidInputError("a and b have descriptors of different kinds; use one extractor for both")
        chosen = a.select(matched.indices[:, 0]), b.select(matched.indices[:, 1])
        left, right = (each.vectors() for each in chosen)
        scores = np.einsum("md,md->m", left, right) / np.float32(left.shape[1] if a.binary else 1)
        return cls(matched.indices, scores)

    def to_torch(self, device: str | None = None) -> dict[str, Any]:
        """A dictionary of torch tensors.

        Parameters
        ----------
        device : str, optional
            Where they go, for instance "cuda".

        Returns
        -------
        tensors : dict
            indices (M, 2) int32 and scores (M,) float32.

        Raises
        ------
        MissingDependencyError
            If torch is not installed.
        """
        return interop.tensors({"indices": self.indices, "scores": self.scores}, device)

    @classmethod
    def from_torch(cls, tensors: Mapping[str, Any]) -> Matches:
        """Matches from a dictionary of tensors: `to_torch`'s, or what LightGlue (its own, or kornia's) returns.

        Parameters
        ----------
        tensors : mapping
            With indices or matches (M, 2), and scores (M,) where there are any; or with matches0 (N,), the
            row in the second image or -1. A batch of one pair.

        Returns
        -------
        matches : Matches

        Raises
        ------
        InvalidInputError
            If it holds neither ``indices`` nor ``matches`` nor ``matches0``, or several pairs.
        """
        return cls(*interop.matches_from_tensors(tensors))

    @classmethod
    def from_lightglue(cls, result: Mapping[str, Any] | Sequence[Any]) -> Matches:
        """Matches from what LightGlue returns for one pair of images; the inverse of `to_lightglue`.

        Parameters
        ----------
        result : mapping, or (scores, indices)
            The dictionary of LightGlue, its own or kornia's: ``matches`` and ``scores``, or ``matches0`` and
            ``matching_scores0``. Or kornia's ``LightGlueMatcher``'s (M, 1) scores and (M, 2) indices.

        Returns
        -------
        matches : Matches

        Raises
        ------
        InvalidInputError
            If it is neither, or of several pairs.

        Examples
        --------
        >>> import numpy as np, tiepoints as tp
        >>> result = {"matches0": np.array([[-1, 0, 2]]), "matching_scores0": np.array([[0, 0.5, 0.75]])}
        >>> tp.Matches.from_lightglue(result)[0], len(tp.Matches.from_lightglue(result))
        (Match(a=1, b=0, score=0.5), 2)
        """
        if isinstance(result, tuple | list) and len(result) == 2:
            result = {"matches": result[1], "scores": interop.column(result[0], "scores")}
        if not isinstance(result, Mapping):
            raise InvalidInputError(f"result is {shown(result)}, but LightGlue's dictionary is expected")
        return cls.from_torch(result)

    def to_lightglue(self, a: Features, b: Features, device: str | None = None) -> dict[str, Any]:
        """What LightGlue returns, with a batch of 1.

        Parameters
        ----------
        a, b : Features
            Of the two images.
        device : str, optional
            Where the tensors go.

        Returns
        -------
        tensors : dict
            matches0 (1, N), matches1 (1, M), the row in the other image or -1; matching_scores0 and 1; and lists with
            one tensor each, matches (K, 2) and scores (K,).

        Raises
        ------
        InvalidInputError
            If the matches belong to other features.
        """
        self._check(a, b)
        return interop.to_lightglue(self.indices, self.scores, (len(a), len(b)), device)
