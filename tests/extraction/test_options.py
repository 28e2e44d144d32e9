"""Options of the classical methods: whatever is given works or is refused by name, and never ends the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.errors import InvalidInputError


@pytest.mark.parametrize(
    ("method", "option", "values"),
    [
        ("orb", "levels", [0, -1, 2.5, "abc", None, True, np.nan, 10**20, 65]),
        ("orb", "scale_factor", [np.nan, np.inf, 1, 0, -2, "abc", None, 1j, 10**400]),
        ("orb", "fast_threshold", [True, -1, 256, "q", 1.5]),
        ("akaze", "threshold", ["q", np.nan, None, -1, [1]]),
        ("sift", "contrast_threshold", ["q", np.nan, -1, None]),
        ("rootsift", "edge_threshold", [0, "q", np.inf]),
        ("orb", "max_keypoints", [0, 10**20, np.nan, "1", True]),
        ("sift", "max_size", [0, 10**20, np.nan, "1", True]),
    ],
)
def test_options_out_of_range_are_refused_by_name(method: str, option: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(InvalidInputError, match=f"^{option} is "):
            tp.load(method, **{option: value})


@pytest.mark.parametrize(
    "options",
    [
        {"levels": 64, "scale_factor": 16},
        {"levels": 64, "scale_factor": 1.0001, "fast_threshold": 0},
        {"levels": 1, "scale_factor": 1.2},
        {"levels": 64, "max_keypoints": 2**31 - 1},
    ],
)
def test_orb_takes_what_is_in_range(options: dict[str, Any]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300), np.uint8)
    assert len(tp.load("orb", **options)(noise)) > 50
    tp.load("orb", **options)(noise[:16, :16])


@pytest.mark.parametrize("workers", [float("nan"), 0, -1, "2", 10**6, True])
def test_a_number_of_workers_is_a_number(texture: NDArray[np.uint8], workers: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^workers is "):
        list(tp.extract_images(tp.load("orb"), [texture], workers=workers))


@pytest.mark.parametrize("count", [1, 500, 2048])
def test_orb_finds_as_many_as_asked_for_if_there_are(examples: Path, count: int) -> None:
    image = tp.read(examples / "box.png", grey=True)
    found = tp.load("orb", max_keypoints=count)(image)
    assert len(found) == count == len({*map(tuple, np.c_[found.keypoints, found.scales].tolist())})
    detector = cv2.ORB.create(nfeatures=count)
    points, descriptors = detector.detectAndCompute(image, None)
    assert len(points) < count, "or this tests nothing"
    theirs = {bytes(row) for row in (() if descriptors is None else descriptors)}
    assert theirs <= {bytes(row) for row in found.descriptors}, "what OpenCV finds is among them"
