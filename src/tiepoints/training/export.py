"""A trained network as one ONNX file, which runs without torch, and back."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import InvalidInputError, StorageError
from ..extraction.model import FORMAT, NORMALISED, RELEASED, check_format, released
from ..extraction.onnx_file import CHECKSUM, METADATA, OnnxFile, checksum
from ..files import read_bytes, write_whole
from ..optional import require
from .network import CELL, STRIDE, VARIANCE, Config, MDNet

__all__ = ["read_model", "read_network", "save_model", "sealed"]

_OPSET = 18  # ours: OpenCV 4.10, TensorRT 10 and ONNX Runtime 1.14 read it
_IR = 9
_WIDE = 48  # ours: channels


def save_model(network: MDNet, path: Path, about: dict[str, Any], *, half: bool = False) -> None:
    """Write a network as ONNX, with height and width free (multiples of 32) and a description of what it is.

    Its input is `image`, grey (1, 1, H, W) in [0, 1]. Its outputs are `descriptors` (1, H/4, W/4, D), not normalised,
    and for each number of sets k that it has a head for, `cells_k` (1, 4 k, H/2, W/2): the logits of the heatmaps
    before the pixel shuffle and the blur (`MDNet.cells`), at which run-times are slow. Pixel (2 i + a, 2 j + b) of set
    m is at channel 4 m + 2 a + b and cell (i, j); rows and columns of pixels are blurred with (1, 2, 2, 2, 1) / 8.
    Run-times compute all outputs that a graph has; `tiepoints.load` cuts what one head does not need out of it.

    Parameters
    ----------
    network : MDNet
    path : path
    about : dict
        Plain values: recipe, licence, training data, figures. The network's shape is added.
    half : bool
        Store the weights of convolutions in float16, in half the space; what is computed stays float32.

    Raises
    ------
    MissingDependencyError
        If the package onnx is not installed.
    StorageError
        If the file cannot be written.
    """
    onnx = require("onnx", "export", "train")
    config = network.config
    about = about | {
        "format": FORMAT,
        "precision": "float32",
        "sets": list(config.sets),
        "descriptor_size": config.descriptor_size,
        "rotations": config.rotations,
        "teacher": config.teacher,
        "stride": STRIDE,
        "network": config.as_dict(),
    }
    graph = _Graph(onnx, {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}, half)
    z, described = graph.trunk(network)
    heads = {f"cells_{k}": (4 * k, graph.head(network, z, k)) for k in config.sets}
    size = config.descriptor_size
    info, number = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    outputs = [info("descriptors", number, [1, f"height / {CELL}", f"width / {CELL}", size])]
    graph.node("Transpose", described, out="descriptors", perm=[0, 2, 3, 1])
    for name, (channels, value) in heads.items():
        outputs.append(info(name, number, [1, channels, "height / 2", "width / 2"]))
        graph.node("Identity", value, out=name)
    if config.teacher_size:
        graph.constant("basis", network.basis.detach().cpu().numpy())
    image = info("image", number, [1, 1, "height", "width"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes, "MD-Net", [image], outputs, list(graph.constants.values()), value_info=graph.shapes
        ),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
        producer_name="tiepoints",
    )
    onnx.checker.check_model(model, full_check=True)
    write_whole(path, sealed(model, about))


def sealed(model: Any, about: dict[str, Any]) -> bytes:
    """An onnx.ModelProto as the bytes of a file, with its description and the checksum of both."""
    onnx = require("onnx", "export", "train")
    for value in model.graph.initializer:  # as raw bytes, which is one of two ways
        value.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(value), value.name))
    text = json.dumps(about)
    digest = checksum(model.graph.SerializeToString(), text)
    onnx.helper.set_model_props(model, {METADATA: text, CHECKSUM: digest})
    data: bytes = model.SerializeToString()
    if OnnxFile(data).about != json.loads(text):
        raise AssertionError("onnx wrote the graph in another way into the file")
    return data


class _Graph:
    """The nodes and constants of an ONNX graph; its methods do with names of values what the network does with them."""

    def __init__(self, onnx: Any, state: dict[str, NDArray[Any]], half: bool) -> None:
        self.onnx, self.state, self.half = onnx, state, half
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.shapes: list[Any] = []
        self.ending = ""

    def node(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        name = out or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """A constant under this name; the weights of convolutions as the name of what they are in float32."""
        short = self.half and value.ndim == 4
        if name not in self.constants:
            stored = value.astype(np.float16 if short else value.dtype)
            self.constants[name] = self.onnx.numpy_helper.from_array(np.ascontiguousarray(stored), name)
        return self.node("Cast", name, out=f"{name}.float32", to=self.onnx.TensorProto.FLOAT) if short else name

    def trunk(self, network: MDNet) -> tuple[str, str]:
        """As `MDNet.trunk`."""
        centred = self.node("Sub", "image", self.mean("image"))
        variance = self.node("Add", self.mean(self.node("Mul", centred, centred)), self.scalar("epsilon", VARIANCE))
        x = self.node("Div", centred, self.node("Sqrt", variance), out=NORMALISED)
        levels = []
        for i, stage in enumerate(network.stages):
            x = self.run(stage, f"stages.{i}", x)
            levels.append(x)
        half, *middle, y = levels
        for i, below in enumerate(middle[::-1]):
            lateral = self.run(network.lateral[i], f"lateral.{i}", below)
            down = self.doubled(self.run(network.down[i], f"down.{i}", y))
            merged = self.added(lateral, down, network.config.pyramid[i], 1 << (len(middle) + 1 - i))
            y = self.halves(network.smooth[i], f"smooth.{i}", merged)
        raised = self.doubled(self.run(network.detect_raise, "detect_raise", y))
        z = self.added(half, raised, network.config.channels[0], 2)
        return z, self.run(network.describe, "describe", y)

    def head(self, network: MDNet, z: str, k: int) -> str:
        """As `MDNet.cells` before the blur."""
        return self.run(network.get_submodule(f"detect.{k}"), f"detect.{k}", z)

    def run(self, module: nn.Module, name: str, x: str) -> str:
        """A module whose parameters have this name before theirs."""
        if isinstance(module, nn.Conv2d):
            parameters = [
                self.constant(f"{name}.{part}{self.ending}", self.state[f"{name}.{part}"])
                for part in ("weight", "bias")
                if f"{name}.{part}" in self.state
            ]
            sizes: dict[str, Any] = {
                "kernel_shape": module.kernel_size,
                "strides": module.stride,
                "pads": 2 * tuple(module.padding),
            }
            return self.node("Conv", x, *parameters, **sizes)
        if isinstance(module, nn.BatchNorm2d):
            parts = ("weight", "bias", "running_mean", "running_var")
            parameters = [self.constant(f"{name}.{part}{self.ending}", self.state[f"{name}.{part}"]) for part in parts]
            return self.node("BatchNormalization", x, *parameters, epsilon=module.eps)
        if isinstance(module, nn.Identity):
            return x
        if isinstance(module, nn.ReLU):
            return self.node("Relu", x)
        y = x
        for part, child in module.named_children():
            y = self.run(child, f"{name}.{part}", y)
        if isinstance(module, nn.Sequential):
            return y
        return self.node("Relu", self.node("Add", y, x))  # a residual block

    def halves(self, block: nn.Module, name: str, x: str) -> str:
        """As `run`, of a convolution with what follows, in two halves of its channels if there are many.

        ONNX Runtime works on 64 channels at once; their weights and three rows of a large map do not fit into the first
        cache of a CPU, and where something else runs on its other half they take up to three times as long.
        """
        half = len(self.state[f"{name}.0.weight"]) // 2
        if half <= _WIDE // 2:
            return self.run(block, name, x)
        whole, parts = self.state, []
        for i in range(2):
            # As parameters of names of their own, "smooth.2.0.weight/0", which `read_model` puts together again.
            self.state = {
                key: v[i * half :][:half] for key, v in whole.items() if key.startswith(f"{name}.") and v.ndim
            }
            self.ending = f"/{i}"
            parts.append(self.run(block, name, x))
        self.state, self.ending = whole, ""
        return self.node("Concat", *parts, axis=1)

    def mean(self, x: str) -> str:
        for axis in (3, 2):  # as in the network, row by row
            x = self.node("ReduceMean", x, self.constant(f"axis_{axis}", np.array([axis])), keepdims=1)
        return x

    def doubled(self, x: str) -> str:
        scales = self.constant("double", np.array([1, 1, 2, 2], np.float32))
        return self.node("Resize", x, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")

    def added(self, a: str, b: str, channels: int, scale: int) -> str:
        """Their sum at 1 / scale of the resolution, negative values cut off.

        That both have one shape is declared: run-times that cannot prove it do not merge the sum with a convolution.
        """
        info, number = self.onnx.helper.make_tensor_value_info, self.onnx.TensorProto.FLOAT
        self.shapes += [info(x, number, [1, channels, f"height / {scale}", f"width / {scale}"]) for x in (a, b)]
        return self.node("Relu", self.node("Add", a, b))

    def scalar(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, np.float32))


def read_model(path: Path) -> tuple[Config, dict[str, Tensor], dict[str, Any]]:
    """The shape, the parameters and the description of a model or a checkpoint; nothing is unpickled or run.

    Parameters
    ----------
    path : path
        An .onnx file that `save_model` wrote, a checkpoint of `tiepoints train`, or the name of a released network.

    Raises
    ------
    StorageError
        If there is no such file, it is neither or damaged, or it is an 8-bit model.
    """
    if str(path) in RELEASED and not path.exists():
        path = released(str(path))
    data = read_bytes(path, remedy="give a model (.onnx) or a checkpoint (.pt) of tiepoints")
    try:
        if path.suffix.lower() == ".onnx":
            model = OnnxFile(data)
            about = model.about
            check_format(path, about)
            config = Config.from_dict(about["network"])
            state = {} if about["precision"] != "float32" else _state(model, config)
        else:
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            config, state, about = Config.from_dict(content["network"]), content["average"], content["about"]
    except (MemoryError, StorageError):
        raise
    except Exception as error:  # whatever a broken file makes the readers say, in words of their own insides
        raise StorageError(
            f"{path}: neither a model nor a checkpoint of tiepoints, or damaged or truncated; give an .onnx file that "
            "`tiepoints export` wrote or the checkpoint.pt of `tiepoints train`"
        ) from error
    if not state:
        raise StorageError(
            f"{path}: an 8-bit model cannot be trained or exported again; give the model or checkpoint it was made of"
        )
    return config, state, about


def read_network(path: Path, sets: Sequence[int] = ()) -> tuple[MDNet, dict[str, Any]]:
    """The network of a model or a checkpoint, in evaluation mode, and its description.

    Parameters
    ----------
    path : path
        As `read_model` takes it.
    sets : sequence of int
        Leave out all heads but those of so many sets; empty keeps all.

    Raises
    ------
    StorageError
        As `read_model`.
    InvalidInputError
        If there is no such head.
    """
    config, state, about = read_model(path)
    if lacking := sorted(set(sets) - set(config.sets)):
        there, wanted = (", ".join(map(str, found)) for found in (config.sets, lacking))
        raise InvalidInputError(f"{path}: it has heads of {there} sets, none of {wanted}")
    network = MDNet(replace(config, sets=tuple(sorted(set(sets))) or config.sets))
    own = network.state_dict()
    network.load_state_dict({name: value for name, value in state.items() if name in own}, strict=False)
    return network.eval(), about


def _state(model: OnnxFile, config: Config) -> dict[str, Tensor]:
    """The parameters of a network in float32, from the constants of its file."""
    state = {
        name: torch.from_numpy(value.astype(np.float32))
        for name, value in model.weights.items()
        if value.dtype in (np.float32, np.float16)
    }
    for name in [name for name in state if name.endswith("/0")]:
        whole = name.removesuffix("/0")
        state[whole] = torch.cat([state.pop(f"{whole}/{i}") for i in range(2)])
    for name in ("double", "epsilon"):
        state.pop(name)
    state.setdefault("basis", torch.zeros(config.teacher_size, config.descriptor_size))
    return state
