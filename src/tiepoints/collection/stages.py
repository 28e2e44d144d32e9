"""The steps from photographs to verified matches: extraction, matching, geometric verification."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..checks import choice, count, instance, number
from ..errors import InvalidInputError, counted
from ..extraction import Extractor, load
from ..features import Features, Matches
from ..geometry import fundamental, homography, log_nfa
from ..geometry.chance import SAMPLES, VERIFIED
from ..geometry.inputs import median
from ..geometry.residuals import symmetric_homography_error
from ..geometry.results import Geometry
from ..matching import Matcher, load_matcher
from .photographs import Photograph
from .records import register
from .steps import Step

__all__ = ["Extract", "Match", "Verified", "Verify"]

# Bytes for a pixel of the photograph: while it is decoded (the decoder's, Pillow's and NumPy's copies of RGB, and one
# that is turned), and while the method works (RGB, grey, a mask).
_DECODING, _DECODED = 12, 5
_FEW = 16  # matches: twice what a fundamental matrix is asked to explain
_STILL = 1.5  # pixels, as for overlays
_FLAT, _FLAT_ERROR = 0.85, 3.0
_SEVERAL = 500  # inliers from which that homography is estimated; its share is of all
# Of the implied matches. On temple_ring all of the 56 wrong pairs have at most .50; nearly all right ones have more
# than .65, there and in other scenes. Ours.
_AGREED = 0.6


def memory_of(extractor: Extractor, size: tuple[int, int]) -> int:
    """About how many bytes decoding an image of this size and extracting its features take."""
    width, height = size
    limit = extractor.max_size
    scale = 1.0 if limit is None else min(1.0, limit / max(width, height))
    worked = extractor.pixels_at_once(*(max(1, round(length * scale)) for length in size))
    return max(width * height * _DECODING, width * height * _DECODED + worked * extractor.bytes_per_pixel)


class Extract(Step):
    """The features of a photograph.

    Parameters
    ----------
    extractor : str or Extractor
        A name that `tiepoints.load` takes, or an extractor.
    **options
        Those of the extractor, where it is given by its name.

    Raises
    ------
    InvalidInputError, UnknownExtractorError, MissingDependencyError
        As `tiepoints.load`.

    Examples
    --------
    >>> from tiepoints.collection import Extract
    >>> Extract("orb", max_keypoints=500).name
    'extract-orb'
    """

    version = 2  # the outlines of cut-outs have no keypoints any more
    packages = ("numpy",)

    def __init__(self, extractor: str | Extractor, **options: Any) -> None:
        if isinstance(extractor, str):
            extractor = load(extractor, **options)
        elif options:
            raise InvalidInputError("options belong to an extractor that is given by its name")
        self.extractor = instance(extractor, "extractor", Extractor)

    @property
    def name(self) -> str:
        """extract, and the extractor's name."""
        return f"extract-{self.extractor.metadata.name}"

    def __call__(self, photograph: Photograph) -> Features:
        """The features of a photograph, where its mask allows them."""
        # A file itself, not its pixels: where it is transparent or without data nothing is to be found.
        plain = photograph.frame is None and photograph.value_range is None
        image = photograph.path if plain else photograph.read()
        return self.extractor(image, photograph.read_mask())

    def memory(self, *inputs: Any) -> int:
        """Bytes for the decoding, and for the method on the image after `max_size`."""
        return memory_of(self.extractor, inputs[0].header.size)

    def with_threads(self, count: int) -> Extract:
        """The same with the extractor's own threads limited."""
        other = copy.copy(self)
        other.extractor = self.extractor.with_threads(count)
        return other

    def __repr__(self) -> str:
        return f"Extract({self.extractor!r})"


class Match(Step):
    """The matches of two images' features.

    Parameters
    ----------
    matcher : str or Matcher
        A name that `matching.load_matcher` takes, or a matcher.
    **options
        Those of the matcher, where it is given by its name.

    Raises
    ------
    InvalidInputError
        As `matching.load_matcher`.

    Examples
    --------
    >>> from tiepoints.collection import Match
    >>> Match(ratio=0.9)
    Match(Nearest(ratio=0.9, min_similarity=None, mutual=True))
    """

    def __init__(self, matcher: str | Matcher = "nearest", **options: Any) -> None:
        if isinstance(matcher, str):
            matcher = load_matcher(matcher, **options)
        elif options:
            raise InvalidInputError("options belong to a matcher that is given by its name")
        self.matcher = instance(matcher, "matcher", Matcher)

    def __call__(self, a: Features, b: Features) -> Matches:
        """The matches of a pair."""
        return self.matcher(a, b)

    def memory(self, *inputs: Any) -> int:
        """Some megabytes: features, and a block of similarities."""
        return 20_000_000

    def __repr__(self) -> str:
        return f"Match({self.matcher!r})"


