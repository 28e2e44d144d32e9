"""`tiepoints bench trajectory` as a person and a machine use it."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tiepoints.cli import cli

COUNT = 12


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["bench", "trajectory", *map(str, arguments)])


def rows(run: Result) -> dict[str, dict[str, Any]]:
    assert run.exit_code == 0, run.output
    return {row["method"]: row["values"] for row in json.loads(run.stdout)["tables"][0]["rows"]}


def write(path: Path, *, scale: float = 1.0, late: float = 0.0, off: float = 0.0, count: int = COUNT) -> Path:
    """A helix in TUM's format; the pose in the middle is `off` too high."""
    lines = ["# timestamp tx ty tz qx qy qz qw"]
    for i in range(count):
        x, y, z = math.cos(0.4 * i), math.sin(0.4 * i), 0.1 * i + (off if i == COUNT // 2 else 0)
        lines.append(f"{i / 10 + late} {scale * x} {scale * y} {scale * z} 0 0 0 1")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return write(tmp_path / "truth.txt")


def test_several_estimates_in_one_table(truth: Path, tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good.txt", scale=7), write(tmp_path / "bad.txt", off=1, count=COUNT - 2)
    run = bench(good, bad, "--truth", truth, "--json")
    found = rows(run)
    assert found["good"]["ate_rmse"] == pytest.approx(0, abs=1e-6) and found["good"]["scale"] == pytest.approx(1 / 7)
    assert found["bad"]["ate_rmse"] > 0.1 and found["bad"]["coverage"] == pytest.approx(10 / 12)
    answer = json.loads(run.stdout)
    assert "bad: 10 of 12 true poses were compared" in answer["notes"][0] and "Sim(3)" in answer["protocol"]


def test_one_bad_estimate_costs_no_other(truth: Path, tmp_path: Path) -> None:
    good, damaged = write(tmp_path / "good.txt"), tmp_path / "damaged.txt"
    damaged.write_text("1 2 three\n")
    run = bench(damaged, good, tmp_path / "missing.txt", "--truth", truth, "--json")
    answer = json.loads(run.stdout)
    assert run.exit_code == 1 and [row["method"] for row in answer["tables"][0]["rows"]] == ["good"]
    notes = answer["notes"]
    assert len(notes) == 2 and "damaged is left out" in notes[0] and "damaged.txt" in notes[0]
    assert "missing.txt" in notes[1]
    alone = bench(damaged, "--truth", truth)
    assert alone.exit_code == 1 and "damaged.txt" in alone.stderr and not alone.stdout


def test_options_reach_the_benchmark(truth: Path, tmp_path: Path) -> None:
    off = write(tmp_path / "off.txt", scale=2, off=6)
    none = rows(bench(off, "--truth", truth, "--align", "none", "--json"))["off"]
    assert none["scale"] == 1 and none["ate_max"] > 10
    assert rows(bench(off, "--truth", truth, "--align", "se3", "--json"))["off"]["scale"] == 1
    assert rows(bench(off, "--truth", truth, "--align", "sim3", "--json"))["off"]["scale"] != 1
    one, all_but_one = (
        rows(bench(off, "--truth", truth, "--delta", delta, "--json"))["off"]["rpe_max"] for delta in (1, COUNT - 1)
    )
    assert one > all_but_one, "first and last pose are right"
    late = write(tmp_path / "late.txt", late=0.03)
    refused = bench(late, "--truth", truth)
    assert refused.exit_code == 2 and "no times in common" in refused.stderr
    assert rows(bench(late, "--truth", truth, "--max-difference", 0.04, "--json"))["late"]["matched"] == COUNT


def test_files_for_people_and_machines(truth: Path, tmp_path: Path) -> None:
    page, details = tmp_path / "new" / "r.html", tmp_path / "other" / "poses.csv"
    run = bench(write(tmp_path / "e.txt", off=1), "--truth", truth, "--out", page, "--details", details)
    assert run.exit_code == 0 and run.stderr == ""
    assert "ATE RMSE" in run.stdout and f"wrote {page}" in run.stdout and f"wrote {details}" in run.stdout
    text = page.read_text(encoding="utf-8")
    assert "<svg" in text and "://" not in re.sub(r"http://www\.w3\.org/(2000/svg|1999/xlink)", "", text)
    records = list(csv.DictReader(details.read_text(encoding="utf-8").splitlines()))
    assert len(records) == COUNT and float(max(records, key=lambda r: float(r["ate"]))["frame"]) == COUNT // 2


def test_equal_names_are_told_apart_by_their_folders(truth: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    estimates = [write(tmp_path / name / "run.txt") for name in ("a", "b")]
    assert list(rows(bench(*estimates, "--truth", truth, "--json"))) == list(map(str, estimates))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--truth", "truth.txt"], 2, "ESTIMATES"),
        (["truth.txt"], 2, "--truth"),
        (["truth.txt", "truth.txt", "--truth", "truth.txt"], 2, "given twice"),
        (["nowhere.txt", "--truth", "truth.txt"], 1, "nowhere.txt: no such file"),
        (["damaged.txt", "--truth", "truth.txt"], 1, "damaged.txt, line 1"),
        (["truth.txt", "--truth", "truth.txt", "--delta", "12"], 2, "there are 12 poses"),
        (["truth.txt", "--truth", "truth.txt", "--align", "sim2"], 2, "sim3"),
        (["truth.txt", "--truth", "truth.txt", "--out", "report.pdf"], 2, ".html"),
    ],
)
def test_wrong_usage(
    truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.txt").write_text("1 2 3\n", encoding="utf-8")
    run = bench(*arguments)
    assert run.exit_code == code, run.output
    assert message in run.stderr and "Traceback" not in run.stderr
    assert code == 2 or len(run.stderr.splitlines()) == 1
