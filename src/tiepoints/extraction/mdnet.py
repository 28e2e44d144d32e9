"""MD-Net: our learned extractor, whose complementary sets of keypoints need 1/k of the comparisons to match."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from ..errors import InvalidInputError
from ..features import Features
from ..images import as_image, to_grey
from ..threads import scratch
from .base import Detections, Extractor, Metadata
from .model import STRIDE, load_model, released
from .tiles import Tile, tiles

__all__ = ["MDNet", "MDNetLarge"]

Float32 = NDArray[np.float32]

_LARGEST_RADIUS, _MOST_THREADS = 255, 1024
_VARIANCE = 1e-5 * 255**2  # of a blank wall's noise, which shall stay noise: `VARIANCE` of the network, in grey levels
# ours: pixels. A network's output depends on what is up to 192 px away, by less than 0.001 beyond 128 on the average.
_TILE, _MARGIN = 2048, 128
_REACH = 8  # ours: pixels; between the squares of a checkerboard keypoints lie up to 5 px beside the corner
_SMALLEST_SCALE, _LARGEST_SCALE = 1 / 64, 4
_DIAMETER = 16.0  # ours: pixels; what is said of a keypoint's size where there are several scales


class Network(Protocol):
    """Normalised grey (1, 1, H, W) -> heatmap logits (1, k, H, W), descriptors (1, H / 4, W / 4, D), not normalised."""

    @property
    def sets(self) -> int:
        """K, the number of heatmaps."""

    @property
    def basis(self) -> Float32 | None:
        """The teacher's directions (E, D), if it had one."""

    def __call__(self, image: Float32, /) -> tuple[Float32, Float32]: ...


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
    scales : sequence of float
        Look at the image at each of these scales, 1 its own size, and take the best keypoints of all: (1, 0.5) for
        photographs that show a thing at very different sizes. Each costs time as its area.
    nms_radius : int
        Keypoints of one set keep more than this many pixels apart, in x or in y.
    nms_radius_across : int
        The same between keypoints of different sets.
    remove_borders : int
        No keypoint is nearer than this many pixels to the image's edge.
    detection_threshold : float
        Least score of a keypoint: the heatmap's value in [0, 1).
    precision : {"float32", "int8"}
        The released weights with convolutions of 8 bits are faster on CPUs that multiply bytes (AVX-512 VNNI, ARM dot
        products), and a little less accurate: docs/performance.md.
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
    version: ClassVar[int] = 2

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
        scales: Sequence[float] = (1.0,),
        nms_radius: int = 2,
        nms_radius_across: int = 2,
        remove_borders: int = 4,
        detection_threshold: float = 0.0,
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
        self.scales = _scales(scales)
        self._network = self._open(sets, self.weights, self.threads)
        self.sets = sets or self._network.sets
        self.balanced = self.sets > 2 if balanced is None else checks.flag(balanced, "balanced")

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
        basis = self._network.basis
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
            In [0, 1].
        descriptors : (D, ceil(H / 4), ceil(W / 4)) float32
            Of unit length; pixel i of the map is the centre of the image's pixels 4 i to 4 i + 3.
        """
        grey = to_grey(as_image(image))
        height, width = grey.shape
        heatmaps = np.empty((self._network.sets, height, width), np.float32)
        whole: Float32 = np.empty(0, np.float32)
        for tile, logits, described in self._looks(grey):
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

    def _looks(self, image: NDArray[np.uint8]) -> Iterator[tuple[Tile, Float32, Float32]]:
        """The tiles of a grey image, with logits (k, H', W') and descriptors (H' / 4, W' / 4, D) of their outer parts.

        H' and W' are padded to whole strides. The logits are overwritten by what comes next.
        """
        mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(image))
        grey = np.arange(256, dtype=np.float32)
        normalised = (grey - np.float32(mean)) / np.float32(np.sqrt(deviation**2 + _VARIANCE))
        for tile in tiles(*image.shape, edge=_TILE, margin=_MARGIN, stride=STRIDE):
            part = image[tile.outer]
            below, right = (-length % STRIDE for length in part.shape)
            if below or right:
                part = np.asarray(cv2.copyMakeBorder(part, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)
            seen = np.asarray(cv2.LUT(part, normalised, dst=scratch("normalised", part.shape)), np.float32)
            logits, described = self._network(seen[None, None])
            yield tile, logits[0], described[0]

    def _detect(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Detections:
        found = [part for scale in self.scales for part in self._found(image, mask, scale)]
        values, heats, keypoints, descriptors, scales = (np.concatenate(parts) for parts in zip(*found, strict=True))
        keep = self._best(values, heats)
        return Detections(
            keypoints[keep],
            descriptors[keep],
            sigmoid(values[keep]),
            sets=(heats[keep] * self.sets // self._network.sets).astype(np.uint8) if self.sets > 1 else None,
            scales=scales[keep] if len(self.scales) > 1 else None,
            teacher_basis=self._network.basis,
        )

    def _best(self, values: Float32, heats: NDArray[np.intp]) -> NDArray[np.intp]:
        """The rows of the `max_keypoints` largest values, as many of each set where they are balanced."""
        groups = self.sets if self.balanced else 1
        return _best(values, heats * groups // self._network.sets, groups, self.max_keypoints)

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
        allowed = _allowed(level, mask, self.remove_borders)
        for tile, logits, described in self._looks(level):
            top, left = (part.start for part in tile.outer)
            height, width = (part.stop - part.start for part in tile.outer)
            here = allowed
            if tile.inner != tile.outer:
                here = np.zeros((height, width), bool)
                rows, columns = tile.inner
                here[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = allowed[
                    tile.inner
                ]
            logits = logits[:, :height, :width]
            peaks = _peaks(logits, here, self.nms_radius, self.nms_radius_across, self.detection_threshold)
            heats, y, x = _places(peaks)
            values = logits[heats, y, x]
            keep = self._best(values, heats)
            heats, y, x = heats[keep], y[keep], x[keep]
            keypoints = _refined(logits, heats, y, x)
            descriptors = sampled(described, keypoints)
            keypoints += np.array([left, top], np.float32)
            if scale != 1:
                keypoints = (keypoints + np.float32(0.5)) * stretch - np.float32(0.5)
            size = np.full(len(keypoints), _DIAMETER * np.sqrt(stretch.prod()), np.float32)
            yield _Found(values[keep], heats, keypoints, descriptors, size)


class _Found(NamedTuple):
    values: Float32  # (N,) logits
    heats: NDArray[np.intp]  # (N,) of which heatmap
    keypoints: Float32  # (N, 2)
    descriptors: Float32  # (N, D)
    scales: Float32  # (N,) diameters


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


def _scales(scales: object) -> tuple[float, ...]:
    """One scale or more, each different."""
    values = scales if isinstance(scales, Sequence) and not isinstance(scales, str) else [scales]
    found = tuple(checks.number(v, "scales", least=_SMALLEST_SCALE, most=_LARGEST_SCALE) for v in values)
    if not found or len(set(found)) < len(found):
        raise InvalidInputError(f"scales is {checks.shown(scales)}, but must be different numbers, such as (1, 0.5)")
    return found


def sigmoid(x: Float32) -> Float32:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 * np.tanh(0.5 * x) + 0.5, np.float32)


def _allowed(image: NDArray[np.uint8], mask: NDArray[np.uint8] | None, border: int) -> NDArray[np.bool_]:
    """Where keypoints may be: not at the edge, not where the mask is 0, not far from any change of grey."""
    height, width = image.shape
    allowed = np.zeros((height, width), bool)
    inner = slice(border, max(height - border, border)), slice(border, max(width - border, border))
    # Where nothing changes there is nothing to find: there the network sees its own padding and offsets.
    around = np.ones((2 * _REACH + 1,) * 2, np.uint8)
    np.not_equal(cv2.morphologyEx(image, cv2.MORPH_GRADIENT, around)[inner], 0, out=allowed[inner])
    if mask is not None:
        allowed &= mask != 0
    return allowed


def _peaks(
    logits: Float32, allowed: NDArray[np.bool_], radius: int, radius_across: int, threshold: float
) -> NDArray[np.bool_]:
    """Where each heatmap (k, H, W) has a local maximum that no stronger one of any set is near."""
    around = None
    if len(logits) > 1 and radius_across > 0:
        strongest = np.maximum.reduce(logits, axis=0, out=scratch("strongest", allowed.shape))
        around = _greatest(strongest, radius_across, "around")
    peaks = np.empty(logits.shape, bool)
    for m, heat in enumerate(logits):
        np.equal(heat, _greatest(heat, radius, "dilated"), out=peaks[m])
        peaks[m] &= allowed
        if around is not None:
            peaks[m] &= heat >= around
        if threshold > 0:
            peaks[m] &= heat > np.log(threshold / (1 - threshold))
    return peaks


def _greatest(values: Float32, radius: int, name: str) -> Float32:
    """The maximum within `radius` pixels to each side, in the memory of this name."""
    square = np.ones((2 * radius + 1,) * 2, np.uint8)
    return np.asarray(cv2.dilate(values, square, dst=scratch(name, values.shape)), np.float32)


def _places(peaks: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Heatmap, row and column of all peaks (k, H, W)."""
    places = [cv2.findNonZero(allowed.view(np.uint8)) for allowed in peaks]  # ten times as fast as numpy.nonzero
    found = [np.zeros((0, 2), np.intp) if p is None else p.reshape(-1, 2).astype(np.intp) for p in places]
    x, y = np.concatenate(found).T
    return np.repeat(np.arange(len(peaks)), [len(p) for p in found]), y, x


