"""`tiepoints bench speed` as a person and a machine use it; no time is asserted."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tiepoints.benchmarks import method
from tiepoints.cli import cli
from tiepoints.threads import variables

SMALL = ("--size", "160x120", "-n", 100, "--runs", 5, "--threads", 1)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets these for the libraries that it loads; here they are as before afterwards."""
    for name, value in variables(1).items():
        monkeypatch.setenv(name, value)


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["bench", "speed", *map(str, arguments)])


def answer(run: Result) -> dict[str, Any]:
    assert run.exit_code == 0, run.output
    return json.loads(run.stdout)


def test_in_a_process_of_its_own(tmp_path: Path, examples: Path) -> None:
    """Everything at once; the thread counts are set before the libraries are loaded."""
    arguments = ["-e", "orb", "-e", "mdnet", "--image", examples / "box.png", *SMALL]
    arguments += ["--sizes", "80x60", "--sizes", "160x120", "--counts", 50, "--out", tmp_path / "s.html", "--json"]
    env = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, "-W", "error", "-m", "tiepoints", "bench", "speed", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert run.returncode == 0 and run.stderr == "", run.stderr
    content = json.loads(run.stdout)
    usual = {row["method"]: row["values"] for row in content["tables"][0]["rows"]}
    assert set(usual) == {"OpenCV SIFT", "OpenCV ORB", "orb", "mdnet"}
    assert usual["OpenCV SIFT"]["extract_to_sift"] == 1
    assert sys.platform == "win32" or all(values["peak_mb"] > 20 for values in usual.values())
    assert [table["title"] for table in content["tables"]] == [
        "160x120, 100 keypoints", "Extraction by image size, 100 keypoints",
        "Extraction by number of keypoints, 160x120", "Matching by number of keypoints, 160x120",
    ]  # fmt: skip
    assert "threads=1" in content["about"]["mdnet"], "MD-Net's network keeps to the number of threads too"
    assert not any("OMP_NUM_THREADS" in note for note in content["notes"]), "the command sets it in time"
    page = (tmp_path / "s.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3 and "://" not in re.sub(r"http://www\.w3\.org/(2000/svg|1999/xlink)", "", page)


def test_options_reach_the_benchmark(tmp_path: Path) -> None:
    details = tmp_path / "runs.csv"
    run = bench("-e", "orb", *SMALL[:4], "--runs", 6, "--threads", 2, "--no-growth", "--no-memory", "--json",
                "--details", details)  # fmt: skip
    content = answer(run)
    (usual,) = content["tables"]
    assert usual["title"] == "160x120, 100 keypoints" and all(row["values"]["peak_mb"] is None for row in usual["rows"])
    assert "medians of 6 runs" in content["description"] and "2 threads" in content["description"]
    records = list(csv.DictReader(details.read_text(encoding="utf-8").splitlines()))
    assert len(records) == 3 * 6 and {record["run"] for record in records} == set("123456")
    assert any("synthetic texture" in note for note in content["notes"])


def test_all_installed_methods_are_timed_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them here: with learned ones it takes minutes."""
    two = lambda count: [method(name, max_keypoints=count) for name in ("orb", "akaze")]  # noqa: E731
    monkeypatch.setattr("tiepoints.benchmarks.speed.installed_methods", two)
    content = answer(bench(*SMALL, "--no-growth", "--no-memory", "--json"))
    methods = {row["method"] for row in content["tables"][0]["rows"]}
    assert methods == {"orb", "akaze", "OpenCV SIFT", "OpenCV ORB"}


def test_for_people(tmp_path: Path) -> None:
    run = bench("-e", "orb", *SMALL, "--no-growth", "--no-memory", "--out", tmp_path / "s.csv")
    assert run.exit_code == 0 and run.stderr == ""
    for text in ("protocol side by side", "extract, ms", "/ SIFT", "OpenCV ORB", f"wrote {tmp_path / 's.csv'}"):
        assert text in run.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--size", "640"], 2, "640x480"),
        (["--sizes", "0x480"], 2, "640x480"),
        (["--sizes", "480x640"], 2, "equally many pixels"),
        (["--counts", "0"], 2, "counts"),
        (["--runs", "3"], 2, "runs"),
        (["--threads", "0"], 2, "threads"),
        (["--image", "nowhere.png"], 1, "no such file"),
        (["-e", "sfit"], 2, "did you mean 'sift'"),
        (["-e", "orb", "-e", "orb"], 2, "is given twice"),
        (["--out", "report.pdf"], 2, ".html"),
    ],
)
def test_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run = bench(*arguments)
    assert run.exit_code == code, run.output
    assert message in run.stderr and "Traceback" not in run.stderr


def test_an_interruption_ends_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tiepoints.benchmarks.speed.alternating", interrupted)
    run = bench("-e", "orb", *SMALL, "--no-growth", "--no-memory")
    assert run.exit_code == 1 and run.stdout == ""
    assert run.stderr.splitlines() == ["tiepoints: interrupted"]
