"""Which extractors there are: ours by a table, other packages' by the entry-point group ``tiepoints.extractors``."""

from __future__ import annotations

import re
import warnings
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import Parameter, cleandoc, signature
from typing import TYPE_CHECKING, Any, NamedTuple

from ..checks import did_you_mean, flag, instance, no_option, shown
from ..errors import InvalidInputError, UnknownExtractorError
from ..weights import accepted, find
from .base import Extractor, Metadata, failure_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Option", "extractors", "is_installed", "is_ready", "load", "metadata_of", "options_of"]

GROUP = "tiepoints.extractors"

# Name -> module and class; imported when asked for, so that one method's packages cost nothing to users of another.
_OURS: dict[str, tuple[str, str]] = {
    "mdnet": ("mdnet", "MDNet"),
    "mdnet-small": ("mdnet", "MDNetSmall"),
    "mdnet-large": ("mdnet", "MDNetLarge"),
    "sift": ("sift", "SIFT"),
    "rootsift": ("sift", "RootSIFT"),
    "upright-sift": ("sift", "UprightSIFT"),
    "upright-rootsift": ("sift", "UprightRootSIFT"),
    "surf": ("surf", "SURF"),
    "upright-surf": ("surf", "UprightSURF"),
    "orb": ("orb", "ORB"),
    "akaze": ("akaze", "AKAZE"),
}


def load(name: str, **options: Any) -> Extractor:
    """Make an extractor by its name.

    Parameters
    ----------
    name : str
        One of `extractors()`; case does not matter.
    **options
        `max_keypoints`, `max_size` and `device` for all of them, and those of the method's own class.

    Returns
    -------
    extractor : Extractor
        Call it with an image to get its features.

    Raises
    ------
    UnknownExtractorError
        If there is no such name; the message has the nearest ones.
    MissingDependencyError
        If the method needs a package that is not installed; the message says how to install it.
    LicenceError
        If its weights' licence does not allow commercial use and the user has not accepted it; the message says how.
    WeightsError
        If its weights are neither on this machine nor can be fetched, or are damaged.
    InvalidInputError
        If the method has no such option, the message has those that it takes; or if an option is out of its range.

    Examples
    --------
    >>> import tiepoints as tp
    >>> extractor = tp.load("RootSIFT", max_keypoints=100, max_size=300)
    >>> extractor("examples/box.png")
    Features(100 keypoints, 128-D, image 324x223)
    """
    kind = _find(name)
    try:
        return kind(**options)
    except TypeError:
        known = [option.name for option in options_of(name)]
        unknown = [option for option in options if option not in known]
        if not unknown:
            raise
        raise InvalidInputError(f"{no_option(name, unknown, known)} (`tiepoints extractors {name}`)") from None
    except Exception as error:
        if (told := failure_of(kind, error)) is not None:
            raise told from error
        raise


class Option(NamedTuple):
    """An option of a method, as its class declares and documents it.

    Examples
    --------
    >>> from tiepoints.extraction import options_of
    >>> [(option.name, option.default, option.kind) for option in options_of("orb") if option.name == "levels"]
    [('levels', 8, 'int')]
    """

    name: str
    default: Any
    """None also where the method leaves it to whoever calls."""
    kind: str
    """Its type, in words."""
    what: str
    """What it does, on one line."""


def options_of(name: str) -> list[Option]:
    """What `load` takes for a method: its own options first, then those that all share.

    They are read from the signatures and the docstrings (numpydoc) of its class and of those that it derives from.

    Parameters
    ----------
    name : str
        One of `extractors()`.

    Returns
    -------
    options : list of Option

    Raises
    ------
    UnknownExtractorError
        If there is no such name; the message has the nearest ones.

    Examples
    --------
    >>> from tiepoints.extraction import options_of
    >>> [(option.name, option.default) for option in options_of("orb")][:2]
    [('levels', 8), ('scale_factor', 1.2)]
    """
    found: dict[str, Parameter] = {}
    described: dict[str, tuple[str, str]] = {}
    for kind in _find(name).__mro__:
        for option, words in _described(kind.__doc__ or "").items():
            described.setdefault(option, words)
        if "__init__" not in vars(kind):
            continue
        parameters = list(signature(kind.__init__).parameters.values())[1:]  # type: ignore[misc] # of a class in a MRO
        for parameter in parameters:
            if parameter.kind is not Parameter.VAR_KEYWORD:
                found.setdefault(parameter.name, parameter)
        if all(parameter.kind is not Parameter.VAR_KEYWORD for parameter in parameters):
            break  # nothing is handed on to the classes above
    return [
        Option(option, None if p.default is Parameter.empty else p.default, *described.get(option, ("", "")))
        for option, p in found.items()
    ]


