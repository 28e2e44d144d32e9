"""`tiepoints bench hpatches` as a person and a machine use it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from tiepoints.cli import cli


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["bench", "hpatches", *map(str, arguments)])


def rows(run: Result) -> dict[str, dict[str, float]]:
    """The values over all pairs by method, without published ones."""
    assert run.exit_code == 0, run.output
    table = json.loads(run.stdout)["tables"][0]
    return {row["method"]: row["values"] for row in table["rows"] if not row["source"] and row["group"] == "overall"}


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


def test_everything_is_written(data: Path, tmp_path: Path) -> None:
    """In a process of its own, where a warning is an error."""
    html, machine, table, pairs = (tmp_path / name for name in ("r.html", "r.json", "r.csv", "pairs.csv"))
    arguments = ["--root", data, "-e", "sift:contrast_threshold=0.01", "-e", "orb", "-n", 200, "--jobs", 2]
    arguments += ["--store", tmp_path / "store", "--out", html, "--out", machine, "--out", table, "--details", pairs]
    arguments.append("--no-time")
    command = [sys.executable, "-W", "error", "-m", "tiepoints", "bench", "hpatches", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    for text in (
        "protocol d2net", "sift contrast_threshold=0.01", "MMA@3", "published cache", f"wrote {html}",
        "image 4 and homography 1-4 missing",
    ):  # fmt: skip
        assert text in run.stdout
    content = json.loads(machine.read_text(encoding="utf-8"))
    measured = [row for row in content["tables"][0]["rows"] if not row["source"]]
    assert {row["method"] for row in measured} == {"sift contrast_threshold=0.01", "orb"}
    assert all(row["values"]["mma3"] > 0.7 and row["values"]["keypoints"] <= 200 for row in measured)
    assert "MD-2-Net" in table.read_text(encoding="utf-8")
    assert len(list(csv.DictReader(pairs.read_text(encoding="utf-8").splitlines()))) == 4
    page = html.read_text(encoding="utf-8")
    assert page.count("<svg") == 3 and page.count("data:image/jpeg") == 2
    assert "://" not in re.sub(r"http://www\.w3\.org/(2000/svg|1999/xlink)", "", page), "it opens without a network"
    assert len(list((tmp_path / "store").glob("extract-*.sqlite"))) == 2


def test_for_machines_and_from_the_default_store(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIEPOINTS_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        run = bench("--root", data, "--profile", "strek", "--json")
        assert run.exit_code == 0 and run.stderr == ""
        assert json.loads(run.stdout)["protocol"] == "strek"
        assert list(rows(run)) == ["mdnet"], "the default"
    assert len(list((tmp_path / "cache" / "benchmarks").glob("extract-mdnet*.sqlite"))) == 1


def test_options_reach_the_benchmark(data: Path, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "store", "--json")
    assert rows(bench("--root", data, "-e", "orb", *store))["orb"]["keypoints"] > 100
    assert rows(bench("--root", data, "-e", "orb", "-n", 100, *store))["orb"]["keypoints"] <= 100
    small = rows(bench("--root", data, "-e", "orb", "--max-size", 160, *store))["orb"]
    assert small["keypoints"] < rows(bench("--root", data, "-e", "orb", *store))["orb"]["keypoints"]
    assert small["mma5"] > 0.5, "keypoints are in pixels of the original image"
    other = shutil.copytree(data / "v_wall", tmp_path / "other" / "i_mine")
    both = rows(bench("--root", data, "--root", other.parent, "-e", "orb", *store))["orb"]
    assert both["pairs"] == 4


@pytest.fixture
def one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are measured once."""
    monkeypatch.setattr("tiepoints.benchmarks.hpatches._RUNS", 1)


@pytest.mark.usefixtures("one_run")
def test_times_are_measured_for_a_page_or_when_asked_for(data: Path, tmp_path: Path) -> None:
    arguments = ("--root", data, "-e", "orb", "-n", 50, "--store", tmp_path / "store", "--json")
    page = tmp_path / "r.html"
    for more, timed in (
        ((), False),
        (("--time",), True),
        (("--out", page), True),
        (("--out", page, "--no-time"), False),
    ):
        tables = json.loads(bench(*arguments, *more).stdout)["tables"]
        assert any("Time at" in table["title"] for table in tables) is timed
        if page.exists():
            assert ("Accuracy against time" in page.read_text(encoding="utf-8")) is timed


