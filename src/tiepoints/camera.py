"""A camera's intrinsic parameters, by COLMAP's names for the models."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import checks
from .errors import InvalidInputError
from .optional import require

__all__ = ["Camera", "as_camera"]

PathLike = str | os.PathLike[str]

# Number of parameters, and at which of them the focal lengths and the principal point stand.
# Source: COLMAP 4, "Camera models" in its documentation and src/colmap/sensor/models.h.
_MODELS: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "SIMPLE_PINHOLE": (3, (0,), (1, 2)),
    "PINHOLE": (4, (0, 1), (2, 3)),
    "SIMPLE_RADIAL": (4, (0,), (1, 2)),
    "RADIAL": (5, (0,), (1, 2)),
    "OPENCV": (8, (0, 1), (2, 3)),
    "OPENCV_FISHEYE": (8, (0, 1), (2, 3)),
    "FULL_OPENCV": (12, (0, 1), (2, 3)),
    "FOV": (5, (0, 1), (2, 3)),
    "SIMPLE_RADIAL_FISHEYE": (4, (0,), (1, 2)),
    "RADIAL_FISHEYE": (5, (0,), (1, 2)),
    "THIN_PRISM_FISHEYE": (12, (0, 1), (2, 3)),
    "RAD_TAN_THIN_PRISM_FISHEYE": (16, (0, 1), (2, 3)),
    "SIMPLE_DIVISION": (4, (0,), (1, 2)),
    "DIVISION": (5, (0, 1), (2, 3)),
    "SIMPLE_FISHEYE": (3, (0,), (1, 2)),
    "FISHEYE": (4, (0, 1), (2, 3)),
    "EUCM": (6, (0, 1), (2, 3)),
    "EQUIRECTANGULAR": (2, (), ()),  # width and height: a whole sphere
}
# Focal lengths in long edges of the image, from the widest fisheye to a telescope on a small sensor. Ours.
_SHORTEST, _LONGEST = 0.05, 1000


@dataclass(frozen=True)
class Camera:
    """How a camera maps directions to pixels.

    Parameters
    ----------
    model : str
        A COLMAP model, such as SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, RADIAL, OPENCV, OPENCV_FISHEYE or FULL_OPENCV.
    width, height : int
        Image size in pixels.
    params : tuple of float
        The model's parameters in COLMAP's order, in pixels; the principal point in the pixel-centre convention (the
        centre of the top-left pixel is (0, 0); COLMAP itself has it at (0.5, 0.5), `to_pycolmap` converts).
    focal_is_known : bool
        Whether the focal length was measured (calibration, EXIF) rather than guessed.

    Raises
    ------
    InvalidInputError
        For an unknown model, a wrong number of parameters, one that is no finite number, a focal length outside of
        0.05 to 1,000 long edges of the image, or a size that is none.

    Examples
    --------
    >>> import tiepoints as tp
    >>> camera = tp.Camera("SIMPLE_RADIAL", 640, 480, (500, 319.5, 239.5, -0.1))
    >>> camera.matrix.tolist()
    [[500.0, 0.0, 319.5], [0.0, 500.0, 239.5], [0.0, 0.0, 1.0]]
    >>> camera.resized((320, 240)).params
    (250.0, 159.5, 119.5, -0.1)
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]
    focal_is_known: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or self.model not in _MODELS:
            hint = checks.did_you_mean(str(self.model), list(_MODELS))
            raise InvalidInputError(f"camera model {checks.shown(self.model)} is unknown: {hint}")
        count, focal, _ = _MODELS[self.model]
        params = tuple(float(p) for p in checks.array(self.params, "the camera's parameters", ("N",)))
        if len(params) != count:
            raise InvalidInputError(f"a {self.model} camera has {count} parameters, but {len(params)} were given")
        width, height = checks.size((self.width, self.height), "the camera's image size")
        low, high = _SHORTEST * max(width, height), _LONGEST * max(width, height)
        wrong = next((params[i] for i in focal if not low <= params[i] <= high), None)
        if wrong is not None:
            raise InvalidInputError(
                f"the focal length is {wrong:g} pixels, but that of a camera with {width}x{height} pixels is between "
                f"{low:g} and {high:g}"
            )
        known = checks.flag(self.focal_is_known, "focal_is_known")
        for name, value in (("params", params), ("width", width), ("height", height), ("focal_is_known", known)):
            object.__setattr__(self, name, value)

    @classmethod
    def from_matrix(cls, K: ArrayLike, image_size: tuple[int, int]) -> Camera:
        """A PINHOLE camera from its 3x3 calibration matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]].

        Skew, K[0, 1], has no place in COLMAP's models: it is left out, with a warning.

        Parameters
        ----------
        K : (3, 3) array
            In pixels; the centre of the top-left pixel is (0, 0).
        image_size : (int, int)
            (width, height) in pixels.

        Returns
        -------
        camera : Camera

        Raises
        ------
        InvalidInputError
            If it is no such matrix, for instance its transpose, as MATLAB writes it.

        Examples
        --------
        >>> import tiepoints as tp
        >>> tp.Camera.from_matrix([[500, 0, 320], [0, 510, 240], [0, 0, 1]], (640, 480)).params
        (500.0, 510.0, 320.0, 240.0)
        """
        k = checks.array(K, "the numbers of the calibration matrix", (3, 3))
        size = checks.size(image_size)
        if abs(k[2, 2]) < 1e-12:
            raise InvalidInputError("a calibration matrix has K[2, 2] = 1, but this one has 0 there")
        k = k / k[2, 2]
        tiny = 1e-6 * max(abs(k[0, 0]), abs(k[1, 1]))
        if max(abs(k[1, 0]), abs(k[2, 0]), abs(k[2, 1])) > tiny:
            raise InvalidInputError(
                "a calibration matrix has zeros below its diagonal, but this one has "
                f"{k[1, 0]:g}, {k[2, 0]:g}, {k[2, 1]:g}; is it transposed, as MATLAB writes it? Give K.T"
            )
        if abs(k[0, 1]) > tiny:
            warnings.warn(f"the calibration's skew of {k[0, 1]:g} is left out: no camera model has one", stacklevel=2)
        return cls("PINHOLE", *size, (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))

    @classmethod
    def from_focal(cls, focal: float, image_size: tuple[int, int], known: bool = True) -> Camera:
        """A SIMPLE_RADIAL camera without distortion, its principal point in the middle.

        Parameters
        ----------
        focal : float
            In pixels.
        image_size : (int, int)
            (width, height) in pixels.
        known : bool
            Whether the focal length was measured rather than guessed.

        Returns
        -------
        camera : Camera
        """
        width, height = checks.size(image_size)
        focal = checks.number(focal, "focal")
        return cls("SIMPLE_RADIAL", width, height, (focal, (width - 1) / 2, (height - 1) / 2, 0.0), known)

    @classmethod
    def from_exif(cls, path: PathLike, *, upright: bool = True, default_focal: float = 1.2) -> Camera:
        """The camera that made a photograph, from its EXIF data.

        The focal length in pixels is taken from its 35 mm equivalent, else from the focal length and the density of the
        sensor's pixels, scaled to the picture's present size, else from the focal length and COLMAP's table of sensors,
        if pycolmap is installed. A picture of another shape than EXIF says was cut out of the photograph: the tags say
        nothing about it. Where there is no focal length, it is guessed as `default_focal` times the long edge and
        `focal_is_known` is False (COLMAP guesses the same).

        Parameters
        ----------
        path : str or path
            The photograph.
        upright : bool
            Whether the camera is for the upright image, as `tiepoints.read` returns it, or for the stored one.
        default_focal : float
            The guess, in long edges of the image.

        Returns
        -------
        camera : Camera
            SIMPLE_RADIAL, with the principal point in the middle and no distortion.

        Raises
        ------
        ImageError
            If the file cannot be opened as an image.
        """
        from .exif import shot

        guess, upright = checks.number(default_focal, "default_focal", above=0), checks.flag(upright, "upright")
        (width, height), orientation, focal = shot(path)
        if not upright and orientation >= 5:
            width, height = height, width
        known = focal is not None
        return cls.from_focal(guess * max(width, height) if focal is None else focal, (width, height), known)

    @classmethod
    def from_pycolmap(cls, camera: Any) -> Camera:
        """The camera that a ``pycolmap.Camera`` is, its principal point moved by -0.5 from COLMAP's pixel frame."""
        params = tuple(float(p) for p in camera.params)
        known = bool(camera.has_prior_focal_length)
        return cls(camera.model_name, camera.width, camera.height, params, known).shifted(-0.5)

    def to_pycolmap(self) -> Any:
        """A ``pycolmap.Camera``, its principal point moved by +0.5 to COLMAP's pixel frame.

        Raises
        ------
        MissingDependencyError
            Without pycolmap.
        """
        pycolmap = require("pycolmap", "a camera of COLMAP", "sfm")
        return pycolmap.Camera(
            model=self.model,
            width=self.width,
            height=self.height,
            params=list(self.shifted(0.5).params),
            has_prior_focal_length=self.focal_is_known,
        )

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The 3x3 calibration matrix (distortion left out)."""
        _, focal, center = _MODELS[self.model]
        if not focal:
            raise InvalidInputError(f"a {self.model} camera has no calibration matrix")
        fx, fy = self.params[focal[0]], self.params[focal[-1]]
        return np.array([[fx, 0, self.params[center[0]]], [0, fy, self.params[center[1]]], [0, 0, 1.0]])

    def shifted(self, offset: float) -> Camera:
        """The same camera with its principal point moved.

        Parameters
        ----------
        offset : float
            In pixels, of x and y; 0.5 leads to COLMAP's frame, whose corner of the top-left pixel is (0, 0).

        Returns
        -------
        camera : Camera
        """
        params, offset = list(self.params), checks.number(offset, "offset")
        for i in _MODELS[self.model][2]:
            params[i] += offset
        return Camera(self.model, self.width, self.height, tuple(params), self.focal_is_known)

    def resized(self, image_size: tuple[int, int]) -> Camera:
        """The same camera for its images at another size.

        Parameters
        ----------
        image_size : (int, int)
            (width, height) in pixels.

        Returns
        -------
        camera : Camera
            The focal length and the principal point are scaled; distortion stays as it is.
        """
        width, height = checks.size(image_size)
        scale = width / self.width, height / self.height
        _, focal, center = _MODELS[self.model]
        params = list(self.params)
        for i, axis in zip(focal, (0, 1), strict=False):
            params[i] *= scale[axis] if len(focal) == 2 else (scale[0] + scale[1]) / 2
        for i, axis in zip(center, (0, 1), strict=False):
            params[i] = (params[i] + 0.5) * scale[axis] - 0.5
        if not focal:
            params = [float(width), float(height)]
        return Camera(self.model, width, height, tuple(params), self.focal_is_known)

    def as_dict(self) -> dict[str, Any]:
        """Model, width, height and params, as PoseLib and COLMAP's text files name them."""
        return {"model": self.model, "width": self.width, "height": self.height, "params": list(self.params)}


