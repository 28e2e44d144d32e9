"""Pictures that were cut out, by transparency or by a mask: their outline is no structure of what they show."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .depth import Mask, UInt8

__all__ = ["continued", "is_cut_out", "off_the_outline", "shown_where", "unmasked"]

_SEAM, _HOLE = 6.0, 7  # pixels along an outline that are its own; the edge of a hole that has one
_SAMPLE, _ONE_COLOUR = 2**16, 8  # pixels that are looked at; grey levels that compression adds to one colour


def shown_where(alpha: NDArray[Any]) -> Mask:
    """Where a picture shows more than it lets through."""
    return np.asarray(alpha > alpha.max() / 2, bool)


def continued(pixels: UInt8, mask: Mask) -> UInt8:
    """The picture with the nearest of its own colours where it shows nothing, so that its outline is no edge.

    Parameters
    ----------
    pixels : (H, W) or (H, W, 3) uint8
    mask : (H, W) bool
        Where it shows something. Two pixels along the outline, half transparent as a rule, are replaced as well.
    """
    sure = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=2)
    if not sure.any():
        return pixels
    _, nearest = cv2.distanceTransformWithLabels(1 - sure, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    rows = np.zeros(int(nearest.max()) + 1, np.intp)  # by the label of a pixel that is sure, where it is
    rows[nearest[sure > 0]] = np.flatnonzero(sure)
    flat = pixels.reshape(sure.size, -1)
    return np.asarray(flat[rows[nearest.reshape(-1)]].reshape(pixels.shape), np.uint8)


def off_the_outline(mask: Mask) -> Mask:
    """Where a picture shows something, less a seam along its outline.

    Within 6 pixels of the outline more than half of what extractors find is made by the outline itself, which moves
    with the cut-out: 52 to 77 % for MD-Net, RootSIFT, ORB and AKAZE; farther off it is a fifth. Holes of less than 7
    pixels, such as single values that a sensor lacks, have no seam.
    """
    hidden = np.asarray(~mask, np.uint8)
    opened_up = cv2.morphologyEx(hidden, cv2.MORPH_OPEN, np.ones((_HOLE, _HOLE), np.uint8))
    if not opened_up.any():
        return mask
    _, parts = cv2.connectedComponents(hidden)
    large = np.zeros(int(parts.max()) + 1, np.uint8)
    large[parts[opened_up > 0]] = 1
    far = cv2.distanceTransform(1 - large[parts], cv2.DIST_L2, 5) > _SEAM
    return np.asarray(mask & far, bool)


def is_cut_out(pixels: UInt8, mask: Mask) -> bool:
    """Whether a picture is of one colour where its mask hides it: what it shows was cut out before.

    Then the mask's outline is an edge of the picture, as that of a transparent one is. A mask on a whole photograph,
    which hides the sky or passers-by, has no such outline.
    """
    hidden = pixels[~mask]
    if not len(hidden):
        return False
    hidden = hidden[:: max(1, len(hidden) // _SAMPLE)].astype(np.int16)
    near = np.abs(hidden - np.median(hidden, axis=0)) <= _ONE_COLOUR
    return bool((near if near.ndim == 1 else near.all(axis=1)).mean() >= 0.95)


def unmasked(image: Any, pixels: UInt8, mask: Mask | None) -> Mask | None:
    """(H, W) where no channel of a masked array is masked, and `mask` hides nothing; None for everywhere."""
    hidden: Mask = np.asarray(np.ma.getmaskarray(image), bool)
    if hidden.ndim == 3:
        hidden = np.asarray(hidden.any(axis=2 if hidden.shape[:2] == pixels.shape[:2] else 0))
    shown = np.asarray(~hidden if mask is None else ~hidden & mask)
    return None if shown.all() else shown
