"""MD-Net's descriptors know those of the rotated image: matching finds out how two images are rotated to each other."""

from __future__ import annotations

import json
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
from tiepoints.collection.retrieval import Vocabulary, nearest_images, retrieval, shipped_vocabulary
from tiepoints.matching import Nearest
from tiepoints.matching.base import aligned
from tiepoints.storage import FeatureReader, FeatureWriter, load_imb, load_opensfm, save_imb, save_opensfm


@pytest.fixture(scope="module")
def photograph(examples: Path) -> NDArray[np.uint8]:
    return tp.read(examples / "desk_1.jpg", grey=True)[:451, :613]  # no multiples of the stride


@pytest.fixture(scope="module")
def extractor() -> tp.Extractor:
    return tp.load("mdnet", looks=4, max_keypoints=500)


@pytest.fixture(scope="module")
def found(extractor: tp.Extractor, photograph: NDArray[np.uint8]) -> list[tp.Features]:
    """By four looks each, of the photograph as it is, and rotated counter-clockwise by 90, 180 and 270 degrees."""
    return [extractor(np.ascontiguousarray(np.rot90(photograph, turns))) for turns in range(4)]


def rotated_back(features: tp.Features, turns: int) -> NDArray[np.float32]:
    """The keypoints in the pixels of the photograph as it is."""
    keypoints, (width, height) = features.keypoints, features.image_size
    for _ in range(turns):
        keypoints = np.stack([height - 1 - keypoints[:, 1], keypoints[:, 0]], axis=1)
        width, height = height, width
    return keypoints


def right(a: tp.Features, b: tp.Features, turns: int) -> int:
    """How many matches of a photograph with itself rotated by quarter turns are of the same place."""
    i, j = tp.match(a, b).indices.T
    return int((np.linalg.norm(rotated_back(b, turns)[j] - a.keypoints[i], axis=1) < 1.5).sum())


def alike(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float32]:
    """The cosines of vectors of unit length, row by row."""
    return np.asarray((a * b).sum(axis=1))


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_four_looks_find_and_match_the_same_in_each_rotation(found: list[tp.Features], turns: int) -> None:
    a, b = found[0], found[turns]
    assert a.rotations == b.rotations == 4 and a.descriptors.shape == (500, 64)
    for matches in (tp.match(a, b), tp.match(a.to_int8(), b.to_int8(), ratio=0.95)):
        assert len(matches) > 480
        there = rotated_back(b, turns)[matches.indices[:, 1]]
        assert np.median(np.abs(there - a.keypoints[matches.indices[:, 0]])) < 0.01
        assert matches.scores.min() > 0.95
    view = Verify()(MatchVerified()(a, b).matches, a, b)
    assert view and len(view.inliers) > 450


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_the_descriptors_of_the_rotated_image_are_known(found: list[tp.Features], turns: int) -> None:
    """At the same places, and in the teacher's space, too."""
    i, j = tp.match(found[0], found[turns]).indices.T
    a, b = found[0].rotated(turns), found[turns]
    for known, seen in ((a, b), (a.to_teacher(), b.to_teacher())):
        assert np.median(alike(known.descriptors[i], seen.descriptors[j])) > 0.999
        assert np.median(alike(found[0].descriptors[i], b.descriptors[j])) < 0.9, "which are others"
    np.testing.assert_array_equal(a.keypoints, found[0].keypoints)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_one_look_knows_the_rotated_image_and_upright_features_do_not(
    photograph: NDArray[np.uint8], turns: int
) -> None:
    images = photograph, np.ascontiguousarray(np.rot90(photograph, turns))
    a, b = (tp.load("mdnet", max_keypoints=500)(image) for image in images)
    upright_a, upright_b = (tp.load("mdnet", rotation="upright", max_keypoints=500)(image) for image in images)
    assert (a.rotations, upright_a.rotations) == (4, 1) and a.descriptors.shape == upright_a.descriptors.shape
    np.testing.assert_array_equal(a.descriptors, upright_a.descriptors)
    assert right(a, b, turns) > 300
    for plain in ((upright_a, upright_b), (a, upright_b), (upright_a, b)):
        assert right(*plain, turns) < 50, "compared as they are"
    assert right(upright_a, a, 0) == right(a, upright_a, 0) == 500


