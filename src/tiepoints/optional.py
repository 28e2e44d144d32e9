"""Packages that the core install lacks: imported where they are used, and named with what installs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import MissingDependencyError

__all__ = ["require"]


def require(module: str, what: str, extra: str) -> Any:
    """Import an optional package, or say which extra installs it for `what`.

    Raises
    ------
    MissingDependencyError
        If it is not installed, or cannot be imported.
    """
    try:
        if module == "pycolmap":
            # pycolmap's zlib, if it is loaded first, takes the place of Pillow's: writing a PNG then ends the process.
            import_module("PIL.Image")
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{what} needs the package {module.partition('.')[0]}: pip install 'tiepoints[{extra}]'"
        ) from error
