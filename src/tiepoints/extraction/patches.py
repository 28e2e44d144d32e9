"""Cutting square patches of a fixed number of pixels from an image, around keypoints of any scale, angle and shape."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["WIDTH", "cut", "frames_of"]

Float32 = NDArray[np.float32]

#: Sides of a patch, in keypoint scales: SIFT's descriptor covers 4 bins of 3 sigma, and a scale is twice sigma.
WIDTH = 6.0

_ROWS = 2**15 - 1  # of an image that cv2.remap makes


def frames_of(scales: Float32, angles: Float32) -> Float32:
    """Frames (N, 2, 2) that turn by angles (N,) and reach to `WIDTH` / 2 scales (N,) on each side of the keypoint.

    A frame takes a place in the patch, x and y in [-1, 1], to pixels from the keypoint.
    """
    c, s = np.cos(angles), np.sin(angles)
    half = scales * np.float32(WIDTH / 2)
    return np.asarray((np.stack([c, -s, s, c], axis=1) * half[:, None]).reshape(-1, 2, 2), np.float32)


def cut(image: NDArray[np.uint8], xy: Float32, frames: Float32, side: int) -> Float32:
    """Patches (N, side, side) of a grey image, in [0, 255].

    Each is taken from the level of a Gaussian pyramid in which its pixels are between 0.7 and 1.4 of the level's, so
    that nothing aliases; beyond its edges the image goes on with its last pixels.

    Parameters
    ----------
    image : (H, W) uint8
    xy : (N, 2) float32
        The patches' centres.
    frames : (N, 2, 2) float32
        From the patch, x and y in [-1, 1], to pixels from the centre; see `frames_of`.
    side : int
    """
    step = 2 * np.sqrt(np.abs(np.linalg.det(frames))) / side  # image pixels from one of the patch's to the next
    wanted = np.maximum(np.rint(np.log2(np.maximum(step, 1e-6))), 0).astype(int)
    ticks = (2 * np.arange(side, dtype=np.float32) + 1) / side - 1
    grid = np.asarray(np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2), np.float32)  # (side * side, 2)
    patches = np.empty((len(xy), side, side), np.float32)
    level = np.asarray(image, np.float32)
    for number in range(int(wanted.max(initial=0)) + 1):
        if number:
            if min(level.shape) < 4:
                wanted[wanted >= number] = number - 1
                _fill(patches, level, number - 1, np.flatnonzero(wanted == number - 1), xy, frames, grid)
                break
            level = np.asarray(cv2.pyrDown(level), np.float32)
        _fill(patches, level, number, np.flatnonzero(wanted == number), xy, frames, grid)
    return patches


def _fill(
    patches: Float32,
    level: Float32,
    number: int,
    rows: NDArray[np.intp],
    xy: Float32,
    frames: Float32,
    grid: Float32,
) -> None:
    side = patches.shape[1]
    for start in range(0, len(rows), _ROWS // side):
        some = rows[start : start + _ROWS // side]
        # cv2.pyrDown keeps the centre of the top-left pixel: a place is halved from level to level.
        places = (xy[some, None] + grid @ frames[some].transpose(0, 2, 1)) * np.float32(0.5**number)
        maps = places.astype(np.float32).reshape(len(some) * side, side, 2)
        cut_out = cv2.remap(level, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        patches[some] = cut_out.reshape(len(some), side, side)
