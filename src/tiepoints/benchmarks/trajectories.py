"""Trajectories against the truth: absolute trajectory error (ATE) and relative pose error (RPE), one protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..datasets.trajectories import Trajectory, read_trajectory
from ..errors import InvalidInputError, TiepointsError
from ..files import PathLike
from ..geometry.alignment import similarity
from ..metrics.trajectories import absolute_errors, associate, relative_errors, statistics
from .report import Column, Plot, Report, Row, Series, Table, Value, less, versions

__all__ = [
    "Alignment",
    "Trajectory",
    "evaluate_trajectories",
    "read_trajectory",
    "trajectory_errors",
]

Float64 = NDArray[np.float64]
#: "sim3": rotation, translation and scale, for one camera; "se3": no scale; "none": as it is.
Alignment = Literal["sim3", "se3", "none"]


_ERRORS = {
    "ate": ("ATE", "", 4, "Of the distances, in the truth's unit.", ("rmse", "median", "max")),
    "rpe": ("RPE", "", 4, "Of the relative translation, in the truth's unit.", ("rmse",)),
    "rpe_degrees": ("RPE", " deg", 3, "Of the relative rotation, degrees.", ("rmse",)),
}
_STATISTICS = {"rmse": "RMSE", "mean": "mean", "median": "median", "max": "max"}
_COLUMNS = (
    *(
        less(f"{key}_{what}", f"{name} {word}{unit}", digits, text, main=what in main)
        for key, (name, unit, digits, text, main) in _ERRORS.items()
        for what, word in _STATISTICS.items()
    ),
    Column("scale", "scale", 4, "What the estimate was multiplied with."),
    Column("matched", "poses", 0, "Poses that were compared."),
    Column("coverage", "coverage", 3, "Share of the true poses that were compared."),
    Column("length", "length", 2, "Of the true trajectory as far as it was compared, in its unit."),
)


def trajectory_errors(
    estimate: Trajectory,
    truth: Trajectory,
    *,
    align: Alignment = "sim3",
    max_difference: float = 0.02,
    delta: int = 1,
) -> tuple[dict[str, float], Float64]:
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

    Returns
    -------
    values : dict
        `ate_rmse`, `ate_mean`, `ate_median` and `ate_max` of the distances after alignment, in the truth's unit; the
        same of the relative translation's error as `rpe_...`, in that unit, and of the relative rotation's as
        `rpe_degrees_...`; `scale`, what the estimate was multiplied with; `matched`, the number of poses that were
        compared, and `coverage`, their share of the true poses; `length` of the true trajectory as far as compared.
    distances : (matched,) float64
        Those behind `ate_...`, in the order of time.

    Raises
    ------
    InvalidInputError
        If only one has times, the numbers of poses differ without times, fewer than three poses belong together, all
        positions lie on one spot or line so that no alignment is unique, or an option is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.benchmarks.trajectories import trajectory_errors
    >>> from tiepoints.datasets.trajectories import Trajectory
    >>> poses = np.tile(np.eye(4), (4, 1, 1))
    >>> poses[:, :3, 3] = [[0, 0, 0], [1, 0, 0], [1, 2, 0], [0, 1, 3]]
    >>> half = poses.copy()
    >>> half[:, :3, 3] /= 2
    >>> values, distances = trajectory_errors(Trajectory(half), Trajectory(poses))
    >>> round(values["scale"], 6), round(values["ate_rmse"], 6), values["matched"], distances.shape
    (2.0, 0.0, 4, (4,))
    """
    checks.instance(estimate, "estimate", Trajectory)
    checks.instance(truth, "truth", Trajectory)
    if align not in get_args(Alignment):
        raise InvalidInputError(f"{align!r} is no alignment; known are {', '.join(get_args(Alignment))}")
    if delta < 1 or not max_difference >= 0:
        raise InvalidInputError(f"delta is {delta} and max_difference {max_difference}: at least 1 and 0 are expected")
    poses, true = _associated(estimate, truth, max_difference)
    matched = len(poses)
    if matched < 3:
        raise InvalidInputError(
            f"{estimate.name}: {matched} poses belong to one of {truth.name}, but three are needed"
            + ("" if truth.stamps is None else f" (times differ by {max_difference} s at most)")
        )
    if delta >= matched:
        raise InvalidInputError(f"{estimate.name}: delta is {delta} frames, but there are {matched} poses to compare")
    scale = 1.0
    if align != "none":
        moved = similarity(poses[:, :3, 3], true[:, :3, 3], with_scale=align == "sim3")
        if moved is None:
            raise InvalidInputError(
                f"{estimate.name}: cannot be aligned with {truth.name}: the positions lie on a spot or a line"
            )
        scale = moved.scale
        poses[:, :3, 3] = moved(poses[:, :3, 3])
        poses[:, :3, :3] = moved.R @ poses[:, :3, :3]
    distances = absolute_errors(poses[:, :3, 3], true[:, :3, 3])
    translations, rotations = relative_errors(poses, true, delta)
    length = float(np.linalg.norm(np.diff(true[:, :3, 3], axis=0), axis=1).sum())
    values = {"scale": scale, "matched": matched, "coverage": matched / len(truth), "length": length}
    for key, errors in (("ate", distances), ("rpe", translations), ("rpe_degrees", rotations)):
        values |= {f"{key}_{what}": value for what, value in statistics(errors).items()}
    return values, distances


