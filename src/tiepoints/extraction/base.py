"""The interface of every extractor, and what all of them share: checks, resizing, masks, the best N."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from ..errors import InvalidInputError
from ..features import Features
from ..images import resize_to, to_grey, with_mask
from .metadata import Metadata, WeightFile

__all__ = ["Detections", "Extractor", "Metadata", "WeightFile"]


# Methods get images of at least this edge: OpenCV's pyramids fail with errors of their own on a few pixels.
_SMALLEST = 16


class Detections(NamedTuple):
    """What a method found in the image that it was given, in that image's own pixels and in any order.

    The fields are those of `Features`, which `Extractor` makes of them.
    """

    keypoints: NDArray[np.float32]
    descriptors: NDArray[Any]
    scores: NDArray[np.float32]
    sets: NDArray[np.uint8] | None = None
    scales: NDArray[np.float32] | None = None
    angles: NDArray[np.float32] | None = None


class Extractor(ABC):
    """Finds keypoints in an image and describes them: call it with an image.

    A new method defines `metadata` and `_detect`; everything that all methods share happens here.

    Parameters
    ----------
    max_keypoints : int
        How many features at most, the best by score.
    max_size : int, optional
        Shrink the image to this long edge (pixels) first; keypoints come back in pixels of the original.

    Raises
    ------
    InvalidInputError
        If an option is out of its range.
    """

    metadata: ClassVar[Metadata]
    #: Whether `_detect` gets RGB (H, W, 3) instead of grey (H, W).
    wants_colour: ClassVar[bool] = False

    def __init__(self, *, max_keypoints: int = 2048, max_size: int | None = None) -> None:
        self.max_keypoints = checks.count(max_keypoints, "max_keypoints", least=1)
        self.max_size = None if max_size is None else checks.count(max_size, "max_size", least=1)

    @abstractmethod
    def _detect(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Detections:
        """Detect and describe.

        Parameters
        ----------
        image : (H, W) uint8 grey, or (H, W, 3) RGB where `wants_colour`
        mask : (H, W) uint8 or None
            Where it is 0 no keypoint is wanted; `Extractor` drops those that come all the same, so a method may ignore
            it, but then finds fewer than `max_keypoints`.
        """

    def __call__(self, image: Any, mask: ArrayLike | None = None) -> Features:
        """Extract the features of an image.

        Parameters
        ----------
        image : (H, W) or (H, W, 3) uint8, path, PIL image or torch tensor
            Grey or RGB, as `tiepoints.read` returns it; or the path of a photograph; or an image of PIL or torch, see
            `tiepoints.images.as_image`. Of files and PIL images, what is transparent or without data has no keypoints.
        mask : (H, W), optional
            Keypoints are kept where it is not 0.

        Returns
        -------
        features : Features
            At most `max_keypoints`, best score first, none outside the image or the mask.

        Raises
        ------
        ImageError
            If the file cannot be read.
        InvalidInputError
            If the image is not uint8 or has another shape, or the mask's size differs from the image's.
        """
        pixels, shown = with_mask(image)
        height, width = pixels.shape[:2]
        wanted = _as_mask(mask, (height, width))
        if shown is not None:
            wanted = _as_mask(shown if wanted is None else shown & (wanted != 0), (height, width))
        if self.wants_colour:
            pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
        else:
            pixels = to_grey(pixels)
        small, scale = resize_to(pixels, self.max_size)
        small_mask = wanted
        if wanted is not None and small.shape[:2] != (height, width):
            resized = cv2.resize(wanted, small.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
            small_mask = np.asarray(resized, np.uint8)
        try:
            found = self._detect(*_at_least(_SMALLEST, small, small_mask))
        except cv2.error as error:  # OpenCV checks options only when it runs
            reason = " ".join(str(error).split())
            raise InvalidInputError(f"{self!r} cannot do this: {reason}") from error

        keypoints = np.asarray(found.keypoints, np.float32).reshape(-1, 2)
        if scale != (1.0, 1.0):
            keypoints = np.asarray((keypoints + 0.5) * np.array(scale) - 0.5, np.float32)
        keep = _inside(keypoints, (width, height), wanted)
        order = np.argsort(-np.asarray(found.scores)[keep], kind="stable")[: self.max_keypoints]
        rows = np.flatnonzero(keep)[order]

        def pick(values: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if values is None else values[rows]

        scales = pick(found.scales)
        return Features(
            keypoints[rows],
            found.descriptors[rows],
            np.asarray(found.scores)[rows],
            (width, height),
            sets=pick(found.sets),
            scales=None if scales is None else scales * np.float32(np.sqrt(scale[0] * scale[1])),
            angles=pick(found.angles),
        )

    def with_threads(self, count: int) -> Extractor:
        """The same extractor on so many threads, if it has threads of its own and was not told how many.

        OpenCV's methods share OpenCV's threads, and are returned as they are.
        """
        return self

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"<{self.metadata.name} extractor: {options}>"


def _at_least(
    edge: int, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Image and mask with their last pixels repeated to the right and below, where an edge is shorter than `edge`."""
    below, right = (max(0, edge - length) for length in image.shape[:2])
    if not below and not right:
        return image, mask

    def pad(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(cv2.copyMakeBorder(array, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)

    return pad(image), None if mask is None else pad(mask)


def _as_mask(mask: ArrayLike | None, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
    if mask is None:
        return None
    array = np.asarray(mask)
    if array.shape != shape:
        raise InvalidInputError(f"the mask has shape {array.shape}, but the image's is {shape}")
    return np.ascontiguousarray(array != 0).astype(np.uint8) * np.uint8(255)


def _inside(keypoints: NDArray[np.float32], size: tuple[int, int], mask: NDArray[np.uint8] | None) -> NDArray[np.bool_]:
    """Whether each keypoint lies on a pixel of the image, and of the mask; (N,) bool."""
    width, height = size
    column, row = np.rint(keypoints).astype(np.int64).T
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    if mask is not None:
        inside[inside] = mask[row[inside], column[inside]] != 0
    return np.asarray(inside)
