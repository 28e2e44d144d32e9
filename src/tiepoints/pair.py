"""Two photographs in one call: features, matches and verified geometry."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import choice, count, shown
from .collection.stages import Verified, Verify
from .drawing import Picture
from .errors import InvalidInputError, counted
from .extraction import Extractor, load
from .extraction.inputs import mask_for, mask_of, paired
from .features import Features, Matches
from .geometry import Geometry, fundamental, homography
from .geometry.chance import log_nfa
from .geometry.outline import corners
from .images import with_mask
from .matching import Matcher
from .matching.registry import as_matcher

__all__ = ["MatchedPair", "match_images"]

#: Quarter turns against the clock, those of a camera on its side first, and in words.
TURNS = {1: "90 degrees to the left", 3: "90 degrees to the right", 2: "by 180 degrees"}


@dataclass(frozen=True, eq=False, repr=False)
class MatchedPair:
    """Two photographs, their features, and the matches between them; true if these were verified.

    It unpacks into the matched points of both photographs: ``points_a, points_b = match_images(...)``.

    Parameters
    ----------
    image_a, image_b : (H, W, 3) or (H, W) uint8
    a, b : Features
    matches : Matches
        The putative ones, before verification.
    geometry : Geometry or None
        What agrees with one epipolar geometry or homography; None where it was not asked for.
    verified : bool or None
        Whether the inliers are more than chance gives; None without geometry.
    times_ms : dict
        Milliseconds of each stage: load, read, extract, match, verify.
    view : Verified or None
        What verification made of the matches, in a folder's words: its `reason` says why the pair is not verified, or
        tells no depth. None without geometry.
    mask_b : (H, W) bool or None
        Where keypoints of image b were wanted: its mask, and what of it is not transparent. None: everywhere.
    """

    image_a: NDArray[np.uint8]
    image_b: NDArray[np.uint8]
    a: Features
    b: Features
    matches: Matches
    geometry: Geometry | None
    verified: bool | None
    times_ms: dict[str, float] = field(default_factory=dict)
    view: Verified | None = None
    mask_b: NDArray[np.bool_] | None = None

    @property
    def inliers(self) -> Matches:
        """The verified matches: none where the geometry is not verified, all where none was asked for."""
        if self.geometry is None:
            return self.matches
        return self.matches.select(self.geometry.inliers) if self.verified else Matches.empty()

    @property
    def corners(self) -> NDArray[np.float64] | None:
        """(4, 2) where the corners of image a lie in image b, see `corners`; None without a verified homography."""
        found = self.geometry is not None and self.verified and self.geometry.kind == "homography"
        return corners(self.geometry, self.a.image_size) if found and self.geometry is not None else None

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return iter(self.inliers.points(self.a, self.b))

    def __bool__(self) -> bool:
        return bool(len(self.matches)) if self.verified is None else self.verified

    def plot(self, **options: Any) -> Picture:
        """A picture of both photographs and the inliers; of all matches where they are not verified, which it says.

        Options are those of `plot_matches`.
        """
        from .plot import plot_matches

        return plot_matches(self.image_a, self.image_b, self.a, self.b, self.matches, self.geometry, **options)

    def overlay(self) -> Picture:
        """Image a laid on image b by the homography; see `plot_overlay`.

        Raises
        ------
        InvalidInputError
            If there is no verified homography.
        """
        from .plot import plot_overlay

        if self.geometry is None:
            raise InvalidInputError("an overlay needs a homography: match_images(..., geometry='homography')")
        if not self.verified:
            raise InvalidInputError("an overlay needs a verified homography, but this pair is not verified")
        return plot_overlay(self.image_a, self.image_b, self.geometry)

    def _repr_png_(self) -> bytes | None:
        return self.plot()._repr_png_()

    def __repr__(self) -> str:
        if self.geometry is None:
            return f"MatchedPair({counted(len(self.matches), 'match')})"
        model = self.geometry.kind + ("" if self.geometry.kind == "homography" else " matrix")
        every = counted(len(self.matches), "match")
        if not self.verified:
            return f"MatchedPair({every}, not verified: no more agree with one {model} than by chance)"
        return f"MatchedPair({self.geometry.num_inliers} of {every} are inliers of one {model}, verified)"


def match_images(
    image_a: Any,
    image_b: Any,
    *,
    extractor: str | Extractor | Callable[[], Extractor] = "mdnet",
    matcher: str | Matcher = "nearest",
    geometry: str | None = "fundamental",
    threshold: float | None = None,
    rotation: str | None = None,
    seed: int = 0,
    masks: Any = None,
    progress: Callable[[str, int, int], None] | None = None,
    **options: Any,
) -> MatchedPair:
    """Find verified tie points between two photographs: extract, match, verify by RANSAC.

    Parameters
    ----------
    image_a, image_b : path, array, ...
        Whatever an extractor takes.
    extractor : str, Extractor or callable
        A name, see `extractors`; an extractor that was made before, or what makes one.
    matcher : str or Matcher
        See `match`.
    geometry : {"fundamental", "homography", None}
        The geometric verification: "fundamental" for any rigid scene, "homography" for a plane or a camera that only
        rotates, None for none.
    threshold : float, optional
        Inlier threshold in pixels; by default 1 for "fundamental", 3 for "homography".
    rotation : {"any", "upright"}, optional
        "any" for photographs from above, scans, and cameras on their side, with extractors that tell up from down:
        image b is tried rotated by 90, 180 and 270 degrees too, and what gives the most inliers is taken. MD-Net and
        methods that are invariant to rotation, such as RootSIFT, need none of this: they match such photographs by
        default. "upright": MD-Net compares both images as they are, too.
    seed : int
        Of RANSAC's random samples.
    masks : (mask, mask) or path, optional
        For each image, what an extractor takes for a mask, or None. Or a folder of masks, called as the images; or the
        file of one mask for both.
    progress : callable, optional
        ``progress("extracting", done, all)``.
    **options
        Those of the extractor, where it is given by its name, such as `max_keypoints` and `max_size`.

    Returns
    -------
    pair : MatchedPair
        True if it is verified, that is, if there are more inliers than chance gives.

    Raises
    ------
    ImageError
        If a file cannot be read.
    InvalidInputError
        If an argument is wrong.

    Examples
    --------
    >>> import tiepoints as tp
    >>> pair = tp.match_images("examples/box.png", "examples/box_in_scene.png", geometry="homography")
    >>> pair.verified
    True
    >>> points_a, points_b = pair  # the verified matches, row by row
    >>> points_a.shape == points_b.shape == (pair.geometry.num_inliers, 2)
    True
    """
    kind: Any = choice("none" if geometry is None else geometry, "geometry", ("fundamental", "homography", "none"))
    verify = Verify("fundamental" if kind == "none" else kind, threshold=threshold, seed=count(seed, "seed"))
    if rotation is not None:
        choice(rotation, "rotation", ("any", "upright"))
    times: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        times[stage] = times.get(stage, 0.0) + (now - clock) * 1000
        clock = now

    if isinstance(extractor, str):
        extractor = load(extractor, **options)
    elif options:
        raise InvalidInputError(f"{', '.join(options)}: {extractor!r} has its options already")
    elif not isinstance(extractor, Extractor):
        made = extractor() if callable(extractor) else extractor
        if not isinstance(made, Extractor):
            raise InvalidInputError(f"extractor is {shown(made)}, but a name or an Extractor is expected")
        extractor = made
    turned = extractor.in_any_rotation() if rotation == "any" else None
    extractor = turned or (extractor.upright_only() if rotation == "upright" else extractor)
    matcher = as_matcher(matcher).for_extractor(extractor.metadata.name)
    lap("load")
    (pixels_a, shown_a), (pixels_b, shown_b) = with_mask(image_a), with_mask(image_b)
    mask_a, mask_b = _masks(masks, (image_a, pixels_a), (image_b, pixels_b))
    wanted = mask_b if shown_b is None else shown_b if mask_b is None else mask_b & (np.asarray(shown_b) > 0)
    lap("read")
    rotations = 4 if rotation == "any" and turned is None else 1

    def tell(done: int) -> None:
        if progress is not None:
            progress("extracting", done, 1 + rotations)

    tell(0)
    a = extractor(_picture(pixels_a, shown_a), mask_a)
    best: MatchedPair | None = None
    for turns in range(rotations):
        tell(1 + turns)
        own = None if mask_b is None else np.rot90(mask_b, turns)
        b = _unrotated(extractor(_picture(pixels_b, shown_b, turns), own), turns)
        lap("extract")
        matches = matcher(a, b)
        lap("match")
        model = verified = view = None
        if kind != "none":
            view = _view(verify, matches, a, b)
            model, verified = view.geometry, view.verified
        lap("verify")
        found = MatchedPair(pixels_a, pixels_b, a, b, matches, model, verified, times, view, wanted)
        if best is None or _strength(found) > _strength(best):
            best = found
    assert best is not None
    return best


def _view(verify: Verify, matches: Matches, a: Features, b: Features) -> Verified:
    """What `verify` finds, so that a pair has the same inliers alone and in a folder; and if that is no more than
    chance, what RANSAC finds with all of its samples, which a single pair can afford.
    """
    view = verify.attempt(matches, a, b)
    if not view:
        estimate = homography if verify.geometry == "homography" else fundamental
        model = estimate(a, b, matches, threshold=verify.threshold, seed=verify.seed)
        view = Verified(matches, model, log_nfa(model, verify.threshold, b.image_size))
    return verify.judged(view, a, b)


def rotation_that_matches(pair: MatchedPair, extractor: Extractor, matcher: str | Matcher = "nearest") -> str:
    """How image b has to be rotated for a pair that is not verified to be so, in words; empty if that does not help.

    Parameters
    ----------
    pair : MatchedPair
    extractor : Extractor
        What found its features.
    matcher : str or Matcher

    Examples
    --------
    >>> import numpy as np, tiepoints as tp
    >>> from tiepoints.pair import rotation_that_matches
    >>> extractor = tp.load("upright-rootsift")
    >>> desk = tp.read("examples/desk_1.jpg")
    >>> pair = tp.match_images(desk, np.rot90(desk, -1), extractor=extractor)
    >>> pair.verified, rotation_that_matches(pair, extractor)
    (False, '90 degrees to the left')
    """
    if pair.geometry is None or extractor.in_any_rotation() is extractor:
        return ""
    kind: Any = pair.geometry.kind
    verify = Verify(kind, threshold=pair.geometry.threshold)
    matcher = as_matcher(matcher).for_extractor(extractor.metadata.name)
    best, how = 0, ""
    for turns, words in TURNS.items():
        wanted = None if pair.mask_b is None else np.rot90(pair.mask_b, turns)
        b = extractor(_picture(pair.image_b, None, turns), wanted)
        inliers = len(verify.attempt(matcher(pair.a, b), pair.a, b).inliers)
        if inliers > best:
            best, how = inliers, words
    return how


def _strength(pair: MatchedPair) -> int:
    """How many inliers a pair has, or matches where no geometry was asked for."""
    return len(pair.matches) if pair.geometry is None else pair.geometry.num_inliers


def _masks(masks: Any, *images: tuple[Any, NDArray[np.uint8]]) -> list[NDArray[np.bool_] | None]:
    """The masks of two images, each as it was handed over and its pixels."""
    if masks is None:
        return [None, None]
    if not isinstance(masks, str | os.PathLike) and (not isinstance(masks, tuple | list) or len(masks) != 2):
        raise InvalidInputError(
            f"masks are {shown(masks)}, but a mask for each of the two images is expected, a folder of masks, or None"
        )
    taken: dict[Path, Path] = {}
    return [
        mask_of(mask_for(mask, given, taken), (len(pixels), pixels.shape[1]))
        for (given, pixels), mask in paired(images, masks)
    ]


def _picture(pixels: NDArray[np.uint8], mask: NDArray[Any] | None, turns: int = 0) -> Picture:
    """An image with the mask of what it shows, rotated against the clock by quarter turns."""
    picture = np.ascontiguousarray(np.rot90(pixels, turns)).view(Picture)
    picture.mask = None if mask is None else np.rot90(mask, turns)
    return picture


def _unrotated(features: Features, turns: int) -> Features:
    """The features of an image that was rotated by `_picture`, in the pixels of the image as it was."""
    for _ in range(turns):
        width, height = features.image_size
        x, y = features.keypoints.T
        features = replace(
            features,
            keypoints=np.stack([height - 1 - y, x], axis=1),
            image_size=(height, width),
            angles=None if features.angles is None else features.angles + np.float32(np.pi / 2),
        )
    return features
