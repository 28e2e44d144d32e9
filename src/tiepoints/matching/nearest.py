"""Nearest neighbours among descriptors: exact, blocked, inside each set."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInputError
from ..features import Features, Matches
from ..threads import Piece, run_pieces, scratch

__all__ = ["match"]

Float32 = NDArray[np.float32]

# Blocks of similarities: 512 rows feed the BLAS at its full rate, and 512 x 1024 floats, 2 MB, stay in a core's cache
# until their maxima are taken. Ours, measured with benchmarks/matching.py.
_ROWS, _COLUMNS = 512, 1024


def match(
    a: Features,
    b: Features,
    *,
    ratio: float | None = None,
    min_similarity: float | None = None,
    mutual: bool = True,
) -> Matches:
    """Match two images' features by their nearest neighbours, exactly, inside each set where there are sets.

    Float descriptors are compared by the dot product of unit vectors, binary ones by Hamming distance.

    Parameters
    ----------
    a, b : Features
        Of the same extractor.
    ratio : float, optional
        Keep a match only if its distance is at most `ratio` times the distance to the second nearest neighbour (Lowe
        2004, section 7.1); with `mutual` in both directions. Distances are Euclidean, or Hamming for binary
        descriptors. Between 0 and 1; 0.8 to 0.9 is usual for SIFT.
    min_similarity : float, optional
        Keep a match only if its score (see `Matches`) is at least this, in [-1, 1].
    mutual : bool
        Keep a match only if each is the other's nearest neighbour; otherwise every feature of `a` gets its nearest in
        `b`.

    Returns
    -------
    matches : Matches
        In the order of `a`'s features, each of which has at most one. Of equally near neighbours the first counts.

    Raises
    ------
    InvalidInputError
        If the descriptors differ in type or size, if only one of the two has sets, or a threshold is out of range.

    Notes
    -----
    Time grows as the sum over the sets of N0s * N1s, memory as N: similarities exist one block at a time.
    """
    _check(a, b, ratio, min_similarity)
    if not len(a.keypoints) or not len(b.keypoints):
        return Matches(np.zeros((0, 2), np.int32), np.zeros(0, np.float32))
    bits = _bits(a)
    # Hamming distances are often equal. Which of the equals is first then needs the way back; for floats, see _Nearest.
    both_ways = mutual and (ratio is not None or bits is not None)
    one, other = _Sets(a), _Sets(b)
    ahead = _Nearest(one, other, second=ratio is not None)
    back = _Nearest(other, one, second=ratio is not None) if both_ways else None
    pieces = ahead.pieces() + (back.pieces() if back is not None else [])
    working = _ROWS * _COLUMNS + (_ROWS + _COLUMNS) * one.vectors.shape[1]
    run_pieces(pieces, lambda thread: scratch(f"matching {thread}", (working,)))

    keep = ahead.best > -np.inf  # features of a set that the other image lacks have no neighbours
    if ratio is not None:
        keep &= _passes_ratio(ahead, bits, ratio)
    if back is not None:
        keep &= back.where[ahead.where] == np.arange(len(keep))
        if ratio is not None:
            keep &= _passes_ratio(back, bits, ratio)[ahead.where]
    elif mutual:
        keep = _first_best(ahead, keep)
    kept = np.flatnonzero(keep)
    scores = ahead.best[kept] if bits is None else ahead.best[kept] / np.float32(bits)
    np.clip(scores, -1, 1, out=scores)
    if min_similarity is not None:
        high = scores >= min_similarity
        kept, scores = kept[high], scores[high]
    indices = np.empty((len(kept), 2), np.int32)
    indices[:, 0], indices[:, 1] = kept, ahead.where[kept]
    return Matches(indices, scores)


def _check(a: Features, b: Features, ratio: float | None, min_similarity: float | None) -> None:
    for value in (a, b):
        if not isinstance(value, Features):
            raise InvalidInputError(
                f"match takes two Features, but got {type(value).__name__}: call an extractor first"
            )
        if value.odd_length is not None:
            raise InvalidInputError(
                f"descriptors must have unit length to be compared, but one has {value.odd_length:.4g}: "
                "divide each by its norm"
            )
    if a.descriptors.dtype != b.descriptors.dtype or a.descriptors.shape[1] != b.descriptors.shape[1]:
        raise InvalidInputError(
            f"descriptors of different kinds cannot be matched: {a.descriptors.shape[1]} columns of "
            f"{a.descriptors.dtype} and {b.descriptors.shape[1]} of {b.descriptors.dtype}; use one extractor for both"
        )
    if (a.sets is None) != (b.sets is None):
        raise InvalidInputError("only one of the two images has its features in sets; use one extractor for both")
    if ratio is not None and not 0 < ratio <= 1:
        raise InvalidInputError(f"ratio is {ratio}, but must be above 0 and at most 1")
    if min_similarity is not None and not -1 <= min_similarity <= 1:
        raise InvalidInputError(f"min_similarity is {min_similarity}, but must lie in [-1, 1]")


class _Sets:
    """An image's vectors, the order that puts those of a set together, and where each set starts in it, and ends."""

    def __init__(self, features: Features) -> None:
        self.vectors = features.vectors()
        self.in_order = features.sets is None  # all in one set: slices of the vectors serve
        if features.sets is None:
            self.order, self.starts = np.arange(len(features)), [0, len(features)]
        else:
            self.order = np.argsort(features.sets, kind="stable")
            self.starts = [0, *np.cumsum(np.bincount(features.sets)).tolist()]

    def take(self, part: slice, memory: Float32) -> Float32:
        """The vectors of a part of the order, in `memory` where they have to be gathered."""
        if self.in_order:
            return self.vectors[part]
        rows, size = self.order[part], self.vectors.shape[1]
        # without a mode, NumPy would gather into memory of its own first
        return np.take(self.vectors, rows, axis=0, out=memory[: len(rows) * size].reshape(-1, size), mode="clip")


