"""The errors that a caller may meet: each message is one line that names the culprit and the remedy."""

from __future__ import annotations

import unicodedata


class TiepointsError(Exception):
    """Anything that tiepoints itself refuses or cannot do; the base of all its errors.

    The message is one line: whatever would end it or move the cursor, for instance in a file's name, is escaped.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(argument) if isinstance(argument, str) else argument for argument in args))


class ImageError(TiepointsError, ValueError):
    """An image that cannot be read or used: missing, truncated, too large, of an unsupported kind."""


class InvalidInputError(TiepointsError, ValueError):
    """An argument of the wrong shape, type or range."""


class UnknownExtractorError(TiepointsError, KeyError):
    """A name that no registered extractor has."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


class MissingDependencyError(TiepointsError, ImportError):
    """An optional package that is not installed; the message names the command that installs it."""


class StorageError(TiepointsError, OSError):
    """A file of features, matches, cameras or a model that cannot be read or written."""


class TrainingError(TiepointsError, RuntimeError):
    """A training that cannot go on; what it has reached is kept."""


# Unicode's categories of characters that no terminal should get from a file's name: controls (with the escape
# sequences' beginning), marks that turn the direction of writing, halves of surrogate pairs (bytes that are not UTF-8),
# and the separators of lines and paragraphs.
_UNPRINTABLE = frozenset(["Cc", "Cf", "Cs", "Zl", "Zp"])
_LONGEST = 300  # characters of another library's message: some hold what a damaged file does
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


def one_line(error: BaseException) -> str:
    """What an exception of another library says, on one line; its type where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST or isinstance(error, TiepointsError) else f"{text[:_LONGEST]} ..."


class WeightsError(TiepointsError, OSError):
    """Trained parameters that are missing, damaged, of another version, or not those of the method."""


class LicenceError(TiepointsError, PermissionError):
    """A licence that the user has not accepted; the message names it and the command that accepts it."""