def test_the_other_extractor_of_one_that_is_there(photograph: NDArray[np.uint8]) -> None:
    mdnet, rootsift = tp.load("mdnet", max_keypoints=50), tp.load("rootsift")
    upright = mdnet.upright_only()
    assert mdnet.in_any_rotation() is mdnet and upright.upright_only() is upright
    assert rootsift.in_any_rotation() is rootsift.upright_only() is rootsift
    assert tp.load("upright-rootsift").in_any_rotation() is None
    again = upright.in_any_rotation()
    assert again is not None
    assert [each(photograph).rotations for each in (mdnet, upright, again)] == [4, 1, 4]


def test_masks_and_tiles(photograph: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros(photograph.shape, bool)
    mask[100:300, 50:500] = True
    extractor = tp.load("mdnet", looks=4, scales=(1,), max_keypoints=200)
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
        writer.write("plain.png", replace(a, rotations=1))
    with FeatureReader(tmp_path / "a.h5") as reader:
        several = [tp.storage.load_features(tmp_path / "a.npz"), reader["a.png"]]
        assert reader["plain.png"].rotations == 1
    several.append(tp.Features.from_torch(_arrays(a)))
    for again in several:
        assert again.rotations == 4
        np.testing.assert_array_equal(again.descriptors, a.descriptors)
    photos = Collection.from_paths({"a": examples / "desk_1.jpg", "b": examples / "desk_2.jpg"})
    with Store(tmp_path / "work") as store:
        features = run(Extract("mdnet", max_keypoints=300), photos, store)
        assert features["a"].rotations == 4
        matches = run(Match(), [("a", "b")], store, features)
        np.testing.assert_array_equal(matches["a", "b"].indices, Nearest()(features["a"], features["b"]).indices)
        assert run(Extract("mdnet", rotation="any", max_keypoints=300), photos, store).computed == 0, "the default"
        plain = run(Extract("mdnet", rotation="upright", max_keypoints=300), photos, store)
        assert plain.computed == 2 and plain["a"].rotations == 1, "another option, other features"


def _arrays(features: tp.Features) -> dict[str, Any]:
    """What `to_torch` gives, without torch."""
    names = ("keypoints", "descriptors", "scores", "sets")
    return {name: getattr(features, name) for name in names} | {
        "image_size": np.array(features.image_size), "rotations": np.array(4)
    }  # fmt: skip


def test_other_programs_get_the_descriptors_as_they_are(found: list[tp.Features], tmp_path: Path) -> None:
    """What comes back from them says nothing of the rotated image, and is compared as it is."""
    points, descriptors = found[0].to_opencv()
    save_imb(tmp_path / "imb", {"a.png": found[0]})
    save_opensfm(tmp_path / "opensfm", {"a.png": found[0]}, {})
    for again in (
        tp.Features.from_opencv(points, descriptors, found[0].image_size),
        load_imb(tmp_path / "imb")[0]["a"],
        load_opensfm(tmp_path / "opensfm", lambda _: (640, 480))[0]["a.png"],
    ):
        np.testing.assert_allclose(again.descriptors, found[0].descriptors, atol=1e-6)
        assert again.rotations == 1
        plain = replace(again, sets=found[0].sets)
        assert len(tp.match(plain, found[0])) == 500 and right(plain, found[2], 2) < 50


def test_opencvs_matches_are_scored_by_what_it_compared(found: list[tp.Features]) -> None:
    a, b = found[0], found[1]
    theirs = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(a.to_opencv()[1], b.to_opencv()[1])
    scores = tp.Matches.from_opencv(theirs, a, b).scores
    np.testing.assert_allclose(scores, [1 - match.distance**2 / 2 for match in theirs], atol=1e-4)


@pytest.mark.parametrize("learned", [False, True])
def test_the_vector_of_the_rotated_image_is_that_of_the_image_in_another_order(
    found: list[tp.Features], learned: bool
) -> None:
    vocabulary = Vocabulary.learn(found[:1], words=18) if learned else shipped_vocabulary("mdnet")
    assert vocabulary is not None and vocabulary.rotations == 4
    assert vocabulary.words.shape == (16 if learned else 64, 64), "words come in fours"
    vectors = np.stack([vocabulary(features) for features in found])
    for turns in range(4):
        assert float(vocabulary.rotated(vectors[:1], turns)[0] @ vectors[turns]) > 0.97
    plain, rotated = (nearest_images(vectors[1:], vectors[:1], 1, words)[1][:, 0] for words in (None, vocabulary))
    assert plain.max() < 0.7 < 0.97 < rotated.min()
    assert retrieval(dict(zip("abcd", vectors, strict=True)), 1, vocabulary)


def test_a_vocabulary_of_upright_descriptors_knows_nothing_of_rotated_images(found: list[tp.Features]) -> None:
    upright = replace(found[0], rotations=1)
    vocabulary = Vocabulary.learn([upright, found[1]], words=16)
    assert vocabulary.rotations == 1 and vocabulary.words.shape == (16, 64)
    vector = vocabulary(upright)[None]
    np.testing.assert_array_equal(vocabulary.rotated(vector, 0), vector)
    with pytest.raises(tp.InvalidInputError, match="knows nothing of rotated"):
        vocabulary.rotated(vector, 1)


def test_the_teachers_space_is_that_of_the_image_as_it_is(extractor: Any, found: list[tp.Features]) -> None:
    wide = found[0].to_teacher()
    assert wide.descriptors.shape == (500, 128) and wide.rotations == 1
    np.testing.assert_allclose(np.linalg.norm(wide.descriptors, axis=1), 1, atol=1e-4)
    np.testing.assert_array_equal(wide.descriptors, replace(found[0], rotations=1).to_teacher().descriptors)
    read = replace(found[0], teacher_basis=None)  # as from a file
    np.testing.assert_array_equal(extractor.to_teacher(read).descriptors, wide.descriptors)


def test_a_folder_of_rotated_photographs(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i, turns in ((1, 0), (2, 1)):
        image = np.ascontiguousarray(np.rot90(tp.read(examples / f"desk_{i}.jpg"), turns))
        cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), image[:, :, ::-1])
    arguments = ["match", str(tmp_path / "photos"), "-n", "500", "--out", str(tmp_path / "pairs.h5"), "-q"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    for upright in (["--rotation", "upright"], ["-O", "rotation=upright"]):
        assert CliRunner().invoke(cli, [*arguments, *upright, "--overwrite"]).exit_code == 1, "not verified"
    both = ["-O", "rotation=upright", "--rotation", "any", "--overwrite"]
    assert CliRunner().invoke(cli, [*arguments, *both]).exit_code == 0
    other = ["--out", str(tmp_path / "other.h5"), "-e", "upright-sift"]
    refused = CliRunner().invoke(cli, [*arguments, "--rotation", "any", *other])
    assert refused.exit_code == 2 and "mdnet" in refused.output


def test_a_map_knows_of_how_many_rotations_its_descriptors_are(found: list[tp.Features], tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="maps need pycolmap")
    from tiepoints.tasks import Localizer
    from tiepoints.tasks.maps import read_map, write_map

    options = pycolmap.SyntheticDatasetOptions(num_points3D=len(found[0]), num_points2D_without_point3D=0)
    model = pycolmap.synthesize_dataset(options)
    names = [image.name for image in model.images.values()]
    vocabulary = Vocabulary.learn(found[:1], words=4)
    features = {name: found[0][: model.find_image_with_name(name).num_points2D()] for name in names}
    vectors = {name: vocabulary(one) for name, one in features.items()}
    write_map(tmp_path / "map", model, features, vectors, vocabulary, "mdnet", {"looks": 4}, {})
    there = read_map(tmp_path / "map").rows(0).features
    assert there.rotations == 4
    matches = tp.match(there, found[3])
    assert len(matches) > 0.9 * len(there) and matches.scores.min() > 0.9

    # One that was made with other weights, or before maps said with which, has descriptors that match nothing.
    Localizer(tmp_path / "map")
    about = tmp_path / "map" / "map.json"
    content = json.loads(about.read_text())
    assert len(content["weights"]) == 1
    for other in ({"weights": ["0" * 64]}, {"weights": []}):
        about.write_text(json.dumps(content | other))
        with pytest.raises(tp.StorageError, match=r"map: this map was made with other weights of mdnet.*make it anew"):
            Localizer(tmp_path / "map")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": "all"}, "rotation is 'all'"),
        ({"rotation": 90}, "rotation is 90"),
        ({"looks": 2}, "looks is 2, but must be 1 or 4"),
        ({"looks": 0}, "looks is 0"),
        ({"looks": "four"}, "looks is 'four'"),
        ({"looks": True}, "looks is True"),
    ],
)
def test_what_rotation_and_looks_may_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(tp.InvalidInputError, match=message):
        tp.load("mdnet", **options)


