"""ASLFeat's training: how it begins, the paper's loss, a few steps, and the file that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp

torch = pytest.importorskip("torch", reason="training needs torch")
from torch.nn import functional as F  # noqa: E402

from tiepoints.training.aslfeat import aslfeat_loss, begun, save_aslfeat, train_aslfeat  # noqa: E402
from tiepoints.training.cache import ArrayCache  # noqa: E402
from tiepoints.training.pairs import Pairs  # noqa: E402
from tiepoints.training.patch_models import shipped_hardnet  # noqa: E402
from tiepoints.training.photographs import prepare  # noqa: E402
from tiepoints.training.warps import Warps  # noqa: E402


def test_it_begins_with_the_convolutions_of_hardnet_and_plain_ones() -> None:
    network = begun().eval()
    first = shipped_hardnet().features[0]
    torch.testing.assert_close(network.convs["conv0"].weight, first.weight)  # type: ignore[union-attr]
    features = torch.randn(1, 128, 6, 7)
    layer = network.convs["conv6"]
    deformed = layer(features)
    layer.plain = True  # type: ignore[union-attr] # which is faster
    torch.testing.assert_close(layer(features), deformed)


def test_the_loss_counts_each_correspondence_as_much_as_both_scores_say() -> None:
    torch.manual_seed(0)
    a, b = (F.normalize(torch.randn(6, 8), dim=1) for _ in range(2))
    apart = ~torch.eye(6, dtype=torch.bool)
    apart[0, 1] = apart[1, 0] = False
    usable, scores = torch.tensor([1.0, 1, 1, 1, 1, 0]), torch.rand(6)
    distance = torch.cdist(a, b)
    total = shares = 0.0
    for i in range(5):
        others = [j for j in range(5) if apart[i, j]]
        hardest = min(min(float(distance[i, j]), float(distance[j, i])) for j in others)
        shares += float(scores[i])
        total += float(scores[i]) * (max(0.0, float(distance[i, i]) - 0.2) + max(0.0, 1 - hardest))
    assert float(aslfeat_loss(a, b, scores, apart, usable)) == pytest.approx(total / shares, abs=1e-4)
    assert float(aslfeat_loss(a, b, scores, apart, torch.zeros(6))) == 0


def test_a_short_training_and_its_file(photographs: Path, tmp_path: Path, texture: NDArray[np.uint8]) -> None:
    found, _ = prepare(sorted(photographs.glob("*.png")), ArrayCache(tmp_path, 2**30), torch.device("cpu"))
    kept: list[int] = []
    network, steps = train_aslfeat(
        Pairs(found, Warps(size=64), seed=0),
        minutes=0.05,
        batch=2,
        keep=lambda network, step: kept.append(step),
        keep_minutes=0,
    )
    assert steps >= 1 and kept == list(range(1, steps + 1)) and not network.training
    before, after = begun().state_dict(), network.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in ("largest", "convs.conv0.weight"))
    path = tmp_path / "mine.npz"
    save_aslfeat(network, path, {"note": "a test"})
    with np.load(path) as content:
        assert json.loads(str(content["about"])) == {"note": "a test"}
        assert content["convs.conv1.weight"].dtype == np.float16
    image = texture[:80, :96]
    extractor = tp.load("aslfeat", weights=path, max_keypoints=50, threshold=0.0, threads=1)
    features = extractor(image)
    assert len(features) > 10
    with torch.inference_mode():
        dense = network(torch.from_numpy(image[None, None] / np.float32(255)))
        (expected,) = dense.describe([torch.tensor(features.keypoints)])
    np.testing.assert_allclose(features.descriptors, expected, atol=1e-2)  # its weights have 16 bits
    data = path.read_bytes()
    path.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
    with pytest.raises(tp.WeightsError, match=r"mine.npz: .* of aslfeat"):
        tp.load("aslfeat", weights=path)
