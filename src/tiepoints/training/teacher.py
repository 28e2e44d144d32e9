"""What a teacher says about photographs: computed once for each and its mirror image, and kept in a cache.

No teacher runs while the network is trained. A crop's value at a place is the one of the upright, undistorted
photograph there, so both warped views learn the same: invariance comes from the known warps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InvalidInputError
from ..extraction import load
from ..files import sha256_of
from .distributed import World
from .photographs import MAX_EDGE, Photographs
from .places import FAR, BatchTargets, ScoreMaps, Target

__all__ = [
    "KEYPOINTS",
    "RANDOM",
    "Dense",
    "Targets",
    "Teacher",
    "compute_targets",
    "open_teacher",
    "principal_directions",
]

KEYPOINTS = 1500  # ours: places of a photograph where a teacher's values are kept: its best keypoints
RANDOM = 1000  # ours: and random places
_PEAK = 5  # ours: pixels; a network's keypoint may lie so near to the teacher's and still have its score
_BORDER = 3  # ours: pixels without keypoints
_SAMPLE = 256  # ours: values of each photograph from which the principal directions are computed


class Dense(Protocol):
    """What a network says about images; see `tiepoints.extraction.torch.base`."""

    @property
    def score_map(self) -> Tensor:
        """(B, 1, H, W); in [0, 1] where the scores are learned too."""

    @property
    def describe(self) -> Callable[[Sequence[Tensor]], list[Tensor]]:
        """From places (N, 2) [x, y] of each image to descriptors (N, T) of each, of unit length."""


class Teacher:
    """A network that gives a score map, and descriptors at any place.

    Parameters
    ----------
    look : callable
        From RGB images (1, 3, H, W) in [0, 1] to `Dense`.
    key : str
        Its name and what its values depend on, short: values with another key are others.
    device : torch.device
        Where it runs.
    """

    def __init__(self, look: Callable[[Tensor], Dense], key: str, device: torch.device) -> None:
        self._look, self.key, self.device = look, key, device

    def look(self, image: NDArray[np.uint8]) -> Dense:
        """What it says about an RGB image (H, W, 3)."""
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).to(self.device)
        return self._look(tensor[None].float() / 255)


def open_teacher(name: str, device: torch.device) -> Teacher:
    """A registered extractor as a teacher.

    Raises
    ------
    InvalidInputError
        If it has no score map, or no descriptors but at its own keypoints.
    TiepointsError
        If it cannot be loaded: see `tiepoints.load`.
    """
    from ..extraction.learned import Learned

    extractor = load(name)
    if not isinstance(extractor, Learned):
        raise InvalidInputError(f"{name} cannot be a teacher: it has no descriptors at any place; aliked-n16 can")
    extractor = load(name, device=str(device))
    assert isinstance(extractor, Learned)
    return Teacher(extractor.dense, f"{name}-{sha256_of(extractor.weights_file)[:8]}", device)


class Targets:
    """The teachers' values for photographs, from the cache.

    Several teachers' values stand one after the other. The first one gives keypoints and scores.

    Parameters
    ----------
    photographs : Photographs
    keys : sequence of str
        Of the teachers.
    basis : (T, D) tensor, optional
        What the values are projected on; `principal_directions` finds it.
    """

    most = KEYPOINTS + RANDOM

    def __init__(self, photographs: Photographs, keys: Sequence[str], basis: Tensor | None = None) -> None:
        self.photographs, self.keys = photographs, tuple(keys)
        self.basis = None if basis is None else basis.to(photographs.device)

    def __getitem__(self, item: tuple[int, bool]) -> Target:
        """Of a photograph, or of its mirror image."""
        number, mirrored = item
        assert self.basis is not None
        return Target(
            self._part(number, mirrored, self.keys[0], "places"),
            self.values(number, mirrored),
            self.basis,
            self._part(number, mirrored, self.keys[0], "scores"),
        )

    def mapped(self) -> Targets:
        """The same on the CPU, for what is looked at once."""
        return Targets(self.photographs.mapped(), self.keys, self.basis)

    def stacked(self) -> Callable[[Tensor], BatchTargets] | None:
        """The targets of any images (n,) on the device: photograph i is number 2 i, its mirror image 2 i + 1.

        All targets lie on the device then, projected. None on a CPU or without room.
        """
        photographs, most, device = self.photographs, self.most, self.photographs.device
        assert self.basis is not None
        size, images = self.basis.shape[1], 2 * len(photographs)
        if not photographs.resident.take(images * (most * (12 + 2 * size) + MAX_EDGE**2)):
            return None
        points = torch.full((images, most, 3), FAR, device=device)
        values = torch.zeros(images, most, size, dtype=torch.float16, device=device)
        scores = torch.zeros(images, MAX_EDGE, MAX_EDGE, dtype=torch.uint8, device=device)
        once = self.mapped()
        for image in range(images):
            target = once[image // 2, bool(image % 2)]
            count, (height, width) = len(target.points), target.scores.shape
            points[image, :count] = target.points
            values[image, :count] = F.normalize(target.values.to(device).float() @ self.basis, dim=1).half()
            scores[image, :height, :width] = target.scores

        def of_images(which: Tensor) -> BatchTargets:
            return BatchTargets(
                points[which], lambda rows: values[which[:, None], rows].float(), ScoreMaps(scores[which])
            )

        return of_images

    def values(self, number: int, mirrored: bool) -> Tensor:
        """Float16 (M, T), not projected."""
        found = [self._part(number, mirrored, self._values_of(n), "values") for n in range(len(self.keys))]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def _values_of(self, teacher: int) -> str:
        """A later teacher's values depend on where the first one looked."""
        return self.keys[teacher] if teacher == 0 else f"{self.keys[teacher]}-at-{self.keys[0]}"

    def _part(self, number: int, mirrored: bool, teacher: str, what: str) -> Tensor:
        photographs = self.photographs
        part, key = _part(teacher, mirrored, what), photographs.keys[number]
        return photographs.resident.get((key, part), lambda: photographs.cache.read(key, part))

    def missing(self, number: int) -> bool:
        """Whether a photograph has yet to be shown to a teacher."""
        parts = [
            _part(self._values_of(n), mirrored, what)
            for mirrored in (False, True)
            for n in range(len(self.keys))
            for what in (("places", "scores", "values") if n == 0 else ("values",))
        ]
        return not self.photographs.cache.use(self.photographs.keys[number], *parts)

    def compute(self, number: int, teachers: Sequence[Teacher]) -> None:
        """Show a photograph and its mirror image to the teachers."""
        photographs = self.photographs
        key = photographs.keys[number]
        upright = np.asarray(photographs.pixels(number), np.uint8).transpose(1, 2, 0)
        for mirrored in (False, True):
            image = np.ascontiguousarray(upright[:, ::-1] if mirrored else upright)
            with torch.inference_mode():
                dense = teachers[0].look(image)
                peaks = F.max_pool2d(dense.score_map[0], _PEAK, 1, _PEAK // 2)[0]
                points = _places(dense.score_map[0, 0], peaks, int(key[:8], 16) + mirrored)
                scores = (peaks.clamp(0, 1) * 255).round().byte().cpu().numpy()
                for n, teacher in enumerate(teachers):
                    seen = dense if n == 0 else teacher.look(image)
                    at = torch.from_numpy(points[:, :2].copy()).to(seen.score_map.device)
                    values = seen.describe([at])[0].cpu().numpy().astype(np.float16)
                    photographs.cache.write(key, _part(self._values_of(n), mirrored, "values"), values)
            photographs.cache.write(key, _part(self.keys[0], mirrored, "places"), points)
            photographs.cache.write(key, _part(self.keys[0], mirrored, "scores"), scores)


def _part(teacher: str, mirrored: bool, what: str) -> str:
    return f"{teacher}{'-mirrored' if mirrored else ''}-{what}"


def _places(scores: Tensor, peaks: Tensor, seed: int) -> NDArray[np.float32]:
    """The best local maxima of the scores (H, W), and random places: (M, 3) x, y, and 1 for a maximum."""
    height, width = scores.shape
    inner = torch.zeros_like(scores, dtype=torch.bool)
    inner[_BORDER:-_BORDER, _BORDER:-_BORDER] = True
    maxima = torch.where((scores == peaks) & inner, scores, -torch.inf).flatten()
    best, index = maxima.topk(min(KEYPOINTS, maxima.numel()))
    index = index[best > -torch.inf].cpu()
    points = np.zeros((len(index) + RANDOM, 3), np.float32)
    points[: len(index)] = torch.stack([index % width, index // width, torch.ones_like(index)], dim=1)
    points[len(index) :, :2] = np.random.default_rng(seed).uniform(8, [width - 9, height - 9], (RANDOM, 2))
    return points


def compute_targets(
    photographs: Photographs,
    teachers: Sequence[Teacher],
    where: World,
    *,
    stopped: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda message: None,
) -> Targets | None:
    """Show all photographs to the teachers that are not in the cache yet; several processes share the work.

    Returns
    -------
    targets : Targets, optional
        None where it was stopped; what is done stays in the cache.
    """
    targets = Targets(photographs, [teacher.key for teacher in teachers])
    todo = [n for n in range(where.rank, len(photographs), where.size) if targets.missing(n)]
    told = begun = time.monotonic()
    done = 0
    for number in todo:
        if stopped():
            break
        targets.compute(number, teachers)
        done += 1
        now = time.monotonic()
        if now - told > 30 and where.rank == 0:
            left = (now - begun) / done * (len(todo) - done) / 60
            say(f"the teacher has seen {done} of {len(todo)} photographs, {left:.0f} min left")
            told = now
    whole = done == len(todo)
    if where.size > 1:
        everyone = [False] * where.size
        dist.all_gather_object(everyone, whole)
        whole = all(everyone)
    return targets if whole else None


def principal_directions(targets: Targets, count: int) -> tuple[Tensor, float]:
    """The orthonormal directions that hold most of the teachers' values, and the share of the squares they hold.

    The eigenvectors of the second moments of a few values of every photograph, so that projections keep dot products
    as well as a linear map can. Each teacher counts alike, for its values are of unit length.

    Returns
    -------
    basis : (T, count)
    held : float

    Raises
    ------
    InvalidInputError
        If the teachers' values have fewer numbers.
    """
    moments: Tensor | float = 0.0
    once = targets.mapped()
    for number in range(len(once.photographs)):
        values = once.values(number, mirrored=False)
        sample = values[:: max(1, len(values) // _SAMPLE)].double()
        moments = moments + sample.T @ sample
    assert isinstance(moments, Tensor)
    if len(moments) < count:
        raise InvalidInputError(
            f"the teacher's descriptors have {len(moments)} numbers, fewer than the network's {count}; choose another "
            "teacher, or add one"
        )
    strength, directions = torch.linalg.eigh(moments)
    basis = directions.flip(1)[:, :count]
    # An eigenvector's sign is arbitrary: its greatest entry is positive, whatever the library.
    basis = basis * basis.gather(0, basis.abs().argmax(dim=0, keepdim=True)).sign()
    held = strength.flip(0)[:count].sum() / strength.sum()
    return basis.float(), float(held)
