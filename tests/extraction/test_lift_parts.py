"""LIFT, whose detector, orientation estimator and descriptor were trained here: what they compute, how they turn."""

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
from tiepoints.extraction.lift import MODEL, ScoreModel
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


def test_the_detector_gives_each_level_its_share(examples: Path) -> None:
    extractor = tp.load("lift-detector+sift", max_keypoints=400)
    found = extractor(examples / "desk_1.jpg")
    assert found.scales is not None and len(found) == 400
    scales, counts = np.unique(np.round(found.scales, 1), return_counts=True)
    assert len(scales) == 6 and scales[-1] > 5 * scales[0]
    assert 0.3 < (counts[1:] / counts[:-1])[:3].mean() < 0.7  # by area: half as many in each level
    fewer = tp.load("lift-detector+sift", max_keypoints=100)(examples / "desk_1.jpg")
    assert len(np.unique(np.round(fewer.scales, 1))) == 6  # type: ignore[arg-type] # they have scales


def test_the_detector_alone_is_a_part_and_says_how_it_was_trained(texture: NDArray[np.uint8]) -> None:
    with pytest.raises(tp.UnknownExtractorError, match=r"part of compositions \(detector\)"):
        tp.load("lift-detector")
    about = ScoreModel(MODEL, 1).about
    assert about["licence"] == "Apache-2.0" and about["teacher"] and about["minutes"] > 0
    assert "not the authors' weights" in about["note"] and "academic" not in str(about)
    extractor = tp.load("lift-detector+sift", max_keypoints=50)
    again = pickle.loads(pickle.dumps(extractor)).with_threads(1)
    np.testing.assert_allclose(again(texture).keypoints, extractor(texture).keypoints, atol=1e-3)


def test_the_whole_is_its_three_parts_and_free(texture: NDArray[np.uint8]) -> None:
    """`lift` has no weights that are for academic use; `+lift` has its authors' descriptor, which is."""
    whole, parts = (
        tp.load(name, max_keypoints=50) for name in ("LIFT", "lift-detector+lift-orientation+lift-descriptor")
    )
    assert whole.metadata.name == "lift" and "not the authors' weights" in whole.metadata.summary
    assert whole.metadata.commercial and not whole.metadata.requires and not whole.metadata.weights
    a, b, c = whole(texture), parts(texture), pickle.loads(pickle.dumps(whole))(texture)
    for other in (b, c):
        np.testing.assert_allclose(other.descriptors, a.descriptors, atol=1e-4)
    assert not metadata_of("lift-detector+lift").commercial
    part = PARTS["lift-descriptor"]
    assert part.model is not None
    about = PatchModel(part.model, 1).about
    assert about["licence"] == "Apache-2.0" and about["minutes"] > 0 and about["finished"]
    with pytest.raises(tp.UnknownExtractorError, match=r"'lift' detects nothing: begin with .* lift-detector"):
        tp.load("lift+hardnet")


def test_a_larger_photograph_has_larger_keypoints(examples: Path) -> None:
    photograph = tp.read(examples / "desk_1.jpg", grey=True)
    twice = cv2.resize(photograph, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    a, b = (
        tp.load("lift-detector+lift-orientation+sift", max_keypoints=n)(each)
        for each, n in ((photograph, 400), (twice, 1600))
    )
    assert a.scales is not None and b.scales is not None
    matches = tp.match(a, b).indices
    there = (a.keypoints[matches[:, 0]] + 0.5) * 2 - 0.5
    right = np.linalg.norm(there - b.keypoints[matches[:, 1]], axis=1) < 4
    assert right.mean() > 0.5
    ratio = b.scales[matches[right, 1]] / a.scales[matches[right, 0]]
    assert 1.8 < np.median(ratio) < 2.2
