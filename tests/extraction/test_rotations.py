"""MD-Net with `rotation="any"`: rotated images have the same features, and matching finds out how they are rotated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.cli import cli
from tiepoints.collection import Collection, Extract, Match, MatchVerified, Store, Verify, run
from tiepoints.collection.retrieval import shipped_vocabulary
from tiepoints.matching import Nearest
from tiepoints.storage import FeatureReader, FeatureWriter, load_imb, load_opensfm, save_imb, save_opensfm


@pytest.fixture(scope="module")
def photograph(examples: Path) -> NDArray[np.uint8]:
    return tp.read(examples / "desk_1.jpg", grey=True)[:451, :613]  # no multiples of the stride


@pytest.fixture(scope="module")
def extractor() -> tp.Extractor:
    return tp.load("mdnet", rotation="any", max_keypoints=500)


@pytest.fixture(scope="module")
def found(extractor: tp.Extractor, photograph: NDArray[np.uint8]) -> list[tp.Features]:
    """Of the photograph as it is, and rotated counter-clockwise by 90, 180 and 270 degrees."""
    return [extractor(np.ascontiguousarray(np.rot90(photograph, turns))) for turns in range(4)]


def rotated_back(features: tp.Features, turns: int) -> NDArray[np.float32]:
    """The keypoints in the pixels of the photograph as it is."""
    keypoints, (width, height) = features.keypoints, features.image_size
    for _ in range(turns):
        keypoints = np.stack([height - 1 - keypoints[:, 1], keypoints[:, 0]], axis=1)
        width, height = height, width
    return keypoints


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_the_same_is_found_and_matched_in_each_rotation(found: list[tp.Features], turns: int) -> None:
    a, b = found[0], found[turns]
    for matches in (tp.match(a, b), tp.match(a.to_int8(), b.to_int8(), ratio=0.95)):
        assert len(matches) > 480
        there = rotated_back(b, turns)[matches.indices[:, 1]]
        assert np.median(np.abs(there - a.keypoints[matches.indices[:, 0]])) < 0.01
        assert matches.scores.min() > 0.95
    view = Verify()(MatchVerified()(a, b).matches, a, b)
    assert view and len(view.inliers) > 450


@pytest.mark.parametrize("turns", [0, 3])
def test_features_of_one_rotation_match_those_of_four(
    found: list[tp.Features], photograph: NDArray[np.uint8], turns: int
) -> None:
    plain = tp.load("mdnet", max_keypoints=500)(photograph)
    for matches, rows in ((tp.match(plain, found[turns]), 1), (tp.match(found[turns], plain), 0)):
        there = rotated_back(found[turns], turns)[matches.indices[:, rows]]
        near = np.linalg.norm(there - plain.keypoints[matches.indices[:, 1 - rows]], axis=1) < 1.5
        assert near.sum() > 250 and near.mean() > 0.8


def test_the_descriptors_of_a_rotation_are_those_of_the_rotated_image(found: list[tp.Features]) -> None:
    """At the same keypoints: block r of an image is block 0 of the image that was rotated by r quarter turns."""
    for turns in (1, 2, 3):
        pairs = tp.match(found[0], found[turns]).indices
        a, b = found[0].of_rotation(turns).descriptors[pairs[:, 0]], found[turns].of_rotation().descriptors[pairs[:, 1]]
        assert np.median((a * b).sum(axis=1)) > 0.999


def test_masks_and_tiles(photograph: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros(photograph.shape, bool)
    mask[100:300, 50:500] = True
    extractor = tp.load("mdnet", rotation="any", scales=(1,), max_keypoints=200)
    whole = extractor(photograph, mask)
    assert mask[tuple(whole.keypoints.round().astype(int).T[::-1])].all()
    monkeypatch.setattr("tiepoints.extraction.mdnet._TILE", 320)
    tiled = extractor(photograph, mask)
    matches = tp.match(whole, tiled)
    apart = whole.keypoints[matches.indices[:, 0]] - tiled.keypoints[matches.indices[:, 1]]
    assert len(matches) > 180 and np.median(np.abs(apart)) < 0.05


def test_files_and_stores_keep_them(found: list[tp.Features], tmp_path: Path, examples: Path) -> None:
    a = found[0]
    tp.storage.save_features(tmp_path / "a.npz", a)
    with FeatureWriter(tmp_path / "a.h5") as writer:
        writer.write("a.png", a)
        writer.write("plain.png", a.of_rotation())
    with FeatureReader(tmp_path / "a.h5") as reader:
        several = [tp.storage.load_features(tmp_path / "a.npz"), reader["a.png"]]
        assert reader["plain.png"].rotations == 1
    several.append(tp.Features.from_torch(_arrays(a)))
    for again in several:
        assert again.rotations == 4
        np.testing.assert_array_equal(again.descriptors, a.descriptors)
    photos = Collection.from_paths({"a": examples / "desk_1.jpg", "b": examples / "desk_2.jpg"})
    with Store(tmp_path / "work") as store:
        features = run(Extract("mdnet", rotation="any", max_keypoints=300), photos, store)
        assert features["a"].rotations == 4
        matches = run(Match(), [("a", "b")], store, features)
        np.testing.assert_array_equal(matches["a", "b"].indices, Nearest()(features["a"], features["b"]).indices)
        plain = run(Extract("mdnet", max_keypoints=300), photos, store)
        assert plain.computed == 2, "another option, other features"


def _arrays(features: tp.Features) -> dict[str, Any]:
    """What `to_torch` gives, without torch."""
    names = ("keypoints", "descriptors", "scores", "sets")
    return {name: getattr(features, name) for name in names} | {
        "image_size": np.array(features.image_size), "rotations": np.array(4)
    }  # fmt: skip


def test_opencv_gets_the_descriptors_of_the_image_as_it_is(found: list[tp.Features]) -> None:
    points, descriptors = found[0].to_opencv()
    np.testing.assert_array_equal(descriptors, found[0].of_rotation().descriptors)
    again = tp.Features.from_opencv(points, descriptors, found[0].image_size)
    assert len(tp.match(replace(again, sets=found[0].sets), found[3])) > 400


def test_opencvs_matches_are_scored_by_what_it_compared(found: list[tp.Features]) -> None:
    a, b = found[0], found[1]
    theirs = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(a.to_opencv()[1], b.to_opencv()[1])
    scores = tp.Matches.from_opencv(theirs, a, b).scores
    np.testing.assert_allclose(scores, [1 - match.distance**2 / 2 for match in theirs], atol=1e-4)


def test_files_of_other_programs_have_the_descriptors_of_the_image_as_it_is(
    found: list[tp.Features], tmp_path: Path
) -> None:
    features = {"a.png": found[0]}
    save_imb(tmp_path / "imb", features)
    save_opensfm(tmp_path / "opensfm", features, {})
    for read in (
        load_imb(tmp_path / "imb")[0]["a"],
        load_opensfm(tmp_path / "opensfm", lambda _: (640, 480))[0]["a.png"],
    ):
        np.testing.assert_allclose(read.descriptors, found[0].of_rotation().descriptors, atol=1e-6)


def test_the_vector_of_an_image_is_that_of_the_rotated_image(found: list[tp.Features]) -> None:
    vocabulary = shipped_vocabulary("mdnet")
    assert vocabulary is not None
    vectors = [vocabulary(features) for features in found]
    assert min(float(vectors[0] @ vector) for vector in vectors) > 0.98


def test_the_teachers_space_is_that_of_the_image_as_it_is(extractor: Any, found: list[tp.Features]) -> None:
    one = found[0].of_rotation()
    np.testing.assert_array_equal(found[0].to_teacher().descriptors, one.to_teacher().descriptors)
    np.testing.assert_array_equal(extractor.to_teacher(found[0]).descriptors, one.to_teacher().descriptors)


def test_a_folder_of_rotated_photographs(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i, turns in ((1, 0), (2, 1)):
        image = np.ascontiguousarray(np.rot90(tp.read(examples / f"desk_{i}.jpg"), turns))
        cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), image[:, :, ::-1])
    arguments = ["match", str(tmp_path / "photos"), "-n", "500", "--out", str(tmp_path / "pairs.h5"), "-q"]
    assert CliRunner().invoke(cli, arguments).exit_code == 1, "not verified"
    assert CliRunner().invoke(cli, [*arguments, "--rotation", "any", "--overwrite"]).exit_code == 0
    other = ["--out", str(tmp_path / "other.h5"), "-e", "upright-sift"]
    refused = CliRunner().invoke(cli, [*arguments, "--rotation", "any", *other])
    assert refused.exit_code == 2 and "mdnet" in refused.output


def test_a_map_knows_of_how_many_rotations_its_descriptors_are(found: list[tp.Features], tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="maps need pycolmap")
    from tiepoints.tasks.maps import read_map, write_map

    options = pycolmap.SyntheticDatasetOptions(num_points3D=len(found[0]), num_points2D_without_point3D=0)
    model = pycolmap.synthesize_dataset(options)
    names = [image.name for image in model.images.values()]
    vocabulary = shipped_vocabulary("mdnet")
    assert vocabulary is not None
    features = {name: found[0][: model.find_image_with_name(name).num_points2D()] for name in names}
    vectors = {name: vocabulary(one) for name, one in features.items()}
    write_map(tmp_path / "map", model, features, vectors, vocabulary, "mdnet", {"rotation": "any"}, {})
    there = read_map(tmp_path / "map").rows(0).features
    assert there.rotations == 4
    matches = tp.match(there, found[3])
    assert len(matches) > 0.9 * len(there) and matches.scores.min() > 0.9


def test_what_rotation_may_be() -> None:
    with pytest.raises(tp.InvalidInputError, match="rotation is 'all'"):
        tp.load("mdnet", rotation="all")
