"""A trained network as one ONNX file, which runs without torch, and back."""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import MissingDependencyError, StorageError
from ..extraction.model import METADATA, STRIDE
from ..files import read_bytes, write_whole
from .network import Config, MDNet

__all__ = ["read_model", "save_model"]

_OPSET = 18  # ours: OpenCV 4.10, TensorRT 10 and ONNX Runtime 1.14 read it


def save_model(network: MDNet, path: Path, about: dict[str, Any]) -> None:
    """Write a network as ONNX, with height and width free (multiples of 16) and a description of what it is.

    Its input is `image`, grey (1, 1, H, W) in [0, 1]. Its outputs are `cells` (1, 4 k, H/2, W/2), the logits of the
    heatmaps before the pixel shuffle (`MDNet.heads`), and `descriptors` (1, H/4, W/4, D), not normalised.

    Parameters
    ----------
    network : MDNet
    path : path
    about : dict
        Plain values: recipe, licence, training data, figures. The network's shape is added.

    Raises
    ------
    MissingDependencyError
        If the packages that write ONNX are not installed.
    StorageError
        If the file cannot be written.
    """
    exported = _Heads(network.config)
    exported.load_state_dict(network.state_dict())
    about = {
        "format": 1,
        "sets": network.config.sets,
        "descriptor_size": network.config.descriptor_size,
        "stride": STRIDE,
        "network": network.config.as_dict(),
    } | about
    free = {2: STRIDE * torch.export.Dim("h", max=4096), 3: STRIDE * torch.export.Dim("w", max=4096)}
    try:
        import onnx

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own insides
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            # Not optimised: that keeps the parameters' names, by which `read_model` finds them again. Run-times fold
            # the batch normalisation when they load it.
            program = torch.onnx.export(
                exported.eval(),
                (torch.zeros(1, 1, 4 * STRIDE, 6 * STRIDE),),
                input_names=["image"],
                output_names=["cells", "descriptors"],
                dynamic_shapes={"image": free},
                opset_version=_OPSET,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    except ImportError as error:
        raise MissingDependencyError(
            f"export needs the package {error.name}: pip install 'tiepoints[train]'"
        ) from error
    assert program is not None
    model = program.model_proto
    for values in (model.graph.node, model.graph.input, model.graph.output, model.graph.value_info):
        for value in values:
            value.ClearField("metadata_props")  # the exporter's traces of source files
    model.graph.ClearField("metadata_props")
    _without_zero_biases(model.graph)
    for node in model.graph.node:
        node.ClearField("doc_string")
    model.producer_name = "tiepoints"
    onnx.helper.set_model_props(model, {METADATA: json.dumps(about)})
    onnx.checker.check_model(model, full_check=True)
    write_whole(path, model.SerializeToString())


class _Heads(MDNet):
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        cells, described = self.heads(image)
        return cells, described.permute(0, 2, 3, 1)


def _without_zero_biases(graph: Any) -> None:
    """Take the zeros out that the exporter expands by a chain of nodes in place of a bias that a convolution lacks.

    No run-time recognises them, and so none folds the batch normalisation that follows: twice the time.
    """
    maker = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) == 3:
            bias = maker.get(node.input[2])
            if bias is not None and bias.op_type == "Expand":
                del node.input[2]
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):  # in topological order, by the standard
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    for values, remaining in (
        (graph.node, kept[::-1]),
        (graph.initializer, [value for value in graph.initializer if value.name in needed]),
        (graph.value_info, [value for value in graph.value_info if value.name in needed]),
    ):
        copies = [copy.deepcopy(value) for value in remaining]
        del values[:]
        values.extend(copies)


def read_model(path: Path) -> tuple[Config, dict[str, Tensor], dict[str, Any]]:
    """The shape, the parameters and the description of a model or a checkpoint; nothing is unpickled or run.

    Parameters
    ----------
    path : path
        An .onnx file that `save_model` wrote, or a checkpoint of `tiepoints train`.

    Raises
    ------
    StorageError
        If there is no such file, it is neither or damaged, or it is an 8-bit model.
    """
    data = read_bytes(path, remedy="give a model (.onnx) or a checkpoint (.pt) of tiepoints")
    try:
        if path.suffix == ".onnx":
            import onnx
            from onnx import numpy_helper

            model = onnx.load_model_from_string(data)
            about = json.loads({prop.key: prop.value for prop in model.metadata_props}[METADATA])
            state = {
                value.name: torch.from_numpy(numpy_helper.to_array(value).copy()) for value in model.graph.initializer
            }
            config = Config.from_dict(about["network"])
        else:
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            config, state, about = Config.from_dict(content["network"]), content["average"], content["about"]
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: reading it needs {error.name}: pip install 'tiepoints[train]'"
        ) from error
    except Exception as error:  # whatever a broken file makes the readers say, in words of their own insides
        raise StorageError(
            f"{path}: neither a model nor a checkpoint of tiepoints, or damaged or truncated; give an .onnx file that "
            "`tiepoints export` wrote or the checkpoint.pt of `tiepoints train`"
        ) from error
    if "detect.1.weight" not in state:
        raise StorageError(
            f"{path}: an 8-bit model cannot be trained or exported again; give the model or checkpoint it was made of"
        )
    return config, state, about
