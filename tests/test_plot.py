"""Pictures of matches: what is drawn where, and what cannot be drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import tiepoints as tp
from tiepoints.geometry import Geometry
from tiepoints.geometry.outline import corners

GREY = np.full((100, 120), 128, np.uint8)
GREEN, RED, YELLOW = (0, 190, 60), (230, 40, 40), (255, 200, 0)


def at(*points: tuple[float, float], **options: object) -> tp.Features:
    values = {"image_size": (120, 100), **options}
    return tp.Features(points, np.eye(len(points), 8), np.ones(len(points)), **values)  # type: ignore[arg-type]


def has(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> bool:
    """Whether any pixel is of nearly that colour."""
    return bool((np.abs(picture.astype(int) - colour).max(axis=2) < 60).any())


def test_inliers_are_green_and_outliers_red_on_request() -> None:
    a, matches = at((20, 20), (90, 80)), tp.Matches([[0, 0], [1, 1]], [1, 1])  # type: ignore[arg-type]
    inliers = np.array([True, False])
    one = tp.plot_matches(GREY, GREY, a, a, matches, inliers)[:100]
    assert has(one[10:30], GREEN) and not has(one[70:], GREEN) and not has(one, RED)
    both = tp.plot_matches(GREY, GREY, a, a, matches, inliers, outliers=True)[:100]
    assert has(both[70:90], RED) and has(both[10:30], GREEN)
    model = Geometry("fundamental", np.eye(3), inliers)
    np.testing.assert_array_equal(tp.plot_matches(GREY, GREY, a, a, matches, model)[:100], one)


def test_a_picture_has_at_most_so_many_lines_evenly_chosen() -> None:
    rng = np.random.default_rng(0)
    a = at(*rng.uniform(0, 99, (600, 2)).tolist())
    matches = tp.Matches(np.repeat(np.arange(600)[:, None], 2, 1), np.linspace(0, 1, 600))  # type: ignore[arg-type]
    default, all_of_them = (
        tp.plot_matches(GREY, GREY, a, a, matches, legend=False, **options) for options in ({}, {"max_lines": None})
    )
    drawn = [(p != 128).any(axis=2)[:, :120].mean() for p in (default, all_of_them)]
    assert drawn[0] < drawn[1]
    assert len(tp.plot_matches(GREY, GREY, a, a, matches)) > 100, "the legend stands below"


def test_a_picture_says_that_its_pair_is_not_verified(examples: Path) -> None:
    images = [examples / name for name in ("box.png", "desk_1.jpg", "box_in_scene.png")]
    for geometry in ("fundamental", "homography"):
        wrong, right = (
            tp.match_images(images[0], other, extractor="rootsift", max_keypoints=500, geometry=geometry)
            for other in images[1:]
        )
        assert wrong.geometry is not None and wrong.geometry.threshold == (1 if geometry == "fundamental" else 3)
        assert not wrong.verified and right.verified
        for pair in (wrong, right):
            own = pair.image_a, pair.image_b, pair.a, pair.b, pair.matches
            drawn = tp.plot_matches(*own, pair.geometry)
            np.testing.assert_array_equal(pair.plot(), drawn)
            dark = tuple(c * 3 // 4 for c in RED)
            assert has(drawn[pair.image_b.shape[0] :], dark) == (pair is wrong)  # type: ignore[arg-type]
        every = tp.plot_matches(wrong.image_a, wrong.image_b, wrong.a, wrong.b, wrong.matches)
        photographs = slice(0, wrong.image_b.shape[0])
        np.testing.assert_array_equal(wrong.plot()[photographs], every[photographs])
    with pytest.raises(tp.InvalidInputError, match="this pair is not verified"):
        wrong.overlay()


def test_the_outline_of_a_template_is_drawn() -> None:
    H = np.array([[0.5, 0, 30], [0, 0.5, 20], [0, 0, 1]])
    a, matches = at((20, 20)), tp.Matches([[0, 0]], [1])  # type: ignore[arg-type]
    model = Geometry("homography", H, np.array([True]))
    picture = tp.plot_matches(GREY, GREY, a, a, matches, model)
    np.testing.assert_allclose(corners(model, (120, 100)), [[30, 20], [89.5, 20], [89.5, 69.5], [30, 69.5]])
    right = picture[:100, 128:]
    for x, y in ((60, 20), (89, 45), (60, 69), (30, 45)):
        assert has(right[y - 2 : y + 3, x - 2 : x + 3], YELLOW), (x, y)
    assert not has(picture[:100, :120], YELLOW)
    overlay = tp.plot_overlay(np.zeros((100, 120), np.uint8), GREY, model)
    assert overlay.shape == (100, 120, 3) and (overlay[45, 60] == 64).all() and (overlay[90, 10] == 128).all()
    assert corners(Geometry("homography", [[1, 0, 0], [0, 1, 0], [-0.02, 0, 1]], []), (120, 100)) is None  # type: ignore[arg-type]


def test_an_unknown_image_size_is_that_of_the_image() -> None:
    a, b = at((20, 20)), at((20, 20), image_size=(0, 0))
    matches = tp.Matches([[0, 0]], [1])  # type: ignore[arg-type]
    np.testing.assert_array_equal(
        tp.plot_matches(GREY, GREY, a, a, matches), tp.plot_matches(GREY, GREY, b, b, matches)
    )
    np.testing.assert_array_equal(tp.plot_keypoints(GREY, a), tp.plot_keypoints(GREY, b))
    assert (tp.plot_keypoints(GREY, b) != 128).any()


@pytest.mark.parametrize(("place", "scale"), [(5.0, 1e30), (1e30, 1.0), (-1e30, 3e38), (5.0, 0.0)])
def test_far_away_and_huge_things_can_be_drawn(place: float, scale: float) -> None:
    a = at((place, place), (50, 50), scales=[scale, 3])
    matches = tp.Matches([[0, 1], [1, 0]], [1, 1])  # type: ignore[arg-type]
    assert (tp.plot_keypoints(GREY, a) != 128).any()
    assert (tp.plot_matches(GREY, GREY, a, a, matches) != 128).any()


def test_wrong_arguments_are_named() -> None:
    a, matches = at((20, 20)), tp.Matches([[0, 0]], [1])  # type: ignore[arg-type]
    for options, message in (
        ({"geometry": np.ones(3, bool)}, "1 matches"),
        ({"geometry": np.array([1])}, "bool"),
        ({"max_lines": -1}, "max_lines"),
        ({"max_size": 0}, "max_size"),
        ({"outliers": 3}, "outliers"),
    ):
        with pytest.raises(tp.InvalidInputError, match=message):
            tp.plot_matches(GREY, GREY, a, a, matches, **options)  # type: ignore[arg-type]
    with pytest.raises(tp.InvalidInputError, match="a homography that was found"):
        tp.plot_overlay(GREY, GREY, Geometry("homography", None, np.zeros(1, bool)))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_odd_arrays_are_no_pictures(tmp_path: Path, suffix: str) -> None:
    odd = (None, "abc", np.zeros((0, 4, 3), "u1"), np.zeros((4, 4, 5), "u1"), np.full((4, 4), 1j), np.zeros(4))
    for value in (*odd, np.zeros((4, 4, 3)), [[1, 2]]):
        with pytest.raises(tp.InvalidInputError, match="picture is"):
            tp.save_image(tmp_path / f"x{suffix}", value)  # type: ignore[arg-type]
    tp.save_image(tmp_path / f"x{suffix}", GREY)
    assert tp.read(tmp_path / f"x{suffix}", grey=True).shape == (100, 120)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("suffix", "most"), [(".jpg", 65500), (".webp", 16383), (".gif", 65535), (".avif", 65536)])
def test_a_picture_that_is_too_long_for_its_file_says_what_is_not(tmp_path: Path, suffix: str, most: int) -> None:
    if suffix not in Image.registered_extensions():
        pytest.skip(f"this Pillow writes no {suffix}")
    with pytest.raises(tp.StorageError, match=f"1x70000 pixels are more than .* room for, {most} .*use .png"):
        tp.save_image(tmp_path / f"x{suffix}", np.zeros((70000, 1, 3), np.uint8))
    tp.save_image(tmp_path / f"x{suffix}", np.zeros((200, 1, 3), np.uint8))
    with pytest.raises(tp.StorageError, match=r"x\.tga: cannot be written"):  # an encoder's own limit
        tp.save_image(tmp_path / "x.tga", np.zeros((70000, 1, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == [f"x{suffix}"]


def test_pictures_show_in_notebooks() -> None:
    shown = tp.plot_keypoints(GREY, at((20, 20)))._repr_png_()
    assert shown is not None and shown.startswith(b"\x89PNG")
    assert tp.plot_keypoints(GREY, at((20, 20))).astype(float)._repr_png_() is None
    model = Geometry("homography", np.eye(3), np.array([True, False]))
    assert "1 of 2 inliers" in model._repr_html_() and model._repr_html_().count("<td>") == 9
    assert "<td>" not in Geometry("homography", None, np.zeros(2, bool))._repr_html_()


def test_an_image_of_another_size_than_the_features_is_refused() -> None:
    a, matches = at((20, 20)), tp.Matches([[0, 0]], [1])  # type: ignore[arg-type]
    small = GREY[::2, ::2]
    message = r"the image has 60x50 pixels, but the features are of one of 120x100: .* max_size makes"
    for draw in (
        lambda: tp.plot_matches(GREY, small, a, a, matches),
        lambda: tp.plot_matches(small, GREY, a, a, matches),
        lambda: tp.plot_keypoints(small, a),
    ):
        with pytest.raises(tp.InvalidInputError, match=message):
            draw()
