"""Repeatability and matching score of a pair with depth maps, as the Image Matching Benchmark computes them.

Definitions of the benchmark's released code (``stereo_helper.py``, ``pack_helper.py``): a keypoint's depth is that of
the pixel that it lies on; distances count as near where they are strictly below the threshold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from .poses import relative_pose_between

__all__ = ["THRESHOLDS", "depth_at", "matching_scores", "repeatabilities", "transfer"]

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
#: K, R, t.
CalibratedPose = tuple[Float64, Float64, Float64]

#: Pixels; the table of the benchmark shows 3.
THRESHOLDS = tuple(range(1, 11))


def depth_at(depth: Float32, keypoints: ArrayLike) -> Float64:
    """The depth of keypoints.

    Parameters
    ----------
    depth : (H, W) float32
    keypoints : (N, 2) array
        [x, y] in pixels, pixel-centre convention.

    Returns
    -------
    depths : (N,) float64
        0 outside the map and where it is not known.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.metrics.depth import depth_at
    >>> depth_at(np.array([[1, 2], [3, 4]], np.float32), [[0.2, 0.9], [5, 0]]).tolist()
    [3.0, 0.0]
    """
    checks.present(depth, "depth")
    column, row = np.rint(np.asarray(keypoints, dtype=np.float64)).astype(np.int64).T
    height, width = depth.shape
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    values = np.zeros(len(column))
    values[inside] = depth[row[inside], column[inside]]
    return values


def transfer(points: ArrayLike, depth: Float64, source: CalibratedPose, target: CalibratedPose) -> Float64:
    """Where points of the image `source` lie in the image `target`.

    Parameters
    ----------
    points : (N, 2) array
        [x, y] in pixels of `source`.
    depth : (N,) float64
        z in the source's camera; 0 where it is not known.
    source, target : ((3, 3) array, (3, 3) array, (3,) array)
        K, R, t of both images: calibration in the pixel-centre convention, x_cam = R @ x_world + t.

    Returns
    -------
    projected : (N, 2) float64
        Pixels of `target`; NaN where the depth is not known.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.metrics.depth import transfer
    >>> K = np.array([[100.0, 0, 50], [0, 100, 50], [0, 0, 1]])
    >>> a, b = (K, np.eye(3), np.zeros(3)), (K, np.eye(3), np.array([-0.1, 0, 0]))
    >>> transfer([[50, 50]], np.array([2.0]), a, b).tolist()
    [[45.0, 50.0]]
    """
    checks.present(points, "points")
    pixels = np.asarray(points, dtype=np.float64)
    K_source, K_target = source[0], target[0]
    rotation, translation = relative_pose_between(source[1:], target[1:])
    rays = np.column_stack(((pixels - K_source[:2, 2]) / K_source[[0, 1], [0, 1]], np.ones(len(pixels))))
    seen = (rays * depth[:, None]) @ rotation.T + translation
    with np.errstate(divide="ignore", invalid="ignore"):
        projected = seen[:, :2] / seen[:, 2:] * K_target[[0, 1], [0, 1]] + K_target[:2, 2]
    projected[depth <= 0] = np.nan
    return projected


def repeatabilities(
    a: ArrayLike, b: ArrayLike, a_in_b: Float64, b_in_a: Float64, size_a: tuple[int, int], size_b: tuple[int, int]
) -> Float64:
    """Share of the covisible keypoints that have one of the other image within 1, 2, ... 10 pixels; both ways' mean.

    A keypoint is covisible if its depth is known and it is projected left of the other image's right edge and above its
    lower edge. That is the benchmark's test, to the letter: it does not ask for the other two edges, so that points far
    outside on that side count as misses.

    Parameters
    ----------
    a, b : (N, 2) and (M, 2) array
        Keypoints of both images.
    a_in_b, b_in_a : (N, 2) and (M, 2) float64
        The same in the other image, see `transfer`.
    size_a, size_b : (int, int)
        (width, height) of the images.

    Returns
    -------
    repeatabilities : (10,) float64
        0 for a direction without covisible keypoints.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.metrics.depth import repeatabilities
    >>> a, b = np.array([[10.0, 10], [30, 30]]), np.array([[12.5, 10]])
    >>> repeatabilities(a, b, a, b, (64, 48), (64, 48))[:3].tolist()
    [0.0, 0.0, 0.75]
    """
    checks.present(a, "a")
    return (_found(a_in_b, b, size_b) + _found(b_in_a, a, size_a)) / 2


def _found(projected: Float64, keypoints: ArrayLike, size: tuple[int, int]) -> Float64:
    with np.errstate(invalid="ignore"):
        covisible = projected[(projected[:, 0] < size[0]) & (projected[:, 1] < size[1])]
    targets = np.asarray(keypoints, dtype=np.float64)
    if not len(covisible) or not len(targets):
        return np.zeros(len(THRESHOLDS))
    nearest = np.full(len(covisible), np.inf)
    for start in range(0, len(targets), 512):  # blocks: 8,000 x 8,000 distances would be half a gigabyte
        block = targets[start : start + 512]
        squared = ((covisible[:, None, :] - block[None]) ** 2).sum(axis=2)
        np.minimum(nearest, squared.min(axis=1), out=nearest)
    return np.array([(nearest < t * t).mean() for t in THRESHOLDS])


def matching_scores(a: ArrayLike, b_in_a: Float64, depth_a: Float64) -> Float64:
    """Share of matches that are right by the depth maps, within 1, 2, ... 10 pixels.

    Parameters
    ----------
    a : (M, 2) array
        The matched keypoints in image a.
    b_in_a : (M, 2) float64
        Their partners in image b, projected into a; NaN without depth. The benchmark looks at this direction only.
    depth_a : (M,) float64
        The depth of the keypoints in a; matches of which one has none do not count.

    Returns
    -------
    scores : (10,) float64
        0 without such matches.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.metrics.depth import matching_scores
    >>> matching_scores([[10, 10], [30, 30]], np.array([[10.5, 10], [30, 35]]), np.ones(2))[:2].tolist()
    [0.5, 0.5]
    """
    checks.present(a, "a")
    known = (depth_a > 0) & np.isfinite(b_in_a).all(axis=1)
    if not known.any():
        return np.zeros(len(THRESHOLDS))
    distance = np.hypot(*(b_in_a[known] - np.asarray(a, dtype=np.float64)[known]).T)
    return np.array([(distance < t).mean() for t in THRESHOLDS])
