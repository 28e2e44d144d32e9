"""Large images in tiles: they cover the image, and what is found does not depend on them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import tiepoints as tp
from tiepoints.collection.stages import memory_of
from tiepoints.extraction import akaze, mdnet, sift
from tiepoints.extraction.tiles import largest, tiles


@pytest.mark.parametrize(("height", "width"), [(1, 1), (64, 64), (65, 700), (4000, 6000), (97, 2049)])
def test_inner_parts_cover_the_image_once(height: int, width: int) -> None:
    seen = np.zeros((height, width), np.uint8)
    for tile in tiles(height, width, edge=64 if height < 1000 else 2048, margin=32, stride=32):
        seen[tile.inner] += 1
        for inner, outer, length in zip(tile.inner, tile.outer, (height, width), strict=True):
            assert outer.start % 32 == 0
            assert outer.start == max(inner.start - 32, 0) and outer.stop == min(inner.stop + 32, length)
    assert (seen == 1).all()


@pytest.fixture
def photograph(examples: Path) -> np.ndarray:
    return np.asarray(cv2.resize(tp.read(examples / "desk_1.jpg", grey=True), (650, 500)), np.uint8)


def test_tiles_with_wide_margins_change_nothing(photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask, borders, two sets and odd sizes included."""
    mask = np.ones(photograph.shape, np.uint8)
    mask[100:200, 300:350] = 0
    extractor = tp.load("mdnet", max_keypoints=700)
    whole, dense = extractor(photograph, mask), extractor.dense(photograph)  # type: ignore[attr-defined]
    monkeypatch.setattr(mdnet, "_TILE", 256)
    monkeypatch.setattr(mdnet, "_MARGIN", 192)
    parts, pieces = extractor(photograph, mask), extractor.dense(photograph)  # type: ignore[attr-defined]
    assert len(whole) == len(parts) == 700
    order = [np.lexsort(f.keypoints.round(1).T) for f in (whole, parts)]
    np.testing.assert_allclose(parts.keypoints[order[1]], whole.keypoints[order[0]], atol=0.02)
    np.testing.assert_allclose(parts.descriptors[order[1]], whole.descriptors[order[0]], atol=1e-3)
    for one, other in zip(dense, pieces, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-3)


def test_the_margin_is_wide_enough(photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the margin that is used, far more tiles than usual change hardly any keypoint."""
    extractor = tp.load("mdnet", max_keypoints=1000)
    whole = extractor(photograph)
    monkeypatch.setattr(mdnet, "_TILE", 256)
    parts = extractor(photograph)
    distance = np.linalg.norm(whole.keypoints[:, None] - parts.keypoints[None], axis=2)
    assert (distance.min(axis=1) < 0.1).mean() > 0.97
    nearest = distance.argmin(axis=1)
    assert np.median((whole.descriptors * parts.descriptors[nearest]).sum(axis=1)) > 0.9999


@pytest.mark.parametrize("name", ["sift", "upright-rootsift"])
def test_sift_finds_the_same_in_tiles(name: str, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    image = cv2.resize(photograph, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC)
    mask = np.ones(image.shape, np.uint8)
    mask[225:375, 375:525] = 0
    extractor = tp.load(name, max_keypoints=800)
    whole = extractor(image, mask)
    monkeypatch.setattr(sift, "WHOLE", 1000)
    monkeypatch.setattr(sift, "_TILE", 512)
    tiled = extractor(image, mask)
    distance = np.linalg.norm(tiled.keypoints[:, None] - whole.keypoints[None], axis=2)
    close = (distance < 0.1) & (np.abs(np.log2(tiled.scales[:, None] / whole.scales[None])) < 0.05)
    assert len(tiled) == len(whole) == 800 and close.any(axis=1).mean() > 0.9
    similar = (tiled.descriptors @ whole.descriptors.T)[close]
    assert np.median(similar) > 0.99
    row, column = np.rint(tiled.keypoints[:, ::-1]).astype(int).T
    assert (mask[row, column] == 1).all()


def test_the_mask_of_the_small_image_is_taken_at_its_pixels_middles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large blob is found up to the mask's edge: its middle lies in pixel 80 of the image of a quarter."""
    y, x = np.mgrid[:640, :640]
    image = np.rint(60 + 150 * np.exp(-((x - 321.5) ** 2 + (y - 321.5) ** 2) / (2 * 30**2))).astype(np.uint8)
    monkeypatch.setattr(sift, "WHOLE", 1000)
    extractor = tp.load("sift")
    for kept in (x >= 321, y >= 321):
        found = extractor._detect(image, kept.astype(np.uint8))
        assert np.abs(found.keypoints - 321.5).max(axis=1).min() < 1


def test_akaze_finds_the_same_in_tiles(photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.ones(photograph.shape, np.uint8)
    mask[100:200, 300:350] = 0
    extractor = tp.load("akaze", max_keypoints=10_000)
    whole = extractor(photograph, mask)
    monkeypatch.setattr(akaze, "_WHOLE", 1000)
    monkeypatch.setattr(akaze, "_TILES", {"edge": 320, "margin": 256, "stride": 64})
    tiled = extractor(photograph, mask)
    assert len(whole) > 500 and abs(len(tiled) / len(whole) - 1) < 0.03
    distance = np.linalg.norm(whole.keypoints[:, None] - tiled.keypoints[None], axis=2)
    assert whole.scales is not None and tiled.scales is not None
    distance[np.abs(np.log2(whole.scales[:, None] / tiled.scales[None])) > 0.05] = np.inf
    assert (distance.min(axis=1) < 0.1).mean() > 0.95
    bits = np.unpackbits(whole.descriptors ^ tiled.descriptors[distance.argmin(axis=1)], axis=1).sum(axis=1)
    assert np.median(bits) <= 2  # of 486
    row, column = np.rint(tiled.keypoints[:, ::-1]).astype(int).T
    assert (mask[row, column] == 1).all()


@pytest.mark.parametrize("name", ["mdnet", "mdnet-large", "sift", "upright-rootsift", "orb", "akaze", "surf"])
@pytest.mark.parametrize("size", [(6000, 4000), (4000, 6000), (1, 24_000_000)])
def test_24_megapixels_take_less_than_1_5_gigabytes(name: str, size: tuple[int, int]) -> None:
    """As they were measured for a whole process, which holds a tenth of a gigabyte before."""
    assert memory_of(tp.load(name), size) <= 1.45e9


def test_memory_is_that_of_the_largest_tile() -> None:
    assert largest(4000, 6000, edge=3072, margin=256, stride=64) == 2304 * 3264
    assert memory_of(tp.load("akaze"), (6000, 4000)) == 24_000_000 * 5 + 2304 * 3264 * 107
    assert memory_of(tp.load("akaze", max_size=600), (6000, 4000)) == 24_000_000 * 12  # while it is decoded
    assert memory_of(tp.load("orb"), (60, 40)) == 60 * 40 * (5 + 10)
