"""The words everyone uses are checked where they are made, and cannot change afterwards."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tiepoints as tp


def make(n: int = 5, **changes: object) -> tp.Features:
    rng = np.random.default_rng(0)
    values: dict[str, object] = {
        "keypoints": rng.uniform(0, 100, (n, 2)),
        "descriptors": np.eye(8)[rng.integers(0, 8, n)],
        "scores": rng.uniform(size=n),
        "image_size": (100, 100),
        "sets": np.arange(n) % 2,
        "scales": np.full(n, 3.0),
    }
    return tp.Features(**(values | changes))  # type: ignore[arg-type]


def test_arrays_get_their_types_and_are_read_only() -> None:
    given = np.zeros((5, 2))
    features = make(keypoints=given)
    assert features.keypoints.dtype == features.descriptors.dtype == features.scores.dtype == np.float32
    assert features.sets is not None and features.sets.dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        features.keypoints[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        features.scores = given  # type: ignore[misc,assignment]
    own = np.zeros((5, 2), np.float32)
    made = make(keypoints=own)
    own[0] = 1  # the caller's array stays the caller's ...
    assert (made.keypoints == 0).all(), "... and ours is ours"
    indices = np.zeros((1, 2), np.int32)
    matches = tp.Matches(indices, np.zeros(1, np.float32))
    indices[0] = 7
    assert (matches.indices == 0).all()


def test_descriptor_kinds() -> None:
    assert make(descriptors=np.zeros((5, 32), np.uint8)).binary
    assert make(descriptors=np.zeros((5, 32), np.int8)).descriptors.dtype == np.int8
    assert make(descriptors=np.zeros((5, 32), np.float16)).descriptors.dtype == np.float32
    assert (
        repr(make(descriptors=np.zeros((5, 32), np.uint8))) == "Features(5 keypoints, 256 bits, 2 sets, image 100x100)"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uncertainties": np.full(5, -1.0)}, "uncertainties"),
        ({"keypoints": np.zeros((5, 3))}, r"keypoints have shape \(5, 3\)"),
        ({"keypoints": np.zeros(())}, "keypoints have shape"),
        ({"keypoints": "nonsense"}, "keypoints cannot be read"),
        ({"keypoints": np.full((5, 2), 1 + 2j)}, "complex numbers"),
        ({"sets": [300, 0, 0, 0, 0]}, "sets hold 300"),
        ({"sets": [-1, 0, 0, 0, 0]}, "sets hold -1"),
        ({"sets": [0.5, 0, 0, 0, 0]}, r"sets hold 0\.5"),
        ({"scores": [np.nan, 0, 0, 0, 0]}, "scores hold values that are not finite"),
        ({"scores": [10**400, 0, 0, 0, 0]}, "scores cannot be read"),
        ({"scales": np.full(5, np.nan)}, "scales hold values that are not finite"),
        ({"scales": np.full(5, -1)}, "scales hold -1, but must be at least 0"),
        ({"angles": np.full(5, np.inf)}, "angles hold values that are not finite"),
        ({"keypoints": np.full((5, 2), 1e300)}, "too large for float32"),
        ({"descriptors": [[1, 2], [3]]}, "descriptors cannot be read"),
        ({"image_size": None}, "image_size is None"),
        ({"image_size": 5}, "image_size is 5"),
        ({"image_size": (1, 2, 3)}, "image_size"),
        ({"image_size": ("a", "b")}, "image_size"),
        ({"image_size": (float("nan"), 1)}, "image_size"),
        ({"image_size": (float("inf"), 1)}, "image_size"),
        ({"image_size": ([1], [2])}, "image_size"),
        ({"image_size": (10**20, 1)}, "image_size"),
        ({"descriptors": np.zeros((4, 8))}, r"descriptors have shape \(4, 8\), but \(5, D\)"),
        ({"scores": np.zeros(4)}, r"scores have shape \(4,\), but \(5,\)"),
        ({"sets": np.zeros(6)}, "sets have shape"),
        ({"angles": np.zeros((5, 1))}, "angles have shape"),
        ({"keypoints": np.full((5, 2), np.nan)}, "keypoints hold values that are not finite"),
        ({"descriptors": np.full((5, 2), np.inf)}, "descriptors hold values"),
        ({"image_size": (10.5, 3)}, "image_size"),
        ({"image_size": (-1, 3)}, "image_size"),
        ({"rotations": 3}, "rotations is 3, but must be 1 or 4"),
        ({"rotations": True}, "rotations is True"),
        ({"rotations": 4, "descriptors": np.ones((5, 6))}, "4 rotations cannot have 6 columns"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(tp.InvalidInputError, match=message):
        make(**changes)


def test_select_and_top() -> None:
    features = make(scores=[1, 5, 3, 5, 2])
    np.testing.assert_array_equal(features.top(3).keypoints, features.keypoints[[1, 3, 2]])
    some = features.select([False, True, False, False, True])
    assert len(some) == 2 and some.sets is not None and some.sets.tolist() == [1, 0] and some.angles is None
    assert len(features.select([])) == 0
    np.testing.assert_array_equal(features.select(slice(1, 3)).scores, features.scores[1:3])


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint8])
def test_the_descriptors_of_the_rotated_image(dtype: type) -> None:
    """Each of the four parts goes to the place of the one before it, the first to the last one's."""
    parts = [np.arange(10).reshape(5, 2) + 20 * part for part in range(4)]
    features = make(descriptors=np.concatenate(parts, axis=1).astype(dtype), rotations=4)
    assert features.rotated(0) is features and features[:2].rotations == 4
    for turns in range(4):
        there = features.rotated(turns)
        assert there.descriptors.dtype == dtype and there.rotations == 4
        np.testing.assert_array_equal(there.descriptors, np.concatenate(parts[turns:] + parts[:turns], axis=1))
        np.testing.assert_array_equal(there.keypoints, features.keypoints)
        np.testing.assert_array_equal(there.rotated(3).rotated(1).descriptors, there.descriptors)
    for turns in (4, -1):
        with pytest.raises(tp.InvalidInputError, match=f"turns is {turns}"):
            features.rotated(turns)


