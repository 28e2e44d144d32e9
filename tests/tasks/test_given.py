"""Other programs' features, matches and models: reconstructed, made into maps, and localized in."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import tiepoints as tp
from tiepoints.cli import cli
from tiepoints.collection import Collection, Extract, Match, Memory, exhaustive, run
from tiepoints.storage import Exchange, read_exchange, write_exchange
from tiepoints.tasks import Localizer, build_map, reconstruct
from tiepoints.tasks.given import given_features, renamed, with_given_cameras
from tiepoints.tasks.map_building import _check_descriptors
from tiepoints.tasks.reconstruction import load_model


def command(*arguments: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)))


@pytest.fixture(scope="module")
def foreign(photographs: Collection) -> Exchange:
    """Features and matches that our defaults would not give: upright RootSIFT, called by the photographs' names."""
    extractor = tp.load("upright-rootsift", max_size=640, max_keypoints=800)
    features = run(Extract(extractor), photographs)
    matches = run(Match(ratio=0.9), exhaustive(features), None, features)
    return Exchange({str(name): features[name] for name in features}, dict(matches), upright=True)


def test_matches_of_any_extractor_are_reconstructed(foreign: Exchange, photographs: Collection, tmp_path: Path) -> None:
    write_exchange(tmp_path / "m.h5", foreign, "hloc")
    folder = photographs["other.png"].path.parent
    sources = ("--from", tmp_path / "m.h5", "--from", tmp_path / "m-features.h5")
    # the given keypoints, row by row; where they are aligned by at most 3 pixels, and not all of them
    for option, most in (("--no-align", 1e-3), ("--align", 3.01)):
        result = command("reconstruct", folder, tmp_path / "scene", *sources, option, "--overwrite", "--json")
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        assert said["registered"] == 7 and said["points"] > 200
        model = load_model(tmp_path / "scene" / "sparse" / "0")
        image = model.image(model.reg_image_ids()[0])
        points = np.array([point.xy for point in image.points2D]) - 0.5
        moved = np.linalg.norm(points - foreign.features[image.name].keypoints, axis=1)
        assert moved.max() < most and (moved > 1e-3).any() == (option == "--align")


def test_names_in_another_unicode_form(tmp_path: Path) -> None:
    """A folder that macOS wrote, and another program's names of its photographs."""
    composed, decomposed = (unicodedata.normalize(form, "K\u00f6ln.png") for form in ("NFC", "NFD"))
    shutil.copy("examples/box.png", tmp_path / decomposed)
    photographs = Collection.from_folder(tmp_path)
    features = {name: tp.load("orb", max_keypoints=20)("examples/box.png") for name in (composed, "b.png")}
    camera = tp.Camera.from_focal(500, (324, 223))
    given = Exchange(features, {(composed, "b.png"): tp.Matches.empty()}, {composed: camera}, upright=True)
    found = given_features(given, photographs, Memory())
    assert list(found) == [decomposed] and not found.failed
    assert list(renamed(given, photographs).matches) == [(decomposed, "b.png")]
    for known in (photographs.with_cameras({composed: camera}), with_given_cameras(photographs, given)):
        assert known[decomposed].camera is not None
    both = Exchange({decomposed: features["b.png"], composed: features[composed]}, {})  # two files, then
    assert list(renamed(both, photographs).features) == [decomposed, composed]


def test_cameras_of_a_database_are_first_guesses(foreign: Exchange, photographs: Collection, tmp_path: Path) -> None:
    from dataclasses import replace

    focal = 1.7 * max(next(iter(foreign.features.values())).image_size)
    cameras = {name: tp.Camera.from_focal(focal, one.image_size) for name, one in foreign.features.items()}
    write_exchange(tmp_path / "c.db", replace(foreign, cameras=cameras), "colmap")
    given = read_exchange(tmp_path / "c.db")
    guessed = with_given_cameras(photographs, given)
    assert all(one.camera is not None and not one.camera.focal_is_known for one in guessed.values())
    assert next(iter(guessed.values())).camera.params[0] == pytest.approx(focal)
    own = tp.Camera.from_focal(100, next(iter(foreign.features.values())).image_size)
    assert with_given_cameras(photographs.with_cameras(own), given)["other.png"].camera == own
    made = reconstruct(photographs, tmp_path / "scene", given=given)
    assert made.registered == 7  # from COLMAP's matches, which the database holds


def test_without_features_of_a_photograph_it_is_named(
    foreign: Exchange, photographs: Collection, tmp_path: Path
) -> None:
    first = next(iter(photographs))
    fewer = Exchange({name: one for name, one in foreign.features.items() if name != first}, foreign.matches)
    made = reconstruct(photographs, tmp_path, given=fewer)
    assert made.registered == 6
    assert "the given features have none of it" in made.missing[first]


