"""Independent pieces of work on all cores, with the BLAS kept to one thread in each, and memory to work in.

A BLAS that splits one product among its threads waits for the slowest of them, and leaves whatever follows the product
to one core. Pieces that each do their product and what follows it need neither.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `variables` is wanted before NumPy is loaded
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["cores", "limited", "run_pieces", "scratch", "torch_threads", "variables"]

_HELD = threading.local()
_LIMIT = threading.local()
_MOST_SCRATCH = 1 << 23  # floats, 32 MB, of each piece of scratch memory: larger images pay for fresh pages

#: A piece of work; it gets what `run_pieces` made for its thread.
Piece = Callable[[Any], None]


def cores() -> int:
    """How many threads to use: OMP_NUM_THREADS where it is set, as job schedulers do, or all cores of this process.

    Inside `limited` at most as many as it says.
    """
    limit: int | None = getattr(_LIMIT, "count", None)
    every = _all_cores()
    return every if limit is None else min(limit, every)


def variables(count: int) -> dict[str, str]:
    """The environment variables that tell numeric libraries, when a process loads them, how many threads to use.

    Examples
    --------
    >>> from tiepoints.threads import variables
    >>> variables(2)
    {'OMP_NUM_THREADS': '2', 'OPENBLAS_NUM_THREADS': '2', 'MKL_NUM_THREADS': '2'}
    """
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(count))


@contextmanager
def limited(count: int) -> Iterator[None]:
    """Let this thread use at most so many threads in the ``with`` block, since others work beside it."""
    before = getattr(_LIMIT, "count", None)
    _LIMIT.count = count
    try:
        if count > 1:
            yield
        else:
            with _single_threaded_blas():
                yield
    finally:
        _LIMIT.count = before


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """So many threads for the operations of PyTorch that the calling thread starts; None: as they are."""
    if count is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _all_cores() -> int:
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list is for nested parallelism
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def scratch(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Memory of this thread that the next call uses again: fresh pages cost as much as what is computed into them."""
    import numpy as np

    size = math.prod(shape)
    if size > _MOST_SCRATCH:
        return np.empty(shape, np.float32)
    held: dict[str, NDArray[np.float32]] = _HELD.__dict__
    if name not in held or held[name].size < size:
        held[name] = np.empty(size, np.float32)
    return held[name][:size].reshape(shape)


def run_pieces(pieces: Sequence[Piece], make: Callable[[int], Any]) -> None:
    """Run all pieces, in any order; the first error of one is raised.

    Parameters
    ----------
    pieces : sequence of callable
        Each is called once, from some thread.
    make : callable
        Called by the caller's thread with the numbers of the threads, 0, 1, ...; what it returns, such as memory to
        work in, is passed to the pieces of that thread.
    """
    count = min(cores(), len(pieces))
    if count <= 1:
        ours = make(0) if pieces else None
        for piece in pieces:
            piece(ours)
        return
    left, lock = iter(pieces), threading.Lock()
    stop = False

    def work(ours: Any) -> None:
        nonlocal stop
        try:
            while not stop:
                with lock:
                    piece = next(left, None)
                if piece is None:
                    return
                piece(ours)
        except BaseException:
            stop = True
            raise

    with _single_threaded_blas():
        helpers = [_helpers(cores() - 1).submit(work, make(i)) for i in range(1, count)]
        try:
            work(make(0))
        finally:
            running = [helper for helper in helpers if not helper.cancel()]  # other callers may keep them all busy
            wait(running)
        for helper in running:
            helper.result()


@cache
def _helpers(count: int) -> ThreadPoolExecutor:
    """Threads that wait for work; to start new ones for each call takes as long as to match a thousand features."""
    return ThreadPoolExecutor(count, thread_name_prefix="tiepoints")


_lock = threading.Lock()
_inside = 0  # how many callers want the BLAS single-threaded now
_OWN = threading.local()  # how many of these are of this thread
_before: list[int] = []  # its threads before the first of them came


@contextmanager
def _single_threaded_blas() -> Iterator[None]:
    """Counted, so that the first of several callers takes the threads away and the last gives them back."""
    global _inside, _before
    libraries = _blas()
    with _lock:
        if _inside == 0:
            _before = [library.get_num_threads() for library in libraries]
            for library in libraries:
                _set_threads(library, 1)
        _inside += 1
        _OWN.inside = getattr(_OWN, "inside", 0) + 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            _OWN.inside -= 1
            if _inside == 0:
                for library, count in zip(libraries, _before, strict=True):
                    _set_threads(library, count)


def _alone_after_fork() -> None:
    """In a forked process, which has none of its parent's threads: what these held or wanted is given back."""
    global _inside
    _helpers.cache_clear()
    others = _inside
    _inside = getattr(_OWN, "inside", 0)
    if others and not _inside:
        for library, count in zip(_blas(), _before, strict=True):
            _set_threads(library, count)
    _lock.release()


if hasattr(os, "register_at_fork"):  # not on Windows
    # The lock is held meanwhile, so that the child gets none that a thread holds which it does not have.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_alone_after_fork)


def _set_threads(library: Any, count: int) -> None:
    # Some versions of threadpoolctl let only the thread that set a limit first change it, as long as it lives, and
    # ignore all others without a word. Ours may be another one on the way out; the lock keeps them from fighting.
    release = getattr(library, "clear_controlling_thread", lambda *, force: None)
    release(force=True)
    library.set_num_threads(count)
    release(force=True)


@cache
def _blas() -> list[Any]:
    # threadpoolctl's own context manager asks each library for its version and more: 0.1 ms a call instead of 0.01
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)
