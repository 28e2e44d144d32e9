"""Stores: what was written is there again whatever happens, and damage costs what it touched."""

from __future__ import annotations

import pickle
import signal
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiepoints.collection import Step, Store, register, run
from tiepoints.collection.memory import stage_of
from tiepoints.collection.records import decode, encode
from tiepoints.errors import InvalidInputError, StorageError
from tiepoints.features import Features, Matches

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


class Noise(Step):
    """Random bytes by their seed."""

    def __init__(self, size: int = 20_000) -> None:
        self.size = size

    def __call__(self, seed: int) -> Any:
        return np.random.default_rng(seed).integers(0, 256, self.size, np.uint8)


def items(count: int) -> dict[str, tuple[int]]:
    return {str(i): (i,) for i in range(count)}


VALUES = [
    None,
    True,
    -3,
    0.1,
    "naïve 🙂",
    [1, (2.5, "x")],
    {"a": np.arange(6, dtype=np.int16).reshape(2, 3), "b": {"c": np.float32(2)}},
    np.zeros((0, 5), np.uint8),
    np.array(3.5),
    np.array(["x", "yz"]),
]


@pytest.mark.parametrize("value", VALUES, ids=map(str, range(len(VALUES))))
def test_values_come_back(value: Any) -> None:
    def same(a: Any, b: Any) -> bool:
        if isinstance(a, np.ndarray):
            return bool(a.dtype == b.dtype and a.shape == b.shape and (a == b).all())
        if isinstance(a, dict):
            return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
        return bool(a == b)

    assert same(value, decode(encode(value)))


def test_features_and_matches_come_back() -> None:
    rng = np.random.default_rng(0)
    features = Features(rng.random((9, 2)), rng.random((9, 4)), rng.random(9), (64, 48), sets=np.arange(9) % 2)
    back = decode(encode({"f": features, "m": Matches([[0, 1]], [0.5])}))
    for name in ("keypoints", "descriptors", "scores", "sets"):
        np.testing.assert_array_equal(getattr(back["f"], name), getattr(features, name))
    assert back["f"].image_size == (64, 48) and back["f"].scales is None
    assert back["m"].indices.tolist() == [[0, 1]]


def test_what_cannot_be_stored_is_named() -> None:
    for value in (object(), {1: 2}, {"$array": 0}, np.array([None]), {"x": {1, 2}}):
        with pytest.raises(InvalidInputError):
            encode(value)
    with pytest.raises(InvalidInputError, match="dataclass"):
        register("x.Y")(int)


def test_every_wrong_byte_of_a_record_is_noticed() -> None:
    record = encode({"a": np.arange(20), "b": "text"})
    for i in range(len(record)):
        with pytest.raises(StorageError):
            decode(record[:i] + bytes([record[i] ^ 0x40]) + record[i + 1 :])
        with pytest.raises(StorageError):
            decode(record[:i])


