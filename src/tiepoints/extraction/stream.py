"""Many images at once: decoding, network and post-processing of different images overlap."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import ImageError
from ..features import Features
from ..files import PathLike
from ..images import read
from ..threads import cores
from .base import Extractor

__all__ = ["Extracted", "extract_images"]

# Pixels of all the images that are worked on at once. MD-Net takes about 120 bytes a pixel, so that they stay below
# 2 GB; an image beyond it is worked on alone. Ours.
_PIXELS = 16_000_000


class Extracted(NamedTuple):
    """What became of one image: its features, or why there are none."""

    path: Path | None
    """None for an image that was in memory."""
    features: Features | None
    error: ImageError | None
    milliseconds: float
    """Of the extraction, without the decoding."""


def extract_images(
    extractor: Extractor, images: Iterable[PathLike | NDArray[np.uint8]], *, workers: int | None = None
) -> Iterator[Extracted]:
    """Extract the features of many images, one in each core, and yield them in order.

    That is faster than all cores on one image after another, most of all for small images: whatever of an image runs on
    one core only, decoding for instance, runs beside other images.

    Parameters
    ----------
    extractor : Extractor
    images : iterable of path or uint8 array
        Files, read as they are needed, or images as `extractor` takes them.
    workers : int, optional
        How many images are worked on at once; by default `tiepoints.threads.cores`. Fewer, where they are so large that
        they would take more than about 2 GB together.

    Yields
    ------
    extracted : Extracted
        For every image, also for a file that cannot be read.

    Raises
    ------
    InvalidInputError
        If an array is no image, or `workers` no number from 1 to 1,024.
    """
    count = cores() if workers is None else checks.count(workers, "workers", least=1, most=1024)
    each = extractor.with_threads(1) if count > 1 else extractor
    room = _Room(_PIXELS)

    def work(source: PathLike | NDArray[np.uint8]) -> Extracted:
        path = None if isinstance(source, np.ndarray) else Path(source)
        try:
            image = source if isinstance(source, np.ndarray) else read(source)
        except ImageError as error:
            return Extracted(path, None, error, 0.0)
        with room.taken(math.prod(image.shape[:2])):
            start = time.perf_counter()
            features = each(image)
            return Extracted(path, features, None, (time.perf_counter() - start) * 1000)

    pool = ThreadPoolExecutor(count)
    waiting: deque[Future[Extracted]] = deque()
    try:
        for image in images:
            waiting.append(pool.submit(work, image))
            if len(waiting) > count:  # one more than workers, so that none waits for the reader of the results
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Room:
    """So many pixels may be taken at once; who asks for more than there are at all waits until nobody else has any."""

    def __init__(self, pixels: int) -> None:
        self._all = self._left = pixels
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        share = min(pixels, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= share)
            self._left -= share
        try:
            yield
        finally:
            with self._changed:
                self._left += share
                self._changed.notify_all()
