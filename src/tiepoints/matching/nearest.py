"""Nearest neighbours among descriptors: exact, blocked, inside each set."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInputError
from ..features import Features, Matches
from ..threads import run_pieces

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
    bits = _bits(a)
    # Hamming distances are often equal. Which of the equals is first then needs the way back; for floats, see _Nearest.
    both_ways = mutual and (ratio is not None or bits is not None)
    pairs = _groups(a, b)
    passes = [_Nearest(x.vectors, y.vectors, second=ratio is not None) for x, y in pairs]
    back = [_Nearest(y.vectors, x.vectors, second=ratio is not None) for x, y in pairs] if both_ways else []
    everything = [*passes, *back]
    run_pieces([piece for one in everything for piece in one.pieces()], partial(_buffer, everything))
    indices, scores = [], []
    for place, (x, y) in enumerate(pairs):
        ahead = passes[place]
        keep = np.ones(len(x.rows), bool)
        if ratio is not None:
            keep &= _passes_ratio(ahead, bits, ratio)
        if both_ways:
            keep &= back[place].where[ahead.where] == np.arange(len(x.rows))
            if ratio is not None:
                keep &= _passes_ratio(back[place], bits, ratio)[ahead.where]
        elif mutual:
            keep &= _first_best(ahead)
        kept = np.flatnonzero(keep)
        indices.append(np.stack([x.rows[kept], y.rows[ahead.where[kept]]], axis=1))
        scores.append(ahead.best[kept] if bits is None else ahead.best[kept] / np.float32(bits))
    return _joined(indices, scores, min_similarity)


def _joined(indices: list[NDArray[np.intp]], scores: list[Float32], min_similarity: float | None) -> Matches:
    """The matches of all sets in the order of the first image's features."""
    all_indices = np.concatenate([*indices, np.zeros((0, 2), np.intp)])
    all_scores = np.clip(np.concatenate([*scores, np.zeros(0, np.float32)]), -1, 1)
    if min_similarity is not None:
        all_indices, all_scores = (values[all_scores >= min_similarity] for values in (all_indices, all_scores))
    if len(indices) > 1:
        order = np.argsort(all_indices[:, 0], kind="stable")
        all_indices, all_scores = all_indices[order], all_scores[order]
    return Matches(all_indices.astype(np.int32), all_scores)


def _check(a: Features, b: Features, ratio: float | None, min_similarity: float | None) -> None:
    for value in (a, b):
        if not isinstance(value, Features):
            raise InvalidInputError(
                f"match takes two Features, but got {type(value).__name__}: call an extractor first"
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


class _Set(NamedTuple):
    """The features of one set: their rows in the image's arrays, and their vectors."""

    rows: NDArray[np.intp]
    vectors: Float32


def _groups(a: Features, b: Features) -> list[tuple[_Set, _Set]]:
    """For each set that both images have, its features in both; without sets, all of them."""
    one, other = _by_set(a), _by_set(b)
    return [(one[s], other[s]) for s in sorted(one.keys() & other.keys())]


def _by_set(features: Features) -> dict[int, _Set]:
    vectors = _vectors(features)
    if features.sets is None:
        return {0: _Set(np.arange(len(vectors)), vectors)} if len(vectors) else {}
    order = np.argsort(features.sets, kind="stable")
    vectors = vectors[order]
    ends = np.cumsum(np.bincount(features.sets, minlength=1))
    starts = np.concatenate([[0], ends[:-1]])
    return {
        s: _Set(order[start:end], vectors[start:end])
        for s, (start, end) in enumerate(zip(starts, ends, strict=True))
        if end > start
    }


def _bits(features: Features) -> int | None:
    return 8 * features.descriptors.shape[1] if features.binary else None


def _vectors(features: Features) -> Float32:
    """Descriptors whose dot product ranks them: bits become -1 and 1, whose product is bits - 2 * Hamming distance.

    That is exact in float32, and the BLAS is faster at it than a popcount loop in NumPy could be.
    """
    descriptors: NDArray[Any] = features.descriptors
    if descriptors.dtype == np.uint8:
        return np.unpackbits(descriptors, axis=1).astype(np.float32) * 2 - 1
    vectors = descriptors.astype(np.float32, copy=False)
    if descriptors.dtype == np.int8:
        vectors = vectors / np.float32(127)
    squared = np.einsum("nd,nd->n", vectors, vectors)
    wrong = (np.abs(squared - 1) > 0.05) & (squared > 0)  # int8 is off by up to 1 % a component; blank patches give 0
    if wrong.any():
        raise InvalidInputError(
            f"descriptors must have unit length to be compared, but one has {np.sqrt(squared[wrong][0]):.4g}: "
            "divide each by its norm"
        )
    return vectors


class _Nearest:
    """One pass over a @ b.T in blocks: each row's best (and second best) column, and each column's best value.

    A match is mutual exactly if its row's best value is its column's best value too, so the columns' arg-max, which
    would cost a second pass, is not needed.
    """

    def __init__(self, a: Float32, b: Float32, *, second: bool) -> None:
        n, m = len(a), len(b)
        self.a, self.b = a, b
        self.where = np.zeros(n, np.int64)  # row of b that is most similar
        self.best = np.full(n, -np.inf, np.float32)  # its similarity
        # similarity of the next one; -inf where b has one row only
        self.second = np.full(n, -np.inf, np.float32) if second else None
        self.column_best = np.full(m, -np.inf, np.float32)  # the greatest similarity of any row of a
        self._lock = threading.Lock()

    def pieces(self) -> list[Callable[[Float32], None]]:
        """The blocks of rows, for `run_pieces`."""
        return [partial(self._block, slice(top, min(len(self.a), top + _ROWS))) for top in range(0, len(self.a), _ROWS)]

    def _block(self, rows: slice, buffer: Float32) -> None:
        a, best, where = self.a[rows], self.best[rows], self.where[rows]
        each = np.arange(len(a))
        for left in range(0, len(self.b), _COLUMNS):
            part = self.b[left : left + _COLUMNS].T
            block = np.matmul(a, part, out=buffer[: len(a) * part.shape[1]].reshape(len(a), -1))
            columns, greatest = self.column_best[left : left + _COLUMNS], block.max(axis=0)
            with self._lock:
                np.maximum(columns, greatest, out=columns)
            column = block.argmax(axis=1)
            value = block[each, column]
            if self.second is not None:
                block[each, column] = -np.inf
                # of the two best so far and the block's two best, the second
                second = self.second[rows]
                np.maximum(np.minimum(best, value), np.maximum(second, block.max(axis=1)), out=second)
            better = value > best
            where[better] = column[better] + left
            best[better] = value[better]


def _buffer(passes: list[_Nearest]) -> Float32:
    return np.empty(max(min(len(p.a), _ROWS) * min(len(p.b), _COLUMNS) for p in passes), np.float32)


def _first_best(nearest: _Nearest) -> NDArray[np.bool_]:
    """Which rows are their best column's best row; among equals the first."""
    candidates = np.flatnonzero(nearest.best == nearest.column_best[nearest.where])
    first = np.full(len(nearest.b), len(nearest.where), np.int64)
    np.minimum.at(first, nearest.where[candidates], candidates)
    mutual = np.zeros(len(nearest.where), bool)
    mutual[first[first < len(mutual)]] = True
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
