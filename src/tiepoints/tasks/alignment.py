"""Keypoints of a reconstruction where the photographs themselves say that they are: least squares matching.

A detector finds each keypoint in one image alone, and is off by half a pixel or so in each. The patches around the
keypoints of a track show the same piece of a surface. Its plane and the cameras say how one patch looks in another
image; how far that is from what is there is solved for by least squares over grey values, to a tenth of a pixel.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..threads import limited

__all__ = ["align_keypoints"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# All ours, chosen on lund_door, fountain-P11, Herz-Jesus-P8, fox and temple_ring.
_HALF = 7  # patches have 15 x 15 samples
_ITERATIONS = 6
_LEAST = 0.8  # correlation from which an alignment is believed
_MOST = 3.0  # pixels: keypoints move by at most so much
_SCALE = 4.0  # patches that differ more in scale are left alone
_EDGE = 1600  # pixels: larger photographs are shrunk first
_SMOOTH = 0.7  # pixels
_KEPT = 32  # photographs in memory, of at most 7 MB each
_AT_ONCE = 4000  # patches


class _Observations(NamedTuple):
    """One row for each keypoint that is not its track's reference."""

    image: NDArray[np.int64]  # (N,) the keypoint's image, as its place in the list of images
    keypoint: NDArray[np.int64]  # (N,) its number there
    xy: Float64  # (N, 2) COLMAP's pixels
    other: NDArray[np.int64]  # (N,) the reference's image
    other_xy: Float64  # (N, 2)
    affine: Float64  # (N, 2, 2) from pixels around the reference to pixels around the keypoint


def align_keypoints(model: Any, read: Callable[[str], NDArray[np.uint8]]) -> int:
    """Move the keypoints of a model's tracks to where their patches agree.

    Of each track the keypoint that is seen most frontally stays. The patch around it is taken to be flat and to face
    the mean direction of the cameras. That gives an affine map to each other image, where the search for the patch
    begins. An affine map, brightness and contrast are solved for by inverse compositional Gauss-Newton steps (Gruen,
    Adaptive least squares correlation, 1985; Baker and Matthews, Lucas-Kanade 20 years on, 2004). A keypoint is moved
    where the patches then correlate by at least .8, and by at most 3 pixels. Photographs beyond 1600 pixels are shrunk.

    Parameters
    ----------
    model : pycolmap.Reconstruction
        Its 2D points are changed; a bundle adjustment should follow.
    read : callable
        From an image's name to its grey values as they are stored, (H, W) uint8. Where it raises `ImageError` that
        image's keypoints stay.

    Returns
    -------
    moved : int
        Keypoints.

    Examples
    --------
    >>> from pathlib import Path
    >>> import pycolmap
    >>> import tiepoints as tp
    >>> from tiepoints.tasks.alignment import align_keypoints
    >>> model = pycolmap.Reconstruction("scene/sparse/0")                                             # doctest: +SKIP
    >>> align_keypoints(model, lambda name: tp.read(Path("photos", name), grey=True, upright=False))  # doctest: +SKIP
    15659
    """
    images = [model.image(i) for i in sorted(model.reg_image_ids())]
    found = _observations(model, images)
    if found is None:
        return 0
    pictures, moved = _Pictures(read), 0
    order = np.lexsort([found.image, found.other])
    bounds = np.flatnonzero(np.diff(found.other[order]) | np.diff(found.image[order])) + 1
    with limited(1):  # products of small matrices: a BLAS's other threads would only wait, at full load
        for rows in _parts(np.split(order, bounds)):
            a, b = images[found.other[rows[0]]], images[found.image[rows[0]]]
            one, two = pictures[a.name], pictures[b.name]
            if one is None or two is None:
                continue
            # COLMAP's pixels have their centres at .5
            place_a, place_b = (found.other_xy[rows] * one.scale - 0.5, found.xy[rows] * two.scale - 0.5)
            affine = found.affine[rows] * (two.scale / one.scale)
            placed, good = _aligned(one.grey, place_a, two.grey, place_b, affine)
            at = (placed + 0.5) / two.scale
            for row in np.flatnonzero(good):
                b.points2D[int(found.keypoint[rows[row]])].xy = at[row]
            moved += int(good.sum())
    return moved


