"""HDF5 files of features and of matches: round trips, hloc's layout read and written with bare h5py, bad files."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from tiepoints.errors import InvalidInputError, StorageError
from tiepoints.features import Features, Matches
from tiepoints.storage import FeatureReader, FeatureWriter, MatchReader, MatchWriter, MissingItemError

quick = settings(deadline=None, max_examples=25)
# Short parts from few letters, so that names share folders and differ by '/' and '-' only.
PART = st.one_of(st.text("ab-.", min_size=1, max_size=3), st.text(min_size=1, max_size=8)).filter(
    lambda part: part not in (".", "..") and not set("/\0\\:") & set(part) and part.isprintable()
)
NAME = st.lists(PART, min_size=1, max_size=3).map("/".join)


def is_a_folder(name: str, others: set[str]) -> bool:
    return any(other.startswith(f"{name}/") for other in others)


@quick
@given(stored=st.dictionaries(NAME, st.from_type(Features), max_size=5))
def test_features_come_back(stored, tmp_path_factory, assert_same):
    assume(not any(is_a_folder(name, set(stored)) for name in stored))
    path = tmp_path_factory.mktemp("h5") / "ü features.h5"
    with FeatureWriter(path) as writer:
        for name, features in stored.items():
            assert name not in writer
            writer.write(name, features)
            assert name in writer
        assert len(writer) == len(stored)
    with FeatureReader(path) as reader:
        assert set(reader) == set(reader.names()) == set(stored)
        assert len(reader) == len(stored)
        for name, features in stored.items():
            assert name in reader
            assert_same(reader[name], features)


@quick
@given(
    names=st.lists(NAME, min_size=2, max_size=5, unique_by=lambda name: name.replace("/", "-")),
    seed=st.integers(0, 2**32),
)
def test_matches_come_back_in_both_directions(names, seed, tmp_path_factory, matches, assert_same):
    path = tmp_path_factory.mktemp("h5") / "matches.h5"
    counts = {name: (seed + i) % 20 for i, name in enumerate(names)}
    stored = {
        (a, b): matches(seed + i, counts[a], counts[b])
        for i, (a, b) in enumerate((a, b) for a in names for b in names if a < b)
    }
    with MatchWriter(path) as writer:
        for (a, b), some in stored.items():
            assert (a, b) not in writer
            writer.write((a, b), some, (counts[a], counts[b]))
            assert (a, b) in writer
            assert (b, a) in writer
    with MatchReader(path) as reader:
        assert set(reader) == set(reader.pairs()) == set(stored)
        for (a, b), some in stored.items():
            assert_same(reader[a, b], some)
            np.testing.assert_array_equal(reader[b, a].indices, some.indices[:, ::-1])
            np.testing.assert_array_equal(reader[b, a].scores, some.scores)


def test_the_layout_is_hlocs(tmp_path, features, matches):
    a = features(0, 7, 16, optional=("sets", "scales", "angles"))
    path = tmp_path / "f.h5"
    with FeatureWriter(path, made_with="test 1") as writer:
        writer.write("db/1 a.jpg", a)
    with h5py.File(path) as file:
        group = file["db"]["1 a.jpg"]
        assert set(group) == {"keypoints", "descriptors", "scores", "image_size", "sets", "scales", "angles"}
        assert group["keypoints"].dtype == np.float32
        np.testing.assert_array_equal(group["keypoints"], a.keypoints)
        assert group["descriptors"].shape == (16, 7)
        np.testing.assert_array_equal(group["descriptors"], a.descriptors.T)
        assert tuple(group["image_size"]) == a.image_size
        assert file.attrs["made_with"] == b"test 1"

    some = Matches([[4, 1], [0, 2]], [0.25, 0.5])
    path = tmp_path / "m.h5"
    with MatchWriter(path) as writer:
        writer.write(("db/1 a.jpg", "q/b.jpg"), some, (6, 3))
    with h5py.File(path) as file:
        group = file["db-1 a.jpg"]["q-b.jpg"]
        assert group["matches0"].dtype == np.int32
        assert group["matches0"][()].tolist() == [2, -1, -1, -1, 1, -1]
        assert group["matching_scores0"][()].tolist() == [0.5, 0, 0, 0, 0.25, 0]


@pytest.mark.parametrize("missing", [(), ("scores", "image_size"), ("descriptors",)])
def test_reads_what_hloc_writes(tmp_path, features, missing):
    a = features(0, 9, 16)
    path = tmp_path / "hloc.h5"
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("mapping/1.jpg")
        for name, value in {
            "keypoints": a.keypoints.astype(np.float16),
            "descriptors": a.descriptors.T.astype(np.float16),
            "scores": a.scores.astype(np.float16),
            "image_size": np.array(a.image_size),
        }.items():
            if name not in missing:
                group.create_dataset(name, data=value)
        group["keypoints"].attrs["uncertainty"] = 1.5
    with FeatureReader(path) as reader:
        b = reader["mapping/1.jpg"]
        assert reader.names() == ["mapping/1.jpg"]
        assert reader.made_with == ""
    assert b.keypoints.dtype == np.float32
    np.testing.assert_array_equal(b.keypoints, a.keypoints.astype(np.float16))
    assert b.image_size == ((0, 0) if "image_size" in missing else a.image_size)
    np.testing.assert_array_equal(b.scores, np.ones(9) if "scores" in missing else a.scores.astype(np.float16))
    assert b.descriptors.dtype == np.float32
    assert b.descriptors.shape == (9, 0 if "descriptors" in missing else 16)
    with FeatureWriter(path) as writer:  # hloc's file can be added to
        assert "mapping/1.jpg" in writer
        writer.write("mapping/2.jpg", a)
    with FeatureReader(path) as reader:
        assert reader.names() == ["mapping/1.jpg", "mapping/2.jpg"]


def test_reads_the_matches_that_hloc_writes(tmp_path):
    path = tmp_path / "hloc.h5"
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("db-a.jpg/q-b.jpg")
        group["matches0"] = np.array([-1, 3, -1, 0], np.int16)
        group["matching_scores0"] = np.array([0, 0.5, 0, 0.25], np.float16)
        file.create_group("db-a.jpg/c.jpg")["matches0"] = np.array([1, -1], np.int16)
    with MatchReader(path) as reader:
        assert reader.pairs() == [("db-a.jpg", "c.jpg"), ("db-a.jpg", "q-b.jpg")]
        for pair in (("db/a.jpg", "q/b.jpg"), ("db-a.jpg", "q-b.jpg")):
            assert reader[pair].indices.tolist() == [[1, 3], [3, 0]]
            assert reader[pair].scores.tolist() == [0.5, 0.25]
            assert reader[pair[::-1]].indices.tolist() == [[3, 1], [0, 3]]
        assert reader["db/a.jpg", "c.jpg"].scores.tolist() == [1]
        assert ("db/a.jpg", "x.jpg") not in reader
    with MatchWriter(path) as writer:
        assert ("q/b.jpg", "db/a.jpg") in writer
        assert len(writer) == 2


def test_32768_keypoints_and_more(tmp_path):
    some = Matches([[39_999, 39_998], [0, 40_000]], [1, 1])
    with MatchWriter(tmp_path / "m.h5") as writer:
        writer.write(("a", "b"), some, (40_000, 40_001))
    with MatchReader(tmp_path / "m.h5") as reader:
        assert reader["a", "b"].indices.tolist() == [[0, 40_000], [39_999, 39_998]]


def test_a_pair_keeps_its_first_direction(tmp_path, assert_same):
    with MatchWriter(tmp_path / "m.h5") as writer:
        writer.write(("a", "b"), Matches([[0, 1]], [0.5]), (3, 2))
        writer.write(("b", "a"), Matches([[0, 2], [1, 0]], [0.25, 0.75]), (2, 3))
        assert len(writer) == 1
    with MatchReader(tmp_path / "m.h5") as reader:
        assert reader.pairs() == [("a", "b")]
        assert_same(reader["a", "b"], Matches([[0, 1], [2, 0]], [0.75, 0.25]))


def test_an_item_can_be_replaced(tmp_path, features, assert_same):
    path = tmp_path / "f.h5"
    with FeatureWriter(path) as writer:
        writer.write("a", features(0, 5, optional=("sets",)))
    with FeatureWriter(path) as writer:
        writer.write("a", features(1, 6))
        writer.write("a", features(2, 7))
    with FeatureReader(path) as reader:
        assert_same(reader["a"], features(2, 7))


def test_a_file_without_images(tmp_path):
    with FeatureWriter(tmp_path / "f.h5"):
        pass
    with FeatureReader(tmp_path / "f.h5") as reader:
        assert len(reader) == 0
        assert "a" not in reader


def test_a_missing_item_is_a_key_error_and_one_line(tmp_path, features):
    with FeatureWriter(tmp_path / "f.h5") as writer:
        writer.write("dir/a", features(0, 3))
    with FeatureReader(tmp_path / "f.h5") as reader:
        for name in ("b", "dir", "dir/a/keypoints", "", "..", "/dir/a"):
            assert name not in reader
            assert reader.get(name) is None
            with pytest.raises(MissingItemError, match=r"f\.h5: holds no features of"):
                reader[name]
        with pytest.raises(StorageError):
            reader["b"]


@pytest.mark.parametrize("name", ["", "../a", "/a", "a//b", "a/", "a\0"])
def test_bad_names_are_refused(tmp_path, features, name):
    with FeatureWriter(tmp_path / "f.h5") as writer:
        with pytest.raises(InvalidInputError):
            writer.write(name, features(0, 3))
        writer.write("good", features(0, 3))
    with MatchWriter(tmp_path / "m.h5") as writer, pytest.raises(InvalidInputError):
        writer.write((name, "a"), Matches.empty(), (0, 0))


def test_an_image_cannot_be_a_folder(tmp_path, features):
    with FeatureWriter(tmp_path / "f.h5") as writer:
        writer.write("a/b.jpg", features(0, 3))
        with pytest.raises(InvalidInputError, match="'a'"):
            writer.write("a", features(0, 3))
        with pytest.raises(InvalidInputError, match=r"a/b\.jpg"):
            writer.write("a/b.jpg/keypoints", features(0, 3))
    with FeatureReader(tmp_path / "f.h5") as reader:
        assert reader.names() == ["a/b.jpg"]


def test_two_pairs_with_one_key_are_refused_and_not_confused(tmp_path):
    with MatchWriter(tmp_path / "m.h5") as writer:
        writer.write(("a/b", "c"), Matches.empty(), (1, 1))
        assert ("a-b", "c") not in writer
        with pytest.raises(InvalidInputError, match="rename"):
            writer.write(("a-b", "c"), Matches.empty(), (1, 1))
    with MatchReader(tmp_path / "m.h5") as reader:
        assert ("a/b", "c") in reader
        assert ("a-b", "c") not in reader


@pytest.mark.parametrize(("indices", "counts"), [([[0, 0], [0, 1]], (3, 3)), ([[3, 0]], (3, 3)), ([[0, 3]], (3, 3))])
def test_matches_that_the_format_cannot_hold(tmp_path, indices, counts):
    with MatchWriter(tmp_path / "m.h5") as writer, pytest.raises(InvalidInputError, match="keypoint"):
        writer.write(("a", "b"), Matches(indices, np.ones(len(indices))), counts)


@pytest.mark.parametrize("reader", [FeatureReader, MatchReader])
def test_bad_files_are_one_line(tmp_path, features, reader):
    good = tmp_path / "good.h5"
    with FeatureWriter(good) as writer:
        for i in range(20):
            writer.write(f"{i}.jpg", features(i, 50))
    content = good.read_bytes()
    for name, data in {
        "half.h5": content[: len(content) // 2],
        "tail.h5": content[:-1],
        "head.h5": content[:20],
        "empty.h5": b"",
        "text.h5": b"hello" * 1000,
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        ours = name in ("half.h5", "tail.h5", "head.h5")  # what may be deleted
        says = "not an HDF5 file, or truncated.+write it again" if ours else "not an HDF5 file, which features.+are in$"
        with pytest.raises(StorageError, match=rf"{name}: {says}") as error:
            reader(path)
        assert "\n" not in str(error.value)
    with pytest.raises(StorageError, match=r"none\.h5: no such file"):
        reader(tmp_path / "none.h5")
    with pytest.raises(StorageError, match="is not a regular file"):
        reader(tmp_path)


def test_other_layouts_are_one_line(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["a/keypoints"] = np.zeros((3, 5))
        file["b/keypoints"] = np.zeros((3, 2))
        file["b/descriptors"] = np.zeros((7, 8))
        file["c/keypoints"] = "text"
        file["d/keypoints"] = np.zeros((3, 2))
        file["d/image_size"] = 3
        file["e/keypoints"] = np.full((3, 2), np.nan)
        file["e/descriptors/group"] = 1
    with FeatureReader(path) as reader:
        for name in "abcde":
            with pytest.raises(StorageError, match=rf"x\.h5: the features of '{name}' are damaged") as error:
                reader[name]
            assert "\n" not in str(error.value)
    with MatchReader(path) as reader, pytest.raises(StorageError, match="holds no matches"):
        list(reader)


def test_flipped_bytes_never_crash(tmp_path, features):
    path = tmp_path / "x.h5"
    with FeatureWriter(path) as writer:
        writer.write("a", features(0, 5))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 30)] = rng.integers(0, 256, 30)
        path.write_bytes(damaged.tobytes())
        try:
            with FeatureReader(path) as reader:
                for name in reader:
                    reader[name]
                assert "b" not in reader
        except StorageError as error:
            assert "\n" not in str(error)
