"""The engine for a cluster: chunks of tasks run by Ray, each worker with a shard of its own in the store."""

from __future__ import annotations

import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

from ..checks import count
from ..errors import TiepointsError
from ..files import one_line
from ..optional import require
from .engines import Call, Engine, Failure, failure_of, guarded
from .store import let_go

__all__ = ["Ray"]

T = TypeVar("T")

# A chunk shall take about so long that what Ray does for it, a few milliseconds, does not count.
_SECONDS = 1.0
_MOST = 256  # tasks in a chunk
_WAITING = 2  # chunks for each CPU that are submitted: one runs, one waits
_ATTEMPTS = 3  # a task alone in its chunk is given up after so many workers have died of it
_MEMORY = 1 << 28  # Ray starts workers for each size that it is asked for: so ask for few different ones


class _Chunk(NamedTuple):
    tasks: list[Any]
    memory: int
    attempt: int


class _Job(NamedTuple):
    number: str
    folder: str
    threads: int


class Ray(Engine):
    """Chunks of tasks on a Ray cluster; each worker process writes its results into a shard of its own.

    All machines see the photographs and the store under the same paths, and have the same versions of the packages.
    The process that called `run` keeps the lists of names and keys, and no results pass through it.

    A worker or a machine that dies loses nothing: what it had in hand is called again, task by task. A task that ends
    its process each time is named as failed, and the others are done. A task is only started on a machine that has the
    memory for it, beside those that run there.

    Parameters
    ----------
    address : str, optional
        Of the cluster's head, such as ``"10.0.0.1:6379"``; by default that in ``RAY_ADDRESS``, or a new cluster of this
        machine alone. Where Ray is connected already, that connection is used.
    cpus : int
        CPUs for each task, which are its threads. More than one only pays for large images.

    Raises
    ------
    InvalidInputError
        If `cpus` is not a whole number from 1.
    MissingDependencyError
        If Ray is not installed.

    Examples
    --------
    >>> features = run(Extract("mdnet"), photos, store, engine=Ray("10.0.0.1:6379"))    # doctest: +SKIP
    """

    own_shards = True

    def __init__(self, address: str | None = None, *, cpus: int = 1) -> None:
        self.address = address
        self.cpus = count(cpus, "cpus", least=1, most=4096)
        require("ray", "a cluster", "scale")

    def map(
        self, call: Call[T], tasks: Iterable[T], *, memory: Callable[[T], int] = lambda task: 0
    ) -> Iterator[tuple[T, Any]]:
        """As `Engine.map`.

        Raises
        ------
        TiepointsError
            If the cluster cannot be reached, or all of its machines are gone.
        """
        ray = self._connected()
        remote = ray.remote(max_retries=0)(_work)  # a chunk is tried again in parts: one of its tasks may be at fault
        shared = ray.put(ray.cloudpickle.dumps(call))
        job = _Job(uuid4().hex, os.getcwd(), self.cpus)  # noqa: PTH109 - a text
        waiting: deque[_Chunk] = deque()
        flying: dict[Any, _Chunk] = {}
        pace = 0.0  # seconds that a task takes
        source, ended = iter(tasks), False
        room = _Room(ray, self.cpus)
        try:
            while True:
                while not ended and len(waiting) + len(flying) < _WAITING * room.workers():
                    wanted = 1 if not pace else min(_MOST, max(1, int(_SECONDS / pace)))
                    chunk, bad, ended = _take(source, wanted, memory)
                    yield from bad
                    if chunk.tasks:
                        waiting.append(chunk)
                while waiting:
                    chunk = waiting.popleft()
                    flying[self._submit(remote, chunk, shared, job, room)] = chunk
                if not flying:  # nothing is left, or what was taken cannot be called
                    if ended:
                        return
                    continue
                ready, _ = ray.wait(list(flying), num_returns=1, timeout=1.0)
                for reference in ready:
                    chunk = flying.pop(reference)
                    try:
                        seconds, outcomes = ray.get(reference)
                    except ray.exceptions.RayTaskError as error:  # it could not be called at all
                        again = self._apart(chunk, failure_of(error.cause if error.cause is not None else error))
                    except ray.exceptions.RayError as error:
                        again = self._apart(chunk, Failure(type(error).__name__, _died(error)))
                    else:
                        each = seconds / len(outcomes)
                        pace = each if not pace else 0.7 * pace + 0.3 * each
                        yield from zip(chunk.tasks, outcomes, strict=True)
                        continue
                    chunks, failed = again
                    waiting.extend(chunks)
                    yield from failed
        finally:
            for reference in flying:
                ray.cancel(reference, force=True)

    def _connected(self) -> Any:
        ray = require("ray", "a cluster", "scale")
        if not ray.is_initialized():
            try:
                ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
            except Exception as error:  # whatever Ray raises where an address is wrong or a head is gone
                where = self.address or "this machine"
                if _wants_token(error):
                    raise TiepointsError(
                        f"the Ray cluster at {where} asks for its token: copy ~/.ray/auth_token from its first machine "
                        "to this one, and set RAY_AUTH_MODE=token"
                    ) from error
                raise TiepointsError(
                    f"no Ray cluster at {where} ({one_line(error)}); start one with `ray start --head`, and give the "
                    "address that it prints"
                ) from error
        return ray

    def _submit(self, remote: Any, chunk: _Chunk, shared: Any, job: _Job, room: _Room) -> Any:
        sized = remote.options(num_cpus=self.cpus, memory=room.memory(chunk.memory))
        return sized.remote(shared, job, chunk.tasks)

    @staticmethod
    def _apart(chunk: _Chunk, failure: Failure) -> tuple[list[_Chunk], list[tuple[Any, Failure]]]:
        """What to call again after a chunk was lost: each of its tasks alone; or a task that is given up."""
        if len(chunk.tasks) == 1 and chunk.attempt >= _ATTEMPTS:
            return [], [(chunk.tasks[0], failure)]
        attempt = chunk.attempt + 1 if len(chunk.tasks) == 1 else 1
        return [_Chunk([task], chunk.memory, attempt) for task in chunk.tasks], []


