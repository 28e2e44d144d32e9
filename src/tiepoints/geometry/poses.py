"""Essential matrix, relative pose and absolute pose of calibrated cameras, from matches with outliers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import poselib
from numpy.typing import ArrayLike, NDArray

from ..camera import Camera, as_camera
from ..errors import InvalidInputError
from ..features import Features, Matches
from .border import without_border
from .inputs import (
    check_options,
    correspondences,
    finite_points,
    image_size,
    line_tolerance,
    on_a_line,
    supported,
    usable_pixels,
)
from .residuals import essential_from_pose, sampson_error
from .results import Geometry
from .watermark import on_a_watermark

__all__ = ["absolute_pose", "essential", "relative_pose"]

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]


def relative_pose(
    a: Features | ArrayLike,
    b: Features | ArrayLike,
    matches: Matches | None = None,
    camera_a: Camera | ArrayLike | None = None,
    camera_b: Camera | ArrayLike | None = None,
    *,
    threshold: float = 1.0,
    confidence: float = 0.9999,
    max_iterations: int = 100_000,
    min_inliers: int = 8,
    seed: int = 0,
) -> Geometry:
    """Find where camera b stands relative to camera a, up to the length of the way.

    PoseLib's LO-RANSAC: five-point samples (Nister, PAMI 2004), points in front of both cameras, non-linear refinement
    of the Sampson distance. Lens distortion is taken out of the points first.

    Parameters
    ----------
    a, b : Features or (M, 2) array
        Features together with `matches`; or points [x, y] in pixels, row by row of one match, without.
    matches : Matches, optional
        Between the features `a` and `b`.
    camera_a, camera_b : Camera or (3, 3) array
        The intrinsics of the two images, distorted ones too; or their calibration matrices K. Both are needed; give the
        same one twice where one camera took both images.
    threshold : float
        Pixels. An inlier's Sampson distance is at most this, measured on undistorted normalised coordinates and turned
        into pixels by the mean of 1 / focal length of the two cameras.
    confidence : float
        Probability, between 0 and 1, of having drawn a sample without outliers before stopping.
    max_iterations : int
        Samples drawn at most; they are enough down to about 15 % of inliers.
    min_inliers : int
        Fewer inliers, counting the distinct points of either image, are no pose; at least 6. See the notes.
    seed : int
        Of the random samples: the same input and seed give the same result. No global random state is touched.

    Returns
    -------
    b_from_a : Geometry
        Of kind "relative_pose": x_b = rotation @ x_a + translation with |translation| = 1, and whether both focal
        lengths were known. Falsy if there is none: too few matches or inliers, or inliers of which all but one lie on a
        line in an image, as far as their errors tell. Matches on an overlay that does not move are left out, see
        `Geometry.watermark`.

    Raises
    ------
    InvalidInputError
        If shapes or numbers differ from the above, a coordinate is not finite, an option is out of range, or a camera
        is of another size than the image of the features.

    Notes
    -----
    If the camera only rotated, the rotation is right and the translation arbitrary. Points that the camera's model
    cannot undistort (outside the range of its polynomial) are outliers.

    Chance alone finds inliers. Among random matches in 1000x800 pixels (focal length 900) we counted, at 1 pixel, 7 to
    9 inliers of 50 to 100 matches, 15 to 19 of 1,000 and up to 22 of 2,000.

    Examples
    --------
    >>> import tiepoints as tp
    >>> camera = tp.Camera.from_focal(525, (640, 480))
    >>> sift = tp.load("rootsift")
    >>> a, b = sift("examples/desk_1.jpg"), sift("examples/desk_2.jpg")
    >>> pose = tp.relative_pose(a, b, tp.match(a, b), camera_a=camera, camera_b=camera)
    >>> pose.rotation.shape, pose.translation.shape  # x_b = rotation @ x_a + translation, of length 1
    ((3, 3), (3,))
    """
    check_options(threshold, confidence, max_iterations, min_inliers, seed, fewest=6)
    points_a, points_b = correspondences(a, b, matches)
    camera_a = as_camera(camera_a, "camera_a", image_size(a))
    camera_b = as_camera(camera_b, "camera_b", image_size(b))
    known = camera_a.focal_is_known and camera_b.focal_is_known
    rays_a, rays_b = _rays(points_a, camera_a), _rays(points_b, camera_b)
    usable = rays_a.valid & rays_b.valid

    def estimate(usable: Mask) -> tuple[Float64 | None, Mask]:
        options = _ransac_options("max_epipolar_error", threshold, confidence, max_iterations, seed)
        return _relative(rays_a, rays_b, points_a, points_b, usable, options, threshold, min_inliers)

    pose, inliers = estimate(usable)
    sizes = image_size(a), image_size(b)
    overlay = on_a_watermark(points_a, points_b, inliers, *sizes)
    if overlay is not None:
        pose, inliers = estimate(usable & ~overlay)
    model = Geometry("relative_pose", pose, inliers, watermark=overlay, focal_is_known=known, threshold=threshold)
    return without_border(model, points_a, points_b, *sizes) if overlay is None else model


def _relative(
    rays_a: _Rays,
    rays_b: _Rays,
    points_a: Float64,
    points_b: Float64,
    usable: Mask,
    ransac: dict[str, Any],
    threshold: float,
    min_inliers: int,
) -> tuple[Float64 | None, Mask]:
    """[R | t], (3, 4), and the inliers among the usable matches; None and no inlier if there is no pose."""
    nothing = None, np.zeros(len(points_a), bool)
    if not supported(min_inliers, points_a[usable], points_b[usable]):
        return nothing
    # Undistorted points of virtual pinhole cameras: PoseLib would undistort too, but without noticing where it fails.
    virtual_a, virtual_b = (rays.normalised * rays.focal for rays in (rays_a, rays_b))
    loss = {"loss_type": "CAUCHY", "loss_scale": threshold / 2}
    pinholes = (_pinhole(rays.focal) for rays in (rays_a, rays_b))
    pose, _ = poselib.estimate_relative_pose(virtual_a[usable], virtual_b[usable], *pinholes, ransac, loss)
    found = rotation_and_translation(pose)
    if found is None:
        return nothing
    rotation, translation = found
    length = float(np.linalg.norm(translation))
    if not length > 0:
        return nothing
    translation = translation / length
    # The threshold in normalised coordinates, as PoseLib itself converts it.
    normalised = (1 / rays_a.focal + 1 / rays_b.focal) / 2
    E = essential_from_pose(rotation, translation)
    errors = sampson_error(E, rays_a.normalised, rays_b.normalised) / normalised
    inliers: Mask = usable & (errors <= threshold)
    tolerance = line_tolerance(errors[inliers], threshold)
    if not supported(min_inliers, points_a[inliers], points_b[inliers]) or any(
        on_a_line(points[inliers], tolerance) for points in (virtual_a, virtual_b)
    ):
        return nothing
    return np.column_stack((rotation, translation)), inliers


def essential(
    a: Features | ArrayLike,
    b: Features | ArrayLike,
    matches: Matches | None = None,
    camera_a: Camera | ArrayLike | None = None,
    camera_b: Camera | ArrayLike | None = None,
    *,
    threshold: float = 1.0,
    confidence: float = 0.9999,
    max_iterations: int = 100_000,
    min_inliers: int = 8,
    seed: int = 0,
) -> Geometry:
    """Find the essential matrix of two calibrated images: `relative_pose`, which see, written as E = [t]x R.

    Parameters
    ----------
    a, b, matches, camera_a, camera_b, threshold, confidence, max_iterations, min_inliers, seed
        As for `relative_pose`.

    Returns
    -------
    model : Geometry
        Of kind "essential": b^T E a = 0 for undistorted normalised coordinates [x, y, 1]. Falsy if there is none.

    Raises
    ------
    InvalidInputError
        As `relative_pose`.

    Examples
    --------
    >>> import tiepoints as tp
    >>> camera = tp.Camera.from_focal(525, (640, 480))
    >>> sift = tp.load("rootsift")
    >>> a, b = sift("examples/desk_1.jpg"), sift("examples/desk_2.jpg")
    >>> model = tp.essential(a, b, tp.match(a, b), camera_a=camera, camera_b=camera)
    >>> model.kind, model.matrix.shape
    ('essential', (3, 3))
    """
    pose = relative_pose(
        a, b, matches, camera_a, camera_b, threshold=threshold, confidence=confidence,
        max_iterations=max_iterations, min_inliers=min_inliers, seed=seed,
    )  # fmt: skip
    matrix = None
    if pose.rotation is not None and pose.translation is not None:
        matrix = essential_from_pose(pose.rotation, pose.translation)
    return replace(pose, kind="essential", matrix=matrix)


def absolute_pose(
    points2d: ArrayLike,
    points3d: ArrayLike,
    camera: Camera | ArrayLike,
    *,
    threshold: float = 8.0,
    confidence: float = 0.9999,
    max_iterations: int = 100_000,
    min_inliers: int = 8,
    seed: int = 0,
) -> Geometry:
    """Find where a camera stands in the world from points of the world that its image shows.

    PoseLib's LO-RANSAC: three-point samples, non-linear refinement of the reprojection error
    in the distorted image.

    Parameters
    ----------
    points2d : (M, 2) array
        [x, y] in pixels.
    points3d : (M, 3) array
        What each shows, [x, y, z] in the world, in any unit.
    camera : Camera or (3, 3) array
        The image's intrinsics, distorted ones too; or its calibration matrix.
    threshold : float
        Pixels. An inlier's reprojection error, in the distorted image, is at most this, and it lies in front of the
        camera. It hardly moves the pose: the refinement's loss fades out from one pixel on.
    confidence : float
        Probability, between 0 and 1, of having drawn a sample without outliers before stopping.
    max_iterations : int
        Samples drawn at most; they are enough down to about 5 % of inliers.
    min_inliers : int
        Fewer inliers, counting the distinct points of the image and of the world, are no pose; at least 4.
    seed : int
        Of the random samples: the same input and seed give the same result. No global random state is touched.

    Returns
    -------
    cam_from_world : Geometry
        Of kind "absolute_pose": x_cam = rotation @ x_world + translation, in the unit of `points3d`; `center` is where
        the camera stands. Falsy if there is none: too few points or inliers, or inliers on a line of the world, around
        which it could turn.

    Raises
    ------
    InvalidInputError
        If shapes or numbers differ from the above, a coordinate is not finite or an option is out of range.

    Notes
    -----
    Chance alone finds inliers. Among random pairs in 1000x800 pixels we counted, at 8 pixels, 5 inliers of 100, 6 to 7
    of 1,000 and 8 of 2,000.

    Examples
    --------
    >>> import numpy as np, tiepoints as tp
    >>> camera = tp.Camera.from_focal(500, (640, 480))
    >>> points_3d = np.random.default_rng(0).uniform((-2, -2, 4), (2, 2, 8), (40, 3))
    >>> points = 500 * points_3d[:, :2] / points_3d[:, 2:] + (319.5, 239.5)  # seen from the origin
    >>> pose = tp.absolute_pose(points, points_3d, camera)
    >>> bool(np.allclose(pose.rotation, np.eye(3), atol=1e-3)), pose.num_inliers
    (True, 40)
    """
    check_options(threshold, confidence, max_iterations, min_inliers, seed, fewest=4)
    pixels = finite_points(points2d, 2, "points2d")
    world = finite_points(points3d, 3, "points3d")
    if len(pixels) != len(world):
        raise InvalidInputError(f"{len(pixels)} points2d but {len(world)} points3d: one of each per row is expected")
    camera = as_camera(camera, "camera")
    known = camera.focal_is_known
    nothing = Geometry("absolute_pose", None, np.zeros(len(pixels), bool), focal_is_known=known, threshold=threshold)
    rays = _rays(pixels, camera)
    usable = np.asarray(rays.valid & (np.abs(world) < 1e100).all(axis=1), dtype=bool)  # larger squares overflow
    if not supported(min_inliers, pixels[usable], world[usable]):
        return nothing
    # Around their centre and at size 1, points far from the origin or in odd units lose no digits.
    center = np.median(world[usable], axis=0)
    size = float(np.median(np.linalg.norm(world[usable] - center, axis=1)))
    if not size > 0:  # most of the points are one and the same
        size = float(np.linalg.norm(world[usable] - center, axis=1).max())
    local = (world - center) / size
    ransac = _ransac_options("max_reproj_error", threshold, confidence, max_iterations, seed)
    loss = {"loss_type": "CAUCHY", "loss_scale": 1.0}
    seen, model = _for_poselib(rays, camera)
    pose, _ = poselib.estimate_absolute_pose(seen[usable], local[usable], model, ransac, loss)
    found = rotation_and_translation(pose)
    if found is None:
        return nothing
    rotation, translation = found
    in_camera = np.where(usable[:, None], local, 0.0) @ rotation.T + translation  # (M, 3)
    inliers = np.asarray(usable & (in_camera[:, 2] > 0), dtype=bool)
    inliers[inliers] = _reprojection_error(in_camera[inliers], pixels[inliers], camera) <= threshold
    if not supported(min_inliers, pixels[inliers], world[inliers]):
        return nothing
    # Points on a line of the world: what they stray from it would be seen as less than a fraction of the threshold.
    strays = threshold / 8 * float(np.median(in_camera[inliers, 2])) / rays.focal
    spread = np.linalg.svd(local[inliers] - local[inliers].mean(axis=0), compute_uv=False)
    if spread[1] <= strays * np.sqrt(np.count_nonzero(inliers)):
        return nothing
    matrix = np.column_stack((rotation, translation * size - rotation @ center))
    return replace(nothing, matrix=matrix, inliers=inliers)


class _Rays(NamedTuple):
    """Image points seen as directions.

    normalised: (M, 2) undistorted, [x, y] of the ray with z = 1; pixels: (M, 2), what PoseLib can undistort; valid:
    (M,), the others' rays are 0; focal: mean focal length in pixels.
    """

    normalised: Float64
    pixels: Float64
    valid: Mask
    focal: float


# The camera models that PoseLib 2.0.5 knows; of others it returns memory that was never written.
_POSELIB = frozenset(
    ["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE", "FULL_OPENCV"]
)


def _pinhole(focal: float) -> dict[str, Any]:
    return {"model": "SIMPLE_PINHOLE", "width": 1, "height": 1, "params": [focal, 0.0, 0.0]}


def _for_poselib(rays: _Rays, camera: Camera) -> tuple[Float64, dict[str, Any]]:
    if camera.model in _POSELIB:
        return rays.pixels, camera.as_dict()
    return rays.normalised * rays.focal, _pinhole(rays.focal)  # as undistorted points of a virtual camera


def for_poselib(pixels: Float64, camera: Camera) -> tuple[Float64, dict[str, Any]]:
    """Image points (M, 2) and the camera as PoseLib takes them."""
    return _for_poselib(_rays(pixels, camera), camera)


def _unproject(camera: Camera, pixels: Float64) -> Float64:
    """(M, 2) rays with z = 1 of pixels (M, 2); NaN where the model gives none."""
    if camera.model in _POSELIB:
        model = poselib.Camera(camera.model, list(camera.params), camera.width, camera.height)
        return np.asarray(model.unproject(pixels), dtype=np.float64).reshape(-1, 2)
    rays = camera.to_pycolmap().cam_from_img(pixels + 0.5)
    return np.asarray(rays, dtype=np.float64).reshape(-1, 2)


def _project(camera: Camera, rays: Float64) -> Float64:
    """The inverse of `_unproject`."""
    if camera.model in _POSELIB:
        model = poselib.Camera(camera.model, list(camera.params), camera.width, camera.height)
        return np.asarray(model.project(rays), dtype=np.float64).reshape(-1, 2)
    pixels = camera.to_pycolmap().img_from_cam(np.column_stack((rays, np.ones(len(rays)))))
    return np.asarray(pixels, dtype=np.float64).reshape(-1, 2) - 0.5


def _rays(pixels: Float64, camera: Camera) -> _Rays:
    valid = usable_pixels(pixels)
    pixels = np.where(valid[:, None], pixels, 0.0)
    matrix = camera.matrix
    # PoseLib 2.0.5 divides by the distance from the principal point: a point on it must be moved, if by a millionth.
    on_center = np.asarray((np.abs(pixels - matrix[:2, 2]) < 1e-6).all(axis=1), dtype=bool)
    pixels = np.where(on_center[:, None], matrix[:2, 2] + 1e-6, pixels)
    normalised = _unproject(camera, pixels)
    finite = np.asarray(np.isfinite(normalised).all(axis=1), dtype=bool)
    normalised = np.where(finite[:, None], normalised, 0.0)
    # Outside the range of a distortion's polynomial the iteration ends somewhere: there and back does not close.
    back = _project(camera, normalised)
    with np.errstate(invalid="ignore", over="ignore"):
        valid = np.asarray(valid & finite & (np.abs(back - pixels) < 0.01).all(axis=1), dtype=bool)
    return _Rays(np.where(valid[:, None], normalised, 0.0), pixels, valid, float((matrix[0, 0] + matrix[1, 1]) / 2))


def _reprojection_error(in_camera: Float64, pixels: Float64, camera: Camera) -> Float64:
    """Pixels (M,) between where points in front of the camera fall and where they were seen."""
    with np.errstate(all="ignore"):  # a depth of nearly 0 may overflow: not an inlier
        projected = _project(camera, in_camera[:, :2] / in_camera[:, 2:])
        errors = np.hypot(*(projected - pixels).T)
    return np.where(np.isfinite(errors), errors, np.inf)


def _ransac_options(name: str, threshold: float, confidence: float, iterations: int, seed: int) -> dict[str, Any]:
    return {
        name: float(threshold),
        "success_prob": float(confidence),
        "max_iterations": int(iterations),
        # PoseLib's own 1,000, and three times the iterations that the confidence asks for, cost two to three times the
        # time and gained nothing: mAA@10 .914 either way on Strecha's pairs, median error .26 and .23 degrees at 80 %
        # outliers.
        "min_iterations": min(100, int(iterations)),
        "dyn_num_trials_mult": 1.0,
        "seed": int(seed),
    }


def rotation_and_translation(pose: Any) -> tuple[Float64, Float64] | None:
    rotation, translation = np.array(pose.R, dtype=np.float64), np.array(pose.t, dtype=np.float64).reshape(3)
    if not (np.isfinite(rotation).all() and np.isfinite(translation).all()):
        return None
    return rotation, translation
