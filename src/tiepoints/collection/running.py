"""`run`: a step on many items, where only what the store lacks is computed."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

from .. import checks
from ..errors import ImageError, InvalidInputError, printable
from ..files import composed
from ..threads import cores, limited
from .engines import Engine, Failure, Serial, Threads, failure_of
from .memory import Memory, Recent, Stored, stage_of
from .photographs import Collection, Photograph
from .records import decode, encode
from .steps import Step, key_of
from .store import Store, reopened

__all__ = ["Given", "Input", "Reference", "Results", "run", "stored"]

#: What an item is called: an image by its name, a pair by the names of its images.
Name = str | tuple[str, ...]
#: Called with the number of items done and the number of all.
Progress = Callable[[int, int], None]


@runtime_checkable
class Input(Protocol):
    """What a step is called with, and how it is known.

    Examples
    --------
    >>> from tiepoints.collection import Given
    >>> from tiepoints.collection.running import Input
    >>> isinstance(Given(3.5), Input)
    True
    """

    @property
    def key(self) -> str:
        """Tells it from every other input."""

    def load(self) -> Any:
        """What the step gets."""


@dataclass(frozen=True, eq=False)
class Given:
    """A value that the caller has: truths of a benchmark, for instance. It is known by its content.

    Examples
    --------
    >>> from tiepoints.collection import Given
    >>> Given({"degrees": 3.5}).load()
    {'degrees': 3.5}
    """

    value: Any

    @property
    def key(self) -> str:
        """The hash of the value."""
        return key_of(encode(self.value).hex())

    def load(self) -> Any:
        """The value."""
        return self.value


@dataclass(frozen=True)
class Reference:
    """A result in a store; it is read where it is used, also in another process.

    Examples
    --------
    >>> from tiepoints.collection import Collection, Extract, Store, run
    >>> with Store("reference.work") as store:
    ...     features = run(Extract("orb", max_keypoints=100), Collection.from_folder("examples"), store)
    ...     print(len(features.reference("desk_1.jpg").load()))
    100
    """

    store: Store
    stage: str
    key: str

    def load(self) -> Any:
        """The result."""
        return self.store.get(self.stage, self.key)


@dataclass(frozen=True, eq=False)
class _Held:
    """A result in memory, which goes along to another process."""

    key: str
    record: bytes

    def load(self) -> Any:
        return decode(self.record)


class Results(Mapping[Name, Any]):
    """What a step made of each item, by the item's name; read from the store where it is asked for.

    Attributes
    ----------
    step : Step
        What made them.
    failed : dict
        Items without a result, and why, on one line.
    skipped : list
        Items that could not be done because an earlier step failed on what they are made from.
    computed : int
        How many results were computed by this call of `run`; the others were known.

    Examples
    --------
    >>> from tiepoints.collection import Collection, Extract, run
    >>> features = run(Extract("orb", max_keypoints=100), Collection.from_folder("examples"))
    >>> features
    Results(extract-orb of 4 items, 4 computed now)
    >>> len(features["desk_1.jpg"]), features.failed
    (100, {})
    """

    def __init__(self, step: Step, store: Stored, keys: dict[Name, str]) -> None:
        self.step = checks.instance(step, "step", Step)
        self.store = store
        self.failed: dict[Name, str] = {}
        self.skipped: list[Name] = []
        self.computed = 0
        self._keys = keys
        self._stage = stage_of(step)

    def __getitem__(self, name: Name) -> Any:
        return self.store.get(self._stage, self.key(name))

    def __iter__(self) -> Iterator[Name]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, name: object) -> bool:
        return name in self._keys or _composed(name) in self._forms

    def __repr__(self) -> str:
        wrong = f", {len(self.failed)} failed" if self.failed else ""
        return f"Results({self.step.name} of {len(self)} items, {self.computed} computed now{wrong})"

    def key(self, name: Name) -> str:
        """The key of an item's result."""
        found = self._keys.get(name)
        return self._keys[self._forms[_composed(name)]] if found is None else found

    @cached_property
    def _forms(self) -> dict[Any, Name]:
        """Names by their composed form of Unicode."""
        return {_composed(name): name for name in self._keys}

    def reference(self, name: Name) -> Input:
        """An item's result as the input of another step."""
        key = self.key(name)
        if isinstance(self.store, Store):
            return Reference(self.store, self._stage, key)
        assert isinstance(self.store, Memory)
        return _Held(key, self.store.record(self._stage, key))


def _composed(name: Any) -> Any:
    if isinstance(name, tuple):
        return tuple(_composed(part) for part in name)
    return composed(name) if isinstance(name, str) else name


