"""Two photographs in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from PIL import Image

import tiepoints as tp
from tiepoints.collection import Collection, Extract, Match, Verify, run
from tiepoints.geometry.chance import is_verified
from tiepoints.matching import Nearest
from tiepoints.pair import _view, rotation_that_matches


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


def in_the_rotated_one(features: tp.Features, turns: int) -> np.ndarray:
    """Keypoints of an image, in pixels of the same image rotated counter-clockwise by quarter turns."""
    x, y = features.keypoints.T
    width, height = features.image_size
    there = {1: (y, width - 1 - x), 2: (width - 1 - x, height - 1 - y), 3: (height - 1 - y, x)}[turns]
    return np.stack(there, axis=1)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_rotated_photograph_is_matched_as_the_upright_one(examples: Path, turns: int) -> None:
    """By a method that tells up from down image b is tried in all rotations: the same is found, to a rounding."""
    options: Any = {"extractor": "upright-rootsift", "max_keypoints": 1000}
    a, b = (tp.read(examples / f"desk_{i}.jpg") for i in (1, 2))
    upright, plain = (tp.match_images(a, b, **options, rotation=rotation) for rotation in ("any", None))
    assert len(upright.inliers) > 0.97 * len(plain.inliers)
    rotated = np.rot90(b, turns)
    assert len(tp.match_images(a, rotated, **options).inliers) < 0.3 * len(plain.inliers)
    found = tp.match_images(a, rotated, **options, rotation="any")
    assert found and len(found.inliers) > 0.97 * len(upright.inliers)
    assert found.b.image_size == rotated.shape[1::-1]
    there = in_the_rotated_one(upright.b, turns)[upright.inliers.indices[:, 1]]
    distance = np.abs(found.b.keypoints[:, None] - there[None]).max(axis=2).min(axis=0)
    assert np.median(distance) < 0.01


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_mdnet_matches_a_rotated_photograph_by_default(examples: Path, turns: int) -> None:
    """With one look at each image, nine tenths of what it finds where both are upright; `rotation` turns that off."""
    a, b = (tp.read(examples / f"desk_{i}.jpg") for i in (1, 2))
    rotated = np.rot90(b, turns)
    upright = tp.match_images(a, b, max_keypoints=1000)
    found = tp.match_images(a, rotated, max_keypoints=1000)
    assert found and len(found.inliers) > 0.9 * len(upright.inliers) > 200
    mdnet = tp.load("mdnet", max_keypoints=1000)
    for options in ({"rotation": "any"}, {"extractor": mdnet}, {"extractor": mdnet.upright_only(), "rotation": "any"}):
        asked: Any = {"max_keypoints": 1000} if "extractor" not in options else {}
        same = tp.match_images(a, rotated, **options, **asked)
        np.testing.assert_array_equal(same.inliers.indices, found.inliers.indices)
    plain = tp.match_images(a, rotated, max_keypoints=1000, rotation="upright")
    assert len(plain.inliers) < 0.1 * len(upright.inliers)
    assert len(tp.match_images(a, b, extractor=mdnet, rotation="upright").inliers) > 0.9 * len(upright.inliers)


def test_the_hint_of_a_rotation_keeps_to_the_masks(examples: Path, tmp_path: Path) -> None:
    """Under the mask of image b, or where it is transparent, there is nothing to match, however it is rotated."""
    extractor = tp.load("upright-rootsift", max_size=480, max_keypoints=800)
    desk = np.asarray(tp.read(examples / "desk_1.jpg"))
    rotated = np.ascontiguousarray(np.rot90(desk, -1))
    corner = np.zeros(rotated.shape[:2], bool)
    corner[:60, :60] = True
    Image.fromarray(np.dstack([rotated, corner * np.uint8(255)])).save(tmp_path / "cut.png")
    for image, mask, hint in (
        (rotated, None, "90 degrees to the left"),
        (rotated, ~corner, "90 degrees to the left"),
        (rotated, corner, ""),
        (tmp_path / "cut.png", None, ""),
        (tmp_path / "cut.png", ~corner, ""),
    ):
        pair = tp.match_images(desk, image, extractor=extractor, masks=(None, mask))
        assert not pair and rotation_that_matches(pair, extractor) == hint


@pytest.mark.parametrize("geometry", ["fundamental", "homography"])
def test_a_pair_has_the_same_inliers_alone_and_in_a_folder(
    examples: Path, geometry: Literal["fundamental", "homography"]
) -> None:
    names = ("desk_1.jpg", "desk_2.jpg") if geometry == "fundamental" else ("box.png", "box_in_scene.png")
    pair = tp.match_images(*(examples / name for name in names), extractor="rootsift", geometry=geometry)
    photographs = Collection.from_folder(examples).select(names)
    features = run(Extract("rootsift"), photographs)
    view = run(Verify(geometry), run(Match(), [names], None, features), None, features)[names]
    assert pair.geometry is not None and pair.verified and view.verified
    assert np.array_equal(pair.matches.select(pair.geometry.inliers).indices, view.inliers.indices)


def test_a_pair_tells_of_missing_depth_in_the_words_of_a_folder(examples: Path) -> None:
    desk = tp.read(examples / "desk_1.jpg")
    h, w = desk.shape[:2]
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    moved = corners + np.array([[30, 20], [-10, 15], [-25, -20], [12, -8]], np.float32)
    turned = cv2.warpPerspective(desk, cv2.getPerspectiveTransform(corners, moved), (w, h))

    def reason(other: Any) -> tuple[str, str]:
        view = tp.match_images(desk, other, extractor="orb").view
        assert view is not None
        return view.outcome, view.reason

    assert reason(desk) == ("still", "nothing moves: the same picture, or a camera that stood still: no depth")
    assert reason(turned) == ("planar", "all on a plane, or by a camera that only rotated: no depth")
    assert reason(examples / "desk_2.jpg") == ("verified", "")
    assert reason(examples / "box_in_scene.png")[0] in ("chance", "few")
    assert tp.match_images(desk, desk, extractor="orb", geometry=None).view is None


def test_progress_of_two_photographs(examples: Path) -> None:
    told: list[tuple[str, int, int]] = []
    box = examples / "box.png"
    tp.match_images(box, box, extractor="orb", max_keypoints=50, progress=lambda *words: told.append(words))
    assert told == [("extracting", 0, 2), ("extracting", 1, 2)]


def test_a_pair_alone_gets_more_samples_where_few_tell_no_more_than_chance() -> None:
    """Of 600 matches 80 agree, and their scores do not tell which: 3,000 samples of seven rarely hold seven of them."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (80, 3)) + [0, 0, 4]
    turn = cv2.Rodrigues(np.array([0.0, 0.2, 0.05]))[0]
    a, b = (
        800 * p[:, :2] / p[:, 2:] + 400 + rng.normal(0, 0.3, (80, 2)) for p in (points, points @ turn.T + [0.6, 0.1, 0])
    )
    a, b = (np.concatenate([p, rng.uniform(0, 800, (520, 2))]).astype(np.float32) for p in (a, b))
    order = rng.permutation(600)
    none = np.zeros((600, 8), np.uint8)
    features = [tp.Features(p[order], none, np.ones(600, np.float32), (800, 800)) for p in (a, b)]
    matches = tp.Matches(np.tile(np.arange(600, dtype=np.int32), (2, 1)).T, np.ones(600, np.float32))
    few = tp.fundamental(*features, matches, max_iterations=3000, best_first=True)
    model = _view(Verify("fundamental"), matches, *features).geometry
    assert not is_verified(few, (800, 800))
    assert is_verified(model, (800, 800))
    assert (model.inliers == (order < 80)).mean() > 0.9
