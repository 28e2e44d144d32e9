"""Nearest neighbours among descriptors: exact, blocked, inside each set."""

from __future__ import annotations

import itertools
import threading
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..checks import flag, number
from ..features import Features, Matches
from ..threads import Piece, run_pieces, scratch
from .base import Matcher, check_comparable

__all__ = ["Nearest"]

Float32 = NDArray[np.float32]

# Blocks of similarities: 512 rows feed the BLAS at its full rate, and 512 x 1024 floats, 2 MB, stay in a core's cache
# until their maxima are taken. Ours, measured with tools/matching.py.
_ROWS, _COLUMNS = 512, 1024


class Nearest(Matcher):
    """Nearest neighbours, exactly, inside each set where there are sets.

    Float descriptors are compared by the dot product of unit vectors, binary ones by Hamming distance. Of equally near
    neighbours the first counts.

    Parameters
    ----------
    ratio : float, optional
        Keep a match only if its distance is at most `ratio` times the distance to the second nearest neighbour (Lowe
        2004, section 7.1); with `mutual` in both directions. Distances are Euclidean, or Hamming for binary
        descriptors. Between 0 and 1; 0.8 to 0.9 is usual for SIFT.
    min_similarity : float, optional
        Keep a match only if its score (see `Matches`) is at least this, in [-1, 1].
    mutual : bool
        Keep a match only if each is the other's nearest neighbour; otherwise every feature of `a` gets its nearest in
        `b`.

    Raises
    ------
    InvalidInputError
        If a threshold is out of range; when called, if the descriptors differ in type or size, are not of unit length,
        or only one of the two images has sets.

    Notes
    -----
    Time grows as the sum over the sets of N0s * N1s, memory as N: similarities exist one block at a time.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.matching import Nearest
    >>> orb = tp.load("orb", max_keypoints=200)
    >>> features = orb("examples/box.png")
    >>> len(Nearest(ratio=0.9)(features, features)) <= len(Nearest()(features, features)) <= 200
    True
    """

    def __init__(self, *, ratio: float | None = None, min_similarity: float | None = None, mutual: bool = True) -> None:
        self.ratio = None if ratio is None else number(ratio, "ratio", above=0, most=1)
        self.min_similarity = (
            None if min_similarity is None else number(min_similarity, "min_similarity", least=-1, most=1)
        )
        self.mutual = flag(mutual, "mutual")

    def _match(self, a: Features, b: Features) -> Matches:
        check_comparable(a, b)
        if not len(a) or not len(b):
            return Matches.empty()
        return _match(a, b, self.ratio, self.min_similarity, self.mutual)


def _match(a: Features, b: Features, ratio: float | None, min_similarity: float | None, mutual: bool) -> Matches:
    bits = 8 * a.descriptors.shape[1] if a.binary else None
    # Hamming distances are often equal. Which of the equals is first then needs the way back; for floats, see _Nearest.
    both_ways = mutual and (ratio is not None or bits is not None)
    one, other = _Sets(a), _Sets(b)
    ahead = _Nearest(one, other, second=ratio is not None)
    back = _Nearest(other, one, second=ratio is not None) if both_ways else None
    pieces = ahead.pieces() + (back.pieces() if back is not None else [])
    working = sum(_working()) + (_ROWS + _COLUMNS) * one.vectors.shape[1]
    run_pieces(pieces, lambda thread: scratch(f"matching {thread}", (working,)))

    for way in (ahead, back) if back is not None else (ahead,):
        way.add_repeated()
    keep = ahead.best > -np.inf  # features of a set that the other image lacks have no neighbours
    if ratio is not None:
        keep &= _passes_ratio(ahead, bits, ratio)
    if mutual and one.first is not None:
        keep &= one.first == np.arange(len(keep))
    if back is not None:
        keep &= back.where[ahead.where] == np.arange(len(keep))
        if ratio is not None:
            keep &= _passes_ratio(back, bits, ratio)[ahead.where]
    elif mutual:
        keep = _first_best(ahead, keep)
    kept = np.flatnonzero(keep)
    scores = np.clip(ahead.best[kept] / np.float32(one.square), -1, 1)
    if min_similarity is not None:
        high = scores >= min_similarity
        kept, scores = kept[high], scores[high]
    indices = np.empty((len(kept), 2), np.int32)
    indices[:, 0], indices[:, 1] = kept, ahead.where[kept]
    return Matches(indices, scores)


