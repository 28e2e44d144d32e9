"""The features of one image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks, drawing
from ..checks import array, frozen, size
from ..errors import InvalidInputError, counted
from . import interop
from .descriptors import check_rotations, refuse_quantised, rotated
from .rows import Keypoint, index_of, is_number, locked

if TYPE_CHECKING:
    import cv2

__all__ = ["Features"]

Float32 = NDArray[np.float32]

_INT8_ONE = np.float32(127)  # what 1 becomes in descriptors of 8 bits

_OPTIONAL: tuple[tuple[str, Any, float | None], ...] = (
    ("sets", np.uint8, None),
    ("scales", np.float32, 0),
    ("angles", np.float32, None),
    ("uncertainties", np.float32, 0),
)


@dataclass(frozen=True, eq=False, repr=False)
class Features:
    """The keypoints of one image with their descriptors, best score first when an extractor made them.

    They can be indexed by a number (a `Keypoint`), a slice, a mask or numbers (`Features`), and iterated.

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
    uncertainties : (N,) float32, optional
        Standard deviation of the keypoint's place along x or y in pixels, as the extractor estimates it.
    teacher_basis : (E, D) float32, optional
        Where the descriptors are coordinates in the space of another extractor's, from which this one learned: the
        directions of these coordinates, see `to_teacher`. Files of features do not keep it.
    rotations : int
        4 where descriptors have four parts of D / 4 numbers that say the same of the image as it is, and rotated
        counter-clockwise by 90, 180 and 270 degrees: see `rotated`. Matchers find out by which of these two images
        differ. 1 where descriptors say nothing of the rotated image.

    Raises
    ------
    InvalidInputError
        If lengths differ, a shape is wrong, a value is not finite, or does not fit into its type: 300 is no set.

    Examples
    --------
    >>> import tiepoints as tp
    >>> features = tp.load("mdnet", max_keypoints=100)(tp.read("examples/desk_1.jpg"))
    >>> features
    Features(100 keypoints, 64-D, 2 sets, image 640x480)
    >>> features[:10].keypoints.shape
    (10, 2)
    >>> x, y, score, *_ = features[0]
    """

    keypoints: Float32
    descriptors: NDArray[np.float32] | NDArray[np.uint8] | NDArray[np.int8]
    scores: Float32
    image_size: tuple[int, int]
    sets: NDArray[np.uint8] | None = None
    scales: Float32 | None = None
    angles: Float32 | None = None
    uncertainties: Float32 | None = None
    teacher_basis: Float32 | None = None
    rotations: int = 1

    def __post_init__(self) -> None:
        keypoints = array(self.keypoints, "keypoints", ("N", 2), np.float32)
        n = len(keypoints)
        kind = self.descriptors.dtype if checks.has(self.descriptors, "dtype") else None
        kept = np.dtype(str(kind).removeprefix("torch.")) if str(kind).endswith(("uint8", "int8")) else np.float32
        checked: dict[str, Any] = {
            "keypoints": keypoints,
            "descriptors": array(self.descriptors, "descriptors", (n, "D"), kept),
            "scores": array(self.scores, "scores", (n,), np.float32),
        }
        for name, dtype, least in _OPTIONAL:
            value = getattr(self, name)
            checked[name] = None if value is None else array(value, name, (n,), dtype, least=least)
        refuse_quantised(checked["descriptors"])
        check_rotations(checked["descriptors"], self.rotations)
        if self.teacher_basis is not None:
            columns = checked["descriptors"].shape[1]
            checked["teacher_basis"] = array(self.teacher_basis, "teacher_basis", ("E", columns), np.float32)
        for name, value in checked.items():
            object.__setattr__(self, name, None if value is None else frozen(value))
        object.__setattr__(self, "image_size", size(self.image_size, least=0))
        object.__setattr__(self, "rotations", int(self.rotations))

    @classmethod
    def empty(cls, image_size: tuple[int, int], columns: int, dtype: Any = np.float32) -> Features:
        """No keypoints, with descriptors of so many columns of `dtype`."""
        return cls(np.zeros((0, 2), np.float32), np.zeros((0, columns), dtype), np.zeros(0, np.float32), image_size)

    @property
    def binary(self) -> bool:
        """Whether the descriptors are packed bits, to be compared by Hamming distance."""
        return bool(self.descriptors.dtype == np.uint8)

    @cached_property
    def wrong_norm(self) -> float | None:
        """The length of a descriptor that is neither near 1 nor 0, as blank patches give it, or None; None for bits."""
        if self.binary:
            return None
        vectors = self.vectors()
        squared = np.einsum("nd,nd->n", vectors, vectors)
        odd = squared[(np.abs(squared - 1) > 0.05) & (squared > 0)]  # int8 is off by up to 1 % a component
        return float(np.sqrt(odd[0])) if len(odd) else None

    def __len__(self) -> int:
        return len(self.keypoints)

    @overload
    def __getitem__(self, which: int) -> Keypoint: ...
    @overload
    def __getitem__(self, which: ArrayLike | slice) -> Features: ...
    def __getitem__(self, which: Any) -> Keypoint | Features:
        """One `Keypoint` by its number; `Features` by a slice, a boolean mask (N,) or an array of numbers (K,)."""
        if not is_number(which):
            return self.select(which)
        row = range(len(self))[which]
        x, y = self.keypoints[row].tolist()
        optional = (getattr(self, name) for name, _, _ in _OPTIONAL)
        return Keypoint(x, y, float(self.scores[row]), *(None if v is None else v[row].item() for v in optional))

    def __iter__(self) -> Iterator[Keypoint]:
        columns: list[NDArray[Any]] = [self.keypoints[:, 0], self.keypoints[:, 1], self.scores]
        columns += [
            np.full(len(self), None) if v is None else v for v in (getattr(self, name) for name, _, _ in _OPTIONAL)
        ]
        return map(Keypoint, *(column.tolist() for column in columns))

    def __repr__(self) -> str:
        size = self.descriptors.shape[1]
        bits = f"{8 * size} bits" if self.binary else f"{size}-D"
        sets = "" if self.sets is None else f", {counted(len(np.unique(self.sets)), 'set')}"
        width, height = self.image_size
        return f"Features({counted(len(self), 'keypoint')}, {bits}{sets}, image {width}x{height})"

    def select(self, which: ArrayLike | slice) -> Features:
        """Those features that a boolean mask (N,), an array of indices (K,) or a slice picks, in its order.

        Raises
        ------
        InvalidInputError
            If the mask has another length, or an index is no whole number or out of range.
        """
        index = index_of(which, len(self), "features")
        arrays: dict[str, Any] = {
            f.name: locked(getattr(self, f.name)[index])
            for f in fields(self)
            if f.name not in ("image_size", "teacher_basis", "rotations") and getattr(self, f.name) is not None
        }
        return replace(self, **arrays)

    def top(self, count: int) -> Features:
        """The `count` features with the highest scores, best first; ties keep their order."""
        return self.select(np.argsort(-self.scores, kind="stable")[: checks.count(count, "count")])

    def rotated(self, turns: int) -> Features:
        """The same with the descriptors that these places have in the rotated image; keypoints stay where they are.

        Parameters
        ----------
        turns : int
            By so many quarter turns counter-clockwise the image is rotated: 0 to 3.

        Raises
        ------
        InvalidInputError
            If the descriptors say nothing of the rotated image: `rotations` is 1.

        Examples
        --------
        >>> import numpy as np
        >>> import tiepoints as tp
        >>> extractor, image = tp.load("mdnet", max_keypoints=50), tp.read("examples/box.png")
        >>> features = extractor(image).rotated(1)
        >>> len(tp.match(features, extractor(np.rot90(image)), min_similarity=0.8)) > 20
        True
        """
        if checks.count(turns, "turns", most=3) and self.rotations == 1:
            raise InvalidInputError("these descriptors say nothing of the rotated image: features.rotations is 1")
        return replace(self, descriptors=rotated(self.descriptors, self.rotations, turns)) if turns else self

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

    def to_teacher(self) -> Features:
        """The same with descriptors in the space of the extractor that this one learned from.

        Each is its D numbers times the transpose of a basis, brought to unit length, so that what was trained on the
        teacher's descriptors, such as LightGlue, can work with these.

        Returns
        -------
        features : Features
            With (N, E) float32 descriptors of unit length; E is 128 for MD-Net's weights, which ALIKED-n16 taught.

        Raises
        ------
        InvalidInputError
            If the features have no `teacher_basis`: their extractor had no teacher, or they come from a file.

        Examples
        --------
        >>> import tiepoints as tp
        >>> tp.load("mdnet", max_keypoints=100)("examples/desk_1.jpg").to_teacher()
        Features(100 keypoints, 128-D, 2 sets, image 640x480)
        """
        if self.teacher_basis is None:
            raise InvalidInputError(
                "these features have no basis of a teacher: MD-Net's have it as the extractor gives them, and lose it "
                "in a file; for those read from one use extractor.to_teacher(features)"
            )
        vectors = interop.unit(self.vectors() @ self.teacher_basis.T)
        return replace(self, descriptors=vectors, teacher_basis=None, rotations=1)

    def to_opencv(self) -> tuple[list[cv2.KeyPoint], NDArray[np.float32] | NDArray[np.uint8]]:
        """OpenCV's key points, and the descriptors as its matchers take them: uint8 for bits, else float32.

        Of a key point `response` is the score, `class_id` the set, size 1 without scales; `rotations` have no place.

        Examples
        --------
        >>> import cv2, tiepoints as tp
        >>> image = tp.read("examples/box.png")
        >>> features = tp.load("orb", max_keypoints=5)(image)
        >>> keypoints, descriptors = features.to_opencv()
        >>> len(keypoints), descriptors.shape
        (5, (5, 32))
        """
        points = interop.to_opencv(self.keypoints, self.scores, self.sets, self.scales, self.angles)
        return points, np.array(self.descriptors, np.uint8) if self.binary else np.array(self.vectors())

    @classmethod
    def from_opencv(
        cls, keypoints: Sequence[cv2.KeyPoint], descriptors: ArrayLike | None, image_size: tuple[int, int]
    ) -> Features:
        """Features from what OpenCV's ``detectAndCompute`` or `to_opencv` returns, the latter with their sets.

        Parameters
        ----------
        keypoints : sequence of cv2.KeyPoint
        descriptors : (N, D) float32 or (N, B) uint8, or None
            Floats are brought to unit length (OpenCV's SIFT has about 512), bytes are bits. None, as OpenCV gives it
            where there is no key point, or for key points alone: no columns.
        image_size : (int, int)
            (width, height) in pixels.

        Raises
        ------
        InvalidInputError
            If these are no key points, or their number is not that of the descriptors.
        """
        points, sizes, angles, responses = interop.from_opencv(keypoints)
        vectors = np.zeros((len(points), 0), np.float32) if descriptors is None else interop.unit(descriptors)
        return cls(points, vectors, responses, image_size, sets=interop.sets_of(keypoints), scales=sizes, angles=angles)

    def to_torch(self, device: str | None = None) -> dict[str, Any]:
        """A dictionary of torch tensors with the names of the fields; what is None is left out.

        Parameters
        ----------
        device : str, optional
            Where they go, for instance "cuda".

        Returns
        -------
        tensors : dict
            keypoints (N, 2), descriptors (N, D), scores (N,), image_size (2,); sets, scales, angles, uncertainties (N,)
            and rotations, where there are any.

        Raises
        ------
        MissingDependencyError
            If torch is not installed.
        """
        names = {f.name for f in fields(self)} - {"teacher_basis", *(["rotations"] if self.rotations == 1 else [])}
        values = {name: getattr(self, name) for name in names}
        return interop.tensors({name: value for name, value in values.items() if value is not None}, device)

    @classmethod
    def from_torch(cls, tensors: Mapping[str, Any], image_size: tuple[int, int] | None = None) -> Features:
        """Features from a dictionary of tensors or arrays, of one image; the inverse of `to_torch` and `to_lightglue`.

        Names are those of the fields, or LightGlue's (``keypoint_scores``, ``oris``), or kornia's (``lafs``,
        ``responses``). A first dimension of length 1 is taken off. Tensors may be on any device, require grad, or be of
        16 bits.

        Parameters
        ----------
        tensors : mapping
            keypoints (or lafs) and descriptors at least; without scores all are 1.
        image_size : (int, int), optional
            (width, height) in pixels, where the dictionary has none; (0, 0) where nobody knows it.

        Raises
        ------
        InvalidInputError
            If keypoints, descriptors or the image's size are missing, or there are several images in the batch.

        Examples
        --------
        >>> import numpy as np, tiepoints as tp
        >>> given = {"lafs": np.array([[[6, 0, 30], [0, 6, 40]]]), "descriptors": np.eye(1, 8)}
        >>> tp.Features.from_torch(given, image_size=(64, 48)).keypoints.tolist()
        [[30.0, 40.0]]
        """
        values = interop.from_tensors(tensors)
        if image_size is None and "image_size" not in values:
            raise InvalidInputError(
                "the dictionary has no image_size: give image_size=(width, height), or (0, 0) where nobody knows it"
            )
        if image_size is None:
            image_size = array(values["image_size"], "image_size", (2,), np.int32).tolist()
        return cls(**values | {"image_size": image_size})

    @classmethod
    def from_lightglue(cls, tensors: Mapping[str, Any], image_size: tuple[int, int] | None = None) -> Features:
        """Features from one image's dictionary of LightGlue's, its own or kornia's; the same as `from_torch`."""
        return cls.from_torch(tensors, image_size)

    def to_lightglue(self, device: str | None = None) -> dict[str, Any]:
        """One image's dictionary for LightGlue, its own or kornia's: tensors with a batch of 1.

        Returns
        -------
        tensors : dict
            keypoints (1, N, 2), descriptors (1, N, D), keypoint_scores (1, N), image_size (1, 2), and scales and oris
            (1, N) where there are any.

        Raises
        ------
        MissingDependencyError
            If torch is not installed.
        """
        values = {"keypoints": self.keypoints, "descriptors": self.vectors(), "keypoint_scores": self.scores}
        values["image_size"] = np.array(self.image_size, np.float32)
        values |= {name: v for name, v in (("scales", self.scales), ("oris", self.angles)) if v is not None}
        return {name: tensor[None] for name, tensor in interop.tensors(values, device).items()}

    def to_lafs(self, mr_size: float = interop.MR_SIZE, device: str | None = None) -> Any:
        """Local affine frames for kornia, a tensor (1, N, 2, 3), as of OpenCV's key points.

        A frame's columns are its axes, rotated by the angle and `mr_size` times the scale long, and its position; the
        scale is 1 and the angle 0 where there are none. `from_torch` takes frames of kornia under the name "lafs".

        Parameters
        ----------
        mr_size : float
            kornia's own is 6.
        device : str, optional

        Raises
        ------
        MissingDependencyError
            If torch is not installed.

        Examples
        --------
        >>> import tiepoints as tp
        >>> features = tp.load("orb", max_keypoints=100)("examples/box.png")
        >>> features.to_lafs().shape  # doctest: +SKIP
        torch.Size([1, 100, 2, 3])
        """
        size = checks.number(mr_size, "mr_size", above=0)
        frames = interop.lafs(self.keypoints, self.scales, self.angles, size)
        return interop.tensors({"lafs": frames[None]}, device)["lafs"]

    def _repr_png_(self) -> bytes | None:
        """The keypoints on white, as a notebook shows them."""
        return drawing.png(drawing.scatter(self.keypoints, self.sets, self.image_size))
