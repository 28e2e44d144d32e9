"""MD-Net: our learned extractor, whose complementary sets of keypoints need 1/k of the comparisons to match."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from ..errors import InvalidInputError
from ..features import Features
from ..images import as_image, to_grey
from ..threads import cores, run_pieces, scratch
from .base import Detections, Extractor, Metadata
from .descriptors import described_at
from .model import STRIDE, Network, load_model, released
from .peaks import UNCERTAINTY, allowed_places, best_rows, find_peaks, sigmoid
from .tiles import Tile, largest, tiles

__all__ = ["MDNet", "MDNetLarge", "MDNetSmall"]

Float32 = NDArray[np.float32]

_LARGEST_RADIUS, _MOST_THREADS = 255, 1024
_VARIANCE = 1e-5 * 255**2  # of a blank wall's noise, which shall stay noise: `VARIANCE` of the network, in grey levels
# ours: pixels. A network's output depends on what is up to 192 px away, by less than 0.001 beyond 128 on the average.
_TILE, _MARGIN = 2048, 128
_SMALLEST_SCALE, _LARGEST_SCALE = 1 / 64, 4
_DIAMETER = 16.0  # ours: pixels; what is said of a keypoint's size where there are several scales


class MDNet(Extractor):
    """MD-Net (Santellani et al. 2022) with weights of our own: k complementary sets of keypoints, one descriptor map.

    Features of one set are matched with those of the same set only, which divides the cost of matching by about k.

    Parameters
    ----------
    sets : int, optional
        k: 1, 2, 4 or 8 with the released weights; by default 2. One set is the two taken together.
    weights : path, optional
        A model that `tiepoints export` wrote, instead of a released one.
    balanced : bool, optional
        Take the best `max_keypoints` / k of each set, instead of the best of all together: matching then costs 1 / k.
        By default for more than 2 sets, whose shares would differ.
    scales : sequence of float, optional
        Look at the image at each of these scales, 1 its own size, and take the best keypoints of all. Each costs time
        as its area: the default, (0.85, 0.47), as much as the whole image once, and matches photographs that show a
        thing at half the size. (1, 0.5, 0.25) goes farther, (1,) is best for small changes of the view. The default of
        `mdnet-small` is (0.75, 0.45), which takes a fifth less time.
    nms_radius : int
        Keypoints of one set keep more than this many pixels apart, in x or in y.
    nms_radius_across : int
        The same between keypoints of different sets.
    remove_borders : int
        No keypoint is nearer than this many pixels to the image's edge.
    detection_threshold : float
        Least score of a keypoint, in [0, 1): the heatmap's odds times the sharpness of its peak, as a probability.
    rotation : {"any", "upright"}, optional
        "any": matchers find out by which quarter turn two images are rotated to each other. "upright": descriptors are
        compared as they are. By default "any" with the released weights, whose descriptors know those of the rotated
        image, and "upright" with weights that were trained without that; these then need four looks for "any", and
        descriptors become four times as long.
    looks : {1, 4}, optional
        4 looks at the image in four rotations, by quarter turns, and takes the mean of what it sees: slower by four
        times, and more accurate, whether images are rotated or not. By default 1, or what `rotation` needs.
    precision : {"float32", "int8"}
        The released weights with convolutions of 8 bits are faster on CPUs that multiply bytes (AVX-512 VNNI, ARM dot
        products), and a little less accurate: docs/performance.md. `mdnet-small` has none.
    device : str
        Where the network runs: "cpu", or another of the providers that the installed ONNX Runtime has, such as "cuda",
        "cuda:1", "tensorrt", "coreml", "directml" or "openvino".
    threads : int, optional
        Threads of the network on a CPU; all cores by default.
    **options
        Those of `Extractor`.

    Raises
    ------
    InvalidInputError
        If the weights do not give so many sets, the ONNX Runtime has no such device, or an option is out of range.
    StorageError
        If the file of `weights` is missing, damaged or no such model.
    """

    #: Raised when the code gives other features than before, so that stored ones are computed anew.
    version: ClassVar[int] = 4
    bytes_per_pixel: ClassVar[int] = 85
    #: Scales nearer to each other find more places twice: more matches are correct, of fewer places.
    default_scales: ClassVar[tuple[float, ...]] = (0.85, 0.47)

    metadata: ClassVar[Metadata] = Metadata(
        name="mdnet",
        summary="MD-Net: learned, k complementary sets that match in 1/k of the comparisons",
        paper="Santellani, Sormann, Rossi, Kuhn and Fraundorfer, MD-Net: Multi-Detector for Local Feature Extraction, "
        "ICPR 2022; network details and weights are ours",
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0",
        descriptor_size=64,
        learned=True,
    )

    def __init__(
        self,
        *,
        sets: int | None = None,
        weights: str | Path | None = None,
        balanced: bool | None = None,
        scales: Sequence[float] | None = None,
        nms_radius: int = 2,
        nms_radius_across: int = 2,
        remove_borders: int = 4,
        detection_threshold: float = 0.0,
        rotation: str | None = None,
        looks: int | None = None,
        precision: str = "float32",
        device: str = "cpu",
        threads: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.nms_radius = checks.count(nms_radius, "nms_radius", most=_LARGEST_RADIUS)
        self.nms_radius_across = checks.count(nms_radius_across, "nms_radius_across", most=_LARGEST_RADIUS)
        self.remove_borders = checks.count(remove_borders, "remove_borders")
        self.detection_threshold = checks.number(detection_threshold, "detection_threshold", least=0, below=1)
        self.precision = checks.choice(precision, "precision", ("float32", "int8"))
        self.threads = None if threads is None else checks.count(threads, "threads", least=1, most=_MOST_THREADS)
        self.weights = None if weights is None else checks.path(weights, "weights")
        if not isinstance(device, str):
            raise InvalidInputError(f"device is {checks.shown(device)}, but must be a name such as 'cpu' or 'cuda'")
        self.device = device
        if self.precision != "float32" and weights is not None:
            raise InvalidInputError("precision chooses among the released weights; files of your own have theirs")
        if sets is not None:
            sets = checks.count(sets, "sets", least=1)
        self.scales = _scales(self.default_scales if scales is None else scales)
        self._network = self._open(sets, self.weights, self.threads)
        self.sets = sets or self._network.sets
        self.balanced = self.sets > 2 if balanced is None else checks.flag(balanced, "balanced")
        self.rotation, self.looks = _seeing(self._network.rotations > 1, rotation, looks)

    def _open(self, sets: int | None, weights: Path | None, threads: int | None) -> Network:
        #: What the features depend on, for those who keep them.
        self._file = weights or released(self.metadata.name, self.precision)
        return load_model(self._file, sets, threads, self.device)

    def with_threads(self, count: int) -> MDNet:
        """The same extractor with its network on so many threads, unless it was told how many."""
        if self.threads is not None:
            return self
        other = copy.copy(self)
        other.threads, other._network = count, self._open(self.sets, self.weights or self._file, count)
        return other

    def in_any_rotation(self) -> MDNet:
        return self._seeing_in("any")

    def upright_only(self) -> MDNet:
        return self._seeing_in("upright")

    def _seeing_in(self, rotation: str) -> MDNet:
        if self.rotation == rotation:
            return self
        knowing = self._network.rotations > 1
        other = copy.copy(self)
        other.rotation, other.looks = _seeing(knowing, rotation, self.looks if knowing else None)
        return other

    def to_teacher(self, features: Features) -> Features:
        """`Features.to_teacher` for features of this extractor that come from a file, which does not keep the basis.

        Parameters
        ----------
        features : Features

        Returns
        -------
        features : Features
            With (N, 128) descriptors of unit length for the released weights, whose teacher is ALIKED-n16.

        Raises
        ------
        InvalidInputError
            If the weights had no teacher, or the features are another extractor's.
        """
        basis = self._basis
        if basis is None:
            raise InvalidInputError(f"{self._file}: these weights learned from photographs alone, without a teacher")
        if features.binary or features.descriptors.shape[1] != basis.shape[1]:
            raise InvalidInputError(
                f"descriptors are {features.descriptors.shape[1]} x {features.descriptors.dtype}, but these weights "
                f"give {basis.shape[1]} x float32; hand over features of this extractor"
            )
        return replace(features, teacher_basis=basis).to_teacher()

    def dense(self, image: ArrayLike) -> tuple[Float32, Float32]:
        """The network's whole output, to look at or to build upon.

        Parameters
        ----------
        image : (H, W) or (H, W, 3) uint8

        Returns
        -------
        heatmaps : (k, H, W) float32
            In [0, 1]; of four looks their mean.
        descriptors : (D, ceil(H / 4), ceil(W / 4)) float32
            Of the look at the image as it is, of unit length; pixel i of the map is the centre of the image's pixels
            4 i to 4 i + 3.
        """
        grey = to_grey(as_image(image))
        height, width = grey.shape
        heatmaps = np.empty((self._network.sets, height, width), np.float32)
        whole: Float32 = np.empty(0, np.float32)
        for tile, logits, (described, *_) in self._looks(grey):
            rows, columns = tile.inner
            top, left = (inner.start - outer.start for inner, outer in zip(tile.inner, tile.outer, strict=True))
            part = logits[:, top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]
            heatmaps[:, rows, columns] = sigmoid(part)
            if not whole.size:
                whole = np.empty((-(-height // 4), -(-width // 4), described.shape[2]), np.float32)
            below, right = whole.shape[0] - rows.start // 4, whole.shape[1] - columns.start // 4
            piece = described[top // 4 :, left // 4 :][:below, :right]  # the next tiles write over its margin
            whole[rows.start // 4 :, columns.start // 4 :][: len(piece), : piece.shape[1]] = piece
        norms = np.maximum(np.linalg.norm(whole, axis=2, keepdims=True), np.float32(1e-12))
        return heatmaps, (whole / norms).transpose(2, 0, 1)

    def _looks(self, image: NDArray[np.uint8]) -> Iterator[tuple[Tile, Float32, list[Float32]]]:
        """The tiles of a grey image, with logits (k, H, W) of their outer parts, and descriptors (H' / 4, W' / 4, D).

        Logits are the mean over the looks, and are overwritten by what comes next. There are descriptors of each look,
        in the frame of the rotated image: H' and W' are its height and width, padded to whole strides.
        """
        mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(image))
        grey = np.arange(256, dtype=np.float32)
        normalised = (grey - np.float32(mean)) / np.float32(np.sqrt(deviation**2 + _VARIANCE))
        for tile in tiles(*image.shape, edge=_TILE, margin=_MARGIN, stride=STRIDE):
            maps: list[Float32] = []
            total: Float32 = np.zeros((), np.float32)
            for turns in range(self.looks):
                part = np.ascontiguousarray(np.rot90(image[tile.outer], turns))
                height, width = part.shape
                below, right = (-length % STRIDE for length in part.shape)
                if below or right:
                    part = np.asarray(cv2.copyMakeBorder(part, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)
                seen = np.asarray(cv2.LUT(part, normalised, dst=scratch("normalised", part.shape)), np.float32)
                logits, described = self._network(seen[None, None])
                maps.append(described[0])
                upright = np.rot90(logits[0, :, :height, :width], -turns, axes=(1, 2))
                # A sum is new memory, which the network's next call leaves alone; a single look needs none.
                total = upright if self.looks == 1 else total + upright / np.float32(self.looks)
            yield tile, total, maps

    def pixels_at_once(self, width: int, height: int) -> int:
        # The descriptors of four looks are held together: 24 megapixels take 1.3 GB instead of 0.8.
        together = 1 if self.looks == 1 else 2
        return together * largest(height, width, edge=_TILE, margin=_MARGIN, stride=STRIDE)

    def _detect(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Detections:
        found = [part for parts in self._scales_found(image, mask) for part in parts]
        values, heats, keypoints, descriptors, scales, uncertainties = map(np.concatenate, zip(*found, strict=True))
        keep = self._best(values, heats)
        return Detections(
            keypoints[keep],
            descriptors[keep],
            sigmoid(values[keep]),
            sets=(heats[keep] * self.sets // self._network.sets).astype(np.uint8) if self.sets > 1 else None,
            scales=scales[keep] if len(self.scales) > 1 else None,
            uncertainties=uncertainties[keep],
            teacher_basis=self._basis,
            rotations=4 if self.rotation == "any" else 1,
        )

    def _scales_found(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> list[list[_Found]]:
        """What is found at each scale, side by side: what surrounds the network keeps one core busy alone.

        Not of large images, whose scales take too much memory together.
        """
        found: list[list[_Found]] = [[] for _ in self.scales]

        def look(number: int, _: None) -> None:
            found[number] = list(self._found(image, mask, self.scales[number]))

        if max(image.shape) <= _TILE and (self.threads or cores()) > 1:
            run_pieces([partial(look, number) for number in range(len(self.scales))], lambda _: None)
        else:
            for number in range(len(self.scales)):
                look(number, None)
        return found

    @property
    def _basis(self) -> Float32 | None:
        """What makes the teacher's descriptors of these: of several side by side, of those of the image as it is."""
        basis, knowing = self._network.basis, self._network.rotations > 1
        if basis is None or knowing or self.rotation == "upright":
            return basis
        return np.pad(basis, ((0, 0), (0, (self.looks - 1) * basis.shape[1])))

    def _described(self, maps: list[Float32], places: Float32, shape: tuple[int, int]) -> Float32:
        """Descriptors at places of an image, from the looks at it."""
        if self.rotation == "upright" and self._network.rotations == 1:
            maps = maps[:1]  # those of the rotated image are others
        return described_at(maps, places, shape, self._network.rotations)

    def _best(self, values: Float32, heats: NDArray[np.intp]) -> NDArray[np.intp]:
        """The rows of the `max_keypoints` largest values, as many of each set where they are balanced."""
        groups = self.sets if self.balanced else 1
        rows = best_rows(values, heats * groups // self._network.sets, groups, self.max_keypoints)
        t = self.detection_threshold
        return rows[values[rows] > np.log(t / (1 - t))] if t > 0 else rows

    def _found(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None, scale: float) -> Iterator[_Found]:
        """The best of each tile of the image at one scale, in pixels of the image."""
        level, stretch = image, np.ones(2, np.float32)
        if scale != 1:
            shape = tuple(max(round(length * scale), 1) for length in image.shape)
            stretch = np.array([old / new for old, new in zip(image.shape, shape, strict=True)][::-1], np.float32)
            kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            level = np.asarray(cv2.resize(image, shape[::-1], interpolation=kind), np.uint8)
            if mask is not None:
                mask = np.asarray(cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        allowed = allowed_places(level, mask, self.remove_borders)
        for tile, logits, maps in self._looks(level):
            top, left = (part.start for part in tile.outer)
            height, width = (part.stop - part.start for part in tile.outer)
            here = allowed
            if tile.inner != tile.outer:
                here = np.zeros((height, width), bool)
                rows, columns = tile.inner
                here[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = allowed[
                    tile.inner
                ]
            peaks = find_peaks(logits, here, self.nms_radius, self.nms_radius_across)
            keep = self._best(peaks.values, peaks.heats)
            places = peaks.keypoints[keep]
            keypoints = places + np.array([left, top], np.float32)
            if scale != 1:
                keypoints = (keypoints + np.float32(0.5)) * stretch - np.float32(0.5)
            pixels = np.sqrt(stretch.prod())  # of the image in one of the level
            yield _Found(
                peaks.values[keep],
                peaks.heats[keep],
                keypoints,
                self._described(maps, places, (height, width)),
                np.full(len(places), _DIAMETER * pixels, np.float32),
                UNCERTAINTY * pixels / peaks.sharpness[keep],
            )


class _Found(NamedTuple):
    values: Float32  # (N,) that rank them
    heats: NDArray[np.intp]  # (N,) of which heatmap
    keypoints: Float32  # (N, 2)
    descriptors: Float32  # (N, D)
    scales: Float32  # (N,) diameters
    uncertainties: Float32  # (N,)


class MDNetSmall(MDNet):
    """MD-Net with a smaller network: takes half of the time, and is less accurate.

    Parameters
    ----------
    **options
        Those of `MDNet`.
    """

    metadata: ClassVar[Metadata] = replace(
        MDNet.metadata, name="mdnet-small", summary="MD-Net with a smaller network: faster, less accurate"
    )
    default_scales: ClassVar[tuple[float, ...]] = (0.75, 0.45)


class MDNetLarge(MDNet):
    """MD-Net with a larger network: more accurate, and takes one and a half times as long.

    Parameters
    ----------
    **options
        Those of `MDNet`.
    """

    metadata: ClassVar[Metadata] = replace(
        MDNet.metadata, name="mdnet-large", summary="MD-Net with a larger network: more accurate, slower"
    )


def _seeing(knowing: bool, rotation: object, looks: object) -> tuple[str, int]:
    """The options `rotation` and `looks`, where nothing is said what the weights need, which know rotations or not."""
    if rotation is None:
        rotation = "any" if knowing else "upright"
    rotation = checks.choice(rotation, "rotation", ("any", "upright"))
    least = 4 if rotation == "any" and not knowing else 1
    if looks is None:
        return rotation, least
    count = checks.count(looks, "looks", least=1)
    if count not in (1, 4) or count < least:
        several = "4: these weights need them for rotation 'any'" if least > 1 else "1 or 4"
        raise InvalidInputError(f"looks is {count}, but must be {several}")
    return rotation, count


def _scales(scales: object) -> tuple[float, ...]:
    """One scale or more, each different."""
    values = scales if isinstance(scales, Sequence) and not isinstance(scales, str) else [scales]
    try:
        found = tuple(checks.number(v, "scales", least=_SMALLEST_SCALE, most=_LARGEST_SCALE) for v in values)
    except InvalidInputError as error:
        raise InvalidInputError(f"{error}, or several numbers, such as (1, 0.5)") from None
    if not found or len(set(found)) < len(found):
        raise InvalidInputError(f"scales is {checks.shown(scales)}, but must be different numbers, such as (1, 0.5)")
    return found
