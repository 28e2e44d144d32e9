"""A network that knows the descriptors of the rotated image, learned from its own four looks."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tiepoints as tp

torch = pytest.importorskip("torch", reason="training needs torch")

from tiepoints.training.average import average_of  # noqa: E402
from tiepoints.training.cache import ArrayCache  # noqa: E402
from tiepoints.training.export import read_network, save_model  # noqa: E402
from tiepoints.training.network import Config, MDNet  # noqa: E402
from tiepoints.training.photographs import Photographs, prepare  # noqa: E402
from tiepoints.training.rotations import (  # noqa: E402
    begin_with,
    descriptors_loss,
    directions_of_rotations,
    four_looks,
    importance,
    learn_rotations,
    ranking_loss,
    turning_into,
)

SMALL = Config(
    sets=(2, 4), descriptor_size=16, channels=(16, 16, 16, 16, 16), depths=(0, 0, 1, 1, 1), pyramid=(16, 16, 16),
    fused=16, head=0, teacher="other", teacher_size=24,
)  # fmt: skip


@pytest.fixture(scope="module")
def seen(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    cache = ArrayCache(tmp_path_factory.mktemp("cache"), 2**30)
    return prepare(sorted(photographs.iterdir()), cache, torch.device("cpu"))[0]


def image_of(seen: Photographs, edge: int = 128) -> torch.Tensor:
    return torch.from_numpy(seen.pixels(3)[1:2, :edge, :edge].astype(np.float32) / 255)[None]


@pytest.fixture(scope="module")
def network(seen: Photographs) -> MDNet:
    """Random weights, normalised so that descriptors differ from place to place, and from rotation to rotation."""
    torch.manual_seed(0)
    found = MDNet(SMALL)
    for module in found.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the statistics of all that is seen
    with torch.no_grad():
        for turns in range(4):
            found.train()(torch.rot90(image_of(seen), turns, (2, 3)))
    found.basis.copy_(torch.linalg.qr(torch.randn(24, 16)).Q)
    return found.eval()


def test_directions_are_orthonormal_and_keep_the_order_of_the_parts() -> None:
    generator = torch.Generator().manual_seed(1)
    mixed = torch.randn(32, 32, generator=generator)
    descriptors = torch.randn(400, 4, 32, generator=generator) @ mixed
    directions = directions_of_rotations(descriptors, 16)
    torch.testing.assert_close(directions.T @ directions, torch.eye(16), atol=1e-5, rtol=0)
    parts = descriptors.flatten(1) @ directions
    moved = descriptors.roll(-1, 1).flatten(1) @ directions
    torch.testing.assert_close(moved, parts.roll(-4, 1), atol=1e-3, rtol=1e-4)


def test_directions_of_all_numbers_keep_everything_of_descriptors_that_know_rotations_already() -> None:
    parts = torch.randn(300, 8, generator=torch.Generator().manual_seed(2))
    descriptors = torch.stack([parts.roll(-2 * turns, 1) for turns in range(4)], dim=1)
    kept = descriptors.flatten(1) @ directions_of_rotations(descriptors, 8)
    torch.testing.assert_close((kept**2).sum(1), (descriptors.flatten(1) ** 2).sum(1), rtol=1e-4, atol=1e-4)


def test_descriptors_are_turned_into_the_space_of_others() -> None:
    generator = torch.Generator().manual_seed(3)
    ours = torch.nn.functional.normalize(torch.randn(200, 16, generator=generator), dim=1)
    # Some rotation of the space that keeps the order of the parts, and noise.
    turning = turning_into(torch.randn(50, 16, generator=generator), torch.randn(50, 16, generator=generator))
    torch.testing.assert_close(turning.T @ turning, torch.eye(16), atol=1e-5, rtol=0)
    torch.testing.assert_close((ours @ turning).roll(4, 1), ours.roll(4, 1) @ turning, atol=1e-5, rtol=0)
    theirs = ours @ turning + 0.01 * torch.randn(200, 16, generator=generator)
    torch.testing.assert_close(turning_into(ours, theirs), turning, atol=0.02, rtol=0)


@pytest.mark.parametrize("size", [0, 10, 36])
def test_sizes_that_have_no_four_parts_are_refused(size: int) -> None:
    with pytest.raises(tp.InvalidInputError, match=f"size is {size}"):
        directions_of_rotations(torch.randn(10, 4, 32), size)


def test_four_looks_are_in_the_frame_of_the_image(network: MDNet, seen: Photographs) -> None:
    image = image_of(seen)
    logits, descriptors = four_looks(network, image, [2])
    turned_logits, turned = four_looks(network, torch.rot90(image, 1, (2, 3)), [2])
    assert descriptors.shape == (1, 4, 16, 32, 32)
    torch.testing.assert_close(torch.rot90(turned_logits, -1, (2, 3)), logits, atol=0.02, rtol=0.02)
    back = torch.rot90(turned.flatten(0, 1), -1, (2, 3)).view(descriptors.shape)
    assert float((back * descriptors.roll(-1, 1)).sum(2).mean()) > 0.999


def test_mirrored_looks_see_the_mirror_image_the_same(network: MDNet, seen: Photographs) -> None:
    image = image_of(seen)
    logits, _ = four_looks(network, image, [2], mirrored=True)
    mirrored, _ = four_looks(network, image.flip(3), [2], mirrored=True)
    torch.testing.assert_close(mirrored.flip(3), logits, atol=0.02, rtol=0.02)
    alone = [four_looks(network, each, [2])[0] for each in (image, image.flip(3))]
    torch.testing.assert_close((alone[0] + alone[1].flip(3)) / 2, logits, atol=0.02, rtol=0.02)


def test_a_network_begins_with_mixed_descriptors(network: MDNet, seen: Photographs) -> None:
    mixing = torch.randn(16, 16, generator=torch.Generator().manual_seed(4))
    other = average_of(network)
    begin_with(other, mixing)
    with torch.no_grad():
        before, after = (one.trunk(image_of(seen))[1] for one in (network, other))
    torch.testing.assert_close(after, torch.einsum("bdhw,de->behw", before, mixing), atol=1e-4, rtol=1e-4)


def test_cells_count_by_their_highest_pixel() -> None:
    logits = torch.full((1, 2, 8, 8), -20.0)
    logits[0, 1, 5, 2] = 20.0
    torch.testing.assert_close(importance(logits), torch.tensor([[[0.05, 0.05], [1.05, 0.05]]]))


def test_only_cells_that_count_have_a_loss() -> None:
    descriptors = torch.nn.functional.normalize(torch.randn(2, 8, 4, 4), dim=1)
    weights = torch.zeros(2, 4, 4)
    weights[1, 2, 3], weights[0, 0, 1] = 3.0, 1.0
    wanted = descriptors.clone()
    wanted[:, :, 1] *= -1  # where nothing counts
    assert float(descriptors_loss(descriptors, wanted, weights)) == pytest.approx(0, abs=1e-6)
    wanted[1, :, 2, 3] *= -1
    assert float(descriptors_loss(descriptors, wanted, weights)) == pytest.approx(1.5, abs=1e-6)


def test_places_are_told_from_those_that_are_not_near() -> None:
    apart = torch.eye(16).view(1, 16, 4, 4)
    every, luck = torch.ones(1, 4, 4), torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(6))
    assert float(ranking_loss(apart, apart, every, luck)) < 1e-4
    same = apart.clone()
    same[0, :, 0, 3] = same[0, :, 0, 0]  # two places three cells apart are alike: each is one of two
    assert float(ranking_loss(same, same, every, luck)) == pytest.approx(2 * np.log(2) / 16, abs=1e-4)
    near = apart.clone()
    near[0, :, 0, 1] = near[0, :, 0, 0]  # neighbours may be alike
    assert float(ranking_loss(near, near, every, luck)) < 1e-4
    without = every.clone()
    without[0, 0, 3] = 0
    assert float(ranking_loss(same, same, without, luck)) < 1e-4, "a place that does not count is no rival"
    assert float(ranking_loss(apart.roll(2, 3), apart, every, luck)) > 5, "each is taken for another"


def test_a_network_learns_the_rotated_image(
    network: MDNet, seen: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock on which every step takes a second: on a busy machine the same steps are made.
    monkeypatch.setattr("tiepoints.training.timed.time", SimpleNamespace(monotonic=itertools.count().__next__))
    found, steps = learn_rotations(
        network, network, seen, minutes=6, crop=64, batch=4, learning_rate=5e-3, decay=0.9, seed=3
    )  # fmt: skip
    assert steps > 100 and found.config.rotations == 4 and network.config.rotations == 1

    def alike(one: MDNet, rotations: int) -> float:
        """How much descriptors of the rotated image are those of the image, once parts are moved back."""
        image = image_of(seen)
        with torch.no_grad():
            there, turned = (
                torch.nn.functional.normalize(one.trunk(each)[1], dim=1)
                for each in (image, torch.rot90(image, 1, (2, 3)).contiguous())
            )
        back = torch.rot90(turned, -1, (2, 3)).roll(16 // 4 if rotations == 4 else 0, 1)
        return float((back * there).sum(1)[:, 4:-4, 4:-4].mean())

    assert alike(found, 4) > 0.45 > 0.2 > alike(network, 1)
    assert alike(found, 1) < alike(found, 4) - 0.05, "parts do move"

    # The teacher's numbers come out of the descriptors that are learned.
    save_model(found, tmp_path / "found.onnx", {})
    save_model(network, tmp_path / "upright.onnx", {})
    extractor, upright = (tp.load("mdnet", weights=tmp_path / f"{name}.onnx") for name in ("found", "upright"))
    assert (extractor.rotation, extractor.looks, upright.rotation) == ("any", 1, "upright")
    photograph = (255 * image_of(seen, 256)[0, 0].numpy()).astype(np.uint8)
    features = extractor(photograph)
    assert features.rotations == 4 and features.descriptors.shape[1] == 16
    theirs = upright.dense(photograph)[1]
    ours = extractor.dense(photograph)[1]
    made = np.einsum("ed,dhw->ehw", read_network(tmp_path / "found.onnx")[0].basis.numpy(), ours)
    wanted = np.einsum("ed,dhw->ehw", network.basis.numpy(), theirs)
    cosines = (made * wanted).sum(0) / np.linalg.norm(made, axis=0) / np.linalg.norm(wanted, axis=0)
    assert cosines[4:-4, 4:-4].mean() > 0.3

    # After an interruption it goes on.
    again, _ = learn_rotations(found, network, seen, minutes=1, crop=64, batch=4, learning_rate=1e-4, seed=3)
    assert alike(again, 4) > 0.45
    with torch.no_grad():
        one, other = (torch.nn.functional.normalize(each.trunk(image_of(seen))[1], dim=1) for each in (found, again))
    assert float((one * other).sum(1).mean()) > 0.8, "it stays in its space"
    # And another one that begins without knowing gets there, too.
    third, _ = learn_rotations(
        network, network, seen, minutes=2, space=found, crop=64, batch=4, learning_rate=5e-3, decay=0.9, seed=4
    )  # fmt: skip
    with torch.no_grad():
        third_one = torch.nn.functional.normalize(third.trunk(image_of(seen))[1], dim=1)
    assert float((one * third_one).sum(1).mean()) > 0.5


def test_what_cannot_be_learned_is_refused(network: MDNet, seen: Photographs) -> None:
    knowing = MDNet(Config(**{**vars(SMALL), "rotations": 4}))
    with pytest.raises(tp.InvalidInputError, match="upright one"):
        learn_rotations(network, knowing, seen, minutes=1)
    other = MDNet(Config(**{**vars(SMALL), "descriptor_size": 8}))
    with pytest.raises(tp.InvalidInputError, match="descriptors of 8 numbers, the teacher of 16"):
        learn_rotations(other, network, seen, minutes=1)
    with pytest.raises(tp.InvalidInputError, match="gives the space does not know the rotated image"):
        learn_rotations(network, network, seen, minutes=1, space=network)
    only_four = MDNet(Config(**{**vars(SMALL), "sets": (4,)}))
    with pytest.raises(tp.InvalidInputError, match="no head of at most 2 sets in common"):
        learn_rotations(only_four, network, seen, minutes=1)
