"""What callers hand over is taken as it is or refused with one line that names it; nothing is cut or wrapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tiepoints as tp
from tiepoints import checks
from tiepoints.errors import printable


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __array__(self, *arguments: Any, **options: Any) -> Any:
        raise RuntimeError("nor this")


ODD = [
    None,
    "a",
    "a\nb",
    b"a",
    True,
    float("nan"),
    float("inf"),
    1 + 2j,
    [1, [2]],
    {},
    object,
    Rude(),
    10**400,
    "x" * 999,
]


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_odd_values_are_refused_in_one_line(value: object) -> None:
    for check in (
        lambda: checks.number(value, "it"),
        lambda: checks.count(value, "it"),
        lambda: checks.choice(value, "it", ["one", "two"]),
        lambda: checks.array(value, "it", ("N", 2)),
        lambda: checks.flag(None if value is True else value, "it"),
    ):
        with pytest.raises(tp.InvalidInputError, match=r"^it ") as caught:
            check()
        assert len(str(caught.value)) < 220 and len(str(caught.value).splitlines()) == 1


def test_numbers() -> None:
    assert checks.number(np.float32(0.5), "ratio", above=0, most=1) == 0.5
    assert checks.count(np.int64(3), "count", least=3) == 3
    for bounds, value in (({"least": 0}, -1), ({"most": 1}, 2), ({"above": 0}, 0), ({"below": 1}, 1.0)):
        with pytest.raises(tp.InvalidInputError, match="x is"):
            checks.number(value, "x", **bounds)
    with pytest.raises(tp.InvalidInputError, match="ratio is 2, but must be a finite number above 0 and at most 1"):
        checks.number(2, "ratio", above=0, most=1)
    for value in (2.0, -1, 2**31):
        with pytest.raises(tp.InvalidInputError, match="a whole number, at least 0"):
            checks.count(value, "n")
    with pytest.raises(tp.InvalidInputError, match="from 1 to 8"):
        checks.count(9, "sets", least=1, most=8)


def test_choices_and_paths() -> None:
    assert checks.choice("OpenCV", "source", ["opencv", "ours"]) == "opencv"
    with pytest.raises(tp.InvalidInputError, match="did you mean 'opencv'"):
        checks.choice("open-cv", "source", ["opencv", "ours"])
    assert checks.path("a/b", "out") == Path("a/b") == checks.path(Path("a/b"), "out")
    for value in (None, 3, "", "a\0b"):
        with pytest.raises(tp.InvalidInputError, match="the path of a file"):
            checks.path(value, "out")


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([300, 0], np.uint8, "hold 300, but must be whole numbers from 0 to 255"),
        ([-1, 0], np.uint8, "hold -1"),
        ([0.9, 0], np.int32, r"hold 0\.9"),
        (np.array([2**31 + 5], np.uint32), np.int32, "hold 2147483653"),
        ([np.nan], np.int32, "hold nan"),
        ([2.0**70], np.int32, "whole numbers"),
        ([1e300], np.float32, "too large for float32"),
        ([np.nan], np.float32, "not finite"),
        ([1 + 2j], np.float32, "complex"),
        (["1"], np.float32, "texts"),
        ([None], np.float32, "no numbers"),
        ([10**400], np.float32, "no numbers"),
        (np.array(["2026-01-01"], "M8[D]"), np.float32, "dates"),
    ],
)
def test_arrays_are_never_cut_or_wrapped(values: Any, dtype: Any, message: str) -> None:
    with pytest.raises(tp.InvalidInputError, match=message):
        checks.array(values, "values", ("N",), dtype)


@given(values=st.lists(st.integers(-300, 300) | st.floats(-300, 300)), dtype=st.sampled_from([np.uint8, np.int32]))
def test_what_is_taken_keeps_its_values(values: list[float], dtype: Any) -> None:
    try:
        taken = checks.array(values, "values", ("N",), dtype)
    except tp.InvalidInputError:
        assert not all(float(v).is_integer() and np.iinfo(dtype).min <= v <= np.iinfo(dtype).max for v in values)
    else:
        assert taken.dtype == dtype and taken.tolist() == values


def test_shapes() -> None:
    for shape, good in ((("N", 2), (5, 2)), (("N",), (0,)), ((3, 3), (3, 3))):
        assert checks.array(np.zeros(good), "points", shape).shape == good
    with pytest.raises(tp.InvalidInputError, match=r"points have shape \(5,\), but \(N, 2\) is expected"):
        checks.array(np.zeros(5), "points", ("N", 2))
    assert checks.array([np.inf], "points", ("N",), finite=False)[0] == np.inf


def test_tensors_that_numpy_cannot_read_are_told_the_remedy() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(tp.InvalidInputError, match=r"descriptors .*requires grad; use \.detach\(\)"):
        checks.array(torch.zeros(3, requires_grad=True), "descriptors")
    with pytest.raises(tp.InvalidInputError, match=r"bfloat16.*use \.float\(\)"):
        checks.array(torch.zeros(3).bfloat16(), "descriptors")
    with pytest.raises(tp.InvalidInputError, match=r"on meta; use \.cpu\(\)"):
        checks.array(torch.zeros(3, device="meta"), "descriptors")
    assert checks.array(torch.ones(3), "descriptors", ("N",), np.float32).tolist() == [1, 1, 1]


def test_sizes() -> None:
    assert checks.size(np.array([4, 3])) == (4, 3) and checks.size((0, 0), least=0) == (0, 0)
    for value in (None, 5, (1, 2, 3), ("a", "b"), "ab", (np.nan, 1), (0, 4), (1.5, 2), (True, 2), (10**400, 1)):
        with pytest.raises(tp.InvalidInputError, match="image_size"):
            checks.size(value)


def test_no_message_moves_the_cursor() -> None:
    error = tp.StorageError("a\x1b[31m\nb\u202ec\udcff\u2028.png: no such file")
    assert str(error) == r"a\x1b[31m\nb\u202ec\udcff\u2028.png: no such file"
    joined = "Köln 東京 \u0928\u200d.jpg"  # the joiner is part of a word
    assert printable(joined) == joined
    with pytest.raises(tp.ImageError) as caught:
        tp.read("no\nsuch\x07.png")
    assert str(caught.value).isprintable()


def test_frozen_memory_is_nobody_elses() -> None:
    own = np.zeros(4)
    for array in (own, own[1:], np.broadcast_to(own[:1], (4,)), np.frombuffer(bytearray(32))):
        assert not np.shares_memory(checks.frozen(array), array) and not checks.frozen(array).flags.writeable
    locked = own.copy()
    locked.flags.writeable = False
    assert np.shares_memory(checks.frozen(locked), locked), "what cannot change need not be copied"
