"""Features and matches as others have them, OpenCV's objects and torch's tensors, to and from arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import array, has, numbers, shown
from ..errors import InvalidInputError, one_line
from ..optional import require

if TYPE_CHECKING:
    import cv2

__all__ = [
    "MR_SIZE",
    "column",
    "from_dmatches",
    "from_lafs",
    "from_opencv",
    "from_tensors",
    "lafs",
    "matches_from_tensors",
    "sets_of",
    "tensors",
    "to_arrays",
    "to_dmatches",
    "to_lightglue",
    "to_opencv",
    "unit",
]

Float32 = NDArray[np.float32]

#: What kornia measures a local affine frame in: its scale is so many times that of OpenCV's key point.
MR_SIZE = 6.0

# Name of a field -> what others call it.
_NAMES = {"scores": ("keypoint_scores", "detection_scores", "responses"), "angles": ("oris",)}


def to_arrays(points: Sequence[cv2.KeyPoint]) -> Float32:
    """OpenCV's key points as rows [x, y, size, angle in radians, response]; (N, 5) float32.

    OpenCV gives angles in degrees, clockwise as seen (x right, y down), which is our sense too; -1 means none.
    """
    rows = np.array([(*p.pt, p.size, p.angle, p.response) for p in points], np.float32).reshape(-1, 5)
    rows[:, 3] = np.deg2rad(rows[:, 3])
    return rows


def from_opencv(points: Sequence[cv2.KeyPoint]) -> tuple[Float32, Float32, Float32 | None, Float32]:
    """Positions (N, 2), sizes, angles in radians (None where no key point has one) and responses of key points."""
    try:
        rows = to_arrays(points)
        without = all(p.angle == -1 for p in points)
    except (TypeError, AttributeError, ValueError):
        raise InvalidInputError(
            f"keypoints are {shown(points)}, but a sequence of cv2.KeyPoint is expected; "
            "arrays of positions go to tiepoints.Features"
        ) from None
    return rows[:, :2], rows[:, 2], None if without else rows[:, 3], rows[:, 4]


def sets_of(points: Sequence[cv2.KeyPoint]) -> NDArray[np.uint8] | None:
    """The sets that `to_opencv` wrote as class_id; None where it did not.

    AKAZE and KAZE use class_id for the level of their scale space, but then have octaves and angles, too.
    """
    classes = [p.class_id for p in points]
    if not classes or not all(0 <= c <= 255 for c in classes) or any(p.octave or p.angle != -1 for p in points):
        return None
    return np.array(classes, np.uint8)


def to_opencv(
    keypoints: Float32,
    scores: Float32,
    sets: NDArray[np.uint8] | None,
    scales: Float32 | None,
    angles: Float32 | None,
) -> list[cv2.KeyPoint]:
    """The inverse of `from_opencv`; the set is the key point's class_id."""
    import cv2

    n = len(keypoints)
    sizes = np.ones(n) if scales is None else scales
    degrees = np.full(n, -1.0) if angles is None else np.rad2deg(angles) % 360
    classes = np.full(n, -1) if sets is None else sets
    columns = (keypoints[:, 0], keypoints[:, 1], sizes, degrees, scores, np.zeros(n, int), classes)
    return [cv2.KeyPoint(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def unit(descriptors: ArrayLike) -> NDArray[Any]:
    """OpenCV's descriptors as ours: bits as they are, vectors of unit length; SIFT's of 128 bytes are vectors."""
    given = numbers(descriptors, "descriptors")
    if given.dtype == np.uint8 and given.shape[-1:] != (128,):
        return given
    vectors = array(given, "descriptors", ("N", "D"), np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


def to_dmatches(indices: NDArray[np.int32], scores: Float32, bits: int | None) -> list[cv2.DMatch]:
    """OpenCV's matches with the distance that a similarity stands for."""
    import cv2

    similarity = scores.astype(np.float64)
    distance = np.sqrt(np.maximum(2 - 2 * similarity, 0)) if bits is None else np.rint((1 - similarity) / 2 * bits)
    columns = (indices[:, 0].tolist(), indices[:, 1].tolist(), distance.tolist())
    return [cv2.DMatch(*row) for row in zip(*columns, strict=True)]


def from_dmatches(matches: Sequence[cv2.DMatch]) -> NDArray[np.int32]:
    """Their row numbers, (M, 2)."""
    try:
        return np.array([(m.queryIdx, m.trainIdx) for m in matches], np.int32).reshape(-1, 2)
    except (TypeError, AttributeError):
        raise InvalidInputError(
            f"matches are {shown(matches)}, but a sequence of cv2.DMatch is expected; "
            "of knnMatch's rows take the first each, after a ratio test"
        ) from None


def tensors(values: Mapping[str, Any], device: str | None) -> dict[str, Any]:
    """Copies as tensors of torch on a device."""
    torch = require("torch", "a tensor", "learned")
    try:
        where = torch.device("cpu" if device is None else device)
        return {name: torch.from_numpy(np.array(value)).to(where) for name, value in values.items()}
    except Exception as error:  # torch has a class of its own for each kind of wrong device
        raise InvalidInputError(f"device is {shown(device)}, but torch cannot use it ({one_line(error)})") from None


def lafs(keypoints: Float32, scales: Float32 | None, angles: Float32 | None, mr_size: float) -> Float32:
    """Local affine frames (N, 2, 3) as kornia has them: [scale x rotation | position]."""
    size = np.full(len(keypoints), mr_size, np.float32) if scales is None else scales * np.float32(mr_size)
    angle = np.zeros(len(keypoints), np.float32) if angles is None else angles
    cos, sin = size * np.cos(angle), size * np.sin(angle)
    frames = np.stack([cos, -sin, keypoints[:, 0], sin, cos, keypoints[:, 1]], axis=1)
    return np.asarray(frames.reshape(-1, 2, 3), np.float32)


def from_lafs(given: Any, mr_size: float) -> dict[str, NDArray[Any]]:
    """Positions, scales (of the frame's area) and angles (of its first axis) of kornia's local affine frames."""
    frames = array(_single(given, 3, "lafs"), "lafs", ("N", 2, 3), np.float32)
    area = np.abs(np.linalg.det(frames[:, :, :2].astype(np.float64)))
    return {
        "keypoints": frames[:, :, 2],
        "scales": np.asarray(np.sqrt(area) / mr_size, np.float32),
        "angles": np.arctan2(frames[:, 1, 0], frames[:, 0, 0]),
    }


def _numpy(value: Any, what: str) -> NDArray[Any]:
    """A tensor on any device, of any type and history, as an array; whatever else as NumPy reads it."""
    if has(value, "detach", "cpu", "is_floating_point"):
        try:
            value = value.detach().cpu()
            value = (value.float() if value.is_floating_point() else value).numpy()
        except Exception as error:  # sparse ones, those of the device meta
            raise InvalidInputError(f"{what} cannot be read as an array ({one_line(error)})") from None
    return numbers(value, what)


def column(value: Any, what: str) -> NDArray[Any]:
    """Without a last dimension of length 1, as kornia's columns of numbers have it."""
    values = _numpy(value, what)
    return values[..., 0] if values.ndim > 1 and values.shape[-1] == 1 else values


def _single(value: Any, dimensions: int, what: str) -> NDArray[Any]:
    """Without the dimension of the batch, which must be 1."""
    values = _numpy(value, what)
    if values.ndim == dimensions + 1:
        if len(values) != 1:
            raise InvalidInputError(f"{what} are a batch of {len(values)} images; convert one at a time")
        values = values[0]
    if values.ndim != dimensions:
        raise InvalidInputError(f"{what} have shape {values.shape}, but {dimensions} dimensions are expected")
    return values


def from_tensors(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of Features that a dictionary of tensors holds, under our names or LightGlue's."""
    if not isinstance(given, Mapping):
        raise InvalidInputError(f"tensors are {shown(given)}, but a dictionary is expected")
    found: dict[str, Any] = {}
    sizes = {
        "keypoints": 2,
        "descriptors": 2,
        "scores": 1,
        "sets": 1,
        "scales": 1,
        "angles": 1,
        "uncertainties": 1,
        "image_size": 1,
        "rotations": 0,
    }
    for name, dimensions in sizes.items():
        for theirs in (name, *_NAMES.get(name, ())):
            if given.get(theirs) is not None:
                value = column(given[theirs], theirs) if theirs == "responses" else given[theirs]
                found[name] = _single(value, dimensions, theirs)
    if given.get("lafs") is not None:
        found = from_lafs(given["lafs"], MR_SIZE) | found
    missing = [name for name in ("keypoints", "descriptors") if name not in found]
    if missing:
        raise InvalidInputError(f"the dictionary has no {' and no '.join(missing)}, but {', '.join(map(str, given))}")
    found.setdefault("scores", np.ones(len(found["keypoints"]), np.float32))
    if "rotations" in found:
        found["rotations"] = found["rotations"].item()
    return found


def matches_from_tensors(given: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Row numbers (M, 2) and scores (M,) of our dictionary or of LightGlue's."""
    if not isinstance(given, Mapping):
        raise InvalidInputError(f"tensors are {shown(given)}, but a dictionary is expected")
    pairs = next((name for name in ("indices", "matches") if name in given), None)
    if pairs is not None:
        # LightGlue gives lists with a tensor for each pair of the batch
        both = (given[pairs], given.get("scores"))
        one, values = (v[0] if isinstance(v, list | tuple) and len(v) == 1 else v for v in both)
        indices = _single(one, 2, pairs)
        return indices, np.ones(len(indices)) if values is None else _single(values, 1, "scores")
    if "matches0" in given:
        partner = _single(given["matches0"], 1, "matches0")
        scores0 = given.get("matching_scores0")
        confidence = np.ones(len(partner)) if scores0 is None else _single(scores0, 1, "matching_scores0")
        rows = np.flatnonzero(partner >= 0)
        return np.stack([rows, partner[rows]], axis=1), confidence[rows]
    raise InvalidInputError(f"the dictionary has no indices, matches or matches0, but {', '.join(map(str, given))}")


def to_lightglue(
    indices: NDArray[np.int32], scores: Float32, counts: tuple[int, int], device: str | None
) -> dict[str, Any]:
    """The dictionary that LightGlue returns for one pair of images of so many features."""
    values: dict[str, NDArray[Any]] = {}
    for side, n in enumerate(counts):
        partner, confidence = np.full((1, n), -1, np.int64), np.zeros((1, n), np.float32)
        partner[0, indices[:, side]] = indices[:, 1 - side]
        confidence[0, indices[:, side]] = scores
        values[f"matches{side}"], values[f"matching_scores{side}"] = partner, confidence
    lists = tensors({"matches": indices.astype(np.int64), "scores": scores}, device)
    return {**tensors(values, device), **{name: [tensor] for name, tensor in lists.items()}}
