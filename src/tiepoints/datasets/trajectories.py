"""Trajectories in TUM's and KITTI's text formats."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import InvalidInputError, StorageError
from ..files import PathLike, one_line
from ..storage.reading import check_regular

__all__ = ["Trajectory", "read_trajectory"]

Float64 = NDArray[np.float64]

_FORMATS = {8: "TUM", 12: "KITTI"}
_FARTHEST = 1e100  # its square is still a number


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses of a moving camera.

    Parameters
    ----------
    poses : (N, 4, 4) float64
        world_from_cam (camera to world), as both file formats have it.
    stamps : (N,) float64 or None
        Seconds, increasing; None where the format has none.
    name : str
        For messages and tables.

    Raises
    ------
    InvalidInputError
        If shapes differ from the above, a number is not finite or a position beyond 1e100, a matrix is no rotation, or
        the times do not increase.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.datasets.trajectories import Trajectory
    >>> poses = np.tile(np.eye(4), (3, 1, 1))
    >>> poses[:, 0, 3] = 0, 1, 2  # along x
    >>> Trajectory(poses, stamps=np.array([0.0, 0.1, 0.2])).poses.shape
    (3, 4, 4)
    """

    poses: Float64
    stamps: Float64 | None = None
    name: str = "trajectory"

    def __post_init__(self) -> None:
        poses = np.array(self.poses, dtype=np.float64)
        if poses.ndim != 3 or poses.shape[1:] != (4, 4):
            raise InvalidInputError(f"{self.name}: poses have shape {poses.shape}, but (N, 4, 4) is expected")
        if not np.isfinite(poses).all():
            raise InvalidInputError(f"{self.name}: a pose is not finite")
        far = np.flatnonzero(np.abs(poses[:, :3]).max(axis=(1, 2), initial=0) > _FARTHEST)
        if len(far):
            raise InvalidInputError(
                f"{self.name}: pose {far[0] + 1} has a number beyond {_FARTHEST:g}, which is no pose"
            )
        rotations = poses[:, :3, :3]
        off = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2), initial=0)
        wrong = np.flatnonzero((off > 1e-3) | (np.linalg.det(rotations) < 0))
        if len(wrong):
            raise InvalidInputError(f"{self.name}: the matrix of pose {wrong[0] + 1} is no rotation")
        u, _, vt = np.linalg.svd(rotations)  # rounded to a few digits in files: the nearest rotation
        poses[:, :3, :3] = u @ vt
        poses[:, 3] = (0, 0, 0, 1)
        object.__setattr__(self, "poses", poses)
        if self.stamps is not None:
            stamps = np.array(self.stamps, dtype=np.float64)
            if stamps.shape != (len(poses),) or not np.isfinite(stamps).all():
                raise InvalidInputError(f"{self.name}: {len(poses)} poses need as many finite times")
            late = np.flatnonzero(np.diff(stamps) <= 0)
            if len(late):
                raise InvalidInputError(f"{self.name}: the time does not increase from pose {late[0] + 1} to the next")
            object.__setattr__(self, "stamps", stamps)

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def positions(self) -> Float64:
        """(N, 3) where the camera was."""
        return self.poses[:, :3, 3]


def read_trajectory(path: PathLike) -> Trajectory:
    """Read a trajectory in TUM's format (timestamp tx ty tz qx qy qz qw) or KITTI's (3 x 4 matrix, row by row).

    The number of columns decides, 8 or 12; lines that begin with # are comments, and commas may stand for spaces.

    Raises
    ------
    StorageError
        If the file cannot be read; with the number of the line, if that is of neither format.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.datasets.trajectories import read_trajectory
    >>> np.savetxt("truth.txt", [[0.0, 0, 0, 0, 0, 0, 0, 1], [0.1, 1, 0, 0, 0, 0, 0, 1]])
    >>> read_trajectory("truth.txt").positions.tolist()
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    path = checks.path(path, "path")
    check_regular(path)
    rows: list[list[float]] = []
    numbers: list[int] = []
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                fields = re.split(r"[\s,]+", line.strip())
                if fields == [""] or fields[0].startswith("#"):
                    continue
                try:
                    row = [float(text) for text in fields]
                except ValueError:
                    raise StorageError(f"{path}, line {number}: {line.strip()[:40]!r} are not numbers") from None
                if len(row) not in _FORMATS or (rows and len(row) != len(rows[0])):
                    wanted = f"{len(rows[0])} as before" if rows else "8 (TUM) or 12 (KITTI)"
                    raise StorageError(f"{path}, line {number}: {len(row)} numbers, but {wanted} are expected")
                rows.append(row)
                numbers.append(number)
    except UnicodeDecodeError as error:
        raise StorageError(f"{path}: not a text file ({one_line(error)})") from None
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{path}: cannot be read ({error.strerror or one_line(error)})") from None
    if not rows:
        raise StorageError(f"{path}: no poses in it")
    table = np.array(rows)
    try:
        if _FORMATS[table.shape[1]] == "KITTI":
            bottom = np.tile([[[0.0, 0, 0, 1]]], (len(table), 1, 1))
            return Trajectory(np.concatenate((table.reshape(-1, 3, 4), bottom), axis=1), None, str(path))
        with np.errstate(over="ignore"):
            norms = np.linalg.norm(table[:, 4:], axis=1)
        if not (np.abs(norms - 1) < 0.01).all():
            wrong = int(np.flatnonzero(~(np.abs(norms - 1) < 0.01))[0])
            raise StorageError(f"{path}, line {numbers[wrong]}: the quaternion has length {norms[wrong]:.4g}, not 1")
        return Trajectory(_from_quaternions(table[:, 1:4], table[:, 4:] / norms[:, None]), table[:, 0], str(path))
    except InvalidInputError as error:
        raise StorageError(str(error)) from None


def _from_quaternions(positions: Float64, quaternions: Float64) -> Float64:
    """(N, 4, 4) from (N, 3) and unit quaternions (N, 4) in the order x, y, z, w."""
    x, y, z, w = quaternions.T
    poses = np.zeros((len(positions), 4, 4))
    poses[:, 0, :3] = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], axis=1)
    poses[:, 1, :3] = np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], axis=1)
    poses[:, 2, :3] = np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], axis=1)
    poses[:, :3, 3] = positions
    poses[:, 3, 3] = 1
    return poses
