"""How good a network is while it trains: pairs of photographs that it never sees, and sets of every kind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..extraction import Extractor
from ..features import Features
from ..images import read
from .cache import content_key
from .judges import find_judged, judge, planar_figures, score_of
from .pairs import Batch, Pairs
from .photographs import Photographs
from .warps import Warps

__all__ = ["Development", "Figures"]

#: By kind of set ("synthetic", and those of `judges`), then by the figure's name.
Figures = dict[str, dict[str, float]]


class Development:
    """The development benchmark of a training.

    Parameters
    ----------
    held_out : Photographs
        Photographs that training never sees; each gives one synthetic pair.
    folders : sequence of path
        Sets in the layouts that `judges` knows.

    Raises
    ------
    StorageError
        If a folder holds nothing to judge by.
    """

    def __init__(self, held_out: Photographs, folders: Sequence[Path]) -> None:
        pairs = Pairs(held_out, Warps(size=320, bend=0.0), seed=0)
        self._synthetic = [pairs.batch([number]) for number in range(len(held_out))]
        self._judged = find_judged(folders) if folders else None
        digest = hashlib.sha256()
        for pair in self._synthetic:
            digest.update(pair.images.cpu().numpy().tobytes())
        if self._judged is not None:
            for known in self._judged.pairs:
                for name in (known.a, known.b):
                    digest.update(content_key(self._judged.images[name]).encode())
                for truth in (known.homography, known.correspondences):
                    digest.update(b"" if truth is None else truth.tobytes())
                if known.group in self._judged.scenes:
                    views = self._judged.scenes[known.group].views
                    for name in (known.a, known.b):
                        digest.update(b"".join(m.tobytes() for m in views[name.rpartition("/")[2]].camera))
        self.digest = digest.hexdigest()
        """Tells whether the figures of two trainings can be compared."""

    def __str__(self) -> str:
        judged = f" and {self._judged}" if self._judged is not None else ""
        return f"{len(self._synthetic)} photographs held out{judged}"

    def __call__(self, extractor: Extractor) -> Figures:
        """The means over the pairs or scenes of each kind."""
        warped = []
        for pair in self._synthetic:
            a, b = (extractor(image) for image in (pair.images[:, 0].cpu().numpy() * 255).astype(np.uint8))
            warped.append(planar_figures(a, b, _homography(pair)))
        results = {"synthetic": {name: float(np.mean([row[name] for row in warped])) for name in warped[0]}}
        if self._judged is not None:
            results |= judge(_Extracted(extractor, self._judged.images), self._judged).figures
        return results

    @staticmethod
    def score(figures: Figures) -> float:
        """What decides which weights are the best so far: all kinds of sets count alike."""
        return score_of(figures)


class _Extracted(Mapping[str, Features]):
    """Features of images when they are asked for; the last few are kept."""

    def __init__(self, extractor: Extractor, images: Mapping[str, Path], most: int = 40) -> None:
        self._extractor, self._images, self._most = extractor, images, most
        self._kept: dict[str, Features] = {}

    def __getitem__(self, name: str) -> Features:
        if name not in self._kept:
            if len(self._kept) >= self._most:
                del self._kept[next(iter(self._kept))]
            self._kept[name] = self._extractor(read(self._images[name]))
        return self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)


def _homography(pair: Batch) -> NDArray[np.float64]:
    """The homography from a to b of the only pair of a batch, which has no bend, from four of its points."""
    low, high = 0.25 * pair.images.shape[-1], 0.75 * pair.images.shape[-1]
    corners = torch.tensor([[[low, low], [high, low], [high, high], [low, high]]], device=pair.images.device)
    mapped = pair.b.from_photo(pair.a.to_photo(corners))
    there, back = (points[0].cpu().numpy().astype(np.float32) for points in (corners, mapped))
    return np.asarray(cv2.getPerspectiveTransform(there, back), np.float64)