def test_a_wrong_byte_costs_one_result(tmp_path: Path) -> None:
    count = 8
    with Store(tmp_path) as store:
        run(Noise(), items(count), store)
    (path,) = tmp_path.glob("noise-*.sqlite")
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    places = [*range(0, 140, 7), *range(100, 9000, 1111), *rng.integers(0, len(whole), 25)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with Store(tmp_path) as store:
            results = run(Noise(), items(count), store)
            assert results.computed <= 1, f"byte {place} has cost {results.computed}"
            assert all((results[name] == Noise()(seed)).all() for name, (seed,) in items(count).items())
        for log in tmp_path.glob("*.sqlite-*"):
            log.unlink()


def test_a_file_that_is_no_database_is_replaced(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        run(Noise(), items(2), store)
    (path,) = tmp_path.glob("noise-*.sqlite")
    for content in (b"junk" * 500, b"", b"SQLite format 3\0"):
        path.write_bytes(content)
        with Store(tmp_path) as store:
            assert run(Noise(), items(2), store).computed == 2


def test_a_truncated_file_keeps_what_it_holds(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        run(Noise(), items(12), store)
    (path,) = tmp_path.glob("noise-*.sqlite")
    path.write_bytes(path.read_bytes()[: 7 * 16384 * 2])
    with Store(tmp_path) as store:
        results = run(Noise(), items(12), store)
        assert 0 < results.computed < 12 and len(results) == 12


FILL = """
import sys
from tiepoints.collection import Step, Store, run
sys.path.insert(0, sys.argv[2])
from test_store import Noise
items = {str(i): (i,) for i in range(400)}
run(Noise(), items, Store(sys.argv[1]), progress=lambda done, every: print(done, flush=True))
"""


def test_what_was_finished_before_a_kill_is_there_again(tmp_path: Path, child: Any) -> None:
    process = child(FILL, tmp_path, Path(__file__).parent)
    while process.stdout.readline().strip() != "30":
        pass
    process.send_signal(KILL)
    told = 30 + len(process.stdout.read().split())
    with Store(tmp_path) as store:
        results = run(_child_noise(), items(400), store)
        assert 400 - told - 1 <= results.computed <= 400 - told
        assert (results["399"] == Noise()(399)).all()


def _child_noise() -> Step:
    """The step as the child process knows it: by the module's short name."""
    import importlib.util
    import sys

    spec = importlib.util.spec_from_file_location("test_store", __file__)
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault("test_store", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    step: Step = module.Noise()
    return step


def test_a_result_in_a_shard_that_came_later_is_found(tmp_path: Path) -> None:
    with Store(tmp_path, shard="1") as first, Store(tmp_path, shard="2") as second:
        run(Noise(), items(1), first)
        other = run(Noise(), items(2), second)
        stage, keys = stage_of(Noise()), [other.key(name) for name in other]
        assert [(first.get(stage, key) == second.get(stage, key)).all() for key in keys] == [True, True]
        with pytest.raises(StorageError, match="holds no result"):
            first.get(stage, "0" * 32)


def test_shards_are_read_as_one_and_stores_travel(tmp_path: Path) -> None:
    run(Noise(), items(3), Store(tmp_path, shard="1"))
    run(Noise(), items(5), Store(tmp_path, shard="2"))
    with Store(tmp_path) as store:
        results = run(Noise(), items(6), store)
        assert results.computed == 1
        assert len(list(tmp_path.glob("noise-*.sqlite"))) == 3
        copy = pickle.loads(pickle.dumps(results.reference("4")))
        assert (copy.load() == Noise()(4)).all()
        ((stage, about),) = store.stages().items()
        assert stage.startswith("noise-") and '"size": 20000' in about
    with pytest.raises(InvalidInputError, match="shard"):
        Store(tmp_path, shard="../x")


def test_folders_of_others_are_read_and_not_written(tmp_path: Path) -> None:
    for name, seeds in (("a", range(3)), ("b", range(3, 6))):
        run(Noise(), {str(i): (i,) for i in seeds}, Store(tmp_path / name))
    before = sorted(tmp_path.rglob("*.main.sqlite"))
    with Store(tmp_path / "own", also=[tmp_path / "a", tmp_path / "b"]) as store:
        results = run(Noise(), items(7), store)
        assert results.computed == 1 and (results["4"] == Noise()(4)).all()
        assert (pickle.loads(pickle.dumps(results.reference("1"))).load() == Noise()(1)).all()
    assert sorted(tmp_path.rglob("*.main.sqlite")) == sorted([*before, *(tmp_path / "own").glob("*.sqlite")])
    with pytest.raises(StorageError, match="no such folder"):
        Store(tmp_path / "own", also=[tmp_path / "gone"])


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageError, match="file"):
        Store(tmp_path / "file" / "work")


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    run(Noise(), items(3), store)
    (file,) = (file for path, file in store._files.items() if "noise" in path.name)
    file._do(lambda database: database.execute("pragma max_page_count=20"))
    with pytest.raises(StorageError, match=r"noise-.*sqlite: cannot be written \(the disk is full\); what is finished"):
        run(Noise(), items(40), store)
    store.close()
    assert run(Noise(), items(40), Store(tmp_path)).computed < 37, "what was finished is there"
    assert sqlite3.sqlite_version_info > (3, 22)
