"""LIFT's detector: a sum of signed maxima of 16 filters in a pyramid, by a model that tiepoints trained.

Yi, Trulls, Lepetit and Fua, "LIFT: Learned Invariant Feature Transform", ECCV 2016 (arXiv 1603.09114), section 3.2. The
paper looks for maxima in places and scales; what the filters answer in one level does not compare with another level
here, so each level gives its own best, as many as its area asks for. That is Key.Net's way.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import checks
from .base import Detections, Extractor
from .metadata import Metadata
from .patch_model import open_model
from .peaks import allowed_places, find_peaks

__all__ = ["MODEL", "LIFTDetector", "ScoreModel"]

Float32 = NDArray[np.float32]

#: The model that comes with tiepoints.
MODEL = Path(__file__).parents[1] / "weights" / "lift-detector.onnx"

_REACH = 8  # pixels to each side of a filter's middle (paper)
# ours: how many times smaller each level is than the one before, and of a level the pixels to each side of a keypoint
# without another one, and the diameter of a keypoint.
_STEP, _RADIUS, _DIAMETER = 2**0.5, 2, 5.0
_LEVELS = 6
_SQUARE = 1e4  # pixels of a level for which a keypoint's rank counts


class ScoreModel:
    """Scores of the places of an image, by a model of `training.lift_detector`.

    Parameters
    ----------
    path : path
    threads : int, optional
        All cores by default.

    Raises
    ------
    WeightsError
        If the file is no such model, or damaged.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path, self.threads = path, threads
        #: What its makers wrote into it: how it was trained.
        self.about: dict[str, Any]
        self._session, self.about = open_model(path, threads, "images")

    def __call__(self, image: NDArray[np.uint8]) -> Float32:
        """Scores (H, W) of a grey image (H, W): logarithms of how likely keypoints are, but for a constant."""
        around = cv2.copyMakeBorder(image, *(_REACH,) * 4, borderType=cv2.BORDER_REPLICATE)
        values = around.astype(np.float32) / np.float32(max(image.std(), 1))
        (scores,) = self._session.run(["scores"], {"images": values[None, None]})
        return np.ascontiguousarray(scores[0, 0], np.float32)

    def __reduce__(self) -> tuple[Any, ...]:
        return ScoreModel, (self.path, self.threads)


class LIFTDetector(Extractor):
    """LIFT's detector, trained by tiepoints: keypoints with scales, no descriptors.

    Parameters
    ----------
    threads : int, optional
        Threads of the network; all cores by default.
    **options
        Those of `Extractor`.
    """

    metadata: ClassVar[Metadata] = Metadata(
        name="lift-detector",
        summary="LIFT's detector trained by tiepoints: not the authors' weights",
        paper="Yi, Trulls, Lepetit and Fua, LIFT: Learned Invariant Feature Transform, ECCV 2016",
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0",
        descriptor_size=0,
        learned=True,
    )
    bytes_per_pixel: ClassVar[int] = 200

    def __init__(self, *, threads: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.threads = None if threads is None else checks.count(threads, "threads", least=1)
        self._model = MODEL  # on which the features depend, for those who keep them
        self._network = ScoreModel(MODEL, self.threads)

    def with_threads(self, count: int) -> LIFTDetector:
        """The same extractor with its network on so many threads, unless it was told how many."""
        if self.threads is not None:
            return self
        other = copy.copy(self)
        other.threads, other._network = count, ScoreModel(MODEL, count)
        return other

    def _detect(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Detections:
        places: list[Float32] = []
        scores: list[Float32] = []
        scales: list[Float32] = []
        for number in range(_LEVELS):
            level = _smaller(image, _STEP**number)
            if number and min(level.shape) <= 2 * _REACH:
                break
            known = mask
            if mask is not None:
                known = np.asarray(cv2.resize(mask, level.shape[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
            peaks = find_peaks(self._network(level)[None], allowed_places(level, known, _REACH), _RADIUS, 0)
            best = np.argsort(-peaks.values, kind="stable")[: self.max_keypoints]
            ratio = np.array(image.shape[::-1], np.float32) / np.array(level.shape[::-1], np.float32)
            places.append(np.asarray((peaks.keypoints[best] + 0.5) * ratio - 0.5, np.float32))
            # By how many stronger ones there are on so many pixels: the same score is as rare in every level.
            rank = np.arange(len(best), dtype=np.float32)
            scores.append(np.asarray(1 / (1 + rank * (_SQUARE / level.size)), np.float32))
            scales.append(np.full(len(best), _DIAMETER * ratio.mean(), np.float32))
        xy, score, scale = (np.concatenate(parts) for parts in (places, scores, scales))
        best = np.argsort(-score, kind="stable")[: self.max_keypoints]
        return Detections(xy[best], np.zeros((len(best), 0), np.float32), score[best], scales=scale[best])


def _smaller(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """An image shrunk by a factor, blurred before so that nothing aliases."""
    if factor == 1:
        return image
    size = tuple(max(round(length / factor), 1) for length in image.shape[::-1])
    blurred = cv2.GaussianBlur(image, (0, 0), 0.5 * np.sqrt(factor**2 - 1))
    return np.asarray(cv2.resize(blurred, size, interpolation=cv2.INTER_LINEAR), np.uint8)
