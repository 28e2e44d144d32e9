"""How good a network is while it trains: pairs of photographs that it never sees, and sets in HPatches' layout."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..datasets.planar import read_sequences
from ..extraction import Extractor
from ..features import Features
from ..images import read
from ..metrics.planar import PlanarScores, Profile, score_planar_pair
from .pairs import Photographs, Warps, make_pair

__all__ = ["Development", "Figures"]

_PROTOCOL = Profile("development", "d2net without its homographies", estimator=None)


class Figures(NamedTuple):
    """Means over the pairs, by the protocol `d2net`; t is the largest error in pixels of a correct match."""

    mma_1: float  # correct / proposed matches, t = 1
    mma_3: float
    ms_3: float  # correct matches / mean number of keypoints in the shared area, t = 3
    matches: float
    cost: float  # descriptors that meet, as a share of all pairs: 1 / k for balanced sets

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
        Sets in HPatches' layout, read as `tiepoints bench hpatches` does.

    Raises
    ------
    StorageError
        If a folder holds no sequence.
    """

    def __init__(self, held_out: Photographs, folders: Sequence[Path]) -> None:
        warps = Warps(size=320, bend=0.0)
        self._synthetic = [make_pair(held_out[i], warps, np.random.default_rng((0, i))) for i in range(len(held_out))]
        self._planar = read_sequences(folders) if folders else None
        digest = hashlib.sha256()
        for pair in self._synthetic:
            digest.update(pair.image_a.tobytes())
        for planar in self._planar.pairs if self._planar is not None else ():
            digest.update(f"{planar.a} {planar.b}\n".encode())
        self.digest = digest.hexdigest()
        """Tells whether the figures of two trainings can be compared."""

    def __str__(self) -> str:
        planar = f" and {len(self._planar.pairs)} planar pairs" if self._planar is not None else ""
        return f"{len(self._synthetic)} photographs held out{planar}"

    def __call__(self, extractor: Extractor) -> dict[str, Figures]:
        """Figures by the benchmark's name: "synthetic", and "planar" where there are folders."""
        warped = []
        for pair in self._synthetic:
            a, b = (extractor((image * 255).astype(np.uint8)) for image in (pair.image_a, pair.image_b))
            warped.append(score_planar_pair(a, b, _homography(pair.b_from_a), _PROTOCOL))
        results = {"synthetic": _mean(warped)}
        if self._planar is not None:
            results["planar"] = self._sequences(extractor)
        return results

    def _sequences(self, extractor: Extractor) -> Figures:
        assert self._planar is not None
        features: dict[str, Features] = {}
        scores = []
        for pair in self._planar.pairs:
            if pair.homography is None:
                continue
            if pair.a not in features:  # all pairs of a sequence share their first image; no other is kept
                features = {pair.a: extractor(read(self._planar.images[pair.a]))}
            second = extractor(read(self._planar.images[pair.b]))
            scores.append(score_planar_pair(features[pair.a], second, pair.homography, _PROTOCOL))
        return _mean(scores)


def _homography(field: NDArray[np.float32]) -> NDArray[np.float64]:
    """The homography behind a field (S, S, 2) that has no bend, from its corners."""
    last = len(field) - 1
    corners = np.array([[0, 0], [last, 0], [last, last], [0, last]], np.float32)
    mapped = np.array([field[y, x] for x, y in corners.astype(int)], np.float32)
    return np.asarray(cv2.getPerspectiveTransform(corners, mapped), np.float64)


def _mean(scores: list[PlanarScores]) -> Figures:
    rows = [(score.mma[0], score.mma[2], score.ms[2], score.matches, score.cost) for score in scores]
    return Figures(*np.mean(rows, axis=0).tolist())
