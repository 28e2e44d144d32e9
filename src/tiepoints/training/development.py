"""How good a network is while it trains: pairs of photographs that it never sees, and sets in HPatches' layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..extraction import Extractor
from ..features import Features
from ..geometry import project
from ..images import SUFFIXES, read
from ..matching import match
from .pairs import Photographs, Warps, make_pair

__all__ = ["Development", "Figures"]

Forward = Callable[[NDArray[np.float32]], NDArray[np.float64]]


class Figures(NamedTuple):
    """Means over the pairs; t is the largest error in pixels of a match that counts as correct."""

    mma_1: float  # correct / proposed matches, t = 1
    mma_3: float
    ms_3: float  # correct matches / mean number of keypoints in the shared area, t = 3
    matches: float

    @property
    def score(self) -> float:
        """What decides which weights are the best so far; ours: it asks for precision, accuracy and yield alike."""
        return (self.mma_1 + self.mma_3 + self.ms_3) / 3


class Development:
    """The development benchmark of a training.

    Parameters
    ----------
    held_out : Photographs
        Photographs that training never sees; each gives one synthetic pair.
    folders : sequence of path
        Sets in HPatches' layout: `<sequence>/1.*`, `2.*` ... and `H_1_2` ...
    """

    def __init__(self, held_out: Photographs, folders: Sequence[Path]) -> None:
        warps = Warps(size=320, bend=0.0)
        self._synthetic = [make_pair(held_out[i], warps, np.random.default_rng((0, i))) for i in range(len(held_out))]
        self._sequences = [sequence for folder in folders for sequence in sorted(folder.iterdir()) if sequence.is_dir()]

    def __call__(self, extractor: Extractor) -> dict[str, Figures]:
        """Figures by the benchmark's name: "synthetic", and "planar" where there are folders."""
        results = {"synthetic": _mean(list(self._warped(extractor)))}
        if self._sequences:
            results["planar"] = _mean([pair for path in self._sequences for pair in _sequence(extractor, path)])
        return results

    def _warped(self, extractor: Extractor) -> Iterator[Figures]:
        for pair in self._synthetic:
            a, b = (extractor((image * 255).astype(np.uint8)) for image in (pair.image_a, pair.image_b))
            yield _figures(a, b, _lookup(pair.b_from_a), _lookup(pair.a_from_b))


def _sequence(extractor: Extractor, folder: Path) -> Iterator[Figures]:
    images = {path.stem: path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES}
    first = extractor(read(images["1"]))
    for k in sorted(images.keys() - {"1"}):
        matrix = np.loadtxt(folder / f"H_1_{k}")

        yield _figures(
            first, extractor(read(images[k])), partial(project, matrix), partial(project, np.linalg.inv(matrix))
        )


def _lookup(field: NDArray[np.float32]) -> Forward:
    """The map of a field (S, S, 2) at points between its pixels."""

    def at(points: NDArray[np.float32]) -> NDArray[np.float64]:
        if len(points) == 0:
            return np.zeros((0, 2))
        places = np.ascontiguousarray(points, np.float32)[None]
        empty: NDArray[np.float32] = np.zeros(0, np.float32)
        return np.asarray(cv2.remap(field, places, empty, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0], float)

    return at


def _figures(a: Features, b: Features, b_from_a: Forward, a_from_b: Forward) -> Figures:
    matches = match(a, b)
    points_a, points_b = matches.points(a, b)
    error = np.linalg.norm(b_from_a(points_a) - points_b, axis=1)
    shared = _inside(b_from_a(a.keypoints), b.image_size).sum(), _inside(a_from_b(b.keypoints), a.image_size).sum()
    count = max(len(matches), 1)
    return Figures(
        float((error <= 1).sum() / count),
        float((error <= 3).sum() / count),
        float((error <= 3).sum() / max(sum(shared) / 2, 1)),
        float(len(matches)),
    )


def _inside(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    return np.asarray(((points > 0) & (points < np.array(size) - 1)).all(axis=1))


def _mean(figures: list[Figures]) -> Figures:
    return Figures(*np.mean(figures, axis=0).tolist())
