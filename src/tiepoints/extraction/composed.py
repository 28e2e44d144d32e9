"""Any detector with any descriptor of patches, and between them networks for the shape and the orientation.

``sift+hardtfeat``, ``keynet+affnet+orinet+hardtfeat``, ``mdnet+sift``: a detector first, a descriptor last.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import InvalidInputError, UnknownExtractorError
from ..images import to_grey
from ..optional import torch_device
from ..weights import obtain, require_consent
from .base import Detections, Extractor
from .metadata import Metadata
from .patch_model import PatchModel
from .patches import WIDTH, cut, frames_of
from .published import PARTS, Part
from .sift import root_of

__all__ = ["LISTED", "NAMED", "Composed", "composed"]

#: Compositions that the list of extractors shows; any other works as well.
LISTED = (
    "sift+tfeat",
    "sift+hardtfeat",
    "sift+hardnet",
    "keynet+hardtfeat",
    "keynet+affnet+orinet+hardtfeat",
    "sift+lift",
    "sift+lift-orientation+hardnet",
    "lift",
)

#: Compositions that have a name of their own: their parts, and what they are.
NAMED = {
    "lift": (
        "lift-detector+lift-orientation+lift-descriptor",
        "LIFT, each of its networks trained by tiepoints: not the authors' weights",
    ),
}

_TURNING = {"orinet", "lift-orientation"}  # parts that give orientations
_REPEATING = {"sift", "rootsift"}  # detectors that find a place once for each of its orientations
_MERGED = 2  # the version of compositions of both kinds, since such places are merged before the best are taken
_BATCH = 512  # patches that a network sees at once

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class _Keypoints:
    xy: Float32
    scores: Float32
    scales: Float32
    angles: Float32


class Composed(Extractor):
    """A detector, perhaps a shape and an orientation for each keypoint, and a descriptor of the patch around it.

    Parameters
    ----------
    patch : float
        Side of the patches in pixels for detectors that give no scale; for others it is 6 scales.
    detector : mapping, optional
        Options of the detector, such as ``{"contrast_threshold": 0.01}``.
    device : str
        Where the networks run: "cpu", "cuda", "mps".
    threads : int, optional
        Threads of the networks on a CPU; all cores by default.
    **options
        Those of `Extractor`.

    Raises
    ------
    MissingDependencyError, LicenceError, WeightsError, InvalidInputError
        As `Learned` does, for each of its networks.
    """

    version: ClassVar[int] = 1
    parts: ClassVar[tuple[str, ...]]
    find: ClassVar[Callable[[str], type[Extractor]]]

    def __init__(
        self,
        *,
        patch: float = 48.0,
        detector: Mapping[str, Any] | None = None,
        device: str = "cpu",
        threads: int | None = None,
        **options: Any,
    ) -> None:
        first, *between, last = self.parts
        learned = _is_learned(first)
        if learned or any(PARTS[name].model is None for name in (*between, last) if name in PARTS):
            super().__init__(**options)
            self.device = torch_device(device, self.metadata.name)
        else:  # nothing here would go there
            super().__init__(device=device, **options)
        self.patch = checks.number(patch, "patch", least=8)
        if detector is not None and not isinstance(detector, Mapping):
            raise InvalidInputError(f"detector is {checks.shown(detector)}, but must be a mapping of its options")
        self.detector = None if detector is None else dict(detector)
        self.threads = None if threads is None else checks.count(threads, "threads", least=1)
        shared = {"device": device, "threads": threads} if learned else {"threads": threads} if first in PARTS else {}
        # A place of SIFT has 1.2 orientations in the mean: of twice as many enough are left.
        wanted = self.max_keypoints * (2 if self.version == _MERGED else 1)
        self._detector = self._kind(first)(**{"max_keypoints": wanted, **shared, **(self.detector or {})})
        self._shapes = [self._open(PARTS[name]) for name in between]
        # What the features depend on, for those who keep them: the paths among the attributes.
        vars(self).update({f"_model_{name}": PARTS[name].model for name in self.parts if name in PARTS})
        self._descriptor = None if last in ("sift", "rootsift") else self._open(PARTS[last])

    @classmethod
    def _kind(cls, name: str) -> type[Extractor]:
        kind = PARTS[name].extractor if name in PARTS else None
        return kind or cls.find(name)

    def _open(self, part: Part) -> Any:
        metadata = part.metadata
        if part.model is not None:
            return PatchModel(part.model, self.threads)
        if not metadata.licences_allow_commerce:
            require_consent(self.metadata.name, metadata.weights_licence, metadata.licence_url)
        from .torch.base import build

        path = obtain(metadata.weights[0])
        return build(part.network, part.variant, path, self.device, name=metadata.name, optional=False)

    @property
    def _turns(self) -> bool:
        return not _TURNING.isdisjoint(self.parts)

    def pixels_at_once(self, width: int, height: int) -> int:
        return self._detector.pixels_at_once(width, height)

    def _detect(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Detections:
        grey = to_grey(image)
        found = self._detector._detect(image if self._detector.wants_colour else grey, mask)
        best = self._best(found, grey.shape, mask)
        known = self._turns or found.angles is not None
        if not len(best.xy):
            none = np.zeros(0, np.float32)
            vectors = np.zeros((0, self.metadata.descriptor_size), np.float32)
            return Detections(best.xy, vectors, none, scales=none, angles=none if known else None)
        frames = frames_of(best.scales, best.angles)
        for network in self._shapes:
            answer = self._run(network, cut(grey, best.xy, frames, network.side))
            if answer.ndim < 3:  # an orientation: a direction (cosine, sine), or an angle against the y axis
                c, s = answer.T if answer.ndim == 2 else (np.cos(answer), -np.sin(answer))
                answer = np.stack([c, -s, s, c], axis=1).reshape(-1, 2, 2)
            frames = np.asarray(frames @ answer, np.float32)
        angles = best.angles if not self._turns else np.arctan2(frames[:, 1, 0], frames[:, 0, 0])
        if self._descriptor is None:
            descriptors = _sift(grey, best, angles, root=self.parts[-1] == "rootsift")
        else:
            descriptors = self._run(self._descriptor, cut(grey, best.xy, frames, self._descriptor.side))
        return Detections(
            best.xy,
            descriptors,
            best.scores,
            sets=None,
            scales=best.scales,
            angles=np.asarray(angles, np.float32) if known else None,
        )

    def _best(self, found: Detections, shape: tuple[int, ...], mask: NDArray[np.uint8] | None) -> _Keypoints:
        """The best `max_keypoints` that may stay: no descriptor is computed for others."""
        xy = np.asarray(found.keypoints, np.float32).reshape(-1, 2)
        column, row = np.rint(xy).astype(np.int64).T
        keep = (column >= 0) & (row >= 0) & (column < shape[1]) & (row < shape[0])
        if mask is not None:
            keep[keep] = mask[row[keep], column[keep]] != 0
        scales = np.full(len(xy), self.patch / WIDTH, np.float32) if found.scales is None else found.scales
        angles = np.zeros(len(xy), np.float32) if found.angles is None or self._turns else found.angles
        rows = np.flatnonzero(keep)
        rows = rows[np.argsort(-np.asarray(found.scores)[rows], kind="stable")]
        if self._turns:  # keypoints that differ by their orientation only become one
            _, first = np.unique(np.column_stack([xy, scales])[rows], axis=0, return_index=True)
            rows = rows[np.sort(first)]
        rows = rows[: self.max_keypoints]
        return _Keypoints(xy[rows], np.asarray(found.scores, np.float32)[rows], scales[rows], angles[rows])

    def _run(self, network: Any, patches: Float32) -> Float32:
        if isinstance(network, PatchModel):
            return network(patches)
        from .torch.base import run_patches

        return run_patches(network, patches, _BATCH, self.threads)

    def with_threads(self, count: int) -> Composed:
        """The same extractor on so many threads, unless it was told how many."""
        if self.threads is not None:
            return self
        other = copy.copy(self)
        other.threads, other._detector = count, self._detector.with_threads(count)
        other._shapes = [_threaded(network, count) for network in self._shapes]
        other._descriptor = _threaded(self._descriptor, count)
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.metadata.name, self.__class__.find, vars(self))


def _again(name: str, find: Callable[[str], type[Extractor]], state: dict[str, Any]) -> Composed:
    """The extractor in another process: its class was made by name."""
    kind = composed(name, find)
    extractor = kind.__new__(kind)
    vars(extractor).update(state)
    return extractor


def _threaded(network: Any, count: int) -> Any:
    return PatchModel(network.path, count) if isinstance(network, PatchModel) else network


def _is_learned(name: str) -> bool:
    from .learned import Learned
    from .published import CLASSES

    return name in CLASSES or (name in PARTS and issubclass(PARTS[name].extractor or Extractor, Learned))


def _sift(image: NDArray[np.uint8], keypoints: _Keypoints, angles: Float32, *, root: bool) -> Float32:
    """OpenCV's SIFT descriptors of given keypoints, each from the pyramid's level that fits its scale."""
    if not len(keypoints.xy):
        return np.zeros((0, 128), np.float32)
    position = np.log2(np.maximum(keypoints.scales / 2 / 1.6, 0.5))
    octave = np.floor(position)
    layer = np.clip(np.rint((position - octave) * 3), 1, 3)
    packed = (octave.astype(int) & 255) | (layer.astype(int) << 8)
    points = [
        cv2.KeyPoint(float(x), float(y), float(size), float(np.rad2deg(angle)) % 360, 1.0, int(number))
        for (x, y), size, angle, number in zip(keypoints.xy, keypoints.scales, angles, packed, strict=True)
    ]
    _, raw = cv2.SIFT.create(enable_precise_upscale=True).compute(image, points)
    return root_of(np.asarray(raw, np.float32), root=root)


def _all_of(several: Iterable[str]) -> str:
    """Each once, with AND between them."""
    return " AND ".join(dict.fromkeys(each for one in several for each in one.split(" AND ") if each))


@cache
def composed(name: str, find: Callable[[str], type[Extractor]]) -> type[Composed]:
    """The class of a composition.

    Parameters
    ----------
    name : str
        Its parts with + between them, or one of `NAMED`.
    find : callable
        From an extractor's name to its class.

    Raises
    ------
    UnknownExtractorError
        If a part is unknown, or does not belong where it stands.
    """
    whole, summary = NAMED.get(name, (name, ""))
    # HardNet++ has the name that its authors gave it, though the parts of a name are separated by +.
    named = whole.lower().replace("hardnet++", "hardnetpp").split("+")
    parts = tuple(part.strip().replace("hardnetpp", "hardnet++") for part in named)
    if len(parts) < 2:
        raise UnknownExtractorError(f"{name} is a part of compositions (descriptor), such as 'sift+{parts[0]}'")
    first, *between, last = parts
    describing = [part.metadata.name for part in PARTS.values() if part.role == "descriptor"] + ["sift", "rootsift"]
    shaping = [part.metadata.name for part in PARTS.values() if part.role == "shape"]
    if last not in describing:
        raise UnknownExtractorError(f"{name}: {last!r} does not describe patches; these do: {', '.join(describing)}")
    for part in between:
        if part not in shaping:
            raise UnknownExtractorError(
                f"{name}: between detector and descriptor go {', '.join(shaping)}, not {part!r}"
            )
    if first in PARTS and PARTS[first].extractor is None:
        raise UnknownExtractorError(
            f"{name}: {first!r} detects nothing: begin with a detector, such as sift or lift-detector"
        )
    detecting = PARTS[first].extractor if first in PARTS else find(first)
    assert detecting is not None
    detector = detecting.metadata
    first = detector.name
    others = [PARTS[part].metadata if part in PARTS else find(part).metadata for part in (*between, last)]
    everything = [detector, *others]
    packages = dict.fromkeys(package for one in everything for package in one.requires)
    metadata = Metadata(
        name=name if summary else "+".join((first, *between, last)),
        summary=summary
        or f"keypoints of {first}, " + "".join(f"{part}, " for part in between) + f"descriptors of {last}",
        paper="; ".join(dict.fromkeys(one.paper for one in everything)),
        code_licence="Apache-2.0",
        weights_licence=_all_of(one.weights_licence for one in everything),
        licence_url=_all_of(one.licence_url for one in everything),
        descriptor_size=others[-1].descriptor_size,
        subpixel=detector.subpixel,
        learned=any(one.learned for one in everything),
        weights=tuple(file for one in everything for file in one.weights),
        requires=tuple(packages),
        extra="learned" if packages else "",
        rotation_invariant=detector.rotation_invariant or not _TURNING.isdisjoint(between),
        patents="; ".join(dict.fromkeys(one.patents for one in everything if one.patents)),
    )
    return type(
        "Composed",
        (Composed,),
        {
            "__doc__": f"{metadata.summary}.",
            "metadata": metadata,
            "parts": (first, *between, last),
            "version": _MERGED if first in _REPEATING and not _TURNING.isdisjoint(between) else Composed.version,
            "find": staticmethod(find),
            "wants_colour": detecting.wants_colour,
            "bytes_per_pixel": detecting.bytes_per_pixel,
        },
    )
