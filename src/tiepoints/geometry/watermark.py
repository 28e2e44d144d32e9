"""Matches on an overlay that does not move: a burnt-in date, a camera's label, a logo, the bars of a video."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["on_a_watermark"]

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Size = tuple[int, int]

_SHARE = 0.6  # of the inliers must not move; and of these so many lie near the border
_NEAR, _ALL_NEAR = 0.15, 0.9  # of an image's width or height: the border; of the points: hardly any elsewhere
_FEWEST = 8  # inliers
_STILL = 1.5  # pixels: what a keypoint on an overlay seems to move
# Of an overlay that is repeated all over the picture: the shares of the inliers that stand still at least, and that go
# from one copy to another; how far copies are apart at least, and how alike the ways between them are, in pixels; how
# many matches go the same way, and how many of others the opposite one.
_STANDS, _GOES, _PITCH, _ALIKE, _SAME, _OPPOSITE = 0.2, 0.15, 10.0, 3.0, 4, 2
# Of copies in disorder: the share of the inliers that go the same way as others; how many of the nearest are asked, how
# much less alike they may be in each pixel between, the share of them that go elsewhere, and of how many inliers. Of
# 120 pairs of scenes those of which half go the same way have 0.24 at most there, of 10 pairs with a repeated overlay
# 0.37 at least.
_REPEATED, _NEAREST, _STRETCH, _ELSEWHERE, _ASKED = 0.5, 9, 0.5, 0.3, 128
_MOST = 0.5  # of the matches: where they agree with one model, they are no copies of something on other pictures
# An overlay covers few cells of a grid on the image, a frame around it more; a scene that stands still, many.
_CELLS, _MOST_CELLS, _MOST_OF_A_FRAME = 16, 0.15, 0.35


def on_a_watermark(a: Float64, b: Float64, inliers: Mask, size_a: Size | None, size_b: Size | None) -> Mask | None:
    """Which matches lie on an overlay, where most inliers do; None where the inliers are a scene.

    COLMAP calls such a pair a watermark where most inliers lie near the border and agree with one translation
    (``TwoViewGeometry::DetectWatermark``). Here the translation must be none, so that pictures with little overlap from
    a camera that was moved along stay pairs, and the inliers must crowd in a small part of the image, so that two
    pictures from a tripod do. An overlay may also lie in the middle, if there are as many matches around it that agree
    with nothing: before a blank ground there are none, and what stands still is what the pictures show.

    An overlay that is repeated all over the picture is told by what no scene does: some inliers stand still, and the
    others go exactly from one copy to another, in opposite directions, with nothing in between. Or most inliers go one
    of a few ways, and those beside each other different ones: what moves together in a scene lies together.

    Parameters
    ----------
    a, b : (M, 2) float64
        All matched points, in pixels.
    inliers : (M,) bool
    size_a, size_b : (int, int), optional
        (width, height) of the images, without which there is no telling.
    """
    if size_a is None or size_b is None or np.count_nonzero(inliers) < _FEWEST:
        return None
    places = _places(a, size_a, size_b)
    for number, there in enumerate(places):
        still = np.hypot(*(b - there).T) < _STILL
        ours = still & inliers
        few = np.count_nonzero(inliers) < _MOST * len(inliers)
        disordered = few and number in (0, len(places) - 1) and _disordered(a[inliers], (b - there)[inliers])
        if disordered or _tiled(b - there, still, inliers):
            return np.asarray(inliers | still | _copied(b - there), bool)
        if np.count_nonzero(ours) < _SHARE * np.count_nonzero(inliers):
            continue
        if all(_is_overlay(points, ours, inliers, size) for points, size in ((a, size_a), (b, size_b))):
            return np.asarray(still, bool)
    return None


def _tiled(ways: Float64, still: Mask, inliers: Mask) -> bool:
    """Whether the inliers lie on an overlay that is repeated all over the picture: some go from one copy to another."""
    going, every = inliers & ~still, np.count_nonzero(inliers)
    if min(np.count_nonzero(still & inliers), np.count_nonzero(going)) < max(_STANDS * every, _SAME):
        return False
    if (np.hypot(*ways[going].T) < _PITCH).mean() > 0.05:
        return False
    return bool(np.count_nonzero(_copied(ways[going])) >= _GOES * every)


def _disordered(points: Float64, ways: Float64) -> bool:
    """Whether the inliers go a few ways only, and those beside each other different ones."""
    some = np.linspace(0, len(ways) - 1, min(len(ways), _ASKED)).astype(int)
    distance, apart = (np.hypot(*(several[some, None] - several).transpose(2, 0, 1)) for several in (points, ways))
    if ((apart < _ALIKE).sum(axis=1) > _SAME).mean() < _REPEATED:  # each is among those that go its own way
        return False
    nearest = np.argpartition(distance, min(_NEAREST, len(ways) - 1), axis=1)[:, : _NEAREST + 1]  # itself among them
    distance, apart = (np.take_along_axis(values, nearest, axis=1) for values in (distance, apart))
    return bool((apart > _PITCH + _STRETCH * distance).mean() > _ELSEWHERE)


def _copied(ways: Float64) -> Mask:
    """Which of the ways several matches go, and some the opposite one."""
    found = []
    for block in np.array_split(ways, len(ways) // 256 + 1):  # all against all would take much memory
        same, opposite = (
            (np.hypot(*(block[:, None] - others).transpose(2, 0, 1)) < _ALIKE).sum(axis=1) for others in (ways, -ways)
        )
        found.append((same >= _SAME) & (opposite >= _OPPOSITE))
    return np.concatenate(found)


def _places(a: Float64, size_a: Size, size_b: Size) -> list[Float64]:
    """Where an overlay at these points lies in an image of another size: in its corner, at its edge, in the middle, of
    its own size, or scaled with the image.
    """
    spare = np.subtract(size_b, size_a).astype(np.float64)
    if not spare.any():
        return [a]
    shares = (0.0, 0.5, 1.0)
    scaled = (a + 0.5) * np.divide(size_b, size_a) - 0.5
    return [*(a + spare * (x, y) for x in shares for y in shares), scaled]


def _is_overlay(points: Float64, still: Mask, inliers: Mask, size: Size) -> bool:
    """Whether the points that stand still are an overlay of one of the images."""
    share = (points + 0.5) / size
    near = float(((share < _NEAR) | (share > 1 - _NEAR))[still].any(axis=1).mean())
    cells = np.clip(share * _CELLS, 0, _CELLS - 1).astype(int) @ (_CELLS, 1)
    covered = np.unique(cells[still])
    if len(covered) >= (_MOST_OF_A_FRAME if near >= _ALL_NEAR else _MOST_CELLS) * _CELLS**2:
        return False
    around = ~np.isin(cells, covered)
    nothing = np.count_nonzero(around & ~inliers) >= np.count_nonzero(still)
    return near >= _SHARE or bool(nothing)
