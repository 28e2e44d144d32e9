"""Wrong values on the command line are one line and exit code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tiepoints.cli import cli
from tiepoints.storage import FeatureReader, load_features


@pytest.mark.parametrize("value", ["a={[]:1}", "a=" + "-" * 4000 + "1", "levels=abc", "levels=" + "9" * 30, "levels=0"])
def test_a_wrong_value_of_an_option_is_one_line(examples: Path, value: str) -> None:
    result = CliRunner().invoke(cli, ["extract", str(examples / "box.png"), "-e", "orb", "-O", value])
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output


def test_suffixes_may_be_in_upper_case(examples: Path, tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    box, scene = str(examples / "box.png"), str(examples / "box_in_scene.png")
    for command, out in (
        (["extract", box, scene], "f.H5"),
        (["extract", box], "f.NPZ"),
        (["match", box, scene], "m.NPZ"),
        (["match", box, scene], "m.CSV"),
        (["match", box, scene], "m.HDF5"),
        (["match", box, scene], "c.DB"),
        (["convert", str(tmp_path / "c.DB")], "n.H5"),
    ):
        made = [] if command[0] == "convert" else ["-e", "orb"]
        result = CliRunner().invoke(
            cli, [*command, *made, "--out", str(tmp_path / out)] if made else [*command, str(tmp_path / out)]
        )
        assert result.exit_code == 0, result.output
    assert len(load_features(tmp_path / "f.NPZ")) == 2048
    assert (tmp_path / "m.CSV").read_text().startswith("xa,ya,xb,yb")
    for name in ("f.H5", "m-features.HDF5", "n-features.H5"):
        with FeatureReader(tmp_path / name) as reader:
            assert sorted(reader) == ["box.png", "box_in_scene.png"]


def _commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    yield context.command_path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            one = command.get_command(context, name)
            assert one is not None
            yield from _commands(one, click.Context(one, info_name=name, parent=context))


def test_every_command_and_option_says_what_it_does() -> None:
    told = dict(_commands(cli, click.Context(cli, info_name="tiepoints")))
    assert {"tiepoints train", "tiepoints bench hpatches", "tiepoints weights fetch"} <= set(told)
    assert [path for path, command in told.items() if not command.help] == []
    options = [(path, each) for path, command in told.items() for each in command.params]
    assert [(path, each.opts) for path, each in options if isinstance(each, click.Option) and not each.help] == []


@pytest.mark.parametrize("name", ["c.db", "m.h5"])
def test_a_file_of_another_kind_is_not_replaced(examples: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    out.write_text("something else")
    result = CliRunner().invoke(cli, ["match", str(examples), "-e", "orb", "--out", str(out)])
    assert result.exit_code == 1 and "write to another file" in result.output
    assert out.read_text() == "something else" and list(tmp_path.iterdir()) == [out]


def test_an_output_is_never_a_pipe_and_may_be_a_link_to_itself(examples: Path, tmp_path: Path) -> None:
    box = str(examples / "box.png")
    os.mkfifo(tmp_path / "pipe.csv")
    result = CliRunner().invoke(cli, ["match", box, box, "-e", "orb", "--out", str(tmp_path / "pipe.csv")])
    assert result.exit_code == 1 and "there is a pipe or a device of this name" in result.output
    assert (tmp_path / "pipe.csv").is_fifo()
    (tmp_path / "loop.h5").symlink_to("loop.h5")  # there is no file that it could stand for
    result = CliRunner().invoke(cli, ["extract", box, "-e", "orb", "--out", str(tmp_path / "loop.h5")])
    assert result.exit_code == 0 and (tmp_path / "loop.h5").is_file()


def test_the_current_folder_may_be_gone(examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = CliRunner().invoke(cli, ["extract", "a.png"])
    os.chdir(tmp_path)
    assert result.exit_code == 1 and "the current folder is not there any more" in result.output


def test_ctrl_c_while_the_parts_are_imported_is_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    from tiepoints.__main__ import main

    class Interrupted:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "tiepoints.cli":
                raise KeyboardInterrupt

    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    for name in [name for name in sys.modules if name.startswith("tiepoints.cli")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("tiepoints.cli", raising=False)
    with pytest.raises(SystemExit, match=r"^Aborted!$"):
        main()
