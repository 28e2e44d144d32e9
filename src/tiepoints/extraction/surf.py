"""SURF: determinants of Hessians from box filters over an integral image, and sums of Haar wavelets as a descriptor.

Bay, Ess, Tuytelaars and Van Gool, "Speeded-Up Robust Features (SURF)", CVIU 110, 2008. Own code, from the paper.
"""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import checks
from .base import Detections, Extractor, Metadata
from .patches import WIDTH, cut, frames_of

__all__ = ["SURF", "UprightSURF"]

Float32 = NDArray[np.float32]

_PATENTS = "patents until 30 April 2027 at least (US 8,165,401 and others)"
_PAPER = "Bay, Ess, Tuytelaars and Van Gool, Speeded-Up Robust Features (SURF), CVIU 2008"

# Sides of the box filters of each octave (section 3.3, figure 4); an octave's places are 2^octave pixels apart.
_SIZES = ((9, 15, 21, 27), (15, 27, 39, 51), (27, 51, 75, 99), (51, 99, 147, 195))
_SIGMA = 1.2 / 9  # of the Gaussian that a filter stands for, by its side (section 3.2)


class SURF(Extractor):
    """SURF, 64-D: as SIFT, with box filters in the place of Gaussians.

    The code is free; the method is patented: US 8,165,401, EP 2,027,558 and others go back to an application of 30
    April 2007, and may be in force for 20 years from then, or longer.

    Parameters
    ----------
    threshold : float
        Least determinant of the Hessian, of an image in [0, 255], normalised by the filters' areas. OpenCV divides by
        other areas: 100 there is about 3.4 here.
    octaves : int
        1 to 4, each with filters of twice the size.
    **options
        Those of `Extractor`.
    """

    metadata: ClassVar[Metadata] = Metadata(
        name="surf",
        summary="SURF: box filters and Haar wavelets, rotation and scale invariant",
        paper=_PAPER,
        code_licence="Apache-2.0",
        descriptor_size=64,
        rotation_invariant=True,
        patents=_PATENTS,
    )
    bytes_per_pixel: ClassVar[int] = 55
    #: No orientation (the paper's U-SURF): better where the camera stays level.
    upright: ClassVar[bool] = False

    def __init__(self, *, threshold: float = 3.0, octaves: int = 4, **options: Any) -> None:
        super().__init__(**options)
        self.threshold = checks.number(threshold, "threshold", least=0)
        self.octaves = checks.count(octaves, "octaves", least=1, most=len(_SIZES))

    def _detect(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Detections:
        found = [_octave(image, number, self.threshold) for number in range(self.octaves)]
        xy, sigma, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if mask is not None:
            column, row = (np.clip(np.rint(xy[:, i]).astype(int), 0, image.shape[1 - i] - 1) for i in (0, 1))
            allowed = mask[row, column] != 0
            xy, sigma, scores = xy[allowed], sigma[allowed], scores[allowed]
        best = np.argsort(-scores, kind="stable")[: self.max_keypoints]
        xy, sigma, scores = xy[best], sigma[best], scores[best]
        angles = np.zeros(len(xy), np.float32) if self.upright else _orientations(image, xy, sigma)
        descriptors = _descriptors(image, xy, sigma, angles)
        scales = 2 * sigma  # diameter, as of SIFT
        return Detections(xy, descriptors, scores, scales=scales, angles=None if self.upright else angles)


class UprightSURF(SURF):
    """SURF without orientation, the paper's U-SURF."""

    metadata: ClassVar[Metadata] = Metadata(
        name="upright-surf",
        summary="SURF without orientation: for cameras that stay level",
        paper=_PAPER,
        code_licence="Apache-2.0",
        descriptor_size=64,
        patents=_PATENTS,
    )
    upright = True


def _octave(image: NDArray[np.uint8], octave: int, threshold: float) -> tuple[Float32, Float32, Float32]:
    """Places (N, 2), sigmas (N,) and determinants (N,) of an octave's maxima."""
    step, sizes = 2**octave, _SIZES[octave]
    none = np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32)
    if min(image.shape) <= sizes[1]:  # less than the filters of the first layer that can hold a maximum
        return none
    reach = sizes[-1] // 2 + 1
    padded = cv2.copyMakeBorder(image, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    total = np.asarray(cv2.integral(padded), np.int32)
    layers = [_determinants(total, reach, image.shape, size, step) for size in sizes]
    window = np.ones((3, 3), np.uint8)
    highest = [cv2.dilate(layer, window) for layer in layers]
    places, sigmas, scores = [], [], []
    for i in (1, 2):
        here = layers[i]
        peak = (here > threshold) & (here >= highest[i]) & (here > highest[i - 1]) & (here > highest[i + 1])
        # A filter that reaches beyond the image by more than its lobe answers to the border.
        edge = max(sizes[i] // 2 // step, 1)
        peak[:edge], peak[-edge:], peak[:, :edge], peak[:, -edge:] = False, False, False, False
        row, column = np.nonzero(peak)
        offset, value = _refined(np.stack(layers[i - 1 : i + 2]), row, column)
        near = (np.abs(offset) < 1).all(axis=1)  # else the maximum is elsewhere
        places.append((np.stack([column, row], axis=1) + offset[:, :2])[near] * step)
        sigmas.append((sizes[i] + offset[:, 2] * (sizes[i] - sizes[i - 1]))[near] * _SIGMA)
        scores.append(value[near])
    return (
        np.concatenate(places).astype(np.float32),
        np.concatenate(sigmas).astype(np.float32),
        np.concatenate(scores).astype(np.float32),
    )


def _determinants(total: NDArray[np.int32], reach: int, shape: tuple[int, ...], size: int, step: int) -> Float32:
    """The Hessian's determinant at every `step`-th pixel, by three box filters of a side (section 3.2, figure 2)."""
    lobe, half = size // 3, size // 2
    rows, columns = (-(-length // step) for length in shape)

    def box(top: int, left: int, bottom: int, right: int) -> NDArray[np.int32]:
        """Sums over a box around every place; its edges are offsets from the pixel, inclusive."""

        def corner(dy: int, dx: int) -> NDArray[np.int32]:
            y, x = reach + dy, reach + dx
            return total[y : y + step * (rows - 1) + 1 : step, x : x + step * (columns - 1) + 1 : step]

        sums = corner(bottom + 1, right + 1) - corner(top, right + 1)
        sums -= corner(bottom + 1, left)
        sums += corner(top, left)
        return sums

    wide, third = lobe - 1, lobe // 2
    dyy = (box(-half, -wide, half, wide) - 3 * box(-third, -wide, third, wide)).astype(np.float32)
    dxx = (box(-wide, -half, wide, half) - 3 * box(-wide, -third, wide, third)).astype(np.float32)
    dxy = box(-lobe, 1, -1, lobe) + box(1, -lobe, lobe, -1)
    dxy -= box(-lobe, -lobe, -1, -1) + box(1, 1, lobe, lobe)
    crossed = dxy.astype(np.float32)
    dxx *= dyy
    crossed *= crossed
    dxx -= np.float32(0.9**2) * crossed  # what the boxes' crudeness needs (equation 3)
    dxx *= np.float32(1 / size**4)
    return dxx


def _refined(
    cube: Float32, row: NDArray[np.intp], column: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offsets (N, 3) in x, y and layer to the vertex of a quadratic through the 27 neighbours, and its values (N,)."""
    steps = np.arange(-1, 2)
    near = cube[:, row[:, None, None] + steps[:, None], column[:, None, None] + steps].transpose(1, 0, 2, 3)
    v = near.astype(np.float64)  # (N, layer, y, x)
    c = v[:, 1, 1, 1]
    gradient = 0.5 * np.stack(
        [v[:, 1, 1, 2] - v[:, 1, 1, 0], v[:, 1, 2, 1] - v[:, 1, 0, 1], v[:, 2, 1, 1] - v[:, 0, 1, 1]], axis=1
    )
    hessian = np.empty((len(c), 3, 3))
    hessian[:, 0, 0] = v[:, 1, 1, 2] + v[:, 1, 1, 0] - 2 * c
    hessian[:, 1, 1] = v[:, 1, 2, 1] + v[:, 1, 0, 1] - 2 * c
    hessian[:, 2, 2] = v[:, 2, 1, 1] + v[:, 0, 1, 1] - 2 * c
    for a, b, mixed in (
        (0, 1, v[:, 1, 2, 2] - v[:, 1, 2, 0] - v[:, 1, 0, 2] + v[:, 1, 0, 0]),
        (0, 2, v[:, 2, 1, 2] - v[:, 2, 1, 0] - v[:, 0, 1, 2] + v[:, 0, 1, 0]),
        (1, 2, v[:, 2, 2, 1] - v[:, 2, 0, 1] - v[:, 0, 2, 1] + v[:, 0, 0, 1]),
    ):
        hessian[:, a, b] = hessian[:, b, a] = mixed / 4
    singular = np.abs(np.linalg.det(hessian)) < 1e-12
    hessian[singular] = np.eye(3)
    gradient[singular] = 0
    offset = -np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
    return np.asarray(offset), np.asarray(c + 0.5 * (gradient * offset).sum(axis=1))


def _grid(image: NDArray[np.uint8], xy: Float32, sigma: Float32, angles: Float32, side: int) -> Float32:
    """Means (N, side, side) of the image in squares of one sigma, in frames that turn by the angles."""
    return cut(image, xy, frames_of(sigma * np.float32(side / WIDTH), angles), side)


def _orientations(image: NDArray[np.uint8], xy: Float32, sigma: Float32) -> Float32:
    """Angles (N,): where the sum of Haar responses in a window of 60 degrees is longest (section 4.1)."""
    cells = _grid(image, xy, sigma, np.zeros(len(xy), np.float32), 16)
    four = cells.cumsum(axis=1)
    four = np.concatenate([four[:, 3:4], four[:, 4:] - four[:, :-4]], axis=1)  # sums over 4 rows, (N, 13, 16)
    two = four[:, :, :-1] + four[:, :, 1:]  # and 2 columns, (N, 13, 15)
    dx = two[:, :, 2:] - two[:, :, :-2]  # wavelets of 4 sigma, (N, 13, 13)
    across = cells.cumsum(axis=2)
    across = np.concatenate([across[:, :, 3:4], across[:, :, 4:] - across[:, :, :-4]], axis=2)
    pairs = across[:, :-1] + across[:, 1:]
    dy = pairs[:, 2:] - pairs[:, :-2]
    y, x = np.mgrid[-6:7, -6:7]
    circle = x**2 + y**2 <= 36
    weight = np.exp(-(x**2 + y**2)[circle] / (2 * 2.5**2)).astype(np.float32)
    dx, dy = dx[:, circle] * weight, dy[:, circle] * weight  # (N, 113)
    bins, window = 72, 12
    number = np.floor(np.arctan2(dy, dx) * np.float32(bins / (2 * np.pi))).astype(np.int64) % bins
    number += np.arange(len(xy))[:, None] * bins
    sums = [
        np.bincount(number.ravel(), part.ravel(), minlength=len(xy) * bins).reshape(len(xy), bins) for part in (dx, dy)
    ]
    rings = [
        np.concatenate([np.zeros((len(xy), 1)), part, part[:, : window - 1]], axis=1).cumsum(axis=1) for part in sums
    ]
    wx, wy = (ring[:, window:] - ring[:, :-window] for ring in rings)
    best = (wx**2 + wy**2).argmax(axis=1)
    each = np.arange(len(xy))
    return np.asarray(np.arctan2(wy[each, best], wx[each, best]), np.float32)


def _descriptors(image: NDArray[np.uint8], xy: Float32, sigma: Float32, angles: Float32) -> Float32:
    """Sums of dx, |dx|, dy and |dy| of wavelets of 2 sigma in 4x4 squares of 5x5 places, unit length (section 4.2)."""
    cells = _grid(image, xy, sigma, angles, 21)
    falling = cells[:, 1:, 1:] - cells[:, :-1, :-1]
    rising = cells[:, :-1, 1:] - cells[:, 1:, :-1]
    place = np.arange(20, dtype=np.float32) - 9.5
    gauss = np.exp(-(place**2) / np.float32(2 * 3.3**2))
    weight = np.outer(gauss, gauss)
    dx, dy = (falling + rising) * weight, (falling - rising) * weight

    def squares(values: Float32) -> Float32:
        return np.asarray(values.reshape(-1, 4, 5, 4, 5).sum(axis=(2, 4)), np.float32)

    parts = [squares(dx), squares(np.abs(dx)), squares(dy), squares(np.abs(dy))]
    descriptors = np.stack(parts, axis=3).reshape(-1, 64)
    length = np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-12)
    return np.asarray(descriptors / length, np.float32)
