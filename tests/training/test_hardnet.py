"""HardNet: pairs of patches show the same, the loss is the paper's, the model says what the network says."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tiepoints as tp
from tiepoints.extraction.patch_model import PatchModel

torch = pytest.importorskip("torch", reason="training needs torch")

from tiepoints.extraction.torch.patches import HardNet  # noqa: E402
from tiepoints.training.hardnet import (  # noqa: E402
    PatchPairs,
    hardnet_loss,
    patch_pairs,
    save_hardnet,
    train_hardnet,
)
from tiepoints.training.patch_models import read_hardnet  # noqa: E402


@pytest.fixture(scope="module")
def pairs(one_broken: list[Path]) -> PatchPairs:
    return patch_pairs(one_broken, seed=1)


def test_pairs_show_the_same(pairs: PatchPairs, examples: Path) -> None:
    """The patches of a pair correlate, those of different pairs do not; the file that is no photograph is left out."""
    assert len(pairs) > 60 and set(pairs.photograph.tolist()) == {1, 2}

    def normal(patches: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        flat = patches.reshape(len(patches), -1).astype(np.float64)
        flat -= flat.mean(axis=1, keepdims=True)
        return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9))

    likeness = normal(pairs.a) @ normal(pairs.b).T
    assert np.median(np.diag(likeness)) > 0.7
    assert np.median(np.abs(likeness[~np.eye(len(pairs), dtype=bool)])) < 0.35
    again = patch_pairs([examples / "desk_1.jpg"], seed=1)
    assert len(again) and not np.array_equal(again.a[:5], pairs.a[:5])  # each photograph has random numbers of its own


def test_no_photograph_with_keypoints(tmp_path: Path) -> None:
    tp.save_image(tmp_path / "grey.png", np.full((64, 64), 90, np.uint8))
    with pytest.raises(tp.TrainingError, match="no keypoint"):
        patch_pairs([tmp_path / "grey.png", tmp_path / "absent.png"])


def test_the_loss_takes_the_hardest_negative_that_is_another_point() -> None:
    torch.manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(6, 8), dim=1) for _ in range(2))
    apart = ~torch.eye(6, dtype=torch.bool)
    apart[0, 1] = apart[1, 0] = False
    distance = torch.cdist(a, b)
    expected = 0.0
    for i in range(6):
        others = [float(distance[i, j]) for j in range(6) if apart[i, j]] + [
            float(distance[j, i]) for j in range(6) if apart[j, i]
        ]
        expected += max(0.0, 1 + float(distance[i, i]) - min(others)) / 6
    assert float(hardnet_loss(a, b, apart)) == pytest.approx(expected, abs=1e-4)


def test_a_short_training_and_its_model(pairs: PatchPairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    # A clock on which every look takes a second: on any machine the same steps are made.
    monkeypatch.setattr("tiepoints.training.timed.time", SimpleNamespace(monotonic=itertools.count().__next__))
    network, steps = train_hardnet(pairs, HardNet(), minutes=0.1, batch=32, log=lines.append)
    assert steps >= 1 and not network.training
    path = tmp_path / "hardnet.onnx"
    save_hardnet(network, path, {"note": "a test"})
    model = PatchModel(path, threads=1)
    with torch.inference_mode():
        again = read_hardnet(path)(torch.from_numpy(pairs.a[:9, None].astype(np.float32))).numpy()
    np.testing.assert_allclose(again, model(pairs.a[:9].astype(np.float32)), atol=1e-5)
    assert model.about["note"] == "a test" and model.side == 32
    patches = pairs.a[:9].astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(patches[:, None])).numpy()
    np.testing.assert_allclose(model(patches), expected, atol=5e-3)  # its weights have 16 bits
    assert model(patches[:0]).shape == (0, 128)
    damaged = path.read_bytes()
    path.write_bytes(damaged[:5000] + bytes([damaged[5000] ^ 1]) + damaged[5001:])
    with pytest.raises(tp.WeightsError, match=r"hardnet.onnx: is no model of patches, or damaged"):
        PatchModel(path)
    with pytest.raises(tp.TrainingError, match="fewer than a batch of 999"):
        train_hardnet(pairs, HardNet(), minutes=1, batch=999)
