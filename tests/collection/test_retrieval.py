"""Vectors of whole images, and which images look alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.collection import Extract, run
from tiepoints.collection.photographs import Collection
from tiepoints.collection.retrieval import Describe, Vocabulary, nearest_images, retrieval


def picture(seed: int) -> NDArray[np.uint8]:
    """A picture (180, 240) of its own for each seed."""
    rng = np.random.default_rng(seed)
    image = sum(
        cv2.resize(rng.normal(size=(180 // cell, 240 // cell)), (240, 180), interpolation=cv2.INTER_CUBIC) * cell**0.5
        for cell in (4, 9, 20)
    )
    return np.asarray((image - image.min()) / np.ptp(image) * 255, np.uint8)


@pytest.fixture(scope="module", params=["mdnet", "orb"])
def seen(request: pytest.FixtureRequest) -> dict[str, tp.Features]:
    """Four places, each seen twice: as it is, and turned, shrunk and darker."""
    extractor = tp.load(request.param, max_keypoints=400)
    found = {}
    for seed in range(4):
        image = picture(seed)
        warp = cv2.getRotationMatrix2D((120, 90), 8, 0.9)
        other = cv2.warpAffine(image, warp, (240, 180), borderMode=cv2.BORDER_REFLECT) * 0.8
        found[f"{seed}a"], found[f"{seed}b"] = extractor(image), extractor(np.asarray(other, np.uint8))
    return found


def test_two_views_of_one_place_are_each_other_s_nearest(seen: dict[str, tp.Features]) -> None:
    vocabulary = Vocabulary.learn(seen.values(), 16)
    vectors = {name: vocabulary(features) for name, features in seen.items()}
    assert retrieval(vectors, 1) == [("0a", "0b"), ("1a", "1b"), ("2a", "2b"), ("3a", "3b")]
    table = np.stack(list(vectors.values()))
    np.testing.assert_allclose(np.linalg.norm(table, axis=1), 1, atol=1e-5)
    indices, similarities = nearest_images(table[:1], table, 3)
    assert indices[0, 0] == 0
    assert similarities[0, 0] == pytest.approx(1, abs=1e-5)
    assert (np.diff(similarities[0]) <= 0).all()


def test_the_vector_is_what_the_papers_say() -> None:
    words = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    descriptors = np.array([[0.8, 0, 0.6], [0.8, 0.6, 0], [0, 0.6, 0.8]], np.float32)
    features = tp.Features(np.zeros((3, 2)), descriptors, np.ones(3), (10, 10))
    first = (descriptors[0] - words[0]) + (descriptors[1] - words[0])
    second = descriptors[2] - words[1]
    wanted = np.concatenate([first / np.linalg.norm(first), second / np.linalg.norm(second)]) / np.sqrt(2)
    np.testing.assert_allclose(Vocabulary(words)(features), wanted, atol=1e-6)


def test_words_are_the_centres_of_clusters_and_the_same_each_time() -> None:
    rng = np.random.default_rng(1)
    centres = np.linalg.qr(rng.normal(size=(8, 8)))[0][:3].astype(np.float32)
    descriptors = np.repeat(centres, 50, axis=0) + rng.normal(size=(150, 8)).astype(np.float32) * 0.02
    features = tp.Features(np.zeros((150, 2)), descriptors, np.ones(150), (10, 10))
    learned = Vocabulary.learn([features], 3, seed=4).words
    np.testing.assert_allclose((learned @ centres.T).max(axis=0), 1, atol=0.02)
    np.testing.assert_array_equal(learned, Vocabulary.learn([features], 3, seed=4).words)


def test_an_image_without_features_is_like_no_other() -> None:
    vocabulary = Vocabulary(np.eye(4, dtype=np.float32))
    empty = tp.Features(np.zeros((0, 2)), np.zeros((0, 4), np.float32), np.zeros(0), (10, 10))
    assert not vocabulary(empty).any()


def test_another_extractor_s_features_are_refused() -> None:
    features = tp.Features(np.zeros((2, 2)), np.ones((2, 4), np.float32), np.ones(2), (10, 10))
    with pytest.raises(tp.InvalidInputError, match="learned with another extractor"):
        Vocabulary(np.eye(8, dtype=np.float32))(features)
    with pytest.raises(tp.InvalidInputError, match="have none"):
        Vocabulary.learn([])


def test_a_step_of_it_knows_its_words(tmp_path: object, examples: object) -> None:
    photographs = Collection.from_folder(examples).select(["desk_1.jpg", "desk_2.jpg"])  # type: ignore[arg-type]
    features = run(Extract("orb", max_keypoints=200), photographs)
    words = Vocabulary.learn(features.values(), 8)
    one, other = Describe(words), Describe(Vocabulary(words.words[:4]))
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == Describe(Vocabulary(words.words)).fingerprint
    assert run(one, features)["desk_1.jpg"].shape == (8 * 256,)
