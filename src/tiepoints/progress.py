"""Progress of long work: a bar on a terminal, a line of text in a notebook, a line now and then in a command's log."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

from .errors import printable

__all__ = ["progress_bar", "progress_lines", "shown_progress"]

Item = TypeVar("Item")

_PAUSE = 0.2  # seconds between two states of a line of text
_INTERVAL = 30.0  # seconds between two lines in a file
_FIRST = 5.0  # seconds before the first line, of a command
_last_line: float | None = None  # when the last one was written, or the first work began
_shown = False  # whether one is there now: a second one below it would draw over it


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


def _unwanted() -> bool:
    return os.environ.get("TIEPOINTS_PROGRESS") == "0"


@contextmanager
def progress_lines() -> Iterator[Callable[[str, int, int | None], None]]:
    """For logs of long jobs: lines on standard error that say how far the work is, the first after 5 seconds.

    The next ones come every 30 seconds at most, also where one item takes longer than that. There is none where the
    environment's TIEPOINTS_PROGRESS is 0.

    Yields
    ------
    update : callable
        Called with what is done, how much of it, and how much there is (None or 0: nobody knows).

    Examples
    --------
    >>> from tiepoints.progress import progress_lines
    >>> with progress_lines() as update:  # no line: it is done at once
    ...     update("counting", 3, 3)
    """
    global _last_line
    if _last_line is None:
        _last_line = time.monotonic() - _INTERVAL + min(_FIRST, _INTERVAL)
    began = time.monotonic()
    state: tuple[str, int, int | None] | None = None
    ended = threading.Event()

    def update(what: str, done: int, every: int | None) -> None:
        nonlocal state, began
        if state is None or state[0] != what:
            began = time.monotonic()
        state = what, done, every

    def write() -> None:
        global _last_line
        while not ended.wait(max(0.0, (_last_line or 0.0) + _INTERVAL - time.monotonic())):
            _last_line = time.monotonic()
            if state is not None:
                what, done, every = state
                taken = _last_line - began
                left = f", about {taken / done * (every - done):.0f} s left" if every and 0 < done < every else ""
                text = f"{what}: {done}" + (f" of {every}" if every else "") + f" after {taken:.0f} s{left}"
                sys.stderr.write(f"{printable(text)}\n")
                sys.stderr.flush()

    if _unwanted():
        yield update
        return
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield update
    finally:
        ended.set()
        writer.join()


@contextmanager
def progress_bar(
    what: str, *, transient: bool = False, lines: bool = False
) -> Iterator[Callable[[int, int | None], None] | None]:
    """What to call with how much is done, and how much there is (None: nobody knows); None where nobody looks.

    Someone looks at a terminal (standard error) and at a notebook, unless the environment's TIEPOINTS_PROGRESS is 0.

    Parameters
    ----------
    what : str
        What is done, such as "extracting".
    transient : bool
        Whether it goes when all is done.
    lines : bool
        Whether `progress_lines` are written where nobody looks.

    Examples
    --------
    >>> from tiepoints.progress import progress_bar
    >>> with progress_bar("counting") as progress:
    ...     for number in range(3):
    ...         if progress is not None:
    ...             progress(number + 1, 3)
    """
    global _shown
    notebook = _in_notebook()
    if lines and not _shown and not (notebook or sys.stderr.isatty()):
        with progress_lines() as write:
            yield lambda done, every: write(what, done, every)
        return
    if _shown or _unwanted() or not (notebook or sys.stderr.isatty()):
        yield None
        return
    _shown = True
    try:
        with (_line if notebook else _bar)(what, transient) as update:
            yield update
    finally:
        _shown = False


@contextmanager
def _bar(what: str, transient: bool) -> Iterator[Callable[[int, int | None], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # rich would send what a program prints meanwhile to standard error, also where it goes to a file
    options: dict[str, Any] = {"transient": transient, "redirect_stdout": sys.stdout.isatty()}
    with Progress(*columns, console=Console(stderr=True), **options) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, every: bar.update(task, completed=done, total=every)


@contextmanager
def _line(what: str, transient: bool) -> Iterator[Callable[[int, int | None], None]]:
    """Text that is written anew in its place, which every notebook can do without a package."""
    started, last, wide = time.perf_counter(), 0.0, 0

    def show(text: str, end: str = "") -> None:
        nonlocal wide
        sys.stderr.write(f"\r{text:{wide}}{end}")
        sys.stderr.flush()
        wide = len(text)

    def update(done: int, every: int | None) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last < _PAUSE and done != every:
            return
        last = now
        left = f", {(now - started) / done * (every - done):.0f} s left" if every and 0 < done < every else ""
        show(f"{what}: {done}" + (f" of {every}" if every else "") + left)

    try:
        yield update
    finally:
        show("", "\r") if transient else sys.stderr.write("\n")


def shown_progress(items: Iterable[Item], of: Any, what: str, *, lines: bool = False) -> Iterator[Item]:
    """The same items, counted by a bar where someone looks, see `progress_bar`.

    Parameters
    ----------
    items : iterable
    of : object
        Its length is the number of items, if it has one; of a single one there is no bar.
    what : str
        What is done with them.
    lines : bool
        As for `progress_bar`.
    """
    total = len(of) if isinstance(of, Sized) else None
    if total == 1:
        yield from items
        return
    with progress_bar(what, transient=True, lines=lines) as progress:
        for done, item in enumerate(items, 1):
            if progress is not None:
                progress(done, total)
            yield item
