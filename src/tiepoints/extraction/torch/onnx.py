"""The convolutions of a network in ONNX Runtime, which is faster than PyTorch on CPUs; all else stays in PyTorch.

A network is exported once, into the user's cache, with batch, height and width free.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InvalidInputError, WeightsError
from ...files import one_line, replacing, sha256_of
from ...optional import require
from ...threads import cores
from ...weights import cache_folder
from .base import Network

__all__ = ["accelerate"]

_OPSET = 17
_FORMAT = 1  # raised when what `core` computes changes


def accelerate(network: Network, name: str, weights: Path, threads: int | None) -> None:
    """Replace a network's `core` by a session of ONNX Runtime.

    Parameters
    ----------
    network : Network
        On the CPU; one that has a `core`.
    name : str
        Of the extractor.
    weights : Path
        The file that the network's parameters came from: another one gets another export.
    threads : int, optional
        All cores by default.

    Raises
    ------
    InvalidInputError
        If the network cannot be exported.
    MissingDependencyError
        If the package onnx is not installed, which the export needs.
    WeightsError
        If the exported file cannot be written or read.
    """
    if network.exports is None:
        raise InvalidInputError(f"runtime is 'onnx', but {name} runs in torch only: leave out runtime")
    path = cache_folder() / "onnx" / f"{name}-{_FORMAT}-{sha256_of(weights)[:16]}.onnx"
    if not path.exists():
        require("onnx", f"{name} with runtime='onnx'", "learned")
        _export(network, path)
    network.core = _Session(path, threads)  # type: ignore[method-assign]


class _Core(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Any:
        return self.network.core(image)


def _export(network: Network, path: Path) -> None:
    # Not square, and not the size that anything is computed for: a size that were built in would show.
    example = torch.rand(1, network.exports or 1, 96, 160)
    with torch.inference_mode():
        count = len(network.core(example))
    names = [f"output_{i}" for i in range(count)]
    free = {0: "batch", 2: "height", 3: "width"}
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(
            _Core(network).eval(),
            (example,),
            str(temporary),
            input_names=["image"],
            output_names=names,
            dynamic_axes=dict.fromkeys(("image", *names), free),
            opset_version=_OPSET,
            dynamo=False,
        )


class _Session:
    """What `core` is, by ONNX Runtime; it can be copied and sent to other processes."""

    def __init__(self, path: Path, threads: int | None) -> None:
        self.path, self.threads = path, threads
        self._open()

    def _open(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads or cores()
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise WeightsError(f"{self.path}: ONNX Runtime cannot read it ({one_line(error)}): remove it") from None

    def __call__(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(out) for out in self.session.run(None, {"image": image.contiguous().numpy()}))

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "threads": self.threads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()
