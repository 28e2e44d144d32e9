"""The interface of every matcher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import instance
from ..errors import InvalidInputError
from ..features import Features, Matches
from ..features.descriptors import rotated
from ..threads import limited

__all__ = ["Matcher", "aligned", "check_comparable"]

_COMPARED = 256  # ours: of the best features; to find the rotation then takes a sixth of the time of matching 2,048
_CERTAIN = 1.4  # ours: times as much alike as upright; of 100 warped photographs 1 to 1.5 find every rotation


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
            Of the same extractor. Where descriptors know the rotated image's, `_match` gets b as seen in its image
            rotated as a's is: row by row, with other descriptors and places.

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
    """The features of two images with b as seen in its image rotated as a's is, where descriptors know that.

    Of the four quarter turns of b the one is taken by which the best features of both are most alike: those that are
    each other's nearest, each counted by how much more than half alike they are.

    Examples
    --------
    >>> import numpy as np
    >>> import tiepoints as tp
    >>> from tiepoints.matching.base import aligned
    >>> extractor, image = tp.load("mdnet", looks=4, max_keypoints=100), tp.read("examples/box.png")
    >>> a, b = extractor(image), extractor(np.rot90(image))
    >>> same, turned = aligned(a, b)
    >>> i, j = tp.match(a, b).indices.T
    >>> float(np.median((same.descriptors[i] * turned.descriptors[j]).sum(axis=1)).round(2))  # a quarter turn back
    1.0
    """
    kinds = [(each.descriptors.dtype, each.descriptors.shape[1]) for each in (a, b)]
    if a.rotations == 1 or b.rotations == 1 or kinds[0] != kinds[1]:
        return a, b
    return a, _seen_rotated(b, _turns(a, b))


def _turns(a: Features, b: Features) -> int:
    """The quarter turns of b, counter-clockwise, that make it most like a."""
    one, other = (each.vectors()[_best(each)] for each in (a, b))
    if not len(one) or not len(other):
        return 0
    if a.binary:
        other /= other.shape[1]  # bits are alike by -1 to 1, too
    strengths = []
    with limited(1):  # products so small gain nothing by threads of the BLAS, which then wait for more
        for turns in range(b.rotations):
            similar = one @ rotated(other, b.rotations, turns).T
            nearest = similar.max(axis=1)
            mutual = nearest == similar.max(axis=0)[similar.argmax(axis=1)]
            strengths.append(float(np.clip(nearest[mutual] - 0.5, 0, None).sum()))
    best = int(np.argmax(strengths))
    return best if strengths[best] > _CERTAIN * strengths[0] else 0


def _seen_rotated(features: Features, turns: int) -> Features:
    """The features as those of the image rotated counter-clockwise by quarter turns."""
    if not turns:
        return features
    places, (width, height), angles = features.keypoints, features.image_size, features.angles
    for _ in range(turns):
        places = np.stack([places[:, 1], width - 1 - places[:, 0]], axis=1)
        width, height = height, width
    if angles is not None:
        angles = np.asarray(np.arctan2(*(wave(angles - turns * np.pi / 2) for wave in (np.sin, np.cos))), np.float32)
    return replace(features.rotated(turns), keypoints=places, image_size=(width, height), angles=angles)


def _best(features: Features) -> NDArray[np.intp]:
    """The rows of the features with the highest scores; of equal ones, as those of a map all are, the first."""
    return np.argsort(-features.scores, kind="stable")[:_COMPARED]


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
