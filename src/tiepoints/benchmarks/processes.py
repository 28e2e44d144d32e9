"""Work spread over processes, so that an interruption ends soon and with one line."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

from ..errors import TiepointsError

__all__ = ["spread"]

T = TypeVar("T")


def spread(
    function: Callable[..., T],
    tasks: Iterable[tuple[str, tuple[Any, ...]]],
    jobs: int,
    *,
    start: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[tuple[str, T]]:
    """Call a function for many tasks, in several processes; results come as they are ready.

    Parameters
    ----------
    function : callable
        Of a module, so that another process finds it.
    tasks : iterable of (str, tuple)
        A key, and the arguments. Few wait in the queue, so that large ones do not pile up.
    jobs : int
        Processes; the cores are divided among them.
    start : callable, optional
        Called once in each process with `arguments`.

    Yields
    ------
    key, result : str, T

    Raises
    ------
    TiepointsError
        If a process died: a library aborted it, or the memory was used up.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = get_context("spawn")  # forked copies of OpenCV's and BLAS's threads hang
    with (
        _threads_of_children(threads),
        ProcessPoolExecutor(jobs, context, initializer=_start, initargs=(threads, start, arguments)) as pool,
    ):
        waiting: dict[Future[T], str] = {}
        try:
            for key, task in tasks:
                with _no_interrupts():  # a process may be started here, and Ctrl-C reaches all of them
                    waiting[pool.submit(function, *task)] = key
                if len(waiting) >= 2 * jobs:
                    yield from _finished(waiting)
            while waiting:
                yield from _finished(waiting)
        except BrokenProcessPool:
            raise TiepointsError(
                "a process died: a library aborted it, or the memory was used up; what is finished is kept, "
                "run again with --jobs 1 (jobs=1)"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _finished(waiting: dict[Future[T], str]) -> Iterator[tuple[str, T]]:
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in done:
        yield waiting.pop(future), future.result()


def _start(threads: int, start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    cv2.setNumThreads(threads)
    if start is not None:
        start(*arguments)


def _end_with_the_parent() -> None:
    """A parent that is killed, or that the system ends for want of memory, cannot tell its processes: they watch it."""
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
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
