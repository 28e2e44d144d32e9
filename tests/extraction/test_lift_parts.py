"""LIFT's orientation estimator that was trained here: what it computes, and how orientations turn."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.extraction import metadata_of
from tiepoints.extraction.patch_model import PatchModel
from tiepoints.extraction.published import PARTS

NAME = "sift+lift-orientation+hardnet"


@pytest.mark.parametrize("degrees", [30, -75])
def test_a_turned_photograph_has_turned_orientations(degrees: float, examples: Path) -> None:
    photograph = tp.read(examples / "desk_1.jpg", grey=True)
    height, width = photograph.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1)  # x towards y, which points down
    turned = np.asarray(cv2.warpAffine(photograph, matrix, (width, height), flags=cv2.INTER_CUBIC), np.uint8)
    extractor = tp.load(NAME, max_keypoints=600)
    a, b = extractor(photograph), extractor(turned)
    assert a.angles is not None and b.angles is not None and a.scales is not None and b.scales is not None
    there = a.keypoints @ matrix[:, :2].T + matrix[:, 2]
    distance = np.linalg.norm(there[:, None] - b.keypoints[None], axis=2)
    alike = np.abs(np.log(a.scales[:, None] / b.scales)) < 0.2
    nearest = np.where(alike, distance, np.inf).argmin(axis=1)
    same = np.where(alike, distance, np.inf).min(axis=1) < 1
    assert same.sum() > 100
    off = np.rad2deg(b.angles[nearest[same]] - a.angles[same]) - degrees
    off = (off + 180) % 360 - 180
    assert abs(np.median(off)) < 3
    assert np.median(np.abs(off)) < 12


def test_it_needs_no_torch_and_says_what_it_is(examples: Path, texture: NDArray[np.uint8]) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import tiepoints as tp\n"
        f"pair = tp.match_images('desk_1.jpg', 'desk_2.jpg', extractor='{NAME}', max_keypoints=300)\n"
        "sys.exit(not pair)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=examples, check=False).returncode == 0
    metadata = metadata_of(NAME)
    assert metadata.commercial and not metadata.requires
    part = PARTS["lift-orientation"]
    assert part.model is not None and "not the authors' weights" in part.metadata.summary
    about = PatchModel(part.model, 1).about
    assert about["licence"] == "Apache-2.0" and about["minutes"] > 0
    assert "not the authors' weights" in about["note"] and "academic" not in str(about)
    extractor = tp.load(NAME, max_keypoints=50)
    again = pickle.loads(pickle.dumps(extractor)).with_threads(1)
    a, b = again(texture), extractor(texture)
    assert a.angles is not None and b.angles is not None
    np.testing.assert_allclose(a.angles, b.angles, atol=1e-3)


@pytest.mark.parametrize("first", ["sift", "RootSIFT"])
def test_places_with_several_orientations_take_no_room(first: str, examples: Path) -> None:
    """SIFT finds some places several times; there are as many keypoints as wanted all the same, each place once."""
    photograph = tp.read(examples / "desk_1.jpg", grey=True)
    extractor = tp.load(f"{first}+lift-orientation+hardnet", max_keypoints=200)
    found = extractor(photograph)
    assert found.scales is not None
    assert len(found) == 200 == len(np.unique(np.column_stack([found.keypoints, found.scales]), axis=0))
    most = tp.load(first, max_keypoints=200)(photograph)
    assert len(np.unique(most.keypoints, axis=0)) < 200  # without it there would be fewer
    assert extractor.version == 2 and tp.load("sift+hardnet").version == 1
    assert len(tp.load(NAME, max_keypoints=200, detector={"max_keypoints": 50})(photograph)) <= 50
