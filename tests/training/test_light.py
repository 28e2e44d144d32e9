"""Changes of light: each does what it is called, and JPEG's is the library's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="training needs the extra train")

from tiepoints.training.light import Light, draw_light, jpeg, relit  # noqa: E402

NOTHING = Light(None, None, None, None, None, None)


def images(texture: NDArray[np.uint8], count: int = 2) -> torch.Tensor:
    return torch.from_numpy(texture[:96, :96] / np.float32(255)).repeat(count, 1, 1)


@pytest.mark.parametrize("quality", [20, 50, 75, 90])
def test_jpeg_is_what_a_library_makes(texture: NDArray[np.uint8], quality: int) -> None:
    image = texture[:96, :96]
    _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    expected = cv2.imdecode(code, cv2.IMREAD_GRAYSCALE).astype(int)
    ours = jpeg(images(texture, 1), torch.tensor([float(quality)]))[0].mul(255).round().numpy()
    changed = np.abs(image.astype(int) - expected).mean()
    assert np.abs(ours - expected).mean() < 0.2 * changed


def test_only_what_was_drawn_changes_only_its_image(texture: NDArray[np.uint8]) -> None:
    kernel = np.zeros((9, 9), np.float32)
    kernel[4, 5] = 1
    noise = torch.randn(2, 96, 96, generator=torch.Generator().manual_seed(0))
    before = images(texture)
    for light, expected in (
        (NOTHING, before[0]),
        (NOTHING._replace(gamma=2.0), before[0].clamp(1e-4, 1) ** 2),
        (NOTHING._replace(contrast=(0.5, 0.1)), (before[0] - 0.5) * 0.5 + 0.6),
        (NOTHING._replace(blur=kernel), torch.roll(before[0], -1, 1)),
        (NOTHING._replace(noise=0.02), (before[0] + 0.02 * noise[0]).clamp(0, 1)),
    ):
        after = relit(images(texture), [light, NOTHING], noise)
        torch.testing.assert_close(after[0, :, :-2], expected[:, :-2])
        assert torch.equal(after[1], before[1])


def test_a_shadow_has_a_bright_and_a_dark_side() -> None:
    light = NOTHING._replace(shadow=(0.0, 0.0, 3.0, 0.5))  # an edge from top to bottom, through the middle
    after = relit(torch.full((1, 96, 96), 0.8), [light], torch.zeros(1, 96, 96))[0]
    torch.testing.assert_close(after[:, 5], torch.full((96,), 0.8), atol=1e-3, rtol=0)
    torch.testing.assert_close(after[:, -5], torch.full((96,), 0.4), atol=1e-3, rtol=0)


def test_light_is_drawn_as_often_as_it_says_and_blurs_keep_brightness() -> None:
    drawn = [draw_light(1.0, np.random.default_rng(seed)) for seed in range(400)]
    shares = [np.mean([getattr(light, name) is not None for light in drawn]) for name in Light._fields]
    np.testing.assert_allclose(shares, [0.3, 0.5, 0.8, 0.4, 0.5, 0.25], atol=0.09)
    for light in drawn:
        if light.blur is not None:
            assert light.blur.sum() == pytest.approx(1, abs=1e-5) and light.blur.min() >= 0
    assert draw_light(0.0, np.random.default_rng(0)) == NOTHING
