"""A network of patches that comes with tiepoints, in ONNX Runtime: no torch is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..files import read_bytes
from ..threads import cores
from .onnx_file import OnnxFile

__all__ = ["PatchModel", "open_model"]

Float32 = NDArray[np.float32]

_BATCH = 256  # patches at once


def open_model(path: Path, threads: int | None, kind: str) -> tuple[Any, dict[str, Any]]:
    """The session of ONNX Runtime for a model that comes with tiepoints, and what its makers wrote into it.

    Parameters
    ----------
    path : path
    threads : int, optional
        All cores by default.
    kind : str
        What its input is called.

    Raises
    ------
    WeightsError
        If the file is no such model, or damaged.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = threads or cores()
    try:
        data = read_bytes(path, remedy="install tiepoints again")
        about = OnnxFile(data).about
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        if [each.name for each in session.get_inputs()] != [kind]:
            raise ValueError("another model")
    except Exception as error:  # the run-time has a dozen exceptions of its own, which share no base
        raise WeightsError(f"{path}: is no model of {kind}, or damaged: install tiepoints again") from error
    return session, about


class PatchModel:
    """Descriptors of patches, or their directions, by a model of `training.hardnet` or `training.lift`.

    Parameters
    ----------
    path : path
    threads : int, optional
        All cores by default.

    Raises
    ------
    WeightsError
        If the file is no such model, or damaged.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path, self.threads = path, threads
        #: What its makers wrote into it: how it was trained.
        self.about: dict[str, Any]
        self._session, self.about = open_model(path, threads, "patches")
        self.side = int(self.about["side"])

    def __call__(self, patches: Float32) -> Float32:
        """Descriptors (N, D) of unit length, or cosines and sines (N, 2), of patches (N, side, side) in [0, 255]."""
        parts = [self._some(patches[start : start + _BATCH]) for start in range(0, max(len(patches), 1), _BATCH)]
        return np.concatenate(parts)

    def _some(self, patches: Float32) -> Float32:
        mean = patches.mean(axis=(1, 2), keepdims=True)
        deviation = patches.std(axis=(1, 2), keepdims=True, ddof=1)
        normalised = np.asarray((patches - mean) / (deviation + 1e-7), np.float32)
        (vectors,) = self._session.run(["descriptors"], {"patches": normalised[:, None]})
        norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        return np.asarray(vectors / norms, np.float32)

    def __reduce__(self) -> tuple[Any, ...]:
        return PatchModel, (self.path, self.threads)
