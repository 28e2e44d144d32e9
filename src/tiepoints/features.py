"""What every part of tiepoints passes on: the features of an image, and the matches between two images."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InvalidInputError

__all__ = ["Features", "Matches"]

Float32 = NDArray[np.float32]

_INT8_ONE = np.float32(127)  # what 1 becomes in descriptors of 8 bits


def _frozen(values: ArrayLike, dtype: Any, what: str) -> NDArray[Any]:
    """A read-only C-contiguous view or copy; what the caller handed over stays writable for the caller."""
    try:
        array = np.ascontiguousarray(values, dtype=dtype).view()
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{what} cannot be read as an array of {np.dtype(dtype).name}: {error}") from error
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False, repr=False)
class Features:
    """The keypoints of one image with their descriptors, best score first when an extractor made them.

    Parameters
    ----------
    keypoints : (N, 2) float32
        [x, y] in pixels of the original image; the centre of the top-left pixel is (0, 0).
    descriptors : (N, D) float32, (N, D) int8 or (N, B) uint8
        float32: unit-length vectors, compared by dot product. int8: such vectors times 127, rounded. uint8: 8 B bits,
        packed, compared by Hamming distance.
    scores : (N,) float32
        The detector's confidence; only the order has a meaning across methods.
    image_size : (int, int)
        (width, height) of the original image in pixels.
    sets : (N,) uint8, optional
        Which of the extractor's complementary sets the keypoint belongs to; only the same sets are matched.
    scales : (N,) float32, optional
        Diameter in pixels of the region that the detector found (OpenCV's ``KeyPoint.size``; twice SIFT's sigma).
    angles : (N,) float32, optional
        Orientation in radians from the x axis towards the y axis (y points down: clockwise as seen).

    Raises
    ------
    InvalidInputError
        If lengths differ, a shape is wrong, or a coordinate or a descriptor is not finite.
    """

    keypoints: Float32
    descriptors: NDArray[np.float32] | NDArray[np.uint8] | NDArray[np.int8]
    scores: Float32
    image_size: tuple[int, int]
    sets: NDArray[np.uint8] | None = None
    scales: Float32 | None = None
    angles: Float32 | None = None

    def __post_init__(self) -> None:
        descriptors = np.asarray(self.descriptors)
        kind = descriptors.dtype if descriptors.dtype in (np.uint8, np.int8) else np.float32
        frozen: dict[str, Any] = {
            "keypoints": _frozen(self.keypoints, np.float32, "keypoints"),
            "descriptors": _frozen(descriptors, kind, "descriptors"),
            "scores": _frozen(self.scores, np.float32, "scores"),
        }
        n = len(frozen["keypoints"]) if frozen["keypoints"].ndim else -1
        if frozen["keypoints"].shape != (n, 2):
            raise InvalidInputError(f"keypoints have shape {frozen['keypoints'].shape}, but (N, 2) is expected")
        if frozen["descriptors"].ndim != 2 or len(frozen["descriptors"]) != n:
            raise InvalidInputError(f"descriptors have shape {descriptors.shape}, but ({n}, D) is expected")
        for name, dtype in (("sets", np.uint8), ("scales", np.float32), ("angles", np.float32)):
            value = getattr(self, name)
            frozen[name] = None if value is None else _frozen(value, dtype, name)
        for name in ("scores", "sets", "scales", "angles"):
            if frozen[name] is not None and frozen[name].shape != (n,):
                raise InvalidInputError(f"{name} have shape {frozen[name].shape}, but ({n},) is expected")
        for name in ("keypoints", "descriptors", "scores"):
            if not np.isfinite(frozen[name]).all():
                raise InvalidInputError(f"{name} hold values that are not finite")
        width, height = self.image_size
        if int(width) != width or int(height) != height or width < 0 or height < 0:
            raise InvalidInputError(f"image_size is {self.image_size}, but (width, height) in whole pixels is expected")
        frozen["image_size"] = (int(width), int(height))
        for name, value in frozen.items():
            object.__setattr__(self, name, value)

    @classmethod
    def empty(cls, image_size: tuple[int, int], size: int, dtype: Any = np.float32) -> Features:
        """No keypoints, with descriptors of `size` columns of `dtype`."""
        return cls(np.zeros((0, 2), np.float32), np.zeros((0, size), dtype), np.zeros(0, np.float32), image_size)

    @property
    def binary(self) -> bool:
        """Whether the descriptors are packed bits, to be compared by Hamming distance."""
        return bool(self.descriptors.dtype == np.uint8)

    @cached_property
    def odd_length(self) -> float | None:
        """The length of a descriptor that is neither near 1 nor 0, as blank patches give it, or None; None for bits."""
        if self.binary:
            return None
        vectors = self.vectors()
        squared = np.einsum("nd,nd->n", vectors, vectors)
        odd = squared[(np.abs(squared - 1) > 0.05) & (squared > 0)]  # int8 is off by up to 1 % a component
        return float(np.sqrt(odd[0])) if len(odd) else None

    def __len__(self) -> int:
        return len(self.keypoints)

    def __repr__(self) -> str:
        bits = f"{8 * self.descriptors.shape[1]} bits" if self.binary else f"{self.descriptors.shape[1]}-D"
        sets = "" if self.sets is None else f", {len(np.unique(self.sets))} sets"
        return f"Features({len(self)} keypoints, {bits}{sets}, image {self.image_size[0]}x{self.image_size[1]})"

    def select(self, which: ArrayLike | slice) -> Features:
        """Those features that a boolean mask (N,), an array of indices (K,) or a slice picks, in its order."""
        index = which if isinstance(which, slice) else np.asarray(which)
        if isinstance(index, np.ndarray) and index.dtype != bool:
            index = index.astype(np.intp)
        arrays = {
            f.name: getattr(self, f.name)[index]
            for f in fields(self)
            if f.name != "image_size" and getattr(self, f.name) is not None
        }
        return replace(self, **arrays)

    def top(self, count: int) -> Features:
        """The `count` features with the highest scores, best first; ties keep their order."""
        return self.select(np.argsort(-self.scores, kind="stable")[:count])

    def to_int8(self) -> Features:
        """The same with descriptors of 8 bits a value: a quarter of the memory and of the space on disk.

        Unit vectors become bytes by rounding 127 times each value. Binary descriptors, and those of 8 bits, stay.
        """
        if self.descriptors.dtype != np.float32:
            return self
        vectors = np.clip(np.asarray(self.descriptors, np.float32), -1, 1)
        return replace(self, descriptors=np.rint(vectors * _INT8_ONE).astype(np.int8))

    def vectors(self) -> Float32:
        """The descriptors as (N, D) float32 whose dot product compares them; they themselves, where they are floats.

        Bits become -1 and 1, whose product is the number of bits less twice the Hamming distance, exactly.
        """
        if self.binary:
            return np.unpackbits(np.asarray(self.descriptors, np.uint8), axis=1).astype(np.float32) * 2 - 1
        vectors = self.descriptors.astype(np.float32, copy=False)
        return vectors / _INT8_ONE if self.descriptors.dtype == np.int8 else vectors


@dataclass(frozen=True, eq=False, repr=False)
class Matches:
    """Pairs of features of two images that show the same point.

    Parameters
    ----------
    indices : (M, 2) int32
        Row numbers [in the first image's features, in the second's].
    scores : (M,) float32
        Similarity of the two descriptors in [-1, 1]: the dot product of unit vectors, or for binary descriptors
        1 - 2 * Hamming distance / number of bits.
    """

    indices: NDArray[np.int32]
    scores: Float32

    def __post_init__(self) -> None:
        indices = _frozen(self.indices, np.int32, "indices")
        scores = _frozen(self.scores, np.float32, "scores")
        if indices.ndim != 2 or indices.shape[1] != 2:
            raise InvalidInputError(f"indices have shape {indices.shape}, but (M, 2) is expected")
        if scores.shape != (len(indices),):
            raise InvalidInputError(f"scores have shape {scores.shape}, but ({len(indices)},) is expected")
        object.__setattr__(self, "indices", indices)
        object.__setattr__(self, "scores", scores)

    @classmethod
    def empty(cls) -> Matches:
        """No matches."""
        return cls(np.zeros((0, 2), np.int32), np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"Matches({len(self)})"

    def select(self, which: ArrayLike | slice) -> Matches:
        """Those matches that a boolean mask (M,), an array of indices or a slice picks."""
        index = which if isinstance(which, slice) else np.asarray(which)
        if isinstance(index, np.ndarray) and index.dtype != bool:
            index = index.astype(np.intp)
        return Matches(self.indices[index], self.scores[index])

    def points(self, a: Features, b: Features) -> tuple[Float32, Float32]:
        """The matched keypoints of both images, row by row.

        Returns
        -------
        points_a, points_b : (M, 2) float32
            [x, y] in pixels, pixel-centre convention.

        Raises
        ------
        InvalidInputError
            If an index points outside `a` or `b`: the matches belong to other features.
        """
        if len(self) and (self.indices.min() < 0 or (self.indices.max(axis=0) >= (len(a), len(b))).any()):
            raise InvalidInputError(
                f"matches refer to keypoint {self.indices.max(axis=0).tolist()} but the features hold "
                f"{len(a)} and {len(b)}: these matches were made from other features"
            )
        return a.keypoints[self.indices[:, 0]], b.keypoints[self.indices[:, 1]]
