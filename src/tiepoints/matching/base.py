"""The interface of every matcher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ..errors import InvalidInputError
from ..features import Features, Matches

__all__ = ["Matcher"]


class Matcher(ABC):
    """Finds which features of two images show the same points: call it with both images' features.

    A new matcher defines `_match`; its options are arguments of its constructor, kept under their own names. Other
    packages add matchers by the entry-point group ``tiepoints.matchers``.
    """

    @abstractmethod
    def _match(self, a: Features, b: Features) -> Matches:
        """Match the features of two images, which are checked to be Features."""

    def __call__(self, a: Features, b: Features) -> Matches:
        """Match the features of two images.

        Parameters
        ----------
        a, b : Features
            Of the same extractor.

        Returns
        -------
        matches : Matches
            Each feature is in at most one of them, unless the matcher says otherwise.

        Raises
        ------
        InvalidInputError
            If the features cannot be matched with each other.
        """
        for value in (a, b):
            if not isinstance(value, Features):
                raise InvalidInputError(
                    f"match takes two Features, but got {type(value).__name__}: call an extractor first"
                )
        return self._match(a, b)

    def options(self) -> dict[str, Any]:
        """The options that it was made with, by name."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.options().items())})"
