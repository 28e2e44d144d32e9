"""Where photographs were taken: what a query is answered with, and hloc's file of such answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..collection import register
from ..errors import InvalidInputError, counted
from ..files import PathLike, fits_a_line, write_whole
from ..geometry import Geometry

__all__ = ["Localization", "write_poses"]


@register("tiepoints.Localization")
@dataclass(frozen=True, eq=False)
class Localization:
    """Where a photograph was taken; falsy if that is not certain enough.

    Parameters
    ----------
    pose : Geometry
        cam_from_world, the world being the map's; there is none unless localized.
    camera : Camera
        With which the pose was found.
    inliers : int
        Points of the map that the pose explains, each once.
    matches : int
        Points of the map that the query seemed to show.
    log_nfa : float
        log10 of the number of poses with so many inliers that chance would give: the confidence; lower is surer.
    images : tuple of str
        The map's images that look most like the query, best first.
    reason : str
        Why it is not localized; empty if it is.
    observations : (M, 2) int32
        The rows of the keypoints that agree with the pose, and the numbers of the map's points that they show.

    Examples
    --------
    >>> import math
    >>> import numpy as np
    >>> import tiepoints as tp
    >>> from tiepoints.geometry import Geometry
    >>> from tiepoints.tasks import Localization
    >>> none, camera = Geometry("absolute_pose", None, np.zeros(9, bool)), tp.Camera.from_focal(500, (640, 480))
    >>> Localization(none, camera, 0, 9, math.inf, reason="no pose fits the matches")
    Localization(not localized: no pose fits the matches)
    """

    pose: Geometry
    camera: Camera
    inliers: int
    matches: int
    log_nfa: float
    images: tuple[str, ...] = field(default=())
    reason: str = ""
    observations: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 2), np.int32))

    def __bool__(self) -> bool:
        return bool(self.pose)

    def __repr__(self) -> str:
        what = f"{self.inliers} of {counted(self.matches, 'point')}" if self else f"not localized: {self.reason}"
        return f"Localization({what})"

    @property
    def quaternion(self) -> tuple[float, float, float, float]:
        """(qw, qx, qy, qz) of the rotation from world to camera, qw >= 0.

        Raises
        ------
        InvalidInputError
            If it is not localized.
        """
        if self.pose.rotation is None:
            raise InvalidInputError(f"there is no pose: {self.reason}")
        return _quaternion(self.pose.rotation)


def _quaternion(rotation: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Of a rotation matrix, by the largest of its four components (Shepperd 1978)."""
    m = rotation
    t = np.array([m.trace(), m[0, 0], m[1, 1], m[2, 2]])
    k = int(t.argmax())
    if k == 0:
        q = np.array([1 + t[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]])
    else:
        a, b, c = k - 1, k % 3, (k + 1) % 3
        q = np.zeros(4)
        q[0] = m[c, b] - m[b, c]
        q[1 + a] = 1 + m[a, a] - m[b, b] - m[c, c]
        q[1 + b] = m[b, a] + m[a, b]
        q[1 + c] = m[c, a] + m[a, c]
    q /= np.linalg.norm(q)
    q = -q if q[0] < 0 else q
    return float(q[0]), float(q[1]), float(q[2]), float(q[3])


def write_poses(path: PathLike, found: Mapping[str, Localization]) -> dict[str, str]:
    """Write the poses of what is localized as hloc does: name qw qx qy qz tx ty tz, from world to camera.

    Returns
    -------
    left_out : dict of str to str
        Names that such a file cannot hold, such as with a line break, and what helps.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    lines, left_out = [], {}
    for name, one in found.items():
        if one and not fits_a_line(name):
            left_out[name] = f"{name}: {path} cannot hold this name: rename it"
        elif one and one.pose.translation is not None:
            numbers = (*one.quaternion, *one.pose.translation.tolist())
            lines.append(" ".join([name, *(f"{value:.17g}" for value in numbers)]))
    write_whole(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
    return left_out