def _described(docstring: str) -> dict[str, tuple[str, str]]:
    """Type and meaning, each on one line, of what the section Parameters of a numpydoc docstring describes."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", cleandoc(docstring), re.MULTILINE | re.DOTALL)
    entries = re.findall(r"^(\w+) : ([^\n]*)\n((?:[ \n][^\n]*(?:\n|\Z))*)", section[1] if section else "", re.MULTILINE)
    return {name: (kind, " ".join(text.split())) for name, kind, text in entries}


def extractors(*, commercial: bool | None = None, licence: str | None = None) -> list[Metadata]:
    """The metadata of all registered extractors, ours first.

    Parameters
    ----------
    commercial : bool, optional
        Only those whose licences all allow commercial use, and that no patents are known to cover (True), or the others
        (False).
    licence : str, optional
        Only those with a licence, of the code or of the weights, that contains this text, for instance "Apache"; case
        does not matter.

    Returns
    -------
    metadata : list of Metadata

    Examples
    --------
    >>> import tiepoints as tp
    >>> "orb" in [metadata.name for metadata in tp.extractors(commercial=True, licence="apache")]
    True
    """
    if commercial is not None:
        flag(commercial, "commercial")
    if licence is not None:
        instance(licence, "licence", str)
    listed = []
    for name in _names():
        try:
            listed.append(_find(name).metadata)
        except Exception as error:  # noqa: PERF203 - one broken plugin must not hide the others
            warnings.warn(f"extractor {name!r} cannot be loaded and is left out: {error}", stacklevel=2)
    return [
        metadata
        for metadata in listed
        if (commercial is None or metadata.commercial == commercial)
        and (licence is None or licence.lower() in " ".join(metadata.licences).lower())
    ]


def metadata_of(name: str) -> Metadata:
    """The metadata of one extractor.

    Parameters
    ----------
    name : str
        Whatever `load` takes.

    Returns
    -------
    metadata : Metadata

    Raises
    ------
    UnknownExtractorError
        If there is no such name; the message has the nearest ones.

    Examples
    --------
    >>> from tiepoints.extraction import metadata_of
    >>> metadata_of("orb").descriptor_size
    256
    """
    return _find(name).metadata


def is_installed(metadata: Metadata) -> bool:
    """Whether every package that the method needs is there.

    Parameters
    ----------
    metadata : Metadata

    Returns
    -------
    there : bool

    Examples
    --------
    >>> from tiepoints.extraction import is_installed, metadata_of
    >>> is_installed(metadata_of("orb"))
    True
    """
    instance(metadata, "metadata", Metadata)
    return all(find_spec(module) is not None for module in metadata.requires)


def is_ready(metadata: Metadata) -> bool:
    """Whether `load` needs nothing more: packages and weights are on this machine, and the licence is accepted.

    Parameters
    ----------
    metadata : Metadata

    Returns
    -------
    ready : bool

    Examples
    --------
    >>> from tiepoints.extraction import is_ready, metadata_of
    >>> is_ready(metadata_of("orb"))
    True
    """
    instance(metadata, "metadata", Metadata)
    return (
        is_installed(metadata)
        and all(find(file) is not None for file in metadata.weights)
        and (metadata.licences_allow_commerce or not metadata.weights or accepted(metadata.weights_licence))
    )


def _find(name: str) -> type[Extractor]:
    if not isinstance(name, str):
        raise InvalidInputError(f"the extractor's name is {shown(name)}, but must be a text such as 'mdnet'")
    if name.lower() in _OURS:  # before all others are looked for, which takes longer than to open the network
        module, attribute = _OURS[name.lower()]
        return getattr(import_module(f"{__package__}.{module}"), attribute)  # type: ignore[no-any-return]
    from .composed import NAMED, composed
    from .published import ALIASES, CLASSES, PARTS

    if "+" in name or name.lower() in NAMED:
        return composed(name.lower(), _find)
    if name.lower() in PARTS:
        examples = {"detector": "{}+hardtfeat", "shape": "keynet+{}+hardtfeat", "descriptor": "sift+{}"}
        role = PARTS[name.lower()].role
        raise UnknownExtractorError(
            f"{name} is a part of compositions ({role}), such as {examples[role].format(name.lower())!r}"
        )
    known = _names()
    name = next((each for each in [*known, *ALIASES] if each.lower() == name.lower()), name)
    name = ALIASES.get(name, name)
    if name in CLASSES:
        return CLASSES[name]
    plugin = _plugins().get(name)
    if plugin is not None:
        return plugin.load()  # type: ignore[no-any-return]
    hint = did_you_mean(name, known, "`tiepoints extractors` lists them")
    raise UnknownExtractorError(f"no extractor is called {shown(name)}: {hint}")


@cache
def _plugins() -> dict[str, EntryPoint]:
    """Other packages' extractors; none can replace one of ours."""
    from importlib.metadata import entry_points

    from .published import CLASSES

    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in _OURS | CLASSES}


def _names() -> list[str]:
    from .composed import LISTED
    from .published import CLASSES

    return [*_OURS, *CLASSES, *LISTED, *sorted(_plugins())]
