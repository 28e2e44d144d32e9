"""Absolute trajectory error (ATE) and relative pose error (RPE) of a moving camera.

Definitions: Sturm et al., A Benchmark for the Evaluation of RGB-D SLAM Systems, IROS 2012, equations 1 to 3, with the
alignment of Umeyama, PAMI 1991. The figures are those of the evo library (Grupp, 2017), which the tests compare with.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from ..errors import InvalidInputError
from ..geometry.alignment import similarity

__all__ = ["absolute_errors", "associate", "relative_errors", "rms_after_alignment", "robust_ate", "statistics"]

Float64 = NDArray[np.float64]
Indices = NDArray[np.int64]


def associate(first: ArrayLike, second: ArrayLike, max_difference: float = 0.02) -> tuple[Indices, Indices]:
    """Which times belong together: each of the shorter list with the nearest of the longer one.

    Parameters
    ----------
    first, second : (N,) and (M,) array
        Seconds, increasing.
    max_difference : float
        Seconds; times that are further apart do not belong together.

    Returns
    -------
    indices_first, indices_second : (K,) int64
        Of equally near times the earlier one counts; with equally long lists `second` looks for its partners.

    Examples
    --------
    >>> from tiepoints.metrics.trajectories import associate
    >>> [indices.tolist() for indices in associate([0.0, 0.1, 0.2, 0.3], [0.101, 0.29])]
    [[1, 3], [0, 1]]
    """
    checks.present(first, "first")
    a, b = (np.asarray(stamps, dtype=np.float64).ravel() for stamps in (first, second))
    if len(b) > len(a):
        indices_b, indices_a = associate(b, a, max_difference)
        return indices_a, indices_b
    if not len(b):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    after = np.searchsorted(a, b, side="right").clip(1, max(len(a) - 1, 1))
    before = after - 1
    after = after.clip(max=len(a) - 1)
    nearest = np.where(np.abs(a[after] - b) < np.abs(a[before] - b), after, before)
    kept = np.flatnonzero(np.abs(a[nearest] - b) <= max_difference)
    return nearest[kept].astype(np.int64), kept.astype(np.int64)


def absolute_errors(estimate: ArrayLike, truth: ArrayLike) -> Float64:
    """Distances between estimated and true positions; their root mean square is the ATE RMSE.

    Parameters
    ----------
    estimate, truth : (N, 3) array
        Positions of the camera, the estimate aligned already (`tiepoints.geometry.alignment.similarity`).

    Returns
    -------
    distances : (N,) float64
        In the unit of the positions.

    Examples
    --------
    >>> from tiepoints.metrics.trajectories import absolute_errors
    >>> absolute_errors([[0, 0, 0], [3, 4, 0]], [[0, 0, 0], [0, 0, 0]]).tolist()
    [0.0, 5.0]
    """
    a, b = (np.asarray(points, dtype=np.float64) for points in (estimate, truth))
    if a.shape != b.shape or a.ndim != 2:
        raise InvalidInputError(f"positions have shapes {a.shape} and {b.shape}, but (N, 3) is expected twice")
    return np.asarray(np.linalg.norm(a - b, axis=1))


def relative_errors(estimate: ArrayLike, truth: ArrayLike, delta: int = 1) -> tuple[Float64, Float64]:
    """How far the motion over `delta` frames is from the true one, for all pairs of poses (i, i + delta).

    Parameters
    ----------
    estimate, truth : (N, 4, 4) array
        world_from_cam.
    delta : int
        Frames, at least 1 and less than N.

    Returns
    -------
    translations : (N - delta,) float64
        Length of the translation of inverse(true motion) @ estimated motion, in the unit of the positions.
    rotations : (N - delta,) float64
        Its angle, degrees.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.metrics.trajectories import relative_errors
    >>> poses = np.tile(np.eye(4), (3, 1, 1))
    >>> moved = poses.copy()
    >>> moved[1, 0, 3] = 2
    >>> [errors.tolist() for errors in relative_errors(moved, poses)]
    [[2.0, 2.0], [0.0, 0.0]]
    """
    a, b = (np.asarray(poses, dtype=np.float64) for poses in (estimate, truth))
    if a.shape != b.shape or a.shape[1:] != (4, 4):
        raise InvalidInputError(f"poses have shapes {a.shape} and {b.shape}, but (N, 4, 4) is expected twice")
    if not 1 <= delta < len(a):
        raise InvalidInputError(f"delta is {delta} frames, but there are {len(a)} poses to compare")
    (R_a, t_a), (R_b, t_b) = _motions(a, delta), _motions(b, delta)
    difference = R_b.transpose(0, 2, 1) @ R_a
    # atan2 of sine and cosine: an arc cosine alone is off by 1e-6 degrees near 0 and 180
    axes = difference[:, [2, 0, 1], [1, 2, 0]] - difference[:, [1, 2, 0], [2, 0, 1]]
    angles = np.arctan2(np.linalg.norm(axes, axis=1), np.trace(difference, axis1=1, axis2=2) - 1)
    return np.asarray(np.linalg.norm(t_a - t_b, axis=1)), np.asarray(np.degrees(angles))


def statistics(errors: ArrayLike) -> dict[str, float]:
    """Root mean square, mean, median and maximum of errors.

    Parameters
    ----------
    errors : (N,) array

    Returns
    -------
    statistics : dict
        "rmse", "mean", "median" and "max".

    Examples
    --------
    >>> from tiepoints.metrics.trajectories import statistics
    >>> statistics([3, 4, 5])["mean"]
    4.0
    """
    checks.present(errors, "errors")
    values = np.asarray(errors, dtype=np.float64)
    return {
        "rmse": float(np.sqrt(np.mean(values**2))),
        "mean": float(np.mean(values)),
        "median": float(np.median(values)),
        "max": float(np.max(values)),
    }


def robust_ate(estimated: ArrayLike, truth: ArrayLike, seed: int = 0) -> float | None:
    """ATE of the Image Matching Benchmark: mean distance of inlying camera centres after a robust alignment.

    Similarities from samples of three centres; an inlier lies within half the centres' root mean square distance from
    their mean; the sample with the most inliers counts, of equals that with the smallest mean error. With less than
    30 % of inliers, and at most, it is half the diagonal of the centres' box. Not the RMSE that trajectories have.

    Parameters
    ----------
    estimated, truth : (N, 3) array
        Camera centres, row by row.
    seed : int
        Of the samples.

    Returns
    -------
    ate : float or None
        In the truth's unit; None with fewer than three centres.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.metrics.trajectories import robust_ate
    >>> centres = np.array([[0.0, 0, 0], [1, 0, 0], [1, 2, 0], [0, 1, 3]])
    >>> round(robust_ate(2 * centres, centres), 6)
    0.0
    """
    checks.present(estimated, "estimated")
    found, true = (np.asarray(values, dtype=np.float64).reshape(-1, 3) for values in (estimated, truth))
    count = len(true)
    if count < 3:
        return None
    threshold = 0.5 * float(np.sqrt(((true - true.mean(axis=0)) ** 2).sum(axis=1).mean()))
    worst = float(np.linalg.norm(np.ptp(true, axis=0)) / 2)
    share = max(3 / count, 0.5)
    samples = 1 if share == 1 else int(math.log(1 - 0.9999) / math.log(1 - share**3))
    rng = np.random.default_rng(seed)
    best: tuple[int, float] = (0, -np.inf)
    for _ in range(samples):
        rows = rng.permutation(count)[:3]
        moved = similarity(found[rows], true[rows])
        if moved is None:
            continue
        distances = np.linalg.norm(moved(found) - true, axis=1)
        near = distances < threshold
        if near.any():
            best = max(best, (int(near.sum()), -float(distances[near].mean())))
    inliers, error = best[0], -best[1]
    return worst if inliers < 0.3 * count or error > worst else error


def rms_after_alignment(estimated: ArrayLike, truth: ArrayLike) -> float | None:
    """Root mean square distance of camera centres after the best similarity.

    Parameters
    ----------
    estimated, truth : (N, 3) array
        Centres, row by row.

    Returns
    -------
    rms : float or None
        In the truth's unit; None with fewer than three centres.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.metrics.trajectories import rms_after_alignment
    >>> centres = np.array([[0.0, 0, 0], [1, 0, 0], [1, 2, 0], [0, 1, 3]])
    >>> round(rms_after_alignment(2 * centres + 7, centres), 6)
    0.0
    """
    checks.present(estimated, "estimated")
    found, true = (np.asarray(values, dtype=np.float64).reshape(-1, 3) for values in (estimated, truth))
    moved = similarity(found, true) if len(true) >= 3 else None
    return None if moved is None else float(np.sqrt(np.mean(absolute_errors(moved(found), true) ** 2)))


def _motions(poses: Float64, delta: int) -> tuple[Float64, Float64]:
    """Rotation and translation of inverse(pose i) @ pose (i + delta)."""
    first, last = poses[:-delta], poses[delta:]
    back = first[:, :3, :3].transpose(0, 2, 1)
    return back @ last[:, :3, :3], (back @ (last[:, :3, 3] - first[:, :3, 3])[:, :, None])[:, :, 0]
