"""Two photographs in one call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiepoints as tp
from tiepoints.matching import Nearest


def test_files_arrays_and_options(examples: Path) -> None:
    paths = [examples / "desk_1.jpg", examples / "desk_2.jpg"]
    pair = tp.match_images(*paths, extractor="rootsift", max_size=400, max_keypoints=500, matcher=Nearest(ratio=0.9))
    assert pair and pair.verified and pair.a.image_size == (640, 480) and len(pair.a) == 500
    points_a, points_b = pair
    assert pair.geometry is not None and len(points_a) == len(points_b) == pair.geometry.num_inliers > 30
    assert set(pair.times_ms) == {"load", "read", "extract", "match", "verify"}
    assert "verified" in repr(pair) and "fundamental" in repr(pair)
    extractor = tp.load("rootsift", max_size=400, max_keypoints=500)
    again = tp.match_images(*map(tp.read, paths), extractor=extractor, matcher=Nearest(ratio=0.9))
    np.testing.assert_array_equal(again.matches.indices, pair.matches.indices)
    picture = pair._repr_png_()
    assert picture is not None and picture.startswith(b"\x89PNG")


def test_what_is_not_verified_is_false_and_empty(examples: Path) -> None:
    pair = tp.match_images(examples / "box.png", examples / "desk_1.jpg", extractor="orb", geometry="homography")
    assert not pair and pair.verified is False and pair.corners is None
    assert "not verified" in repr(pair) and "inliers" not in repr(pair)
    points_a, points_b = pair
    assert len(points_a) == len(points_b) == 0 < len(pair.matches)
    with pytest.raises(tp.InvalidInputError, match="homography"):
        tp.match_images(examples / "box.png", examples / "desk_1.jpg", extractor="orb", geometry=None).overlay()


def test_without_geometry_all_matches_count(examples: Path) -> None:
    pair = tp.match_images(examples / "box.png", examples / "box_in_scene.png", extractor="orb", geometry=None)
    assert pair and pair.verified is None and len(next(iter(pair))) == len(pair.matches)


def test_wrong_arguments(examples: Path) -> None:
    box = examples / "box.png"
    for options, message in (
        ({"geometry": "homografy"}, "did you mean 'homography'"),
        ({"threshold": 0}, "threshold is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"rotation": "all"}, "rotation is"),
        ({"extractor": tp.load("orb"), "max_size": 9}, "has its options already"),
        ({"matcher": "nearer"}, "did you mean 'nearest'"),
    ):
        with pytest.raises(tp.InvalidInputError, match=message):
            tp.match_images(box, box, **{"extractor": "orb", **options})
    with pytest.raises(tp.ImageError, match="gone"):
        tp.match_images(examples / "gone.png", box)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_rotated_photograph_is_matched_as_the_upright_one(examples: Path, turns: int) -> None:
    a, b = (tp.read(examples / f"desk_{i}.jpg") for i in (1, 2))
    upright = tp.match_images(a, b, max_keypoints=1000)
    rotated = np.rot90(b, turns)
    assert len(tp.match_images(a, rotated, max_keypoints=1000).inliers) < 0.3 * len(upright.inliers)
    found = tp.match_images(a, rotated, max_keypoints=1000, rotation="any")
    assert found and len(found.inliers) > 0.9 * len(upright.inliers)
    assert found.b.image_size == rotated.shape[1::-1]
    # The same places, in the rotated photograph's own pixels.
    height, width = b.shape[:2]
    x, y = upright.b.keypoints[upright.inliers.indices[:, 1]].T
    there = {1: (y, width - 1 - x), 2: (width - 1 - x, height - 1 - y), 3: (height - 1 - y, x)}[turns]
    distance = np.abs(found.b.keypoints[:, None] - np.stack(there, axis=1)[None]).max(axis=2).min(axis=0)
    assert np.median(distance) < 0.01
