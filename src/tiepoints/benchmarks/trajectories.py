"""Absolute trajectory error and relative pose error, as the evo library (Grupp, 2017) computes them.

ATE: root mean square of the distances between estimated and true positions, after the similarity (or rigid transform)
that fits them best (Umeyama, PAMI 1991; Sturm et al., IROS 2012, equation 3). RPE: the motion over a fixed interval,
estimated against true (the same, equation 2). evo is under the GPL 3.0; it is an optional package of the extra `bench`,
imported here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInputError, MissingDependencyError, StorageError
from ..files import PathLike, one_line
from .report import Column, Plot, Report, Row, Series, Table, Value, versions

__all__ = [
    "Alignment",
    "Trajectory",
    "TrajectoryErrors",
    "evaluate_trajectories",
    "read_trajectory",
    "trajectory_errors",
]

Float64 = NDArray[np.float64]
#: "sim3": rotation, translation and scale, for one camera; "se3": no scale; "none": as it is.
Alignment = Literal["sim3", "se3", "none"]

_FORMATS = {8: "TUM", 12: "KITTI"}


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses of a camera along its way.

    Parameters
    ----------
    poses : (N, 4, 4) float64
        world_from_cam (camera to world), as both file formats have it.
    stamps : (N,) float64 or None
        Seconds, rising; None where the format has none.
    name : str
        For messages and tables.

    Raises
    ------
    InvalidInputError
        If shapes differ from the above, a number is not finite, a rotation is none, or the time does not rise.
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
        rotations = poses[:, :3, :3]
        off = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2), initial=0)
        wrong = np.flatnonzero((off > 1e-3) | (np.linalg.det(rotations) < 0))
        if len(wrong):
            raise InvalidInputError(f"{self.name}: the rotation of pose {wrong[0] + 1} is none")
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
                raise InvalidInputError(f"{self.name}: the time does not rise from pose {late[0] + 1} to the next")
            object.__setattr__(self, "stamps", stamps)

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def positions(self) -> Float64:
        """(N, 3) where the camera was."""
        return self.poses[:, :3, 3]


@dataclass(frozen=True, eq=False)
class TrajectoryErrors:
    """How far an estimated trajectory is from the true one.

    Parameters
    ----------
    ate : mapping
        "rmse", "mean", "median", "max" of the distances after alignment, in the truth's unit.
    rpe, rpe_degrees : mapping
        The same of the relative translation's error (in the truth's unit) and of the relative rotation's (degrees).
    scale : float
        What the estimate was multiplied with.
    matched, truth : int
        Poses that were compared, and poses of the truth.
    length : float
        Of the true way, as far as it was compared.
    distances : (matched,) float64
        The distances behind `ate`, in the order of time.
    """

    ate: Mapping[str, float]
    rpe: Mapping[str, float]
    rpe_degrees: Mapping[str, float]
    scale: float
    matched: int
    truth: int
    length: float
    distances: Float64


def read_trajectory(path: PathLike) -> Trajectory:
    """Read a trajectory in TUM's format (timestamp tx ty tz qx qy qz qw) or KITTI's (3 x 4 matrix, row by row).

    The number of columns decides, 8 or 12; lines that begin with # are comments, and commas may stand for spaces.

    Raises
    ------
    StorageError
        If the file cannot be read; with the number of the line, if that is of neither format.
    """
    path = Path(path)
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
        norms = np.linalg.norm(table[:, 4:], axis=1)
        if not (np.abs(norms - 1) < 0.01).all():
            wrong = int(np.flatnonzero(~(np.abs(norms - 1) < 0.01))[0])
            raise StorageError(f"{path}, line {numbers[wrong]}: the quaternion has length {norms[wrong]:.4g}, not 1")
        return Trajectory(_from_quaternions(table[:, 1:4], table[:, 4:] / norms[:, None]), table[:, 0], str(path))
    except InvalidInputError as error:
        raise StorageError(str(error)) from None


def trajectory_errors(
    estimate: Trajectory,
    truth: Trajectory,
    *,
    align: Alignment = "sim3",
    max_difference: float = 0.02,
    delta: int = 1,
) -> TrajectoryErrors:
    """Compare two trajectories.

    Parameters
    ----------
    estimate, truth : Trajectory
        Both with times, which then decide what belongs together; or both without, pose by pose.
    align : {"sim3", "se3", "none"}
        What the estimate is moved by first, for both errors.
    max_difference : float
        Seconds; poses that are further apart in time are not compared.
    delta : int
        Frames between the poses whose relative motion RPE compares: all pairs (i, i + delta).

    Raises
    ------
    MissingDependencyError
        Without evo.
    InvalidInputError
        If only one has times, the numbers of poses differ without times, fewer than three poses belong together, all
        positions lie on one spot or line so that no alignment is unique, or an option is out of range.
    """
    if align not in get_args(Alignment):
        raise InvalidInputError(f"{align!r} is no alignment; known are {', '.join(get_args(Alignment))}")
    if delta < 1 or not max_difference >= 0:
        raise InvalidInputError(f"delta is {delta} and max_difference {max_difference}: at least 1 and 0 are expected")
    evo = _evo()
    reference, moved = _associated(evo, estimate, truth, max_difference)
    matched = reference.num_poses
    if matched < 3:
        raise InvalidInputError(
            f"{estimate.name}: {matched} poses belong to one of {truth.name}, but three are needed"
            + ("" if truth.stamps is None else f" (times differ by {max_difference} s at most)")
        )
    if delta >= matched:
        raise InvalidInputError(f"{estimate.name}: delta is {delta} frames, but there are {matched} poses to compare")
    scale = 1.0
    if align != "none":
        try:
            _, _, scale = moved.align(reference, correct_scale=align == "sim3")
        except evo.Exception as error:
            raise InvalidInputError(
                f"{estimate.name}: cannot be aligned with {truth.name}: the positions lie on a spot or a line "
                f"({one_line(error)})"
            ) from None
    ate = evo.metrics.APE(evo.metrics.PoseRelation.translation_part)
    ate.process_data((reference, moved))
    relative = []
    for relation in (evo.metrics.PoseRelation.translation_part, evo.metrics.PoseRelation.rotation_angle_deg):
        rpe = evo.metrics.RPE(relation, delta=delta, delta_unit=evo.metrics.Unit.frames, all_pairs=True)
        rpe.process_data((reference, moved))
        relative.append(_statistics(rpe))
    return TrajectoryErrors(
        ate=_statistics(ate),
        rpe=relative[0],
        rpe_degrees=relative[1],
        scale=float(scale),
        matched=matched,
        truth=len(truth),
        length=float(reference.path_length),
        distances=np.asarray(ate.error, dtype=np.float64),
    )


def evaluate_trajectories(
    estimates: Mapping[str, Trajectory],
    truth: Trajectory,
    *,
    align: Alignment = "sim3",
    max_difference: float = 0.02,
    delta: int = 1,
) -> Report:
    """Compare several trajectories with the true one.

    Parameters
    ----------
    estimates : mapping of str to Trajectory
        By the names that the table shows.
    truth : Trajectory
    align, max_difference, delta
        See `trajectory_errors`.

    Returns
    -------
    report : Report
        A row for each estimate, and the error along the way as a plot.
    """
    rows, series, notes = [], [], []
    details: list[Mapping[str, Value]] = []
    for name, estimate in estimates.items():
        found = trajectory_errors(estimate, truth, align=align, max_difference=max_difference, delta=delta)
        values: dict[str, Value] = {
            "matched": found.matched,
            "coverage": found.matched / found.truth,
            "scale": found.scale,
            "length": found.length,
        }
        for key, statistics in (("ate", found.ate), ("rpe", found.rpe), ("rpe_degrees", found.rpe_degrees)):
            values |= {f"{key}_{what}": value for what, value in statistics.items()}
        rows.append(Row(name, values))
        frames = tuple(float(i) for i in range(found.matched))
        series.append(Series(name, frames, tuple(found.distances.tolist())))
        details += [{"method": name, "frame": i, "ate": float(d)} for i, d in enumerate(found.distances)]
        if found.matched < found.truth:
            notes.append(
                f"{name}: {found.matched} of {found.truth} true poses were compared; the others have no partner"
            )
    moved = {"sim3": "Sim(3)", "se3": "SE(3)", "none": "no"}[align]
    return Report(
        title="Trajectories",
        protocol=f"ATE and RPE by evo, {moved} alignment, RPE over {delta} frame{'s' if delta > 1 else ''}",
        description="ATE: distances between positions after alignment. RPE: errors of the relative motion, all pairs.",
        tables=(Table("trajectories", _COLUMNS, tuple(rows)),),
        notes=tuple(notes),
        details=tuple(details),
        plots=(Plot("Error along the way", "compared pose", "distance, unit of the truth", tuple(series)),),
        about=versions("evo", "numpy") | {"truth": truth.name},
    )


_COLUMNS = (
    Column("ate_rmse", "ATE RMSE", 4, "Root mean square of the distances, in the truth's unit."),
    Column("ate_mean", "ATE mean", 4, "In the truth's unit.", main=False),
    Column("ate_median", "ATE median", 4, "In the truth's unit."),
    Column("ate_max", "ATE max", 4, "In the truth's unit."),
    Column("rpe_rmse", "RPE RMSE", 4, "Of the relative translation, in the truth's unit."),
    Column("rpe_mean", "RPE mean", 4, "Of the relative translation, in the truth's unit.", main=False),
    Column("rpe_median", "RPE median", 4, "Of the relative translation, in the truth's unit.", main=False),
    Column("rpe_max", "RPE max", 4, "Of the relative translation, in the truth's unit.", main=False),
    Column("rpe_degrees_rmse", "RPE RMSE deg", 3, "Of the relative rotation, degrees."),
    Column("rpe_degrees_mean", "RPE mean deg", 3, "Of the relative rotation, degrees.", main=False),
    Column("rpe_degrees_median", "RPE median deg", 3, "Of the relative rotation, degrees.", main=False),
    Column("rpe_degrees_max", "RPE max deg", 3, "Of the relative rotation, degrees.", main=False),
    Column("scale", "scale", 4, "What the estimate was multiplied with."),
    Column("matched", "poses", 0, "Poses that were compared."),
    Column("coverage", "coverage", 3, "Share of the true poses that were compared."),
    Column("length", "length", 2, "Of the true way as far as it was compared, in its unit."),
)


def _evo() -> Any:
    """The parts of evo that compute; its file readers would bring pandas and ROS."""
    try:
        from types import SimpleNamespace

        import evo.core.metrics
        import evo.core.sync
        import evo.core.trajectory
    except ImportError:
        raise MissingDependencyError(
            "trajectories need the package evo (GPL 3.0): pip install 'tiepoints[bench]'"
        ) from None
    return SimpleNamespace(
        metrics=evo.core.metrics, sync=evo.core.sync, trajectory=evo.core.trajectory, Exception=evo.EvoException
    )


def _associated(evo: Any, estimate: Trajectory, truth: Trajectory, max_difference: float) -> tuple[Any, Any]:
    """The true and the estimated poses that belong together, as evo's objects."""
    if (estimate.stamps is None) != (truth.stamps is None):
        with_times, without = (estimate, truth) if truth.stamps is None else (truth, estimate)
        raise InvalidInputError(
            f"{with_times.name} has times (TUM) and {without.name} has none (KITTI): give both in one format"
        )
    if estimate.stamps is None or truth.stamps is None:
        if len(estimate) != len(truth):
            raise InvalidInputError(
                f"{estimate.name} has {len(estimate)} poses and {truth.name} {len(truth)}: without times they must be "
                "as many; use the TUM format otherwise"
            )
        first, second = (evo.trajectory.PosePath3D(poses_se3=list(t.poses)) for t in (truth, estimate))
        return first, second
    first, second = (
        evo.trajectory.PoseTrajectory3D(poses_se3=list(t.poses), timestamps=t.stamps) for t in (truth, estimate)
    )
    try:
        synced: tuple[Any, Any] = evo.sync.associate_trajectories(first, second, max_diff=max_difference)
    except evo.Exception:
        raise InvalidInputError(
            f"{estimate.name} and {truth.name} have no times in common, give or take {max_difference} s "
            f"({estimate.stamps[0]:.3f} to {estimate.stamps[-1]:.3f} and {truth.stamps[0]:.3f} to "
            f"{truth.stamps[-1]:.3f})"
        ) from None
    return synced


def _statistics(metric: Any) -> dict[str, float]:
    found = metric.get_all_statistics()
    return {name: float(found[name]) for name in ("rmse", "mean", "median", "max")}


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
