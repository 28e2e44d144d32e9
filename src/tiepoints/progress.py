"""Progress bars of long work: on a terminal and in a notebook, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from importlib.util import find_spec
from typing import Any, TypeVar

__all__ = ["shown_progress", "visible"]

Item = TypeVar("Item")


def visible() -> bool:
    """Whether someone looks: standard error is a terminal, or this is a notebook that can show a bar (ipywidgets)."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if type(shell).__name__ == "ZMQInteractiveShell":
        return find_spec("ipywidgets") is not None
    return sys.stderr.isatty()


def shown_progress(items: Iterable[Item], of: Any, what: str) -> Iterator[Item]:
    """The same items, counted by a bar where someone looks.

    Parameters
    ----------
    items : iterable
    of : object
        Its length is the number of items, if it has one; of a single one there is no bar.
    what : str
        What is done with them.
    """
    total = len(of) if isinstance(of, Sized) else None
    if total == 1 or not visible():
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        for item in items:
            yield item
            progress.advance(task)
