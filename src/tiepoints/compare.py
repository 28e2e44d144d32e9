"""Several extractors on the same photographs, side by side."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import checks
from .collection import Photograph
from .drawing import Picture
from .errors import ImageError, InvalidInputError
from .extraction import Extractor
from .images import read
from .matching import Matcher
from .pair import MatchedPair, match_images

__all__ = ["Compared", "Comparison", "compare", "coverage"]

_CELLS = 10  # along each edge of an image


@dataclass(frozen=True)
class Compared:
    """One method's figures over all pairs.

    Parameters
    ----------
    method : str
    keypoints : float
        Mean number in an image.
    matches : float
        Mean number of putative matches of a pair.
    inliers : float
        Mean number of a pair; 0 where it is not verified.
    verified, pairs : int
        How many pairs are verified, of how many.
    coverage : float
        Mean share of the image where there are inliers, in [0, 1]; see `coverage`.
    milliseconds : float
        Median of a pair: extraction of both images, matching and verification, without decoding.
    """

    method: str
    keypoints: float
    matches: float
    inliers: float
    verified: int
    pairs: int
    coverage: float
    milliseconds: float


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Parameters
    ----------
    rows : list of Compared
        In the order of the methods.
    pairs : list of (str, str)
        The photographs that were compared.
    failed : dict
        Photographs that cannot be read, and why.
    examples : dict
        Each method's result of the first pair.
    """

    rows: list[Compared]
    pairs: list[tuple[str, str]]
    failed: dict[str, str]
    examples: dict[str, MatchedPair]

    def plot(self, **options: Any) -> Picture:
        """The first pair's inliers by each method, one below the other; options are those of `plot_matches`."""
        drawn = [pair.plot(title=name, **options) for name, pair in self.examples.items()]
        return np.concatenate(drawn).view(Picture)

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {"methods": [asdict(row) for row in self.rows], "pairs": self.pairs, "failed": self.failed}

    def _repr_png_(self) -> bytes | None:
        return self.plot()._repr_png_()


def coverage(points: NDArray[Any], image_size: tuple[int, int]) -> float:
    """The share of an image's cells, 10 along each edge, that hold at least one of the points.

    Parameters
    ----------
    points : (N, 2)
        [x, y] in pixels, pixel-centre convention.
    image_size : (int, int)
        (width, height).

    Examples
    --------
    >>> import numpy as np
    >>> coverage(np.array([[5.0, 5.0], [6.0, 6.0], [95.0, 5.0]]), (100, 100))
    0.02
    """
    if not len(points):
        return 0.0
    cells = np.floor((np.asarray(points) + 0.5) / image_size * _CELLS).clip(0, _CELLS - 1)
    return len(np.unique(cells, axis=0)) / _CELLS**2


def compare(
    images: Sequence[str | os.PathLike[str] | Photograph],
    methods: Mapping[str, Extractor],
    *,
    matcher: str | Matcher = "nearest",
    geometry: str = "fundamental",
    most_pairs: int = 10,
) -> Iterator[tuple[int, int] | Comparison]:
    """Match neighbouring photographs by several methods.

    Parameters
    ----------
    images : sequence of path or Photograph
        Two at least; each is matched with the next one.
    methods : mapping
        From a name to an extractor.
    matcher, geometry
        As `match_images` takes them.
    most_pairs : int
        At most so many pairs, evenly chosen.

    Yields
    ------
    progress : (int, int)
        Pairs done, and all, after each pair.
    comparison : Comparison
        Last.

    Raises
    ------
    ImageError
        If no two neighbouring photographs can be read.
    InvalidInputError
        If an argument is wrong.
    """
    if len(images) < 2 or not methods:
        raise InvalidInputError("a comparison needs two photographs and a method at least")
    count = min(checks.count(most_pairs, "most_pairs", least=1), len(images) - 1)
    firsts = np.linspace(0, len(images) - 2, count).round().astype(int).tolist()
    found: dict[str, list[MatchedPair]] = {name: [] for name in methods}
    failed: dict[str, str] = {}
    pairs: list[tuple[str, str]] = []
    for done, first in enumerate(firsts, 1):
        several = images[first : first + 2]
        both = [_called(image) for image in several]
        pixels = list(_readable(several, failed))
        if len(pixels) == 2:
            pairs.append((both[0], both[1]))
            for name, extractor in methods.items():
                if len(pairs) == 1:  # what happens only once is not timed: memory, the network's first run
                    extractor(pixels[0])
                pair = match_images(*pixels, extractor=extractor, matcher=matcher, geometry=geometry)
                found[name].append(pair)
                if len(pairs) > 1:  # pictures show the first; of the others the figures are enough
                    blank = np.zeros((1, 1), np.uint8)
                    found[name][-1] = _without_images(pair, blank)
        yield done, count
    if not pairs:
        raise ImageError("no two neighbouring photographs can be read: " + "; ".join(failed.values()))
    rows = [_row(name, results) for name, results in found.items()]
    yield Comparison(rows, pairs, failed, {name: results[0] for name, results in found.items()})


def _called(image: str | os.PathLike[str] | Photograph) -> str:
    """A photograph's path; of a video's frame its name, which has the frame's number."""
    if isinstance(image, Photograph):
        return str(image.path) if image.frame is None else image.name
    return str(image)


def _readable(
    images: Iterable[str | os.PathLike[str] | Photograph], failed: dict[str, str]
) -> Iterator[NDArray[np.uint8]]:
    for image in images:
        try:
            yield image.read() if isinstance(image, Photograph) else read(image)
        except ImageError as error:  # noqa: PERF203 - it must not cost the others
            failed[_called(image)] = str(error)


def _without_images(pair: MatchedPair, blank: NDArray[np.uint8]) -> MatchedPair:
    return replace(pair, image_a=blank, image_b=blank)


def _row(name: str, results: Sequence[MatchedPair]) -> Compared:
    covered = [
        (coverage(points_a, pair.a.image_size) + coverage(points_b, pair.b.image_size)) / 2
        for pair in results
        for points_a, points_b in (pair,)
    ]
    return Compared(
        name,
        statistics.fmean((len(pair.a) + len(pair.b)) / 2 for pair in results),
        statistics.fmean(len(pair.matches) for pair in results),
        statistics.fmean(len(pair.inliers) for pair in results),
        sum(bool(pair.verified) for pair in results),
        len(results),
        statistics.fmean(covered),
        statistics.median(sum(pair.times_ms[s] for s in ("extract", "match", "verify")) for pair in results),
    )
