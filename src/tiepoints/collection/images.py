"""`extract_images`: features of many images in order, without names and without a store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from .. import checks
from ..errors import ImageError, TiepointsError
from ..extraction import Extractor
from ..extraction.inputs import mask_for, paired
from ..features import Features
from ..images import as_image, header_of, read
from ..progress import shown_progress
from ..threads import cores, limited
from .engines import Failure, Threads
from .stages import memory_of

__all__ = ["Extracted", "extract_images"]


class Extracted(NamedTuple):
    """What became of one image: its features, or why there are none.

    Examples
    --------
    >>> import tiepoints as tp
    >>> one = next(tp.extract_images(tp.load("orb", max_keypoints=100), ["examples/desk_1.jpg"]))
    >>> one.path.name, len(one.features), one.error
    ('desk_1.jpg', 100, None)
    """

    path: Path | None
    """None for an image that was in memory."""
    features: Features | None
    error: TiepointsError | None
    milliseconds: float
    """Of the extraction, without the decoding."""


class _Source(NamedTuple):
    number: int
    image: Any
    mask: Any


def extract_images(
    extractor: Extractor, images: Iterable[Any], *, mask: Any = None, workers: int | None = None
) -> Iterator[Extracted]:
    """Extract the features of many images, one in each core, and yield them in order.

    That is faster than all cores on one image after another, most of all for small images: whatever of an image runs on
    one core only, decoding for instance, runs beside other images. `collection.run` does the same with results that are
    kept. A bar shows the progress, see `tiepoints.progress`.

    Parameters
    ----------
    extractor : Extractor
    images : iterable of path, array, ...
        Files, read as they are needed, or images as `extractor` takes them.
    mask : optional
        As `extractor` takes it for several images: one for all, a list, or a folder of masks.
    workers : int, optional
        How many images are worked on at once; by default `tiepoints.threads.cores`. Fewer, where they are so large that
        they would take more than 1.5 GB together.

    Yields
    ------
    extracted : Extracted
        For every image, also for one that cannot be used.

    Raises
    ------
    InvalidInputError
        If `workers` is out of its range, or there are not as many masks as images.

    Examples
    --------
    >>> import numpy as np, tiepoints as tp
    >>> frames = [np.zeros((64, 64), np.uint8)] * 3
    >>> [len(one.features) for one in tp.extract_images(tp.load("orb"), frames)]
    [0, 0, 0]
    """
    checks.instance(extractor, "extractor", Extractor)
    checks.iterable(images, "images", "photographs")
    engine = Threads(workers)
    return shown_progress(_in_order(engine, _Work(extractor), paired(images, mask)), images, "extracting")


def _in_order(engine: Threads, work: _Work, given: Iterable[tuple[Any, Any]]) -> Iterator[Extracted]:
    sources = (
        _Source(i, Path(image) if isinstance(image, str | os.PathLike) else image, mask)
        for i, (image, mask) in enumerate(given)
    )
    early: dict[int, Extracted] = {}
    following = 0
    for source, outcome in engine.map(work, sources, memory=work.memory):
        path = source.image if isinstance(source.image, Path) else None
        if isinstance(outcome, Failure):
            outcome = None, ImageError(outcome.message), 0.0
        early[source.number] = Extracted(path, *outcome)
        while following in early:
            yield early.pop(following)
            following += 1


class _Work:
    """What an engine calls for each image."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self._taken: dict[Path, Path] = {}  # masks of a folder

    @cached_property
    def _single(self) -> Extractor:
        return self._extractor.with_threads(1)

    def __call__(self, source: _Source, threads: int) -> tuple[Features, None, float]:
        each = self._extractor if threads >= cores() else self._single
        with limited(threads):
            image = read(source.image) if isinstance(source.image, Path) else source.image
            mask = mask_for(source.mask, source.image, self._taken)
            start = time.perf_counter()
            features = each(image, mask)
            return features, None, (time.perf_counter() - start) * 1000

    def memory(self, source: _Source) -> int:
        if isinstance(source.image, Path):
            width, height = header_of(source.image).size
        else:
            height, width = as_image(source.image).shape[:2]
        return memory_of(self._extractor, (width, height))
