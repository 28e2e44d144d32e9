"""The network: its outputs' shapes for any k, and what its layers guarantee."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra train")

from tiepoints.training.network import Config, MDNet  # noqa: E402

SMALL = Config(channels=(16, 16, 16, 16), depths=(0, 0, 0, 0), fused=16, head=16, descriptor_size=32)


@pytest.mark.parametrize("k", [1, 2, 3, 8])
def test_shapes(k: int) -> None:
    network = MDNet(Config(sets=k)).eval()
    logits, described = network(torch.rand(2, 1, 48, 80))
    assert logits.shape == (2, k, 48, 80)
    assert described.shape == (2, 64, 12, 20)


def test_light_does_not_matter() -> None:
    """Each image is normalised by its own mean and contrast."""
    torch.manual_seed(0)
    network = MDNet(SMALL).eval()
    image = torch.rand(1, 1, 64, 64)
    for plain, relit in zip(network(image), network(0.2 + 0.5 * image), strict=True):
        torch.testing.assert_close(plain, relit, atol=1e-3, rtol=1e-3)


def test_a_blank_image_gives_finite_numbers() -> None:
    for value in MDNet(SMALL).eval()(torch.full((1, 1, 64, 64), 0.5)):
        assert torch.isfinite(value).all()


def test_no_lattice_is_possible() -> None:
    """Whatever the head says at the same pixel of every cell comes out of the fixed blur flat."""
    torch.manual_seed(1)
    network = MDNet(SMALL).eval()
    with torch.no_grad():
        last = network.detect[-1]
        last.weight.zero_()
        last.bias.uniform_(-50, 50)
        last.bias[5] = 100.0  # a spike at pixel (1, 1) of every cell, in the first set
        logits, _ = network(torch.rand(1, 1, 64, 64))
    inner = logits[..., 16:48, 16:48]
    assert (inner.amax(dim=(2, 3)) - inner.amin(dim=(2, 3))).abs().max().item() < 1e-4
    assert inner[0, 0].mean().item() == pytest.approx(last.bias[:4].mean().item(), abs=1e-4)


def test_config_survives_as_plain_values() -> None:
    config = Config(sets=4, channels=(8, 16, 32, 48))
    assert Config.from_dict(config.as_dict()) == config
