"""`tiepoints bench` as a person and a machine use it, in processes of its own."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "tiepoints", "bench", *map(str, arguments)]
    env = os.environ | {"COLUMNS": "200"} | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, encoding="utf-8")


@pytest.fixture
def data(tmp_path: Path, texture: NDArray[np.uint8]) -> Path:
    """One sequence of three images, each shifted by 4 px more."""
    folder = tmp_path / "data" / "v_wall"
    folder.mkdir(parents=True)
    for k in range(1, 4):
        H = np.array([[1.0, 0, 4 * (k - 1)], [0, 1, 0], [0, 0, 1]])
        Image.fromarray(cv2.warpPerspective(texture, H, (320, 240))).save(folder / f"{k}.png")
        if k > 1:
            np.savetxt(folder / f"H_1_{k}", H)
    return folder.parent


def test_hpatches_writes_everything(data: Path, tmp_path: Path) -> None:
    html, machine, table, pairs = (tmp_path / name for name in ("r.html", "r.json", "r.csv", "pairs.csv"))
    specs = ("-e", "sift:contrast_threshold=0.01", "-e", "orb", "-n", 200, "--store", tmp_path / "store")
    outs = ("--out", html, "--out", machine, "--out", table, "--details", pairs)
    result = run("hpatches", "--root", data, *specs, *outs, "--jobs", 2)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    for text in (
        "protocol d2net",
        "sift contrast_threshold=0.01",
        "MMA@3",
        "published cache",
        "OpenCV SIFT",
        f"wrote {html}",
    ):
        assert text in result.stdout
    assert "image 4 and homography 1-4 missing" in result.stdout
    content = json.loads(machine.read_text(encoding="utf-8"))
    measured = [row for row in content["tables"][0]["rows"] if not row["source"]]
    assert {row["method"] for row in measured} == {"sift contrast_threshold=0.01", "orb"}
    assert all(row["values"]["mma3"] > 0.7 for row in measured)
    assert len(list(csv.DictReader(pairs.read_text(encoding="utf-8").splitlines()))) == 4
    page = html.read_text(encoding="utf-8")
    assert page.count("<svg") >= 4 and page.count("data:image/jpeg") == 2
    assert sorted(path.name for path in (tmp_path / "store" / "planar").iterdir()) != []


def test_hpatches_for_machines_and_from_the_default_store(data: Path, tmp_path: Path) -> None:
    for _ in range(2):
        result = run(
            "hpatches", "--root", data, "--profile", "strek", "--json", TIEPOINTS_CACHE=str(tmp_path / "cache")
        )
        assert result.returncode == 0 and result.stderr == ""
        assert json.loads(result.stdout)["protocol"] == "strek"
    assert len(list((tmp_path / "cache" / "benchmarks" / "planar").glob("*.h5"))) == 1


def test_speed(tmp_path: Path, examples: Path) -> None:
    small = (
        "--size",
        "160x120",
        "-n",
        100,
        "--sizes",
        "80x60",
        "--sizes",
        "160x120",
        "--counts",
        50,
        "--runs",
        5,
        "--threads",
        1,
    )
    result = run(
        "speed", "-e", "orb", "--image", examples / "box.png", *small, "--out", tmp_path / "speed.html", "--json"
    )
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout)
    rows = {row["method"]: row["values"] for row in content["tables"][0]["rows"]}
    assert set(rows) == {"OpenCV SIFT", "OpenCV ORB", "orb"} and rows["OpenCV SIFT"]["extract_to_sift"] == 1
    assert sys.platform == "win32" or rows["orb"]["peak_mb"] > 20
    assert len(content["tables"]) == 4
    assert not any("OMP_NUM_THREADS" in note for note in content["notes"]), "the command sets it in time"


def test_download_says_what_it_knows(tmp_path: Path) -> None:
    result = run("download", "hpatches", "--to", tmp_path, "--url", "http://127.0.0.1:1/set.zip")
    assert result.returncode == 1
    assert "no licence is stated" in result.stdout and "cannot be reached" in result.stderr
    assert len(result.stderr.splitlines()) == 1 and "Traceback" not in result.stderr


def test_wrong_usage(data: Path, tmp_path: Path) -> None:
    for arguments, code, message in (
        (("hpatches",), 2, "--root"),
        (("hpatches", "--root", tmp_path / "nowhere"), 1, "no such folder"),
        (("hpatches", "--root", data / "v_wall" / "1.png"), 1, "not a folder"),
        (("hpatches", "--root", data, "--profile", "x"), 2, "d2net"),
        (("hpatches", "--root", data, "-e", "sfit"), 2, "did you mean 'sift'"),
        (("hpatches", "--root", data, "-e", "sift:nonsense=1"), 2, "nonsense"),
        (("hpatches", "--root", data, "-e", "sift", "-e", "sift"), 2, "takes part twice"),
        (("hpatches", "--root", data, "--out", "report.pdf"), 2, ".html"),
        (("hpatches", "--root", data, "--details", "pairs.json"), 2, ".csv"),
        (("speed", "--size", "640"), 2, "640x480"),
        (("speed", "--runs", "3"), 2, "runs"),
        (("speed", "--image", tmp_path / "nowhere.png"), 1, "no such file"),
        (("download", "nonsense"), 2, "hpatches"),
        (("download", "imb", "--url", "file:///etc/passwd", "--to", tmp_path / "x"), 1, "only http"),
        (("nonsense",), 2, "nonsense"),
    ):
        result = run(*arguments)
        assert result.returncode == code, (arguments, result.stderr)
        assert message in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["hpatches", "speed", "download"])
def test_help_has_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.returncode == 0 and "Example" in result.stdout and f"tiepoints bench {command}" in result.stdout
    assert command in run("--help").stdout


def test_what_help_lists_is_what_there_is() -> None:
    """The commands list names without importing what has them."""
    from tiepoints.benchmarks.download.catalogue import CATALOGUE
    from tiepoints.benchmarks.planar.scores import PROFILES
    from tiepoints.benchmarks.writers import SUFFIXES
    from tiepoints.cli.bench import download, hpatches, options

    choices = {p.name: tuple(p.type.choices) for p in hpatches.command.params if isinstance(p.type, click.Choice)}
    assert choices["profile"] == tuple(PROFILES)
    assert tuple(download.command.params[0].type.choices) == tuple(CATALOGUE)
    assert options._REPORTS == (".json", ".csv", ".md", ".html") == SUFFIXES


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interruption_ends_with_one_line(data: Path, tmp_path: Path, jobs: int) -> None:
    for k in range(4, 7):  # enough to do
        shutil.copy(data / "v_wall" / "3.png", data / "v_wall" / f"{k}.png")
        shutil.copy(data / "v_wall" / "H_1_3", data / "v_wall" / f"H_1_{k}")
    methods = [part for n in range(100, 1000, 100) for part in ("-e", f"sift:max_keypoints={n}")]
    arguments = ["hpatches", "--root", data, "--store", tmp_path / "store", "--jobs", jobs, *methods]
    process = subprocess.Popen(
        [sys.executable, "-m", "tiepoints", "bench", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not list(tmp_path.glob("store/planar/*")):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to all of its processes
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.splitlines() == ["tiepoints: interrupted; what was extracted is kept, run the same command again"]
