"""What an estimator returns: a model or none, and which correspondences agree with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InvalidInputError

__all__ = ["Geometry", "Kind", "Pose"]

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Kind = Literal["homography", "fundamental", "essential"]


def _frozen(values: ArrayLike, shape: tuple[int, ...], what: str) -> Float64:
    array = np.array(values, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise InvalidInputError(f"{what} has shape {array.shape} or is not finite, but finite {shape} is expected")
    array.flags.writeable = False
    return array


def _mask(values: ArrayLike) -> Mask:
    mask = np.array(values, dtype=bool)
    if mask.ndim != 1:
        raise InvalidInputError(f"inliers have shape {mask.shape}, but (M,) is expected")
    mask.flags.writeable = False
    return mask


@dataclass(frozen=True, eq=False, repr=False)
class Geometry:
    """A model of two views, from image a to image b; falsy if there is none.

    Parameters
    ----------
    kind : {"homography", "fundamental", "essential"}
        What the matrix is.
    matrix : (3, 3) float64 or None
        homography H: b ~ H a, with H[2, 2] = 1 (unless that entry is nearly 0: then of Frobenius norm 1).
        fundamental F: b^T F a = 0. essential E: the same for normalised coordinates (rays with z = 1). F and E have
        Frobenius norm 1, and their entry of the largest magnitude is positive. a and b are homogeneous [x, y, 1], of H
        and F in pixels, pixel-centre convention. None: no model was found.
    inliers : (M,) bool
        Which correspondences agree with the model; all False without one.
    """

    kind: Kind
    matrix: Float64 | None
    inliers: Mask

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InvalidInputError(f"{self.kind!r} is no kind of geometry; known are {', '.join(get_args(Kind))}")
        object.__setattr__(self, "inliers", _mask(self.inliers))
        if self.matrix is not None:
            object.__setattr__(self, "matrix", _frozen(self.matrix, (3, 3), f"the {self.kind} matrix"))
        elif self.inliers.any():
            raise InvalidInputError(f"{self.num_inliers} inliers were given without a matrix to agree with")

    @property
    def found(self) -> bool:
        """Whether there is a model."""
        return self.matrix is not None

    @property
    def num_inliers(self) -> int:
        """How many correspondences agree with the model."""
        return int(np.count_nonzero(self.inliers))

    def __bool__(self) -> bool:
        return self.found

    def __repr__(self) -> str:
        what = f"{self.num_inliers} of {len(self.inliers)} inliers" if self.found else f"none in {len(self.inliers)}"
        return f"Geometry({self.kind}, {what})"


@dataclass(frozen=True, eq=False, repr=False)
class Pose:
    """A rigid transform, x_to = rotation @ x_from + translation; falsy if there is none.

    The estimator says which frames: `relative_pose` returns b_from_a, `absolute_pose` cam_from_world. Camera frames
    have x to the right, y down and z forward.

    Parameters
    ----------
    rotation : (3, 3) float64 or None
        Orthonormal, determinant 1.
    translation : (3,) float64 or None
        b_from_a: of length 1, since two views do not tell the scale. cam_from_world: in units of the 3D points.
    inliers : (M,) bool
        Which correspondences agree with the pose; all False without one.
    """

    rotation: Float64 | None
    translation: Float64 | None
    inliers: Mask

    def __post_init__(self) -> None:
        object.__setattr__(self, "inliers", _mask(self.inliers))
        if (self.rotation is None) != (self.translation is None):
            raise InvalidInputError("a pose has both a rotation and a translation, or neither")
        if self.rotation is not None and self.translation is not None:
            object.__setattr__(self, "rotation", _frozen(self.rotation, (3, 3), "rotation"))
            object.__setattr__(self, "translation", _frozen(self.translation, (3,), "translation"))
        elif self.inliers.any():
            raise InvalidInputError(f"{self.num_inliers} inliers were given without a pose to agree with")

    @property
    def found(self) -> bool:
        """Whether there is a pose."""
        return self.rotation is not None

    @property
    def num_inliers(self) -> int:
        """How many correspondences agree with the pose."""
        return int(np.count_nonzero(self.inliers))

    @property
    def center(self) -> Float64 | None:
        """(3,) the origin of the target frame (the camera's centre), in the source frame; None without a pose."""
        if self.rotation is None or self.translation is None:
            return None
        return -self.rotation.T @ self.translation

    def __bool__(self) -> bool:
        return self.found

    def __repr__(self) -> str:
        what = f"{self.num_inliers} of {len(self.inliers)} inliers" if self.found else f"none in {len(self.inliers)}"
        return f"Pose({what})"
