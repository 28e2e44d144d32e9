"""One image's features or one pair's matches in .npz files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tiepoints.errors import InvalidInputError, StorageError
from tiepoints.features import Features, Matches
from tiepoints.storage import load_features, load_matches, npz, save_features, save_matches

quick = settings(deadline=None, max_examples=50)


@quick
@given(features=...)
def test_features_come_back(features: Features, tmp_path_factory, assert_same):
    path = tmp_path_factory.mktemp("npz") / "ä b.features"
    save_features(path, features)
    assert_same(load_features(path), features)


@quick
@given(matches=...)
def test_matches_come_back(matches: Matches, tmp_path_factory, assert_same):
    path = tmp_path_factory.mktemp("npz") / "m.npz"
    save_matches(path, matches)
    assert_same(load_matches(path), matches)


def test_what_else_is_known_about_a_pair(tmp_path, features, matches):
    a, b = features(0, 30), features(1, 40)
    m = matches(2, 30, 40)
    points_a, points_b = m.points(a, b)
    model = np.arange(9.0).reshape(3, 3)
    inliers = np.arange(len(m)) % 2 == 0
    path = tmp_path / "m.npz"
    save_matches(path, m, points_a=points_a, points_b=points_b, inliers=inliers, model=model)
    with np.load(path, allow_pickle=False) as stored:
        assert set(stored.files) == {"indices", "scores", "points_a", "points_b", "inliers", "model"}
        np.testing.assert_array_equal(stored["points_a"], points_a)
        np.testing.assert_array_equal(stored["points_b"], points_b)
        np.testing.assert_array_equal(stored["inliers"], inliers)
        np.testing.assert_array_equal(stored["model"], model)
    assert len(load_matches(path)) == len(m)


@pytest.mark.parametrize("what", ["points_a", "points_b", "inliers", "model"])
def test_arrays_of_wrong_shape_are_refused(tmp_path, what):
    with pytest.raises(InvalidInputError, match=what):
        save_matches(tmp_path / "m.npz", Matches.empty(), **{what: np.zeros((7, 2))})
    assert not list(tmp_path.iterdir())


def test_a_missing_file(tmp_path):
    with pytest.raises(StorageError, match=r"x\.npz: no such file"):
        load_features(tmp_path / "x.npz")


@given(data=st.data())
@settings(deadline=None, max_examples=100)
def test_damage_is_one_line(data, tmp_path_factory, features):
    path = tmp_path_factory.mktemp("npz") / "f.npz"
    save_features(path, features(0, 5, optional=("angles",)))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 20))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        load_features(path)
    except StorageError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize("load", [load_features, load_matches])
def test_other_content_is_one_line(tmp_path, load):
    array, text, pickle, other = (tmp_path / name for name in ("a.npy", "a.txt", "a.pickle.npz", "other.npz"))
    np.save(array, np.zeros(3))
    text.write_text("no archive")
    np.savez(pickle, keypoints=np.array([{"a": 1}], dtype=object), indices=np.array([None], dtype=object))
    np.savez(other, something=np.zeros(3))
    for path in (array, text, pickle, other, tmp_path):
        with pytest.raises(StorageError) as error:
            load(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path, features, assert_same, monkeypatch):
    path = tmp_path / "f.npz"
    old = features(0, 3)
    save_features(path, old)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(npz, "write_arrays", fail)
    with pytest.raises(StorageError, match="No space left"):
        save_features(path, features(1, 3))
    monkeypatch.undo()
    assert_same(load_features(path), old)
    assert list(tmp_path.iterdir()) == [path]