class _Task(NamedTuple):
    key: str
    inputs: tuple[Input, ...]


_steps_lock = threading.Lock()


@dataclass
class _Job:
    """What an engine calls: loads the inputs, calls the step, and returns the record, or writes it where it belongs."""

    step: Step
    own: Store | None = None  # where workers write to, each to a shard of its own
    recent: Recent = field(default_factory=Recent)

    def __call__(self, task: _Task, threads: int) -> bytes | None:
        step = self._with(threads)
        with limited(threads):
            record = encode(step(*map(self._loaded, task.inputs)))
        if self.own is None:
            return record
        _own_shard(self.own).put(self.step, task.key, record)
        return None

    def _loaded(self, one: Input) -> Any:
        return self.recent.load(one) if isinstance(one, Reference | _Held) else one.load()

    def _with(self, threads: int) -> Step:
        if threads >= cores():
            return self.step
        with _steps_lock:  # opening a network takes time and memory
            steps: dict[int, Step] = self.__dict__.setdefault("_steps", {})
            if threads not in steps:
                steps[threads] = self.step.with_threads(threads)
            return steps[threads]

    def __getstate__(self) -> dict[str, Any]:
        return {"step": self.step, "own": self.own, "recent": Recent()}

    def memory(self, task: _Task) -> int:
        return self.step.memory(*task.inputs)


def _own_shard(store: Store) -> Store:
    """The store with a shard of this process."""
    host = "".join(c if c.isalnum() else "-" for c in platform.node()) or "host"
    return reopened(store.folder, f"{host}-{os.getpid()}")


