"""The networks agree with what their authors' code gave for the same input: maps, keypoints, descriptors.

The files of ``parity`` hold the outputs, and for each map the rounding: how far 32 from 64 bits are apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tiepoints.weights import WeightFile, find

torch = pytest.importorskip("torch", reason="the networks need torch")
base = pytest.importorskip("tiepoints.extraction.torch.base")

IMAGES = ("a", "b")


@pytest.fixture(scope="module")
def parity(shared: Path) -> Path:
    folder = shared / "parity"
    if not folder.is_dir():
        pytest.skip(f"no parity/ in {shared}")
    return folder


def network(module: str, variant: str, file: str) -> Any:
    path = find(WeightFile(file, "", ""))
    if path is None:
        pytest.skip(f"{file} is not in TIEPOINTS_WEIGHTS")
    return base.build(module, variant, path, "cpu")


def check_map(stored: Any, key: str, ours: Any, *, least: float = 1e-4) -> None:
    """Within 10 times the rounding that the file states, or `least` of the largest value."""
    stride = int(stored[f"{key}_stride"])
    ours = ours.detach().numpy()
    assert ours.shape == tuple(stored[f"{key}_full_shape"])
    theirs = stored[key]
    limit = max(10 * float(stored[f"{key}_f64diff"]), least * np.abs(theirs).max())
    assert np.abs(ours[..., ::stride, ::stride] - theirs).max() < limit


def check_keypoints(stored: Any, prefix: str, xy: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
    """99 % of the official keypoints are ours too, within .01 px and with the same score."""
    theirs = stored[f"{prefix}keypoints"]
    assert len(xy) == len(theirs)
    distance = np.linalg.norm(theirs[:, None] - xy[None], axis=2)
    near = distance.min(axis=1) < 0.01
    assert near.mean() >= 0.99
    ours = scores[distance.argmin(axis=1)]
    np.testing.assert_allclose(ours[near], stored[f"{prefix}scores"][near], rtol=1e-3, atol=1e-4)


def check_descriptors(stored: Any, prefix: str, dense: Any, shift: float = 0.0) -> None:
    """At the official keypoints, which each in its own way may cut to a pixel: one in 500 may be another."""
    xy = torch.tensor(stored[f"{prefix}keypoints"]) + shift
    with torch.inference_mode():
        (ours,) = dense.describe([xy])
    off = np.abs(ours.numpy() - stored[f"{prefix}descriptors"]).max(axis=1)
    assert np.sort(off)[-2] < 1e-3


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("variant", ["n16", "t16"])
def test_aliked(variant: str, image: str, parity: Path) -> None:
    net = network("aliked", variant, f"aliked-{variant}.pth")
    with np.load(parity / f"aliked_{image}.npz") as stored, torch.inference_mode():
        given = torch.tensor(stored["input"])
        feature_map, score_map = net.maps(given)
        check_map(stored, f"{variant}_score_map", score_map)
        check_map(stored, f"{variant}_feature_map", feature_map)
        dense = net(given)
        (found,) = net.keypoints(dense, 500, 0.0)
        check_keypoints(stored, f"{variant}_", found.xy.numpy(), found.scores.numpy())
        check_descriptors(stored, f"{variant}_", dense)
