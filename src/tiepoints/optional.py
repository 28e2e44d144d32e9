"""Packages that the core install lacks: imported where they are used, and named with what installs them."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from .errors import MissingDependencyError

__all__ = ["require", "version_of"]


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


def version_of(package: str) -> str:
    """The installed version of a package by its name for pip, "" if there is none; "opencv" is any of its packages."""
    from importlib.metadata import PackageNotFoundError, version  # which takes its time

    if package == "opencv":
        return str(import_module("cv2").__version__)
    try:
        return version(package)
    except PackageNotFoundError:
        return str(getattr(sys.modules.get(package), "__version__", ""))
