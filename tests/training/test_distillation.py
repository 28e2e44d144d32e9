"""The mean over views is what the views have in common, and a network learns it."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp

torch = pytest.importorskip("torch", reason="training needs torch")

from tiepoints.training.cache import ArrayCache  # noqa: E402
from tiepoints.training.distillation import (  # noqa: E402
    _other_light,
    distil,
    distillation_loss,
    mean_of_views,
)
from tiepoints.training.export import read_network, save_model  # noqa: E402
from tiepoints.training.network import Config, MDNet  # noqa: E402
from tiepoints.training.photographs import Photographs, prepare  # noqa: E402

HEADS = [2]


@pytest.fixture(scope="module")
def network() -> MDNet:
    return read_network(Path("mdnet-small"), HEADS)[0]


@pytest.fixture(scope="module")
def seen(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    cache = ArrayCache(tmp_path_factory.mktemp("cache"), 2**30)
    return prepare(sorted(photographs.iterdir()), cache, torch.device("cpu"))[0]


def image_of(seen: Photographs, edge: int = 128) -> NDArray[np.float32]:
    """A grey square (1, edge, edge) of a photograph."""
    return seen.pixels(3)[1:2, :edge, :edge].astype(np.float32) / 255


def said(network: MDNet, image: NDArray[np.float32], heads: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        logits, described = network(torch.from_numpy(np.ascontiguousarray(image))[None])
    return torch.cat([logits[k] for k in heads], dim=1), torch.nn.functional.normalize(described, dim=1)


def inner(values: torch.Tensor) -> torch.Tensor:
    """What is not near the edge."""
    border = values.shape[-1] // 8
    return values[..., border:-border, border:-border]


def test_the_mean_depends_less_on_how_the_image_is_rotated_and_mirrored(network: MDNet, seen: Photographs) -> None:
    image, rng = image_of(seen), np.random.default_rng(0)
    mean = mean_of_views(network, image, HEADS, rng)
    assert mean.logits.shape == (1, 2, 128, 128) and mean.descriptors.shape == (1, 64, 32, 32)
    logits, _ = said(network, image, HEADS)
    own, averaged = [], []
    for turns, mirrored in itertools.product(range(4), (False, True)):
        if turns or mirrored:
            other = np.ascontiguousarray(np.rot90(image[:, :, ::-1] if mirrored else image, turns, (1, 2)))
            for values, wanted, found in (
                (own, said(network, other, HEADS)[0], logits),
                (averaged, mean_of_views(network, other, HEADS, rng).logits, mean.logits),
            ):
                expected = torch.rot90(found.flip(3) if mirrored else found, turns, (2, 3))
                values.append(float(inner(wanted - expected).abs().mean()))
    assert np.mean(averaged) < 0.85 * np.mean(own)


def test_descriptors_and_heads_of_many_sets_are_averaged_over_small_changes_only(seen: Photographs) -> None:
    """Which of four sets a place belongs to depends on how the image is rotated, and so do descriptors."""
    network, _ = read_network(Path("mdnet-small"), (2, 4))
    image = image_of(seen)
    mean = mean_of_views(network, image, [2, 4], np.random.default_rng(0))
    logits, described = said(network, image, [2, 4])
    quarter, described_there = said(network, np.rot90(image, 1, (1, 2)), [2, 4])
    back = torch.rot90(quarter, -1, (2, 3))

    def likeness(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(np.corrcoef(inner(a).flatten().numpy(), inner(b).flatten().numpy())[0, 1])

    of_four = slice(2, 6)
    assert likeness(mean.logits[:, of_four], logits[:, of_four]) > 0.95
    assert likeness(mean.logits[:, of_four], back[:, of_four]) < 0.9
    assert float(inner((mean.descriptors * described).sum(dim=1)).mean()) > 0.9
    assert float(inner((mean.descriptors * torch.rot90(described_there, -1, (2, 3))).sum(dim=1)).mean()) < 0.6


def test_what_views_say_comes_back_to_its_place(seen: Photographs) -> None:
    """Of heads of many sets, which are not averaged over mirror images: these move peaks by a tenth of a pixel."""
    network, _ = read_network(Path("mdnet-small"), (4,))
    image = image_of(seen)
    several = np.repeat(image, 6, axis=0)
    mean = inner(mean_of_views(network, several, [4], np.random.default_rng(1)).logits.mean(dim=0))
    logits = said(network, image, [4])[0][0]
    for axis in (1, 2):
        left, middle, right = (float((inner(logits.roll(m, axis)) - mean).square().sum()) for m in (-1, 0, 1))
        assert middle < 0.5 * min(left, right)
        assert abs(0.5 * (left - right) / (left - 2 * middle + right)) < 0.1, "the minimum of the parabola"


def test_the_loss_is_0_for_the_lesson_itself(network: MDNet) -> None:
    image = np.random.default_rng(1).random((1, 64, 64), np.float32)
    mean = mean_of_views(network, image, HEADS, np.random.default_rng(0))
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
    image = image_of(seen)
    mean = mean_of_views(network, image, HEADS, np.random.default_rng(0))
    losses = [distillation_loss(*said(each, image, HEADS), mean) for each in (start, found)]
    assert float(losses[1]["heights"]) < 0.5 * float(losses[0]["heights"])
    assert float(losses[1]["slopes"]) < 0.8 * float(losses[0]["slopes"])
    assert float(losses[1]["descriptors"]) < 0.1


def test_a_network_takes_the_space_of_its_teachers_descriptors(
    seen: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they know of the rotated image, and what makes those of the teacher's teacher of them."""
    monkeypatch.setattr("tiepoints.training.timed.time", SimpleNamespace(monotonic=itertools.count().__next__))
    shape = {"sets": (2, 4), "channels": (8,) * 5, "depths": (0,) * 5, "pyramid": (8,) * 3, "fused": 8}
    student = MDNet(Config(**shape, descriptor_size=16)).eval()  # type: ignore[arg-type]
    wise = MDNet(
        Config(**shape, descriptor_size=16, teacher="aliked-n16", teacher_size=128, rotations=4)  # type: ignore[arg-type]
    ).eval()
    wise.basis.normal_()
    found, _ = distil(student, wise, seen, minutes=0.3, crop=64, batch=2)
    save_model(found, tmp_path / "found.onnx", {})
    features = tp.load("mdnet", weights=tmp_path / "found.onnx", max_keypoints=20)(image_of(seen)[0])
    assert features.rotations == 4 and features.to_teacher().descriptors.shape[1] == 128
    np.testing.assert_array_equal(features.teacher_basis, wise.basis)
    heads, _ = distil(student, wise, seen, minutes=0.3, crop=64, batch=2, heads_of_many=True)
    assert heads.config == student.config, "whose descriptors are as before"
    other = MDNet(Config(**shape, descriptor_size=8))  # type: ignore[arg-type]
    with pytest.raises(tp.InvalidInputError, match="descriptors of 8 numbers, the teacher of 16"):
        distil(other, wise, seen, minutes=1)


def test_only_heads_of_many_sets_learn_another_trunk(seen: Photographs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiepoints.training.timed.time", SimpleNamespace(monotonic=itertools.count().__next__))
    old, _ = read_network(Path("mdnet-small"), (2, 4))
    new = copy.deepcopy(old)
    with torch.no_grad():
        new.detect_raise.bias += 0.6 * torch.randn(
            len(new.detect_raise.bias), generator=torch.Generator().manual_seed(2)
        )
        new.detect["4"][-1].weight.zero_()
    found, _ = distil(
        new, old, seen, minutes=3, crop=64, batch=4, learning_rate=1e-2, decay=0.9, heads_of_many=True
    )  # fmt: skip
    for name, value in found.state_dict().items():
        same = torch.equal(value, new.state_dict()[name])
        assert same != (name.startswith("detect.4") and value.is_floating_point()), name
    image = image_of(seen)
    wanted = inner(mean_of_views(old, image, [4], np.random.default_rng(0)).logits)
    begun = copy.deepcopy(new)
    begun.detect["4"].load_state_dict(old.detect["4"].state_dict())
    errors = [float((inner(said(each, image, [4])[0]) - wanted).square().mean()) for each in (begun, found)]
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