class _Sets:
    """An image's vectors, the order that puts those of a set together, and where each set starts in it, and ends.

    Of rows that are equal the order has the first only, because the products of equal rows may be rounded differently,
    depending on where in a block they lie.
    """

    def __init__(self, features: Features) -> None:
        # Of int8 the whole numbers themselves, whose products are exact in float32: what is equally near stays so.
        eight = features.descriptors.dtype == np.int8
        self.vectors = features.descriptors.astype(np.float32) if eight else features.vectors()
        #: the product of a vector with itself: the number of bits, or what a length of 1 is
        self.square = 8 * features.descriptors.shape[1] if features.binary else 127**2 if eight else 1
        sets = features.sets
        self.first = None if features.binary else _first_equal(self.vectors, sets)
        self.in_order = sets is None and self.first is None  # slices of the vectors serve
        rows = np.arange(len(features))
        if self.first is not None:
            rows = rows[self.first == rows]
        if sets is None:
            self.order, self.starts = rows, [0, len(rows)]
        else:
            self.order = rows[np.argsort(sets[rows], kind="stable")]
            self.starts = [0, *np.cumsum(np.bincount(sets[rows])).tolist()]

    def is_repeated(self) -> NDArray[np.bool_] | None:
        """Which rows have equals; None where none has."""
        return None if self.first is None else (np.bincount(self.first, minlength=len(self.first)) > 1)[self.first]

    def take(self, part: slice, memory: Float32) -> Float32:
        """The vectors of a part of the order, in `memory` where they have to be gathered."""
        if self.in_order:
            return self.vectors[part]
        rows, size = self.order[part], self.vectors.shape[1]
        # without a mode, NumPy would gather into memory of its own first
        return np.take(self.vectors, rows, axis=0, out=memory[: len(rows) * size].reshape(-1, size), mode="clip")


class _Nearest:
    """Each row's best (and second best) row of b within its set, and the best value of each row of b.

    One pass over blocks of a @ b.T. A match is mutual exactly if its row's best value is its column's best value too,
    so the columns' arg-max, which would cost a second pass, is needed only where a column has its best value twice.
    Looking for that takes a third of the time, and is spared where vectors of many different values make it unlikely.
    """

    def __init__(self, a: _Sets, b: _Sets, *, second: bool) -> None:
        n, m = len(a.vectors), len(b.vectors)
        self.a, self.b = a, b
        self.where = np.zeros(n, np.intp)  # row of b that is most similar
        self.best = np.full(n, -np.inf, np.float32)  # its similarity
        # similarity of the next one; -inf where b has one row only
        self.second = np.full(n, -np.inf, np.float32) if second else None
        self.column_best = np.full(m, -np.inf, np.float32)  # the greatest similarity of any row of a
        self._ties = _may_tie(a.vectors) and _may_tie(b.vectors)
        self.column_tied = np.zeros(m, bool)  # whether several rows may have it
        self._lock = threading.Lock()

    def pieces(self) -> list[Piece]:
        """The blocks of rows, for `run_pieces`; each gets 5/4 _ROWS * _COLUMNS + (_ROWS + _COLUMNS) * D floats."""
        starts_a, starts_b = self.a.starts, self.b.starts
        return [
            partial(self._block, slice(top, min(starts_a[s + 1], top + _ROWS)), slice(*starts_b[s : s + 2]))
            for s in range(min(len(starts_a), len(starts_b)) - 1)
            for top in range(starts_a[s], starts_a[s + 1], _ROWS)
        ]

    def _block(self, part: slice, columns: slice, memory: Float32) -> None:
        similarities, equal, vectors = np.split(memory, np.cumsum(_working()))
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
            tied = self._ties and _tied(block, greatest, equal)
            with self._lock:
                before = self.column_best[rows_b]
                self.column_best[rows_b] = np.maximum(before, greatest)
                if self._ties:
                    self.column_tied[rows_b] |= (before == greatest) | tied
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

    def add_repeated(self) -> None:
        """What the rows that are left out of the orders, because they have equals, change in the result."""
        if self.second is not None and (repeated := self.b.is_repeated()) is not None:
            self.second = np.where(repeated[self.where], self.best, self.second)
        if (first := self.a.first) is not None:
            self.where, self.best = self.where[first], self.best[first]
            self.second = None if self.second is None else self.second[first]

    def first_rows(self, columns: NDArray[np.intp]) -> NDArray[np.intp]:
        """The first row of a, of the same set, that is most similar to each of these few rows of b."""
        first = np.empty(len(columns), np.intp)
        sets = np.empty(len(self.b.vectors), np.intp)
        for s, (start, stop) in enumerate(itertools.pairwise(self.b.starts)):
            sets[self.b.order[start:stop]] = s
        for k, column in enumerate(columns.tolist()):
            rows = self.a.order[slice(*self.a.starts[sets[column] : sets[column] + 2])]
            similar = self.a.vectors[rows] @ self.b.vectors[column]
            # Another product than that of the blocks, whose sums may be rounded in another order.
            first[k] = rows[np.argmax(similar >= similar.max() - 1e-6 * abs(similar.max()))]
        return first


