"""The mean over eight views is what the views have in common, and a network learns it."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tiepoints as tp

torch = pytest.importorskip("torch", reason="training needs torch")

from tiepoints.training.cache import ArrayCache  # noqa: E402
from tiepoints.training.distillation import (  # noqa: E402
    _other_light,
    distil,
    distillation_loss,
    mean_of_views,
)
from tiepoints.training.export import read_network  # noqa: E402
from tiepoints.training.network import MDNet  # noqa: E402
from tiepoints.training.photographs import Photographs, prepare  # noqa: E402

HEADS = [2]


@pytest.fixture(scope="module")
def network() -> MDNet:
    return read_network(Path("mdnet-small"), HEADS)[0]


@pytest.fixture(scope="module")
def seen(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    cache = ArrayCache(tmp_path_factory.mktemp("cache"), 2**30)
    return prepare(sorted(photographs.iterdir()), cache, torch.device("cpu"))[0]


def test_the_mean_is_rotated_and_mirrored_as_the_image_is(network: MDNet) -> None:
    image = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    mean = mean_of_views(network, image, HEADS)
    assert mean.logits.shape == (2, 2, 64, 64) and mean.descriptors.shape == (2, 64, 16, 16)
    scale = float(mean.logits.std())
    for turns, mirrored in itertools.product(range(4), (False, True)):
        other = torch.rot90(image.flip(3) if mirrored else image, turns, (2, 3))
        expected = torch.rot90(mean.mirrored_logits if mirrored else mean.logits, turns, (2, 3))
        again = mean_of_views(network, other, HEADS)
        assert float((again.logits - expected).abs().mean()) < 0.02 * scale
    mirror = mean_of_views(network, image.flip(3), HEADS)
    torch.testing.assert_close(mean.mirrored, mirror.descriptors, atol=0.05, rtol=0)
    with torch.no_grad():
        logits, _ = network(image)
    assert float((logits[2] - mean.logits).abs().mean()) > 0.2 * scale, "one view is not the mean"


def test_heads_of_many_sets_are_not_averaged() -> None:
    """Which of four sets a place belongs to depends on how the image is rotated."""
    network, _ = read_network(Path("mdnet-small"), (2, 4))
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    mean = mean_of_views(network, image, [2, 4])
    mirror = mean.of_mirror_images()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        plain, mirrored = network(image)[0], network(image.flip(3))[0]
    torch.testing.assert_close(mean.logits[:, 2:], plain[4].float(), atol=0.1, rtol=0.02)
    torch.testing.assert_close(mirror.logits[:, 2:], mirrored[4].float(), atol=0.1, rtol=0.02)
    torch.testing.assert_close(mirror.logits[:, :2], mean.logits[:, :2].flip(3))
    assert float((mean.logits[:, :2] - plain[2].float()).abs().mean()) > 0.1


def test_the_loss_is_0_for_the_lesson_itself(network: MDNet) -> None:
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    mean = mean_of_views(network, image, HEADS)
    same = distillation_loss(mean.logits, mean.descriptors, mean)
    assert all(abs(float(value)) < 1e-5 for value in same.values())
    higher = distillation_loss(mean.logits + 1, -mean.descriptors, mean)
    assert float(higher["heights"]) == pytest.approx(1, abs=1e-4)
    assert float(higher["slopes"]) == pytest.approx(0, abs=1e-4)
    assert float(higher["descriptors"]) == pytest.approx(2, abs=1e-4)


def test_a_network_learns_the_mean(
    network: MDNet, seen: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock on which every step takes a second: on a busy machine the same steps are made.
    monkeypatch.setattr("tiepoints.training.timed.time", SimpleNamespace(monotonic=itertools.count().__next__))
    kept: list[int] = []
    told: list[str] = []
    start = copy.deepcopy(network)
    with torch.no_grad():
        start.detect["2"][-1].weight *= 1.4  # so that there is much to learn
    before = {name: value.clone() for name, value in start.state_dict().items()}
    found, steps = distil(
        start, network, seen, minutes=1, crop=64, batch=4, learning_rate=2e-3, decay=0.9,
        log=told.append, keep=lambda _, step: kept.append(step), keep_minutes=0.5,
    )  # fmt: skip
    assert 20 < steps < 60 and kept and "heights" in told[0]
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items()), "it is a copy's work"
    image = torch.from_numpy(seen.pixels(3)[1, :128, :128].astype("float32") / 255)[None, None]
    mean = mean_of_views(network, image, HEADS)
    losses = []
    for each in (start, found):
        with torch.no_grad():
            logits, described = each(image)
        together = torch.cat([logits[k] for k in HEADS], dim=1)
        unit = torch.nn.functional.normalize(described, dim=1)
        losses.append(distillation_loss(together, unit, mean))
    assert float(losses[1]["heights"]) < 0.5 * float(losses[0]["heights"])
    assert float(losses[1]["slopes"]) < 0.8 * float(losses[0]["slopes"])
    assert float(losses[1]["descriptors"]) < 0.05


def test_only_heads_of_many_sets_learn_another_trunk(seen: Photographs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiepoints.training.timed.time", SimpleNamespace(monotonic=itertools.count().__next__))
    old, _ = read_network(Path("mdnet-small"), (2, 4))
    new = copy.deepcopy(old)
    with torch.no_grad():
        new.detect_raise.bias += 0.05 * torch.randn(
            len(new.detect_raise.bias), generator=torch.Generator().manual_seed(2)
        )
        new.detect["4"][-1].weight.zero_()
    found, _ = distil(
        new, old, seen, minutes=1, crop=64, batch=4, learning_rate=5e-3, decay=0.9, heads_of_many=True
    )  # fmt: skip
    for name, value in found.state_dict().items():
        same = torch.equal(value, new.state_dict()[name])
        assert same != (name.startswith("detect.4") and value.is_floating_point()), name
    image = torch.from_numpy(seen.pixels(3)[1, :128, :128].astype("float32") / 255)[None, None]
    with torch.no_grad():
        wanted = old(image)[0][4]
        begun = copy.deepcopy(new)
        begun.detect["4"].load_state_dict(old.detect["4"].state_dict())
        errors = [float((each(image)[0][4] - wanted).abs().mean()) for each in (begun, found)]
    assert errors[1] < 0.9 * errors[0]


def test_a_loss_that_is_not_finite_ends_it(network: MDNet, seen: Photographs) -> None:
    broken = MDNet(network.config).eval()
    broken.load_state_dict({name: value * float("nan") for name, value in network.state_dict().items()})
    with pytest.raises(tp.TrainingError, match="not finite"):
        distil(broken, network, seen, minutes=1, crop=64, batch=2)


def test_other_light_is_gamma_brightness_and_noise() -> None:
    image = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    found = _other_light(image, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    gamma, factor = float(np.exp(rng.uniform(-0.5, 0.5))), float(rng.uniform(0.6, 1.2))
    noise = torch.from_numpy(rng.normal(size=(1, 32, 32)).astype(np.float32)) * rng.uniform(0, 0.02)
    torch.testing.assert_close(found, (image.clamp(min=1e-4) ** gamma * factor + noise).clamp(0, 1))
    assert torch.equal(image, before) and not torch.equal(found, image)
