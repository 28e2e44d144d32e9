"""Models that are refined on all matches which agree with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import poselib
from numpy.typing import ArrayLike, NDArray

from ..camera import Camera
from ..errors import InvalidInputError
from ..features import Features, Matches
from .inputs import correspondences, supported, usable_pixels
from .poses import for_poselib, rotation_and_translation
from .residuals import on_one_side, sampson_error, symmetric_homography_error, unit_matrix
from .results import Geometry

__all__ = ["refined", "refined_pose"]


def refined(
    model: Geometry, a: Features | ArrayLike, b: Features | ArrayLike, matches: Matches | None, threshold: float
) -> Geometry:
    """The model, refined on those of these matches that agree with it; no samples are drawn.

    Parameters
    ----------
    model : Geometry
        A fundamental matrix or homography, of these or of some of these matches.
    a, b, matches
        As for `fundamental`.
    threshold : float
        Pixels, as there.

    Returns
    -------
    model : Geometry
        With one flag for each of these matches. Falsy if `model` is, or fewer than 8 agree.

    Raises
    ------
    InvalidInputError
        If the model is of another kind.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.geometry.refinement import refined
    >>> orb = tp.load("orb")
    >>> a, b = orb("examples/desk_1.jpg"), orb("examples/desk_2.jpg")
    >>> matches = tp.match(a, b)
    >>> few = tp.fundamental(a, b, matches[::2])
    >>> refined(few, a, b, matches, 1.0).num_inliers > 1.5 * few.num_inliers
    True
    """
    if model.kind not in ("fundamental", "homography"):
        raise InvalidInputError(f"a fundamental matrix or homography can be refined here, not a {model.kind}")
    p, q = correspondences(a, b, matches)
    none = Geometry(model.kind, None, np.zeros(len(p), bool), threshold=threshold)
    if model.matrix is None:
        return none
    usable = usable_pixels(p, q)
    error = sampson_error if model.kind == "fundamental" else symmetric_homography_error

    def agree(matrix: NDArray[np.float64]) -> NDArray[np.bool_]:
        inliers = usable.copy()
        inliers[usable] = error(matrix, p[usable], q[usable]) <= threshold
        return inliers if model.kind == "fundamental" else on_one_side(matrix, p, inliers)

    matrix, inliers = model.matrix, agree(model.matrix)
    if not supported(8, p[inliers], q[inliers]):
        return none
    better = _better(matrix, model.kind, p[inliers], q[inliers], threshold)
    after = agree(better)
    if np.count_nonzero(after) >= np.count_nonzero(inliers):
        matrix, inliers = better, after
    return replace(none, matrix=matrix, inliers=inliers)


def _better(
    matrix: NDArray[np.float64], kind: str, p: NDArray[np.float64], q: NDArray[np.float64], threshold: float
) -> NDArray[np.float64]:
    """One non-linear refinement; the matrix itself where it fails."""
    options = {"loss_type": "CAUCHY", "loss_scale": threshold / 2}  # as in `fundamental`
    refine = poselib.refine_fundamental if kind == "fundamental" else poselib.refine_homography
    # From the points' corners, as there: coordinates around 0 are better conditioned.
    shift_p, shift_q = np.eye(3), np.eye(3)
    shift_p[:2, 2], shift_q[:2, 2] = p.min(axis=0), q.min(axis=0)
    if kind == "fundamental":
        found, _ = refine(p - shift_p[:2, 2], q - shift_q[:2, 2], shift_q.T @ matrix @ shift_p, options)
        back = np.linalg.inv(shift_q).T @ found @ np.linalg.inv(shift_p)
    else:
        found, _ = refine(p - shift_p[:2, 2], q - shift_q[:2, 2], np.linalg.inv(shift_q) @ matrix @ shift_p, options)
        back = shift_q @ found @ np.linalg.inv(shift_p)
    if not np.isfinite(back).all():
        return matrix
    unit = unit_matrix(back)
    return unit / unit[2, 2] if kind == "homography" and abs(unit[2, 2]) > 1e-8 else unit


def refined_pose(
    model: Geometry, points2d: NDArray[np.float64], points3d: NDArray[np.float64], camera: Camera, noise: float
) -> Geometry:
    """An absolute pose, refined on points that agree with it; its inliers stay as they are.

    Parameters
    ----------
    model : Geometry
    points2d, points3d : (M, 2), (M, 3) arrays
        In pixels and in the world, row by row.
    camera : Camera
    noise : float
        Pixels: errors beyond it pull less (the scale of a Cauchy loss).

    Returns
    -------
    model : Geometry
        The same where the refinement fails.

    Examples
    --------
    >>> import numpy as np, tiepoints as tp
    >>> from tiepoints.geometry.refinement import refined_pose
    >>> camera = tp.Camera.from_focal(500, (640, 480))
    >>> points_3d = np.random.default_rng(0).uniform((-2, -2, 4), (2, 2, 8), (40, 3))
    >>> points = 500 * points_3d[:, :2] / points_3d[:, 2:] + (319.5, 239.5)
    >>> rough = tp.absolute_pose(points + np.random.default_rng(1).normal(0, 1, (40, 2)), points_3d, camera)
    >>> better = refined_pose(rough, points, points_3d, camera, 0.5)
    >>> bool(np.linalg.norm(better.center) < 1e-4 < np.linalg.norm(rough.center))
    True
    """
    if model.rotation is None or model.translation is None:
        return model
    seen, known = for_poselib(points2d, camera)
    # As in `absolute_pose`: around their centre and at size 1.
    center = np.median(points3d, axis=0)
    size = max(float(np.median(np.linalg.norm(points3d - center, axis=1))), 1e-12)
    pose = poselib.CameraPose()
    pose.R, pose.t = model.rotation, (model.translation + model.rotation @ center) / size
    loss = {"loss_type": "CAUCHY", "loss_scale": noise}
    found, _ = poselib.refine_absolute_pose(seen, (points3d - center) / size, pose, known, loss)
    parts = rotation_and_translation(found)
    if parts is None:
        return model
    rotation, translation = parts
    return replace(model, matrix=np.column_stack((rotation, translation * size - rotation @ center)))
