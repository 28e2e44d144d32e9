"""Changes of light: each does what it is called, and JPEG's is the library's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="training needs the extra train")

from tiepoints.training.light import LIGHT_UNIFORMS, draw_lights, jpeg, relit  # noqa: E402


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


def of(**changes: object) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """These changes of the first image."""
    first = torch.zeros(1, dtype=torch.long)
    return {name: (first, torch.from_numpy(np.array([value], np.float32))) for name, value in changes.items()}


def silence(rows: torch.Tensor) -> torch.Tensor:
    raise AssertionError("no noise was asked for")


def test_only_what_was_drawn_changes_only_its_image(texture: NDArray[np.uint8]) -> None:
    kernel = np.zeros((9, 9), np.float32)
    kernel[4, 5] = 1
    noise = torch.randn(2, 96, 96, generator=torch.Generator().manual_seed(0))
    before = images(texture)
    for lights, expected in (
        ({}, before[0]),
        (of(gamma=2.0), before[0].clamp(1e-4, 1) ** 2),
        (of(contrast=(0.5, 0.1)), (before[0] - 0.5) * 0.5 + 0.6),
        (of(blur=kernel), torch.roll(before[0], -1, 1)),
        (of(noise=0.02), (before[0] + 0.02 * noise[0]).clamp(0, 1)),
    ):
        after = relit(images(texture), lights, noise.__getitem__ if "noise" in lights else silence)
        torch.testing.assert_close(after[0, :, :-2], expected[:, :-2])
        assert torch.equal(after[1], before[1])


def test_a_shadow_has_a_bright_and_a_dark_side() -> None:
    lights = of(shadow=(0.0, 0.0, 3.0, 0.5))  # an edge from top to bottom, through the middle
    after = relit(torch.full((1, 96, 96), 0.8), lights, silence)[0]
    torch.testing.assert_close(after[:, 5], torch.full((96,), 0.8), atol=1e-3, rtol=0)
    torch.testing.assert_close(after[:, -5], torch.full((96,), 0.4), atol=1e-3, rtol=0)


def test_light_is_drawn_as_often_as_it_says_and_blurs_keep_brightness() -> None:
    drawn = draw_lights(1.0, np.random.default_rng(0).random((400, LIGHT_UNIFORMS)))
    shares = [len(rows) / 400 for rows, _ in drawn]
    np.testing.assert_allclose(shares, [0.3, 0.5, 0.8, 0.4, 0.5, 0.25], atol=0.09)
    assert all(len(rows) == len(values) for rows, values in drawn)
    np.testing.assert_allclose(drawn.blur[1].sum(axis=(1, 2)), 1, atol=1e-5)
    assert drawn.blur[1].min() >= 0
    assert all(len(rows) == 0 for rows, _ in draw_lights(0.0, np.zeros((5, LIGHT_UNIFORMS))))
