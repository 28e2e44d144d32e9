"""Matching equals brute force, whatever the blocks, the kind of descriptor and the options."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.matching import nearest


@pytest.fixture(autouse=True, scope="module")
def two_threads() -> Iterator[None]:
    """Blocks are shared out to threads, however many the tests in all have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "2")
        yield


def features(descriptors: NDArray, sets: NDArray | None = None) -> tp.Features:
    n = len(descriptors)
    return tp.Features(np.zeros((n, 2)), descriptors, np.zeros(n), (9, 9), sets=sets)  # type: ignore[arg-type]


def unit(rng: np.random.Generator, n: int, size: int = 16) -> NDArray:
    vectors = rng.normal(size=(n, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute_force(
    a: tp.Features, b: tp.Features, ratio: float | None = None, mutual: bool = True
) -> list[tuple[int, int]]:
    """Every distance in float64, one row after the other."""
    if a.binary:
        bits_a, bits_b = (np.unpackbits(f.descriptors, axis=1) for f in (a, b))
        distance = (bits_a[:, None] != bits_b[None]).sum(axis=2).astype(float)
    else:
        distance = np.linalg.norm(a.descriptors[:, None].astype(float) - b.descriptors[None], axis=2)
    if a.sets is not None and b.sets is not None:
        distance[a.sets[:, None] != b.sets[None]] = np.inf

    return nearest_pairs(distance, ratio, mutual)


def nearest_pairs(distance: NDArray, ratio: float | None, mutual: bool) -> list[tuple[int, int]]:
    def good(d: NDArray, i: int) -> int | None:
        j = int(d[i].argmin())
        if not np.isfinite(d[i, j]):
            return None
        rest = np.delete(d[i], j)
        return j if ratio is None or not len(rest) or d[i, j] <= ratio * rest.min() else None

    pairs = []
    for i in range(len(distance)):
        j = good(distance, i) if distance.shape[1] else None
        if j is not None and (not mutual or good(distance.T, j) == i):
            pairs.append((i, j))
    return pairs


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(0, 40),
    m=st.integers(0, 40),
    sets=st.sampled_from([None, 1, 3]),
    ratio=st.sampled_from([None, 0.7, 0.95]),
    mutual=st.booleans(),
    binary=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_equals_brute_force(
    n: int, m: int, sets: int | None, ratio: float | None, mutual: bool, binary: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    if binary:  # few bits: many ties, of which the first counts
        a, b = (rng.integers(0, 256, (k, 2)).astype(np.uint8) for k in (n, m))
    else:
        a, b = unit(rng, n), unit(rng, m)
    sets_a, sets_b = (None if sets is None else rng.integers(0, sets, k).astype(np.uint8) for k in (n, m))
    left, right = features(a, sets_a), features(b, sets_b)
    matches = tp.match(left, right, ratio=ratio, mutual=mutual)
    assert [tuple(pair) for pair in matches.indices.tolist()] == brute_force(left, right, ratio, mutual)


@pytest.mark.parametrize("second", [False, True])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, second: bool) -> None:
    rng = np.random.default_rng(1)
    a, b = features(unit(rng, 300)), features(unit(rng, 211))
    ratio = 0.95 if second else None
    whole = tp.match(a, b, ratio=ratio)
    monkeypatch.setattr(nearest, "_ROWS", 7)
    monkeypatch.setattr(nearest, "_COLUMNS", 13)
    blocks = tp.match(a, b, ratio=ratio)
    np.testing.assert_array_equal(whole.indices, blocks.indices)
    np.testing.assert_allclose(whole.scores, blocks.scores, atol=1e-6)
    assert len(whole) > 20


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), ratio=st.sampled_from([None, 0.9]))
def test_swapping_the_images_swaps_the_matches(seed: int, ratio: float | None) -> None:
    rng = np.random.default_rng(seed)
    a, b = features(unit(rng, 50)), features(unit(rng, 60))
    there, back = tp.match(a, b, ratio=ratio), tp.match(b, a, ratio=ratio)
    assert {tuple(p) for p in there.indices.tolist()} == {tuple(p[::-1]) for p in back.indices.tolist()}


def test_sets_never_mix_and_cost_less() -> None:
    rng = np.random.default_rng(2)
    d = unit(rng, 400)
    sets = rng.integers(0, 4, 400).astype(np.uint8)
    same = tp.match(features(d, sets), features(d, sets))
    np.testing.assert_array_equal(same.indices, np.stack([np.arange(400)] * 2, axis=1))
    np.testing.assert_allclose(same.scores, 1, atol=1e-6)
    moved = tp.match(features(d, sets), features(d, (sets + 1) % 4))
    assert (sets[moved.indices[:, 0]] == (sets[moved.indices[:, 1]] + 1) % 4).all()
    assert len(tp.match(features(d, np.zeros(400)), features(d, np.ones(400)))) == 0


def test_binary_scores_and_int8() -> None:
    bits = np.array([[0b11110000], [0b00001111]], np.uint8)
    near = np.array([[0b11110001], [0b00001111]], np.uint8)
    np.testing.assert_allclose(tp.match(features(bits), features(near)).scores, [1 - 2 / 8, 1])
    rng = np.random.default_rng(3)
    d = unit(rng, 200, 64)
    eighth = np.rint(d * 127).astype(np.int8)
    np.testing.assert_array_equal(tp.match(features(eighth), features(eighth)).indices[:, 0], np.arange(200))


