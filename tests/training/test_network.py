"""The network: its outputs' shapes for any k, and what its layers guarantee."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra train")

import tiepoints as tp  # noqa: E402
from tiepoints.training.network import SIZES, Config, MDNet  # noqa: E402

SMALL = Config(
    sets=(1, 2, 3, 8),
    channels=(16, 16, 16, 16, 16),
    depths=(0, 0, 0, 1, 0),
    pyramid=(16, 16, 16),
    fused=16,
    descriptor_size=32,
    teacher="sift",
    teacher_size=128,
)


@pytest.mark.parametrize("name", SIZES)
def test_shapes(name: str) -> None:
    network = MDNet(SIZES[name]).eval()
    logits, described = network(torch.rand(2, 1, 64, 96))
    assert {k: value.shape for k, value in logits.items()} == {k: (2, k, 64, 96) for k in (1, 2, 4, 8)}
    assert described.shape == (2, 64, 16, 24)


def test_heads_share_all_but_themselves() -> None:
    """A loss on one head leaves the others alone and trains the trunk; the teacher's basis is no parameter."""
    network = MDNet(SMALL)
    logits, _ = network(torch.rand(2, 1, 64, 64))
    logits[3].sum().backward()
    trained = {name for name, value in network.named_parameters() if value.grad is not None}
    assert "stages.0.0.0.weight" in trained and "detect_raise.weight" in trained
    assert {name.split(".")[1] for name in trained if name.startswith("detect.")} == {"3"}
    assert network.state_dict()["basis"].shape == (128, 32) and "basis" not in dict(network.named_parameters())


@pytest.mark.parametrize("sets", [(), (0,), (2, 2), (256,), (-1, 1)])
def test_impossible_numbers_of_sets_are_refused(sets: tuple[int, ...]) -> None:
    with pytest.raises(tp.InvalidInputError, match="one or more different numbers from 1 to 255"):
        Config(sets=sets)


def test_light_does_not_matter() -> None:
    """Each image is normalised by its own mean and contrast."""
    torch.manual_seed(0)
    network = MDNet(SMALL).eval()
    image = torch.rand(1, 1, 64, 64)
    for plain, relit in zip(network.trunk(image), network.trunk(0.2 + 0.5 * image), strict=True):
        torch.testing.assert_close(plain, relit, atol=1e-3, rtol=1e-3)


def test_a_blank_image_gives_finite_numbers() -> None:
    logits, described = MDNet(SMALL).eval()(torch.full((1, 1, 64, 64), 0.5))
    for value in (*logits.values(), described):
        assert torch.isfinite(value).all()


def test_no_lattice_is_possible() -> None:
    """Whatever the head says at the same pixel of every cell comes out of the fixed blur flat."""
    torch.manual_seed(1)
    network = MDNet(SMALL).eval()
    with torch.no_grad():
        last = network.detect["2"][-1]
        last.weight.zero_()
        last.bias.uniform_(-50, 50)
        last.bias[5] = 100.0  # a spike at pixel (1, 1) of every cell, in the first set
        logits, _ = network(torch.rand(1, 1, 64, 64))
    inner = logits[2][..., 16:48, 16:48]
    assert (inner.amax(dim=(2, 3)) - inner.amin(dim=(2, 3))).abs().max().item() < 1e-4
    assert inner[0, 0].mean().item() == pytest.approx(last.bias[:4].mean().item(), abs=1e-4)


def test_config_survives_as_plain_values() -> None:
    config = Config(sets=(4,), channels=(8, 16, 32, 48, 48), teacher="sift", teacher_size=128, rotations=4)
    assert Config.from_dict(config.as_dict()) == config
    older = {name: value for name, value in config.as_dict().items() if name != "rotations"}
    assert Config.from_dict(older).rotations == 1


def test_the_teachers_directions() -> None:
    """The basis itself; of descriptors that know the rotated image's, what the basis is made of."""
    network = MDNet(SMALL)
    basis, nothing = network.teacher_directions()
    assert basis is network.basis and nothing is None
    network = MDNet(replace(SMALL, rotations=4))
    network.basis.normal_()
    directions, factor = network.teacher_directions()
    assert factor is not None
    torch.testing.assert_close(directions.T @ directions, torch.eye(32), atol=1e-5, rtol=0)
    described = torch.randn(5, 32)
    torch.testing.assert_close(described @ factor.T @ directions.T, described @ network.basis.T, atol=1e-3, rtol=1e-3)
