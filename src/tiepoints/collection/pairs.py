"""Which images are matched with which: lists of pairs of names, without repetition and without self-pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .. import checks
from ..checks import count, did_you_mean, flag, instance, several
from ..errors import InvalidInputError
from ..files import PathLike, composed, read_lines
from .photographs import natural_order

__all__ = ["Pair", "exhaustive", "from_file", "sequential", "union"]

Pair = tuple[str, str]


def exhaustive(names: Iterable[str]) -> list[Pair]:
    """Every image with every other one: n (n - 1) / 2 pairs.

    Parameters
    ----------
    names : iterable of str
        Names, or a Collection; taken in natural order.

    Returns
    -------
    pairs : list of (str, str)

    Examples
    --------
    >>> from tiepoints.collection import exhaustive
    >>> exhaustive(["b", "c", "a"])
    [('a', 'b'), ('a', 'c'), ('b', 'c')]
    """
    checks.iterable(names, "names", "names")
    listed = _listed(names)
    return [(a, b) for i, a in enumerate(listed) for b in listed[i + 1 :]]


def sequential(names: Iterable[str], window: int = 10, *, loops: bool = False) -> list[Pair]:
    """Every image with those that follow it, in the natural order of the numbers in their names: for videos.

    Parameters
    ----------
    names : iterable of str
    window : int
        With how many that follow.
    loops : bool
        Also with those that are 2, 4, 8, ... windows later, so that a camera that comes back is noticed; COLMAP's
        quadratic overlap is the same idea. Adds about log2(n / window) pairs for each image.

    Returns
    -------
    pairs : list of (str, str)

    Raises
    ------
    InvalidInputError
        If the window is less than 1.

    Examples
    --------
    >>> from tiepoints.collection import sequential
    >>> sequential(["frame10", "frame9", "frame1"], 1)
    [('frame1', 'frame9'), ('frame9', 'frame10')]
    """
    checks.iterable(names, "names", "names")
    count(window, "window", least=1)
    flag(loops, "loops")
    listed = _listed(names)
    steps = list(range(1, min(window, len(listed)) + 1))
    if loops:
        step = 2 * window
        while step < len(listed):
            steps.append(step)
            step *= 2
    return [(a, listed[i + step]) for i, a in enumerate(listed) for step in steps if i + step < len(listed)]


def from_file(path: PathLike, names: Iterable[str]) -> list[Pair]:
    """The pairs that a text file lists: two names on each line, as hloc and COLMAP write them.

    Parameters
    ----------
    path : path
        Names that hold spaces are separated by a tab. Empty lines and those that begin with # are skipped.
    names : iterable of str
        The images that there are, or a Collection.

    Returns
    -------
    pairs : list of (str, str)

    Raises
    ------
    StorageError
        If the file cannot be read.
    InvalidInputError
        If a line is no pair, or names an image that is not there, or there is no line.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tiepoints.collection import from_file
    >>> _ = Path("pairs.txt").write_text("a.jpg b.jpg")
    >>> from_file("pairs.txt", ["a.jpg", "b.jpg", "c.jpg"])
    [('a.jpg', 'b.jpg')]
    """
    path = checks.path(path, "path")
    checks.iterable(names, "names", "names")
    known = {composed(name): name for name in names}
    pairs = []
    for number, line in enumerate(read_lines(path, "a list of pairs"), start=1):
        if not line.strip():
            continue
        parts = line.split("\t") if "\t" in line.strip() else line.split()
        parts = [part if composed(part) in known else part.strip() for part in parts]
        unknown = [name for name in parts if composed(name) not in known]
        if line.lstrip().startswith("#") and (unknown or len(parts) != 2):  # a comment: files may be called so, too
            continue
        if len(parts) != 2:
            raise InvalidInputError(
                f"{path}, line {number}: not two names with a space between them, or a tab where names hold spaces"
            )
        if unknown:
            hint = did_you_mean(unknown[0], list(known.values()))
            raise InvalidInputError(f"{path}, line {number}: there is no image {unknown[0]!r}: {hint}")
        a, b = (known[composed(part)] for part in parts)
        pairs.append((a, b))
    if not pairs:
        raise InvalidInputError(f"{path}: the list names no pair")
    return union(pairs)


def union(*several: Sequence[Pair]) -> list[Pair]:
    """All pairs of several lists, each once, in whichever direction it came first; none of an image with itself.

    Parameters
    ----------
    *several : sequence of (str, str)

    Returns
    -------
    pairs : list of (str, str)

    Examples
    --------
    >>> from tiepoints.collection import union
    >>> union([("a", "b")], [("b", "a"), ("a", "a"), ("b", "c")])
    [('a', 'b'), ('b', 'c')]
    """
    found: dict[Pair, None] = {}
    for a, b in (pair for pairs in several for pair in pairs):
        if a != b and (b, a) not in found:
            found[a, b] = None
    return list(found)


def _listed(names: Iterable[str]) -> list[str]:
    listed = [instance(name, "a name", str) for name in several(names, "names", "a list of names or a Collection")]
    return sorted(dict.fromkeys(listed), key=natural_order)
