"""Packages that the core install lacks: imported where they are used, and named with what installs them."""

from __future__ import annotations

import signal
import sys
import threading
from importlib import import_module
from typing import Any

from .errors import InvalidInputError, MissingDependencyError, one_line

__all__ = ["require", "torch_device", "version_of"]


def require(module: str, what: str, extra: str) -> Any:
    """Import an optional package, or say which extra installs it for `what`.

    Raises
    ------
    MissingDependencyError
        If it is not installed, or cannot be imported.
    """
    try:
        return _pycolmap() if module == "pycolmap" else import_module(module)
    except Exception as error:  # pycolmap makes a RuntimeError of whatever its import raises
        if _was_interrupted(error):
            raise KeyboardInterrupt from None
        package = module.partition(".")[0]
        # What is there but broken is not mended by installing it once more.
        missing = isinstance(error, ModuleNotFoundError) and error.name == package
        broken = "" if missing else f", which cannot be imported ({one_line(error)})"
        force = "" if missing else "--force-reinstall "
        raise MissingDependencyError(
            f"{what} needs the package {package}{broken}: pip install {force}'tiepoints[{extra}]'"
        ) from error


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: packages turn it into other errors while they are imported."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _pycolmap() -> Any:
    # pycolmap's zlib, if it is loaded first, takes the place of Pillow's: writing a PNG then ends the process.
    import_module("PIL.Image")
    known = "pycolmap" in sys.modules
    module = import_module("pycolmap")
    # It answers SIGTERM, which is how systems stop a process, with a page of addresses.
    if not known and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)
    return module


def torch_device(device: object, what: str) -> str:
    """A device's name, after torch has put a number there and fetched it: to be asked before weights are downloaded.

    Raises
    ------
    MissingDependencyError
        If torch, which `what` needs, is not installed.
    InvalidInputError
        If it is no name, or torch cannot use such a device; the message has those that are here.
    """
    if not isinstance(device, str) or not device:
        found = repr(device) if isinstance(device, str) else f"a {type(device).__name__}"
        raise InvalidInputError(f"device is {found}, but must be a name such as 'cpu' or 'cuda'")
    torch = require("torch", what, "learned")
    try:
        torch.zeros(1, device=device).cpu()
    except Exception:  # torch has a class of its own for each kind of wrong device
        there = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        there += ["mps"] if torch.backends.mps.is_available() else []
        raise InvalidInputError(
            f"device is {device!r}, but torch cannot use it: it has {', '.join(['cpu', *there])} here"
        ) from None
    return device


def version_of(package: str) -> str:
    """The installed version of a package by its name for pip, "" if there is none; "opencv" is any of its packages."""
    from importlib.metadata import PackageNotFoundError, version  # which takes its time

    if package == "opencv":
        return str(import_module("cv2").__version__)
    try:
        return version(package)
    except PackageNotFoundError:
        return str(getattr(sys.modules.get(package), "__version__", ""))