def _associated(estimate: Trajectory, truth: Trajectory, max_difference: float) -> tuple[Float64, Float64]:
    """The estimated and the true poses that belong together, copies."""
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
        return estimate.poses.copy(), truth.poses.copy()
    true, found = associate(truth.stamps, estimate.stamps, max_difference)
    if not len(found):
        raise InvalidInputError(
            f"{estimate.name} and {truth.name} have no times in common, give or take {max_difference} s "
            f"({estimate.stamps[0]:.3f} to {estimate.stamps[-1]:.3f} and {truth.stamps[0]:.3f} to "
            f"{truth.stamps[-1]:.3f})"
        )
    return estimate.poses[found], truth.poses[true]


def evaluate_trajectories(
    estimates: Mapping[str, Trajectory | PathLike],
    truth: Trajectory,
    *,
    align: Alignment = "sim3",
    max_difference: float = 0.02,
    delta: int = 1,
) -> Report:
    """Compare several trajectories with the true one.

    Parameters
    ----------
    estimates : mapping of str to Trajectory or path
        By the names that the table shows. Those that cannot be read or compared are named in the notes.
    truth : Trajectory
    align, max_difference, delta
        See `trajectory_errors`.

    Returns
    -------
    report : Report
        A row for each estimate, and the error over time as a plot.

    Raises
    ------
    TiepointsError
        If none can be compared: why the first one cannot.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.benchmarks import evaluate_trajectories
    >>> from tiepoints.datasets.trajectories import Trajectory
    >>> poses = np.tile(np.eye(4), (4, 1, 1))
    >>> poses[:, :3, 3] = [[0, 0, 0], [1, 0, 0], [1, 2, 0], [0, 1, 3]]
    >>> report = evaluate_trajectories({"mine": Trajectory(poses)}, Trajectory(poses))
    >>> report.table.row("mine").values["matched"]
    4
    """
    checks.instance(estimates, "estimates", Mapping)
    rows, series, notes = [], [], []
    details: list[Mapping[str, Value]] = []
    failed: list[TiepointsError] = []
    for name, given in estimates.items():
        try:
            one = given if isinstance(given, Trajectory) else read_trajectory(given)
            values, distances = trajectory_errors(one, truth, align=align, max_difference=max_difference, delta=delta)
        except TiepointsError as error:
            failed.append(error)
            notes.append(f"{name} is left out: {error}")
            continue
        rows.append(Row(name, values))
        series.append(Series(name, tuple(map(float, range(len(distances)))), tuple(distances.tolist())))
        details += [{"method": name, "frame": i, "ate": float(d)} for i, d in enumerate(distances)]
        if len(distances) < len(truth):
            notes.append(
                f"{name}: {len(distances)} of {len(truth)} true poses were compared; the others have no partner"
            )
    if failed and not rows:
        raise failed[0]
    moved = {"sim3": "Sim(3)", "se3": "SE(3)", "none": "no"}[align]
    return Report(
        title="Trajectories",
        protocol=f"ATE and RPE, {moved} alignment, RPE over {delta} frame{'s' if delta > 1 else ''}",
        description="ATE: distances between positions after alignment. RPE: errors of the relative motion, all "
        "pairs. Both as the evo library computes them.",
        tables=(Table("trajectories", _COLUMNS, tuple(rows), ("ate_rmse", "rpe_rmse", "rpe_degrees_rmse")),),
        notes=tuple(notes),
        details=tuple(details),
        plots=(Plot("Absolute error over time", "compared pose", "distance, unit of the truth", tuple(series)),),
        about=versions("numpy") | {"truth": truth.name},
        incomplete=bool(failed),
    )