def _take(tasks: Iterator[T], wanted: int, memory: Callable[[T], int]) -> tuple[_Chunk, list[tuple[T, Failure]], bool]:
    """So many tasks with the memory of the largest; those whose memory cannot be told; whether there are no more."""
    taken: list[T] = []
    bad: list[tuple[T, Failure]] = []
    most = 0
    for task in tasks:
        try:
            most = max(most, memory(task))
        except Exception as error:
            bad.append((task, failure_of(error)))
            continue
        taken.append(task)
        if len(taken) == wanted:
            return _Chunk(taken, most, 1), bad, False
    return _Chunk(taken, most, 1), bad, True


class _Room:
    """What the cluster has, looked up once a second, for machines come and go."""

    def __init__(self, ray: Any, cpus: int) -> None:
        self._ray, self._cpus, self._seen = ray, cpus, 0.0
        self._machines: list[dict[str, float]] = []

    def _now(self) -> list[dict[str, float]]:
        if time.monotonic() - self._seen > 1 or not self._machines:
            alive = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._machines = [one for one in alive if one.get("CPU", 0) >= self._cpus]
            self._seen = time.monotonic()
            if not self._machines:
                raise TiepointsError(
                    f"no machine of the Ray cluster has {self._cpus} CPUs"
                    if alive
                    else "all machines of the Ray cluster are gone; what is finished is kept: run again"
                )
        return self._machines

    def workers(self) -> int:
        """How many tasks can run at the same time."""
        return max(1, sum(int(one["CPU"] // self._cpus) for one in self._now()))

    def memory(self, size: int) -> int:
        """What to ask for, in bytes: a power of two, and no more than the largest machine has."""
        most = int(max(one.get("memory", 0) for one in self._now()))
        asked = 0 if size < _MEMORY else 1 << (size - 1).bit_length()
        return min(asked, most)


def _wants_token(error: BaseException | None) -> bool:
    """Whether a cluster refused the connection for want of its token, which the error behind Ray's error tells."""
    return error is not None and ("AuthToken" in str(error) or _wants_token(error.__cause__ or error.__context__))


def _died(error: Exception) -> str:
    kind = type(error).__name__
    if "OutOfMemory" in kind:
        return "its process was ended because the machine ran out of memory: use max_size, or cpus, of which fewer fit"
    return f"its process died: a library ended it, or memory ran out ({kind})"


# In a worker process.

_calls: dict[str, Any] = {}


def _work(pickled: bytes, job: _Job, tasks: list[Any]) -> tuple[float, list[Any]]:
    """Call each task; the seconds that this took, and what came of each."""
    try:
        os.chdir(job.folder)  # relative paths mean the same as where `run` was called
    except OSError:
        message = f"{platform.node()}: has no folder {job.folder}: all machines need it under the same path"
        return 0.0, [Failure("FileNotFoundError", message)] * len(tasks)
    if job.number not in _calls:
        import pickle

        import cv2

        cv2.setNumThreads(job.threads)
        let_go()
        _calls.clear()  # one network in memory, not those of all steps before it
        _calls[job.number] = pickle.loads(pickled)  # noqa: S301 - as Ray itself passes everything inside a cluster
    call = _calls[job.number]
    started = time.perf_counter()
    outcomes = [guarded(call, task, job.threads) for task in tasks]
    return time.perf_counter() - started, outcomes
