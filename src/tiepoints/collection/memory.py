"""What `run` needs of a place for results, and the place that is only memory."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import StorageError
from ..features import Features
from .records import decode
from .steps import Step

if TYPE_CHECKING:
    from .running import Input
    from .store import Hashes

__all__ = ["Memory", "Stored"]

# Bytes of features that are kept for the next pairs of their images: a hundred images of 2,048 keypoints. Ours.
_RECENT = 64_000_000


class Stored(Protocol):
    """What `run` needs of a place for results: the folder of a `Store`, or `Memory`.

    Examples
    --------
    >>> from tiepoints.collection import Extract, Memory
    >>> from tiepoints.collection.memory import Stored
    >>> place: Stored = Memory()
    >>> place.known(Extract("orb"), ["0" * 32])
    set()
    """

    def known(self, step: Step, keys: Iterable[str]) -> set[str]:
        """Which of the keys there are results for."""

    def put(self, step: Step, key: str, record: bytes) -> None:
        """Keep a result."""

    def get(self, stage: str, key: str) -> Any:
        """A result; StorageError where it is missing or damaged."""

    def hashes(self) -> Hashes | None:
        """The known hashes of files; None where nothing keeps them."""


def stage_of(step: Step) -> str:
    """The name of the files that hold the results of this step with these options."""
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', step.name).strip('-.') or 'step'}-{step.fingerprint[:12]}"


class Memory:
    """Results in memory, for as long as the object lives.

    Examples
    --------
    >>> from tiepoints.collection import Collection, Extract, Memory, run
    >>> photos, memory = Collection.from_folder("examples"), Memory()
    >>> step = Extract("orb", max_keypoints=100)
    >>> run(step, photos, memory).computed, run(step, photos, memory).computed
    (4, 0)
    """

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], bytes] = {}

    def known(self, step: Step, keys: Iterable[str]) -> set[str]:
        """Which of the keys there are results for."""
        stage = stage_of(step)
        return {key for key in keys if (stage, key) in self._records}

    def put(self, step: Step, key: str, record: bytes) -> None:
        """Keep a result."""
        self._records[stage_of(step), key] = record

    def get(self, stage: str, key: str) -> Any:
        """A result; StorageError where it is missing."""
        return decode(self.record(stage, key))

    def record(self, stage: str, key: str) -> bytes:
        """A result's bytes."""
        try:
            return self._records[stage, key]
        except KeyError:
            raise StorageError(f"no result of {stage} has the key {key}") from None

    def hashes(self) -> Hashes | None:
        """None: files are hashed at every run."""
        return None


class Recent:
    """The features that were loaded last: an image's are needed for each of its pairs.

    Of other results nothing is kept, since a step might change them; the arrays of features cannot be written to.
    """

    def __init__(self, most: int = _RECENT) -> None:
        self._most, self._bytes = most, 0
        self._kept: OrderedDict[str, Features] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Recent, (self._most,)

    def load(self, one: Input) -> Any:
        """What the input loads, or loaded when it was asked for not long ago."""
        with self._lock:
            if one.key in self._kept:
                self._kept.move_to_end(one.key)
                return self._kept[one.key]
        value = one.load()
        if isinstance(value, Features):
            with self._lock:
                if one.key not in self._kept:
                    self._kept[one.key] = value
                    self._bytes += _size(value)
                while self._bytes > self._most:
                    self._bytes -= _size(self._kept.popitem(last=False)[1])
        return value


def _size(features: Features) -> int:
    """Bytes of what features mostly are."""
    return features.keypoints.nbytes + features.descriptors.nbytes
