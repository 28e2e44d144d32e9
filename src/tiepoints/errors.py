"""The errors that a caller may meet: each message is one line that names the culprit and the remedy."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


class TiepointsError(Exception):
    """Anything that tiepoints itself refuses or cannot do; the base of all its errors.

    The message is one line: whatever would end it or move the cursor, for instance in a file's name, is escaped.

    Examples
    --------
    >>> import tiepoints as tp
    >>> try:
    ...     tp.load("rootsfit")
    ... except tp.TiepointsError as error:  # whatever it is
    ...     print(error)
    no extractor is called 'rootsfit': did you mean 'rootsift'?
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(argument) if isinstance(argument, str) else argument for argument in args))


class ImageError(TiepointsError, ValueError):
    """An image that cannot be read or used: missing, truncated, too large, of an unsupported kind.

    Examples
    --------
    >>> import tiepoints as tp
    >>> try:
    ...     tp.read("no_such.jpg")
    ... except tp.ImageError as error:
    ...     print(error)
    no_such.jpg: no such file
    """


class InvalidInputError(TiepointsError, ValueError):
    """An argument of the wrong shape, type or range.

    Examples
    --------
    >>> import tiepoints as tp
    >>> try:
    ...     tp.load("orb", max_keypoints=0)
    ... except tp.InvalidInputError as error:
    ...     print(error)
    max_keypoints is 0, but must be a whole number, at least 1
    """


class UnknownExtractorError(TiepointsError, KeyError):
    """A name that no registered extractor has.

    Examples
    --------
    >>> import tiepoints as tp
    >>> try:
    ...     tp.load("ord")
    ... except tp.UnknownExtractorError as error:
    ...     print(error)
    no extractor is called 'ord': did you mean 'orb'?
    """

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


class MissingDependencyError(TiepointsError, ImportError):
    """An optional package that is not installed; the message names the command that installs it.

    Examples
    --------
    >>> import tiepoints as tp
    >>> try:
    ...     extractor = tp.load("aliked")       # doctest: +SKIP
    ... except tp.MissingDependencyError as error:
    ...     extractor = tp.load("mdnet")        # without torch
    >>> issubclass(tp.MissingDependencyError, ImportError)
    True
    """


class StorageError(TiepointsError, OSError):
    """A file of features, matches, cameras or a model that cannot be read or written.

    Examples
    --------
    >>> import tiepoints as tp
    >>> try:
    ...     tp.storage.load_features("no_such.npz")
    ... except tp.StorageError as error:
    ...     print(error)
    no_such.npz: no such file
    """


class TrainingError(TiepointsError, RuntimeError):
    """A training that cannot go on; what it has reached is kept.

    Examples
    --------
    >>> import tiepoints as tp
    >>> raise tp.TrainingError("the loss is not a number at step 1200; go on from the last checkpoint")
    Traceback (most recent call last):
        ...
    tiepoints.errors.TrainingError: the loss is not a number at step 1200; go on from the last checkpoint
    """


# Unicode's categories of characters that no terminal should get from a file's name: controls (with the escape
# sequences' beginning), marks that turn the direction of writing, halves of surrogate pairs (bytes that are not UTF-8),
# and the separators of lines and paragraphs.
_UNPRINTABLE = frozenset(["Cc", "Cf", "Cs", "Zl", "Zp"])
_LONGEST = 300  # characters of another library's message: some hold what a damaged file does
# What OpenCV, PyTorch and ONNX Runtime say in exceptions of their own.
_NO_MEMORY = ("bad_alloc", "bad allocation", "insufficient memory", "not enough memory", "out of memory",
              "failed to allocate", "can't allocate", "cannot allocate")  # fmt: skip
_JOINERS = "\u200c\u200d"  # of letters and of emoji: format characters that belong to words


def printable(text: object) -> str:
    r"""The text with its control characters escaped as in Python's strings, so that a terminal shows them.

    >>> print(printable("a\nb.png"))
    a\nb.png
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in _UNPRINTABLE and c not in _JOINERS else c
        for c in text
    )


def counted(number: int, noun: str, width: int = 0) -> str:
    """A number, right-aligned, with its noun in the singular or the plural.

    >>> counted(1, "match"), counted(2, "match"), counted(0, "pair", 4)
    ('1 match', '2 matches', '   0 pairs')
    """
    plural = "es" if noun.endswith(("ch", "sh", "s", "x")) else "s"
    return f"{number:{width}d} {noun}{'' if number == 1 else plural}"


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The one of the known names that was meant, whatever its case; None if none is near.

    >>> nearest_name("RotSIFT", ["orb", "rootsift"]), nearest_name("r2d", ["orb", "r2d2"]), nearest_name("x", ["orb"])
    ('rootsift', 'r2d2', None)
    """
    import difflib

    name, lower = name.lower(), {each.lower(): each for each in known}
    near = difflib.get_close_matches(name, list(lower), n=1)
    if not near and len(name) > 2:  # the beginning of one, r2d for r2d2, or one with something added
        near = [each for each in lower if each.startswith(name) or name.startswith(each)][:1]
    return lower[near[0]] if near else None


def one_line(error: BaseException) -> str:
    """What an exception of another library says, on one line; its type where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST or isinstance(error, TiepointsError) else f"{text[:_LONGEST]} ..."


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an exception of another library says that memory could not be had.

    >>> is_lack_of_memory(MemoryError()), is_lack_of_memory(RuntimeError("std::bad_alloc"))
    (True, True)
    """
    text = "" if isinstance(error, TiepointsError) else str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY)


class WeightsError(TiepointsError, OSError):
    """Trained parameters that are missing, damaged, of another version, or not those of the method.

    Examples
    --------
    >>> import os
    >>> from tiepoints import WeightsError
    >>> from tiepoints.weights import WeightFile, find
    >>> before = os.environ.get("TIEPOINTS_WEIGHTS")
    >>> os.environ["TIEPOINTS_WEIGHTS"] = "no_such_folder"
    >>> try:
    ...     find(WeightFile("weights.pth", "", ""))
    ... except WeightsError as error:
    ...     print(error)
    TIEPOINTS_WEIGHTS is 'no_such_folder', which is no folder: name the one that holds the weights, or unset it
    >>> _ = os.environ.pop("TIEPOINTS_WEIGHTS") if before is None else os.environ.update(TIEPOINTS_WEIGHTS=before)
    """


class LicenceError(TiepointsError, PermissionError):
    """A licence that the user has not accepted; the message names it and the command that accepts it.

    Examples
    --------
    >>> from tiepoints import LicenceError
    >>> from tiepoints.weights import accepted, require_consent
    >>> try:
    ...     require_consent("superpoint", "LicenseRef-Magic-Leap")
    ... except LicenceError as error:
    ...     print(str(error).partition(":")[0])
    the weights of superpoint are under LicenseRef-Magic-Leap, which does not allow commercial use
    """
