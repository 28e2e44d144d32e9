"""Photographs that are added to a map while queries are answered in it, and engines."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import tiepoints as tp
from tiepoints.cli import cli
from tiepoints.collection import Collection, Processes, Serial, run
from tiepoints.storage.colmap_model import load_model
from tiepoints.tasks import Localize, Localizer, Reconstruction, add_to_map, build_map
from tiepoints.tasks.maps import Map, read_map, write_version


@pytest.fixture(scope="module")
def names(photographs: Collection) -> list[str]:
    return [name for name in photographs if name != "other.png"]


@pytest.fixture(scope="module")
def small(
    photographs: Collection,
    names: list[str],
    scene: Reconstruction,
    extractor: tp.Extractor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Map:
    """A map of three of the photographs, in the frame of the scene with all of them."""
    folder = tmp_path_factory.mktemp("small") / "map"
    few = photographs.select(names[:5:2])
    return build_map(few, folder, extractor=extractor, model=scene.folder / "sparse" / "0")[0]


@pytest.fixture
def place(small: Map, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small.folder, tmp_path / "map"))


def test_added_photographs_see_the_map_s_points_and_give_new_ones(
    small: Map, place: Path, photographs: Collection, names: list[str], scene: Reconstruction
) -> None:
    more = photographs.select([names[1], names[3], names[2], "other.png"])
    before = Localizer(place)
    query = photographs[names[5]].path
    first = before(query)
    added = add_to_map(place, more)
    assert list(added.localized) == [names[1], names[3]]
    assert "already" in added.failed[names[2]] and "not localized" in added.failed["other.png"]
    made = read_map(place)
    assert made.names == (*small.names, names[1], names[3])
    assert added.points > 5 and len(made.xyz) == len(small.xyz) + added.points
    np.testing.assert_array_equal(made.xyz[: len(small.xyz)], small.xyz)

    # The new points are where the scene with all photographs has them: near one of its points.
    truth = load_model(scene.folder / "sparse" / "0")
    true = np.array([point.xyz for point in truth.points3D.values()])
    gaps = np.linalg.norm(made.xyz[len(small.xyz) :, None] - true, axis=2).min(axis=1)
    extent = np.linalg.norm(np.ptp(true, axis=0))
    assert np.median(gaps) < 0.005 * extent

    # New images show old points and new ones; each keypoint shows one.
    for image in (len(small), len(small) + 1):
        rows = made.rows(image)
        assert (rows.points < len(small.xyz)).sum() > 30
        assert (rows.points >= len(small.xyz)).sum() > 0
        assert len(rows.features) == len(rows.points)

    # The localizer that was open goes on in the old version, a new one has more to match with.
    again = before(query)
    assert again.inliers == first.inliers and again.pose.center is not None and first.pose.center is not None
    np.testing.assert_array_equal(again.pose.matrix, first.pose.matrix)
    after = Localizer(place)(query)
    assert after.inliers > first.inliers
    wanted = truth.find_image_with_name(names[5]).projection_center()
    assert np.linalg.norm(after.pose.center - wanted) < 0.02 * extent


def test_queries_are_answered_while_a_map_is_replaced(
    small: Map, place: Path, photographs: Collection, names: list[str]
) -> None:
    """Each answer is that of the old version or of the new one, never of a mixture."""
    added = Path(shutil.copytree(place, place.with_name("added")))
    add_to_map(added, photographs.select([names[1], names[3]]))
    versions = [(one.content(), {k: np.array(v) for k, v in one.arrays().items()}) for one in (small, read_map(added))]
    features = Localizer(place).extractor(photographs[names[5]].path)
    wanted = {
        len(v[0]["names"]): Localizer(f).localize(features) for v, f in zip(versions, (place, added), strict=True)
    }
    enough = threading.Event()
    errors: list[Exception] = []
    written: list[int] = []

    def rewrite() -> None:
        try:
            while not enough.is_set():
                write_version(place, *versions[(len(written) + 1) % 2])
                written.append(1)
        except Exception as error:
            errors.append(error)

    writer = threading.Thread(target=rewrite)
    writer.start()
    answered: set[int] = set()
    deadline = time.monotonic() + 60  # how often a machine comes to each of the two, nobody knows
    try:
        while (len(answered) < 2 or len(written) < 12) and writer.is_alive() and time.monotonic() < deadline:
            localizer = Localizer(place)
            found = localizer.localize(features)
            count = len(localizer.map)
            np.testing.assert_array_equal(found.pose.matrix, wanted[count].pose.matrix)
            answered.add(count)
    finally:
        enough.set()
        writer.join()
    assert not errors and len(answered) == 2


def test_an_interrupted_update_leaves_the_old_map(small: Map, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiepoints.tasks import maps

    content, arrays = small.content(), small.arrays() | {"xyz": small.xyz + 1}

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(maps, "write_whole", stop)
    with pytest.raises(KeyboardInterrupt):
        write_version(place, content, arrays)
    monkeypatch.undo()
    np.testing.assert_array_equal(read_map(place).xyz, small.xyz)
    made = write_version(place, content, arrays)
    np.testing.assert_array_equal(made.xyz, small.xyz + 1)
    assert len([path for path in place.iterdir() if path.is_dir()]) == 2  # this one, and the one that may be open


def test_the_command_adds(place: Path, photographs: Collection, names: list[str]) -> None:
    photos = [str(photographs[name].path) for name in (names[1], "other.png")]
    result = CliRunner().invoke(cli, ["add", str(place), *photos, "--json"])
    assert result.exit_code == 1  # one of them is elsewhere
    said = json.loads(result.stdout)
    assert said["added"] == [names[1]] and list(said["failed"]) == ["other.png"]
    assert said["images"] == 4 == len(read_map(place))
    again = CliRunner().invoke(cli, ["add", str(place), photos[0]])
    assert again.exit_code == 1 and "has an image of this name already" in again.stderr


def test_a_map_made_again_loses_no_added_photograph_without_a_word(
    place: Path, photographs: Collection, names: list[str], scene: Reconstruction, extractor: tp.Extractor
) -> None:
    first = photographs.select(names[:5:2])
    model = scene.folder / "sparse" / "0"
    options = ["--model", str(model), "--max-size", "640", "-n", "800"]
    few, all_four = ([str(one.path) for one in (*first.values(), *more)] for more in ((), (photographs[names[1]],)))
    assert CliRunner().invoke(cli, ["map", *few, str(place), *options, "--overwrite"]).exit_code == 0
    added = add_to_map(place, photographs.select([names[1]]))
    assert read_map(place).added == added.map.added == (names[1],)
    refused = CliRunner().invoke(cli, ["map", *few, str(place), *options])
    assert refused.exit_code == 1 and "would lose 1 photograph that `tiepoints add` brought" in refused.stderr
    assert names[1] in refused.stderr and "--overwrite" in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert read_map(place).version == added.map.version
    assert CliRunner().invoke(cli, ["map", *all_four, str(place), *options]).exit_code == 0
    assert len(read_map(place)) == 4 and read_map(place).added == ()
    # in folders of their own the photographs have longer names
    add_to_map(place, photographs.select([names[3]]))
    longer = Collection.from_paths({f"some/{name}": photographs[name].path for name in names[:4]})
    with pytest.raises(tp.TiepointsError):  # the model has none of these names, but none is lost
        build_map(longer, place, extractor=extractor, model=model)
    assert CliRunner().invoke(cli, ["map", *few, str(place), *options, "--overwrite"]).exit_code == 0
    assert len(read_map(place)) == 3


def test_a_focal_length_unlike_the_maps_is_named(
    place: Path, photographs: Collection, names: list[str], tmp_path: Path
) -> None:
    query = photographs[names[1]]
    usual = read_map(place).cameras[query.header.size].matrix[0, 0]
    for focal, is_named in ((usual / 3, True), (usual * 2, True), (usual * 1.2, False), (None, False)):
        given = [] if focal is None else ["--focal", str(focal)]
        result = CliRunner().invoke(cli, ["localize", str(place), str(query.path), *given])
        assert (f"{usual:.0f} px" in result.stderr) is is_named, result.stderr
        assert not is_named or (f"{focal:.0f} px" in result.stderr and names[1] in result.stderr)
    for command in ("localize", "add"):
        result = CliRunner().invoke(cli, [command, str(place), str(query.path), "--focal", "2"])
        assert result.exit_code == 2 and "the focal length is 2 pixels, but that of a camera with" in result.stderr
    width, height = query.header.size
    cameras = tmp_path / "cameras.txt"
    cameras.write_text(f"{names[1]} SIMPLE_PINHOLE {width} {height} {usual / 4} {width / 2} {height / 2}\n")
    result = CliRunner().invoke(cli, ["add", str(place), str(query.path), "--cameras", str(cameras)])
    assert f"{usual:.0f} px" in result.stderr and f"{usual / 4:.0f} px" in result.stderr


def test_all_engines_localize_alike(small: Map, photographs: Collection, names: list[str]) -> None:
    step = Localize(Localizer(small.folder), focal=None)
    queries = photographs.select([*names[1:4:2], "other.png"])
    alone = run(step, queries, engine=Serial())
    several = run(step, queries, engine=Processes(2))
    assert set(alone) == set(several) == set(queries) and not several.failed
    for name in queries:
        assert bool(alone[name]) is bool(several[name]) is (name != "other.png")
        if alone[name]:
            np.testing.assert_allclose(several[name].pose.matrix, alone[name].pose.matrix, atol=1e-3)


@pytest.mark.parametrize("command", ["localize", "map", "pairs"])
def test_commands_take_an_engine(
    command: str, small: Map, photographs: Collection, names: list[str], scene: Reconstruction, tmp_path: Path
) -> None:
    few = [str(photographs[name].path) for name in names[:3]]
    options = ["--max-size", "640", "-n", "400", "--engine", "processes", "--jobs", "2"]
    if command == "localize":
        arguments = ["localize", str(small.folder), *few, *options[4:], "--out", str(tmp_path / "poses.txt")]
    elif command == "map":
        arguments = ["map", *few, str(tmp_path / "map"), "--model", str(scene.folder / "sparse" / "0"), *options]
    else:
        arguments = ["pairs", *few, "--kind", "retrieval", "--top", "1", "--out", str(tmp_path / "p.txt"), *options]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert any(tmp_path.iterdir())
    wrong = CliRunner().invoke(cli, [*arguments, "--address", "10.0.0.1:1"])
    assert wrong.exit_code == 2 and "--engine ray" in wrong.stderr
