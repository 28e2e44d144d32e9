"""Keypoints of a reconstruction where the photographs themselves say that they are: least squares matching.

A detector finds each keypoint in one image alone, and is off by half a pixel or so in each. The patches around the
keypoints of a track show the same piece of a surface. Its plane and the cameras say how one patch looks in another
image; how far that is from what is there is solved for by least squares over grey values, to a tenth of a pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..threads import limited, run_pieces
from .patches import SCALE, SIDE, Pictures, locate, prepared, square

__all__ = ["Aligned", "PointPatches", "align_keypoints", "align_query", "no_patches", "point_patches"]

Float64 = NDArray[np.float64]

_AT_ONCE = 4000  # patches
# How much finer or coarser a query may show a point than its patch, which has one size. Ours.
_QUERY_SCALE = 2.0
_FLAT = 1e-12  # a plane seen edge-on


class _Observations(NamedTuple):
    """One row for each keypoint that is not its track's reference."""

    image: NDArray[np.int64]  # (N,) the keypoint's image, as its place in the list of images
    keypoint: NDArray[np.int64]  # (N,) its number there
    xy: Float64  # (N, 2) COLMAP's pixels
    other: NDArray[np.int64]  # (N,) the reference's image
    other_xy: Float64  # (N, 2)
    affine: Float64  # (N, 2, 2) from pixels around the reference to pixels around the keypoint


class Aligned(NamedTuple):
    """What `align_keypoints` did.

    moved: how many keypoints were moved; errors: by the images' numbers, of each keypoint (K,) how far off it may be in
    its least certain direction, in pixels. 0 of the keypoint of its track that the others are aligned with, and
    infinite of those that were not aligned.
    """

    moved: int
    errors: dict[int, Float64]


def align_keypoints(
    model: Any, read: Callable[[str], NDArray[np.uint8]], progress: Callable[[int, int], None] | None = None
) -> Aligned:
    """Move the keypoints of a model's tracks to where their patches agree.

    Of each track the keypoint that is seen most frontally stays. The patch around it is taken to be flat and to face
    the mean direction of the cameras. That gives an affine map to each other image, where the search for the patch
    begins; see `patches.locate`. A keypoint is moved where the patches then correlate by at least .8, and by at most 3
    pixels. Photographs beyond 1600 pixels are shrunk.

    Parameters
    ----------
    model : pycolmap.Reconstruction
        Its 2D points are changed; a bundle adjustment should follow.
    read : callable
        From an image's name to its grey values as they are stored, (H, W) uint8. Where it raises `ImageError` that
        image's keypoints stay.
    progress : callable, optional
        Called as ``progress(done, all)``, of pairs of images.

    Returns
    -------
    aligned : Aligned

    Examples
    --------
    >>> from pathlib import Path
    >>> import pycolmap
    >>> import tiepoints as tp
    >>> from tiepoints.tasks.alignment import align_keypoints
    >>> model = pycolmap.Reconstruction("scene/sparse/0")    # doctest: +SKIP
    >>> read = lambda name: tp.read(Path("photos", name), grey=True, upright=False)
    >>> align_keypoints(model, read).moved    # doctest: +SKIP
    15659
    """
    images = [model.image(i) for i in sorted(model.reg_image_ids())]
    surfaces = _surfaces(model, images)
    errors = {image.image_id: np.full(image.num_points2D(), np.inf) for image in images}
    if surfaces is None:
        return Aligned(0, errors)
    for row in surfaces.reference[surfaces.reference >= 0].tolist():
        errors[images[surfaces.image[row]].image_id][surfaces.keypoint[row]] = 0.0
    found = _observations(surfaces)
    pictures = Pictures(read)
    # images, keypoints of theirs, places and errors of these
    moved: list[tuple[Any, NDArray[np.int64], Float64, Float64]] = []
    order = np.lexsort([found.image, found.other])
    bounds = np.flatnonzero(np.diff(found.other[order]) | np.diff(found.image[order])) + 1

    def align(rows: NDArray[np.int64], _: None) -> None:
        a, b = images[found.other[rows[0]]], images[found.image[rows[0]]]
        one, two = pictures[a.name], pictures[b.name]
        if one is None or two is None:
            return
        # COLMAP's pixels have their centres at .5
        place_a, place_b = (found.other_xy[rows] * one.scale - 0.5, found.xy[rows] * two.scale - 0.5)
        affine = found.affine[rows] * (two.scale / one.scale)
        # A sample is a pixel of the image that shows the surface more coarsely.
        unit = np.maximum(1.0, 1.0 / np.sqrt(np.abs(np.linalg.det(affine))))[:, None, None]
        placed, good, error = locate(square(one.grey, place_a, unit), two.grey, place_b, affine * unit)
        moved.append((b, found.keypoint[rows[good]], (placed[good] + 0.5) / two.scale, error[good] / two.scale))

    parts = [rows for rows in _parts(np.split(order, bounds)) if len(rows)]
    done = count()

    def told(rows: NDArray[np.int64], ours: None) -> None:
        align(rows, ours)
        if progress is not None:
            progress(next(done) + 1, len(parts))

    run_pieces([partial(told, rows) for rows in parts], lambda _: None)
    for image, keypoints, places, off in moved:
        errors[image.image_id][keypoints] = off
        for keypoint, place in zip(keypoints.tolist(), places, strict=True):
            image.points2D[keypoint].xy = place
    return Aligned(sum(len(keypoints) for _, keypoints, _, _ in moved), errors)


