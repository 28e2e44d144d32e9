"""The methods of a benchmark: extractors, what they are called in the tables, and what each was made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checks import instance, iterable, setting
from ..collection import Engine, Results, Step, Store, run
from ..errors import InvalidInputError
from ..extraction import Extractor, load
from ..files import PathLike
from ..weights import cache_folder

__all__ = ["Method", "default_store", "method", "methods_of"]

#: Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Method:
    """An extractor and its name in the tables.

    Parameters
    ----------
    label : str
    extractor : Extractor
    recipe : (str, mapping), optional
        The name and options from which `tiepoints.load` makes the same extractor: for the benchmark of speed, which
        varies the options, and measures memory in another process.

    Examples
    --------
    >>> from tiepoints.benchmarks import method
    >>> one = method("orb:levels=4", max_keypoints=500)
    >>> one.label, one.extractor.max_keypoints
    ('orb levels=4', 500)
    """

    label: str
    extractor: Extractor
    recipe: tuple[str, Mapping[str, Any]] | None = None

    def with_options(self, **options: Any) -> Method:
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
        return self.with_options(threads=count) if getattr(self.extractor, "threads", count) is None else self


def method(spec: str | Extractor | Method, **common: Any) -> Method:
    """A method from a specification.

    Parameters
    ----------
    spec : str, Extractor or Method
        "NAME" or "NAME:KEY=VALUE,KEY=VALUE" with options of the method, whose values are Python literals or else
        strings: "rootsift:contrast_threshold=0.01". Or an extractor that exists already.
    **common
        Options for every method, such as `max_keypoints`; those in `spec` win. They do not show in the label.

    Returns
    -------
    method : Method

    Raises
    ------
    InvalidInputError
        If the text has another form, or the method lacks an option.
    UnknownExtractorError, MissingDependencyError
        As `tiepoints.load`.

    Examples
    --------
    >>> from tiepoints.benchmarks import method
    >>> method("orb:scale_factor=1.3", max_keypoints=500).label
    'orb scale_factor=1.3'
    """
    if isinstance(spec, Method):
        return spec
    if isinstance(spec, Extractor):
        return Method(spec.metadata.name, spec)
    name, _, text = instance(spec, "the method", str).partition(":")
    own = _options(spec, text)
    options = {key: value for key, value in common.items() if value is not None} | own
    try:
        extractor = load(name, **options)
    except TypeError as error:
        raise InvalidInputError(f"{spec}: {error}") from None
    return Method(
        " ".join([extractor.metadata.name, *(f"{key}={value}" for key, value in own.items())]),
        extractor,
        (name, options),
    )


def methods_of(specs: str | Extractor | Method | Iterable[str | Extractor | Method], **common: Any) -> list[Method]:
    """One method or several, as `method` makes them.

    Raises
    ------
    InvalidInputError
        If two have the same label: a table could not tell them apart.

    Examples
    --------
    >>> from tiepoints.benchmarks.methods import methods_of
    >>> [one.label for one in methods_of(["orb", "sift"])]
    ['orb', 'sift']
    """
    several = [specs] if isinstance(specs, str | Extractor | Method) else iterable(specs, "methods", "names")
    found = [method(spec, **common) for spec in several]
    labels = [one.label for one in found]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise InvalidInputError(f"{', '.join(twice)} is given twice; give a Method with a label of its own")
    return found


@contextmanager
def runner(
    store: PathLike | None, engine: Engine | None = None, progress: Progress | None = None
) -> Iterator[Callable[..., Results]]:
    """`collection.run` with the store, engine and progress that all steps of a benchmark have.

    Yields
    ------
    through : callable
        Called as ``through(what, step, items, *sources)``; `what` is for the progress.
    """
    with nullcontext() if store is None else Store(store) as where:

        def through(what: str, step: Step, items: Any, *sources: Results) -> Results:
            moved = None if progress is None else (lambda done, total: progress(what, done, total))
            return run(step, items, where, *sources, engine=engine, progress=moved)

        yield through


def default_store() -> Path:
    """Where results are kept unless told otherwise: TIEPOINTS_CACHE, else `tiepoints` in the user's cache folder.

    Examples
    --------
    >>> from tiepoints.benchmarks import default_store
    >>> default_store().name
    'benchmarks'
    """
    return cache_folder().with_name("benchmarks")


def _options(spec: str, text: str) -> dict[str, Any]:
    try:
        return dict(map(setting, _split(text)))
    except InvalidInputError:
        raise InvalidInputError(f"{spec!r} is not of the form NAME:KEY=VALUE,KEY=VALUE") from None


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