@pytest.mark.parametrize(("length", "unit_enough"), [(0.97, False), (0.98, True), (1.02, True), (1.03, False)])
def test_vectors_of_about_unit_length_are_compared(length: float, unit_enough: bool) -> None:
    """Rounding may leave 1 % a vector; the similarity of two stays within [-1, 1] all the same."""
    d = unit(np.random.default_rng(6), 9)
    a, opposite = features(length * d), features(-length * d[:1])
    if not unit_enough:
        with pytest.raises(tp.InvalidInputError, match=f"unit length .* one has {length}"):
            tp.match(a, a)
        return
    same, against = tp.match(a, a).scores, tp.match(features(length * d[:1]), opposite).scores
    np.testing.assert_allclose(same, min(length**2, 1), atol=1e-6)
    np.testing.assert_allclose(against, -min(length**2, 1), atol=1e-6)
    assert same.max() <= 1 and against.min() >= -1


def test_min_similarity_and_one_way() -> None:
    rng = np.random.default_rng(4)
    a, b = features(unit(rng, 100)), features(unit(rng, 100))
    one_way = tp.match(a, b, mutual=False)
    np.testing.assert_array_equal(one_way.indices[:, 0], np.arange(100))
    kept = tp.match(a, b, mutual=False, min_similarity=0.6)
    assert 0 < len(kept) == (one_way.scores >= 0.6).sum() < 100


def tied(kind: str, rng: np.random.Generator, n: int) -> NDArray:
    """Descriptors among which many are equal, or equally near to others."""
    if kind == "repeated":
        base = unit(np.random.default_rng(9), 8, 64)
        return np.asarray(base[rng.integers(0, 8, n)], np.float32)
    if kind == "one-hot":
        return np.eye(6, dtype=np.float32)[rng.integers(0, 6, n)]
    corners = rng.choice([-0.5, 0.5], (n, 4))
    return np.rint(corners * 127).astype(np.int8) if kind == "int8" else corners.astype(np.float32)


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(["repeated", "one-hot", "corners", "int8"]),
    sizes=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    sets=st.booleans(),
    mutual=st.booleans(),
    ratio=st.sampled_from([None, 0.9]),
    seed=st.integers(0, 10**6),
)
def test_of_equally_near_neighbours_the_first_counts(
    kind: str, sizes: tuple[int, int], sets: bool, mutual: bool, ratio: float | None, seed: int
) -> None:
    if kind == "repeated":
        ratio = None  # of distances that are 0 but for rounding
    rng = np.random.default_rng(seed)
    descriptors = [tied(kind, rng, n) for n in sizes]
    similar = np.round(descriptors[0].astype(float) @ descriptors[1].T.astype(float), 5)
    distance = np.round(np.sqrt(np.maximum(2 - 2 * similar / (127**2 if kind == "int8" else 1), 0)), 9)
    groups = [rng.integers(0, 2, n).astype(np.uint8) for n in sizes] if sets else [None, None]
    if sets:
        distance[groups[0][:, None] != groups[1][None]] = np.inf  # type: ignore[index]
    a, b = (features(d, group) for d, group in zip(descriptors, groups, strict=True))
    expected = nearest_pairs(distance, ratio, mutual)
    assert [(i, j) for i, j, _ in tp.match(a, b, mutual=mutual, ratio=ratio)] == expected


def test_identical_descriptors_give_one_match() -> None:
    same = features(np.tile(unit(np.random.default_rng(0), 1), (20, 1)))
    assert tp.match(same, same).indices.tolist() == [[0, 0]]
    blank = features(np.zeros((5, 16)))
    assert len(tp.match(blank, same)) == 1


def test_wrong_input_is_refused() -> None:
    d = unit(np.random.default_rng(0), 5)
    a = features(d)
    for other, message in (
        (features(np.zeros((5, 2), np.uint8)), "different kinds"),
        (features(d[:, :8] / np.linalg.norm(d[:, :8], axis=1, keepdims=True)), "different kinds"),
        (features(d, np.zeros(5)), "in sets"),
        (features(d * 512), "unit length"),
    ):
        with pytest.raises(tp.InvalidInputError, match=message):
            tp.match(a, other)
    with pytest.raises(tp.InvalidInputError, match="takes two Features, but got ndarray"):
        tp.match(d, d)  # type: ignore[arg-type]
    with pytest.raises(tp.InvalidInputError, match="no descriptors"):
        tp.match(features(d[:, :0]), features(d[:, :0]))
    for options in ({"ratio": 0}, {"ratio": 1.5}, {"ratio": "a"}, {"min_similarity": 2}, {"mutual": 1}):
        with pytest.raises(tp.InvalidInputError, match=next(iter(options))):
            tp.match(a, a, **options)


def test_memory_grows_as_n() -> None:
    """40,000 x 40,000 similarities would be 6.4 GB; a few blocks are not."""
    rng = np.random.default_rng(5)
    peaks = []
    for n in (10_000, 40_000):
        a = features(unit(rng, n, 4))
        tracemalloc.start()
        tp.match(a, a)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 5 * peaks[0] and peaks[1] < 40e6
