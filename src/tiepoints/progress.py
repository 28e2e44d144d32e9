"""Progress of long work: a bar on a terminal, a line of text in a notebook, and nothing anywhere else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["progress_bar", "shown_progress"]

Item = TypeVar("Item")

_PAUSE = 0.2  # seconds between two states of a line of text
_shown = False  # whether one is there now: a second one below it would draw over it


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


@contextmanager
def progress_bar(what: str, *, transient: bool = False) -> Iterator[Callable[[int, int | None], None] | None]:
    """What to call with how much is done, and how much there is (None: nobody knows); None where nobody looks.

    Someone looks at a terminal (standard error) and at a notebook, unless the environment's TIEPOINTS_PROGRESS is 0.

    Parameters
    ----------
    what : str
        What is done, such as "extracting".
    transient : bool
        Whether it goes when all is done.

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
    if _shown or os.environ.get("TIEPOINTS_PROGRESS") == "0" or not (notebook or sys.stderr.isatty()):
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


def shown_progress(items: Iterable[Item], of: Any, what: str) -> Iterator[Item]:
    """The same items, counted by a bar where someone looks, see `progress_bar`.

    Parameters
    ----------
    items : iterable
    of : object
        Its length is the number of items, if it has one; of a single one there is no bar.
    what : str
        What is done with them.
    """
    total = len(of) if isinstance(of, Sized) else None
    if total == 1:
        yield from items
        return
    with progress_bar(what, transient=True) as progress:
        for done, item in enumerate(items, 1):
            if progress is not None:
                progress(done, total)
            yield item
