"""LIFT's orientation estimator and descriptor: patches correspond, losses fall, models say what the networks say."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.extraction.patch_model import PatchModel
from tiepoints.extraction.published import PARTS

torch = pytest.importorskip("torch", reason="training needs torch")

from tiepoints.training.hardnet import patch_pairs, train_hardnet  # noqa: E402
from tiepoints.training.lift import (  # noqa: E402
    Descriptor,
    OrientationEstimator,
    OrientationPairs,
    hinging,
    orientation_pairs,
    save_descriptor,
    train_orientation,
)
from tiepoints.training.patch_models import save_patch_model, shipped_hardnet  # noqa: E402

STEPS = 100


@pytest.fixture(scope="module")
def pairs(one_broken: list[Path]) -> OrientationPairs:
    return orientation_pairs(one_broken, seed=1)


def likeness(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1])


def test_both_patches_show_the_same_once_they_are_turned(pairs: OrientationPairs) -> None:
    assert len(pairs) > 40
    alike = []
    for a, b, turn in zip(pairs.a, pairs.b, pairs.turns, strict=True):
        back = cv2.warpAffine(b, cv2.getRotationMatrix2D((23.5, 23.5), float(np.rad2deg(turn)), 1), (48, 48))
        alike.append(likeness(back[14:34, 14:34], a[14:34, 14:34]))
    assert np.median(alike) > 0.8


def test_hinging_is_the_formula() -> None:
    values = torch.randn(2, 2 * 3 * 5, 4, generator=torch.Generator().manual_seed(0))
    out = hinging(values, n=2, m=3)
    assert out.shape == (2, 5, 4)
    for channel in range(5):
        v = values.numpy()[:, channel::5]  # (2, n m, 4)
        expected = v[:, :3].max(axis=1) - v[:, 3:].max(axis=1)
        np.testing.assert_allclose(out.numpy()[:, channel], expected, rtol=1e-6)
    assert torch.equal(hinging(values, n=1, m=1), values)


def test_the_shipped_hardnet_in_torch(pairs: OrientationPairs) -> None:
    path = PARTS["hardnet"].model
    assert path is not None
    patches = pairs.a[:7, 8:40, 8:40].astype(np.float32)
    with torch.inference_mode():
        mine = shipped_hardnet()(torch.from_numpy(patches[:, None])).numpy()
    np.testing.assert_allclose(mine, PatchModel(path, 1)(patches), atol=1e-5)


def _turn_error(network: OrientationEstimator, pairs: OrientationPairs, folder: Path) -> float:
    """1 - cosine of the error of the turn between both views, of the exported network."""
    save_patch_model(network, folder / "network.onnx", {})
    model = PatchModel(folder / "network.onnx", 1)
    a, b = (model(each[:, 8:40, 8:40].astype(np.float32)) for each in (pairs.a, pairs.b))
    turn = np.arctan2(b[:, 1], b[:, 0]) - np.arctan2(a[:, 1], a[:, 0])
    return float(1 - np.cos(turn - pairs.turns).mean())


def test_a_short_training_learns_the_turns_and_its_model(
    pairs: OrientationPairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a network that has learned nothing the answers for turned patches differ by any angle."""
    quarters = np.arange(len(pairs)) % 4
    turned = np.stack([np.rot90(patch, int(k)) for patch, k in zip(pairs.b, quarters, strict=True)])
    toy = replace(pairs, b=turned, turns=(pairs.turns - quarters * np.pi / 2).astype(np.float32))
    torch.manual_seed(0)
    # A clock on which every look takes a second, and each step looks twice: on a busy machine the same steps are made.
    monkeypatch.setattr("tiepoints.training.timed.time", SimpleNamespace(monotonic=itertools.count().__next__))
    network, steps = train_orientation(toy, shipped_hardnet(), minutes=STEPS / 30, batch=16)
    assert steps == STEPS and not network.training
    before, after = (_turn_error(each, toy, tmp_path) for each in (OrientationEstimator(), network))
    assert after < 0.7 * before
    patches = pairs.a[:9, 8:40, 8:40].astype(np.float32)
    with torch.inference_mode():
        flat = patches.reshape(9, -1)
        mean, deviation = flat.mean(axis=1)[:, None, None], flat.std(axis=1, ddof=1)[:, None, None]
        expected = network(torch.from_numpy(((patches - mean) / deviation)[:, None])).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(PatchModel(tmp_path / "network.onnx", 1)(patches), expected, atol=1e-3)


def test_too_little_to_train_on(pairs: OrientationPairs, tmp_path: Path) -> None:
    with pytest.raises(tp.TrainingError, match="fewer than a batch of 9999"):
        train_orientation(pairs, shipped_hardnet(), minutes=1, batch=9999)
    tp.save_image(tmp_path / "grey.png", np.full((64, 64), 90, np.uint8))
    with pytest.raises(tp.TrainingError, match="no keypoint"):
        orientation_pairs([tmp_path / "grey.png"])


def test_a_short_training_of_the_descriptor_and_its_model(
    one_broken: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = patch_pairs(one_broken, side=Descriptor.side, seed=1)
    assert pairs.a.shape[1:] == (64, 64) and np.median(list(map(likeness, pairs.a, pairs.b))) > 0.7
    monkeypatch.setattr("tiepoints.training.timed.time", SimpleNamespace(monotonic=itertools.count().__next__))
    network, steps = train_hardnet(pairs, Descriptor(), minutes=0.5, batch=16)
    assert steps > 5
    save_descriptor(network, tmp_path / "network.onnx", {})
    model = PatchModel(tmp_path / "network.onnx", 1)
    patches = pairs.a[:9].astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(patches[:, None])).numpy()
    assert model.side == 64
    np.testing.assert_allclose(model(patches), expected, atol=5e-3)  # its weights have 16 bits
    assert np.abs(model(patches) - Descriptor()(torch.from_numpy(patches[:, None])).detach().numpy()).max() > 0.05
