"""Engines: how the calls of a step are spread over threads or processes, with bounded memory."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from itertools import chain, islice
from multiprocessing import current_process, get_context, parent_process
from queue import SimpleQueue
from typing import Any, ClassVar, NamedTuple, TypeVar

from ..checks import count, number
from ..errors import TiepointsError, is_lack_of_memory
from ..files import one_line
from ..threads import cores, variables

__all__ = ["Engine", "Failure", "Processes", "Serial", "Threads"]

#: What the calls that run at the same time may take together, in bytes.
MEMORY = 1_500_000_000

T = TypeVar("T")

#: A call on one task with so many threads of its own.
Call = Callable[[T, int], Any]


class Failure(NamedTuple):
    """Why a task has no result; every exception of a call becomes one, and the other tasks go on.

    Examples
    --------
    >>> from tiepoints.collection import Serial
    >>> list(Serial().map(lambda task, threads: 1 // task, [0, 1]))
    [(0, Failure(kind='ZeroDivisionError', message='ZeroDivisionError: integer division or modulo by zero')), (1, 1)]
    """

    kind: str
    """The exception's name."""
    message: str
    """One line."""


class Engine(ABC):
    """Calls a function for many tasks. A new engine defines `map`; `run` does the rest.

    Attributes
    ----------
    own_shards : bool
        Whether workers write their results themselves, each into its own shard, and return nothing: right where they
        are many, or on other machines. Otherwise the process that called `run` writes.

    Examples
    --------
    >>> from tiepoints.collection import Engine
    >>> class Reversed(Engine):
    ...     def map(self, call, tasks, *, memory=lambda task: 0):
    ...         for task in reversed(list(tasks)):
    ...             yield task, call(task, 1)
    >>> list(Reversed().map(lambda task, threads: task**2, [1, 2]))
    [(2, 4), (1, 1)]
    """

    own_shards: ClassVar[bool] = False

    @abstractmethod
    def map(
        self, call: Call[T], tasks: Iterable[T], *, memory: Callable[[T], int] = lambda task: 0
    ) -> Iterator[tuple[T, Any]]:
        """Call `call(task, threads)` for every task, and yield each task with its result as it is ready.

        Parameters
        ----------
        call : callable
            Picklable where calls leave the process.
        tasks : iterable
            Taken as they are needed.
        memory : callable
            About how many bytes a call takes; tasks wait for each other where they would take too many together, and
            one that takes more than all may is called alone, with all threads.

        Yields
        ------
        task, result
            In any order; a `Failure` where the call raised an exception.
        """


def guarded(call: Call[T], task: T, threads: int) -> Any:
    """The call's result, or the Failure that its exception becomes."""
    try:
        return call(task, threads)
    except Exception as error:
        return failure_of(error)


def failure_of(error: Exception) -> Failure:
    """What an exception says, on one line; with its type where it is none of ours."""
    if is_lack_of_memory(error):
        return Failure("MemoryError", "not enough memory")
    message = one_line(error)
    if not isinstance(error, TiepointsError) and message != type(error).__name__:
        message = f"{type(error).__name__}: {message}"
    return Failure(type(error).__name__, message)


class Serial(Engine):
    """One call after another in this thread, each with all threads.

    Examples
    --------
    >>> from tiepoints.collection import Serial
    >>> list(Serial().map(lambda task, threads: task**2, [1, 2]))
    [(1, 1), (2, 4)]
    """

    def map(
        self, call: Call[T], tasks: Iterable[T], *, memory: Callable[[T], int] = lambda task: 0
    ) -> Iterator[tuple[T, Any]]:
        """As `Engine.map`, in the tasks' order."""
        for task in tasks:
            yield task, guarded(call, task, cores())


class Threads(Engine):
    """Several calls at once, in threads of this process: right where the work is done outside of Python's own code, as
    extraction, matching and estimation are.

    Parameters
    ----------
    workers : int, optional
        How many at once; by default `tiepoints.threads.cores`, which obeys affinity and OMP_NUM_THREADS.
    memory : int
        Bytes that calls which run together may take.

    Raises
    ------
    InvalidInputError
        If a number is out of its range.

    Examples
    --------
    >>> from tiepoints.collection import Threads
    >>> sorted(Threads(2).map(lambda task, threads: task**2, [1, 2, 3]))
    [(1, 1), (2, 4), (3, 9)]
    """

    def __init__(self, workers: int | None = None, *, memory: float = MEMORY) -> None:
        self.workers = cores() if workers is None else count(workers, "workers", least=1, most=4096)
        self.memory = number(memory, "memory", above=0)

    def map(
        self, call: Call[T], tasks: Iterable[T], *, memory: Callable[[T], int] = lambda task: 0
    ) -> Iterator[tuple[T, Any]]:
        """As `Engine.map`."""
        share = max(1, cores() // self.workers)
        ours: set[int] = set()
        pool = ThreadPoolExecutor(
            self.workers, thread_name_prefix="tiepoints-worker", initializer=lambda: ours.add(threading.get_ident())
        )
        try:
            yield from _bounded(
                lambda task, alone: pool.submit(guarded, call, task, cores() if alone else share),
                tasks, memory, self.workers, self.memory,
            )  # fmt: skip
        finally:
            # An iterator that is dropped half-way may be collected in one of its own threads, which cannot join itself.
            pool.shutdown(wait=threading.get_ident() not in ours, cancel_futures=True)


class Processes(Engine):
    """Several calls at once, each in a process of its own: right for work in Python's own code, and where a library may
    end its process.

    A script that defines steps of its own has its work below ``if __name__ == "__main__":``, as Python's
    multiprocessing asks for: its processes run the script again to find them.

    Parameters
    ----------
    workers : int, optional
        How many at once; by default `tiepoints.threads.cores`.
    memory : int
        Bytes that calls which run together may take.
    own_shards : bool
        Let each process write its results into its own shard of the store.

    Raises
    ------
    InvalidInputError
        If a number is out of its range.

    Examples
    --------
    >>> from tiepoints.collection import Collection, Extract, Processes, run
    >>> features = run(Extract("mdnet"), Collection.from_folder("photos"), engine=Processes(4))  # doctest: +SKIP
    >>> Processes(4).workers
    4
    """

    def __init__(self, workers: int | None = None, *, memory: float = MEMORY, own_shards: bool = False) -> None:
        self.workers = cores() if workers is None else count(workers, "workers", least=1, most=4096)
        self.memory = number(memory, "memory", above=0)
        self.own_shards = own_shards  # type: ignore[misc] # an engine's own answer

    def map(
        self, call: Call[T], tasks: Iterable[T], *, memory: Callable[[T], int] = lambda task: 0
    ) -> Iterator[tuple[T, Any]]:
        """As `Engine.map`. A call that ends its process fails alone; those that it took along are called again.

        Raises
        ------
        TiepointsError
            If no process can be started.
        """
        if getattr(current_process(), "_inheriting", False):
            raise TiepointsError(_NO_MAIN)
        rest = iter(tasks)
        while True:
            lost: list[T] = []  # what was in flight when a process died: one of them did it
            yield from self._pool(call, rest, memory, self.workers, lost)
            if not lost:
                return
            for task in lost:
                again: list[T] = []
                yield from self._pool(call, [task], memory, 1, again)
                if again:
                    yield task, Failure("BrokenProcessPool", "its process died: a library ended it, or memory ran out")

    def _pool(
        self, call: Call[T], tasks: Iterable[T], memory: Callable[[T], int], workers: int, lost: list[T]
    ) -> Iterator[tuple[T, Any]]:
        """One pool of processes, until all is done or one of them dies; `lost` gets what was then in flight."""
        every, context = cores(), get_context("spawn")  # forked copies of the threads of OpenCV and of a BLAS hang
        share, ready = max(1, every // workers), context.Event()
        pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(call, share, ready))
        tasks = iter(tasks)
        first = list(islice(tasks, 1))
        script = _without_the_script if not _is_of_the_script((call, first)) else nullcontext

        def submit(task: T, alone: bool) -> Future[Any]:
            with script():
                return _submit(pool, task, every if alone else share, share)

        try:
            yield from _bounded(
                submit,
                chain(first, tasks), memory, workers, self.memory, lost,
            )  # fmt: skip
            if lost and not ready.is_set():
                raise TiepointsError(_NO_MAIN)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _is_of_the_script(value: Any) -> bool:
    """Whether something needs what the running script defines, which a new process finds by running it again."""
    try:
        return b"__main__" in pickle.dumps(value)
    except Exception:  # the pool says what cannot be pickled
        return True


@contextmanager
def _without_the_script() -> Iterator[None]:
    """Processes that start meanwhile do not run the script again: it needs no guard, and may be standard input."""
    script: Any = sys.modules["__main__"]
    with _script_lock:
        before = {name: getattr(script, name) for name in ("__file__", "__spec__") if hasattr(script, name)}
        try:
            script.__spec__ = None
            script.__dict__.pop("__file__", None)
            yield
        finally:
            vars(script).update(before)


_script_lock = threading.Lock()

_NO_MAIN = (
    'the worker processes cannot start: in a script, put what uses them below `if __name__ == "__main__":`, '
    "or use Threads()"
)


def _bounded(
    submit: Callable[[T, bool], Future[Any]],
    tasks: Iterable[T],
    memory: Callable[[T], int],
    workers: int,
    most: float,
    lost: list[T] | None = None,
) -> Iterator[tuple[T, Any]]:
    """Submit tasks as workers and memory allow, and yield them with their results."""
    flying: dict[Future[Any], tuple[T, int]] = {}
    done: SimpleQueue[Future[Any]] = SimpleQueue()  # concurrent.futures.wait costs ten times as much
    taken = 0

    def finished() -> Iterator[tuple[T, Any]]:
        nonlocal taken
        future = done.get()
        task, size = flying.pop(future)
        taken -= size
        try:
            result = future.result()
        except BrokenProcessPool:
            if lost is None:
                raise
            lost.append(task)
            return
        except Exception as error:  # of pickling: the call's own came as a Failure
            result = failure_of(error)
        yield task, result

    for task in tasks:
        try:
            size = memory(task)
        except Exception as error:  # the task's own, as everything else about it
            yield task, failure_of(error)
            continue
        # One more than there are workers, so that none waits for whoever takes the results.
        while flying and (taken + size > most or len(flying) > workers) and not lost:
            yield from finished()
        if lost:
            lost.append(task)
            break
        try:
            future = submit(task, size > most)
        except BrokenProcessPool:
            if lost is None:
                raise
            lost.append(task)
            break
        flying[future] = task, size
        future.add_done_callback(done.put)
        taken += size
    while flying:
        yield from finished()


# In a worker process.

_call: Callable[[Any, int], Any] | None = None


def _start(call: Callable[[Any, int], Any], threads: int, ready: Any) -> None:
    global _call
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends the others
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    cv2.setNumThreads(threads)
    _call = call
    ready.set()


def _work(task: Any, threads: int) -> Any:
    assert _call is not None
    return guarded(_call, task, threads)


def _submit(pool: Executor, task: Any, threads: int, share: int) -> Future[Any]:
    with _no_interrupts(), _threads_of_children(share):  # processes may be started here
        return pool.submit(_work, task, threads)


def _end_with_the_parent() -> None:
    """A parent that is killed cannot tell its processes: they watch it."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C for a moment; processes that start meanwhile never get it, their parent ends them.

    Blocking the signal reaches this thread and its children only: another thread may still get it, and Python would
    interrupt this one. So the handler is changed too, until the moment is over.
    """
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
        if caught:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def _threads_of_children(count: int) -> Iterator[None]:
    """Numeric libraries read these when a process loads them; this process has loaded its own already."""
    wanted = variables(count)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
