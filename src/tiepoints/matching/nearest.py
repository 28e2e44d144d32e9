"""Nearest neighbours among descriptors: exact, blocked, inside each set."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInputError
from ..features import Features, Matches

__all__ = ["match"]

Float32 = NDArray[np.float32]

# Blocks of similarities: 512 rows feed the BLAS at its full rate, and 512 x 8192 floats are 16 MB, whatever the number
# of features. Ours, measured with benchmarks/matching.py.
_ROWS, _COLUMNS = 512, 8192


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
    groups = [(None, None)] if a.sets is None or b.sets is None else _groups(a.sets, b.sets)
    found = []
    for rows_a, rows_b in groups:
        pairs, scores = _match_set(_vectors(a, rows_a), _vectors(b, rows_b), _bits(a), ratio, mutual)
        if rows_a is not None and rows_b is not None:
            pairs = np.stack([rows_a[pairs[:, 0]], rows_b[pairs[:, 1]]], axis=1)
        found.append((pairs, scores))
    indices = np.concatenate([pairs for pairs, _ in found]) if found else np.zeros((0, 2), np.int64)
    scores = np.concatenate([scores for _, scores in found]) if found else np.zeros(0, np.float32)
    if min_similarity is not None:
        indices, scores = indices[scores >= min_similarity], scores[scores >= min_similarity]
    if len(found) > 1:
        order = np.argsort(indices[:, 0], kind="stable")
        indices, scores = indices[order], scores[order]
    return Matches(indices.astype(np.int32), scores)


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


def _groups(sets_a: NDArray[np.uint8], sets_b: NDArray[np.uint8]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The rows of both images, for each set that both have."""
    return [(np.flatnonzero(sets_a == s), np.flatnonzero(sets_b == s)) for s in np.intersect1d(sets_a, sets_b)]


def _bits(features: Features) -> int | None:
    return 8 * features.descriptors.shape[1] if features.binary else None


def _vectors(features: Features, rows: NDArray[np.intp] | None) -> Float32:
    """Descriptors whose dot product ranks them: bits become -1 and 1, whose product is bits - 2 * Hamming distance.

    That is exact in float32, and the BLAS is faster at it than a popcount loop in NumPy could be.
    """
    descriptors: NDArray[Any] = features.descriptors if rows is None else features.descriptors[rows]
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


def _match_set(
    a: Float32, b: Float32, bits: int | None, ratio: float | None, mutual: bool
) -> tuple[NDArray[np.int64], Float32]:
    """Pairs (M, 2) of row numbers and their scores (M,)."""
    if len(a) == 0 or len(b) == 0:
        return np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
    ahead = _nearest(a, b, second=ratio is not None)
    keep = np.ones(len(a), bool)
    if ratio is not None:
        keep &= _passes_ratio(ahead.best, ahead.second, bits, ratio)
    # Hamming distances are often equal. Which of the equals is first then needs the way back; for floats, see _nearest.
    if mutual and (ratio is not None or bits is not None):
        back = _nearest(b, a, second=ratio is not None)
        keep &= back.where[ahead.where] == np.arange(len(a))
        if ratio is not None:
            keep &= _passes_ratio(back.best, back.second, bits, ratio)[ahead.where]
    elif mutual:
        keep &= _first_best(ahead, len(b))
    rows = np.flatnonzero(keep)
    scores = ahead.best[rows] if bits is None else ahead.best[rows] / np.float32(bits)
    return np.stack([rows, ahead.where[rows]], axis=1), np.clip(scores, -1, 1)


class _Nearest(NamedTuple):
    where: NDArray[np.int64]  # (N,) row of b that is most similar
    best: Float32  # (N,) its similarity
    second: Float32 | None  # (N,) similarity of the next one; -inf where b has one row only
    column_best: Float32  # (len(b),) the greatest similarity of any row of a


def _nearest(a: Float32, b: Float32, *, second: bool) -> _Nearest:
    """One pass over a @ b.T in blocks: each row's best (and second best) column, and each column's best value.

    A match is mutual exactly if its row's best value is its column's best value too, so the columns' arg-max, which
    would cost a second pass, is not needed.
    """
    n, m = len(a), len(b)
    nearest, best = np.zeros(n, np.int64), np.full(n, -np.inf, np.float32)
    runner_up = np.full(n, -np.inf, np.float32) if second else None
    column_best = np.full(m, -np.inf, np.float32)
    buffer = np.empty(min(n, _ROWS) * min(m, _COLUMNS), np.float32)
    for left in range(0, m, _COLUMNS):
        part = b[left : left + _COLUMNS].T
        columns = column_best[left : left + _COLUMNS]
        for top in range(0, n, _ROWS):
            rows = slice(top, min(n, top + _ROWS))
            count = rows.stop - top
            block = np.matmul(a[rows], part, out=buffer[: count * part.shape[1]].reshape(count, -1))
            np.maximum(columns, block.max(axis=0), out=columns)
            column = block.argmax(axis=1)
            value = block[np.arange(count), column]
            better = value > best[rows]
            if runner_up is not None:
                block[np.arange(count), column] = -np.inf
                # of the two best so far and the block's two best, the second
                runner_up[rows] = np.maximum(
                    np.minimum(best[rows], value), np.maximum(runner_up[rows], block.max(axis=1))
                )
            nearest[rows][better] = column[better] + left
            best[rows][better] = value[better]
    return _Nearest(nearest, best, runner_up, column_best)


def _first_best(nearest: _Nearest, columns: int) -> NDArray[np.bool_]:
    """Which rows are their best column's best row; among equals the first."""
    candidates = np.flatnonzero(nearest.best == nearest.column_best[nearest.where])
    first = np.full(columns, len(nearest.where), np.int64)
    np.minimum.at(first, nearest.where[candidates], candidates)
    mutual = np.zeros(len(nearest.where), bool)
    mutual[first[first < len(mutual)]] = True
    return mutual


def _passes_ratio(best: Float32, second: Float32 | None, bits: int | None, ratio: float) -> NDArray[np.bool_]:
    """Whether the nearest lies at most `ratio` times as far as the second; always, where there is no second."""
    assert second is not None
    if bits is not None:
        near, far = (bits - best) / 2, (bits - second) / 2
    else:  # |x - y|^2 = 2 - 2 x.y for unit vectors
        near, far = np.sqrt(np.maximum(2 - 2 * best, 0)), np.sqrt(np.maximum(2 - 2 * second, 0))
    return np.asarray(near <= np.float32(ratio) * far)
