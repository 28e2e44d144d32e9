"""The interface of every extractor, and what all of them share: checks, resizing, masks, the best N."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..cutouts import continued, is_cut_out, off_the_outline
from ..errors import InvalidInputError, TiepointsError, is_lack_of_memory, one_line
from ..features import Features
from ..images import resize_to, to_grey, with_mask
from ..progress import shown_progress
from .inputs import is_batch, mask_for, mask_of, paired
from .metadata import Metadata, WeightFile

__all__ = ["Detections", "Extractor", "Metadata", "WeightFile"]


# Methods get images of at least this edge: OpenCV's pyramids fail with errors of their own on a few pixels.
_SMALLEST = 16


class Detections(NamedTuple):
    """What a method found in the image that it was given, in that image's own pixels and in any order.

    The fields are those of `Features`, which `Extractor` makes of them.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.extraction import Detections, Extractor, Metadata
    >>> class Corners(Extractor):
    ...     metadata = Metadata(name="corners", summary="", paper="", code_licence="Apache-2.0", descriptor_size=2)
    ...     def _detect(self, image, mask):
    ...         height, width = image.shape
    ...         points = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], np.float32)
    ...         unit = np.tile(np.array([1, 0], np.float32), (4, 1))
    ...         return Detections(points, unit, np.ones(4, np.float32))
    >>> Corners()("examples/box.png")
    Features(4 keypoints, 2-D, image 324x223)
    """

    keypoints: NDArray[np.float32]
    descriptors: NDArray[Any]
    scores: NDArray[np.float32]
    sets: NDArray[np.uint8] | None = None
    scales: NDArray[np.float32] | None = None
    angles: NDArray[np.float32] | None = None
    uncertainties: NDArray[np.float32] | None = None
    teacher_basis: NDArray[np.float32] | None = None
    rotations: int = 1


def failure_of(kind: type[Extractor], error: Exception) -> TiepointsError | None:
    """One line about an exception of another package's extractor, with both names; None for any other exception."""
    package = kind.__module__.partition(".")[0]
    if package == __name__.partition(".")[0] or isinstance(error, TiepointsError) or is_lack_of_memory(error):
        return None
    what, words = type(error).__name__, one_line(error)
    said = what if words == what else f"{what}: {words}"
    return TiepointsError(f"extractor {kind.metadata.name} ({package}): {said}")


