"""Features and matches of real photographs in the files of other programs, and back."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import sqlite3
from contextlib import closing
from itertools import combinations
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

import tiepoints as tp
from tiepoints.cli import cli
from tiepoints.errors import StorageError
from tiepoints.features import Matches
from tiepoints.storage import (
    Exchange,
    MatchReader,
    load_meshroom,
    load_opensfm,
    read_exchange,
    save_meshroom,
    write_exchange,
)
from tiepoints.storage.colmap_model import save_model

NAMES = ("desk_1.jpg", "desk_2.jpg", "box.png")
LEFT = [("desk_1.jpg", "box.png"), ("desk_2.jpg", "box.png")]


@pytest.fixture(scope="module")
def real(examples: Path) -> Exchange:
    """SIFT of three photographs, and the matches of two of them."""
    extractor = tp.load("sift", max_keypoints=400)
    features = {name: extractor(examples / name) for name in NAMES}
    a, b = (features[name] for name in NAMES[:2])
    return Exchange(features, {(NAMES[0], NAMES[1]): tp.match(a, b, ratio=0.9)})


def convert(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["convert", *map(str, arguments)])


def rows(matches: tp.Matches) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in matches.indices}


def assert_alike(found: Exchange, wanted: Exchange, *, sizes: bool = True, descriptors: float = 4e-3) -> None:
    assert set(found.features) == set(wanted.features)
    for name, one in wanted.features.items():
        other = found.features[name]
        np.testing.assert_allclose(other.keypoints, one.keypoints, atol=2e-3)
        np.testing.assert_allclose(other.scales, one.scales, rtol=1e-5)
        turned = np.exp(1j * other.angles) / np.exp(1j * one.angles)
        np.testing.assert_allclose(turned, 1, atol=1e-4)
        np.testing.assert_allclose(other.descriptors, one.descriptors, atol=descriptors)
        if sizes:
            assert other.image_size == one.image_size
    ((pair, matches),) = found.matches.items()
    ((wanted_pair, wanted_matches),) = wanted.matches.items()
    assert {pair} <= {wanted_pair, wanted_pair[::-1]}
    got = rows(matches) if pair == wanted_pair else {(j, i) for i, j in rows(matches)}
    assert got == rows(wanted_matches)


@pytest.mark.parametrize(
    ("kind", "name"), [("hloc", "m.h5"), ("colmap", "c.db"), ("opensfm", "dataset"), ("meshroom", "nodes")]
)
def test_every_format_and_back(real: Exchange, tmp_path: Path, kind: str, name: str, examples: Path) -> None:
    if kind == "colmap":
        pytest.importorskip("pycolmap")
    written = write_exchange(tmp_path / name, real, kind)
    if kind == "opensfm":
        (tmp_path / name / "images").symlink_to(examples)  # from where sizes are known
    assert_alike(read_exchange(written), real)


def test_a_chain_through_all_formats_on_the_command_line(real: Exchange, tmp_path: Path, examples: Path) -> None:
    pytest.importorskip("pycolmap")
    write_exchange(tmp_path / "1.h5", real, "hloc")
    steps = [
        (tmp_path / "1.h5", tmp_path / "1-features.h5", tmp_path / "2.db"),
        (tmp_path / "2.db", tmp_path / "3", "--format", "opensfm"),
        (tmp_path / "3", tmp_path / "4", "--format", "meshroom"),
        (tmp_path / "4", tmp_path / "5.h5"),
    ]
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "images").symlink_to(examples)
    for step in steps:
        result = convert(*step, "--images", examples)
        assert result.exit_code == 0, result.output
    assert_alike(read_exchange([tmp_path / "5.h5", tmp_path / "5-features.h5"]), real, descriptors=2e-2)


def test_a_database_is_known_by_its_content(real: Exchange, tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    (written,) = write_exchange(tmp_path / "c.db", real, "colmap")
    assert_alike(read_exchange(written.rename(tmp_path / "database.sqlite3")), real)


def test_opensfm_s_own_functions_would_read_the_same(real: Exchange, tmp_path: Path) -> None:
    """By the formulas of its documentation: x = (pixel + 0.5 - width / 2) / longer edge, angles in degrees."""
    write_exchange(tmp_path, real, "opensfm")
    with np.load(tmp_path / "features" / "desk_1.jpg.features.npz") as file:
        assert file["OPENSFM_FEATURES_VERSION"] == 3
        points, descriptors = file["points"], file["descriptors"]
    one = real.features["desk_1.jpg"]
    np.testing.assert_allclose(points[:, 0] * 640 - 0.5 + 320, one.keypoints[:, 0], atol=1e-3)
    np.testing.assert_allclose(points[:, 1] * 640 - 0.5 + 240, one.keypoints[:, 1], atol=1e-3)
    np.testing.assert_allclose(np.radians(points[:, 3]), one.angles, atol=1e-5)
    np.testing.assert_array_equal(descriptors, one.descriptors)
    with gzip.open(tmp_path / "matches" / "desk_1.jpg_matches.pkl.gz") as stream:
        found = pickle.load(stream)  # our own file
    np.testing.assert_array_equal(found["desk_2.jpg"], next(iter(real.matches.values())).indices)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/tiepoints-was-here",)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_of_strangers_run_nothing(real: Exchange, tmp_path: Path, examples: Path, protocol: int) -> None:
    write_exchange(tmp_path, real, "opensfm")
    (tmp_path / "images").symlink_to(examples)
    path = tmp_path / "matches" / "desk_1.jpg_matches.pkl.gz"
    indices = next(iter(real.matches.values())).indices.astype(np.int64)
    # NumPy writes a Fortran array by other functions.
    for array in (indices, np.asfortranarray(indices), indices.astype(np.int32)):
        path.write_bytes(gzip.compress(pickle.dumps({"desk_2.jpg": array}, protocol=protocol)))
        _, matches = load_opensfm(tmp_path)
        assert rows(matches["desk_1.jpg", "desk_2.jpg"]) == {(int(i), int(j)) for i, j in indices}
    path.write_bytes(gzip.compress(pickle.dumps({"desk_2.jpg": indices.tolist()}, protocol=protocol)))
    assert len(load_opensfm(tmp_path)[1]["desk_1.jpg", "desk_2.jpg"]) == len(indices)
    for bad in (
        Evil(),
        {"desk_2.jpg": Evil()},
        {"desk_2.jpg": np.array([Evil()], object)},
        [1],
        {"desk_2.jpg": [[1.5]]},
    ):
        path.write_bytes(gzip.compress(pickle.dumps(bad, protocol=protocol)))
        with pytest.raises(tp.StorageError, match=r"desk_1\.jpg_matches\.pkl\.gz"):
            load_opensfm(tmp_path)
    assert not Path("/tmp/tiepoints-was-here").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"\x80\x04."), gzip.compress(bytes(50_000_000))],
    ids=["empty", "no gzip", "truncated pickle", "bomb"],  # gzip writes the time
)
def test_damaged_files_of_opensfm_are_one_line(real: Exchange, tmp_path: Path, examples: Path, content: bytes) -> None:
    write_exchange(tmp_path, real, "opensfm")
    with pytest.raises(tp.StorageError, match=r"size of box\.png is not known"):
        load_opensfm(tmp_path)
    (tmp_path / "images").symlink_to(examples)
    (tmp_path / "matches" / "desk_1.jpg_matches.pkl.gz").write_bytes(content)
    with pytest.raises(tp.StorageError, match="write it again"):
        load_opensfm(tmp_path)
    with pytest.raises(tp.StorageError, match="no OpenSfM features"):
        load_opensfm(tmp_path / "images")


def test_meshroom_s_views_keep_their_numbers(real: Exchange, tmp_path: Path) -> None:
    """As CameraInit lists them: numbers are hashes of the files, and paths are whole."""
    numbers = {"desk_1.jpg": 1804289383, "desk_2.jpg": 846930886, "box.png": 1681692777}
    views = [
        {"viewId": str(number), "poseId": "1", "intrinsicId": "2", "path": f"/home/me/photos/{name}",
         "width": "640", "height": "480"}
        for name, number in numbers.items()
    ]  # fmt: skip
    (tmp_path / "cameraInit.sfm").write_text(json.dumps({"version": ["1", "2", "10"], "views": views}))
    save_meshroom(tmp_path, real.features, real.matches)
    assert {path.name for path in tmp_path.glob("*.feat")} == {f"{n}.sift.feat" for n in numbers.values()}
    text = (tmp_path / "0.matches.txt").read_text().splitlines()
    matches = next(iter(real.matches.values()))
    assert text[:3] == ["846930886 1804289383", "1", f"sift {len(matches)}"]  # the smaller number first
    i, j = map(int, text[3].split())
    assert [j, i] == matches.indices[0].tolist()
    line = (tmp_path / "1804289383.sift.feat").read_text().splitlines()[0].split()
    one = real.features["desk_1.jpg"]
    np.testing.assert_allclose(
        np.array(line, float), [*one.keypoints[0], one.scales[0] / 2, one.angles[0]], rtol=1e-6, atol=1e-6
    )
    count = (tmp_path / "1804289383.sift.desc").read_bytes()[:8]
    assert int.from_bytes(count, "little") == len(one)
    assert_alike(Exchange(*load_meshroom(tmp_path)), real, sizes=False)
    with pytest.raises(tp.InvalidInputError, match=r"lists no views of 'other\.jpg'"):
        save_meshroom(tmp_path, {"other.jpg": one}, {})


def test_several_types_of_meshroom_stand_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "1.sift.feat").write_text("1 2 3 0.5\n4 5 6 0\n")
    (tmp_path / "1.akaze.feat").write_text("7 8 2 0\n")
    (tmp_path / "2.sift.feat").write_text("1 1 1 0\n")
    (tmp_path / "2.akaze.feat").write_text("9 9 1 0\n3 3 1 0\n")
    (tmp_path / "0.matches.txt").write_text("1 2\n2\nsift 1\n1 0\nakaze 1\n0 1\n")
    features, matches = load_meshroom(tmp_path)
    assert features["1"].keypoints.tolist() == [[7, 8], [1, 2], [4, 5]]  # akaze comes before sift
    (found,) = matches.values()
    assert [features["1"].keypoints[i].tolist() for i in found.indices[:, 0]] == [[4, 5], [7, 8]]
    assert [features["2"].keypoints[i].tolist() for i in found.indices[:, 1]] == [[1, 1], [3, 3]]
    for wrong in ("1 2\n1\nsift 1\n7 0\n", "1 2\n1\nsift 5\n1 0\n", "1 2 x"):
        (tmp_path / "0.matches.txt").write_text(wrong)
        with pytest.raises(tp.StorageError, match=r"0\.matches\.txt"):
            load_meshroom(tmp_path)


def test_models_binary_and_text_are_the_same(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    pycolmap = pytest.importorskip("pycolmap")
    options = pycolmap.SyntheticDatasetOptions(num_points3D=60, num_points2D_without_point3D=5)
    model = pycolmap.synthesize_dataset(options)
    (tmp_path / "bin").mkdir()
    model.write_binary(tmp_path / "bin")
    assert convert(tmp_path / "bin", tmp_path / "text", "--format", "model-text").exit_code == 0
    assert convert(tmp_path / "text", tmp_path / "again", "--format", "model").exit_code == 0
    assert (tmp_path / "text" / "images.txt").is_file()
    again = pycolmap.Reconstruction(tmp_path / "again")
    for number, image in model.images.items():
        other = again.image(number)
        np.testing.assert_allclose(
            other.cam_from_world().matrix(), image.cam_from_world().matrix(), rtol=1e-12, atol=1e-12
        )
        assert [p.xy.tolist() for p in other.points2D] == [p.xy.tolist() for p in image.points2D]
    exchange = read_exchange(tmp_path / "bin")
    (a, b), matches = next(iter(exchange.matches.items()))
    for i, j in matches.indices[:20]:  # both show the same point
        ids = [model.find_image_with_name(n).points2D[int(k)].point3D_id for n, k in ((a, i), (b, j))]
        assert ids[0] == ids[1]
    assert convert(tmp_path / "bin", tmp_path / "m.db").exit_code == 0
    assert convert(tmp_path / "none", tmp_path / "x", "--format", "model").exit_code == 2


def test_an_unknown_camera_model_is_told_with_the_remedy(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    made = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions(num_points3D=20))
    save_model(tmp_path / "text", made, text=True)
    save_model(tmp_path / "binary", made)
    table = tmp_path / "text" / "cameras.txt"
    table.write_text(table.read_text().replace("SIMPLE_RADIAL", "NEXT_YEARS"))
    binary = tmp_path / "binary" / "cameras.bin"
    content = binary.read_bytes()
    binary.write_bytes(content[:12] + (99).to_bytes(4, "little") + content[16:])
    for folder in ("text", "binary"):
        with pytest.raises(tp.StorageError, match=f"{folder}: .*model does not exist: .*install --upgrade"):
            read_exchange(tmp_path / folder)


def test_matches_of_images_without_features_are_told(real: Exchange, tmp_path: Path) -> None:
    write_exchange(tmp_path / "m.h5", real, "hloc")
    few = {name: real.features[name] for name in (NAMES[0], NAMES[2])}
    write_exchange(tmp_path / "few.h5", Exchange(few, {}), "hloc")
    with pytest.warns(UserWarning, match=f"{NAMES[1]} is left out: 1 pair matched, but no features of it"):
        found = read_exchange([tmp_path / "few-features.h5", tmp_path / "m.h5"])
    assert set(found.features) == set(few) and not found.matches and list(found.failed) == [NAMES[1]]


def test_a_database_of_verified_pairs_gives_those(real: Exchange, tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    from tiepoints.storage import TwoView, write_colmap

    ((pair, putative),) = real.matches.items()
    a, b = (real.features[name] for name in pair)
    model = tp.fundamental(a, b, putative)
    view = TwoView(putative.select(model.inliers), "uncalibrated", model.matrix, putative=putative)
    camera = tp.Camera.from_focal(700, (640, 480))
    write_colmap(tmp_path / "c.db", {pair[0]: (a, camera), pair[1]: (b, camera)}, {pair: view})
    found = read_exchange(tmp_path / "c.db")
    assert rows(found.matches[pair]) == rows(view.matches) != rows(putative)
    assert found.cameras[pair[0]].params[0] == 700


def test_upright_features_are_turned_into_the_stored_picture(examples: Path, tmp_path: Path) -> None:
    """tiepoints extracts from the upright picture; COLMAP reads the file without EXIF's rotation."""
    from PIL import Image

    pytest.importorskip("pycolmap")
    (tmp_path / "photos").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(examples / "desk_1.jpg").rotate(90, expand=True).save(tmp_path / "photos" / "a.png", exif=exif)
    out = tmp_path / "f.h5"
    extract = ["extract", str(tmp_path / "photos"), "-e", "sift", "-n", "100", "--out", str(out)]
    assert CliRunner().invoke(cli, extract).exit_code == 0
    assert convert(out, tmp_path / "c.db", "--images", tmp_path / "photos").exit_code == 0
    found = read_exchange(tmp_path / "c.db").features["a.png"]
    assert found.image_size == (480, 640)
    stored = cv2.imread(str(tmp_path / "photos" / "a.png"), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    direct = tp.load("sift", max_keypoints=100)(stored)
    gaps = np.linalg.norm(found.keypoints[:, None] - direct.keypoints, axis=2).min(axis=1)
    assert np.median(gaps) < 0.2
    assert "--images" in convert(out, tmp_path / "d.db").stderr


def test_what_cannot_be_converted_is_one_line(real: Exchange, tmp_path: Path, examples: Path) -> None:
    write_exchange(tmp_path / "1.h5", real, "hloc")
    for arguments, code, words in (
        ((tmp_path / "1.h5", tmp_path / "x.db"), 1, "give the file of features too"),
        ((tmp_path / "1-features.h5", tmp_path / "x"), 2, "say what it is to be"),
        ((examples, tmp_path / "x.db"), 1, "no features"),
        ((examples / "box.png", tmp_path / "x.db"), 1, "not an HDF5 file"),
        ((tmp_path / "gone.h5", tmp_path / "x.db"), 1, "no such file"),
    ):
        result = convert(*arguments)
        assert result.exit_code == code and words in result.stderr, result.stderr
        assert len(result.stderr.strip().splitlines()) <= (4 if code == 2 else 1)
    fewer = Exchange({"desk_1.jpg": real.features["desk_1.jpg"].top(100)}, {})
    write_exchange(tmp_path / "2.h5", fewer, "hloc")
    result = convert(tmp_path / "1-features.h5", tmp_path / "2-features.h5", tmp_path / "x.h5")
    assert result.exit_code == 2 and "made from different features" in result.stderr


def test_numbers_that_are_none_name_their_file(real: Exchange, tmp_path: Path) -> None:
    write_exchange(tmp_path / "nodes", real, "meshroom")
    table = tmp_path / "nodes" / "1.sift.feat"
    good = table.read_text()
    for odd, reason in (("nan", "not finite"), ("-1e400", "not finite"), ("1e300", "too large")):
        table.write_text(f"{odd} {good.partition(' ')[2]}")
        with pytest.raises(StorageError, match=rf"1\.sift\.feat: it is damaged.*{reason}"):
            load_meshroom(tmp_path / "nodes")


@pytest.fixture
def three(examples: Path) -> Exchange:
    """Three images and their three pairs."""
    features = dict(zip(NAMES, tp.load("sift", max_keypoints=60)([examples / name for name in NAMES]), strict=True))
    found = Matches(np.stack([np.arange(20)] * 2, axis=1), np.ones(20))
    return Exchange(features, dict.fromkeys(combinations(NAMES, 2), found))


def with_damage(three: Exchange, kind: str, folder: Path, examples: Path) -> Path:
    """What `kind` says, in which the matches of a and b are damaged."""
    if kind.startswith("colmap"):
        pytest.importorskip("pycolmap")
        write_exchange(folder / "x.db", three, "colmap")
        damage = {
            "colmap short": "data = substr(data, 1, 10)", "colmap longer": "data = data || data",
            "colmap too many": "rows = 1000000000000", "colmap beyond": "data = x'000000000000FF7F', rows = 1",
            "colmap none": "data = NULL",
        }[kind]  # fmt: skip
        with closing(sqlite3.connect(folder / "x.db")) as database, database:
            database.execute(f"UPDATE matches SET {damage} WHERE pair_id = (SELECT MIN(pair_id) FROM matches)")
        return folder / "x.db"
    if kind.startswith("hloc"):
        write_exchange(folder / "x.h5", three, "hloc")
        with h5py.File(folder / "x.h5", "a") as file:
            group = file["desk_1.jpg/desk_2.jpg"]
            del group["matches0"]
            group["matches0"] = np.full(60, 70) if kind.endswith("beyond") else np.full(60, np.nan)
        return folder / "x.h5"
    write_exchange(folder / "x", three, kind.partition(" ")[0])
    if kind == "opensfm beyond":
        (folder / "x" / "images").symlink_to(examples)
        pairs = {"desk_2.jpg": np.full((9, 2), 70), "box.png": three.matches["desk_1.jpg", "box.png"].indices}
        path = folder / "x" / "matches" / "desk_1.jpg_matches.pkl.gz"
        path.write_bytes(gzip.compress(pickle.dumps(pairs, protocol=4)))
    else:
        path = folder / "x" / "0.matches.txt"
        path.write_text(path.read_text().replace("\n0 0\n", "\n70 70\n", 1))
    return folder / "x"


@pytest.mark.parametrize(
    "kind",
    ["colmap short", "colmap longer", "colmap too many", "colmap beyond", "colmap none", "hloc beyond", "hloc nan",
     "opensfm beyond", "meshroom beyond"],
)  # fmt: skip
def test_a_damaged_pair_costs_no_other(three: Exchange, tmp_path: Path, examples: Path, kind: str) -> None:
    source = with_damage(three, kind, tmp_path, examples)
    more = [tmp_path / "x-features.h5"] if kind.startswith("hloc") else []
    with pytest.warns(UserWarning, match=r"x.*: desk_1.jpg - desk_2.jpg is left out: "):
        found = read_exchange([source, *more])
    assert list(found.failed) == ["desk_1.jpg - desk_2.jpg"] and len(found.features) == 3
    assert set(map(frozenset, found.matches)) == set(map(frozenset, LEFT))
    with pytest.warns(UserWarning, match=r"desk_1.jpg - desk_2.jpg is left out: "):
        assert convert(source, *more, tmp_path / "out.h5").exit_code == 1
    with MatchReader(tmp_path / "out.h5") as written:
        assert set(map(frozenset, written)) == set(map(frozenset, LEFT))


def test_a_damaged_image_costs_no_other(three: Exchange, tmp_path: Path, examples: Path) -> None:
    for kind, name in (("opensfm", "features/desk_2.jpg.features.npz"), ("meshroom", "2.sift.feat"), ("hloc", "")):
        out = tmp_path / ("x.h5" if kind == "hloc" else kind)
        written = write_exchange(out, three, kind)
        if kind == "hloc":
            with h5py.File(written[1], "a") as file:
                del file["desk_2.jpg/descriptors"]
                file["desk_2.jpg/descriptors"] = np.zeros((128, 3), np.float32)
        else:
            (out / name).write_bytes((out / name).read_bytes()[:100])
        if kind == "opensfm":
            (out / "images").symlink_to(examples)
        with pytest.warns(UserWarning, match=r"desk_2.jpg is left out"):
            found = read_exchange(written)
        assert list(found.failed) == ["desk_2.jpg"] and set(found.features) == {"desk_1.jpg", "box.png"}, kind
        assert [set(pair) for pair in found.matches] == [{"desk_1.jpg", "box.png"}], kind


def test_an_image_of_a_model_with_impossible_places_costs_no_other(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_points3D = 20
    save_model(tmp_path / "m", pycolmap.synthesize_dataset(options), text=True)
    path = tmp_path / "m" / "images.txt"
    lines = path.read_text().split("\n")
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    name, places = lines[first].split()[-1], lines[first + 1].split()
    lines[first + 1] = " ".join(["1e300", *places[1:]])
    path.write_text("\n".join(lines))
    with pytest.warns(UserWarning, match=f"m: {name} is left out: keypoints hold values that are too large"):
        found = read_exchange(tmp_path / "m")
    assert list(found.failed) == [name] and found.features and name not in found.features
    assert found.matches and not any(name in pair for pair in found.matches)
