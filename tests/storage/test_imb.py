"""Folders of the Image Matching Benchmark."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from tiepoints.errors import InvalidInputError, StorageError
from tiepoints.features import Features, Matches
from tiepoints.storage import FeatureReader, FeatureWriter, MatchReader, MatchWriter, load_imb, save_imb

quick = settings(deadline=None, max_examples=25)
STEM = st.one_of(st.text("ab-", min_size=1, max_size=4), st.text(min_size=1, max_size=8)).filter(
    lambda stem: "." not in stem and not set("/\0\\:") & set(stem) and stem.isprintable()
)


def key_of(a: str, b: str) -> str:
    return f"{max(a, b)}-{min(a, b)}"


@quick
@given(stored=st.dictionaries(STEM, st.from_type(Features), max_size=4), seed=st.integers(0, 2**32))
def test_comes_back(stored, seed, tmp_path_factory, matches, assert_same):
    pairs = [(a, b) for a in stored for b in stored if a < b]
    found = {
        (pair if i % 2 else pair[::-1]): matches(seed + i, *(len(stored[n]) for n in (pair if i % 2 else pair[::-1])))
        for i, pair in enumerate(pairs)
    }
    # 'a-a' - 'a' and 'a' - 'a-a' have one key: such names cannot be told apart, and are refused below.
    splits = [(a, b) for a, b in pairs if sum(key_of(a, b) == f"{x}-{y}" for x in stored for y in stored) == 1]
    assume(len(splits) == len(pairs))
    folder = tmp_path_factory.mktemp("imb") / "dataset" / "scene"
    save_imb(
        folder,
        {f"images/{stem}.jpg": features for stem, features in stored.items()},
        {(f"images/{a}.jpg", f"images/{b}.jpg"): some for (a, b), some in found.items()},
    )
    features, back = load_imb(folder)
    assert set(features) == set(stored)
    for stem, before in stored.items():
        after = features[stem]
        np.testing.assert_allclose(after.keypoints, before.keypoints, rtol=0, atol=0.0005)
        np.testing.assert_array_equal(after.descriptors, before.descriptors)
        assert after.descriptors.dtype == before.descriptors.dtype
        np.testing.assert_array_equal(after.scores, before.scores)
        assert after.image_size == before.image_size
        for name in ("scales", "sets"):
            assert (getattr(after, name) is None) == (getattr(before, name) is None)
        if before.scales is not None:
            np.testing.assert_array_equal(after.scales, before.scales)
        if before.sets is not None:
            np.testing.assert_array_equal(after.sets, before.sets)
        assert (after.angles is None) == (before.angles is None)
        if before.angles is not None:
            assert (after.angles >= 0).all()
            assert (after.angles < 2 * np.pi).all()
            np.testing.assert_allclose(np.exp(1j * after.angles), np.exp(1j * before.angles), atol=1e-5)
    assert set(back) == {tuple(sorted(pair, reverse=True)) for pair in found}
    for (a, b), some in found.items():
        after = back[(a, b) if a > b else (b, a)]
        np.testing.assert_array_equal(after.indices if a > b else after.indices[:, ::-1], some.indices)


def test_the_files_are_the_benchmarks(tmp_path):
    b = Features([[0, 0], [10, 20.25]], np.eye(2, 4), [2, 1], (30, 40), scales=[4, 6], angles=[np.pi / 2, -np.pi / 2])
    a = Features([[1, 2]], np.eye(1, 4), [3], (30, 40))
    save_imb(tmp_path, {"x/b.jpg": b, "y/a.png": a}, {("y/a.png", "x/b.jpg"): Matches([[0, 1]], [0.5])})
    names = {"keypoints", "descriptors", "scores", "scales", "angles", "orientations", "matches"}
    assert {p.stem for p in tmp_path.glob("*.h5")} == names
    files = {name: h5py.File(tmp_path / f"{name}.h5") for name in names}
    assert {key: value.shape for key, value in files["keypoints"].items()} == {"a": (1, 2), "b": (2, 2)}
    assert files["keypoints"]["b"][()].tolist() == [[0.5, 0.5], [10.5, 20.75]]
    np.testing.assert_array_equal(files["descriptors"]["b"], b.descriptors)
    assert files["scores"]["b"][()].tolist() == [2, 1]
    assert files["scales"]["b"][()].tolist() == [2, 3]
    for name in ("angles", "orientations"):
        assert files[name]["b"][()].tolist() == [90, 270]
        assert "a" not in files[name]
    assert list(files["matches"]) == ["b-a"]
    assert files["matches"]["b-a"][()].tolist() == [[1], [0]], "the first row is the larger name's"
    for file in files.values():
        file.close()


def test_reads_what_others_write(tmp_path):
    with h5py.File(tmp_path / "keypoints.h5", "w") as file:
        file["00-1"] = np.array([[0.5, 1.5], [3, 4]])  # float64, as the benchmark's own
        file["2"] = np.array([[7.5, 7.5]])
    with h5py.File(tmp_path / "scores.h5", "w") as file:
        file["00-1"] = np.array([[0.25], [0.5]])  # N x 1, as its baselines
    with h5py.File(tmp_path / "orientations.h5", "w") as file:
        file["00-1"] = np.array([180.0, 0])
    with h5py.File(tmp_path / "matches.h5", "w") as file:
        file["2-00-1"] = np.array([[0], [1]])
        file["00-1-2"] = np.zeros((2, 0), np.int64)
    features, matches = load_imb(tmp_path)
    assert features["00-1"].keypoints.tolist() == [[0, 1], [2.5, 3.5]]
    assert features["00-1"].scores.tolist() == [0.25, 0.5]
    assert features["00-1"].image_size == (0, 0)
    assert features["00-1"].descriptors.shape == (2, 0)
    np.testing.assert_allclose(features["00-1"].angles, [np.pi, 0], rtol=1e-6)
    assert features["2"].angles is None
    assert matches["2", "00-1"].indices.tolist() == [[0, 1]]
    assert len(matches["00-1", "2"]) == 0


def test_from_hdf5_files_without_loading_them_whole(tmp_path, features, matches):
    with FeatureWriter(tmp_path / "f.h5") as writer:
        writer.write("db/a.jpg", features(0, 9))
        writer.write("db/b.jpg", features(1, 9))
    some = matches(2, 9, 9)
    with MatchWriter(tmp_path / "m.h5") as writer:
        writer.write(("db/a.jpg", "db/b.jpg"), some, (9, 9))
    with FeatureReader(tmp_path / "f.h5") as f, MatchReader(tmp_path / "m.h5") as m:
        save_imb(tmp_path / "scene", f, m)
    back, found = load_imb(tmp_path / "scene")
    assert set(back) == {"a", "b"}
    np.testing.assert_array_equal(found["b", "a"].indices, some.indices[:, ::-1])


def test_nothing_of_an_older_export_stays(tmp_path, features):
    save_imb(tmp_path, {"a": features(0, 5, optional=("angles", "scales", "sets"))}, {})
    assert (tmp_path / "angles.h5").exists()
    save_imb(tmp_path, {"a": features(1, 6)})
    back, matches = load_imb(tmp_path)
    assert back["a"].angles is None
    assert back["a"].sets is None
    assert not matches
    assert not (tmp_path / "matches.h5").exists()


def test_a_failed_export_leaves_the_older_one(tmp_path, features, assert_same):
    save_imb(tmp_path, {"a": features(0, 5, optional=("angles",))})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    class Broken(dict[str, Features]):
        def __getitem__(self, name: str) -> Features:
            if name == "b":
                raise StorageError("broken")
            return super().__getitem__(name)

    with pytest.raises(StorageError, match="broken"):
        save_imb(tmp_path, Broken(a=features(1, 6), b=features(2, 6)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_the_format_cannot_tell_apart_is_refused(tmp_path, features):
    f = features(0, 3)
    with pytest.raises(InvalidInputError, match=r"'x/a\.jpg' and 'y/a\.png' have the same key 'a'"):
        save_imb(tmp_path, {"x/a.jpg": f, "y/a.png": f})
    none = Matches.empty()
    with pytest.raises(InvalidInputError, match="same key 'b-a'"):
        save_imb(tmp_path, {"a": f, "b": f}, {("a", "b"): none, ("b", "a"): none})
    with pytest.raises(InvalidInputError, match="'c' has no features"):
        save_imb(tmp_path, {"a": f, "b": f}, {("a", "c"): none})
    assert not list(tmp_path.glob("*.h5"))


def test_bad_folders_are_one_line(tmp_path, features):
    with pytest.raises(StorageError, match=r"no keypoints\.h5; give the folder"):
        load_imb(tmp_path)
    save_imb(tmp_path, {"a": features(0, 50), "b": features(1, 50)}, {("a", "b"): Matches.empty()})
    good = (tmp_path / "descriptors.h5").read_bytes()
    (tmp_path / "descriptors.h5").write_bytes(good[:-10])
    with pytest.raises(StorageError, match=r"descriptors\.h5: not an HDF5 file, or truncated"):
        load_imb(tmp_path)
    (tmp_path / "descriptors.h5").write_bytes(good)
    with h5py.File(tmp_path / "scores.h5", "w") as file:
        file["a"] = np.zeros(7)
    with pytest.raises(StorageError, match=r"keypoints\.h5: 'a' there, or in a file beside it, is damaged") as error:
        load_imb(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "scores.h5").unlink()
    for key in ("a-x", "ab"):
        with h5py.File(tmp_path / "matches.h5", "w") as file:
            file[key] = np.zeros((2, 1), np.int32)
        with pytest.raises(StorageError, match=rf"matches\.h5: '{key}' there, .+names no two images"):
            load_imb(tmp_path)
