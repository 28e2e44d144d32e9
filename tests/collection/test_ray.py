"""The engine for a cluster, on a real cluster of several nodes on this machine: equal results, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tiepoints as tp
from tiepoints.collection import Collection, Extract, Match, Ray, Step, Store, Threads, Verify, exhaustive, run

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'tiepoints[scale]'")

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Ray runs several nodes on one machine on Linux only"),
    # Ray's own: sockets and files that it leaves to the garbage collector, its deprecations
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LOOPBACK = "127.0.0.2"  # Ray takes 127.0.0.1 for the machine's address in its network
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "node_ip_address": LOOPBACK}


class Slow(Step):
    """Ends its process on some numbers; the first call of all waits until it was killed, or its node removed."""

    def __init__(self, notes: str = "", poison: tuple[int, ...] = ()) -> None:
        self._notes, self.poison = notes, poison

    def __call__(self, value: int) -> int:
        if value in self.poison:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._notes and value == 0:
            note = Path(self._notes)
            if not note.exists():
                note.with_suffix(".new").write_text(f"{os.getpid()} {ray.get_runtime_context().get_node_id()}")
                note.with_suffix(".new").rename(note)
                time.sleep(60)
        return value * value


def test_a_cluster_that_asks_for_a_token_or_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "RPC error: InvalidAuthToken: Authentication token is missing or incorrect"

    def refuse(**options: Any) -> None:  # as Ray 2.60 does
        try:
            raise RuntimeError(f"Failed to connect to GCS. Last connection error: {said}")
        except RuntimeError as error:
            raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379") from error

    monkeypatch.setattr(ray, "init", refuse)
    engine = Ray("10.0.0.1:6379")
    with pytest.raises(tp.TiepointsError, match=r"10\.0\.0\.1:6379 asks for its token: .* set RAY_AUTH_MODE=token"):
        list(engine.map(lambda task, threads: task, [1]))
    said = "timed out"
    with pytest.raises(tp.TiepointsError, match=r"no Ray cluster at 10\.0\.0\.1:6379 .* start one"):
        list(engine.map(lambda task, threads: task, [1]))


# What Ray's own processes wait for each other; its defaults of some ten seconds are too short on a busy machine.
PATIENT = {
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_gcs_server_request_timeout_seconds": "300",
    "RAY_health_check_timeout_ms": "60000",
}


def again(start: Callable[[], Any], tries: int = 5) -> Any:
    """A node that has not registered after 30 seconds is given up by Ray, without an option: start another one."""
    for left in reversed(range(tries)):
        try:
            return start()
        except Exception as error:  # noqa: PERF203 - Ray raises no class of its own
            if not left or "timed out during startup" not in str(error):
                raise
    return None


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without CPUs, and two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    before = signal.getsignal(signal.SIGTERM)
    head = NODE | {"num_cpus": 0, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in PATIENT.items():
            patch.setenv(name, value)
        cluster = again(lambda: Cluster(initialize_head=True, head_node_args=head))
        ray.cloudpickle.register_pickle_by_value(sys.modules[Slow.__module__])
        try:
            again(lambda: cluster.add_node(wait=False, **NODE))
            again(lambda: cluster.add_node(wait=False, **NODE))
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            cluster.wait_for_nodes(300)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
            signal.signal(signal.SIGTERM, before)


def test_queries_are_localized_on_the_cluster(cluster: Any, examples: Path, tmp_path: Path) -> None:
    """A map of points on the desk's picture as on a wall: each worker opens it for itself."""
    import numpy as np

    from tiepoints.collection.retrieval import Vocabulary
    from tiepoints.tasks import Localize, Localizer
    from tiepoints.tasks.maps import write_version

    extractor = tp.load("orb", max_keypoints=1000)
    seen = extractor(examples / "desk_1.jpg")
    words = Vocabulary.learn([seen], 8)
    content = {"extractor": "orb", "options": {"max_keypoints": 1000}, "matching": {}, "names": ["wall"], "cameras": []}
    wall = np.column_stack([(seen.keypoints - [319.5, 239.5]) / 600 * 3, np.full(len(seen), 3.0)])
    arrays = {
        "words": words.words, "vectors": words(seen)[None], "xyz": wall, "descriptors": seen.descriptors,
        "points": np.arange(len(seen), dtype=np.int32), "offsets": np.array([0, len(seen)]),
    }  # fmt: skip
    write_version(tmp_path / "map", content, arrays)
    step = Localize(Localizer(tmp_path / "map"), focal=600)
    queries = Collection.from_folder(examples).select(["desk_1.jpg", "box.png"])
    found = run(step, queries, engine=Ray(cluster.address))
    alone = run(step, queries)
    assert not found.failed and bool(found["desk_1.jpg"]) and not found["box.png"]
    np.testing.assert_allclose(found["desk_1.jpg"].pose.center, [0, 0, 0], atol=0.02)
    np.testing.assert_array_equal(found["desk_1.jpg"].pose.matrix, alone["desk_1.jpg"].pose.matrix)
    assert found["box.png"].reason == alone["box.png"].reason