def _parts(groups: list[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
    for rows in groups:
        for start in range(0, len(rows), _AT_ONCE):
            yield rows[start : start + _AT_ONCE]


def _observations(model: Any, images: list[Any]) -> _Observations | None:
    points = model.points3D
    number = {point: n for n, point in enumerate(points)}
    xyz = np.array([point.xyz for point in points.values()]).reshape(-1, 3)
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
    xy = table[:, 3:]
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
    plane = np.stack([along, np.cross(normal, along)], axis=2)  # (P, 3, 2)
    # the derivative of the projection by steps on the plane
    x, y, z = (np.einsum("nij,nj->ni", rotation[image], xyz[point]) + shift[image]).T
    zero, one = np.zeros_like(z), np.ones_like(z)
    camera = np.stack([one, zero, -x / z, zero, one, -y / z], axis=1).reshape(-1, 2, 3)
    jacobian = (focal[image] / z)[:, None, None] * camera @ rotation[image] @ plane[point]  # (N, 2, 2)

    frontal = (direction * normal[point]).sum(axis=1)
    order = np.lexsort([-frontal, point])
    first = np.flatnonzero(np.diff(point[order], prepend=-1))
    reference = np.empty(len(xyz), np.int64)
    reference[point[order][first]] = order[first]
    own = reference[point]
    usable = (np.arange(len(own)) != own) & (z > 0) & (np.abs(np.linalg.det(jacobian[own])) > 1e-12)
    rest, own = np.flatnonzero(usable), own[usable]
    affine = jacobian[rest] @ np.linalg.inv(jacobian[own])
    size = np.linalg.svd(affine, compute_uv=False)
    near = (size[:, 0] < _SCALE) & (size[:, 1] > 1 / _SCALE)
    rest, own = rest[near], own[near]
    return _Observations(image[rest], keypoint[rest], xy[rest], image[own], xy[own], affine[near])


def _unit(vectors: Float64) -> Float64:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float64)


class _Picture(NamedTuple):
    grey: Float32
    scale: float


class _Pictures:
    """The last few photographs, smoothed a little so that bilinear samples follow the surface."""

    def __init__(self, read: Callable[[str], NDArray[np.uint8]]) -> None:
        self._read, self._kept = read, OrderedDict[str, _Picture | None]()

    def __getitem__(self, name: str) -> _Picture | None:
        if name not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.popitem(last=False)
            self._kept[name] = self._prepared(name)
        self._kept.move_to_end(name)
        return self._kept[name]

    def _prepared(self, name: str) -> _Picture | None:
        try:
            grey = self._read(name)
        except ImageError:
            return None
        scale = min(1.0, _EDGE / max(grey.shape))
        if scale < 1:
            grey = np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        return _Picture(np.asarray(cv2.GaussianBlur(grey.astype(np.float32), (0, 0), _SMOOTH), np.float32), scale)


def _aligned(
    grey_a: Float32, place_a: Float64, grey_b: Float32, place_b: Float64, affine: Float64
) -> tuple[Float64, NDArray[np.bool_]]:
    """Places (N, 2) in b, and which of them are to be believed (N,)."""
    # A sample is a pixel of the image that shows the surface more coarsely.
    unit = np.maximum(1.0, 1.0 / np.sqrt(np.abs(np.linalg.det(affine))))[:, None, None]
    along = np.arange(-_HALF, _HALF + 1, dtype=np.float64)
    grid = np.stack(np.meshgrid(along, along))  # (2, 15, 15), x and y
    square = _sampled(grey_a, place_a, unit * np.eye(2), grid.reshape(2, -1)).reshape(-1, *grid.shape[1:])
    inner = square[:, 1:-1, 1:-1].reshape(len(square), -1)  # (N, P), where differences tell the gradient
    gx = ((square[:, 1:-1, 2:] - square[:, 1:-1, :-2]) / 2).reshape(inner.shape)
    gy = ((square[:, 2:, 1:-1] - square[:, :-2, 1:-1]) / 2).reshape(inner.shape)
    grid = grid[:, 1:-1, 1:-1].reshape(2, -1)
    weight = np.exp(-(grid**2).sum(axis=0) / (2 * (0.6 * _HALF) ** 2))
    weight = (weight / weight.sum()).astype(np.float32)
    template, contrast = _normalised(inner, weight)
    gx, gy = gx / contrast, gy / contrast
    x, y = grid.astype(np.float32)
    basis = np.stack([gx, gy, gx * x, gx * y, gy * x, gy * y], axis=1)  # (N, 6, P)
    # brightness and contrast are free: what they explain does not count
    basis -= (basis @ weight)[:, :, None]
    basis -= (basis @ (template * weight)[:, :, None]) * template[:, None]
    weighted = basis * weight
    normal = (weighted @ basis.transpose(0, 2, 1)).astype(np.float64)
    damping = np.trace(normal, axis1=1, axis2=2) / 6 * 1e-3 + 1e-12
    inverse = np.linalg.inv(normal + damping[:, None, None] * np.eye(6))

    frame = affine * unit
    warp, moved = np.tile(np.eye(2), (len(affine), 1, 1)), np.zeros((len(affine), 2))
    best, best_moved, before = np.full(len(affine), -1.0), moved.copy(), np.zeros(0)
    for iteration in range(_ITERATIONS):
        at = place_b + (frame @ moved[:, :, None])[:, :, 0]
        patch, _ = _normalised(_sampled(grey_b, at, frame @ warp, grid), weight)
        likeness = (patch * template) @ weight
        if iteration == 0:
            before = likeness
        better = likeness > best
        best[better], best_moved[better] = likeness[better], moved[better]
        change = (inverse @ (weighted @ (patch - template)[:, :, None]))[:, :, 0]
        undone = np.linalg.inv(np.eye(2) + np.clip(change[:, 2:], -0.2, 0.2).reshape(-1, 2, 2))
        warp = warp @ undone
        moved = moved - (warp @ np.clip(change[:, :2], -1, 1)[:, :, None])[:, :, 0]
    placed = place_b + (frame @ best_moved[:, :, None])[:, :, 0]
    inside = (placed >= 0).all(axis=1) & (placed <= np.array(grey_b.shape[::-1]) - 1).all(axis=1)
    far = np.linalg.norm(placed - place_b, axis=1)
    return placed, inside & (best >= _LEAST) & (best > before) & (far <= _MOST)


def _sampled(grey: Float32, place: Float64, frame: Float64, grid: Float64) -> Float32:
    """Grey values (N, P) at place + frame grid."""
    at = (place[:, :, None] + frame @ grid).astype(np.float32)
    return np.asarray(
        cv2.remap(grey, at[:, 0].copy(), at[:, 1].copy(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
    )


def _normalised(patches: Float32, weight: Float32) -> tuple[Float32, Float32]:
    """Of weighted mean 0 and variance 1, and the contrast (N, 1) that they had."""
    patches = patches - (patches @ weight)[:, None]
    contrast = np.sqrt((patches * patches) @ weight)[:, None] + np.float32(1e-3)
    return patches / contrast, contrast