def test_engines_give_the_same_figures(data: Path, tmp_path: Path) -> None:
    said = []
    for engine in ("threads", "processes"):
        options = ["--engine", engine, "--jobs", 2, "--store", tmp_path / engine, "--json"]
        run = bench("--root", data, "-e", "orb", "-n", 200, *options)
        assert run.exit_code == 0, run.output
        said.append(rows(run))
    assert said[0] == said[1] and said[0]
    wrong = bench("--root", data, "-e", "orb", "--address", "10.0.0.1:1")
    assert wrong.exit_code == 2 and "--engine ray" in wrong.stderr


def test_quiet_writes_only_files(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    run = bench("--root", data, "-e", "orb", "--store", tmp_path / "store", "-q", "--out", out)
    assert run.exit_code == 0 and run.output == "" and "mma3" in out.read_text(encoding="utf-8")


@pytest.mark.usefixtures("one_run")
def test_what_cannot_be_read_is_exit_code_1(data: Path, tmp_path: Path) -> None:
    arguments = ("--root", data, "-e", "orb", "-n", 50, "--store", tmp_path / "store", "--time")
    (data / "v_wall" / "2.png").write_bytes(b"no image")
    run = bench(*arguments)
    assert run.exit_code == 1 and "Homographies" in run.stdout and "v_wall/2.png" in run.stdout and run.stderr == ""
    (data / "v_wall" / "1.png").write_bytes(b"no image")
    run = bench(*arguments, "--out", tmp_path / "r.html")
    assert run.exit_code == 1 and "no pair can be judged" in run.stderr and len(run.stderr.splitlines()) == 1
    assert not (tmp_path / "r.html").exists()


def test_a_report_that_cannot_be_written_costs_no_figures(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for option in ("--out", "--details"):
        run = bench("--root", data, "-e", "orb", "--store", tmp_path / "store", option, tmp_path / "file" / "x.csv")
        assert run.exit_code == 1 and "MMA@3" in run.stdout and "wrote" not in run.stdout
        assert "x.csv: cannot be written" in run.stderr and len(run.stderr.splitlines()) == 1


def test_pairs_with_marked_correspondences(shared: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    run = bench("--root", shared / "data" / "wxbs" / "WGABS", "-e", "upright-rootsift", "-n", 500, "--out", out,
                "--no-time", "--store", tmp_path / "store")  # fmt: skip
    assert run.exit_code == 0 and "Marked correspondences" in run.stdout and "MMA" not in run.stdout
    assert "<svg" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "--root"),
        (["--root", "nowhere"], 1, "no such folder"),
        (["--root", "data/v_wall/1.png"], 1, "not a folder"),
        (["--root", "empty"], 1, "holds no sequence"),
        (["--root", "data", "--profile", "x"], 2, "d2net"),
        (["--root", "data", "-e", "sfit"], 2, "did you mean 'sift'"),
        (["--root", "data", "-e", "sift:nonsense=1"], 2, "nonsense"),
        (["--root", "data", "-e", "sift:nonsense"], 2, "NAME:KEY=VALUE"),
        (["--root", "data", "-e", "sift", "-e", "sift"], 2, "is given twice"),
        (["--root", "data", "-e", "mdnet:sets=3"], 2, "make no 3"),
        (["--root", "data", "-n", "0"], 2, "max-keypoints"),
        (["--root", "data", "--jobs", "0"], 2, "jobs"),
        (["--root", "data", "--store", "file"], 2, "is a file"),
        (["--root", "data", "--out", "report.pdf"], 2, ".html"),
        (["--root", "data", "--details", "pairs.json"], 2, ".csv"),
    ],
)
def test_wrong_usage(
    data: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(data.parent)
    (data.parent / "empty").mkdir()
    (data.parent / "file").touch()
    run = bench(*arguments)
    assert run.exit_code == code, run.output
    assert message in run.stderr and "Traceback" not in run.stderr
    assert code == 2 or len(run.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interruption_ends_with_one_line_and_the_next_run_goes_on(data: Path, tmp_path: Path, jobs: int) -> None:
    for k in range(4, 7):  # enough to do
        shutil.copy(data / "v_wall" / "3.png", data / "v_wall" / f"{k}.png")
        shutil.copy(data / "v_wall" / "H_1_3", data / "v_wall" / f"H_1_{k}")
    methods = [part for n in range(100, 1000, 100) for part in ("-e", f"sift:max_keypoints={n}")]
    arguments = ["--root", data, "--store", tmp_path / "store", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tiepoints", "bench", "hpatches", *map(str, arguments), "--jobs", str(jobs), *methods],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not list(tmp_path.glob("store/extract-*")):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to all of its processes
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.splitlines() == ["tiepoints: interrupted; what is finished is kept, run the same command again"]
    resumed = rows(bench(*arguments, *methods[:2]))
    arguments[3] = tmp_path / "other store"
    assert resumed == rows(bench(*arguments, *methods[:2]))
