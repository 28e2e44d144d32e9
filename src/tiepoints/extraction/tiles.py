"""Large images in parts: what a network of a limited view needs to see around each, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

__all__ = ["Tile", "tiles"]


class Tile(NamedTuple):
    """A rectangle of an image, and the greater one that is looked at for its sake; rows and columns."""

    inner: tuple[slice, slice]
    outer: tuple[slice, slice]


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


def _cuts(length: int, edge: int, stride: int) -> list[tuple[int, int]]:
    count = ceil(length / edge)
    step = ceil(length / count / stride) * stride
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def _wider(start: int, stop: int, length: int, margin: int) -> slice:
    return slice(max(start - margin, 0), min(stop + margin, length))