def test_descriptors_that_say_nothing_of_the_rotated_image() -> None:
    features = make()
    assert features.rotated(0) is features
    with pytest.raises(tp.InvalidInputError, match=r"say nothing of the rotated image: features\.rotations is 1"):
        features.rotated(1)


def test_eight_bits_and_rotating_can_be_done_in_either_order() -> None:
    vectors = np.random.default_rng(2).normal(size=(5, 8))
    features = make(descriptors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True), rotations=4)
    np.testing.assert_array_equal(features.to_int8().rotated(3).descriptors, features.rotated(3).to_int8().descriptors)


def test_in_the_teachers_space_descriptors_have_unit_length_and_say_nothing_of_the_rotated_image() -> None:
    rng = np.random.default_rng(3)
    basis = rng.normal(size=(12, 8))
    features = make(teacher_basis=basis, rotations=4)
    for turns in (0, 1):
        given = features.rotated(turns)
        wide = given.to_teacher()
        expected = given.descriptors @ basis.T
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(wide.descriptors, expected, atol=1e-5)
        assert wide.rotations == 1 and wide.teacher_basis is None
    blank = make(descriptors=np.zeros((5, 8)), teacher_basis=basis)
    np.testing.assert_array_equal(blank.to_teacher().descriptors, np.zeros((5, 12)))


def test_descriptors_of_eight_bits_match_like_those_they_were_made_of() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(300, 64))
    noisy = vectors + 0.3 * rng.normal(size=vectors.shape)
    a, b = (make(300, descriptors=v / np.linalg.norm(v, axis=1, keepdims=True)) for v in (vectors, noisy))
    small_a, small_b = a.to_int8(), b.to_int8()
    assert small_a.descriptors.dtype == np.int8 and small_a.descriptors.nbytes == a.descriptors.nbytes // 4
    np.testing.assert_array_equal(small_a.keypoints, a.keypoints)
    assert small_a.to_int8() is small_a
    binary = make(descriptors=np.zeros((5, 4), np.uint8))
    assert binary.to_int8() is binary
    exact, coarse = tp.match(a, b), tp.match(small_a, small_b)
    assert len(np.intersect1d(exact.indices[:, 0], coarse.indices[:, 0])) > 0.97 * len(exact) > 200


