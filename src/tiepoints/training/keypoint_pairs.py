"""Keypoints that SIFT finds again in two warped views of a photograph: HardNet and the orientations learn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, TrainingError
from ..images import read, resize_to
from .warps import VIEW_UNIFORMS, Warps, draw_views

__all__ = [
    "Keypoints", "carried", "check_enough", "cut_pairs", "found_again", "plain_views", "relit", "sift_keypoints",
    "warped_views",
]  # fmt: skip

# Ours. Pixels of a photograph's long edge; pixels and shares within which a keypoint counts as found again.
_EDGE, _NEAR, _SCALE_RATIO, _TURN = 640, 2.0, 1.3, np.deg2rad(20)
_MOST = 400  # pairs of a photograph

#: Places (N, 2), diameters (N,) in pixels and angles (N,) in radians.
Keypoints = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def cut_pairs(
    paths: Sequence[Path],
    of_photograph: Callable[[NDArray[np.uint8], np.random.Generator], tuple[NDArray[Any], ...]],
    seed: int,
    progress: Callable[[str, int, int], None] | None,
) -> list[NDArray[Any]]:
    """What `of_photograph` cuts from grey photographs with random numbers of their own; unreadable ones are left out.

    Returns
    -------
    arrays : list of array
        The number of each row's photograph (N,) int32; then those of `of_photograph`, of all photographs.

    Raises
    ------
    TrainingError
        If there are no pairs.
    """
    found = []
    for number, path in enumerate(paths):
        try:
            image, _ = resize_to(read(path, grey=True), _EDGE)
        except ImageError:
            continue
        parts = of_photograph(image, np.random.default_rng((seed, number)))
        found.append((np.full(len(parts[0]), number, np.int32), *parts))
        if progress is not None:
            progress("cutting patches", number + 1, len(paths))
    if not sum(len(numbers) for numbers, *_ in found):
        raise TrainingError("no keypoint of these photographs is found again: give larger ones, and more of them")
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def check_enough(pairs: Sized, batch: int) -> None:
    """Raise TrainingError if there are fewer pairs than a batch has."""
    if len(pairs) < batch:
        raise TrainingError(f"{len(pairs)} pairs of patches are fewer than a batch of {batch}: give more photographs")


def warped_views(
    image: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[list[NDArray[np.uint8]], NDArray[np.float64]]:
    """Two square views of a grey photograph in different light, and the homography from the first to the second."""
    warps = Warps(size=min(image.shape), rotation=25, any_rotation=0.1, scale=1.8, perspective=0.25)
    views, b_from_a = plain_views(image, warps, rng)
    return [relit(view, rng) for view in views], b_from_a


def plain_views(
    image: NDArray[np.uint8], warps: Warps, rng: np.random.Generator
) -> tuple[list[NDArray[np.uint8]], NDArray[np.float64]]:
    """The same in the photograph's light."""
    height, width = image.shape
    [both] = draw_views(np.array([[width, height]], np.float64), warps, rng.random((1, VIEW_UNIFORMS))).photo_from_view
    flags, size = cv2.INTER_AREA | cv2.WARP_INVERSE_MAP, (warps.size, warps.size)
    views = [cv2.warpPerspective(image, to, size, flags=flags, borderMode=cv2.BORDER_REPLICATE) for to in both]
    to_a, to_b = both
    return [np.asarray(view, np.uint8) for view in views], np.asarray(np.linalg.inv(to_b) @ to_a, np.float64)


def found_again(
    a: Keypoints, b: Keypoints, b_from_a: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of keypoints that are the same in two views: of like place, scale and angle; each taken once."""
    xy_a, (xy_b, scale_b, angle_b) = a[0], b
    none = np.zeros(0, np.intp)
    if not len(xy_a) or not len(xy_b):
        return none, none
    centre, length, turn = carried(a, b_from_a)
    pairs, taken = [], set()
    for i in rng.permutation(len(xy_a)):
        distance = np.hypot(*(xy_b - centre[i]).T)
        other = np.abs(np.angle(np.exp(1j * (angle_b - turn[i]))))
        ratio = np.abs(np.log(scale_b / max(length[i], 1e-6)))
        good = (distance < _NEAR + 0.1 * scale_b) & (other < _TURN) & (ratio < np.log(_SCALE_RATIO))
        if not good.any():
            continue
        j = int(np.argmin(np.where(good, distance, np.inf)))
        if j not in taken:
            taken.add(j)
            pairs.append((i, j))
        if len(pairs) == _MOST:
            break
    if not pairs:
        return none, none
    rows, columns = np.array(pairs).T
    return rows, columns


def carried(
    keypoints: Keypoints, homography: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Places (N, 2), diameters (N,) and angles (N,) of keypoints in another view."""
    xy, scale, angle = keypoints
    ahead = np.column_stack([np.cos(angle), np.sin(angle)]) * scale[:, None]
    centre, tip = _mapped(homography, xy), _mapped(homography, xy + ahead)
    arrow = tip - centre
    return centre, np.hypot(*arrow.T), np.arctan2(arrow[:, 1], arrow[:, 0])


def sift_keypoints(image: NDArray[np.uint8]) -> Keypoints:
    """SIFT's places (N, 2), diameters and angles in radians."""
    found = cv2.SIFT.create(nfeatures=1500, contrastThreshold=0.02, enable_precise_upscale=True).detect(image)
    rows = np.array([(*p.pt, p.size, np.deg2rad(p.angle)) for p in found], np.float32).reshape(-1, 4)
    return rows[:, :2], rows[:, 2], rows[:, 3]


def _mapped(homography: NDArray[np.float64], xy: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(cv2.perspectiveTransform(np.asarray(xy, np.float64)[None], homography)[0], np.float64)


def relit(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Another gamma, contrast, blur, noise and compression."""
    values: NDArray[Any] = image.astype(np.float32) / 255
    values = values ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    values = (values - 0.5) * np.float32(np.exp(rng.uniform(-0.6, 0.2))) + np.float32(0.5 + rng.uniform(-0.1, 0.1))
    if rng.random() < 0.4:
        values = cv2.GaussianBlur(values, (0, 0), rng.uniform(0.4, 1.4))
    values = values + rng.normal(scale=rng.uniform(0, 0.03), size=values.shape).astype(np.float32)
    done = np.asarray(np.clip(values * 255, 0, 255), np.uint8)
    if rng.random() < 0.3:
        _, packed = cv2.imencode(".jpg", done, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))])
        done = np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.uint8)
    return done
