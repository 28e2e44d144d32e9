"""Arguments are checked where they come in: the value in one type, or one line that names the argument."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiepoints as tp
from tiepoints.checks import as_array, as_choice, as_count, as_flag, as_number, as_path, as_size, shown
from tiepoints.errors import InvalidInputError, StorageError, printable

NO_NUMBERS = [None, "1", True, np.True_, float("nan"), float("inf"), 10**400, 1j, [1.0], np.ones(1), object(), b"1"]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda v: shown(v)[:30])
def test_what_is_no_number_is_refused_by_name(value: object) -> None:
    for check in (as_number, as_count):
        with pytest.raises(InvalidInputError, match=r"^ratio is .* is expected$"):
            check(value, "ratio")


def test_numbers_and_counts_have_ranges() -> None:
    assert as_number(np.float32(0.5), "x") == 0.5 and as_number(np.array(2), "x") == 2.0
    assert as_count(2.0, "x") == 2 and as_count(np.int8(3), "x") == 3 and type(as_count(np.int8(3), "x")) is int
    assert as_number(1, "x", above=0, at_most=1) == 1.0
    with pytest.raises(InvalidInputError, match="x is 0, but a finite number above 0 and at most 1 is expected"):
        as_number(0, "x", above=0, at_most=1)
    with pytest.raises(InvalidInputError, match=r"x is 2\.5, but a whole number from 0 to"):
        as_count(2.5, "x")
    with pytest.raises(InvalidInputError, match=r"2\^31 - 1"):
        as_count(2**31, "x")
    with pytest.raises(InvalidInputError, match="x is a int"):  # Python does not print so many digits
        as_count(10**5000, "x")


def test_flags_choices_paths_and_sizes(tmp_path: Path) -> None:
    assert as_flag(np.True_, "x") is True and as_choice("a", "x", ["a", "b"]) == "a"
    assert as_path(str(tmp_path)) == tmp_path == as_path(tmp_path) and as_size(np.array([4, 3])) == (4, 3)
    for call in (
        lambda: as_flag(1, "x"),
        lambda: as_choice("c", "x", ["a", "b"]),
        lambda: as_choice(["a"], "x", ["a", "b"]),
        *(lambda v=v: as_path(v) for v in (None, 3, "", "a\0b", ["a"])),
        *(lambda v=v: as_size(v) for v in (None, 5, (1, 2, 3), ("a", "b"), (np.nan, 1), (0, 4), (1.5, 2), (True, 2))),
    ):
        with pytest.raises(InvalidInputError):
            call()


def test_arrays_keep_their_values_or_are_refused() -> None:
    np.testing.assert_array_equal(as_array([[1, 2]], "p", np.float32, ("N", 2)), np.float32([[1, 2]]))
    np.testing.assert_array_equal(as_array([1.0, 255.0], "p", np.uint8), [1, 255])
    assert as_array([], "p", np.int32, ("N",)).dtype == np.int32
    assert as_array(np.array(3.0), "p").shape == ()
    square = ("N", "N")
    assert as_array(np.eye(3), "p", shape=square).shape == (3, 3)
    for values, dtype, shape in (
        ([300, 0], np.uint8, None),
        ([-1], np.uint8, None),
        ([0.9], np.int32, None),
        ([2**31 + 5], np.int32, None),
        ([np.nan], np.int32, None),
        ([True], np.float32, None),
        ([1], np.bool_, None),
        ([1j], np.float32, None),
        (["1"], np.float32, None),
        ([10**400], np.float32, None),
        ([1e300], np.float32, None),
        ([np.inf], np.float64, None),
        ([[1], [1, 2]], np.float32, None),
        (None, np.float32, None),
        (np.array(["2020-01-01"], "M8[D]"), np.float32, None),
        ([1, 2, 3], np.float32, ("N", 2)),
        (np.ones((2, 3)), np.float32, square),
    ):
        with pytest.raises(InvalidInputError, match=r"^keypoints "):
            as_array(values, "keypoints", dtype, shape)
    with pytest.raises(InvalidInputError, match="from -1 to 2, but at least 0 is expected"):
        as_array([-1, 2], "keypoints", at_least=0)


def test_tensors_that_refuse_to_become_arrays_name_the_remedy() -> None:
    torch = pytest.importorskip("torch")
    plain = torch.ones(2, 3)
    np.testing.assert_array_equal(as_array(plain, "descriptors", np.float32, ("N", 3)), np.ones((2, 3)))
    for tensor, remedy in (
        (plain.clone().requires_grad_(), r"\.detach\(\)"),
        (plain.bfloat16(), r"\.float\(\)"),
        (plain.bfloat16().requires_grad_(), r"\.detach\(\)\.float\(\)"),
        (plain.to("meta"), r"\.cpu\(\)"),
        (plain.to_sparse(), r"\.to_dense\(\)"),
        ([plain.clone().requires_grad_()], r"\.detach\(\)"),
    ):
        with pytest.raises(InvalidInputError, match=rf"^descriptors cannot .* use {remedy} on the tensor"):
            as_array(tensor, "descriptors", np.float32)


def test_no_message_moves_the_cursor() -> None:
    error = StorageError("a\x1b[31m\nb\u202ec\udcff\u2028.png: no such file")
    assert str(error) == r"a\x1b[31m\nb\u202ec\udcff\u2028.png: no such file"
    assert printable("Köln 東京 \u0928\u200d.jpg") == "Köln 東京 \u0928\u200d.jpg"  # the joiner is part of the word
    with pytest.raises(tp.ImageError) as caught:
        tp.read("no\nsuch\x07.png")
    assert str(caught.value).isprintable()