def _best(values: Float32, group: NDArray[np.intp], groups: int, count: int) -> NDArray[np.intp]:
    """The rows of the `count` largest values, as many from each of the groups."""
    if groups == 1:
        return _largest(values, np.arange(len(values)), count)
    share = [count // groups + (m < count % groups) for m in range(groups)]
    return np.concatenate([_largest(values, np.flatnonzero(group == m), n) for m, n in enumerate(share)])


def _largest(values: Float32, rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Those `count` of the rows that have the largest values."""
    if len(rows) <= count:
        return rows
    if count == 0:
        return rows[:0]
    return rows[np.argpartition(-values[rows], count - 1)[:count]]


def _least_squares(radius: int, sigma: float) -> Float32:
    """From the values around a pixel, row by row, to the derivatives [x, y, xx, xy, yy] of a paraboloid through them.

    The paraboloid has the least squared error, weighted by a Gaussian; ((2 radius + 1)^2, 5).
    """
    along = np.arange(-radius, radius + 1.0)
    y, x = (axis.ravel() for axis in np.meshgrid(along, along, indexing="ij"))
    terms = np.stack([np.ones_like(x), x, y, x * x / 2, x * y, y * y / 2], axis=1)
    weights = np.exp(-(x * x + y * y) / (4 * sigma**2))[:, None]  # the roots of the Gaussian's
    return np.asarray((np.linalg.pinv(terms * weights) * weights.T)[1:].T, np.float32)


# ours: pixels. On warped photographs, as the exact paraboloid through 3 x 3: MMA@1 .445 -> .452, MMA@3 .772 -> .781.
_FIT_RADIUS, _FIT_SIGMA = 2, 1.0
_FIT = _least_squares(_FIT_RADIUS, _FIT_SIGMA)


def _refined(logits: Float32, sets: NDArray[np.intp], y: NDArray[np.intp], x: NDArray[np.intp]) -> Float32:
    """Keypoints [x, y] at the summit of the paraboloid that fits the 5 x 5 logits around each peak.

    On logits and not on the heatmap, which is flat where it saturates. A summit farther than a pixel away is none of
    this peak's and is cut off there.
    """
    height, width = logits.shape[1:]
    around = np.arange(-_FIT_RADIUS, _FIT_RADIUS + 1)
    rows = (np.clip(y[:, None] + around, 0, height - 1) + sets[:, None] * height) * width
    columns = np.clip(x[:, None] + around, 0, width - 1)
    values = logits.reshape(-1)[(rows[:, :, None] + columns[:, None]).reshape(len(x), len(_FIT))]
    dx, dy, dxx, dxy, dyy = ((values - values[:, len(_FIT) // 2, None]) @ _FIT).T
    determinant = dxx * dyy - dxy * dxy
    summit = (determinant > 1e-12) & (dxx < 0)
    offset = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=1) / np.where(summit, determinant, 1)[:, None]
    offset = np.where(summit[:, None], np.clip(offset, -1, 1), 0)
    return np.asarray(np.stack([x, y], axis=1) + offset, np.float32)


def sampled(described: Float32, keypoints: Float32) -> Float32:
    """Unit descriptors (N, D) at keypoints, bilinear from the map (h, w, D), whose pixel i is centred on 4 i + 1.5."""
    height, width, size = described.shape
    flat = described.reshape(-1, size)
    place = np.clip((keypoints - 1.5) / 4, 0, [width - 1, height - 1]).astype(np.float32)
    corner = np.minimum(place.astype(np.intp), [max(width - 2, 0), max(height - 2, 0)])
    fx, fy = (place - corner).astype(np.float32).T[:, :, None]
    index = corner[:, 1] * width + corner[:, 0]
    right, down = (1 if width > 1 else 0), (width if height > 1 else 0)
    total: Float32 = flat[index]
    total *= (1 - fx) * (1 - fy)
    for step, weight in ((right, fx * (1 - fy)), (down, (1 - fx) * fy), (down + right, fx * fy)):
        row = flat[index + step]
        row *= weight
        total += row
    total /= np.maximum(np.sqrt(np.einsum("nd,nd->n", total, total)), np.float32(1e-12))[:, None]
    return total
