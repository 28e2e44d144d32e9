"""The command line as a person and a machine use it, on real photographs."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import tiepoints as tp
from tiepoints.cli import cli
from tiepoints.storage import FeatureReader, load_features, load_matches

COMMANDS = ["match", "extract", "compare", "bench", "extractors", "train", "export", "weights", "doctor", "completion"]


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, which spares its start; what only a process shows is for `start`."""
    env = {"COLUMNS": "160"} | environment
    result = CliRunner().invoke(cli, list(map(str, arguments)), prog_name="tiepoints", env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception  # a process would show a traceback
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def start(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, in which a warning of any library is an error."""
    command = [sys.executable, "-W", "error", "-m", "tiepoints", *map(str, arguments)]
    env = os.environ | {"COLUMNS": "160"} | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, encoding="utf-8")


def test_match_finds_and_writes_everything(examples: Path, tmp_path: Path) -> None:
    picture, arrays = tmp_path / "matches.png", tmp_path / "matches.npz"
    result = start(
        "match", examples / "desk_1.jpg", examples / "desk_2.jpg", "--plot", picture, "--out", arrays, "--json"
    )
    assert result.returncode == 0 and result.stderr == ""
    answer = json.loads(result.stdout)
    assert answer["images"][0]["keypoints"] > 800
    assert answer["matches"] > 400 and answer["inliers"] > 200 and answer["verified"] is True
    assert np.array(answer["model"]).shape == (3, 3)
    assert set(answer["times_ms"]) == {"load", "read", "extract", "match", "verify"}
    assert tp.read(picture).shape[1] == 640 + 8 + 640
    with np.load(arrays) as stored:
        assert stored["points_a"].shape == (answer["matches"], 2)
        assert stored["inliers"].sum() == answer["inliers"]
    assert len(load_matches(arrays)) == answer["matches"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["matches.npz", "matches.png"]


def test_match_in_words(examples: Path, tmp_path: Path) -> None:
    table = tmp_path / "matches.csv"
    options = ("-e", "orb", "-n", 1000, "--geometry", "homography", "--ratio", 0.9, "--out", table)
    result = run("match", examples / "box.png", examples / "box_in_scene.png", *options)
    assert result.returncode == 0, result.stderr
    for text in ("keypoints in", "324x223", "matches", "inliers", "homography", "extract", f"wrote {table}"):
        assert text in result.stdout
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert list(rows[0]) == ["xa", "ya", "xb", "yb", "score", "inlier"]
    assert sum(int(row["inlier"]) for row in rows) > 15


def test_match_tells_the_homography_and_where_the_template_lies(examples: Path, tmp_path: Path) -> None:
    box, scene, overlay = examples / "box.png", examples / "box_in_scene.png", tmp_path / "o.png"
    options = ("-e", "rootsift", "--geometry", "homography", "--overlay", overlay)
    answer = json.loads(run("match", box, scene, *options, "--json").stdout)
    assert answer["overlay"] == str(overlay) and tp.read(overlay).shape == (384, 512, 3)
    found = np.array(answer["corners"])
    np.testing.assert_allclose(found, [[118, 160], [284, 175], [269, 298], [93, 271]], atol=8)  # seen in the photograph
    H = np.array(answer["model"])
    first = H @ (0, 0, 1)
    np.testing.assert_allclose(first[:2] / first[2], found[0], atol=1e-2)
    words = run("match", box, scene, *options).stdout
    assert "corners of the first image in the second: (" in words and f"wrote {overlay}" in words
    wrong = run("match", box, scene, "--overlay", overlay)
    assert wrong.returncode == 2 and "--geometry homography" in wrong.stderr


def inliers_of(table: Path) -> list[str]:
    return [row["inlier"] for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines())]


def test_match_without_geometry(examples: Path) -> None:
    bare = run("match", examples / "box.png", examples / "box_in_scene.png", "--geometry", "none", "--json")
    assert bare.returncode == 0
    answer = json.loads(bare.stdout)
    assert answer["inliers"] is None and answer["verified"] is None


def test_what_is_not_verified_fails_and_has_no_inliers(examples: Path, tmp_path: Path) -> None:
    pair = (examples / "box.png", examples / "desk_1.jpg")
    table, arrays, picture, overlay = (tmp_path / name for name in ("m.csv", "m.npz", "m.png", "o.png"))
    plenty = run("match", *pair, "--json", "--out", table, "--plot", picture)
    answer = json.loads(plenty.stdout)
    assert plenty.returncode == 1 and answer["verified"] is False
    assert answer["agreeing"] > 8, "chance finds a fundamental matrix ..."
    assert answer["inliers"] == 0 and answer["model"] is None, "... and that is told"
    assert picture.exists() and set(inliers_of(table)) == {"0"}
    options = ("--geometry", "homography", "--overlay", overlay, "--out", arrays, "-n", 50, "-e", "orb")
    none = run("match", *pair, *options, "--json")
    assert none.returncode == 1 and json.loads(none.stdout)["overlay"] is None and not overlay.exists()
    assert none.stderr.splitlines() == [f"{overlay} is not written: an overlay needs a verified homography"]
    with np.load(arrays) as stored:
        assert not stored["inliers"].any() and "model" not in stored
    blank = run("match", *pair, "-n", 20, "--ratio", 0.5)
    assert (
        blank.returncode == 1 and "NOT VERIFIED" in blank.stdout and "or -e rootsift if one is rotated" in blank.stdout
    )
    other = run("match", *pair, "-e", "orb", "-n", 20, "--ratio", 0.5)
    assert "NOT VERIFIED" in other.stdout and "rootsift" not in other.stdout


def test_quiet_and_standard_output(examples: Path) -> None:
    pair = (examples / "box.png", examples / "box_in_scene.png", "-e", "orb")
    quiet = run("match", *pair, "-q")
    assert quiet.returncode == 0 and quiet.stdout == quiet.stderr == ""
    stream = run("match", *pair, "--out", "-")
    rows = list(csv.DictReader(stream.stdout.splitlines()))
    assert len(rows) > 30 and set(rows[0]) == {"xa", "ya", "xb", "yb", "score", "inlier"}
    assert "putative matches" in stream.stderr
    assert run("match", *pair, "--out", "-", "--json").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("match", "gone.png", "gone.png"), 1, "gone.png: no such file"),
        (("match", "gone.png"), 2, "IMAGE_B"),
        (("match", "a.png", "b.png", "-e", "sfit"), 2, "did you mean 'sift'"),
        (("match", "a.png", "b.png", "--matcher", "nearst"), 2, "did you mean 'nearest'"),
        (("extract", "gone.png"), 1, "gone.png"),
        (("extractors", "sfit"), 2, "did you mean 'sift'"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_errors_are_json_where_json_was_asked_for(arguments: tuple[str, ...], code: int, text: str) -> None:
    result = run(*arguments, "--json")
    answer = json.loads(result.stdout)
    assert result.returncode == answer["exit_code"] == code
    assert text in answer["error"] and text in result.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["mach", "a.jpg", "b.jpg"], "there is no command 'mach': did you mean 'match'?"),
        (["bench", "hpatch"], "there is no command 'hpatch': did you mean 'hpatches'?"),
        (["xyz"], "there is no command 'xyz'"),
        (["extract", "BOX", "-e", "rotsift"], "did you mean 'rootsift'?"),
        (["extract", "BOX", "-e", "orb", "-O", "level=3"], "orb has no option level (did you mean 'levels'?)"),
        (["extract", "BOX", "--plott", "x.png"], "--plot"),
    ],
)
def test_what_is_spelled_wrong_is_named_right(examples: Path, arguments: list[str], hint: str) -> None:
    result = run(*[str(examples / "box.png") if each == "BOX" else each for each in arguments])
    assert result.returncode == 2 and hint in result.stderr


@pytest.mark.parametrize("command", ["pairs", "extract", "match", "localize"])
def test_no_command_writes_over_a_photograph(examples: Path, tmp_path: Path, command: str) -> None:
    """Also one that is not read."""
    (tmp_path / "photo.jpg").write_bytes((examples / "desk_1.jpg").read_bytes())
    (tmp_path / "map").mkdir()
    given = [tmp_path / "map", examples / "box.png"] if command == "localize" else [examples]
    result = run(command, *map(str, given), "--out", str(tmp_path / "photo.jpg"))
    assert result.returncode == 2 and "photo.jpg is a photograph; write to another file" in result.stderr
    assert (tmp_path / "photo.jpg").read_bytes() == (examples / "desk_1.jpg").read_bytes()


def test_options_of_the_method(examples: Path) -> None:
    few = run("extract", examples / "box.png", "-e", "sift", "-O", "contrast_threshold=0.1", "--json")
    many = run("extract", examples / "box.png", "-e", "sift", "-O", "contrast_threshold=0.01", "--json")
    counts = [json.loads(r.stdout)["images"][0]["keypoints"] for r in (few, many)]
    assert counts[0] < 0.7 * counts[1]
    wrong = run("extract", examples / "box.png", "-O", "nonsense=1")
    assert wrong.returncode == 2 and len(wrong.stderr.splitlines()) == 1
    assert "mdnet has no option nonsense; it takes sets, weights, balanced" in wrong.stderr
    assert run("extract", examples / "box.png", "-O", "nonsense").returncode == 2
    kind = run("extract", examples / "box.png", "-e", "sift", "-O", "contrast_threshold=abc")
    assert kind.returncode == 2 and len(kind.stderr.splitlines()) == 1 and "contrast_threshold" in kind.stderr


def test_extract_one_image(examples: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "box.npz", tmp_path / "box.jpg"
    result = run("extract", examples / "box.png", "--out", out, "--plot", plot)
    assert result.returncode == 0, result.stderr
    assert "mdnet keypoints in" in result.stdout
    assert len(load_features(out)) > 200
    assert tp.read(plot).shape == (223, 324, 3)


def test_extract_a_folder_resumes_and_names_what_it_cannot_read(examples: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "features.h5"
    (folder / "inner").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.png", "inner/c d.png")):
        Image.open(examples / "box.png").rotate(10 * index).save(folder / name)
    (folder / "broken.jpg").write_text("no image", encoding="utf-8")
    first = run("extract", folder, "--out", out, "-n", 100, "--json")
    assert first.returncode == 1
    assert [Path(f["path"]).name for f in json.loads(first.stdout)["failed"]] == ["broken.jpg"]
    assert f"{folder / 'broken.jpg'}: " in first.stderr and "Traceback" not in first.stderr
    with FeatureReader(out) as store:
        assert sorted(store) == ["a.png", "b.png", "inner/c d.png"]
        assert all(len(features) == 100 for features in store.values())

    (folder / "broken.jpg").unlink()
    Image.open(examples / "box_in_scene.png").save(folder / "new.png")
    second = run("extract", folder, "--out", out, "-n", 100, "--json")
    assert second.returncode == 0, second.stderr
    assert {i["name"]: i["skipped"] for i in json.loads(second.stdout)["images"]} == {
        "a.png": True, "b.png": True, "inner/c d.png": True, "new.png": False,
    }  # fmt: skip
    other = run("extract", folder, "--out", out, "-e", "orb")
    assert other.returncode == 1 and "--overwrite" in other.stderr
    assert f"{out}: was made with mdnet, not orb; " in other.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["features.h5", "photos"]
    assert run("extract", folder, "--out", out, "-e", "orb", "--overwrite").returncode == 0
    with FeatureReader(out) as store:
        assert store["a.png"].binary
    assert sorted(p.name for p in tmp_path.iterdir()) == ["features.h5", "photos"]


def test_a_picture_is_drawn_also_of_features_that_were_there(examples: Path, tmp_path: Path) -> None:
    pictures = [tmp_path / "1.png", tmp_path / "2.png"]
    for picture in pictures:
        result = run(
            "extract", examples / "box.png", "--out", tmp_path / "f.h5", "-e", "orb", "--plot", picture, "--json"
        )
        assert result.returncode == 0 and json.loads(result.stdout)["plot"] == str(picture)
    np.testing.assert_array_equal(*map(tp.read, pictures))


def test_names_do_not_change_when_a_folder_grows(examples: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "f.h5"
    for day in ("day1", "day2"):
        (folder / day).mkdir(parents=True)
        Image.open(examples / "box.png").save(folder / day / "box.png")
        assert run("extract", folder, "--out", out, "-n", 50).returncode == 0
    with FeatureReader(out) as store:
        assert store.names() == ["day1/box.png", "day2/box.png"]


def test_a_photograph_is_never_written_over(examples: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    content = (examples / "box.png").read_bytes()
    photo.write_bytes(content)
    (tmp_path / "link.png").symlink_to(photo)
    for target in (photo, tmp_path / "link.png"):
        for command in (("match", photo, examples / "box_in_scene.png"), ("extract", photo)):
            result = run(*command, "--plot", target)
            assert result.returncode == 2 and "is one of the images" in result.stderr
            assert photo.read_bytes() == content


def test_nothing_readable_leaves_no_file(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text("text", encoding="utf-8")
    result = start("extract", tmp_path, "--out", tmp_path / "f.h5")
    assert result.returncode == 1 and "none of the 2 images could be read" in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jpg", "b.jpg"]


def test_wrong_usage(examples: Path, tmp_path: Path) -> None:
    box = examples / "box.png"
    for arguments, message in (
        (("match", box), "IMAGE_B"),
        (("match", box, box, "--ratio", "2"), "ratio"),
        (("match", box, box, "--out", tmp_path / "a.txt"), ".npz or .csv"),
        (("match", box, box, "-e", "sfit"), "did you mean 'sift'"),
        (("match", box, box, "-n", "0"), "max-keypoints"),
        (("extract", box, examples / "box_in_scene.png"), "--out FILE.h5"),
        (("extract", box, box, examples / "desk_1.jpg", "--plot", "a.png"), "one image"),
        (("extract", box, "--out", "a.txt"), ".h5 or .npz"),
        (("nonsense",), "nonsense"),
    ):
        result = run(*arguments)
        assert result.returncode == 2, arguments
        assert message in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("content", ["text", "truncated", "empty", "bomb", "missing"])
def test_broken_images_end_in_one_line_and_leave_no_file(examples: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "photo.jpg"
    whole = (examples / "desk_1.jpg").read_bytes()
    bomb = (
        b"BM" + bytes(8) + bytes([54, 0, 0, 0, 40, 0, 0, 0]) + (50_000).to_bytes(4, "little") * 2 + bytes([1, 0, 24, 0])
    )
    data = {"text": b"hello", "truncated": whole[:30_000], "empty": b"", "bomb": bomb + bytes(24)}
    if content in data:
        path.write_bytes(data[content])
    before = sorted(tmp_path.iterdir())
    for arguments in (
        ("match", path, examples / "box.png", "--out", tmp_path / "m.npz", "--plot", tmp_path / "m.png"),
        ("extract", path, "--out", tmp_path / "f.h5"),
        ("extract", path, "--out", tmp_path / "f.npz", "--plot", tmp_path / "m.png"),
    ):
        result = run(*arguments)
        assert result.returncode == 1
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1 and str(path) in result.stderr
        assert sorted(tmp_path.iterdir()) == before


def test_missing_and_damaged_models_fail_as_images_do(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model", encoding="utf-8")
    for name, message in (("gone.onnx", "no such file"), ("text.onnx", "not a model of MD-Net")):
        result = run("extract", examples / "box.png", "-O", f"weights={tmp_path / name}")
        assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
        assert f"{tmp_path / name}: {message}" in result.stderr


def test_folders_are_made_for_every_output(examples: Path, tmp_path: Path) -> None:
    pair, new = (examples / "box.png", examples / "box_in_scene.png"), tmp_path / "new"
    matched = run("match", *pair, "-e", "orb", "--plot", new / "1" / "m.png", "--out", new / "2" / "m.csv")
    options = ("--out", new / "3" / "f.h5", "--plot", new / "4" / "f.png")
    extracted = run("extract", pair[0], "-e", "orb", *options)
    assert matched.returncode == 0 and extracted.returncode == 0, matched.stderr + extracted.stderr
    written = [path.relative_to(new).as_posix() for path in sorted(new.rglob("*.*"))]
    assert written == ["1/m.png", "2/m.csv", "3/f.h5", "4/f.png"]


def test_every_output_says_that_its_folder_is_made() -> None:
    commands = [(cli, "tiepoints")]
    checked = 0
    for command, name in commands:
        context = click.Context(command)
        if isinstance(command, click.Group):
            for other in command.list_commands(context):
                found = command.get_command(context, other)
                assert found is not None
                commands.append((found, f"{name} {other}"))
        for option in command.params:
            outputs = {"--out", "--plot", "--details", "--export", "--store", "--to"}.intersection(option.opts)
            if isinstance(option, click.Option) and outputs:
                assert "made if missing" in (option.help or ""), f"{name} {option.opts}"
                checked += 1
    assert checked >= 16


def test_places_that_cannot_be_written(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    for option, name in (("--out", "m.npz"), ("--out", "m.csv"), ("--plot", "m.png")):
        target = tmp_path / "file" / name
        result = run("match", examples / "box.png", examples / "box_in_scene.png", option, target)
        assert result.returncode == 1 and len(result.stderr.splitlines()) == 1 and "file" in result.stderr
    odd = run("match", examples / "box.png", examples / "box_in_scene.png", "--plot", tmp_path / "m.xyz")
    assert odd.returncode == 2 and ".png" in odd.stderr


def test_extractors_table(examples: Path) -> None:
    result = run("extractors", COLUMNS="60")
    assert result.returncode == 0
    rows = result.stdout.splitlines()
    assert len(rows) == 1 + len(tp.extractors()), "where it is no terminal, no row is broken"
    for metadata, row in zip(tp.extractors(), rows[1:], strict=True):
        cells = row.split("\t")
        assert len(cells) == len(rows[0].split("\t")) == 6, "tabs separate the columns for machines"
        assert cells[0] == metadata.name and metadata.summary in cells[1] and metadata.code_licence == cells[3]
        assert cells[5].startswith("yes") == metadata.commercial
    listed = json.loads(run("extractors", "--json").stdout)
    assert {metadata["name"] for metadata in listed} == {metadata.name for metadata in tp.extractors()}
    assert all(
        {"code_licence", "weights_licence", "commercial", "paper", "installed"} <= set(metadata) for metadata in listed
    )
    assert json.loads(run("extractors", "--json", "--licence", "no such").stdout) == []


def test_extractors_name_lists_what_a_method_takes() -> None:
    result = run("extractors", "upright-sift")
    assert result.returncode == 0, result.stderr
    assert "contrast_threshold" in result.stdout and "0.001" in result.stdout and "Least contrast" in result.stdout
    listed = json.loads(run("extractors", "mdnet", "--json").stdout)
    assert {option["name"]: option["default"] for option in listed["options"]}["precision"] == "float32"
    assert run("extractors", "sfit").returncode == 2
    assert run("extractors", "sift", "--commercial").returncode == 2
    for command in ("match", "extract"):
        assert "`tiepoints extractors NAME`" in " ".join(run(command, "--help").stdout.split())


def _paths(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The names of all commands, those of groups with them: ("bench", "speed")."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from _paths(command, (*path, name))


@pytest.mark.parametrize("path", list(_paths(cli)), ids=" ".join)
def test_help_has_examples_on_lines_that_can_be_copied(path: tuple[str, ...]) -> None:
    result = run(*path, "--help", COLUMNS="60")
    assert result.returncode == 0
    examples = re.split(r"Examples?:\n", result.stdout)[1].splitlines()
    assert any(f"tiepoints {' '.join(path)}" in line for line in examples)
    assert all("tiepoints " in line for line in examples), "no example is broken over two lines"


def test_help_and_version() -> None:
    result = start("--help")
    assert result.returncode == 0 and all(command in result.stdout for command in COMMANDS)
    assert "Traceback" not in run().stderr
    assert tp.__version__ in run("--version").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    script = run("completion", shell).stdout
    assert "_TIEPOINTS_COMPLETE" in script
    names = run(_TIEPOINTS_COMPLETE="bash_complete", COMP_WORDS="tiepoints match -e upr", COMP_CWORD="3").stdout
    assert "upright-sift" in names and "orb" not in names


def test_match_with_as_many_sets_as_asked_for(examples: Path) -> None:
    result = run("match", examples / "desk_1.jpg", examples / "desk_2.jpg", "-O", "sets=4", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["verified"] is True
    wrong = run("match", examples / "desk_1.jpg", examples / "desk_2.jpg", "-O", "sets=3")
    assert wrong.returncode == 2 and "take one of these" in wrong.stderr and len(wrong.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "standard output: No space left on device"),
        (OSError(36, "File name too long", "y.h5"), "y.h5: File name too long"),
        (ImportError("DLL load failed"), "a package cannot be loaded (DLL load failed); `tiepoints doctor` checks"),
    ],
)
def test_what_the_system_refuses_is_one_line(error: Exception, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk behind `> file`, a path beyond its limits, a package that is broken."""

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("tiepoints.extraction.extractors", refuse)
    for arguments in (["extractors"], ["extractors", "--json"]):
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 1 and result.stderr.startswith(f"tiepoints: {words}")
        assert len(result.stderr.splitlines()) == 1
    assert json.loads(result.stdout)["error"].startswith(words)


def test_a_blank_photograph_is_named(tmp_path: Path) -> None:
    Image.new("L", (64, 48), 128).save(tmp_path / "blank.png")
    result = CliRunner().invoke(
        cli, ["match", str(tmp_path / "blank.png"), "examples/box.png", "-e", "orb", "-n", "50"]
    )
    assert result.exit_code == 1 and f"NOT VERIFIED: {tmp_path / 'blank.png'} has no keypoints" in result.stdout
