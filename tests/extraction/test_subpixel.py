"""Keypoints lie where the synthetic blobs and corners are, at full size and with `max_size`."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import KDTree

import tiepoints as tp
from tiepoints.extraction import is_ready

# Of the published models of one network, the first proves the kind.
KINDS = {metadata.paper if metadata.weights else metadata.name: metadata for metadata in reversed(tp.extractors())}
METADATA = {metadata.name: metadata for metadata in KINDS.values() if is_ready(metadata)}
RESIZING = ("xfeat", "edgepoint2-t32")  # to multiples of 32


@functools.cache
def blobs(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """(480, 640) with Gaussian blobs of sigma 2.8 to 6 px at random sub-pixel places (N, 2)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:480, 0:640]
    image, centres = np.full((480, 640), 60.0), []
    for row in range(40, 441, 50):
        for column in range(40, 601, 50):
            cx, cy = column + rng.uniform(-2, 2), row + rng.uniform(-2, 2)
            image += 120 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * rng.uniform(2.8, 6) ** 2))
            centres.append((cx, cy))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), np.array(centres)


@functools.cache
def corners(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """(480, 640) with bright squares turned by any angle, drawn at 8 times the resolution; their corners and centres.

    A detector may respond inside or outside a corner. As each square has four, in four directions, that cancels in the
    mean, and what is left is the systematic offset. Blob detectors find the centres.
    """
    rng = np.random.default_rng(seed)
    image, tips = np.full((480, 640), 70.0), []
    fine = 8
    y, x = (np.mgrid[0 : 40 * fine, 0 : 40 * fine] + 0.5) / fine - 0.5 - 20
    for row in range(40, 441, 50):
        for column in range(40, 601, 50):
            dx, dy, angle = rng.uniform(-2, 2), rng.uniform(-2, 2), rng.uniform(0, np.pi / 2)
            c, s = np.cos(angle), np.sin(angle)
            inside = (np.abs(c * (x - dx) + s * (y - dy)) < 9) & (np.abs(-s * (x - dx) + c * (y - dy)) < 9)
            patch = np.where(inside, 190.0, 70.0).reshape(40, fine, 40, fine).mean(axis=(1, 3))
            image[row - 20 : row + 20, column - 20 : column + 20] = patch
            for u, v in ((9, 9), (9, -9), (-9, 9), (-9, -9), (0, 0)):
                tips.append((column + dx + c * u - s * v, row + dy + s * u + c * v))
    return np.rint(image).astype(np.uint8), np.array(tips)


def count(name: str) -> int:
    """How many keypoints to ask for: networks of patches take up to 10 ms for each."""
    return 300 if "+" in name else 1000


@functools.cache
def of_photograph(name: str, path: Path) -> tp.Features:
    """What one shift after another is compared with."""
    return tp.load(name, max_keypoints=count(name))(tp.read(path, grey=True))


def errors(features: tp.Features, truth: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Keypoint minus truth for the keypoint nearest to each true place, where one lies within `reach`; (K, 2)."""
    distance, nearest = KDTree(features.keypoints).query(truth)
    found = distance < reach
    return np.asarray(features.keypoints[nearest[found]] - truth[found])


@pytest.mark.parametrize("max_size", [None, 500])
@pytest.mark.parametrize(
    "name", [name for name, metadata in METADATA.items() if metadata.subpixel and not metadata.learned]
)
def test_each_blob_is_found_within_a_fifth_of_a_pixel(name: str, max_size: int | None) -> None:
    image, centres = blobs(0)
    off = errors(tp.load(name, max_keypoints=4000, max_size=max_size)(image), centres, 3) * (max_size or 640) / 640
    assert len(off) > 0.8 * len(centres)
    assert np.abs(off.mean(axis=0)).max() < 0.1
    assert np.linalg.norm(off, axis=1).max() < 0.2


@pytest.mark.parametrize("max_size", [None, 500])
@pytest.mark.parametrize("name", [name for name, metadata in METADATA.items() if not metadata.learned])
def test_corners_have_no_systematic_offset(name: str, max_size: int | None) -> None:
    off = []
    for seed in range(8):
        image, tips = corners(seed)
        off.append(errors(tp.load(name, max_keypoints=8000, max_size=max_size)(image), tips, 4))
    joint = np.concatenate(off) * (max_size or 640) / 640
    assert len(joint) > 500
    assert np.abs(joint.mean(axis=0)).max() < 0.1


# Its training was short: of an image and its mirror image a third of the keypoints agree at best. See docs/methods.md.
UNTRAINED = ("aslfeat",)


# Networks of others may have learned to place keypoints beside what they show, always on the same side: those of
# ALIKED, ALIKE and DISK, and what was distilled from them, by up to 2 px. It is in the weights: see test_parity.
@pytest.mark.parametrize(
    "name", [name for name, metadata in METADATA.items() if not metadata.weights and name not in UNTRAINED]
)
def test_mirrored_images_have_mirrored_keypoints(name: str, texture: NDArray[np.uint8], examples: Path) -> None:
    """An offset to one side shows as twice that offset between an image and its mirror image."""
    extractor = tp.load(name, max_keypoints=count(name))
    smooth = np.asarray(np.kron(texture, np.ones((2, 2), np.uint8)), np.uint8)
    if name.startswith("mdnet"):
        smooth = tp.read(examples / "desk_1.jpg", grey=True)
    plain = extractor(smooth).keypoints
    for axis in (0, 1):
        mirrored = extractor(np.flip(smooth, axis=1 - axis).copy()).keypoints.copy()
        mirrored[:, axis] = smooth.shape[1 - axis] - 1 - mirrored[:, axis]
        distance = np.linalg.norm(plain[:, None] - mirrored[None], axis=2)
        pairs = np.flatnonzero(distance.min(axis=1) < 1.5)
        assert len(pairs) > 0.5 * len(plain)
        assert abs((plain[pairs] - mirrored[distance[pairs].argmin(axis=1)])[:, axis].mean()) / 2 < 0.1


@pytest.mark.parametrize("shift", [(0.4, -0.3), (2.7, 5.5)])
@pytest.mark.parametrize(
    "name", [name for name, metadata in METADATA.items() if metadata.subpixel and name not in UNTRAINED]
)
def test_a_photograph_moved_by_a_part_of_a_pixel(name: str, shift: tuple[float, float], examples: Path) -> None:
    """The keypoints of the resampled photograph move with it, in the mean to a tenth of a pixel; MD-Net's to .15."""
    photograph = tp.read(examples / "desk_1.jpg", grey=True)
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    size = photograph.shape[::-1]
    moved = np.asarray(cv2.warpAffine(photograph, matrix, size, flags=cv2.INTER_CUBIC), np.uint8)
    a = of_photograph(name, examples / "desk_1.jpg")
    b = tp.load(name, max_keypoints=count(name))(moved)
    before, after = tp.match(a, b).points(a, b)
    off = after - before - shift
    near = np.linalg.norm(off, axis=1) < 2
    assert near.sum() > 0.4 * len(a)
    assert np.abs(off[near].mean(axis=0)).max() < (0.15 if name.startswith("mdnet") else 0.1)


@pytest.mark.parametrize("name", [name for name in RESIZING if name in METADATA])
def test_the_resizing_to_multiples_has_no_offset(name: str, examples: Path) -> None:
    """A few more pixels at the right and below, and with them another scale inside, leave keypoints in their places."""
    photograph = tp.read(examples / "desk_1.jpg", grey=True)
    extractor = tp.load(name, max_keypoints=1000)
    a, b = extractor(photograph[:448, :608]), extractor(photograph[:478, :638])
    inner, outer = tp.match(a, b).points(a, b)
    off = outer - inner
    near = np.linalg.norm(off, axis=1) < 2
    assert near.sum() > 0.4 * len(a)
    assert np.abs(off[near].mean(axis=0)).max() < 0.15