# Descriptors made by hand.


def knowing(count: int, kind: str = "float32", seed: int = 0) -> tp.Features:
    """Features with 64 numbers, or 256 bits, which know those of the rotated image."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 64))
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    descriptors = rng.integers(0, 256, (count, 32), np.uint8) if kind == "uint8" else vectors
    made = tp.Features(rng.uniform(0, 99, (count, 2)), descriptors, rng.uniform(size=count), (100, 100), rotations=4)
    return made.to_int8() if kind == "int8" else made


@pytest.mark.parametrize("kind", ["float32", "int8", "uint8"])
@pytest.mark.parametrize(("count", "turns"), [(1, 1), (2, 2), (30, 0), (30, 3), (700, 1)])
def test_the_rotation_is_found_of_few_features_and_of_many(kind: str, count: int, turns: int) -> None:
    a = knowing(count, kind)
    order = np.random.default_rng(1).permutation(count)
    matches = tp.match(a, a.rotated(turns)[order])
    np.testing.assert_array_equal(order[matches.indices[:, 1]], matches.indices[:, 0])
    assert len(matches) == count and matches.scores.min() > 0.98


@pytest.mark.parametrize("kind", ["float32", "int8", "uint8"])
def test_the_rotation_is_found_where_most_features_have_no_counterpart(kind: str) -> None:
    """As of two photographs that share a tenth of what they show."""
    a, other = knowing(500, kind), knowing(500, kind, seed=1)
    shared = np.arange(500) < 50
    b = replace(other, descriptors=np.where(shared[:, None], a.rotated(2).descriptors, other.descriptors))
    matches = tp.match(a, b, min_similarity=0.95)
    np.testing.assert_array_equal(matches.indices, np.stack([np.arange(50)] * 2, axis=1))


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_matcher_gets_the_second_image_rotated_as_the_first_is(turns: int) -> None:
    a = replace(knowing(30), angles=np.linspace(-3, 3, 30))
    there = replace(a.rotated(turns), keypoints=a.keypoints, image_size=(100, 80))
    same, seen = aligned(a, there)
    assert same is a and seen.image_size == ((80, 100) if turns % 2 else (100, 80))
    np.testing.assert_array_equal(seen.descriptors, a.descriptors)
    back = -turns % 4
    np.testing.assert_allclose(rotated_back(seen, back), a.keypoints, atol=1e-4)
    assert seen.angles is not None and a.angles is not None
    np.testing.assert_allclose(np.cos(seen.angles - a.angles + back * np.pi / 2), 1, atol=1e-5)


@pytest.mark.parametrize("first", range(0, 256, 8))
def test_of_features_with_equal_scores_the_first_tell_the_rotation(first: int) -> None:
    """Those of a map have no scores any more, and the best come first."""
    a, other = (replace(knowing(600, seed=seed), scores=np.ones(600)) for seed in (0, 1))
    shared = np.isin(np.arange(600), np.arange(first, first + 8))
    b = replace(other, descriptors=np.where(shared[:, None], a.rotated(3).descriptors, other.descriptors))
    assert len(tp.match(a, b, min_similarity=0.95)) == 8


@pytest.mark.parametrize("kind", ["float32", "int8", "uint8"])
def test_without_features_there_is_no_rotation_and_no_match(kind: str) -> None:
    none, some = knowing(0, kind), knowing(5, kind)
    for a, b in ((none, some), (some, none), (none, none)):
        assert len(tp.match(a, b)) == 0


@pytest.mark.parametrize("other", [np.eye(5, 32), np.zeros((5, 64), np.uint8), np.zeros((5, 64), np.int8)])
def test_descriptors_of_other_kinds_are_still_refused(other: NDArray[Any]) -> None:
    features = knowing(5)
    for pair in ((features, replace(features, descriptors=other)), (replace(features, descriptors=other), features)):
        with pytest.raises(tp.InvalidInputError, match="different kinds"):
            tp.match(*pair)