class PointPatches(NamedTuple):
    """What points look like, each in the image that sees it most frontally.

    patches: (P, 15, 15) uint8, stretched to all of its range; frames: (P, 3, 2) float32, how far a sample is in x and
    in y in the world, and 0 where there is no patch.
    """

    patches: NDArray[np.uint8]
    frames: NDArray[np.float32]

    def of(self, rows: Any) -> PointPatches:
        """Those of some of the points."""
        return PointPatches(self.patches[rows], self.frames[rows])


def no_patches(count: int) -> PointPatches:
    """Of points that have none."""
    return PointPatches(np.zeros((count, SIDE, SIDE), np.uint8), np.zeros((count, 3, 2), np.float32))


def point_patches(model: Any, read: Callable[[str], NDArray[np.uint8]]) -> PointPatches:
    """A patch of each point of a model, around where the point is projected: there all of its keypoints count.

    Parameters
    ----------
    model : pycolmap.Reconstruction
    read : callable
        As for `align_keypoints`.

    Returns
    -------
    patches : PointPatches
        In the order of the points' numbers.

    Examples
    --------
    >>> from pathlib import Path
    >>> import pycolmap
    >>> import tiepoints as tp
    >>> from tiepoints.tasks.alignment import point_patches
    >>> model = pycolmap.Reconstruction("scene/sparse/0")    # doctest: +SKIP
    >>> read = lambda name: tp.read(Path("photos", name), grey=True, upright=False)
    >>> kept = point_patches(model, read)    # doctest: +SKIP
    >>> kept.patches.shape    # doctest: +SKIP
    (2744, 15, 15)
    """
    images = [model.image(i) for i in sorted(model.reg_image_ids())]
    numbers = np.array(sorted(model.point3D_ids()))
    kept = no_patches(len(numbers))
    surfaces = _surfaces(model, images)
    if surfaces is None:
        return kept
    pictures = Pictures(read)
    jacobian = surfaces.jacobian[surfaces.reference]
    usable = (surfaces.reference >= 0) & (surfaces.depth[surfaces.reference] > 0)
    usable &= np.abs(np.linalg.det(jacobian)) > _FLAT
    own = surfaces.image[surfaces.reference]

    def cut(place: int, _: None) -> None:
        image, rows = images[place], np.flatnonzero(usable & (own == place))
        picture = pictures[image.name] if len(rows) else None
        if picture is None:
            return
        xyz = np.array([model.point3D(number).xyz for number in numbers[rows]])
        pose = image.cam_from_world()
        seen = xyz @ pose.rotation.matrix().T + pose.translation
        at = np.asarray(model.camera(image.camera_id).img_from_cam(seen)) * picture.scale - 0.5
        values = square(picture.grey, at)
        low, high = values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)
        kept.patches[rows] = np.rint((values - low) * (255 / np.maximum(high - low, 1e-6)))
        kept.frames[rows] = surfaces.plane[rows] @ np.linalg.inv(jacobian[rows]) / picture.scale

    run_pieces([partial(cut, place) for place in range(len(images))], lambda _: None)
    return kept


def align_query(
    grey: NDArray[np.uint8],
    camera: Camera,
    pose: Float64,
    pixels: Float64,
    world: Float64,
    known: PointPatches,
) -> tuple[Float64, NDArray[np.bool_]]:
    """Where a photograph, whose pose is known about, shows points, from where keypoints have them.

    Parameters
    ----------
    grey : (H, W) uint8
    camera : Camera
        Its distortion is taken to be the same all over a patch.
    pose : (3, 4)
        [R | t], cam_from_world.
    pixels, world : (N, 2), (N, 3)
        Keypoints and points.
    known : PointPatches
        Of these points.

    Returns
    -------
    placed : (N, 2)
        Pixels; those of the keypoint where the patch is not found.
    good : (N,) bool
        Whether it is found. A photograph that shows most points larger than their patches is shrunk; a point that is
        then still more than twice as large or small is never found.

    Examples
    --------
    >>> from tiepoints.tasks.alignment import align_query
    >>> placed, good = align_query(grey, camera, pose.matrix, pixels, world, known)    # doctest: +SKIP
    """
    placed, good = np.asarray(pixels, np.float64).copy(), np.zeros(len(pixels), bool)
    rotation = pose[:, :3]
    seen = world @ rotation.T + pose[:, 3]
    focal = np.full(len(seen), np.trace(camera.matrix[:2, :2]) / 2)
    frame = _derivative(np.broadcast_to(rotation, (len(seen), 3, 3)), seen, focal) @ known.frames
    size = np.sqrt(np.abs(np.linalg.det(frame)))
    shown = size[size > 0]
    # Where most points are larger than their patches, the photograph is shrunk to meet them.
    picture = prepared(grey, 1 / max(1.0, float(np.median(shown)) if len(shown) else 1.0))
    frame *= picture.scale
    usable = np.flatnonzero(_alike(frame, _QUERY_SCALE))
    with limited(1):
        for start in range(0, len(usable), _AT_ONCE):
            rows = usable[start : start + _AT_ONCE]
            first = (placed[rows] + 0.5) * picture.scale - 0.5
            at, right, _ = locate(known.patches[rows].astype(np.float32), picture.grey, first, frame[rows])
            placed[rows[right]] = (at[right] + 0.5) / picture.scale - 0.5
            good[rows] = right
    return placed, good


