"""Names of files hold anything: in lists, in pairs, and in files of lines that other programs read."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import tiepoints as tp
from tiepoints.cli import cli
from tiepoints.collection import Collection, from_file
from tiepoints.geometry import Geometry
from tiepoints.tasks import Localization
from tiepoints.tasks.poses import write_poses

ODD = [" a b .png", "#1.png", "a\u2028b.png", "at 3.04\u202fPM.png"]


@pytest.fixture
def folder(tmp_path: Path, examples: Path) -> Path:
    for name in ODD:
        shutil.copy(examples / "box.png", tmp_path / name)
    return tmp_path


def test_a_list_names_them_all(folder: Path) -> None:
    (folder / "list.txt").write_text("# a comment\n" + "\r\n".join([*ODD, "  none.png "]) + "\n\n")
    found = Collection.from_sources([folder / "list.txt"])
    assert sorted(found) == sorted(ODD)
    assert list(found.failed.values()) == [f"{folder / 'none.png'}: no such file"]


def test_pairs_are_read_as_they_were_written(folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["pairs", str(folder), "--kind", "exhaustive", "--out", str(tmp_path / "p.txt")])
    assert result.exit_code == 0, result.output
    with (tmp_path / "p.txt").open("a") as file:
        file.write("# a comment\n#\ttwo words\n")
    assert len(from_file(tmp_path / "p.txt", ODD)) == 6
    with pytest.raises(tp.InvalidInputError, match="line 1: there is no image"):
        from_file(tmp_path / "p.txt", ["c.png"])


def test_a_name_that_no_line_holds_costs_no_other(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / ODD[0], folder / "new\nline.png")
    out = tmp_path / "p.txt"
    result = CliRunner().invoke(cli, ["pairs", str(folder), "--kind", "exhaustive", "--out", str(out)])
    assert result.exit_code == 1 and f"new\\nline.png: {out} cannot hold this name: rename it" in result.stderr
    assert len(from_file(out, ODD)) == 6
    pose = Geometry("absolute_pose", np.c_[np.eye(3), np.ones(3)], np.ones(9, bool))
    one = Localization(pose, tp.Camera.from_focal(500, (640, 480)), 9, 9, -math.inf)
    left_out = write_poses(tmp_path / "poses.txt", {"new\nline.png": one, "a\tb.png": one, "my 1.png": one})
    assert list(left_out) == ["new\nline.png", "a\tb.png"]
    assert (tmp_path / "poses.txt").read_text() == "my 1.png 1 0 0 0 1 1 1\n"
