"""TensorFlow checkpoints, whole, damaged and hostile, that the tests write themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tiepoints.extraction.tf_checkpoint import TensorFlowCheckpoint

RANDOM = np.random.default_rng(5)
TENSORS: dict[str, NDArray[Any]] = {
    **{f"conv{i}/kernel": RANDOM.normal(size=(3, 2, i + 1)).astype(np.float32) for i in range(22)},
    "conv1/bn/moving_mean": RANDOM.normal(size=7).astype(np.float32),
    "one": np.array(0.25, np.float32),
    "global_step": np.array(380000, np.int64),
}
HEADER = bytes([1 * 8, 1])


@pytest.fixture
def whole(checkpoints: Any, tmp_path: Path) -> Path:
    path: Path = checkpoints.write(tmp_path / "model.ckpt-7.index", TENSORS)
    return path


def test_what_was_written_is_read(whole: Path) -> None:
    checkpoint = TensorFlowCheckpoint(whole)
    assert checkpoint.names == sorted(TENSORS)
    for name, values in TENSORS.items():
        if values.dtype == np.float32:
            np.testing.assert_array_equal(checkpoint.tensor(name, values.shape), values, err_msg=name)
    assert checkpoint.tensor("one", ()).shape == () and checkpoint.tensor("one", ()).dtype == np.float32


def test_what_tensorflow_wrote_is_read(tmp_path: Path) -> None:
    """These are the files that the Saver of TensorFlow 2.21 (tf.compat.v1.train) made of four variables."""
    (tmp_path / "model.ckpt-1.index").write_bytes(
        bytes.fromhex(
            "00000608011a02080100140f636f6e76302f626e2f6d6f76696e675f6d65616e08011204120208012804355649d3310606156b65726e"
            "656c08011208120208021202080320042818351854f117000b0d676c6f62616c5f7374657008091200201c280835ca300a8500180d74"
            "6f7765722f636f6e76312f696e7374616e63655f6d6178080112002024280435e4858d920000000001000000009cbfca830000000001"
            "00000000c0f2a1b0000103750098010000000001000000005178c2549d0108aa010f"
        )
        + bytes(34)
        + bytes.fromhex("57fb808b247547db")
    )
    (tmp_path / "model.ckpt-1.data-00000-of-00001").write_bytes(
        bytes.fromhex("0000803e0000803f0000004000004040000080c00000003f0000000060cc0500000000000000f040")
    )
    checkpoint = TensorFlowCheckpoint(tmp_path / "model.ckpt-1.index")
    assert checkpoint.names == ["conv0/bn/moving_mean", "conv0/kernel", "global_step", "tower/conv1/instance_max"]
    assert checkpoint.tensor("conv0/bn/moving_mean", (1,)).tolist() == [0.25]
    assert checkpoint.tensor("conv0/kernel", (2, 3)).tolist() == [[1, 2, 3], [-4, 0.5, 0]]
    assert checkpoint.tensor("tower/conv1/instance_max", ()) == 7.5


def test_tensors_that_are_not_those_expected(whole: Path) -> None:
    checkpoint = TensorFlowCheckpoint(whole)
    for name, shape, words in (
        ("conv", (3, 2, 1), "it has no tensor conv$"),
        ("conv0/kernel", (3, 2), r"its tensor conv0/kernel has the shape \(3, 2, 1\), not \(3, 2\)"),
        ("global_step", (), "its tensor global_step is not float32"),
    ):
        with pytest.raises(RuntimeError, match=words):
            checkpoint.tensor(name, shape)


def test_no_damaged_byte_and_no_truncation_of_the_index_goes_unnoticed_or_ends_otherwise(
    checkpoints: Any, tmp_path: Path
) -> None:
    kept = {name: TENSORS[name] for name in ("conv1/kernel", "conv10/kernel")}
    path = checkpoints.write(tmp_path / "small.index", kept)
    good = path.read_bytes()
    refused = 0
    for at in range(len(good)):
        for damaged in (good[:at], good[:at] + bytes([good[at] ^ 0x41]) + good[at + 1 :]):
            path.write_bytes(damaged)
            try:
                checkpoint = TensorFlowCheckpoint(path)
            except ValueError:
                refused += 1
                continue
            # Only what is not read may differ: the block of further information, and the footer's padding.
            assert len(damaged) == len(good) and checkpoint.names == sorted(kept)
            for name, values in kept.items():
                np.testing.assert_array_equal(checkpoint.tensor(name, values.shape), values)
    assert refused > 1.7 * len(good)


def test_damaged_truncated_and_missing_numbers(whole: Path) -> None:
    checkpoint = TensorFlowCheckpoint(whole)
    data = whole.with_name("model.ckpt-7.data-00000-of-00001")
    good = data.read_bytes()
    data.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"the checksum of one in model.ckpt-7.data-00000-of-00001 is wrong"):
        checkpoint.tensor("one", ())
    data.write_bytes(good[:-1])
    with pytest.raises(ValueError, match=r"model.ckpt-7.data-00000-of-00001 does not hold what it says of one"):
        checkpoint.tensor("one", ())
    data.unlink()
    with pytest.raises(ValueError, match=r"model.ckpt-7.data-00000-of-00001, with its numbers, is not beside it"):
        checkpoint.tensor("one", ())
    with pytest.raises(ValueError, match=r"ends in \.index"):
        TensorFlowCheckpoint(Path(__file__))
    with pytest.raises(FileNotFoundError):
        TensorFlowCheckpoint(whole.with_name("absent.index"))


def test_no_numbers_are_refused(checkpoints: Any, tmp_path: Path) -> None:
    path = checkpoints.write(tmp_path / "nan.index", {"x": np.array([1, np.nan], np.float32)})
    with pytest.raises(ValueError, match="x has values that are no numbers"):
        TensorFlowCheckpoint(path).tensor("x", (2,))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda w: b"", "no index of a checkpoint"),
        (lambda w: bytes(200), "no index of a checkpoint"),
        (lambda w: bytes((1 << 20) + 1), "1048577 bytes, more than an index"),
        (lambda w: w.table([w.block({b"": HEADER})], kind=1), "Snappy"),
        (lambda w: w.table([w.block({b"": HEADER + bytes([2 * 8, 1])})]), "big-endian"),
        (lambda w: w.table([w.block({b"a": w.entry((), 0, b"")})]), "no header"),
        (lambda w: w.table([w.block({b"": w.field(1, b"x")})]), "damaged"),
        (lambda w: w.table([w.block({b"": w.field(1, 10**6)})]), "no header"),
        (lambda w: w.table([w.block({b"": HEADER})], handles=[(2**63, 9)]), "damaged"),
        (lambda w: w.table([w.block({b"": HEADER})], handles=[(0, 2**63)]), "damaged"),
        # One block named a thousand times would be read a thousand times.
        (lambda w: w.table([w.block({b"": HEADER})], handles=[(0, len(w.block({b"": HEADER})))] * 1000), "damaged"),
        (lambda w: w.table([w.block({b"": HEADER, b"x" * 513: b""})]), "damaged"),
        (lambda w: w.table([w.block({b"": HEADER}), w.block({b"": HEADER})]), "damaged"),
        (lambda w: w.table([bytes([5, 1, 0, 65]) + bytes(4)]), "damaged"),  # shares more than there is
        (lambda w: w.table([bytes([0, 1, 99, 65]) + bytes(4)]), "damaged"),  # a value behind the end
        (lambda w: w.table([b"\xff\xff\xff\xff"]), "damaged"),  # four billion restarts
        (lambda w: w.table([b""]), "damaged"),
        (lambda w: w.table([w.block({b"": HEADER, b"a": w.field(2, 1)})]), "damaged"),
        (lambda w: w.table([w.block({b"": HEADER, b"a": w.field(4, b"x")})]), "damaged"),
        (lambda w: w.table([w.block({b"": HEADER, b"a": b"\xff" * 11})]), "protobuf"),
        (lambda w: w.table([w.block({b"": HEADER, b"\xff": b""})]), "decode"),
    ],
)
def test_hostile_indices(checkpoints: Any, tmp_path: Path, make: Callable[[Any], bytes], words: str) -> None:
    path = tmp_path / "hostile.index"
    path.write_bytes(make(checkpoints))
    with pytest.raises(ValueError, match=words):
        TensorFlowCheckpoint(path)


def test_hostile_entries(checkpoints: Any, tmp_path: Path) -> None:
    w, path = checkpoints, tmp_path / "hostile.index"
    four = bytes(4)
    entries = {
        b"far": w.entry((1,), 2**62, four),
        b"long": w.entry((1,), 0, bytes(8)),
        b"shard": w.entry((1,), 0, four, more=w.field(3, 7)),
        b"sliced": w.entry((1,), 0, four, more=w.field(7, b"")),
        b"vast": w.entry((2**40, 2**40), 0, four),
    }
    path.write_bytes(w.table([w.block({b"": HEADER, **entries})]))
    path.with_name("hostile.data-00000-of-00001").write_bytes(four)
    checkpoint = TensorFlowCheckpoint(path)
    for name, words in (
        ("far", "does not hold"),
        ("long", "does not hold"),
        ("shard", "data-00007-of-00001, with its"),
    ):
        with pytest.raises(ValueError, match=words):
            checkpoint.tensor(name, (1,))
    for name, words in (("sliced", "not float32 in one piece"), ("vast", "has the shape")):
        with pytest.raises(RuntimeError, match=words):
            checkpoint.tensor(name, (1,))
    with pytest.raises(ValueError, match="does not hold"):
        checkpoint.tensor("vast", (2**40, 2**40))