def test_matches() -> None:
    a, b = make(), make()
    matches = tp.Matches([[0, 4], [3, 1]], [0.5, 0.25])  # type: ignore[arg-type]
    points_a, points_b = matches.points(a, b)
    np.testing.assert_array_equal(points_a, a.keypoints[[0, 3]])
    np.testing.assert_array_equal(points_b, b.keypoints[[4, 1]])
    assert len(matches.select([True, False])) == 1
    for indices in ([[5, 0]], [[0, 5]]):
        with pytest.raises(tp.InvalidInputError, match="other features"):
            tp.Matches(np.array(indices), np.zeros(1)).points(a, b)  # type: ignore[arg-type]
    with pytest.raises(tp.InvalidInputError, match="indices hold -1"):
        tp.Matches(np.array([[-1, 0]]), np.zeros(1))  # type: ignore[arg-type]
    with pytest.raises(tp.InvalidInputError, match=r"\(M, 2\)"):
        tp.Matches(np.zeros((2, 3)), np.zeros(2))  # type: ignore[arg-type]
    with pytest.raises(tp.InvalidInputError, match=r"scores have shape"):
        tp.Matches(np.zeros((2, 2)), np.zeros(3))  # type: ignore[arg-type]
    assert tp.features.Matches.empty().points(a, b)[0].shape == (0, 2)


def test_rows_can_be_indexed_and_iterated() -> None:
    features = make(scores=[1, 5, 3, 5, 2], uncertainties=np.full(5, 0.25))
    x, y, score, group, scale, angle, uncertainty = features[1]
    assert (np.float32(x), np.float32(y)) == tuple(features.keypoints[1]) and score == 5
    assert (group, scale, angle, uncertainty) == (1, 3.0, None, 0.25)
    assert list(features) == [features[i] for i in range(5)] and features[-1] == features[4]
    np.testing.assert_array_equal(features[1:3].scores, [5, 3])
    np.testing.assert_array_equal(features[features.scores > 2].scores, [5, 3, 5])
    np.testing.assert_array_equal(features[[4, -5]].scores, [2, 1])
    matches = tp.Matches([[0, 4], [3, 1]], [0.5, 0.25])  # type: ignore[arg-type]
    assert [(i, j, s) for i, j, s in matches] == [(0, 4, 0.5), (3, 1, 0.25)] and matches[1].b == 1
    assert len(matches[:1]) == 1 and matches[[1]].indices.tolist() == [[3, 1]]
    values: tp.Features | tp.Matches
    for values in (features, matches):
        with pytest.raises(IndexError):
            values[len(values)]
        for which, message in (([True], "mask has shape"), ([9], "reach 9"), ([0.5], r"hold 0\.5"), ("a", "texts")):
            with pytest.raises(tp.InvalidInputError, match=message):
                values[which]  # type: ignore[call-overload]


def test_vectors_of_bytes_are_not_taken_for_bits() -> None:
    rng = np.random.default_rng(0)
    sift = rng.exponential(size=(5, 128))
    quantised = np.rint(512 * sift / np.linalg.norm(sift, axis=1, keepdims=True)).astype(np.uint8)
    with pytest.raises(tp.InvalidInputError, match=r"128 bytes.*from_opencv"):
        make(descriptors=quantised)
    assert make(descriptors=rng.integers(0, 256, (5, 128), dtype=np.uint8)).binary


def test_notebooks_show_pictures() -> None:
    for features in (make(), make(0), make(image_size=(0, 0)), make(keypoints=np.full((5, 2), 1e30))):
        picture = features._repr_png_()
        assert picture is not None and picture.startswith(b"\x89PNG")
    assert tp.Matches(np.zeros((20, 2), int), np.ones(20))._repr_html_().count("<tr>") == 9  # type: ignore[arg-type]


def test_camera() -> None:
    camera = tp.Camera.from_matrix([[500, 0, 320], [0, 510, 240], [0, 0, 1]], (640, 480))
    assert camera.model == "PINHOLE" and camera.params == (500, 510, 320, 240)
    np.testing.assert_array_equal(camera.matrix, [[500, 0, 320], [0, 510, 240], [0, 0, 1]])
    assert camera.shifted(0.5).params == (500, 510, 320.5, 240.5)
    with pytest.raises(tp.InvalidInputError, match="model 'FOO' is unknown"):
        tp.Camera("FOO", 1, 1, ())
    with pytest.raises(tp.InvalidInputError, match="4 parameters, but 1"):
        tp.Camera("PINHOLE", 1, 1, (1,))
    with pytest.raises(tp.InvalidInputError, match="the focal length is 0 pixels"):
        tp.Camera("PINHOLE", 1, 1, (0, 1, 1, 1))
    with pytest.raises(tp.InvalidInputError, match="calibration matrix"):
        tp.Camera.from_matrix(np.eye(2), (1, 1))
