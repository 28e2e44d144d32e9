"""Photographs that are rotated to the others: what fails says so, where that was tried and is true."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tiepoints.cli import cli
from tiepoints.collection import Collection
from tiepoints.tasks.rotated import ExtractRotated

SMALL = ("--max-size", "640", "-n", "800")
UPRIGHT = (*SMALL, "-O", "rotation=upright")  # MD-Net that matches no photographs that are rotated to each other
HINT = "matches photographs that are rotated to each other"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)))


@pytest.fixture(scope="module")
def door(photographs: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photographs of a door, the last of a camera on its side, and a query on its side the other way."""
    folder = tmp_path_factory.mktemp("door")
    (folder / "photos").mkdir()
    (folder / "queries").mkdir()
    for i, one in enumerate(list(photographs.values())[:6]):
        picture = Image.fromarray(one.read())
        if i == 5:
            picture.transpose(Image.Transpose.ROTATE_270).save(folder / "queries" / "q.png")
        else:
            picture = picture.transpose(Image.Transpose.ROTATE_90) if i == 4 else picture
            picture.save(folder / "photos" / f"{i}.png")
    shutil.copy(photographs["other.png"].path, folder / "queries" / "other.png")
    return folder


def test_a_folder(door: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upright = run("match", door / "photos", *UPRIGHT, "--out", tmp_path / "m.h5")
    told = r"4.png matches \d.png if it is rotated 90 degrees to the right: --rotation any "
    assert re.search(told + HINT, upright.stderr)
    assert "     1 image without a verified pair: 4.png\n" in upright.stderr
    with monkeypatch.context() as patch:
        patch.setattr(ExtractRotated, "__call__", None)
        again = run("match", door / "photos", *UPRIGHT, "--out", tmp_path / "m.h5")
        assert re.search(told + HINT, again.stderr), "it is not tried once more"
    for name, options in (("d.h5", SMALL), ("r.h5", (*UPRIGHT, "--rotation", "any"))):
        rotated = run("match", door / "photos", *options, "--out", tmp_path / name, "--json")
        content = json.loads(rotated.stdout)
        assert content["verified"] == content["pairs"] == 10 and content["hint"] == ""
        assert content["without_verified_pair"] == []
    other = run("match", door / "photos", *SMALL, "--out", tmp_path / "u.h5", "-e", "upright-rootsift", "--json")
    assert "-e mdnet and -e rootsift match photographs that are rotated" in json.loads(other.stdout)["hint"]
    invariant = run("match", door / "photos", "--max-size", 480, "-n", 200, "--out", tmp_path / "i.h5", "-e", "orb")
    assert HINT not in invariant.stderr


def test_what_shows_something_else_gets_no_such_advice(photographs: Collection, tmp_path: Path) -> None:
    few = [one.path for one in (*list(photographs.values())[:2], photographs["other.png"])]
    assert HINT not in run("match", *few, *UPRIGHT, "--out", tmp_path / "m.h5").stderr


def test_a_map_and_its_queries(door: Path, tmp_path: Path) -> None:
    made = run("map", door / "photos", tmp_path / "map", *UPRIGHT)
    assert made.exit_code == 0 and made.stderr.splitlines()[-1].endswith(HINT), made.stderr
    for command in (("localize", tmp_path / "map", door / "queries"), ("add", tmp_path / "map", door / "queries")):
        lost = run(*command)
        assert lost.exit_code == 1
        assert (
            "q.png is localized if it is rotated 90 degrees to the left: a map made with --rotation any" in lost.stderr
        )
    again = run("map", door / "photos", tmp_path / "any", *SMALL)
    assert "5 of 5 photographs in the map" in again.stdout
    found = json.loads(run("localize", tmp_path / "any", door / "queries", "--json").stdout)
    assert {one["name"]: one["localized"] for one in found["queries"]} == {"q.png": True, "other.png": False}
    assert found["hint"] == ""


def test_a_reconstruction(door: Path, tmp_path: Path) -> None:
    made = run("reconstruct", door / "photos", tmp_path / "scene", *UPRIGHT, "--json")
    assert json.loads(made.stdout)["hint"].endswith(HINT) and json.loads(made.stdout)["registered"] == 4
    assert json.loads((tmp_path / "scene" / "report.json").read_text())["hint"].endswith(HINT)
