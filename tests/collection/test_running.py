"""`run`: only what is missing is computed, nothing known is stale, and one bad item costs no other."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tiepoints as tp
from tiepoints.collection import (
    Collection,
    Engine,
    Extract,
    Given,
    Match,
    Processes,
    Serial,
    Step,
    Store,
    Threads,
    Verify,
    exhaustive,
    run,
)
from tiepoints.collection.memory import Recent

COUNTED: list[str] = []


class Brightness(Step):
    """The mean of an image; counts its calls."""

    def __init__(self, power: float = 1.0) -> None:
        self.power = power

    def __call__(self, photograph: Any) -> Any:
        COUNTED.append(photograph.name)
        if "bad" in photograph.name:
            raise ValueError("cannot\nlook at this")
        return {"mean": float(photograph.read().mean()) ** self.power, "name": photograph.name}


class Difference(Step):
    def __call__(self, a: Any, b: Any) -> Any:
        return a["mean"] - b["mean"]


class Poisoned(Step):
    """Ends its process on a 3."""

    def __call__(self, value: int) -> int:
        if value == 3:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        return value * value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    (photos / "inner").mkdir(parents=True)
    for i, name in enumerate(("a1.png", "a10.png", "a2.png", "inner/b.png")):
        Image.new("L", (32, 24), 40 * (i + 1)).save(photos / name)
    COUNTED.clear()
    return photos


ENGINES: list[Callable[[], Engine]] = [Serial, lambda: Threads(3)]


@pytest.mark.parametrize("engine", ENGINES, ids=["serial", "threads"])
def test_what_is_known_is_not_computed_again(folder: Path, tmp_path: Path, engine: Callable[[], Engine]) -> None:
    seen: list[tuple[int, int]] = []
    with Store(tmp_path / "work") as store:
        first = run(
            Brightness(), Collection.from_folder(folder), store, engine=engine(), progress=lambda *n: seen.append(n)
        )
    assert list(first) == ["a1.png", "a2.png", "a10.png", "inner/b.png"], "numbers are in natural order"
    assert first["a10.png"] == {"mean": 80.0, "name": "a10.png"}
    assert seen == [(i, 4) for i in range(5)] and first.computed == 4 and not first.failed
    shutil.copy(folder / "a1.png", folder / "copy.png")
    (folder / "a2.png").rename(folder / "renamed.png")
    with Store(tmp_path / "work") as store:
        again = run(Brightness(), Collection.from_folder(folder), store, engine=engine())
        assert len(again) == 5 and again.computed == 0 and len(COUNTED) == 4, "a copy and a new name change nothing"
        other = run(Brightness(2.0), Collection.from_folder(folder), store, engine=engine())
        assert other.computed == 4 and other["copy.png"]["mean"] == 1600.0, "equal photographs are computed once"
        assert again["renamed.png"]["mean"] == 120.0
        Image.new("L", (32, 24), 7).save(folder / "a1.png")
        changed = run(Brightness(), Collection.from_folder(folder), store, engine=engine())
        assert changed.computed == 1 and changed["a1.png"]["mean"] == 7.0 and changed["copy.png"]["mean"] == 40.0


def test_one_bad_item_costs_no_other(folder: Path, tmp_path: Path) -> None:
    (folder / "bad.png").write_bytes((folder / "a1.png").read_bytes() + b" ")
    Image.new("L", (9, 9), 1).save(folder / "gone.png")
    photos = Collection.from_folder(folder)
    (folder / "gone.png").unlink()
    with Store(tmp_path / "work") as store:
        means = run(Brightness(), photos, store)
        assert set(means.failed) == {"bad.png", "gone.png"} and len(means) == 4
        assert means.failed["bad.png"] == f"{folder / 'bad.png'}: ValueError: cannot look at this"
        assert "no such file" in means.failed["gone.png"]
        pairs = exhaustive(photos)
        differences = run(Difference(), pairs, store, means)
        assert len(differences) == 6 and len(differences.skipped) == 9 and not differences.failed
        assert differences["a1.png", "a10.png"] == -40.0
        assert run(Brightness(), photos, store).computed == 0, "what failed is tried again, what is there is not"


class Refused(Step):
    """Fails with the message that belongs to the name of its first input."""

    def __init__(self, messages: dict[str, str]) -> None:
        self.messages = messages

    def __call__(self, first: Any, *rest: Any) -> Any:
        raise tp.InvalidInputError(self.messages[first if isinstance(first, str) else first.name])


def test_every_failure_names_its_item_once(folder: Path) -> None:
    path, inner = folder / "a1.png", folder / "inner" / "b.png"
    photos = Collection.from_folder(folder).select(["a1.png", "inner/b.png"])
    found = run(Refused({"a1.png": "too small", "inner/b.png": f"{inner}: too large"}), photos)
    assert found.failed == {"a1.png": f"{path}: too small", "inner/b.png": f"{inner}: too large"}
    given = {"a": (photos["a1.png"], 3), ("b", "c"): ("x", 3), "d": ("y", 3)}
    found = run(Refused({"a1.png": "no a", "x": "no x", "y": "d: no y"}), given)
    assert found.failed == {"a": f"{path}: no a", ("b", "c"): "b - c: no x", "d": "d: no y"}


def test_pairs_and_results_are_items(examples: Path, tmp_path: Path) -> None:
    photos = Collection.from_folder(examples)
    extractor = tp.load("orb", max_keypoints=300)
    with Store(tmp_path / "work") as store:
        features = run(Extract(extractor), photos, store)
        matches = run(Match(ratio=0.9), exhaustive(photos), store, features)
        views = run(Verify("homography"), matches, store, features)
        a, b = features["box.png"], features["box_in_scene.png"]
        expected = tp.match(a, b, ratio=0.9)
        np.testing.assert_array_equal(matches["box.png", "box_in_scene.png"].indices, expected.indices)
        view = views["box.png", "box_in_scene.png"]
        assert view and view.verified and len(view.inliers) == view.geometry.num_inliers > 5
        assert not views["box.png", "desk_1.jpg"] and len(views["box.png", "desk_1.jpg"].inliers) == 0
        assert run(Verify("homography"), matches, store, features).computed == 0
        assert run(Verify("homography", threshold=2), matches, store, features).computed == 6
    held = run(Match(ratio=0.9), exhaustive(photos), None, run(Extract(extractor), photos))
    np.testing.assert_array_equal(held["box.png", "box_in_scene.png"].indices, expected.indices)


class Sum(Step):
    def __call__(self, values: Any, factor: Any) -> Any:
        return values.sum() * factor


def test_a_mapping_of_inputs_is_known_by_their_content() -> None:
    items = {"x": (np.arange(3), 2), ("a", "b"): (np.arange(4), Given(0.5))}
    results = run(Sum(), items)
    assert dict(results.items()) == {"x": 6, ("a", "b"): 3.0}
    with pytest.raises(tp.InvalidInputError, match="no pair of names"):
        run(Sum(), [3])  # type: ignore[list-item]


def test_a_call_that_ends_its_process_fails_alone(tmp_path: Path) -> None:
    with Store(tmp_path / "work") as store:
        results = run(Poisoned(), {str(i): (i,) for i in range(5)}, store, engine=Processes(2, own_shards=True))
        assert dict(results.items()) == {str(i): i * i for i in (0, 1, 2, 4)}
        assert set(results.failed) == {"3"} and "process died" in results.failed["3"]
        assert run(Poisoned(), {"4": (4,)}, store).computed == 0, "what was finished beside it is there"


class Together(Step):
    """Goes on once two processes are at work; otherwise one could be done before the other has begun."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, value: int) -> int:
        Path(self.folder, str(os.getpid())).touch()
        deadline = time.monotonic() + 60
        while len(list(Path(self.folder).iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        return value * value


def test_each_process_writes_its_own_shard(tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    items = {str(i): (i,) for i in range(6)}
    with Store(tmp_path / "work") as store:
        engine = Processes(2, own_shards=True)
        results = run(Together(str(tmp_path / "seen")), items, store, engine=engine)
        assert dict(results.items()) == {str(i): i * i for i in range(6)}
        assert len(list(store.folder.glob("together-*.sqlite"))) == 2
        assert run(Together(str(tmp_path / "seen")), items, store).computed == 0, "shards are read as one"


class Heavy(Step):
    """Says how many calls run at once; the first ones wait until as many run as should."""

    now = 0
    most = 0
    lock = threading.Lock()
    met = threading.Event()
    expected = 1
    threads: tuple[int, ...] = ()

    def __init__(self, size: int) -> None:
        self.size = size

    def memory(self, *inputs: Any) -> int:
        return self.size

    def __call__(self, value: int) -> int:
        with Heavy.lock:
            Heavy.now += 1
            Heavy.most = max(Heavy.most, Heavy.now)
            Heavy.threads += (tp.threads.cores(),)
            if Heavy.now >= Heavy.expected:
                Heavy.met.set()
        Heavy.met.wait(20)
        time.sleep(0.02)  # time for one more to come in, if nothing held it back
        with Heavy.lock:
            Heavy.now -= 1
        return value


@pytest.mark.parametrize(("size", "most"), [(10, 4), (45, 2), (1000, 1)])
def test_calls_that_take_too_much_together_wait_for_each_other(
    size: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    Heavy.most, Heavy.threads, Heavy.expected = 0, (), most
    Heavy.met.clear()
    results = run(Heavy(size), {str(i): (i,) for i in range(12)}, engine=Threads(4, memory=100))
    assert len(results) == 12 and Heavy.most == most
    assert set(Heavy.threads) == {4 if size == 1000 else 1}, "who runs alone has all threads"


@pytest.mark.parametrize("workers", [float("nan"), 0, -1, 1.5, "2", True])
def test_workers_are_checked(workers: Any) -> None:
    for engine in (Threads, Processes):
        with pytest.raises(tp.InvalidInputError, match="workers"):
            engine(workers)


def test_an_interrupt_ends_the_run_and_keeps_what_is_finished(tmp_path: Path) -> None:
    def stop(done: int, every: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    items = {str(i): (i,) for i in range(40)}
    with Store(tmp_path / "work") as store:
        with pytest.raises(KeyboardInterrupt):
            run(Heavy(1), items, store, engine=Threads(2), progress=stop)
        assert 0 < run(Heavy(1), items, store).computed <= 36


SCRIPT = """
import sys
from tiepoints.collection import Collection, Extract, Processes, Step, run
class Brightness(Step):
    def __call__(self, photograph):
        return float(photograph.read().mean())
step = Brightness() if sys.argv[1] == "own" else Extract("orb")
print(len(run(step, Collection.from_folder({folder!r}), engine=Processes(2))))
"""


@pytest.mark.parametrize("given", ["file", "standard input"])
def test_a_script_without_a_guard_uses_processes(tmp_path: Path, examples: Path, given: str) -> None:
    text = SCRIPT.format(folder=str(examples))
    (tmp_path / "script.py").write_text(text, encoding="utf-8")
    script = "-" if given == "standard input" else str(tmp_path / "script.py")
    done = subprocess.run(
        [sys.executable, script, "ours"], input=text, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.returncode) == ("4\n", 0), done.stderr
    own = subprocess.run(
        [sys.executable, script, "own"], input=text, capture_output=True, text=True, timeout=120, check=False
    )
    assert own.returncode == 1 and 'put what uses them below `if __name__ == "__main__":`' in own.stderr


def test_the_features_of_an_image_are_loaded_once_for_its_pairs() -> None:
    read: list[str] = []

    class Read:
        def __init__(self, key: str, length: int) -> None:
            self.key, self.length = key, length

        def load(self) -> Any:
            read.append(self.key)
            points = np.zeros((self.length, 2), np.float32)
            return tp.Features(points, np.zeros((self.length, 8), np.uint8), points[:, 0], (9, 9))

    class Number(Read):
        def load(self) -> Any:
            read.append(self.key)
            return {"number": self.length}

    recent = Recent(most=100 * 16 + 15)  # bytes: 100 keypoints of 16 bytes, and nearly another one
    a, b, number = Read("a", 40), Read("b", 60), Number("number", 3)
    assert [len(recent.load(one)) for one in (a, b, a, b)] == [40, 60, 40, 60]
    assert recent.load(a) is recent.load(a)
    assert read == ["a", "b"]
    recent.load(Read("c", 1))  # too much now: of the three the one that was not used for longest goes
    recent.load(a)
    assert read == ["a", "b", "c"]
    recent.load(b)
    assert read == ["a", "b", "c", "b"]
    assert recent.load(number) is not recent.load(number)  # what a step could change is loaded each time
    assert read.count("number") == 2
    assert pickle.loads(pickle.dumps(recent)).load(a) is not recent.load(a)  # another process begins with nothing


def test_a_dropped_iterator_may_be_collected_in_its_own_thread() -> None:
    """Python's garbage collector runs in whatever thread it comes to."""
    go_on, ended = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def call(task: int, threads: int) -> int:
        if task == 1:
            go_on.wait()
            try:
                stream.close()  # type: ignore[attr-defined]
            except BaseException as error:
                raised.append(error)
            ended.set()
        return task

    stream = Threads(2).map(call, [0, 1])
    assert next(stream) == (0, 0)
    go_on.set()
    assert ended.wait(30) and raised == []


def test_photographs_of_the_same_content_fail_each_by_its_own_name(tmp_path: Path) -> None:
    """They are tried once. What macOS writes beside them (._a.jpg) is no photograph."""
    for name in ("a.jpg", "b.jpg", "._a.jpg"):
        (tmp_path / name).write_bytes(b"no image")
    results = run(Extract("orb"), Collection.from_folder(tmp_path))
    assert {name: message.partition(": ")[0] for name, message in results.failed.items()} == {
        name: str(tmp_path / name) for name in ("a.jpg", "b.jpg")
    }


def test_cameras_of_names_that_no_photograph_has_are_warned_of(examples: Path) -> None:
    photographs = Collection.from_folder(examples)
    camera = tp.Camera.from_focal(500, (640, 480))
    with pytest.warns(UserWarning, match=r"the cameras: 1 of 2 names are no photograph's .* 'desk_1.jpeg': did you"):
        found = photographs.with_cameras({"desk_1.jpeg": camera, "desk_2.jpg": camera})
    assert found["desk_1.jpg"].camera is None and found["desk_2.jpg"].camera == camera


def test_selecting_an_unknown_photograph_names_the_nearest(examples: Path) -> None:
    with pytest.raises(tp.InvalidInputError, match=r"there is no photograph 'desk1.jpg': did you mean 'desk_1.jpg'\?"):
        Collection.from_folder(examples).select(["desk1.jpg"])