def as_camera(camera: Camera | ArrayLike | None, what: str, image_size: tuple[int, int] | None = None) -> Camera:
    """A camera, or the one of a plain 3x3 calibration matrix, for an image of this size.

    Parameters
    ----------
    camera : Camera or (3, 3) array
        In pixels, pixel-centre convention.
    what : str
        The argument's name, for messages.
    image_size : (int, int), optional
        (width, height) of the image; (0, 0) or None if it is not known.

    Raises
    ------
    InvalidInputError
        If it is neither or None, or a camera of another size than the image.

    Examples
    --------
    >>> from tiepoints.camera import as_camera
    >>> as_camera([[500, 0, 320], [0, 500, 240], [0, 0, 1]], "camera_a", (640, 480)).model
    'PINHOLE'
    """
    known = image_size is not None and image_size != (0, 0)
    if camera is None:
        raise InvalidInputError(f"{what} is missing: give a Camera, or a calibration matrix (3, 3), of each image")
    if not isinstance(camera, Camera):
        k = checks.array(camera, f"{what}, a Camera or the numbers of a calibration matrix,", (3, 3))
        center = np.rint(2 * k[:2, 2] / k[2, 2] + 1) if k[2, 2] else np.ones(2)
        if (center <= 2).any():  # coordinates from the principal point, or in focal lengths: any size may do
            center = np.maximum(center, np.rint(np.abs(np.diagonal(k)[:2])))
        center = np.clip(center, 1, 2**31 - 1)
        size = image_size if known and image_size is not None else (int(center[0]), int(center[1]))
        return Camera.from_matrix(k, size)
    if known and image_size != (camera.width, camera.height) and image_size is not None:
        width, height = image_size
        raise InvalidInputError(
            f"{what} is of {camera.width}x{camera.height} pixels, but its image has {width}x{height}: give the camera "
            f"of that size, for a resized photograph camera.resized(({width}, {height}))"
        )
    return camera