def run(
    step: Step,
    items: Collection | Results | Mapping[Any, Any] | Iterable[tuple[str, ...]],
    store: Stored | None = None,
    *sources: Results,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Results:
    """Apply a step to every item, and keep the results; what the store has is not computed again.

    A result is known by the step's fingerprint and by what it was made from: a photograph that was changed, another
    option or other weights are computed anew, a renamed or copied photograph is not. Results are kept one by one, so
    that an interrupted run goes on where it was.

    Parameters
    ----------
    step : Step
    items : Collection, Results, iterable of pairs, or mapping
        A collection: the step is called with each photograph. Pairs of names: it is called with the results of both
        images in each of the `sources`, in their order. Results of an earlier step: it is called with each of them,
        followed by what the sources hold for the same item, or for the two images of the same pair. A mapping from
        names: it is called with the tuple of inputs of each name; an input is a photograph, a `Reference`, or a value.
    store : Store, optional
        Without it, results stay in memory.
    *sources : Results
        Of earlier steps.
    engine : Engine, optional
        By default `Threads`.
    progress : callable, optional
        Called as ``progress(done, all)``, also for what is known already.

    Returns
    -------
    results : Results
        A mapping from the items' names; items that failed are in its `failed`.

    Raises
    ------
    InvalidInputError
        If an item is not of the kinds above.
    StorageError
        If the store cannot be written, for instance because the disk is full. What was finished stays.

    Examples
    --------
    >>> from tiepoints.collection import Collection, Extract, Match, Verify, run
    >>> photos = Collection.from_folder("examples")
    >>> features = run(Extract("orb"), photos)
    >>> matches = run(Match(), [("box.png", "box_in_scene.png")], None, features)
    >>> views = run(Verify("homography"), matches, None, features)
    >>> views["box.png", "box_in_scene.png"].verified
    True
    """
    where: Stored = Memory() if store is None else store
    if not checks.has(where, "known", "hashes"):
        raise InvalidInputError(f"store is {checks.shown(store)}, but a Store is expected: open one with Store(FOLDER)")
    chosen = checks.instance(Threads() if engine is None else engine, "engine", Engine, "such as Threads()")
    results = Results(step, where, {})
    tasks = _tasks(step, items, where, sources, results)
    names: dict[str, list[Name]] = {}
    for name, task in tasks.items():
        names.setdefault(task.key, []).append(name)
    known = where.known(step, names)
    missing = {task.key: task for task in tasks.values() if task.key not in known}
    every = len(tasks) + len(results.failed) + len(results.skipped)
    done = every - sum(len(names[key]) for key in missing)
    if progress is not None and every:
        progress(done, every)
    chosen = Serial() if len(missing) == 1 and isinstance(chosen, Threads) else chosen  # with all threads
    job = _Job(step, where if chosen.own_shards and isinstance(where, Store) else None)
    failed: set[str] = set()
    for task, outcome in chosen.map(job, iter(missing.values()), memory=job.memory):
        if isinstance(outcome, Failure):
            failed.add(task.key)
            results.failed.update({name: _message(outcome, task, name, tasks[name]) for name in names[task.key]})
        else:
            if outcome is not None:
                where.put(step, task.key, outcome)
            results.computed += 1
        done += len(names[task.key])
        if progress is not None:
            progress(done, every)
    results._keys.update({name: task.key for name, task in tasks.items() if task.key not in failed})
    return results


def _message(outcome: Failure, done: _Task, name: Name, same: _Task) -> str:
    """What went wrong with an item, with the path of a photograph that is the same as the one that was tried."""
    message = outcome.message
    for one, other in zip(done.inputs, same.inputs, strict=True):
        if isinstance(one, Photograph) and isinstance(other, Photograph):
            message = message.replace(printable(one.path), printable(other.path))
    return _of_item(message, name, same.inputs)


def _of_item(message: str, name: Name, inputs: tuple[Input, ...]) -> str:
    """The message after what its item is called: a photograph by its file, which the message may name already."""
    called = " - ".join(map(str, name)) if isinstance(name, tuple) else str(name)
    for one in inputs:
        if isinstance(one, Photograph):
            if printable(one.path) in message:
                return message
            called = called if one.frame is not None else str(one.path)
    return message if message.startswith(f"{printable(called)}:") else f"{printable(called)}: {message}"


def stored(step: Step, items: Any, store: Stored, *sources: Results) -> Results:
    """What `run` would return without computing anything: items that the store has no result of are in `skipped`.

    Parameters and exceptions are those of `run`.

    Examples
    --------
    >>> from tiepoints.collection import Collection, Extract, Memory, run, stored
    >>> photos, store = Collection.from_folder("examples"), Memory()
    >>> first = Collection([photos["box.png"]])
    >>> _ = run(Extract("orb"), first, store)
    >>> stored(Extract("orb"), photos, store).skipped
    ['box_in_scene.png', 'desk_1.jpg', 'desk_2.jpg']
    """
    results = Results(step, store, {})
    tasks = _tasks(step, items, store, sources, results)
    known = store.known(step, [task.key for task in tasks.values()])
    for name, task in tasks.items():
        if task.key in known:
            results._keys[name] = task.key
        else:
            results.skipped.append(name)
    return results


def _tasks(step: Step, items: Any, store: Stored, sources: tuple[Results, ...], results: Results) -> dict[Name, _Task]:
    """Every item's inputs and the key of its result; what cannot be done goes to `failed` and `skipped`."""
    tasks: dict[Name, _Task] = {}
    for name, inputs in _inputs(items, store, sources, results):
        try:
            key = key_of(step.fingerprint, *(one.key for one in inputs))
        except (ImageError, InvalidInputError) as error:  # noqa: PERF203 - a file that is gone, an odd value
            results.failed[name] = _of_item(failure_of(error).message, name, inputs)
        else:
            tasks[name] = _Task(key, inputs)
    return tasks


def _inputs(
    items: Any, store: Stored, sources: tuple[Results, ...], results: Results
) -> Iterator[tuple[Name, tuple[Input, ...]]]:
    if isinstance(items, Collection):
        results.failed.update(items.failed)
        for photograph, error in items.keyed(store.hashes()):
            if error is None:
                yield photograph.name, (photograph,)
            else:
                results.failed[photograph.name] = error
        return
    if isinstance(items, Results):
        for name in items:
            rest = _from_sources(name, sources)
            if rest is None:
                results.skipped.append(name)
            else:
                yield name, (items.reference(name), *rest)
        return
    if isinstance(items, Mapping):
        for name, inputs in items.items():
            several = inputs if isinstance(inputs, tuple) else (inputs,)
            yield name, tuple(one if isinstance(one, Input) else Given(one) for one in several)
        return
    for name in checks.several(items, "items", "a Collection, pairs, Results or a mapping"):
        if not isinstance(name, tuple) or not all(isinstance(part, str) for part in name):
            raise InvalidInputError(f"{name!r} is no pair of names: give a Collection, pairs, Results or a mapping")
        rest = _from_sources(name, sources)
        if rest is None:
            results.skipped.append(name)
        else:
            yield name, rest


def _from_sources(name: Name, sources: tuple[Results, ...]) -> tuple[Input, ...] | None:
    """What each source holds for an item, or for each of its images; None where one of them is missing."""
    found: list[Input] = []
    for source in sources:
        if name in source:
            found.append(source.reference(name))
        elif isinstance(name, tuple) and all(part in source for part in name):
            found += [source.reference(part) for part in name]
        else:
            return None
    return tuple(found)