def test_equals_the_local_engine(cluster: Any, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    for path in examples.glob("box*.png"):
        shutil.copy(path, tmp_path / "photos")
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    records = []
    for name, engine in (("local", Threads(2)), ("cluster", Ray(cluster.address))):
        photos = Collection.from_folder("photos")  # relative paths
        with Store(name) as store:
            features = run(Extract("orb", max_keypoints=200), photos, store, engine=engine)
            pairs = exhaustive(photos.select(features))
            matches = run(Match(ratio=0.9), pairs, store, features, engine=engine)
            views = run(Verify("homography"), matches, store, features, engine=engine)
            assert list(features.failed) == ["broken.png"] and features.computed == 2 and views.computed == 1
            every = [(results, name) for results in (features, matches, views) for name in results]
            records.append([store.record(results._stage, results.key(name)) for results, name in every])
            assert run(Extract("orb", max_keypoints=200), photos, store, engine=engine).computed == 0
    assert records[0] == records[1] and len(records[0]) == 4
    assert not list(Path("cluster").glob("extract*.main.sqlite")), "workers write, each into its own shard"


def test_an_item_that_ends_its_process_fails_alone(cluster: Any, tmp_path: Path) -> None:
    with Store(tmp_path / "work") as store:
        squares = run(Slow(poison=(5,)), {str(i): i for i in range(12)}, store, engine=Ray())
        assert list(squares.failed) == ["5"] and "its process died" in squares.failed["5"]
        assert dict(squares) == {str(i): i * i for i in range(12) if i != 5}


def test_results_without_a_store_come_back(cluster: Any) -> None:
    assert run(Slow(), {"a": 3, "b": 4}, engine=Ray())["b"] == 16


@pytest.mark.parametrize("what", ["worker", "node"])
def test_what_dies_loses_nothing(cluster: Any, tmp_path: Path, what: str) -> None:
    note = tmp_path / "note"

    def kill() -> None:
        while not note.exists():
            time.sleep(0.05)
        process, node = note.read_text().split()
        if what == "worker":
            os.kill(int(process), signal.SIGKILL)
        else:
            cluster.remove_node(next(one for one in cluster.worker_nodes if one.node_id == node), allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    with Store(tmp_path / "work") as store:
        squares = run(Slow(str(note)), {str(i): i for i in range(20)}, store, engine=Ray())
        killer.join()
        assert not squares.failed and dict(squares) == {str(i): i * i for i in range(20)}


def test_what_no_machine_has_is_said(cluster: Any) -> None:
    with pytest.raises(tp.InvalidInputError, match="cpus"):
        Ray(cpus=0)
    with pytest.raises(tp.TiepointsError, match="no machine of the Ray cluster has 99 CPUs"):
        run(Slow(), {"a": 3}, engine=Ray(cpus=99))
