"""`tiepoints match`, on real photographs."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import tiepoints as tp
from tiepoints.cli import cli
from tiepoints.storage import load_matches

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_match_finds_and_writes_everything(start: Command, examples: Path, tmp_path: Path) -> None:
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


def test_match_in_words(run: Command, examples: Path, tmp_path: Path) -> None:
    table = tmp_path / "matches.csv"
    options = ("-e", "orb", "-n", 1000, "--geometry", "homography", "--ratio", 0.9, "--out", table)
    result = run("match", examples / "box.png", examples / "box_in_scene.png", *options)
    assert result.returncode == 0, result.stderr
    for text in ("keypoints in", "324x223", "matches", "inliers", "homography", "extract", f"wrote {table}"):
        assert text in result.stdout
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert list(rows[0]) == ["xa", "ya", "xb", "yb", "score", "inlier"]
    assert sum(int(row["inlier"]) for row in rows) > 15


def test_match_tells_the_homography_and_where_the_template_lies(run: Command, examples: Path, tmp_path: Path) -> None:
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


def test_the_same_picture_tells_no_depth(run: Command, examples: Path, tmp_path: Path) -> None:
    desk = examples / "desk_1.jpg"
    said = "nothing moves: the same picture, or a camera that stood still: no depth"
    for geometry in ("fundamental", "homography"):
        options = ("-e", "orb", "-n", 500, "--geometry", geometry)
        words = run("match", desk, desk, *options)
        assert words.returncode == 0 and words.stderr == ""
        assert words.stdout.splitlines()[4] == f"       {said}"
        answer = json.loads(run("match", desk, desk, *options, "--json").stdout)
        assert (answer["verified"], answer["outcome"], answer["why"]) == (True, "still", said)
    moved = json.loads(run("match", desk, examples / "desk_2.jpg", "-e", "orb", "--json").stdout)
    assert (moved["outcome"], moved["why"]) == ("verified", "")
    flat = tmp_path / "flat.png"
    seen = (1.1, 0.05, -20, 0.02, 1.05, 5, 1e-4, 5e-5)
    Image.open(desk).transform((640, 480), Image.Transform.PERSPECTIVE, seen).save(flat)
    assert "no depth; --geometry homography fits it" in run("match", desk, flat, "-e", "rootsift").stdout


def test_the_page_explains_every_field(run: Command, examples: Path, tmp_path: Path) -> None:
    pages = Path(__file__).parents[2] / "docs"
    sections = (pages / "json.md").read_text(encoding="utf-8").split("\n## ")
    answer = json.loads(run("match", examples / "box.png", examples / "desk_1.jpg", "-e", "orb", "--json").stdout)
    out = ("--out", tmp_path / "m.h5")
    many = json.loads(run("match", examples, "-e", "orb", "-n", 200, *out, "--json").stdout)
    for keys, section in ((answer, sections[1]), (answer["images"][0], sections[1]), (many, sections[2])):
        assert [key for key in keys if f"`{key}`" not in section] == []


def test_match_without_geometry(run: Command, examples: Path) -> None:
    bare = run("match", examples / "box.png", examples / "box_in_scene.png", "--geometry", "none", "--json")
    assert bare.returncode == 0
    answer = json.loads(bare.stdout)
    assert answer["inliers"] is None and answer["verified"] is None


def test_what_is_not_verified_fails_and_has_no_inliers(run: Command, examples: Path, tmp_path: Path) -> None:
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
    assert blank.returncode == 1 and "try --ratio 0.8 or -e rootsift if one is of another scale" in blank.stdout
    assert "they match if" not in blank.stdout, "it was tried, and does not help"
    other = run("match", *pair, "-e", "orb", "-n", 20, "--ratio", 0.5)
    assert "NOT VERIFIED" in other.stdout and "rootsift" not in other.stdout


def test_options_of_the_method(run: Command, examples: Path) -> None:
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


def test_match_with_as_many_sets_as_asked_for(run: Command, examples: Path) -> None:
    result = run("match", examples / "desk_1.jpg", examples / "desk_2.jpg", "-O", "sets=4", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["verified"] is True
    wrong = run("match", examples / "desk_1.jpg", examples / "desk_2.jpg", "-O", "sets=3")
    assert wrong.returncode == 2 and "take one of these" in wrong.stderr and len(wrong.stderr.splitlines()) == 1


def test_a_blank_photograph_is_named(tmp_path: Path) -> None:
    Image.new("L", (64, 48), 128).save(tmp_path / "blank.png")
    result = CliRunner().invoke(
        cli, ["match", str(tmp_path / "blank.png"), "examples/box.png", "-e", "orb", "-n", "50"]
    )
    assert result.exit_code == 1 and f"NOT VERIFIED: {tmp_path / 'blank.png'} has no keypoints" in result.stdout


@pytest.mark.parametrize("geometry", ["fundamental", "homography"])
def test_a_photograph_on_its_side_is_told(run: Command, examples: Path, tmp_path: Path, geometry: str) -> None:
    Image.open(examples / "box_in_scene.png").transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png")
    pair = ("match", examples / "box.png", tmp_path / "b.png", "--geometry", geometry)
    upright = (*pair, "-O", "rotation=upright")
    missed = run(*upright)
    hint = f"they match if {tmp_path / 'b.png'} is rotated 90 degrees to the right: try --rotation any"
    assert missed.returncode == 1 and hint in missed.stdout
    assert run(*upright, "--rotation", "any").returncode == run(*pair).returncode == 0
    asked = run(*pair, "--rotation", "upright")
    assert asked.returncode == 1 and "they match if" not in asked.stdout, "who says so is not told that it is not so"


def test_any_rotation_costs_nothing_where_the_method_is_invariant(
    run: Command, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiepoints.extraction.sift import SIFT

    found: list[tuple[int, ...]] = []
    real = SIFT._detect
    monkeypatch.setattr(SIFT, "_detect", lambda self, image, mask: found.append(image.shape) or real(self, image, mask))
    pair = ("match", examples / "desk_1.jpg", examples / "desk_2.jpg", "-n", 500, "--rotation", "any")
    assert run(*pair, "-e", "rootsift").returncode == 0
    assert found == [(480, 640), (480, 640)]
    found.clear()
    assert run(*pair, "-e", "upright-rootsift").returncode == 0
    assert found == [(480, 640), (480, 640), (640, 480), (480, 640), (640, 480)], "all four rotations of the second"


@pytest.mark.parametrize("command", ["extract", "match", "pairs", "reconstruct", "map"])
def test_every_command_that_extracts_takes_any_rotation(
    run: Command, examples: Path, tmp_path: Path, command: str
) -> None:
    assert "--rotation" in run(command, "--help").stdout
    out = {"pairs": ["--kind", "retrieval", "--out", tmp_path / "p"], "extract": ["--out", tmp_path / "f.h5"],
           "match": ["--out", tmp_path / "m.h5"]}.get(command, [tmp_path / "out"])  # fmt: skip
    wrong = run(command, examples, *out, "-e", "upright-sift", "--rotation", "any")
    assert wrong.returncode == 2 and "upright-sift tells up from down; take -e mdnet or -e rootsift" in wrong.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_invariant_to_rotation_says_so() -> None:
    invariant = {one.name for one in tp.extractors() if one.rotation_invariant}
    assert {"sift", "rootsift", "orb", "akaze", "surf"} <= invariant
    assert invariant.isdisjoint({"mdnet", "upright-sift", "upright-rootsift", "upright-surf"})
    assert tp.load("sift+hardnet").metadata.rotation_invariant


def test_methods_are_called_by_their_registered_names(run: Command, examples: Path, tmp_path: Path) -> None:
    box, scene = examples / "box.png", examples / "box_in_scene.png"
    answer = json.loads(run("match", box, scene, "-e", "RootSIFT", "--matcher", "Nearest", "--json").stdout)
    assert (answer["extractor"], answer["matcher"]) == ("rootsift", "nearest")
    assert "of rootsift, mutual nearest neighbours" in run("match", box, scene, "-e", "RootSIFT").stdout
    for arguments in (("extract", box), ("match", box, scene, "--out", tmp_path / "m.h5")):
        assert json.loads(run(*arguments, "-e", "ORB", "--json").stdout)["extractor"] == "orb"
