"""Independent pieces of work on all cores, with the BLAS kept to one thread in each.

A BLAS that splits one product among its threads waits for the slowest of them, and leaves whatever follows the product
to one core. Pieces that each do their product and what follows it need neither.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

__all__ = ["cores", "run_pieces"]

#: A piece of work; it gets what `run_pieces` made for its thread.
Piece = Callable[[Any], None]


def cores() -> int:
    """How many threads to use: OMP_NUM_THREADS where it is set, as job schedulers do, or all cores of this process."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_pieces(pieces: Sequence[Piece], make: Callable[[], Any]) -> None:
    """Run all pieces, in any order; the first error of one is raised.

    Parameters
    ----------
    pieces : sequence of callable
        Each is called once, from some thread.
    make : callable
        Called once in each thread; what it returns, such as memory to work in, is passed to the thread's pieces.
    """
    count = min(cores(), len(pieces))
    if count <= 1:
        ours = make() if pieces else None
        for piece in pieces:
            piece(ours)
        return
    left, lock = iter(pieces), threading.Lock()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            ours = make()
            while not errors:
                with lock:
                    piece = next(left, None)
                if piece is None:
                    return
                piece(ours)
        except BaseException as error:
            errors.append(error)

    with _single_threaded_blas():
        threads = [threading.Thread(target=work, daemon=True) for _ in range(count - 1)]
        for thread in threads:
            thread.start()
        work()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


_lock = threading.Lock()
_inside = 0  # how many callers want the BLAS single-threaded now
_limit: Any = None


@contextmanager
def _single_threaded_blas() -> Iterator[None]:
    """Counted, so that the first of several callers takes the threads away and the last gives them back."""
    global _inside, _limit
    with _lock:
        if _inside == 0:
            _limit = _controller().limit(limits=1, user_api="blas")
            _limit.__enter__()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limit.__exit__(None, None, None)


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