@pytest.fixture(scope="module")
def sfm(foreign: Exchange, photographs: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of another program, but for two photographs."""
    folder = tmp_path_factory.mktemp("foreign")
    names = [name for name in photographs if name != "other.png"]
    assert reconstruct(photographs.select(names[:5]), folder, given=foreign).registered == 5
    return folder / "sparse" / "0"


def test_a_model_with_its_own_features_is_a_map(
    foreign: Exchange, photographs: Collection, sfm: Path, tmp_path: Path
) -> None:
    """Once with an extractor that finds the same for queries, once with the queries' own features."""
    query = [name for name in photographs if name != "other.png"][5]
    write_exchange(tmp_path / "m.h5", foreign, "hloc")
    features = tmp_path / "m-features.h5"
    options = ("-e", "upright-rootsift", "--max-size", 640, "-n", 800)
    assert command("map", tmp_path / "map", "--model", sfm, "--from", features, *options).exit_code == 0
    photograph = photographs[query].path
    one = command("localize", tmp_path / "map", photograph, "--json")
    assert one.exit_code == 0, one.output
    said = json.loads(one.stdout)["queries"][0]
    assert said["inliers"] > 50

    assert command("map", tmp_path / "plain", "--model", sfm, "--from", features).exit_code == 0
    refused = command("localize", tmp_path / "plain", photograph)
    assert refused.exit_code == 1 and "give those of the queries too" in refused.stderr
    other = command("localize", tmp_path / "plain", photograph, "--from", features, "--json")
    assert other.exit_code == 0, other.output
    again = json.loads(other.stdout)["queries"][0]
    np.testing.assert_allclose(again["center"], said["center"], atol=0.05 * np.linalg.norm(said["center"]) + 0.05)
    assert again["inliers"] > 50


def test_a_map_from_another_program_s_features_and_photographs(
    foreign: Exchange, photographs: Collection, tmp_path: Path
) -> None:
    """Without a size, as some tools write them, and paired by retrieval with words of their own."""
    from dataclasses import replace

    names = [name for name in photographs if name != "other.png"]
    bare = {name: replace(one, image_size=(0, 0)) for name, one in foreign.features.items()}
    write_exchange(tmp_path / "m.h5", Exchange(bare, {}), "hloc")
    features = tmp_path / "m-features.h5"
    photos = [photographs[name].path for name in names[:5]]
    made = command(
        "map", *photos, tmp_path / "map", "--from", features, "--pairs", "retrieval", "--ratio", 0.9, "--json"
    )
    assert made.exit_code == 0, made.output
    said = json.loads(made.stdout)
    assert said["images"] == 5 and said["extractor"] == ""
    query = photographs[names[5]].path
    assert "give those of the queries too" in command("localize", tmp_path / "map", query).stderr
    assert command("localize", tmp_path / "map", query, "--from", features).exit_code == 0


def test_the_extractor_of_given_features_is_known_by_what_it_gives_with_its_options(
    examples: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="weights of one's own need torch")
    from tiepoints.training.export import save_model
    from tiepoints.training.network import SIZES, MDNet

    weights = tmp_path / "upright.onnx"
    save_model(MDNet(SIZES["mdnet-small"]).eval(), weights, {})
    box = tp.read(examples / "box.png")
    plain, any_rotation = (
        tp.load("mdnet", weights=weights, rotation=name, max_keypoints=20) for name in ("upright", "any")
    )
    for method, other in ((plain, any_rotation), (any_rotation, plain)):
        _check_descriptors(method, Exchange({"x": method(box)}, {}))
        for wrong in (other(box), method(box).to_int8()):
            with pytest.raises(tp.InvalidInputError, match=r"descriptors of (64|256) numbers \("):
                _check_descriptors(method, Exchange({"x": wrong}, {}))
    orb = tp.load("orb", max_keypoints=20)
    _check_descriptors(orb, Exchange({"x": orb(box)}, {}))


def test_what_does_not_belong_together_is_one_line(
    foreign: Exchange, photographs: Collection, sfm: Path, examples: Path, tmp_path: Path
) -> None:
    with pytest.raises(tp.InvalidInputError, match="descriptors of 128 numbers"):
        build_map(None, tmp_path / "a", model=sfm, given=foreign, extractor="mdnet")
    strange = Exchange({"x": next(iter(foreign.features.values()))}, {})
    fewer = Exchange({name: one.top(10) for name, one in foreign.features.items()}, {})
    with pytest.raises(tp.StorageError, match="different files"):
        build_map(None, tmp_path / "b", model=sfm, given=fewer, extractor="")
    with pytest.raises(tp.InvalidInputError, match="the features have none of it"):
        build_map(None, tmp_path / "c", model=sfm, given=strange, extractor="")
    with pytest.raises(tp.InvalidInputError, match="no descriptors"):
        build_map(None, tmp_path / "d", model=sfm, given=read_exchange(sfm), extractor="")
    assert command("map", tmp_path / "e").exit_code == 2
    assert not any(tmp_path.iterdir())


def test_another_program_s_model_keeps_its_frame(
    foreign: Exchange, photographs: Collection, sfm: Path, tmp_path: Path
) -> None:
    made, _ = build_map(None, tmp_path / "map", model=sfm, given=foreign, extractor="")
    model = load_model(sfm)
    assert len(made) == 5
    assert {tuple(p) for p in made.xyz.round(9)} == {tuple(np.round(p.xyz, 9)) for p in model.points3D.values()}
    name = made.names[0]
    found = Localizer(made).localize(foreign.features[name])  # one of the map's own
    pose = model.find_image_with_name(name).cam_from_world()
    np.testing.assert_allclose(found.pose.rotation, pose.rotation.matrix(), atol=0.01)
