"""From photographs to cameras and points, through COLMAP itself."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import tiepoints as tp
from tiepoints.cli import cli
from tiepoints.cli.many import pairs_of
from tiepoints.collection import Collection, Extract, MatchVerified, Store, run, sequential
from tiepoints.tasks import Reconstruction, build_map, choose_pairs, reconstruct, verified_pairs
from tiepoints.tasks.mapping import mapper_process, run_mapper
from tiepoints.tasks.page import page_of
from tiepoints.tasks.reasons import PairReport
from tiepoints.tasks.reconstruction import _worth_keeping, load_model, summary_of
from tiepoints.tasks.verified import kind_of_pairs


def test_the_door_is_registered_and_the_stranger_is_named(scene: Reconstruction) -> None:
    assert (scene.images, scene.registered, scene.models) == (8, 7, 1)
    assert scene.points > 300
    assert scene.track_length > 3
    assert scene.reprojection_error < 1
    assert list(scene.missing) == ["other.png"]
    assert "no verified pair" in scene.missing["other.png"]


def test_what_is_written_says_the_same(scene: Reconstruction) -> None:
    report = json.loads((scene.folder / "report.json").read_text())
    assert (report["registered"], report["points"]) == (scene.registered, scene.points)
    model = load_model(scene.folder / "sparse" / "0")
    assert model.num_reg_images() == scene.registered
    assert model.num_points3D() == scene.points
    assert (scene.folder / "points.ply").read_bytes().startswith(b"ply")
    assert not list(scene.folder.glob(".mapping-*"))


def test_transforms_project_points_as_colmap_does(scene: Reconstruction) -> None:
    model = load_model(scene.folder / "sparse" / "0")
    frames = json.loads((scene.folder / "transforms.json").read_text())["frames"]
    assert len(frames) == scene.registered
    point = model.point3D(next(iter(model.point3D_ids())))
    image = model.image(point.track.elements[0].image_id)
    (frame,) = (one for one in frames if Path(one["file_path"]).name == image.name)
    assert not Path(frame["file_path"]).is_absolute() and (scene.folder / frame["file_path"]).is_file()
    in_camera = np.linalg.inv(np.array(frame["transform_matrix"])) @ [*point.xyz, 1]
    x, y = in_camera[0] / -in_camera[2], in_camera[1] / in_camera[2]  # OpenGL looks along -z, y is up
    distortion = 1 + frame.get("k1", 0) * (x * x + y * y)
    pixel = frame["fl_x"] * distortion * x + frame["cx"], frame["fl_y"] * distortion * y + frame["cy"]
    np.testing.assert_allclose(pixel, image.project_point(point.xyz), atol=1e-6)


def test_a_second_run_extracts_nothing(scene: Reconstruction, photographs: Collection, extractor: tp.Extractor) -> None:
    with Store(scene.folder / "work") as store:
        assert run(Extract(extractor), photographs, store).computed == 0


def test_stopping_early_registers_the_same(
    photographs: Collection, extractor: tp.Extractor, scene: Reconstruction
) -> None:
    """The features are in the store already."""
    out = scene.folder.parent / "early"
    made = reconstruct(photographs, out, extractor=extractor, match=MatchVerified(), store=scene.folder / "work")
    assert made.registered == scene.registered and list(made.missing) == ["other.png"]
    assert made.points > 0.9 * scene.points
    assert made.pairs == scene.pairs


def test_another_result_is_replaced_only_where_that_is_asked_for(
    photographs: Collection, extractor: tp.Extractor, scene: Reconstruction, tmp_path: Path
) -> None:
    model = scene.folder / "sparse" / "0" / "images.bin"
    before = model.read_bytes()
    with pytest.raises(tp.StorageError, match=r"made with extractor='mdnet'.*not with extractor='orb'.*overwrite=True"):
        reconstruct(photographs, scene.folder, extractor="orb")
    with pytest.raises(tp.StorageError, match=r"made with match=Match\(.*, not with match=MatchVerified\("):
        reconstruct(photographs, scene.folder, extractor=extractor, match=MatchVerified())
    with pytest.raises(tp.StorageError, match="holds 6 photographs that this call is not given"):
        reconstruct(photographs.select([next(iter(photographs))]), scene.folder, extractor=extractor)
    with pytest.raises(tp.StorageError, match="was made by `tiepoints reconstruct`"):
        build_map(photographs, scene.folder, extractor=extractor)
    assert model.read_bytes() == before
    folder = photographs["other.png"].path.parent
    with pytest.raises(tp.StorageError, match="what made it is not known"):
        build_map(photographs, folder, extractor=extractor)
    with pytest.raises(tp.InvalidInputError, match="overwrite"):
        reconstruct(photographs, tmp_path, extractor=extractor, overwrite="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"given": "features.h5"}, "given is 'features.h5', but Exchange is expected: read one by"),
        ({"match": "nearest"}, r"match is 'nearest', but Match or MatchVerified is expected: such as Match\("),
        ({"verify": "fundamental"}, "verify is 'fundamental', but Verify is expected"),
        ({"engine": "threads"}, "engine is 'threads', but Engine is expected"),
        ({"store": 5}, "store is 5"), ({"progress": 5}, "progress is 5, but a function is expected"),
        ({"align": "no"}, "align is 'no'"), ({"seed": "x"}, "seed is 'x'"), ({"camera_mode": "all"}, "camera_mode is"),
        ({"focal": "800"}, "focal is '800'"), ({"focal": 1e300}, "focal length is 1e"),
        ({"extractor": 5}, "extractor is 5"),
        ({"pairs": 5}, "pairs is 5"), ({"pairs": "all"}, "pairs is 'all'"),
        ({"pairs": [("other.png", "othr.png")]}, "'othr.png', which is no photograph: did you mean 'other.png'"),
        ({"pairs": ["other.png"]}, "'other.png' is no pair of names"),
    ],
)  # fmt: skip
def test_arguments_of_the_wrong_kind_are_refused_before_the_work(
    photographs: Collection, tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    few = photographs.select(["other.png"])
    with pytest.raises(tp.InvalidInputError, match=message):
        reconstruct(few, tmp_path, **({"extractor": tp.load("orb", max_keypoints=50)} | wrong))
    if {"verify", "match", "seed"}.isdisjoint(wrong):  # the others are both functions'
        with pytest.raises(tp.InvalidInputError, match=message):
            build_map(few, tmp_path / "map", **({"extractor": tp.load("orb", max_keypoints=50)} | wrong))
    assert not (tmp_path / "sparse").exists() and not (tmp_path / "map").exists()


def test_pairs_that_cannot_be_chosen_are_refused() -> None:
    with pytest.raises(tp.InvalidInputError, match="kind is 'al': there are auto"):
        choose_pairs("al", ["a", "b"])
    with pytest.raises(tp.InvalidInputError, match="vectors, by which retrieval chooses"):
        choose_pairs("retrieval", ["a", "b"])


def test_nothing_to_register_is_no_error_and_says_why(photographs: Collection, tmp_path: Path) -> None:
    few = photographs.select(["other.png", next(iter(photographs))])
    result = reconstruct(few, tmp_path / "out", extractor="orb")
    assert not result
    assert set(result.missing) == set(few)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["registered"] == 0


def test_models_of_an_earlier_run_and_what_a_killed_one_left_do_not_stay(
    photographs: Collection, tmp_path: Path
) -> None:
    """A report of no camera beside another run's model would be of another scene."""
    for old in ("sparse/0/cameras.bin", ".sparse.tmp-killed/images/a.jpg", "points.ply", "transforms.json"):
        (tmp_path / old).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / old).touch()
    few = photographs.select(["other.png", next(iter(photographs))])
    with pytest.raises(tp.StorageError, match="not known"):
        reconstruct(few, tmp_path, extractor="orb")
    assert not reconstruct(few, tmp_path, extractor="orb", overwrite=True)
    left = ["database.db", "made-with.json", "report.html", "report.json", "work"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_the_command_says_so_too(scene: Reconstruction, photographs: Collection) -> None:
    folder = photographs["other.png"].path.parent
    command = ["reconstruct", str(folder), str(scene.folder), "--max-size", "640", "-n", "800", "--json"]
    refused = CliRunner().invoke(cli, [*command, "--mapper", "global"])
    assert refused.exit_code == 1 and "made with mapper='incremental', not with mapper='global'" in refused.output
    result = CliRunner().invoke(cli, [*command, "--mapper", "global", "--overwrite"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["registered"] == 7
    assert "other.png" in said["missing"]


@pytest.mark.parametrize("command", ["reconstruct", "map"])
def test_most_photographs_missing_is_a_failure_and_the_last_lines_say_why(
    photographs: Collection, examples: Path, tmp_path: Path, command: str
) -> None:
    door = [str(one.path) for name, one in photographs.items() if name != "other.png"][:3]
    others = [str(examples / name) for name in ("box.png", "desk_1.jpg", "box_in_scene.png", "desk_2.jpg")]
    options = ["-e", "sift", "-n", "600", "--max-size", "480"]

    def made(photos: list[str], *more: str) -> Result:
        return CliRunner().invoke(cli, [command, *photos, str(tmp_path / "out"), *options, *more])

    half = made(door + others[:3])
    assert half.exit_code == 0, half.output
    lines = half.stderr.splitlines()[-2:]
    assert lines[0].startswith("3 of 6 photographs missing from the m")
    assert lines[1].startswith("most often: no depth (2 of 3): add photographs taken from other places")
    less = made(door + others)
    assert less.exit_code == 1 and "4 of 7 photographs missing from the m" in less.stderr
    quiet = made(door + others, "-q")
    assert quiet.exit_code == 1 and quiet.output == ""
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    unread = made([*door, *others[:1], str(tmp_path / "bad.jpg")], "--overwrite")
    assert unread.exit_code == 1 and "bad.jpg" in unread.stderr and "2 of 5 photographs missing" in unread.stderr


class Model:
    """What is asked of a pycolmap.Reconstruction."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def reg_image_ids(self) -> range:
        return range(len(self.names))

    def image(self, number: int) -> SimpleNamespace:
        return SimpleNamespace(name=self.names[number])

    def num_reg_images(self) -> int:
        return len(self.names)

    def num_points3D(self) -> int:
        return 100


def test_models_that_a_larger_one_holds_or_that_tell_no_depth_are_none() -> None:
    report = PairReport([], {})
    for pair in ("ab", "bc", "cd", "ef"):
        report._count((pair[0], pair[1]), "verified", "")
    for pair, outcome in {"gh": "planar", "ij": "still", "jk": "still", "lm": "planar", "mn": "planar"}.items():
        report._count((pair[0], pair[1]), outcome, "no depth")
    made = ["bc", "gh", "ef", "abcd", "ijk", "lmn"]
    kept = _worth_keeping([(Path(names), Model(*names)) for names in made], report)
    assert [path.name for path, _ in kept] == ["abcd", "lmn", "ef"]


def test_a_camera_that_stood_still_makes_no_model(examples: Path, tmp_path: Path) -> None:
    """Noise alone differs, as in a video of a tripod."""
    (tmp_path / "photos").mkdir()
    desk, noise = tp.read(examples / "desk_1.jpg").astype(int), np.random.default_rng(0)
    for number in range(3):
        frame = np.clip(desk + noise.normal(0, 4, desk.shape), 0, 255).astype(np.uint8)
        tp.save_image(tmp_path / "photos" / f"{number}.png", frame)
    command = ["reconstruct", str(tmp_path / "photos"), str(tmp_path / "out"), "-e", "orb", "-n", "600"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("no model: the camera stood still")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["registered"], report["models"], report["verified"]) == (0, 0, 3)
    assert report["hint"].startswith("no model: the camera stood still")
    assert not (tmp_path / "out" / "sparse").exists()


def test_further_models_are_told_of_with_their_photographs(
    photographs: Collection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = Reconstruction(
        tmp_path,
        9,
        4,
        3,
        100,
        3.0,
        0.5,
        36,
        8,
        further=(("door/1.jpg", "door/2.jpg", "door/3.jpg"), ("x.jpg", "y.jpg")),
    )
    monkeypatch.setattr("tiepoints.tasks.reconstruct", lambda *_, **__: made)
    folder = str(photographs["other.png"].path.parent)
    told = CliRunner().invoke(cli, ["reconstruct", folder, str(tmp_path / "out")]).stdout
    assert "sparse/1: 3 photographs, for instance door/1.jpg" in told
    assert "sparse/2: 2 photographs, for instance x.jpg" in told
    figures = summary_of(made)
    assert [(one["model"], one["registered"]) for one in figures["further_models"]] == [
        ("sparse/1", 3),
        ("sparse/2", 2),
    ]
    assert figures["further_models"][0]["photographs"] == ["door/1.jpg", "door/2.jpg", "door/3.jpg"]
    explained = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8").split("\n## ")[3]
    assert [key for key in figures if f"`{key}`" not in explained] == []
    page = page_of(None, photographs, figures)
    assert "<th>sparse/1</th><td>3 photographs, for instance door/1.jpg</td>" in page


def test_pairs_by_a_number(photographs: Collection, scene: Reconstruction, extractor: tp.Extractor) -> None:
    for kind in ("sequential", "sequential:2", "retrieval:5"):
        assert pairs_of(kind, photographs) == kind
    for wrong in ("retrieval:0", "retrieval:", "exhaustive:3", "sequential:two"):
        with pytest.raises(click.BadParameter, match=rf"{wrong} is neither auto, .*retrieval:N"):
            pairs_of(wrong, photographs)
        with pytest.raises(tp.InvalidInputError, match=r"retrieval:N.* at least 1"):
            kind_of_pairs(wrong)
    with Store(scene.folder / "work") as store:
        found = verified_pairs(photographs, store, extractor, pairs="sequential:2")
        assert sorted(found.views) == sorted(sequential(photographs, 2, loops=True))
        alike = verified_pairs(photographs, store, extractor, pairs="retrieval:1")
        assert set(sequential(photographs, 1)) <= set(alike.views) and len(alike.views) < len(photographs) * 2


@pytest.mark.parametrize("wrong", [["--pairs", "nonsense"], ["--mapper", "nonsense"], ["--focal", "-1"]])
def test_wrong_options_are_wrong_usage(examples: Path, tmp_path: Path, wrong: list[str]) -> None:
    result = CliRunner().invoke(cli, ["reconstruct", str(examples), str(tmp_path / "out"), *wrong])
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(tp.TiepointsError, match="no COLMAP model here"):
        load_model(tmp_path)
    (tmp_path / "images.bin").write_bytes(b"nonsense")
    with pytest.raises(tp.TiepointsError, match="cannot read this model"):
        load_model(tmp_path)


def test_the_page_holds_the_scene_and_needs_nothing_else(scene: Reconstruction) -> None:
    page = (scene.folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|src=\"(?!data:)|@[A-Z]+@", page)
    content = json.loads(re.search(r"const scene = (\{.*\});", page)[1].replace("<\\/", "</"))  # type: ignore[index]
    assert len(content["cameras"]) == scene.registered
    points = np.frombuffer(base64.b64decode(content["points"]), np.float32).reshape(-1, 3)
    assert scene.points * 0.8 < len(points) <= scene.points
    assert len(base64.b64decode(content["colours"])) == points.size
    assert page.count("<img ") == 8
    assert scene.missing["other.png"] in page


def test_small_pictures_are_made_beside_other_work_and_once(
    examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiepoints.tasks import page

    (tmp_path / "broken.jpg").write_bytes(b"no image")
    photographs = Collection.from_paths({"box.png": examples / "box.png", "broken.jpg": tmp_path / "broken.jpg"})
    made: list[str] = []
    both = threading.Event()

    def thumbnail(photographs: Collection, name: str, of: Any = page._thumbnail) -> Any:
        made.append(name)
        if len(made) == 2:
            both.set()
        return of(photographs, name)

    monkeypatch.setattr(page, "_thumbnail", thumbnail)
    with page.small_pictures(photographs) as picture_of:
        assert both.wait(20)  # before anything asks for one
        assert picture_of("box.png") == picture_of("box.png") != "" and picture_of("broken.jpg") == ""
    assert made == ["box.png", "broken.jpg"]


def test_names_of_files_are_text_on_the_page(examples: Path) -> None:
    hostile = "<script>alert(1)<script>.jpg"
    photographs = Collection.from_paths({hostile: examples / "box.png"})
    figures = dict.fromkeys(("registered", "images", "models", "points", "verified", "pairs"), 0)
    page = page_of(
        None, photographs, figures | {"track_length": 0.0, "reprojection_error": 0.0, "missing": {hostile: hostile}}
    )
    assert "<script>alert" not in page


def test_a_mapper_that_fails_or_is_not_wanted_leaves_no_process(tmp_path: Path) -> None:
    with mapper_process() as process:
        assert process.poll() is None
    assert process.poll() is not None
    with mapper_process() as process:
        process.kill()
        process.wait()
        with pytest.raises(tp.TiepointsError, match="incremental mapper failed"):
            run_mapper({"mapper": "incremental"}, process=process)
    job = {"mapper": "incremental", "database": str(tmp_path / "none.db"), "images": "", "out": str(tmp_path / "out")}
    with pytest.raises(tp.TiepointsError, match="incremental mapper failed"):
        run_mapper(job)


def test_a_mapper_tells_of_the_alignment_too() -> None:
    said = [{"registered": 1}, {"registered": 2}, {"aligned": 3, "of": 9}, {"models": 1}]
    code = f"import sys; sys.stdin.read(); print({chr(10).join(map(json.dumps, said))!r})"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    told: list[tuple[str, int, int]] = []
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:
        assert run_mapper({"mapper": "incremental"}, lambda *words: told.append(words), process) == 1
    assert told == [("mapping", 1, 0), ("mapping", 2, 0), ("aligning keypoints", 3, 9)]


def test_a_mapper_may_complain_at_length() -> None:
    """More than a pipe holds, before it says anything else."""
    code = "import sys; sys.stdin.read(); sys.stderr.write('bad\\n' * 100_000); print('{\"models\": 2}')"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:
        ends = threading.Timer(30, process.kill)  # instead of a test that hangs
        ends.start()
        assert run_mapper({"mapper": "incremental"}, process=process) == 2
        ends.cancel()
