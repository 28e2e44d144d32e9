"""A model with 8-bit convolutions: less time on CPUs that multiply bytes (AVX-512 VNNI, ARM dot products)."""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..extraction.model import STRIDE
from ..extraction.onnx_file import OnnxFile
from ..files import read_bytes, write_whole
from ..images import read
from ..optional import require
from .export import sealed

__all__ = ["save_eight_bit"]

_PHOTOGRAPHS = 16  # ours: the ranges of activations are settled by then
_INSIDE = 99.99  # ours: percent of a value's activations that its 256 steps cover; all of them make the steps too wide
_EDGE = 320  # ours: pixels of the middle of each photograph, which says as much about ranges as all of it


def save_eight_bit(model: Path, photographs: Sequence[Path], path: Path) -> None:
    """Write a model anew with weights and activations of 8 bits, calibrated on photographs.

    The first two convolutions, the last one of the descriptors and all that only the heatmaps need stay in float32:
    they are few channels, which bytes make no faster, and their errors would be those of the keypoints and descriptors.
    So does what is enlarged last: of `mdnet` 82 % of the keypoints then stay within .25 pixels, instead of 80 %. The
    file cannot be trained any further.

    Parameters
    ----------
    model : path
        An .onnx file that `save_model` wrote.
    photographs : sequence of path
        Of the kind that will be extracted; of many, 16 from all over the list.
    path : path
        What is written.

    Raises
    ------
    ImageError
        If no photograph can be read.
    MissingDependencyError
        If the packages that write ONNX are not installed.
    StorageError
        If the file cannot be written.
    """
    import onnxruntime

    onnx = require("onnx", "8-bit export", "train")
    from onnxruntime import quantization

    images = _middles(photographs[:: max(1, len(photographs) // _PHOTOGRAPHS)])
    if not images:
        raise ImageError("none of the photographs to calibrate with can be read; give other ones")
    with tempfile.TemporaryDirectory(prefix="tiepoints-8-bit-") as folder:
        folded, quantised = Path(folder) / "folded.onnx", Path(folder) / "quantised.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)  # with batch normalisation folded into the convolutions
        onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(folded).graph
        trunk = _needed(graph, ["descriptors"])
        heads = _needed(graph, [output.name for output in graph.output]) - trunk
        nodes = [node for node in graph.node if node.name in trunk]
        convolutions = [node for node in nodes if node.op_type == "Conv"]
        enlarged = next(node.input[0] for node in nodes[::-1] if node.op_type == "Resize")
        kept = [node.name for node in convolutions if enlarged in node.output]
        kept += [node.name for node in (*convolutions[:2], convolutions[-1])]
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)  # it recommends what has been done above
        try:
            with redirect_stdout(io.StringIO()):  # which it fills with its progress
                quantization.quantize_static(
                    str(folded),
                    str(quantised),
                    _Calibration(images),
                    calibrate_method=quantization.CalibrationMethod.Percentile,
                    quant_format=quantization.QuantFormat.QDQ,
                    activation_type=quantization.QuantType.QUInt8,
                    weight_type=quantization.QuantType.QInt8,
                    per_channel=True,
                    extra_options={"CalibPercentile": _INSIDE},
                    op_types_to_quantize=["Conv", "Resize", "Add", "Relu", "Concat"],
                    nodes_to_exclude=[*kept, *heads],
                )
        finally:
            logging.getLogger().setLevel(level)
        result = onnx.load(quantised)
        source = OnnxFile(read_bytes(model))
        if "basis" in source.weights:  # which no node uses, so that it was dropped
            result.graph.initializer.append(onnx.numpy_helper.from_array(np.array(source.weights["basis"]), "basis"))
        result.producer_name = "tiepoints"
        write_whole(path, sealed(result, source.about | {"precision": "int8"}))


def _needed(graph: Any, values: list[str]) -> set[str]:
    """The names of the nodes from which these values come."""
    needed, names = set(values), set[str]()
    for node in reversed(graph.node):  # in topological order, by the standard
        if needed.intersection(node.output):
            needed.update(node.input)
            names.add(node.name)
    return names


class _Calibration:
    """Hands out images as the run-time's calibration asks for them."""

    def __init__(self, images: list[NDArray[np.uint8]]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next input of the model, or None."""
        image = next(self._images, None)
        return None if image is None else {"image": (image * np.float32(1 / 255))[None, None]}


def _middles(photographs: Sequence[Path]) -> list[NDArray[np.uint8]]:
    """The middles of those photographs that can be read, all of one size; small ones go on as in a mirror."""
    found: list[NDArray[np.uint8]] = []
    for path in photographs:
        try:
            image = read(path, grey=True)
        except ImageError:  # the next one will do
            continue
        if min(image.shape) >= STRIDE:
            top, left = (max(0, (length - _EDGE) // 2) for length in image.shape)
            middle = image[top : top + _EDGE, left : left + _EDGE]
            below, right = (_EDGE - length for length in middle.shape)
            found.append(np.asarray(cv2.copyMakeBorder(middle, 0, below, 0, right, cv2.BORDER_REFLECT_101), np.uint8))
    return found
