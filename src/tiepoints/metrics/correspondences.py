"""Wide-baseline pairs that are judged by correspondences which a person marked (WxBS)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..features import Features
from ..geometry import epipolar_error, fundamental
from ..matching import match
from .planar import share_within

__all__ = ["DESCRIPTION", "score_correspondences"]

DESCRIPTION = (
    "Mutual nearest neighbours, then a fundamental matrix (tiepoints.fundamental, 1 px, mean over 5 seeds); corr@t is "
    "the share of the marked correspondences whose two distances from their epipolar lines are at most t pixels, 0 "
    "without a matrix (after Mishkin et al., WxBS, BMVC 2015)."
)

_SEEDS = 5


def score_correspondences(a: Features, b: Features, truth: ArrayLike) -> tuple[NDArray[np.float64], int, float]:
    """How well the estimated epipolar geometry agrees with marked correspondences.

    Parameters
    ----------
    a, b : Features
        Of the two images.
    truth : (C, 4) array
        x1 y1 x2 y2, pixels, pixel-centre convention.

    Returns
    -------
    shares : (10,) float64
        At `THRESHOLDS` pixels of the larger of the two distances; mean over 5 seeds.
    matches : int
    inliers : float
        Mean over the seeds.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.metrics.correspondences import score_correspondences
    >>> a, b = (tp.load("orb")(tp.read(f"examples/desk_{k}.jpg")) for k in (1, 2))
    >>> shares, matches, inliers = score_correspondences(a, b, [[100, 100, 120, 100]])
    >>> shares.shape
    (10,)
    """
    points = np.asarray(truth, np.float64)
    matches = match(a, b)
    shares, inliers = [], []
    for seed in range(_SEEDS):
        model = fundamental(a, b, matches, threshold=1.0, seed=seed)
        inliers.append(model.num_inliers)
        if model.matrix is None:
            shares.append(share_within(np.full(len(points), np.inf)))
        else:
            shares.append(share_within(epipolar_error(model.matrix, points[:, :2], points[:, 2:])))
    return np.mean(shares, axis=0), len(matches), float(np.mean(inliers))
