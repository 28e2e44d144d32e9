"""What was computed for a pair or a bag stays on disk: an interrupted run goes on, a repeated one is instant."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from ...files import sha256_of, write_lock
from ...storage.journal import Journal

__all__ = ["Arrays", "Results", "digest_of", "results"]

Arrays = dict[str, NDArray[Any]]


class Results(Protocol):
    """Arrays by key; `append` keeps them at once."""

    def __contains__(self, key: str) -> bool: ...

    def append(self, key: str, arrays: Arrays) -> None:
        """Keep an item."""

    def read(self, key: str) -> Arrays:
        """The arrays of an item."""


class _Memory:
    def __init__(self) -> None:
        self._items: dict[str, Arrays] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._items

    def append(self, key: str, arrays: Arrays) -> None:
        self._items[key] = arrays

    def read(self, key: str) -> Arrays:
        return self._items[key]


@contextmanager
def results(store: Path | None, collection: str, stage: str, digest: str) -> Iterator[Results]:
    """Results of one stage of one method on one scene, those of earlier runs included.

    Parameters
    ----------
    store : path or None
        The folder of the store; None keeps everything in memory.
    collection, stage : str
        Name the file: the scene, and what is computed.
    digest : str
        Of everything that the results depend on, see `digest_of`.

    Raises
    ------
    StorageError
        If the file cannot be used, or another process is writing it.
    """
    if store is None:
        yield _Memory()
        return
    folder, name = (re.sub(r"[^\w.-]+", "-", text).strip("-.") or "images" for text in (collection, stage))
    path = Path(store) / folder / f"{name}-{digest[:16]}.results"
    with write_lock(path):
        journal = Journal(path, {"what": stage})
        try:
            yield journal
        finally:
            journal.close()


def digest_of(content: Any) -> str:
    """A SHA-256 of anything that JSON can say, together with the code that computes: nothing known can be stale."""
    text = json.dumps([content, _code()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _code() -> list[str]:
    """Of every source file that figures come from (not of those that only show them), and of the libraries."""
    from ..report import versions

    here = Path(__file__).parent
    files = [here / f"{name}.py" for name in ("evaluate", "multiview", "stereo")]
    for room in ("datasets", "geometry", "matching", "metrics"):
        files += sorted((here.parents[1] / room).glob("*.py"))
    packages = versions("opencv-contrib-python-headless", "poselib", "pydegensac", "pycolmap", "numpy")
    return [*(sha256_of(path) for path in files), *map(str, packages.items())]
