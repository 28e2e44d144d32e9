"""Whether inliers are more than chance would give."""

from __future__ import annotations

import math

from .. import checks
from ..errors import InvalidInputError
from .results import Geometry, Kind

__all__ = ["is_verified", "log_nfa"]

#: A model is verified where its `log_nfa` is at most this. That count takes the places of wrong matches as
#: independent, but they gather where an image has texture: of 703 pairs of unrelated photographs (MD-Net, 2,048
#: keypoints, fundamental matrices as `collection.Verify` finds them) 1.1 % came out below 0, 0.4 % below -4, and one
#: below -8. Of homographies of 300 such pairs 2.3 % came out below 0, 0.7 % below -4 and none below -8; but of 102
#: photographs with themselves rotated by 90 degrees, which MD-Net does not know as the same, 4 did: frames, squares and
#: grids look alike in both. Ours.
VERIFIED = -8.0

#: Samples that one of many pairs gets at most, those of the best matches first. A pair of different scenes gets all.
SAMPLES = 3_000

# Matches that define a model, models a sample gives at most, and the dimensions in which an error can lie.
_SAMPLE = {"homography": (4, 1, 2), "fundamental": (7, 3, 1), "essential": (5, 10, 1), "relative_pose": (5, 10, 1)}


def log_nfa(model: Geometry, threshold: float, image_size: tuple[int, int]) -> float:
    """How many models with so many inliers unrelated images would give: log10 of the expected number.

    Down from `VERIFIED` (-8) the model is real evidence, above it the images may as well show different things. A
    random point of the second image lies within `threshold` of its epipolar line, or of its place, with a
    probability p that follows from the image's size; the number of false alarms counts every way to choose the
    inliers among the matches and the sample among the inliers (Moisan and Stival, A Probabilistic Criterion to
    Detect Rigid Point Matches and Estimate the Fundamental Matrix, IJCV 2004).

    Parameters
    ----------
    model : Geometry
        With one inlier flag for each match.
    threshold : float
        Pixels, as given to the estimate.
    image_size : (int, int)
        (width, height) of the second image.

    Returns
    -------
    log10 : float
        Infinite where there is no model.

    Raises
    ------
    InvalidInputError
        If the threshold or the size is not positive.

    Examples
    --------
    >>> import numpy as np, tiepoints as tp
    >>> from tiepoints.geometry import log_nfa
    >>> points = np.random.default_rng(0).uniform(0, 500, (50, 2))
    >>> model = tp.homography(points, points + 3, threshold=3.0)
    >>> bool(log_nfa(model, 3.0, (500, 500)) < -10)  # far from chance
    True
    """
    width, height = checks.size(image_size)
    threshold = checks.number(threshold, "threshold", above=0)
    if model.kind not in _SAMPLE:
        raise InvalidInputError(f"the number of false alarms is of two views in pixels, not of a {model.kind}")
    return (
        log_nfa_of(model.kind, len(model.inliers), model.num_inliers, threshold, (width, height)) if model else math.inf
    )


def log_nfa_of(kind: Kind, n: int, k: int, threshold: float, image_size: tuple[int, int]) -> float:
    """`log_nfa` of a model of that kind with k inliers among n matches."""
    width, height = image_size
    sample, models, dimensions = _SAMPLE[kind]
    if k <= sample:
        return math.inf
    if dimensions == 1:
        # Sampson's distance spreads the error over both images: up to sqrt(2) of it lies between point and line in one.
        p = 2 * math.sqrt(2) * threshold * math.hypot(width, height) / (width * height)
    else:
        p = math.pi * threshold**2 / (width * height)
    return log_expected(n, k, sample, models, p)


def is_verified(model: Geometry, image_size: tuple[int, int]) -> bool | None:
    """Whether a model of two views has more inliers than chance gives: `log_nfa` of its threshold down from -8.

    Parameters
    ----------
    model : Geometry
    image_size : (int, int)
        (width, height) of the second image.

    Returns
    -------
    verified : bool or None
        None where it does not know its threshold, or is no model of two views.

    Examples
    --------
    >>> import numpy as np, tiepoints as tp
    >>> from tiepoints.geometry import is_verified
    >>> a, b = np.random.default_rng(0).uniform(0, 500, (2, 500, 2))  # nothing to do with each other
    >>> is_verified(tp.fundamental(a, b), (500, 500)), is_verified(tp.fundamental(a, a + 3), (500, 500))
    (False, True)
    """
    checks.instance(model, "model", Geometry)
    if model.threshold is None or model.kind not in _SAMPLE:
        return None
    return bool(log_nfa(model, model.threshold, image_size) <= VERIFIED)


def log_expected(n: int, k: int, sample: int, models: int, p: float) -> float:
    """log10 of the expected number of models with k inliers among n random matches, k > sample.

    A sample of so many matches gives so many models, and a random match agrees with one with the probability p.
    """
    natural = math.log(models * max(n - sample, 1)) + _log_choose(n, k) + _log_choose(k, sample)
    return (natural + (k - sample) * math.log(min(p, 1.0))) / math.log(10)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
