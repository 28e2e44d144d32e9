"""How much work is done, counted and not timed: what makes tiepoints slow again fails here."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.extraction.model import NORMALISED, released
from tiepoints.extraction.onnx_file import OnnxFile


@pytest.mark.parametrize(("k", "gigaflop"), [(2, 5.11), (4, 5.29), (8, 5.64)])
def test_the_network_computes_no_more_than_it_did(k: int, gigaflop: float) -> None:
    torch = pytest.importorskip("torch", reason="counting needs the extra train")
    from torch.utils.flop_counter import FlopCounterMode

    from tiepoints.training.network import SIZES, MDNet

    network = MDNet(replace(SIZES["mdnet"], sets=(k,))).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 1, 480, 640))
    assert counter.get_total_flops() / 1e9 == pytest.approx(gigaflop, rel=0.01)


@pytest.mark.parametrize("k", [2, 4, 8])
def test_run_times_fold_all_that_can_be_folded(k: int, tmp_path: Path) -> None:
    """No batch normalisation remains beside the convolutions, no pixel shuffle, and nothing of the other heads.

    The sums of the feature pyramid are done within its convolutions.
    """
    onnx = pytest.importorskip("onnx", reason="reading the graph needs the extra train")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    graph = OnnxFile(released().read_bytes()).cut([f"cells_{k}", "descriptors"], NORMALISED)
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    folded = onnx.load(tmp_path / "folded.onnx").graph
    operations = Counter(node.op_type for node in folded.node)
    assert operations["Conv"] == 28
    assert set(operations) <= {"Add", "Concat", "Conv", "Relu", "Resize", "Transpose"}
    assert [output.name for output in folded.output] == ["descriptors", f"cells_{k}"]


def peak_megabytes(extractor: tp.Extractor, image: NDArray[np.uint8]) -> float:
    """Of what Python and NumPy allocate for one image, the run-time's own memory aside."""
    extractor(image)
    tracemalloc.start()
    extractor(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def test_memory_grows_no_faster_than_the_pixels(examples: Path) -> None:
    photograph = tp.read(examples / "desk_1.jpg", grey=True)
    extractor = tp.load("mdnet")
    small, large = (
        peak_megabytes(extractor, np.asarray(cv2.resize(photograph, size), np.uint8))
        for size in ((640, 480), (1280, 960))
    )
    assert small < 15
    assert large < 4.4 * small


def test_sets_meet_only_their_own(examples: Path) -> None:
    """The comparisons of descriptors fall to 1 / k of all pairs."""
    image = tp.read(examples / "desk_1.jpg")
    for k in (2, 4, 8):
        features = tp.load("mdnet", sets=k)(image)
        assert features.sets is not None
        counts = np.bincount(features.sets).astype(float)
        assert (counts**2).sum() < 1.05 / k * len(features) ** 2
