"""Training pairs: the map is exact both ways, and the same seed gives the same pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tiepoints.training.pairs import Photographs, Warps, make_pair


def coordinates(width: int = 700, height: int = 500) -> np.ndarray:
    """A photograph whose colours tell the place: red grows with x, blue with y."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 / width, x * 0, y * 255 / height], axis=2).astype(np.uint8)


@pytest.mark.parametrize("bend", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(8))
def test_the_maps_are_inverse_to_each_other(seed: int, bend: float) -> None:
    warps = Warps(bend=bend, any_rotation=0.3)
    pair = make_pair(coordinates(), warps, np.random.default_rng(seed))
    assert pair.image_a.shape == pair.image_b.shape == (192, 192)
    assert pair.image_a.dtype == np.float32 and 0 <= pair.image_a.min() <= pair.image_a.max() <= 1
    for there, back, valid in (
        (pair.b_from_a, pair.a_from_b, pair.valid_a),
        (pair.a_from_b, pair.b_from_a, pair.valid_b),
    ):
        y, x = np.nonzero(valid)
        assert len(y) > 1000
        returned = interpolate(back, there[y, x])
        # the way back is interpolated between pixels here, so its own curvature limits how well it can agree
        curvature = np.abs(np.diff(back, n=2, axis=0)).max() + np.abs(np.diff(back, n=2, axis=1)).max()
        assert np.abs(returned - np.stack([x, y], axis=1)).max() < 1e-3 + curvature / 4


def interpolate(field: np.ndarray, at: np.ndarray) -> np.ndarray:
    x, y = at[:, 0].astype(np.float64), at[:, 1].astype(np.float64)
    x0, y0 = np.minimum(x.astype(int), 190), np.minimum(y.astype(int), 190)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    top = field[y0, x0] * (1 - fx) + field[y0, x0 + 1] * fx
    bottom = field[y0 + 1, x0] * (1 - fx) + field[y0 + 1, x0 + 1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy)


@pytest.mark.parametrize("bend", [0.0, 1.0])
def test_both_images_show_the_same_at_corresponding_places(bend: float) -> None:
    """Without changes of light, a smooth photograph has the same grey at both ends but for one affine change."""
    y, x = np.mgrid[0:500, 0:700]
    grey = (127 + 60 * np.sin(x / 25) + 60 * np.cos(y / 31)).astype(np.uint8)
    photograph = np.repeat(grey[:, :, None], 3, axis=2)
    for seed in range(4):
        pair = make_pair(photograph, Warps(photometric=0, bend=bend), np.random.default_rng(seed))
        rows, columns = np.nonzero(pair.valid_a)
        seen = interpolate(np.repeat(pair.image_b[:, :, None], 2, axis=2), pair.b_from_a[rows, columns])[:, 0]
        assert np.abs(seen - pair.image_a[rows, columns]).max() < 0.03


def test_the_same_seed_gives_the_same_pair_and_another_one_another() -> None:
    a, b, c = (make_pair(coordinates(), Warps(), np.random.default_rng(seed)) for seed in (5, 5, 6))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
    assert not np.array_equal(a.image_a, c.image_a)


def test_small_photographs_work() -> None:
    for shape in ((200, 200), (192, 900), (120, 120)):
        pair = make_pair(coordinates(shape[1], shape[0]), Warps(), np.random.default_rng(0))
        assert np.isfinite(pair.b_from_a).all()


def test_photographs_are_kept_within_the_bound_and_bad_ones_are_named(tmp_path: Path) -> None:
    for i in range(6):
        Image.fromarray(np.full((300, 400, 3), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "small.png")
    (tmp_path / "text.jpg").write_text("no image")
    photographs = Photographs(sorted(tmp_path.iterdir()), max_edge=200, max_bytes=2 * 200 * 150 * 3)
    wrong = photographs.drop_unreadable(least_edge=100)
    assert len(photographs) == 6 and len(wrong) == 2
    assert "small.png: 20x20" in wrong[0] and "text.jpg" in wrong[1]
    for _ in range(2):
        for i in range(6):
            assert photographs[i].shape == (150, 200, 3) and photographs[i][0, 0, 0] == 40 * i
            assert photographs._held <= photographs.max_bytes
