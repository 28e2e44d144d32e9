"""The command line as a person and a machine use it: mistakes, outputs, helps."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import tiepoints as tp
from tiepoints.cli import cli

COMMANDS = ["match", "extract", "compare", "bench", "extractors", "train", "export", "weights", "doctor", "completion"]

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_quiet_and_standard_output(run: Command, examples: Path) -> None:
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
def test_errors_are_json_where_json_was_asked_for(
    run: Command, arguments: tuple[str, ...], code: int, text: str
) -> None:
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
        (["extract", "BOX", "--plott", "x.png"], "no such option '--plott': did you mean '--plot'?"),
        (["extract", "BOX", "--maxsize", "300"], "no such option '--maxsize': did you mean '--max-size'?"),
        (["extract", "BOX", "--max_keypoint", "300"], "did you mean '--max-keypoints'?"),
        (["extract", "BOX", "-O", "scales=abc"], "scales is 'abc', but must be a finite number"),
        (["extract", "BOX", "-O", "scales=abc"], "or several numbers, such as (1, 0.5)"),
        (["match", "BOX", "BOX", "-e", "mdnet,rootsift"], "`tiepoints compare ... --methods mdnet,rootsift`"),
        (["weights", "get", "aliked-n16"], "there is no command 'get': did you mean 'fetch'?"),
        (["weights", "fetsh", "aliked-n16"], "there is no command 'fetsh': did you mean 'fetch'?"),
    ],
)
def test_what_is_spelled_wrong_is_named_right(run: Command, examples: Path, arguments: list[str], hint: str) -> None:
    result = run(*[str(examples / "box.png") if each == "BOX" else each for each in arguments])
    assert result.returncode == 2 and hint in result.stderr


def _paths(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The names of all commands, those of groups with them: ("bench", "speed")."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from _paths(command, (*path, name))


@pytest.mark.parametrize("words", list(_paths(cli)), ids=" ".join)
def test_wrong_usage_is_one_line_of_one_kind(run: Command, words: tuple[str, ...]) -> None:
    result = run(*words, "--no-such-option")
    (line,) = result.stderr.splitlines()
    assert result.returncode == 2 and result.stdout == ""
    # With and without quotes, by click's version.
    assert re.match("tiepoints: no such option:? '?--no-such-option'?", line)
    assert line.endswith(f"(see `tiepoints {' '.join(words)} --help`)")


@pytest.mark.parametrize(
    ("arguments", "begin"),
    [
        (("match",), "missing argument 'IMAGE_A IMAGE_B | FOLDER...' (see"),
        (
            ("match", "a.jpg", "b.jpg", "--ratio", "7"),
            "invalid value for '--ratio': 7.0 is not in the range 0<x<=1 (see",
        ),
        (("match", "a.jpg", "b.jpg", "-n"), "option '-n' requires an argument (see"),
        (("pairs", "photos"), "missing option '--kind'. Choose from: exhaustive, sequential, retrieval, spatial (see"),
        (("extract", "a.jpg", "--out", "x.foo"), "invalid value for --out: x.foo must end in .h5 or .npz (see"),
        (("match", "a.jpg", "b.jpg", "--jobs", "2"), "--jobs: for a FOLDER, not for two images (see"),
    ],
)
def test_wrong_usage_of_click_reads_as_our_own_errors(run: Command, arguments: tuple[str, ...], begin: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2 and result.stderr.startswith(f"tiepoints: {begin}") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["pairs", "extract", "match", "localize"])
def test_no_command_writes_over_a_photograph(run: Command, examples: Path, tmp_path: Path, command: str) -> None:
    """Also one that is not read."""
    (tmp_path / "photo.jpg").write_bytes((examples / "desk_1.jpg").read_bytes())
    (tmp_path / "map").mkdir()
    given = [tmp_path / "map", examples / "box.png"] if command == "localize" else [examples]
    result = run(command, *map(str, given), "--out", str(tmp_path / "photo.jpg"))
    assert result.returncode == 2 and "photo.jpg is a photograph; write to another file" in result.stderr
    assert (tmp_path / "photo.jpg").read_bytes() == (examples / "desk_1.jpg").read_bytes()


def test_wrong_usage(run: Command, examples: Path, tmp_path: Path) -> None:
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
def test_broken_images_end_in_one_line_and_leave_no_file(
    run: Command, examples: Path, tmp_path: Path, content: str
) -> None:
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


def test_missing_and_damaged_models_fail_as_images_do(run: Command, examples: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model", encoding="utf-8")
    for name, message in (("gone.onnx", "no such file"), ("text.onnx", "not a model of MD-Net")):
        result = run("extract", examples / "box.png", "-O", f"weights={tmp_path / name}")
        assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
        assert f"{tmp_path / name}: {message}" in result.stderr


def test_folders_are_made_for_every_output(run: Command, examples: Path, tmp_path: Path) -> None:
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


def test_places_that_cannot_be_written(run: Command, examples: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    for option, name in (("--out", "m.npz"), ("--out", "m.csv"), ("--plot", "m.png")):
        target = tmp_path / "file" / name
        result = run("match", examples / "box.png", examples / "box_in_scene.png", option, target)
        assert result.returncode == 1 and len(result.stderr.splitlines()) == 1 and "file" in result.stderr
    odd = run("match", examples / "box.png", examples / "box_in_scene.png", "--plot", tmp_path / "m.xyz")
    assert odd.returncode == 2 and ".png" in odd.stderr


def test_extractors_table(run: Command, examples: Path) -> None:
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


def test_extractors_name_lists_what_a_method_takes(run: Command) -> None:
    result = run("extractors", "upright-sift")
    assert result.returncode == 0, result.stderr
    assert "contrast_threshold" in result.stdout and "0.001" in result.stdout and "Least contrast" in result.stdout
    listed = json.loads(run("extractors", "mdnet", "--json").stdout)
    assert {option["name"]: option["default"] for option in listed["options"]}["precision"] == "float32"
    assert run("extractors", "sfit").returncode == 2
    assert run("extractors", "sift", "--commercial").returncode == 2
    for command in ("match", "extract"):
        assert "`tiepoints extractors NAME`" in " ".join(run(command, "--help").stdout.split())


@pytest.mark.parametrize("path", list(_paths(cli)), ids=" ".join)
def test_help_has_examples_on_lines_that_can_be_copied(run: Command, path: tuple[str, ...]) -> None:
    result = run(*path, "--help", COLUMNS="60")
    assert result.returncode == 0
    examples = re.split(r"Examples?:\n", result.stdout)[1].splitlines()
    assert any(f"tiepoints {' '.join(path)}" in line for line in examples)
    assert all("tiepoints " in line for line in examples), "no example is broken over two lines"


def test_help_and_version(run: Command, start: Command) -> None:
    result = start("--help")
    assert result.returncode == 0 and all(command in result.stdout for command in COMMANDS)
    assert "Traceback" not in run().stderr
    assert tp.__version__ in run("--version").stdout


def test_the_end_leaves_nothing_undone() -> None:
    script = (
        "import atexit, sys; atexit.register(print, 'last'); sys.argv[0] = 'tiepoints';"
        "from tiepoints.cli import main; main()"
    )
    for arguments, code in ((["extractors", "--json"], 0), (["extractors", "sfit", "--json"], 2)):
        result = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
        assert result.returncode == code
        assert json.loads(result.stdout.removesuffix("last\n")) and result.stdout.endswith("\nlast\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("extractors",), 0),
        (("extractors", "sfit"), 2),
        (("match", "box.png", "box_in_scene.png", "-e", "orb"), 0),
        (("match", "box.png", "desk_1.jpg", "-e", "orb"), 1),
    ],
)
def test_a_closed_pipe_ends_quietly_and_changes_no_exit_code(
    arguments: tuple[str, ...], code: int, examples: Path
) -> None:
    """As of `tiepoints ... 2>&1 | head -1`, once head has ended: what would be said is dropped, the verdict stays."""
    line = [sys.executable, "-m", "tiepoints", *(str(examples / a) if "." in a else a for a in arguments)]
    said = subprocess.run(line, capture_output=True, check=False)
    assert said.returncode == code and said.stdout + said.stderr, "there is something to say"
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert subprocess.run(line, stdout=writing, stderr=writing, check=False).returncode == code
        closed = subprocess.run(line, stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)
    assert (closed.returncode, closed.stderr) == (code, said.stderr), "nothing is said of the pipe"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run: Command, shell: str) -> None:
    script = run("completion", shell).stdout
    assert "_TIEPOINTS_COMPLETE" in script
    names = run(_TIEPOINTS_COMPLETE="bash_complete", COMP_WORDS="tiepoints match -e upr", COMP_CWORD="3").stdout
    assert "upright-sift" in names and "orb" not in names


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
