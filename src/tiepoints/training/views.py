"""Crops as they look from elsewhere and in other light, with what was said of each place of the crop.

A teacher looks at the crop as it is. The network that learns sees it warped and relit, and has to say the same of the
same places, so that it learns what a change of view and light does not change. Every range is ours.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .light import LIGHT_UNIFORMS, draw_lights, relit
from .network import CELL

__all__ = ["Seen", "places_in_crop", "seen_from_elsewhere"]

_DEGREES, _MOST_DEGREES = 18.0, 45.0  # standard deviation of the rotation, and its limit: the next quarter turn begins
_SMALLER, _LARGER = 0.7, 0.5  # logarithms of the scale, at most
_TILTED = 0.7  # share of the views with perspective
_CORNERS = (0.05, 0.125)  # one of which is the largest displacement of a corner, as a share of the edge
_BESIDE = 0.15  # how far from the crop's centre the view looks, as a share of its edge
_SHARED = 0.25  # of a view, at least, shows the crop
_BORDER = 12  # pixels of the crop's edge of which the teacher knows less


class Seen(NamedTuple):
    """B crops seen from elsewhere.

    Parameters
    ----------
    images : (B, 1, S, S)
    maps : (B, D, S / 4, S / 4)
        What was said of the places that the pixels of the network's descriptor map show; 0 beyond the crop.
    weights : (B, S / 4, S / 4)
        How much each of them counts; 0 where the view shows none of the crop, or its edge.
    """

    images: Tensor
    maps: Tensor
    weights: Tensor


def seen_from_elsewhere(images: Tensor, maps: Tensor, weights: Tensor, rng: np.random.Generator) -> Seen:
    """Each crop from a viewpoint of its own: rotated, nearer or farther, tilted, and in other light.

    Parameters
    ----------
    images : (B, 1, S, S)
        Grey in [0, 1].
    maps : (B, D, S / 4, S / 4)
        What is said of the crop's places.
    weights : (B, S / 4, S / 4)
    rng : Generator
    """
    edge = images.shape[-1]
    crops = images[:, 0].numpy()
    views, grids, inside = [], [], []
    for crop in crops:
        places, matrix, shows = _view(edge, rng)
        shrunk = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
        if shrunk < 1:
            crop = cv2.GaussianBlur(crop, (0, 0), max(0.5 * float(np.sqrt(shrunk**-2 - 1)), 0.1))
        flags = cv2.INTER_CUBIC
        view = cv2.warpPerspective(crop, matrix, (edge, edge), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        views.append(torch.from_numpy(np.asarray(view, np.float32)))
        # Pixel i of a map is the centre of CELL of the image's, and -1 and 1 are the centres of the outermost.
        among = (places - (CELL - 1) / 2) / CELL
        grids.append(torch.from_numpy(np.asarray(among / (edge / CELL - 1) * 2 - 1, np.float32)))
        inside.append(torch.from_numpy(shows))
    grid = torch.stack(grids)
    together = torch.cat([maps, weights[:, None]], dim=1)
    found = F.grid_sample(together, grid, align_corners=True)
    lights = draw_lights(1.0, rng.random((len(views), LIGHT_UNIFORMS)))
    some = {
        name: (torch.from_numpy(rows), torch.from_numpy(np.ascontiguousarray(values)))
        for name, (rows, values) in lights._asdict().items()
        if len(rows)
    }
    normal = rng.normal(size=(len(views), edge, edge)).astype(np.float32)
    seen = relit(torch.stack(views).clamp_(0, 1), some, lambda rows: torch.from_numpy(normal)[rows])
    return Seen(seen[:, None], found[:, :-1], found[:, -1] * torch.stack(inside))


def places_in_crop(matrix: NDArray[np.float64], edge: int) -> NDArray[np.float64]:
    """Where the centres of the cells of a view lie in the crop: pixels (S / 4, S / 4, 2), from view-of-crop (3, 3)."""
    centres = np.arange(edge // CELL) * CELL + (CELL - 1) / 2
    x, y = np.meshgrid(centres, centres)
    there = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(matrix).T
    return np.asarray(there[..., :2] / np.where(there[..., 2:] > 0.1, there[..., 2:], np.nan))


def _view(edge: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
    """A view that shows enough of the crop: `places_in_crop`, the homography from the crop, and which cells show it."""
    while True:
        matrix = _homography(edge, rng)
        places = places_in_crop(matrix, edge)
        with np.errstate(invalid="ignore"):  # what lies behind the camera is nowhere
            inside = ((places >= _BORDER) & (places <= edge - 1 - _BORDER)).all(axis=-1)
        if inside.mean() >= _SHARED:
            nowhere = np.full_like(places, -10.0 * edge)
            return np.where(np.isnan(places), nowhere, places), matrix, np.asarray(inside, np.float32)


def _homography(edge: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """From pixels of a crop to those of a view."""
    angle = np.deg2rad(np.clip(rng.normal(0, _DEGREES), -_MOST_DEGREES, _MOST_DEGREES))
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.eye(3)
    matrix[:2, :2] = np.exp(rng.uniform(-_SMALLER, _LARGER)) * np.array([[cosine, -sine], [sine, cosine]])
    middle = (edge - 1) / 2
    matrix[:2, 2] = middle - matrix[:2, :2] @ (middle + rng.uniform(-_BESIDE, _BESIDE, 2) * edge)
    if rng.random() < _TILTED:
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * np.float32(edge - 1)
        moved = corners + rng.uniform(-1, 1, (4, 2)) * rng.choice(_CORNERS) * edge
        matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32)) @ matrix
    return matrix
