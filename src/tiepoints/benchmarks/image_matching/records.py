"""What the benchmark is asked for, and the records of what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...datasets.scenes import Pair, Scene
from ...errors import InvalidInputError
from ..methods import Method
from .multiview import BAGS, Intrinsics
from .stereo import Track, estimator_for

__all__ = ["BagRecord", "Options", "PairRecord", "SceneResult", "TrackRecord", "default_ratio", "published_track"]

Float64 = NDArray[np.float64]


def published_track() -> Track:
    """The fundamental matrix as published: 0.5 pixels, confidence 0.999999, 100,000 samples."""
    return Track(estimator_for("fundamental"), 0.5)


@dataclass(frozen=True)
class Options:
    """How the benchmark is run; everything that figures depend on besides data and method.

    Parameters
    ----------
    stereo, multiview : bool
        Which tasks.
    ratio : float, optional
        Of the ratio test, both ways; 1 for none. None: the method's default, see `default_ratio`.
    tracks : mapping of str to Track
        Named "fundamental" (its figures are the stereo columns) and "essential".
    bags : mapping of int to int
        How many bags of each size.
    intrinsics : {"estimated", "known"}
        Whose calibration COLMAP works with; the published protocol lets it estimate.
    seed : int
        Of the bags and of COLMAP's samples; the tracks have their own.

    Raises
    ------
    InvalidInputError
        If there is no task, or the ratio is out of range.
    """

    stereo: bool = True
    multiview: bool = True
    ratio: float | None = None
    tracks: Mapping[str, Track] = field(
        default_factory=lambda: {"fundamental": published_track(), "essential": Track("poselib", 1.0)}
    )
    bags: Mapping[int, int] = field(default_factory=lambda: dict(BAGS))
    intrinsics: Intrinsics = "estimated"
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.stereo or self.multiview):
            raise InvalidInputError("neither stereo nor multiview: there is nothing to do")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise InvalidInputError(f"ratio is {self.ratio}, but must be above 0 and at most 1")
        if unknown := set(self.tracks) - {"fundamental", "essential"}:
            raise InvalidInputError(f"there is no track {', '.join(sorted(unknown))}: fundamental and essential are")


@dataclass(frozen=True)
class TrackRecord:
    """A pair on one track: inliers, errors in degrees (infinite without a pose), matching scores @1..10 or None."""

    inliers: int
    rotation: float
    translation: float
    scores: Float64 | None

    @property
    def error(self) -> float:
        """The larger of the two angles."""
        return max(self.rotation, self.translation)


@dataclass(frozen=True)
class PairRecord:
    """A pair of the stereo task: its matches, what matching cost, repeatability @1..10 or None, and its tracks."""

    pair: Pair
    matches: int
    cost: float
    repeatability: Float64 | None
    tracks: Mapping[str, TrackRecord]


@dataclass(frozen=True)
class BagRecord:
    """A bag of the multiview task.

    `errors` are the degrees of all its pairs; `given` and `kept` the mean number of a pair's matches before and after
    COLMAP's verification; `ate` and `rms` in the scene's unit, None with fewer than three registered images.
    """

    size: int
    index: int
    registered: int
    landmarks: int
    track_length: float
    ate: float | None
    rms: float | None
    errors: Float64
    given: float
    kept: float


@dataclass(frozen=True, eq=False)
class SceneResult:
    """All that one method gave on one scene."""

    scene: Scene
    method: str
    ratio: float | None
    keypoints: float
    pairs: tuple[PairRecord, ...]
    bags: tuple[BagRecord, ...]
    notes: tuple[str, ...]


def default_ratio(method: Method) -> float:
    """The ratio test that a method gets unless told otherwise.

    0.9 is the optimum of the benchmark's own sweep for RootSIFT (mAA@10 .541 at .8, .575 at .85, .581 at .9, .547 at
    .95), and what it recommends to begin with; we give it to all float descriptors. Binary ones get 0.8: ours, not
    tuned, since ratios of Hamming distances of a few hundred bits spread less.
    """
    return 0.8 if method.extractor.metadata.descriptor_type == "binary" else 0.9
