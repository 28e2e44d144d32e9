"""From the upright image to the pixels as the file stores them, which COLMAP and hloc read without EXIF's rotation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..camera import Camera
from ..errors import InvalidInputError
from ..features import Features

__all__ = ["opposite", "stored_camera", "stored_features", "stored_from_upright", "stored_matrix"]

Float64 = NDArray[np.float64]

# Camera models by what their distortion needs: radial ones look the same from all sides, and of the others the places
# of p1 and p2, the tangential terms, are known.
_RADIAL = (
    "SIMPLE_PINHOLE",
    "PINHOLE",
    "SIMPLE_RADIAL",
    "RADIAL",
    "OPENCV_FISHEYE",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
    "FOV",
    "SIMPLE_DIVISION",
    "DIVISION",
    "SIMPLE_FISHEYE",
    "FISHEYE",
    "EUCM",
)
_TANGENTIAL = {"OPENCV": (6, 7), "FULL_OPENCV": (6, 7)}
_TWO_FOCALS = (*_TANGENTIAL, "PINHOLE", "OPENCV_FISHEYE", "FOV", "DIVISION", "FISHEYE", "EUCM")


def opposite(orientation: int) -> int:
    """EXIF's orientation by which an upright image is turned into the stored one: the other of the two quarter turns;
    all else undoes itself.

    Examples
    --------
    >>> from tiepoints.collection.orientation import opposite
    >>> [opposite(orientation) for orientation in range(1, 9)]
    [1, 2, 3, 4, 5, 8, 7, 6]
    """
    checks.present(orientation, "orientation")
    return {6: 8, 8: 6}.get(orientation, orientation)


def stored_from_upright(size: tuple[int, int], orientation: int) -> Float64:
    """The 3x3 matrix that maps pixels of the upright image to pixels of the stored one.

    Parameters
    ----------
    size : (int, int)
        (width, height) of the upright image.
    orientation : int
        EXIF's, 1 to 8.

    Examples
    --------
    >>> from tiepoints.collection.orientation import stored_from_upright
    >>> (stored_from_upright((480, 640), 6) @ [0, 0, 1]).tolist()  # the upright image's top left corner
    [0.0, 479.0, 1.0]
    """
    checks.present(size, "size")
    width, height = size
    matrix = np.eye(3)
    if orientation in (2, 3, 6, 7):
        matrix[0] = -1, 0, width - 1
    if orientation in (3, 4, 7, 8):
        matrix[1] = 0, -1, height - 1
    return matrix[[1, 0, 2]] if orientation >= 5 else matrix


def stored_features(features: Features, orientation: int) -> Features:
    """The same features in the pixels of the stored image; descriptors stay, for both images of a pair are described
    upright.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection.orientation import stored_features
    >>> features = tp.load("orb", max_keypoints=100)("examples/desk_1.jpg")
    >>> stored_features(features, 6).image_size
    (480, 640)
    """
    checks.instance(features, "features", Features)
    if orientation == 1:
        return features
    matrix = stored_from_upright(features.image_size, orientation)
    points = features.keypoints @ matrix[:2, :2].T + matrix[:2, 2]
    size = features.image_size[::-1] if orientation >= 5 else features.image_size
    changed: dict[str, Any] = {"keypoints": points.astype(np.float32), "image_size": size}
    if features.angles is not None:
        ways = np.stack([np.cos(features.angles), np.sin(features.angles)], axis=1) @ matrix[:2, :2].T
        changed["angles"] = np.arctan2(ways[:, 1], ways[:, 0]).astype(np.float32)
    return replace(features, **changed)


def stored_camera(camera: Camera, orientation: int) -> Camera:
    """The same camera for the stored image.

    Raises
    ------
    InvalidInputError
        If the distortion of its model cannot be rotated.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection.orientation import stored_camera
    >>> camera = stored_camera(tp.Camera("SIMPLE_RADIAL", 480, 640, (500, 200, 300, 0)), 6)
    >>> camera.width, camera.height, camera.params
    (640, 480, (500.0, 300.0, 279.0, 0.0))
    """
    checks.instance(camera, "camera", Camera)
    if orientation == 1:
        return camera
    if camera.model not in (*_RADIAL, *_TANGENTIAL):
        raise InvalidInputError(
            f"a {camera.model} camera cannot be used for a photograph that EXIF rotates: rotate the files"
        )
    matrix = stored_from_upright((camera.width, camera.height), orientation)
    params = list(camera.params)
    first = 2 if camera.model in _TWO_FOCALS else 1  # where the principal point stands
    centre = matrix @ [params[first], params[first + 1], 1]
    params[first : first + 2] = centre[:2].tolist()
    size = (camera.width, camera.height)
    if orientation >= 5:
        size = size[::-1]
        if first == 2:
            params[:2] = params[1::-1]
    if camera.model in _TANGENTIAL:
        one, two = _TANGENTIAL[camera.model]
        # p2 belongs to x and p1 to y: both move as the axes do.
        params[two], params[one] = (matrix[:2, :2] @ [params[two], params[one]]).tolist()
    return replace(camera, width=size[0], height=size[1], params=tuple(params))


def stored_matrix(matrix: Float64, kind: str, a: Float64, b: Float64) -> Float64:
    """A fundamental matrix or homography between the stored images; `a`, `b` as from `stored_from_upright`.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.collection.orientation import stored_from_upright, stored_matrix
    >>> turned = stored_from_upright((480, 640), 6)
    >>> np.allclose(stored_matrix(np.eye(3), "homography", turned, turned), np.eye(3))
    True
    """
    checks.present(matrix, "matrix")
    back = np.linalg.inv(a)
    if kind == "homography":
        return np.asarray(b @ matrix @ back)
    return np.asarray(np.linalg.inv(b).T @ matrix @ back)
