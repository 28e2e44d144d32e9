"""Names of a package that are imported when they are first used: `tiepoints --help` must not pay for OpenCV."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from typing import Any

from .errors import nearest_name

__all__ = ["attach"]


def attach(
    package: str, names: Mapping[str, Sequence[str]], modules: Collection[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """A package's `__getattr__`, `__dir__` (PEP 562) and `__all__`.

    Parameters
    ----------
    package : str
        Its `__name__`.
    names : mapping
        From a module of the package to the public names that come from it. Type checkers read the same imports below
        ``if TYPE_CHECKING``; a test compares the two.
    modules : collection of str
        Modules that are public as a whole.

    Examples
    --------
    >>> from tiepoints.lazy import attach
    >>> getter, _, public = attach("tiepoints", {"features": ["Features", "Matches"]})
    >>> public, getter("Features").__name__
    (['Features', 'Matches'], 'Features')
    """
    homes = {name: module for module, each in names.items() for name in each}

    def get(name: str) -> Any:
        if name in modules:
            return import_module(f"{package}.{name}")
        if name not in homes:
            # In the message, since notebooks leave out what Python adds to it; but what begins with _ Python asks for.
            near = None if name.startswith("_") else nearest_name(name, listed())
            hint = "" if near is None else f": did you mean {near!r}?"
            raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}", name=name)
        value = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)  # the next use finds it there
        return value

    def listed() -> list[str]:
        return sorted({*homes, *modules, *({"__version__"} & vars(sys.modules[package]).keys())})

    return get, listed, sorted(homes)
