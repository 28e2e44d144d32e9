"""`tiepoints bench imb` as a person and a machine use it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tiepoints.cli import cli
from tiepoints.storage import load_imb


def test_a_real_set(shared: Path, tmp_path: Path) -> None:
    """Six of its eight photographs, whose 15 pairs are half as many."""
    whole, root = shared / "data" / "strecha" / "Herz-Jesus-P8", tmp_path / "Herz-Jesus-P8"
    (root / "images").mkdir(parents=True)
    head, *cameras = (whole / "cameras.csv").read_text(encoding="utf-8").splitlines()
    (root / "cameras.csv").write_text("\n".join([head, *cameras[1:7]]), encoding="utf-8")
    for path in sorted((whole / "images").iterdir())[1:7]:
        (root / "images" / path.name).symlink_to(path)
    out, details = tmp_path / "imb.html", tmp_path / "pairs.csv"
    arguments = ["bench", "imb", "--root", root, "-e", "orb", "-e", "rootsift", "-e", "mdnet", "-n", 400]
    arguments += ["--max-size", 512]
    arguments += ["--bags", "5:1", "--estimator", "usac", "--store", tmp_path / "store", "--json"]
    reports = ["--out", out, "--details", details]
    run = CliRunner().invoke(cli, [str(argument) for argument in [*arguments, *reports]])
    assert run.exit_code == 0, run.output
    answer = json.loads(run.stdout)
    measured, published = answer["tables"]
    rows = {row["method"]: row["values"] for row in measured["rows"]}
    assert set(rows) == {"orb", "rootsift", "mdnet"} and rows["rootsift"]["pairs"] == 15
    assert rows["rootsift"]["e_maa10"] > 0.7 and rows["rootsift"]["mv_maa10"] > 0.8
    assert rows["mdnet"]["e_maa10"] > 0.7 and rows["mdnet"]["mv_maa10"] > 0.8
    assert 0.45 < rows["mdnet"]["cost"] < 0.65 and rows["rootsift"]["cost"] == 1, "only the same of the two sets meet"
    assert 0 <= rows["orb"]["maa10"] <= rows["orb"]["e_maa10"] + 0.3
    assert all(row["source"] for row in published["rows"])
    assert "imb, usac for degensac" in answer["protocol"]
    assert "Herz-Jesus-P8: no depth maps, hence no Rep@3 and no MS@3" in answer["notes"]
    assert any("1 bag of 5 drawn with seed 0" in note for note in answer["notes"])
    page = out.read_text(encoding="utf-8")
    assert "<svg" in page and "data:image/jpeg" in page and "://" not in page.replace("http://www.w3.org", "")
    records = list(csv.DictReader(details.read_text(encoding="utf-8").splitlines()))
    assert len(records) == 3 * (15 + 1)

    again = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert json.loads(again.stdout)["tables"] == answer["tables"]


@pytest.mark.parametrize("extractor", ["orb", "mdnet"])
def test_only_the_submission(shared: Path, tmp_path: Path, extractor: str) -> None:
    """The benchmark matches ORB itself; MD-Net's sets it cannot, so that they come with their matches."""
    root = shared / "data" / "lund_door"
    arguments = ["bench", "imb", "--root", root, "-e", extractor, "-n", 50, "--max-size", 256, "--task", "none"]
    arguments += ["--export", tmp_path / "out", "--store", tmp_path / "store"]
    run = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert run.exit_code == 0, run.output
    assert "wrote" in run.output and "mAA" not in run.output
    features, matches = load_imb(tmp_path / "out" / "data" / "lund_door")
    assert len(features) == 12 and len(matches) == (0 if extractor == "orb" else 66)
    assert all(0 < len(some) <= 50 for some in features.values())
    (config,) = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    stereo = config["config_data_stereo"]
    assert stereo["use_custom_matches"] is (extractor == "mdnet")
    assert ("matcher" not in stereo) if extractor == "mdnet" else (stereo["matcher"]["distance"] == "Hamming")
    run = CliRunner().invoke(cli, [str(argument) for argument in [*arguments, "--json"]])
    assert run.exit_code == 0
    assert json.loads(run.stdout) == {
        "written": [str(tmp_path / "out" / "data" / "lund_door"), str(tmp_path / "out" / "config.json")]
    }


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--root", "nowhere"], 1, "nowhere: no such folder"),
        (["--root", "."], 1, "no scene in it"),
        ([], 2, "--root"),
        (["--root", ".", "--bags", "5"], 2, "SIZE:COUNT"),
        (["--root", ".", "--bags", "2:5"], 2, "3 images at least"),
        (["--root", ".", "--task", "none"], 2, "give --export FOLDER"),
        (["--root", ".", "-e", "orb", "-e", "sift", "--export", "x"], 2, "give one -e"),
        (["--root", ".", "--out", "report.pdf"], 2, "must end in"),
        (["--root", ".", "-e", "nonsense"], 2, "no extractor is called 'nonsense'"),
    ],
)
def test_wrong_usage(tmp_path: Path, monkeypatch, arguments: list[str], code: int, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(cli, ["bench", "imb", *arguments])
    assert run.exit_code == code, run.output
    assert message in run.stderr and "Traceback" not in run.stderr


@pytest.mark.parametrize("task", ["both", "multiview"])
def test_without_pycolmap_the_other_task_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    arguments = ["bench", "imb", "--root", str(tmp_path), "-e", "orb", "--task"]
    run = CliRunner().invoke(cli, [*arguments, task])
    assert run.exit_code == 1 and len(run.stderr.splitlines()) == 1
    assert "pip install 'tiepoints[sfm]'; --task stereo works without it" in run.stderr
    run = CliRunner().invoke(cli, [*arguments, "stereo"])
    assert "no scene in it" in run.stderr, "it goes on without"


def test_damaged_data_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "cameras.csv").write_text("name,width\na.jpg,640\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "tiepoints",
        "bench",
        "imb",
        "--root",
        str(tmp_path),
        "--store",
        str(tmp_path / "s"),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1 and len(run.stderr.splitlines()) == 1
    assert "cameras.csv, line 2: not name,width,height" in run.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_an_interruption_is_one_line_and_keeps_what_is_finished(shared: Path, tmp_path: Path) -> None:
    arguments = [
        "--root",
        shared / "data" / "temple_ring",
        "-e",
        "orb",
        "-n",
        800,
        "--max-size",
        256,
        "--task",
        "stereo",
    ]
    arguments += ["--estimator", "usac", "--store", tmp_path / "store", "--jobs", 2]
    process = subprocess.Popen(
        [sys.executable, "-m", "tiepoints", "bench", "imb", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not list(tmp_path.glob("store/judgepair-*.sqlite")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to all of its processes
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.splitlines() == ["tiepoints: interrupted; what is finished is kept, run the same command again"]
    assert list(tmp_path.glob("store/matchpair-*.sqlite")) and list(tmp_path.glob("store/extract-orb-*.sqlite"))
