"""The matches of many pairs in an HDF5 file laid out as hloc's, whole or not there.

Layout (hloc, ``match_features.py``): the group of a pair is called ``a/b``, both names with '-' for '/'; in it
``matches0``, for each keypoint of a the row in b or -1, and ``matching_scores0``. tiepoints keeps the true names in the
group's attribute ``names``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import InvalidInputError
from ..features import Matches
from ..files import PathLike, check_name, composed, forms
from .hdf5 import Reader, Writer
from .reading import array_of, attribute_of, linked, set_texts

Pair = tuple[str, str]


class MatchReader(Reader[Pair, Matches]):
    """The matches of many pairs in an HDF5 file, as a read-only mapping from (name_a, name_b).

    A pair that is stored as (b, a) is found as (a, b) too, with its columns swapped. Files of hloc are read; they do
    not tell a '/' from a '-' in a name, so iteration gives their names with '-', but the true names find the pair as
    well. Matches come in the order of the first image's keypoints; scores that are missing are 1.

    Parameters
    ----------
    path : str or path
        The file. Use the reader in a ``with`` block, or call `close`.

    Raises
    ------
    StorageError
        As `FeatureReader`.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.storage import MatchReader, MatchWriter
    >>> with MatchWriter("matches.h5", overwrite=True) as writer:
    ...     writer.write(("a.jpg", "b.jpg"), tp.Matches([[0, 1], [2, 0]], [0.75, 0.5]), counts=(3, 2))
    >>> with MatchReader("matches.h5") as reader:
    ...     print(reader.pairs(), reader["b.jpg", "a.jpg"].indices.tolist())
    [('a.jpg', 'b.jpg')] [[1, 0], [0, 2]]
    """

    what = "matches"
    marker = "matches0"

    def pairs(self) -> list[Pair]:
        """The pairs as they are stored, in the file's order."""
        return list(self)

    def _list(self) -> list[str]:
        return [name for name in super()._list() if name.count("/") == 1]

    def _key(self, name: str) -> Pair:
        a, _, b = name.partition("/")
        # Only a name with a '-' may have been another one; not opening the rest keeps long lists quick.
        a, b = (_names_of(self._file[name]) if "-" in name else None) or (a, b)
        return self._checked(a), self._checked(b)

    def _find(self, key: object) -> Any:
        if not (isinstance(key, tuple) and len(key) == 2 and all(isinstance(name, str) for name in key)):
            return None
        try:
            several = [(a, b) for a in forms(check_name(key[0])) for b in forms(check_name(key[1]))]
        except InvalidInputError:
            return None
        for a, b in [way for pair in several for way in (pair, pair[::-1])]:
            group = self._at(_group_of((a, b)))
            if group is not None and _names_of(group) in (None, (a, b)):
                return group
        return None

    def _value(self, key: Pair, group: Any) -> Matches:
        matches0 = checks.array(array_of(linked(group, "matches0"), "matches0"), "matches0", None, np.int32).ravel()
        rows = np.flatnonzero(matches0 >= 0)
        scores = np.ones(len(rows), np.float32)
        if "matching_scores0" in group:
            scores0 = array_of(linked(group, "matching_scores0"), "matching_scores0")
            scores = scores0.astype(np.float32).ravel()[rows]
        indices = np.stack([rows, matches0[rows]], axis=1)
        swapped = composed(group.name.strip("/")) != composed(_group_of(key))
        return Matches(indices[:, ::-1] if swapped else indices, scores)


class MatchWriter(Writer[Pair]):
    """Write the matches of many pairs into one HDF5 file; use it in a ``with`` block.

    Interruption, adding to an existing file, parameters and errors: as `FeatureWriter`. (a, b) and (b, a) are
    one pair, which keeps the direction that it was first written in.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.storage import MatchWriter
    >>> with MatchWriter("matches.h5", overwrite=True) as writer:
    ...     writer.write(("a.jpg", "b.jpg"), tp.Matches([[0, 1]], [0.75]), counts=(3, 2))
    ...     print(("b.jpg", "a.jpg") in writer)
    True
    """

    what = "matches"

    def __init__(self, path: PathLike, *, made_with: str = "", overwrite: bool = False) -> None:
        super().__init__(path, made_with=made_with, overwrite=overwrite)
        self._stored: dict[str, Pair | None] = {}  # by group; None where the file does not tell the names

    def __contains__(self, pair: object) -> bool:
        if not (isinstance(pair, tuple) and len(pair) == 2):
            return False
        return any(_group_of(p) in self._stored and self._stored[_group_of(p)] in (None, p) for p in (pair, pair[::-1]))

    def __len__(self) -> int:
        return len(self._stored)

    def write(self, pair: Pair, matches: Matches, counts: tuple[int, int]) -> None:
        """Keep the matches of a pair, in place of those it may have had.

        Parameters
        ----------
        pair : (str, str)
            The names of both images.
        matches : Matches
            At most one for each keypoint of the first image: the format has no room for more. Their order is not kept.
        counts : (int, int)
            How many keypoints both images have.

        Raises
        ------
        InvalidInputError
            If an index is outside `counts`, a keypoint of the first image has two matches, a name cannot be a key (see
            `FeatureWriter.write`), or hloc's format has the same key for another pair ('a/b' and 'a-b').
        StorageError
            If the disk is full or not writable.
        """
        first, second = (check_name(name) for name in pair)
        indices = checks.instance(matches, "matches", Matches).indices
        if self._stored.get(_group_of((second, first)), ()) in (None, (second, first)):
            first, second, counts, indices = second, first, counts[::-1], indices[:, ::-1]
        pair = first, second
        known = self._stored.get(_group_of(pair))
        if known not in (None, pair):
            raise InvalidInputError(f"hloc's format has one key for the pairs {known} and {pair}: rename an image")
        if len(indices) and (indices.min() < 0 or (indices.max(axis=0) >= counts).any()):
            raise InvalidInputError(
                f"matches of {pair} refer to keypoint {indices.max(axis=0).tolist()}, but the images have {counts}"
            )
        if len(np.unique(indices[:, 0])) != len(indices):
            raise InvalidInputError(
                f"a keypoint of {first!r} has two matches in {second!r}, but hloc's format holds one: match mutually"
            )
        matches0 = np.full(counts[0], -1, np.int32)
        scores0 = np.zeros(counts[0], np.float32)
        matches0[indices[:, 0]] = indices[:, 1]
        scores0[indices[:, 0]] = matches.scores
        self._append(pair, {"matches0": matches0, "matching_scores0": scores0})
        self._know(pair)

    def _know_old(self) -> None:
        with MatchReader(self.path) as old:
            self.check_made_with(self.path, old.made_with)
            for group in old.groups().values():
                self._stored[group] = _names_of(old._file[group])

    def _know(self, key: Pair) -> None:
        self._stored[_group_of(key)] = key

    def _group(self, key: Pair) -> str:
        return _group_of(key)

    def _put(self, group: Any, key: Pair, arrays: dict[str, NDArray[Any]]) -> None:
        set_texts(group, "names", *key)
        super()._put(group, key, arrays)


def _group_of(pair: Pair) -> str:
    return "/".join(name.replace("/", "-") for name in pair)


def _names_of(group: Any) -> Pair | None:
    """The true names of a pair's images, which tiepoints keeps in an attribute and hloc does not."""
    names = attribute_of(group, "names")
    if names is None or names.dtype.kind != "S" or names.shape != (2,):
        return None
    return names[0].decode(), names[1].decode()
