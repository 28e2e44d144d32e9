"""Large images in parts: what a method of a limited view needs to see around each, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tile", "largest", "tiles"]


class Tile(NamedTuple):
    """A rectangle of an image, and the greater one that is looked at for its sake; rows and columns."""

    inner: tuple[slice, slice]
    outer: tuple[slice, slice]

    def own(self, keypoints: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Move (N, 2) keypoints of the outer part into the image, in place; (N,) whether the inner part has each."""
        below, right = self.outer
        keypoints += (right.start, below.start)
        x, y = np.rint(keypoints).T
        rows, columns = self.inner
        return np.asarray((x >= columns.start) & (x < columns.stop) & (y >= rows.start) & (y < rows.stop))


def tiles(height: int, width: int, *, edge: int, margin: int, stride: int) -> Iterator[Tile]:
    """The tiles of an image: their inner parts cover it, each pixel once.

    Parameters
    ----------
    height, width : int
        Of the image, in pixels.
    edge : int
        Of an inner part, at most, where the image does not fit into one tile; all are about equally large.
    margin : int
        How far an outer part reaches beyond the inner one, where the image does not end before.
    stride : int
        Outer parts begin at multiples of it.
    """
    for top, bottom in _cuts(height, edge, stride):
        for left, right in _cuts(width, edge, stride):
            yield Tile(
                (slice(top, bottom), slice(left, right)),
                (_wider(top, bottom, height, margin), _wider(left, right, width, margin)),
            )


def largest(height: int, width: int, *, edge: int, margin: int, stride: int) -> int:
    """Pixels of the largest outer part of an image's tiles; arguments as of `tiles`.

    Examples
    --------
    >>> largest(100, 100, edge=60, margin=8, stride=1)  # four tiles of 50x50, and 8 more to two sides
    3364
    """
    rows, columns = (
        max(part.stop - part.start for part in (_wider(*cut, length, margin) for cut in _cuts(length, edge, stride)))
        for length in (height, width)
    )
    return int(rows * columns)


def _cuts(length: int, edge: int, stride: int) -> list[tuple[int, int]]:
    count = ceil(length / edge)
    step = ceil(length / count / stride) * stride
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def _wider(start: int, stop: int, length: int, margin: int) -> slice:
    return slice(max(start - margin, 0), min(stop + margin, length))
