"""LIFT's detector: both views show the same, the loss falls, the model says what the network says."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import tiepoints as tp
from tiepoints.extraction.lift import ScoreModel

torch = pytest.importorskip("torch", reason="training needs torch")

from tiepoints.training.lift_detector import (  # noqa: E402
    Detector,
    DetectorPairs,
    detector_pairs,
    save_detector,
    train_detector,
)

STEPS = 120


@pytest.fixture(scope="module")
def pairs(one_broken: list[Path]) -> DetectorPairs:
    return detector_pairs(one_broken, seed=1)


def test_both_views_show_the_same(pairs: DetectorPairs) -> None:
    alike = []
    for (a, b), b_from_a in zip(pairs.views, pairs.b_from_a, strict=True):
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        there, seen = (cv2.warpPerspective(each, b_from_a, (160, 160), flags=flags) for each in (b, np.ones_like(b)))
        alike.append(np.corrcoef(there[seen > 0], a[seen > 0])[0, 1])
    assert np.median(alike) > 0.8


def test_it_begins_with_blobs_and_not_with_edges() -> None:
    torch.manual_seed(0)
    image = np.full((60, 140), 100, np.float32)
    image[30, 30], image[30, 70], image[:, 110:] = 3000, -2800, 215  # blurred, as much brighter as what is beside them
    image = cv2.GaussianBlur(image, (0, 0), 2)
    with torch.inference_mode():
        scores = Detector()(torch.from_numpy(image / image.std())[None, None])[0, 0].numpy()
    blobs = [scores[22 - 4 : 22 + 5, x - 8 - 4 : x - 8 + 5] for x in (30, 70)]
    for part in blobs:
        assert np.abs(np.array(np.unravel_index(part.argmax(), part.shape)) - 4).max() <= 1
    assert scores[:, 110 - 20 :].max() < 0.2 * min(part.max() for part in blobs)


def test_the_answers_of_the_basis_give_the_same_scores(pairs: DetectorPairs) -> None:
    views = torch.from_numpy(pairs.views[0, :, None].astype(np.float32)) / 50
    network = Detector()
    with torch.inference_mode():
        torch.testing.assert_close(network.of_answers(network.answers(views)), network(views), rtol=1e-3, atol=1e-3)
        assert network.kernels().sum(dim=(1, 2, 3)).abs().max() < 1e-4  # how bright an image is does not matter


def test_a_short_training_lowers_the_loss_and_its_model_is_the_network(
    pairs: DetectorPairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, examples: Path
) -> None:
    # A clock on which every look takes a second, and each step looks twice: on a busy machine the same steps are made.
    monkeypatch.setattr("tiepoints.training.timed.time", SimpleNamespace(monotonic=itertools.count().__next__))
    lines: list[str] = []
    network, steps = train_detector(pairs, minutes=STEPS / 30, batch=2, log=lines.append)
    assert steps == STEPS and not network.training
    first, last = (sum(map(float, line.split(" ")[3::2])) for line in (lines[0], lines[-1]))
    assert last < 0.98 * first
    save_detector(network, tmp_path / "network.onnx", {"note": "short"})
    model = ScoreModel(tmp_path / "network.onnx", 1)
    assert model.about["note"] == "short"
    image = tp.read(examples / "desk_1.jpg", grey=True)[:90, :121]
    around = cv2.copyMakeBorder(image, 8, 8, 8, 8, borderType=cv2.BORDER_REPLICATE).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(around / np.float32(image.std()))[None, None])[0, 0].numpy()
    scores = model(image)
    assert scores.shape == image.shape
    assert np.abs(scores - expected).max() < 0.01 * expected.std()


def test_too_little_to_train_on(pairs: DetectorPairs) -> None:
    with pytest.raises(tp.TrainingError, match="fewer than a batch of 9999"):
        train_detector(pairs, minutes=1, batch=9999)
