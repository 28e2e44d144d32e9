"""How accurate relative poses are: the error of a pair, and the mean average accuracy (mAA) over many.

Protocol of the Image Matching Benchmark (Jin et al., Image Matching across Wide Baselines, IJCV 2021, section 3.2). Its
mAA is not the area under the error curve by trapezoids (AUC) that MegaDepth-1500 reports: the two differ by several
points on the same errors.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from ..errors import InvalidInputError
from ..geometry import pose_error

__all__ = ["accuracies", "mean_average_accuracy", "pairwise_errors", "relative_pose_between"]

Float64 = NDArray[np.float64]
#: (R, t) with x_cam = R @ x_world + t.
CamFromWorld = tuple[ArrayLike, ArrayLike]


def accuracies(errors: ArrayLike, limit: int = 10) -> Float64:
    """Share of the pairs whose error is below 1, 2, ... `limit` degrees.

    Parameters
    ----------
    errors : (N,) array
        Degrees, one for every pair; infinite where no pose was found.
    limit : int
        The last whole degree.

    Returns
    -------
    accuracies : (limit,) float64
        In [0, 1], increasing; NaN without pairs.

    Raises
    ------
    InvalidInputError
        If an error is negative or not a number, or the limit is below 1.

    Examples
    --------
    >>> from tiepoints.metrics.poses import accuracies
    >>> accuracies([0.5, 2.5, float("inf")], 4).round(3).tolist()
    [0.333, 0.333, 0.667, 0.667]
    """
    values = np.asarray(errors, dtype=np.float64).ravel()
    if np.isnan(values).any() or (values < 0).any():
        raise InvalidInputError("pose errors must be degrees from 0 on; use infinity for a pair without a pose")
    if limit < 1:
        raise InvalidInputError(f"limit is {limit}, but at least 1 degree is expected")
    if not len(values):
        return np.full(limit, np.nan)
    # The last bin of np.histogram is closed on the right, [9, 10]; those of the protocol are all half open.
    inside = values[values < limit]
    counts, _ = np.histogram(inside, np.arange(limit + 1))
    return np.asarray(np.cumsum(counts / len(values)), dtype=np.float64)


def mean_average_accuracy(errors: ArrayLike, limit: int = 10) -> float:
    """mAA: the mean of `accuracies`; errors are counted in bins of one degree, failures as misses.

    Parameters
    ----------
    errors : (N,) array
        Degrees, one for every pair; infinite where no pose was found.
    limit : int
        10 for mAA@10, 5 for mAA@5.

    Returns
    -------
    maa : float
        In [0, 1]; NaN without pairs.

    Raises
    ------
    InvalidInputError
        As `accuracies`.

    Examples
    --------
    >>> from tiepoints.metrics.poses import mean_average_accuracy
    >>> mean_average_accuracy([0.5, float("inf")])
    0.5
    """
    return float(accuracies(errors, limit).mean())


def relative_pose_between(a: CamFromWorld, b: CamFromWorld) -> tuple[Float64, Float64]:
    """The pose b_from_a of two cameras.

    Parameters
    ----------
    a, b : ((3, 3) array, (3,) array)
        Rotation and translation of each camera, x_cam = R @ x_world + t.

    Returns
    -------
    rotation : (3, 3) float64
    translation : (3,) float64
        x_b = rotation @ x_a + translation, in the unit of the world.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.metrics.poses import relative_pose_between
    >>> R, t = relative_pose_between((np.eye(3), np.zeros(3)), (np.eye(3), np.array([1.0, 0, 0])))
    >>> t.tolist()
    [1.0, 0.0, 0.0]
    """
    checks.present(a, "a")
    checks.present(b, "b")
    rotation_a, rotation_b = (np.asarray(pose[0], dtype=np.float64) for pose in (a, b))
    translation_a, translation_b = (np.asarray(pose[1], dtype=np.float64).reshape(3) for pose in (a, b))
    rotation = rotation_b @ rotation_a.T
    return rotation, translation_b - rotation @ translation_a


def pairwise_errors(
    estimated: Mapping[str, CamFromWorld], truth: Mapping[str, CamFromWorld]
) -> dict[tuple[str, str], float]:
    """The error of every pair of images of a reconstruction.

    Parameters
    ----------
    estimated : mapping of str to (R, t)
        Poses cam_from_world of the images that were registered, in any frame and scale.
    truth : mapping of str to (R, t)
        True poses of all images that were to be registered.

    Returns
    -------
    errors : dict of (str, str) to float
        Degrees, the larger of the rotation's and the translation's angle (without its sign); infinite where an image of
        the pair is not registered.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.metrics.poses import pairwise_errors
    >>> truth = {name: (np.eye(3), np.array([x, 0.0, 0])) for name, x in (("a", 0), ("b", 1), ("c", 2))}
    >>> pairwise_errors({"a": truth["a"], "b": truth["b"]}, truth)
    {('a', 'b'): 0.0, ('a', 'c'): inf, ('b', 'c'): inf}
    """
    checks.instance(estimated, "estimated", Mapping)
    checks.instance(truth, "truth", Mapping)
    errors: dict[tuple[str, str], float] = {}
    for a, b in itertools.combinations(truth, 2):
        if a not in estimated or b not in estimated:
            errors[a, b] = np.inf
            continue
        found = relative_pose_between(estimated[a], estimated[b])
        errors[a, b] = max(pose_error(*found, *relative_pose_between(truth[a], truth[b])))
    return errors