class Prepared(NamedTuple):
    """An image as `_detect` gets it, and how it was made."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None
    size: tuple[int, int]  # width and height of the original
    scale: tuple[float, float]  # pixels of the original that one of the image's spans
    kept: NDArray[np.bool_] | None  # where keypoints are wanted, of the original
    small_mask: NDArray[np.bool_] | None  # the same, of the image
    small_shape: tuple[int, ...]  # of the image before it was made larger


class Extractor(ABC):
    """Finds keypoints in an image and describes them: call it with an image.

    A new method defines `metadata` and `_detect`; everything that all methods share happens here.

    Parameters
    ----------
    max_keypoints : int
        How many features at most, the best by score.
    max_size : int, optional
        Shrink the image to this long edge (pixels) first; keypoints come back in pixels of the original.
    device : str, optional
        Where it computes. "cpu" for all methods; those that can use others say so.

    Raises
    ------
    InvalidInputError
        If an option is out of its range.
    """

    metadata: ClassVar[Metadata]
    #: Whether `_detect` gets RGB (H, W, 3) instead of grey (H, W).
    wants_colour: ClassVar[bool] = False
    #: Memory that `_detect` takes for a pixel, measured: images wait for each other by it.
    bytes_per_pixel: ClassVar[int] = 240

    def __init__(self, *, max_keypoints: int = 2048, max_size: int | None = None, device: str = "cpu") -> None:
        self.max_keypoints = checks.count(max_keypoints, "max_keypoints", least=1)
        self.max_size = None if max_size is None else checks.count(max_size, "max_size", least=1)
        if not isinstance(device, str) or device.lower() != "cpu":
            name = self.metadata.name
            raise InvalidInputError(f"device is {checks.shown(device)}, but {name} computes on the CPU only")
        self.device = "cpu"

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

    @overload
    def __call__(self, image: list[Any] | tuple[Any, ...] | Iterator[Any], mask: Any = None) -> list[Features]: ...
    @overload
    def __call__(self, image: Any, mask: Any = None) -> Features: ...
    def __call__(self, image: Any, mask: Any = None) -> Features | list[Features]:
        """Extract the features of an image, or of several.

        Parameters
        ----------
        image : path, PIL image, array, tensor, or several of them
            An array or a torch tensor is (H, W), (H, W, C) or (C, H, W) of uint8, or of floats in [0, 1]; 1, 3 (RGB) or
            4 channels (RGBA). Several are a list, an iterator, or an array or a tensor of four dimensions. What is
            transparent or holds no data has no keypoints, nor has a seam of 6 pixels along its outline, which would be
            found instead of what the image shows.
        mask : path, PIL image, array or tensor, optional
            Of the image's size; keypoints are kept where it is not 0 in any channel. NaN, and what a NumPy masked array
            masks, hide as 0 does. If the image is of one colour elsewhere, it was cut out, and the outline has a seam
            too. For several images: one for all, or a list. For
            images given by their paths also a folder: each image's mask has its name, that name with ``.png`` added, or
            with another suffix.

        Returns
        -------
        features : Features
            At most `max_keypoints`, best score first, none outside the image or the mask. Of several images a list.

        Raises
        ------
        ImageError
            If a file cannot be read.
        InvalidInputError
            If the image is of another type or shape, or the mask's size differs from the image's.

        Examples
        --------
        >>> import tiepoints as tp
        >>> extractor = tp.load("rootsift", max_keypoints=100)
        >>> extractor("examples/box.png")
        Features(100 keypoints, 128-D, image 324x223)
        >>> box, scene = extractor(["examples/box.png", "examples/box_in_scene.png"])
        """
        if is_batch(image):
            taken: dict[Path, Path] = {}
            made = self._several((one, mask_for(own, one, taken)) for one, own in paired(image, mask))
            return list(shown_progress(made, image, "extracting"))
        return self._one(image, mask_for(mask, image))

    def _several(self, given: Iterable[tuple[Any, Any]]) -> Iterator[Features]:
        """The features of images with their masks, one after another; a method may compute some of them together."""
        return (self._one(image, mask) for image, mask in given)

    def _one(self, image: Any, mask: Any) -> Features:
        """The features of one image."""
        prepared = self._prepared(image, mask)
        try:
            return self._finished(prepared, self._detect(prepared.image, prepared.mask))
        except cv2.error as error:  # OpenCV checks options only when it runs
            if is_lack_of_memory(error):
                raise MemoryError(one_line(error)) from error
            reason = one_line(error)
            raise InvalidInputError(f"{self!r} cannot do this: {reason}") from error
        except Exception as error:
            if (told := failure_of(type(self), error)) is not None:
                raise told from error
            raise

    def _prepared(self, image: Any, mask: Any) -> Prepared:
        """What `_detect` gets for an image, and what `_finished` has to know."""
        pixels, visible = with_mask(image)
        height, width = pixels.shape[:2]
        kept = mask_of(mask, (height, width))
        if kept is not None and is_cut_out(pixels, kept):
            visible = kept if visible is None else kept & visible
        if visible is not None:
            kept = visible if kept is None else kept & visible
            pixels = continued(pixels, visible)
        if self.wants_colour:
            pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
        else:
            pixels = to_grey(pixels)
        small, scale = resize_to(pixels, self.max_size)
        small_mask = None if kept is None else _resized(kept, small.shape[:2])
        if small_mask is not None and visible is not None:
            small_mask &= off_the_outline(_resized(visible, small.shape[:2]))
        wanted = None if small_mask is None else small_mask.astype(np.uint8) * np.uint8(255)
        seen, seen_mask = _at_least(_SMALLEST, small, wanted)
        return Prepared(seen, seen_mask, (width, height), scale, kept, small_mask, small.shape[:2])

    def _finished(self, prepared: Prepared, found: Detections) -> Features:
        """The features of an image, from what was found in what was prepared of it."""
        (width, height), scale = prepared.size, prepared.scale
        keypoints = np.asarray(found.keypoints, np.float32).reshape(-1, 2)
        keep = _inside(keypoints, prepared.small_mask, prepared.small_shape)
        if scale != (1.0, 1.0):
            keypoints = np.asarray((keypoints + 0.5) * np.array(scale) - 0.5, np.float32)
        keep &= _inside(keypoints, prepared.kept, (height, width))
        order = np.argsort(-np.asarray(found.scores)[keep], kind="stable")[: self.max_keypoints]
        rows = np.flatnonzero(keep)[order]

        def pick(values: NDArray[Any] | None, factor: float = 1) -> NDArray[Any] | None:
            return None if values is None else values[rows] * np.asarray(factor, values.dtype)

        larger = float(np.sqrt(scale[0] * scale[1]))
        return Features(
            keypoints[rows],
            found.descriptors[rows],
            np.asarray(found.scores)[rows],
            (width, height),
            sets=pick(found.sets),
            scales=pick(found.scales, larger),
            angles=pick(found.angles),
            uncertainties=pick(found.uncertainties, larger),
            teacher_basis=found.teacher_basis,
            rotations=found.rotations,
        )

    def pixels_at_once(self, width: int, height: int) -> int:
        """How many pixels of such an image `_detect` works on together: all, unless it cuts it into tiles."""
        return width * height

    def in_any_rotation(self) -> Extractor | None:
        """The extractor whose features match however images are rotated to each other; None if there is none.

        MDNet's descriptors then know those of the rotated image, see `Features.rotations`. What is invariant to
        rotation is returned as it is.
        """
        return self if self.metadata.rotation_invariant else None

    def upright_only(self) -> Extractor:
        """The extractor whose features are compared as they are, where matchers would try rotations; else itself."""
        return self

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


def _resized(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask for the image that was resized to (height, width)."""
    if mask.shape == shape:
        return mask.copy()
    small = cv2.resize(mask.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(small > 0, bool)


def _inside(
    keypoints: NDArray[np.float32], mask: NDArray[np.bool_] | None, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Whether each keypoint lies on a pixel of an image of (height, width), and of its mask; (N,) bool."""
    column, row = np.rint(keypoints).astype(np.int64).T
    inside = (column >= 0) & (row >= 0) & (column < shape[1]) & (row < shape[0])
    if mask is not None:
        inside[inside] = mask[row[inside], column[inside]]
    return np.asarray(inside)