def _parts(groups: list[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
    for rows in groups:
        for start in range(0, len(rows), _AT_ONCE):
            yield rows[start : start + _AT_ONCE]


class _Surfaces(NamedTuple):
    """The points' planes, and how each keypoint of a point (N rows) sees them."""

    image: NDArray[np.int64]  # (N,) the keypoint's image, as its place in the list of images
    keypoint: NDArray[np.int64]  # (N,) its number there
    point: NDArray[np.int64]  # (N,) the place of its point in the order of their numbers
    xy: Float64  # (N, 2) COLMAP's pixels
    depth: Float64  # (N,)
    jacobian: Float64  # (N, 2, 2) from steps on the plane to pixels
    plane: Float64  # (P, 3, 2) of each point two unit vectors of the world
    reference: NDArray[np.int64]  # (P,) the row of the keypoint that is seen most frontally


def _surfaces(model: Any, images: list[Any]) -> _Surfaces | None:
    numbers = sorted(model.point3D_ids())
    number = {point: n for n, point in enumerate(numbers)}
    xyz = np.array([model.point3D(point).xyz for point in numbers]).reshape(-1, 3)
    rows = [
        (n, k, number[point.point3D_id], *point.xy)
        for n, image in enumerate(images)
        for k, point in enumerate(image.points2D)
        if point.has_point3D()
    ]
    if not rows:
        return None
    table = np.array(rows, np.float64)
    image, keypoint, point = table[:, :3].T.astype(np.int64)
    poses = [one.cam_from_world() for one in images]
    rotation = np.array([pose.rotation.matrix() for pose in poses])
    shift = np.array([pose.translation for pose in poses])
    centre = np.array([one.projection_center() for one in images])
    focal = np.array([model.camera(one.camera_id).mean_focal_length() for one in images])

    direction = _unit(centre[image] - xyz[point])
    normal = np.zeros_like(xyz)
    np.add.at(normal, point, direction)
    normal = _unit(normal)
    along = _unit(np.cross(normal, np.eye(3)[np.abs(normal).argmin(axis=1)]))
    plane = np.stack([along, np.cross(normal, along)], axis=2)
    seen = np.einsum("nij,nj->ni", rotation[image], xyz[point]) + shift[image]
    jacobian = _derivative(rotation[image], seen, focal[image]) @ plane[point]
    frontal = (direction * normal[point]).sum(axis=1)
    order = np.lexsort([-frontal, point])
    first = np.flatnonzero(np.diff(point[order], prepend=-1))
    reference = np.full(len(xyz), -1)
    reference[point[order][first]] = order[first]
    return _Surfaces(image, keypoint, point, table[:, 3:], seen[:, 2], jacobian, plane, reference)


def _observations(found: _Surfaces) -> _Observations:
    own = found.reference[found.point]
    jacobian = found.jacobian
    usable = (np.arange(len(own)) != own) & (found.depth > 0) & (np.abs(np.linalg.det(jacobian[own])) > _FLAT)
    rest, own = np.flatnonzero(usable), own[usable]
    affine = jacobian[rest] @ np.linalg.inv(jacobian[own])
    near = _alike(affine, SCALE)
    rest, own = rest[near], own[near]
    return _Observations(
        found.image[rest], found.keypoint[rest], found.xy[rest], found.image[own], found.xy[own], affine[near]
    )


def _derivative(rotation: Float64, seen: Float64, focal: Float64) -> Float64:
    """(N, 2, 3) of the pixels by steps in the world, of points (N, 3) in the camera's frame."""
    x, y, z = seen.T
    zero, one = np.zeros_like(z), np.ones_like(z)
    camera = np.stack([one, zero, -x / z, zero, one, -y / z], axis=1).reshape(-1, 2, 3)
    return np.asarray((focal / z)[:, None, None] * camera @ rotation)


def _alike(affine: Float64, scale: float) -> NDArray[np.bool_]:
    """Which affine maps (N, 2, 2) neither enlarge nor shrink by so much in any direction."""
    size = np.linalg.svd(affine, compute_uv=False)
    return np.asarray((size[:, 0] < scale) & (size[:, 1] > 1 / scale))


def _unit(vectors: Float64) -> Float64:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float64)
