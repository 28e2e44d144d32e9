"""Networks of patches as files for `tiepoints.extraction.patch_model`, and the HardNet that comes with tiepoints."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..extraction.onnx_file import OnnxFile
from ..extraction.published import PARTS
from ..extraction.torch.patches import SIDE, HardNet
from ..files import read_bytes, replacing, write_whole
from ..optional import require
from .export import sealed

__all__ = ["export_model", "read_hardnet", "save_patch_model", "shipped_hardnet"]

_OPSET = 17


def save_patch_model(network: nn.Module, path: Path, about: dict[str, Any], side: int = SIDE) -> None:
    """Write a network as ONNX, the weights of its convolutions in float16, for `tiepoints.extraction.patch_model`.

    Parameters
    ----------
    network : Module
        In evaluation mode; from patches (N, 1, side, side) of mean 0 and deviation 1 to (N, D) of any length. Its batch
        normalisations become part of the convolutions.
    path : path
    about : dict
        Plain values: licence, how it was trained, figures.
    side : int
        Of the patches in pixels.

    Raises
    ------
    MissingDependencyError
        If the package onnx is not installed.
    StorageError
        If the file cannot be written.
    """
    example = torch.zeros(2, 1, side, side)
    export_model(network, path, about | {"side": side}, example, {"patches": {0: "count"}, "descriptors": {0: "count"}})


def export_model(
    network: nn.Module, path: Path, about: dict[str, Any], example: Tensor, axes: dict[str, dict[int, str]]
) -> None:
    """Write a network of one input and one output as `save_patch_model` does; `axes`: their names and free axes."""
    onnx = require("onnx", "export", "train")
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(
            network.eval(),
            (example,),
            str(temporary),
            input_names=list(axes)[:1],
            output_names=list(axes)[1:],
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
        model = onnx.load(str(temporary))
    for weight in model.graph.initializer:
        if len(weight.dims) == 4:
            half = onnx.numpy_helper.to_array(weight).astype(np.float16)
            name, short = weight.name, f"{weight.name}.float16"
            weight.CopyFrom(onnx.numpy_helper.from_array(half, short))
            model.graph.node.insert(0, onnx.helper.make_node("Cast", [short], [name], to=onnx.TensorProto.FLOAT))
    onnx.checker.check_model(model, full_check=True)
    write_whole(path, sealed(model, about | {"format": 1}))


def read_hardnet(path: Path) -> HardNet:
    """A HardNet as a network of torch, from a file of `save_patch_model`; for patches (N, 1, 32, 32) in [0, 255].

    Raises
    ------
    StorageError
        If there is no such file.
    """
    weights = OnnxFile(read_bytes(path, remedy="install tiepoints again")).weights.values()
    kernels, biases = (iter([each for each in weights if each.ndim == ndim]) for ndim in (4, 1))
    network = HardNet()
    layers = list(network.features)
    for number, module in enumerate(layers):
        if isinstance(module, nn.Conv2d):  # its file has the normalisation behind it in kernel and bias
            norm = layers[number + 1]
            assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
            module.weight.data = torch.from_numpy(next(kernels).astype(np.float32))
            norm.running_mean.copy_(-torch.from_numpy(next(biases).astype(np.float32)))
            norm.running_var.fill_(1 - norm.eps)
    return network.eval()


def shipped_hardnet() -> HardNet:
    """The HardNet that comes with tiepoints, as `read_hardnet` reads it; its parameters ask for no gradient."""
    path = PARTS["hardnet"].model
    assert path is not None
    network: HardNet = read_hardnet(path).requires_grad_(False)
    return network
