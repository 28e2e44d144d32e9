"""How good a network is while it trains: pairs of photographs that it never sees, and sets in HPatches' layout."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets.planar import read_sequences
from ..extraction import Extractor
from ..features import Features
from ..images import read
from ..metrics.planar import PlanarScores, Profile, score_planar_pair
from .cache import content_key
from .pairs import Batch, Pairs
from .photographs import Photographs
from .warps import Warps

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
        pairs = Pairs(held_out, Warps(size=320, bend=0.0), seed=0)
        self._synthetic = [pairs.batch([number]) for number in range(len(held_out))]
        self._planar = read_sequences(folders) if folders else None
        digest = hashlib.sha256()
        for pair in self._synthetic:
            digest.update(pair.images.cpu().numpy().tobytes())
        if self._planar is not None:
            for planar in self._planar.pairs:
                for name in (planar.a, planar.b):
                    digest.update(content_key(self._planar.images[name]).encode())
                digest.update(np.asarray(planar.homography, np.float64).tobytes())
        self.digest = digest.hexdigest()
        """Tells whether the figures of two trainings can be compared."""

    def __str__(self) -> str:
        planar = f" and {len(self._planar.pairs)} planar pairs" if self._planar is not None else ""
        return f"{len(self._synthetic)} photographs held out{planar}"

    def __call__(self, extractor: Extractor) -> dict[str, Figures]:
        """Figures by the benchmark's name: "synthetic", and "planar" where there are folders."""
        warped = []
        for pair in self._synthetic:
            a, b = (extractor(image) for image in (pair.images[:, 0].cpu().numpy() * 255).astype(np.uint8))
            warped.append(score_planar_pair(a, b, _homography(pair), _PROTOCOL))
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


def _homography(pair: Batch) -> NDArray[np.float64]:
    """The homography from a to b of the only pair of a batch, which has no bend, from four of its points."""
    low, high = 0.25 * pair.images.shape[-1], 0.75 * pair.images.shape[-1]
    corners = torch.tensor([[[low, low], [high, low], [high, high], [low, high]]], device=pair.images.device)
    mapped = pair.b.from_photo(pair.a.to_photo(corners))
    there, back = (points[0].cpu().numpy().astype(np.float32) for points in (corners, mapped))
    return np.asarray(cv2.getPerspectiveTransform(there, back), np.float64)


def _mean(scores: list[PlanarScores]) -> Figures:
    rows = [(score.mma[0], score.mma[2], score.ms[2], score.matches, score.cost) for score in scores]
    return Figures(*np.mean(rows, axis=0).tolist())
