"""Fair comparisons of running time: alternating runs, medians, and ratios of runs that were neighbours in time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images import to_grey

__all__ = ["ORB", "SIFT", "alternating", "opencv_match", "opencv_orb", "opencv_sift", "ratio", "scene"]

UInt8 = NDArray[np.uint8]
K = TypeVar("K")
D = TypeVar("D", bound=np.generic)

#: The peers' names in the tables.
SIFT, ORB = "OpenCV SIFT", "OpenCV ORB"


def alternating(
    methods: Mapping[K, Callable[[], object]], runs: int, progress: Callable[[int, int], None] | None = None
) -> dict[K, list[float]]:
    """Milliseconds of each of `runs` runs by name: each runs once before any runs again (A B A B ...), after a warm-up.

    Runs of the same index were neighbours in time. `progress` is called with the number of rounds done, the warm-up
    included, and of all; never while the clock runs.
    """
    times: dict[K, list[float]] = {name: [] for name in methods}
    for done in range(runs + 1):
        for name, call in methods.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1000)
        if progress is not None:
            progress(done + 1, runs + 1)
    return {name: values[1:] for name, values in times.items()}


def ratio(times: Sequence[float], peer: Sequence[float]) -> float:
    """The median of the runs' ratios, neighbour by neighbour: what slows the machine for a while slows both."""
    return statistics.median(a / b for a, b in zip(times, peer, strict=True))


def opencv_sift(image: UInt8, count: int) -> Callable[[], tuple[int, NDArray[np.float32]]]:
    """OpenCV's own SIFT, its contrast threshold lowered until it returns `count` keypoints, or can find no more.

    What is returned detects and describes: the number of keypoints and their descriptors, (N, 128).
    """
    grey = to_grey(image)
    threshold = 0.04
    while len(cv2.SIFT.create(contrastThreshold=threshold).detect(grey, None)) < count and threshold > 1e-5:
        threshold /= 1.5
    detector = cv2.SIFT.create(nfeatures=count, contrastThreshold=threshold)

    return partial(_detect, detector, grey, count, np.zeros((0, 128), np.float32))


def opencv_orb(image: UInt8, count: int) -> Callable[[], tuple[int, UInt8]]:
    """OpenCV's own ORB with its defaults and `count` keypoints; as `opencv_sift`."""
    return partial(_detect, cv2.ORB.create(nfeatures=count), to_grey(image), count, np.zeros((0, 32), np.uint8))


def _detect(detector: Any, grey: UInt8, count: int, nothing: NDArray[D]) -> tuple[int, NDArray[D]]:
    points, descriptors = detector.detectAndCompute(grey, None)
    # OpenCV keeps all that are as good as the last one, and may so return some more.
    return min(len(points), count), nothing if descriptors is None else descriptors[:count].astype(nothing.dtype)


def opencv_match(a: NDArray[np.float32] | UInt8, b: NDArray[np.float32] | UInt8) -> Callable[[], int]:
    """OpenCV's exact matcher with the mutual check on both images' descriptors; returns the number of matches."""
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING if a.dtype == np.uint8 else cv2.NORM_L2, crossCheck=True)
    return lambda: len(matcher.match(a, b)) if len(a) and len(b) else 0


def scene(photograph: UInt8 | None, size: tuple[int, int]) -> tuple[UInt8, UInt8]:
    """Two views of the same thing: a photograph brought to a (width, height), and a mild perspective warp of it.

    It is cut to that shape and scaled; without one they are of a texture of blobs and edges at all scales.
    """
    width, height = size
    if photograph is None:
        image = _texture(size)
    else:
        h, w = photograph.shape[:2]
        scale = min(w / width, h / height)
        across, down = round(width * scale), round(height * scale)
        top, left = (h - down) // 2, (w - across) // 2
        part = photograph[top : top + down, left : left + across]
        how = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
        image = np.asarray(cv2.resize(np.ascontiguousarray(part), size, interpolation=how), np.uint8)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + np.array([[0.05, 0.02], [-0.02, 0.06], [-0.06, -0.03], [0.03, -0.05]]) * size
    warp = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    other = cv2.warpPerspective(image, warp, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return image, np.asarray(other, np.uint8)


def _texture(size: tuple[int, int]) -> UInt8:
    """Blocks of random grey at all scales; the amplitude grows with the scale as in photographs. Always the same."""
    width, height = size
    rng = np.random.default_rng(0)
    image = np.zeros((height, width), np.float32)
    cell = 3
    while cell < max(size) / 2:
        coarse = rng.normal(size=(height // cell + 2, width // cell + 2)).astype(np.float32)
        grown = cv2.resize(coarse, None, fx=cell, fy=cell, interpolation=cv2.INTER_NEAREST)
        image += grown[:height, :width] * cell**0.5
        cell *= 2
    image -= image.min()
    smooth = cv2.GaussianBlur(image / image.max() * 255, (0, 0), 0.8)
    return np.asarray(np.rint(smooth), np.uint8)
