"""The interface of every matcher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np

from ..checks import instance
from ..errors import InvalidInputError
from ..features import Features, Matches

__all__ = ["Matcher", "aligned", "check_comparable"]

_COMPARED = 1024  # ours: of the best features; to find the rotation then costs as much as matching 2,048 of one


class Matcher(ABC):
    """Finds which features of two images show the same points: call it with both images' features.

    A new matcher defines `_match`; its options are arguments of its constructor, kept under their own names. Other
    packages add matchers by the entry-point group ``tiepoints.matchers``. A class attribute `version`, a number, is
    raised when the code gives other matches: what is kept from before is then computed anew.

    Examples
    --------
    >>> import numpy as np
    >>> import tiepoints as tp
    >>> from tiepoints.matching import Matcher
    >>> class SameRow(Matcher):
    ...     def _match(self, a, b):
    ...         rows = np.arange(min(len(a), len(b)), dtype=np.int32)
    ...         return tp.Matches(np.column_stack([rows, rows]), np.ones(len(rows), np.float32))
    >>> features = tp.load("rootsift", max_keypoints=50)("examples/box.png")
    >>> tp.match(features, features, matcher=SameRow())
    Matches(50)
    """

    @abstractmethod
    def _match(self, a: Features, b: Features) -> Matches:
        """Match the features of two images, which are checked to be Features."""

    def __call__(self, a: Features, b: Features) -> Matches:
        """Match the features of two images.

        Parameters
        ----------
        a, b : Features
            Of the same extractor. Where they describe several rotations of their images, `_match` gets them rotated
            into one.

        Returns
        -------
        matches : Matches
            Each feature is in at most one of them, unless the matcher says otherwise.

        Raises
        ------
        InvalidInputError
            If the features cannot be matched with each other, or `_match` returns no matches of theirs.
        """
        for value in (a, b):
            if not isinstance(value, Features):
                raise InvalidInputError(
                    f"match takes two Features, but got {type(value).__name__}: call an extractor first"
                )
        found = self._match(*aligned(a, b))
        what = f"{type(self).__name__}._match"
        instance(found, f"what {what} returns", Matches)
        try:
            found.points(a, b)
        except InvalidInputError as error:
            raise InvalidInputError(f"{what} returns wrong row numbers: {error}") from None
        return found

    def for_extractor(self, name: str) -> Matcher:
        """The same matcher for the features of one extractor.

        Who knows the extractor calls it: `match_images`, and the commands.

        Parameters
        ----------
        name : str
            The extractor's.

        Returns
        -------
        matcher : Matcher
            Itself where that makes no difference.
        """
        return self

    def options(self) -> dict[str, Any]:
        """The options that it was made with, by name.

        Returns
        -------
        options : dict
        """
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.options().items())})"


def aligned(a: Features, b: Features) -> tuple[Features, Features]:
    """The features of two images whose descriptors can be compared, where they describe several rotations.

    Of the four quarter turns of one image the one is taken by which the best features of both are most alike: those
    that are each other's nearest, each counted by how much more than half alike they are. The descriptors of all four
    rotations are then compared side by side, if both images have them.

    Examples
    --------
    >>> import numpy as np
    >>> import tiepoints as tp
    >>> from tiepoints.matching.base import aligned
    >>> extractor, image = tp.load("mdnet", rotation="any", max_keypoints=100), tp.read("examples/box.png")
    >>> a, b = extractor(image), extractor(np.rot90(image))
    >>> same, turned = aligned(a, b)
    >>> float((same.descriptors * turned.descriptors).sum(axis=1).min().round(3))  # a quarter turn back
    1.0
    """
    if a.rotations == b.rotations == 1:
        return a, b
    if a.rotations == 1:
        b, a = aligned(b, a)
        return a, b
    if b.rotations == 1:
        return a.of_rotation(_turns(b, a)), b
    columns = b.descriptors.shape[1] // b.rotations
    turned = np.roll(b.descriptors, -_turns(a.of_rotation(), b) * columns, axis=1)
    return a, replace(b, descriptors=turned)


def _turns(a: Features, b: Features) -> int:
    """The quarter turns of b that make it most like a, of which one rotation is described."""
    from .nearest import Nearest

    a, b = a.top(_COMPARED), b.top(_COMPARED)
    found = (Nearest()(a, b.of_rotation(turns)) for turns in range(b.rotations))
    return int(np.argmax([float(np.clip(matches.scores - 0.5, 0, None).sum()) for matches in found]))


def check_comparable(a: Features, b: Features) -> None:
    """Nothing, if the descriptors of two images can be compared with each other.

    Raises
    ------
    InvalidInputError
        If not; the message says why.
    """
    for value in (a, b):
        if value.wrong_norm is not None:
            raise InvalidInputError(
                f"descriptors must have unit length to be compared, but one has {value.wrong_norm:.4g}: "
                "divide each by its norm"
            )
    if not a.descriptors.shape[1] or not b.descriptors.shape[1]:
        raise InvalidInputError("features with no descriptors (0 columns) cannot be matched: call an extractor")
    if a.descriptors.dtype != b.descriptors.dtype or a.descriptors.shape[1] != b.descriptors.shape[1]:
        raise InvalidInputError(
            f"descriptors of different kinds cannot be matched: {a.descriptors.shape[1]} columns of "
            f"{a.descriptors.dtype} and {b.descriptors.shape[1]} of {b.descriptors.dtype}; use one extractor for both"
        )
    if (a.sets is None) != (b.sets is None):
        raise InvalidInputError("only one of the two images has its features in sets; use one extractor for both")
