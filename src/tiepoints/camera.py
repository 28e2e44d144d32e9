"""A camera's intrinsic parameters, by COLMAP's names for the models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InvalidInputError

__all__ = ["Camera"]

# Number of parameters, and at which of them the focal lengths and the principal point stand.
# Source: COLMAP, "Camera models" in its documentation; PoseLib takes the same names.
_MODELS: dict[str, tuple[int, tuple[int, ...], tuple[int, int]]] = {
    "SIMPLE_PINHOLE": (3, (0,), (1, 2)),
    "PINHOLE": (4, (0, 1), (2, 3)),
    "SIMPLE_RADIAL": (4, (0,), (1, 2)),
    "RADIAL": (5, (0,), (1, 2)),
    "OPENCV": (8, (0, 1), (2, 3)),
    "OPENCV_FISHEYE": (8, (0, 1), (2, 3)),
    "FULL_OPENCV": (12, (0, 1), (2, 3)),
}


@dataclass(frozen=True)
class Camera:
    """How a camera maps directions to pixels.

    Parameters
    ----------
    model : str
        A COLMAP model: SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, RADIAL, OPENCV, OPENCV_FISHEYE or FULL_OPENCV.
    width, height : int
        Image size in pixels.
    params : tuple of float
        The model's parameters in COLMAP's order, in pixels; the principal point in the pixel-centre convention (the
        centre of the top-left pixel is (0, 0); COLMAP itself has it at (0.5, 0.5), the storage converts).
    focal_is_known : bool
        Whether the focal length was measured (calibration, EXIF) rather than guessed.

    Raises
    ------
    InvalidInputError
        For an unknown model, a wrong number of parameters or a focal length that is not positive.
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]
    focal_is_known: bool = True

    def __post_init__(self) -> None:
        if self.model not in _MODELS:
            raise InvalidInputError(f"camera model {self.model!r} is unknown; known are {', '.join(_MODELS)}")
        count, focal, _ = _MODELS[self.model]
        params = tuple(float(p) for p in self.params)
        if len(params) != count:
            raise InvalidInputError(f"a {self.model} camera has {count} parameters, but {len(params)} were given")
        if not np.isfinite(params).all() or any(params[i] <= 0 for i in focal):
            raise InvalidInputError(f"camera parameters {params} are not finite, or a focal length is not positive")
        if self.width <= 0 or self.height <= 0:
            raise InvalidInputError(f"camera of {self.width}x{self.height} pixels: both must be positive")
        object.__setattr__(self, "params", params)

    @classmethod
    def from_matrix(cls, K: ArrayLike, image_size: tuple[int, int]) -> Camera:
        """A PINHOLE camera from its 3x3 calibration matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]."""
        k = np.asarray(K, dtype=np.float64)
        if k.shape != (3, 3) or abs(k[2, 2]) < 1e-12:
            raise InvalidInputError(f"a calibration matrix is 3x3 with K[2, 2] = 1, but {k.shape} was given")
        k = k / k[2, 2]
        return cls("PINHOLE", *image_size, (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))

    @classmethod
    def from_focal(cls, focal: float, image_size: tuple[int, int], known: bool = True) -> Camera:
        """A SIMPLE_RADIAL camera without distortion, its principal point in the middle; `focal` in pixels."""
        width, height = image_size
        return cls("SIMPLE_RADIAL", width, height, (focal, (width - 1) / 2, (height - 1) / 2, 0.0), known)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The 3x3 calibration matrix (distortion left out)."""
        _, focal, (cx, cy) = _MODELS[self.model]
        fx, fy = self.params[focal[0]], self.params[focal[-1]]
        return np.array([[fx, 0, self.params[cx]], [0, fy, self.params[cy]], [0, 0, 1.0]])

    def shifted(self, offset: float) -> Camera:
        """The same camera with its principal point moved by `offset` pixels in x and y (+0.5: to COLMAP's corners)."""
        params = list(self.params)
        for i in _MODELS[self.model][2]:
            params[i] += offset
        return Camera(self.model, self.width, self.height, tuple(params), self.focal_is_known)

    def as_dict(self) -> dict[str, Any]:
        """Model, width, height and params, as PoseLib and COLMAP's text files name them."""
        return {"model": self.model, "width": self.width, "height": self.height, "params": list(self.params)}
