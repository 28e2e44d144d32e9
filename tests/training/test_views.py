"""Crops seen from elsewhere show the places that are said."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from tiepoints.training.views import places_in_crop, seen_from_elsewhere  # noqa: E402

EDGE = 128


def crops(count: int) -> torch.Tensor:
    """Smooth pictures of blobs (count, 1, EDGE, EDGE)."""
    rng = np.random.default_rng(2)
    blobs = [cv2.GaussianBlur(rng.normal(size=(EDGE, EDGE)), (0, 0), 9) for _ in range(count)]
    return torch.tensor(np.array([np.clip(0.5 + 0.15 * each / each.std(), 0, 1) for each in blobs], np.float32))[
        :, None
    ]


def test_views_show_the_places_whose_values_they_are_given() -> None:
    images = crops(8)
    cells = torch.nn.functional.avg_pool2d(images, 4)  # what is "said" of a place is how bright it is
    weights = torch.ones(8, EDGE // 4, EDGE // 4)
    seen = seen_from_elsewhere(images, cells, weights, np.random.default_rng(5))
    assert seen.images.shape == images.shape and float(seen.images.min()) >= 0 and float(seen.images.max()) <= 1
    shown = torch.nn.functional.avg_pool2d(seen.images, 4)[:, 0]
    different, alike = 0.0, []
    for image, brightness, said, weight in zip(cells, shown, seen.maps, seen.weights, strict=True):
        rows = weight > 0
        assert 0.2 < float(rows.float().mean()) <= 1
        # Other light changes how bright, and only shadows change what is brighter than what.
        alike.append(float(torch.corrcoef(torch.stack([brightness[rows], said[0][rows]]))[0, 1]))
        different += float((said[0] - image[0])[rows].abs().mean()) / float(image.std())
    assert min(alike) > 0.6 and np.median(alike) > 0.9
    assert different / len(cells) > 0.2, "views are not the crops"


def test_places_of_a_view_that_is_the_crop_moved_and_enlarged() -> None:
    matrix = np.array([[2.0, 0, -10], [0, 2.0, 6], [0, 0, 1]])  # (x, y) is seen at (2 x - 10, 2 y + 6)
    places = places_in_crop(matrix, EDGE)
    assert places.shape == (EDGE // 4, EDGE // 4, 2)
    np.testing.assert_allclose(places[0, 0], [(1.5 + 10) / 2, (1.5 - 6) / 2])
    np.testing.assert_allclose(places[3, 7], [(29.5 + 10) / 2, (13.5 - 6) / 2])


def test_what_lies_behind_the_camera_is_nowhere() -> None:
    matrix = np.linalg.inv(np.array([[1.0, 0, 0], [0, 1, 0], [-0.02, 0, 1]]))
    assert np.isnan(places_in_crop(matrix, EDGE)[:, -1]).all()