def _bits(features: Features) -> int | None:
    return 8 * features.descriptors.shape[1] if features.binary else None


class _Nearest:
    """Each row's best (and second best) row of b within its set, and the best value of each row of b.

    One pass over blocks of a @ b.T. A match is mutual exactly if its row's best value is its column's best value too,
    so the columns' arg-max, which would cost a second pass, is not needed.
    """

    def __init__(self, a: _Sets, b: _Sets, *, second: bool) -> None:
        n, m = len(a.order), len(b.order)
        self.a, self.b = a, b
        self.where = np.zeros(n, np.intp)  # row of b that is most similar
        self.best = np.full(n, -np.inf, np.float32)  # its similarity
        # similarity of the next one; -inf where b has one row only
        self.second = np.full(n, -np.inf, np.float32) if second else None
        self.column_best = np.full(m, -np.inf, np.float32)  # the greatest similarity of any row of a
        self._lock = threading.Lock()

    def pieces(self) -> list[Piece]:
        """The blocks of rows, for `run_pieces`; each gets _ROWS * _COLUMNS + (_ROWS + _COLUMNS) * D floats."""
        starts_a, starts_b = self.a.starts, self.b.starts
        return [
            partial(self._block, slice(top, min(starts_a[s + 1], top + _ROWS)), slice(*starts_b[s : s + 2]))
            for s in range(min(len(starts_a), len(starts_b)) - 1)
            for top in range(starts_a[s], starts_a[s + 1], _ROWS)
        ]

    def _block(self, part: slice, columns: slice, memory: Float32) -> None:
        similarities, vectors = memory[: _ROWS * _COLUMNS], memory[_ROWS * _COLUMNS :]
        a, rows = self.a.take(part, vectors), self.a.order[part]
        vectors = vectors[_ROWS * a.shape[1] :]
        best, where = self.best[rows], self.where[rows]
        second = None if self.second is None else self.second[rows]
        each = np.arange(len(a))
        for left in range(columns.start, columns.stop, _COLUMNS):
            some = slice(left, min(columns.stop, left + _COLUMNS))
            b, rows_b = self.b.take(some, vectors), self.b.order[some]
            block = np.matmul(a, b.T, out=similarities[: len(a) * len(b)].reshape(len(a), -1))
            greatest = block.max(axis=0)
            with self._lock:
                self.column_best[rows_b] = np.maximum(self.column_best[rows_b], greatest)
            column = block.argmax(axis=1)
            value = block[each, column]
            if second is not None:
                block[each, column] = -np.inf
                # of the two best so far and the block's two best, the second
                second = np.maximum(np.minimum(best, value), np.maximum(second, block.max(axis=1)))
            better = value > best
            where[better] = rows_b[column[better]]
            best[better] = value[better]
        self.best[rows], self.where[rows] = best, where
        if self.second is not None and second is not None:
            self.second[rows] = second


def _first_best(nearest: _Nearest, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows are their best column's best row; of equals the first."""
    candidates = np.flatnonzero(among & (nearest.best == nearest.column_best[nearest.where]))
    columns = nearest.where[candidates]
    first = np.empty(len(nearest.column_best), np.intp)
    first[columns[::-1]] = candidates[::-1]  # of several values for one place the last stays
    mutual = np.zeros(len(among), bool)
    mutual[first[columns]] = True
    return mutual


def _passes_ratio(nearest: _Nearest, bits: int | None, ratio: float) -> NDArray[np.bool_]:
    """Whether the nearest lies at most `ratio` times as far as the second; always, where there is no second."""
    best, second = nearest.best, nearest.second
    assert second is not None
    if bits is not None:
        near, far = (bits - best) / 2, (bits - second) / 2
    else:  # |x - y|^2 = 2 - 2 x.y for unit vectors
        near, far = np.sqrt(np.maximum(2 - 2 * best, 0)), np.sqrt(np.maximum(2 - 2 * second, 0))
    return np.asarray(near <= np.float32(ratio) * far)
