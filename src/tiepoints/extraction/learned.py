"""Extractors whose networks run in PyTorch: what they share. Their metadata are in `published`."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import InvalidInputError
from ..features import Features
from ..optional import torch_device
from ..weights import obtain, require_consent
from .base import Detections, Extractor, Prepared

if TYPE_CHECKING:
    from torch import Tensor

    from .torch.base import Dense

__all__ = ["Learned"]


class Learned(Extractor):
    """A method with published weights.

    The weights are found in the folder that TIEPOINTS_WEIGHTS names or in the user's cache, or else fetched from where
    their authors publish them.

    Parameters
    ----------
    threshold : float, optional
        Least score of a keypoint, in the method's own measure; its authors' by default.
    weights : path, optional
        A file of weights for the same network, instead of its authors'.
    device : str
        Where the network runs: "cpu", "cuda", "cuda:1", "mps".
    half : bool
        Convolutions and products in 16 bits, on a GPU.
    threads : int, optional
        Threads on a CPU; all cores by default.
    batch : int, optional
        So many images of one size are computed together, if they are handed over together; by default 4 on a GPU, and 1
        on a CPU, where it saves no time.
    runtime : {"torch", "onnx"}
        ONNX Runtime is faster on a CPU, for the networks that can be exported: ALIKE, DISK, EdgePoint2, R2D2,
        SuperPoint, XFeat. The export is made once, into the user's cache, and needs the package onnx.
    **options
        Those of `Extractor`.

    Raises
    ------
    MissingDependencyError
        If torch is not installed.
    LicenceError
        If the weights' licence does not allow commercial use, and the user has not accepted it.
    WeightsError
        If the weights cannot be had, are damaged, or are those of another network.
    InvalidInputError
        If an option is out of its range, or there is no such device.
    """

    #: The file in ``torch/`` that has the network, and which of its models.
    network: ClassVar[str]
    variant: ClassVar[str]
    wants_colour: ClassVar[bool] = True
    bytes_per_pixel: ClassVar[int] = 1500

    def __init__(
        self,
        *,
        threshold: float | None = None,
        weights: str | Path | None = None,
        device: str = "cpu",
        half: bool = False,
        threads: int | None = None,
        batch: int | None = None,
        runtime: str = "torch",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.threshold = None if threshold is None else checks.number(threshold, "threshold")
        self.weights = None if weights is None else checks.path(weights, "weights")
        self.half = checks.flag(half, "half")
        self.threads = None if threads is None else checks.count(threads, "threads", least=1)
        name, on_cpu = self.metadata.name, str(device).startswith("cpu")
        self.batch = (1 if on_cpu else 4) if batch is None else checks.count(batch, "batch", least=1)
        self.runtime = checks.choice(runtime, "runtime", ("torch", "onnx"))
        if self.runtime == "onnx" and not on_cpu:
            raise InvalidInputError(f"runtime is 'onnx', which is for CPUs, but device is {device!r}: leave out one")
        if self.half and on_cpu:
            raise InvalidInputError("half is True, but 16 bits are for GPUs: give device='cuda', or leave out half")
        self.device = torch_device(device, name)
        if self.weights is None:
            if not self.metadata.licences_allow_commerce:
                require_consent(name, self.metadata.weights_licence, self.metadata.licence_url)
            self._file, *_ = [obtain(file) for file in self.metadata.weights]
        else:
            self._file = self.weights
        from .torch.base import build

        self._network = build(self.network, self.variant, self._file, device, name=name)
        if self.runtime == "onnx":
            self._accelerate()

    def _accelerate(self) -> None:
        from .torch.onnx import accelerate

        accelerate(self._network, self.metadata.name, self._file, self.threads)

    @property
    def weights_file(self) -> Path:
        """The file that the network's weights came from."""
        return self._file

    def dense(self, image: Tensor) -> Dense:
        """The network's score map, and its descriptors at any place: what a teacher of another network gives.

        Parameters
        ----------
        image : Tensor
            RGB (B, 3, H, W), or grey (B, 1, H, W) where `wants_colour` is False; in [0, 1], on the extractor's device.

        Returns
        -------
        dense : Dense
            ``dense.score_map`` (B, 1, H, W), and ``dense.describe([xy, ...])`` with places (N, 2) for each image, which
            returns descriptors (N, D) for each. Wrap it in ``torch.no_grad()`` where no gradient is wanted.
        """
        dense: Dense = self._network(image)
        return dense

    def _several(self, given: Iterable[tuple[Any, Any]]) -> Iterator[Features]:
        waiting: list[Prepared] = []
        for image, mask in given:
            prepared = self._prepared(image, mask)
            if waiting and (len(waiting) == self.batch or _kind(prepared) != _kind(waiting[0])):
                yield from self._together(waiting)
                waiting = []
            waiting.append(prepared)
        yield from self._together(waiting)

    def _together(self, some: Sequence[Prepared]) -> Iterator[Features]:
        """The features of images of one size."""
        found = self._found([each.image for each in some], [each.mask for each in some])
        return map(self._finished, some, found)

    def _detect(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Detections:
        (found,) = self._found([image], [mask])
        return found

    def _found(
        self, images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.uint8] | None]
    ) -> list[Detections]:
        """What is in images of one size, computed as one batch."""
        from .torch.base import as_array, extract

        # Of equal scores everywhere each pixel is a maximum.
        rows = [i for i, image in enumerate(images) if image.min() != image.max()]
        answers = [self._nothing() for _ in images]
        if not rows:
            return answers
        found = extract(
            self._network,
            [images[i] for i in rows],
            [masks[i] for i in rows],
            count=self.max_keypoints,
            threshold=self.threshold,
            half=self.half,
            threads=self.threads,
        )
        for i, one in zip(rows, found, strict=True):
            assert one.descriptors is not None
            scales = None if one.scales is None else as_array(one.scales)
            answers[i] = Detections(as_array(one.xy), as_array(one.descriptors), as_array(one.scores), scales=scales)
        return answers

    def _nothing(self) -> Detections:
        empty = np.zeros(0, np.float32)
        return Detections(empty.reshape(0, 2), np.zeros((0, self.metadata.descriptor_size), np.float32), empty)

    def with_threads(self, count: int) -> Learned:
        """The same extractor on so many threads, unless it was told how many."""
        if self.threads is not None:
            return self
        other = copy.copy(self)
        other.threads = count
        if other.runtime == "onnx":
            other._network = copy.copy(other._network)
            other._accelerate()
        return other


def _kind(prepared: Prepared) -> tuple[tuple[int, ...], bool]:
    """What images have in common that are computed together: with a mask, more keypoints are looked at."""
    return prepared.image.shape, prepared.mask is None
