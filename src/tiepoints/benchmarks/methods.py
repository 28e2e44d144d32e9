"""Who takes part in a benchmark: an extractor, what it is called in the tables, and how another process makes it."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import InvalidInputError
from ..extraction import Extractor, load
from ..files import sha256_of

__all__ = ["Method", "method", "participants"]


@dataclass(frozen=True, eq=False)
class Method:
    """An extractor that takes part.

    Parameters
    ----------
    label : str
        Its name in the tables.
    extractor : Extractor
    recipe : (str, mapping), optional
        What `tiepoints.load` makes the same extractor from; needed to extract in several processes.
    """

    label: str
    extractor: Extractor
    recipe: tuple[str, Mapping[str, Any]] | None = None

    @cached_property
    def identity(self) -> str:
        """A text that differs where the features may differ: the code, the options, the contents of all weights.

        As JSON: class, options, sha256 of the weights (those of the metadata, and the content of every file that
        an option or attribute names), sha256 of the method's source files, versions of the packages that compute.
        """
        return _identity(self.extractor)

    def remade(self, **options: Any) -> Method:
        """The same method under the same label with other options; itself where it cannot be made again."""
        if self.recipe is None:
            return self
        name, own = self.recipe
        options = {**own, **options}
        return Method(self.label, load(name, **options), (name, options))

    def with_threads(self, count: int) -> Method:
        """The same method on so many threads, if it has its own (MD-Net's network) and was not told how many.

        OpenCV and the BLAS are told elsewhere, once for all methods.
        """
        return self.remade(threads=count) if getattr(self.extractor, "threads", count) is None else self


def method(spec: str | Extractor | Method, **common: Any) -> Method:
    """A participant from a specification.

    Parameters
    ----------
    spec : str, Extractor or Method
        "NAME" or "NAME:KEY=VALUE,KEY=VALUE" with options of the method, whose values are Python literals or else
        strings: "rootsift:contrast_threshold=0.01". Or an extractor that exists already.
    **common
        Options for every method, such as `max_keypoints`; those in `spec` win. They do not show in the label.

    Raises
    ------
    InvalidInputError
        If the text has another form, or the method lacks an option.
    UnknownExtractorError, MissingDependencyError
        As `tiepoints.load`.
    """
    if isinstance(spec, Method):
        return spec
    if isinstance(spec, Extractor):
        return Method(spec.metadata.name, spec)
    name, _, text = spec.partition(":")
    own = _options(spec, text)
    options = {key: value for key, value in common.items() if value is not None} | own
    try:
        extractor = load(name, **options)
    except TypeError as error:
        raise InvalidInputError(f"{spec}: {error}") from None
    return Method(" ".join([name, *(f"{key}={value}" for key, value in own.items())]), extractor, (name, options))


def participants(specs: str | Extractor | Method | Iterable[str | Extractor | Method], **common: Any) -> list[Method]:
    """One participant or several, as `method` makes them.

    Raises
    ------
    InvalidInputError
        If two have the same label: a table could not tell them apart.
    """
    several = [specs] if isinstance(specs, str | Extractor | Method) else specs
    found = [method(spec, **common) for spec in several]
    labels = [one.label for one in found]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise InvalidInputError(f"{', '.join(twice)} takes part twice; give a Method with a label of its own")
    return found


def _options(spec: str, text: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for part in _split(text):
        key, equals, value = part.partition("=")
        if not equals or not key.strip().isidentifier():
            raise InvalidInputError(f"{spec!r} is not of the form NAME:KEY=VALUE,KEY=VALUE")
        try:
            options[key.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            options[key.strip()] = value
    return options


def _split(text: str) -> list[str]:
    """At commas that are not inside brackets: levels=(1,2),x=3 has two parts."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip()]


def _identity(extractor: Extractor) -> str:
    shown = {}
    for name, value in vars(extractor).items():
        if isinstance(value, str | Path) and Path(value).is_file():
            shown[name] = sha256_of(value)  # a file is known by what is in it, not by where it lies
        elif not name.startswith("_"):
            shown[name] = repr(value)
    kind = type(extractor)
    content = {
        "extractor": f"{extractor.metadata.name} {kind.__module__}.{kind.__qualname__}",
        "options": dict(sorted(shown.items())),
        "weights": sorted(file.sha256 for file in extractor.metadata.weights),
        "code": [sha256_of(path) for path in sorted(_sources(kind.__module__, set()))],
        "packages": {
            name: _version(name) for name in ("opencv-contrib-python-headless", "numpy", *extractor.metadata.requires)
        },
    }
    return json.dumps(content)


def _sources(name: str, seen: set[str]) -> set[str]:
    """The source files of a module and of all that it imports from its own package: a helper's change counts too."""
    module = sys.modules.get(name)
    if module is None or name in seen:
        return set()
    seen.add(name)
    file = getattr(module, "__file__", None)
    found = {file} if file and Path(file).is_file() else set()
    package = name.partition(".")[0]
    for value in list(vars(module).values()):
        other = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
        if isinstance(other, str) and other.partition(".")[0] == package:
            found |= _sources(other, seen)
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