@register("tiepoints.Verified")
@dataclass(frozen=True, eq=False)
class Verified:
    """What geometric verification made of the matches of a pair.

    Parameters
    ----------
    matches : Matches
        The putative ones.
    geometry : Geometry
        The model, and which of the matches are its inliers.
    log_nfa : float
        log10 of the number of models with so many inliers that unrelated images would give.
    motion : {"general", "planar", "none"}
        What the inliers of a verified pair tell: depth; none, because one homography explains nearly all of them (a
        plane, or a camera that only rotated); none, because they are at the same places (the same picture, or a camera
        that stood still).
    agreement : float
        Share of the matches that stronger pairs imply which agree with the model, see `ConsistentViews`; NaN where it
        is not known.

    Examples
    --------
    >>> import numpy as np
    >>> import tiepoints as tp
    >>> from tiepoints.collection import Verified
    >>> from tiepoints.geometry import Geometry
    >>> model = Geometry("homography", np.eye(3), np.array([True, True, False]))
    >>> view = Verified(tp.Matches([[0, 0], [1, 1], [2, 5]], [0.9, 0.8, 0.7]), model, log_nfa=-12.0)
    >>> view.verified, len(view.inliers)
    (True, 2)
    """

    matches: Matches
    geometry: Geometry
    log_nfa: float
    motion: Literal["general", "planar", "none"] = "general"
    agreement: float = math.nan

    @property
    def verified(self) -> bool:
        """Whether there is a model, with more inliers than chance would give, and stronger pairs do not contradict."""
        return bool(self.geometry) and self.log_nfa <= VERIFIED and not self.contradicted

    @property
    def contradicted(self) -> bool:
        """Whether most of what stronger pairs imply does not agree with the model."""
        return self.agreement < _AGREED

    @property
    def inliers(self) -> Matches:
        """The matches that agree with the model; none unless verified."""
        return self.matches.select(self.geometry.inliers if self.verified else np.zeros(len(self.matches), bool))

    @property
    def outcome(self) -> str:
        """In a word: verified, planar, still, contradicted, overlay, few, or chance; `reason` says it in a sentence."""
        if self.verified:
            return {"general": "verified", "planar": "planar", "none": "still"}[self.motion]
        if self.contradicted:
            return "contradicted"
        if self.geometry.watermark is not None:
            return "overlay"
        return "few" if len(self.matches) < _FEW else "chance"

    @property
    def reason(self) -> str:
        """Why the pair is not verified, or tells no depth; empty where it is and does."""
        inliers, matches = counted(self.geometry.num_inliers, "inlier"), counted(len(self.matches), "match")
        return {
            "verified": "",
            "planar": "all on a plane, or by a camera that only rotated: no depth",
            "still": "nothing moves: the same picture, or a camera that stood still: no depth",
            "contradicted": "stronger pairs contradict its inliers: parts that look alike",
            "overlay": "what agrees is an overlay that does not move, such as a label or a watermark",
            "few": f"too few matches: {len(self.matches)}",
            "chance": f"{inliers} of {matches}: no more than chance gives",
        }[self.outcome]

    def __bool__(self) -> bool:
        return self.verified

    def __repr__(self) -> str:
        return f"Verified({self.geometry!r}, {'verified' if self.verified else 'not verified'})"


class Verify(Step):
    """Geometric verification of a pair's matches: RANSAC, and whether its inliers are more than chance would give.

    Parameters
    ----------
    geometry : {"fundamental", "homography"}
        fundamental for any rigid scene; homography for a plane, or a camera that only rotates.
    threshold : float, optional
        Inlier threshold in pixels; by default 1 for fundamental, 3 for homography.
    seed : int
        Of the random samples.
    max_iterations : int
        Samples drawn at most, those with the best scores first. A pair of different scenes draws all of them.

    Raises
    ------
    InvalidInputError
        If an option is out of its range.

    Examples
    --------
    >>> from tiepoints.collection import Verify
    >>> Verify("homography").threshold
    3.0
    """

    version = 7
    packages = ("numpy", "opencv", "poselib")

    def __init__(
        self,
        geometry: Literal["fundamental", "homography"] = "fundamental",
        *,
        threshold: float | None = None,
        seed: int = 0,
        max_iterations: int = SAMPLES,
    ) -> None:
        self.geometry = choice(geometry, "geometry", ("fundamental", "homography"))
        default = 1.0 if self.geometry == "fundamental" else 3.0
        self.threshold = default if threshold is None else number(threshold, "threshold", above=0)
        self.seed = count(seed, "seed")
        self.max_iterations = count(max_iterations, "max_iterations", least=1)

    def __call__(self, matches: Matches, a: Features, b: Features) -> Verified:
        """The model of a pair."""
        return self.judged(self.attempt(matches, a, b), a, b)

    def attempt(self, matches: Matches, a: Features, b: Features, *, max_iterations: int | None = None) -> Verified:
        """The same with at most so many samples, and without looking at the motion."""
        options: dict[str, Any] = {
            "threshold": self.threshold, "seed": self.seed, "max_iterations": max_iterations or self.max_iterations
        }  # fmt: skip
        if self.geometry == "fundamental":
            model = fundamental(a, b, matches, **options, best_first=True)
        else:
            model = homography(a, b, matches, **options)
        return Verified(matches, model, log_nfa(model, self.threshold, b.image_size))

    def judged(self, view: Verified, a: Features, b: Features) -> Verified:
        """With what the inliers tell about motion."""
        if not view:
            return view
        p, q = view.inliers.points(a, b)
        if a.image_size == b.image_size and median(np.hypot(*(p - q).T)) < _STILL:
            return replace(view, motion="none")
        return replace(view, motion="planar") if view.geometry.kind == "fundamental" and _is_planar(p, q) else view


def _is_planar(p: NDArray[np.float32], q: NDArray[np.float32]) -> bool:
    """Whether one homography explains nearly all inliers.

    The share that it explains to 3 pixels is at most .83 in pairs of scenes with depth (Strecha, Lund, temple, phones,
    TUM), and .80 to .95 in most of planar scenes and turning cameras (HPatches, UZH). Ours.
    """
    every = -(-len(p) // _SEVERAL)
    H, _ = cv2.findHomography(p[::every], q[::every], cv2.USAC_FAST, _FLAT_ERROR, maxIters=200)
    return H is not None and float((symmetric_homography_error(H, p, q) <= _FLAT_ERROR).mean()) >= _FLAT
