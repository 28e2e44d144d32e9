"""The errors that a caller may meet: each message is one line that names the culprit and the remedy."""

from __future__ import annotations


class TiepointsError(Exception):
    """Anything that tiepoints itself refuses or cannot do; the base of all its errors."""


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


class WeightsError(TiepointsError, OSError):
    """Trained parameters that are missing, damaged, of another version, or not those of the method."""


class LicenceError(TiepointsError, PermissionError):
    """A licence that the user has not accepted; the message names it and the command that accepts it."""