def _working() -> tuple[int, int]:
    """How many floats the similarities of a block take, and a truth value for each of them."""
    return _ROWS * _COLUMNS, -(-_ROWS * _COLUMNS // 4)


def _first_equal(vectors: Float32, sets: NDArray[np.uint8] | None) -> NDArray[np.intp] | None:
    """The first row of the same set that is equal to each row; None where all rows differ."""
    two = np.ascontiguousarray(vectors[:, [vectors.shape[1] // 2, vectors.shape[1] // 3]] + np.float32(0))  # -0 is 0
    keys = two.view(np.uint64).ravel()
    keys.sort()
    if not (keys[1:] == keys[:-1]).any():  # of learned vectors nearly never, and this is quick
        return None
    groups = np.zeros(len(vectors), np.uint8) if sets is None else sets
    keyed = np.column_stack([vectors + np.float32(0), groups.astype(np.float32)])
    whole = keyed.view(np.dtype((np.void, keyed.strides[0]))).ravel()
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    return None if len(first) == len(vectors) else np.asarray(first[inverse.ravel()], np.intp)


def _may_tie(vectors: Float32) -> bool:
    """Whether products of different rows may be exactly equal, as those of few different values often are."""
    some = vectors[:: max(1, len(vectors) // 16)]
    some = some[some != 0]
    if some.size < 256:
        return True
    some = np.sort(some)  # np.unique would import NumPy's masked arrays
    return bool(np.count_nonzero(some[1:] != some[:-1]) + 1 < 0.25 * some.size)


def _tied(block: Float32, greatest: Float32, memory: Float32) -> NDArray[np.bool_] | bool:
    """Which columns of a block have their greatest value more than once; False where none has."""
    equal = np.equal(block, greatest, out=memory.view(np.bool_)[: block.size].reshape(block.shape))
    return False if np.count_nonzero(equal) == len(greatest) else np.count_nonzero(equal, axis=0) > 1


def _first_best(nearest: _Nearest, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows are their best column's best row; of equals the first."""
    candidates = np.flatnonzero(among & (nearest.best == nearest.column_best[nearest.where]))
    tied = nearest.column_tied[nearest.where[candidates]]
    mutual = np.zeros(len(among), bool)
    mutual[candidates[~tied]] = True
    columns = np.flatnonzero(np.bincount(nearest.where[candidates[tied]]))
    first = nearest.first_rows(columns)
    keep = nearest.where[first] == columns
    mutual[first[keep]] = True
    return mutual


def _passes_ratio(nearest: _Nearest, bits: int | None, ratio: float) -> NDArray[np.bool_]:
    """Whether the nearest lies at most `ratio` times as far as the second; always, where there is no second."""
    best, second = nearest.best, nearest.second
    assert second is not None
    if bits is not None:
        near, far = (bits - best) / 2, (bits - second) / 2
    else:  # |x - y|^2 = 2 - 2 x.y for unit vectors
        one = np.float32(nearest.a.square)
        near, far = (np.sqrt(np.maximum(2 - 2 * (value / one), 0)) for value in (best, second))
    return np.asarray(near <= np.float32(ratio) * far)
