"""A step: what is done to each item of a collection, and everything that its results depend on."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .. import checks
from ..errors import InvalidInputError
from ..extraction import Extractor
from ..files import sha256_of
from ..matching import Matcher
from ..optional import version_of

__all__ = ["Step", "description_of", "key_of", "weights_of"]

# They change what a computation costs, not what it computes (beyond the order in which floats are added).
_COSTS = ("threads", "batch")


class Step(ABC):
    """What is done to each item: call it with the item's inputs. Its results are known by what they were made from.

    A new step defines `__call__` and keeps its options as public attributes. Whatever changes the results must show in
    the fingerprint: options do by themselves, also extractors and files of weights (by their content); changed code
    does by raising `version`. Steps are pickled to reach other processes.

    Examples
    --------
    >>> from tiepoints.collection import Step
    >>> class Brightness(Step):
    ...     def __call__(self, photograph):
    ...         return float(photograph.read().mean())
    >>> Brightness().name
    'brightness'
    """

    #: Raise it when the code gives other results than before: what was stored is then computed anew.
    version: ClassVar[int] = 1
    #: Packages whose versions the results depend on, by their names for pip.
    packages: ClassVar[tuple[str, ...]] = ("numpy",)

    @abstractmethod
    def __call__(self, *inputs: Any) -> Any:
        """The result of one item: arrays, numbers, texts, Features, Matches, lists and dictionaries of these, or a
        dataclass that `register` knows.
        """

    @property
    def name(self) -> str:
        """Names the step in messages, and its files in a store."""
        return type(self).__name__.lower()

    def memory(self, *inputs: Any) -> int:
        """About how many bytes the call takes, as far as that can be told before it; 0 if hardly any."""
        return 0

    def with_threads(self, count: int) -> Step:
        """The same step with its own threads limited to `count`, where it has any of its own."""
        return self

    def describe(self) -> dict[str, Any]:
        """All that the results depend on besides the inputs, as JSON can say it."""
        kind = type(self)
        options = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {
            "step": f"{kind.__module__}.{kind.__qualname__}",
            "version": self.version,
            "options": {name: description_of(value, name) for name, value in sorted(options.items())},
            "packages": {name: version_of(name) for name in self.packages},
        }

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}({options})"

    @cached_property
    def _fingerprint(self) -> str:
        return key_of(json.dumps(self.describe(), sort_keys=True))

    @property
    def fingerprint(self) -> str:
        """A hash of `describe`: 32 hexadecimal digits. Equal fingerprints and equal inputs give equal results."""
        return self._fingerprint


def key_of(*parts: str) -> str:
    """One key for several, 32 hexadecimal digits (128 bits of BLAKE2b); their order counts.

    Examples
    --------
    >>> from tiepoints.collection.steps import key_of
    >>> len(key_of("a", "b")), key_of("a", "b") == key_of("b", "a")
    (32, False)
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogateescape")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def description_of(value: Any, what: str = "") -> Any:
    """What a result depends on when it depends on `value`: plain values as they are, files and arrays by their content.

    Parameters
    ----------
    value : Any
        Extractors by their class, version, options and weights; dataclasses by their fields; functions and classes by
        their names. A text that is the path of a file counts as that file where `what` says that it names one.
    what : str
        The option's name.

    Raises
    ------
    InvalidInputError
        For an object of which nothing is known: give it a method `describe` that returns what JSON can say.

    Examples
    --------
    >>> from tiepoints.collection.steps import description_of
    >>> description_of({"ratio": 0.9, "mutual": True})  # in the order of the names
    {'mutual': True, 'ratio': 0.9}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Path) or (isinstance(value, str) and what.endswith(("weights", "path", "file", "model"))):
        path = Path(value)
        return {"sha256": sha256_of(path)} if path.is_file() else str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {"bytes": hashlib.sha256(value).hexdigest()}
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value).tobytes()
        return {"array": [value.dtype.str, list(value.shape), hashlib.sha256(content).hexdigest()]}
    if isinstance(value, Extractor):
        return _of_extractor(value)
    if isinstance(value, Matcher):
        kind = type(value)
        known = {
            name: description_of(option, name) for name, option in sorted(value.options().items()) if name not in _COSTS
        }
        version = getattr(value, "version", 1)
        return {"matcher": f"{kind.__module__}.{kind.__qualname__}", "version": version, "options": known}
    if callable(getattr(value, "describe", None)):
        return value.describe()
    if isinstance(value, Mapping):
        return {str(key): description_of(value[key], str(key)) for key in sorted(value, key=str)}
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(description_of(item)) for item in value)
    if isinstance(value, list | tuple):
        return [description_of(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        own = {field.name: description_of(getattr(value, field.name), field.name) for field in fields(value)}
        return {"class": f"{type(value).__module__}.{type(value).__qualname__}", **own}
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        if "<" in value.__qualname__:
            raise InvalidInputError(f"{value.__qualname__} cannot be told from others: use a function of a module")
        return f"{value.__module__}.{value.__qualname__}"
    raise InvalidInputError(
        f"what a result depends on cannot be told from {type(value).__name__} {what}: give it a method `describe`"
    )


def weights_of(extractor: Extractor) -> list[str]:
    """The sha256 of an extractor's files of weights, without those that are downloaded, which never change.

    Features of the same options can be compared if these are the same.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection.steps import weights_of
    >>> weights_of(tp.load("rootsift"))
    []
    >>> weights_of(tp.load("mdnet")) == weights_of(tp.load("mdnet", precision="int8"))
    False
    """
    checks.instance(extractor, "extractor", Extractor)
    values = vars(extractor).values()
    inside = [one for value in values if isinstance(value, Extractor) for one in weights_of(value)]
    return sorted({sha256_of(value) for value in values if isinstance(value, Path) and value.is_file()} | {*inside})


def _of_extractor(extractor: Extractor) -> dict[str, Any]:
    """Class, version, options, weights by their content, the packages that compute; the same of a detector inside."""
    kind, metadata = type(extractor), extractor.metadata
    shown = {
        name: description_of(value, name)
        for name, value in sorted(vars(extractor).items())
        if name not in _COSTS and (not name.startswith("_") or isinstance(value, Path | Extractor))
    }
    learned = ("onnxruntime",) if metadata.learned else ()
    return {
        "extractor": f"{kind.__module__}.{kind.__qualname__}",
        "name": metadata.name,
        "version": getattr(extractor, "version", 1),
        "options": shown,
        "weights": sorted(file.sha256 for file in metadata.weights),
        "packages": {name: version_of(name) for name in ("opencv", "pillow", *learned, *metadata.requires)},
    }
