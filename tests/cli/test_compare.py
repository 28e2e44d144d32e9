"""`tiepoints compare` on photographs of one's own, and `tiepoints doctor`."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import distributions
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

import tiepoints as tp
from tiepoints import doctor
from tiepoints.cli import cli
from tiepoints.compare import coverage


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, list(map(str, arguments)), prog_name="tiepoints", env={"COLUMNS": "160"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_methods_side_by_side(examples: Path, tmp_path: Path) -> None:
    pair, plot = (examples / "box.png", examples / "box_in_scene.png"), tmp_path / "c.png"
    methods = "rootsift,orb:levels=4,scale_factor=1.3"
    result = run("compare", *pair, "--methods", methods, "-n", 500, "--plot", plot, "--json")
    assert result.exit_code == 0, result.output
    rows = {row["method"]: row for row in json.loads(result.stdout)["methods"]}
    assert list(rows) == ["rootsift", "orb levels=4 scale_factor=1.3"]
    alone = tp.match_images(*pair, extractor="rootsift", max_keypoints=500)
    assert rows["rootsift"]["matches"] == len(alone.matches)
    assert rows["rootsift"]["inliers"] == len(alone.inliers) > 10
    assert 0 < rows["rootsift"]["coverage"] < 1 and rows["rootsift"]["milliseconds"] > 1
    assert tp.read(plot).shape[0] > 2 * 384
    piped = run("compare", *pair, "--methods", "rootsift,orb", "-n", 500).stdout.splitlines()
    header = "method, keypoints, putative matches, inliers, coverage %, time ms, verified"
    assert piped[0].split("\t") == header.split(", ")
    assert [line.split("\t")[0] for line in piped[1:]] == ["rootsift", "orb"]
    cells = piped[1].split("\t")
    assert (int(cells[2]), int(cells[3]), cells[6]) == (len(alone.matches), len(alone.inliers), "1 of 1")


def test_a_folder_is_compared_neighbour_by_neighbour(examples: Path, tmp_path: Path) -> None:
    for k in range(3):
        shutil.copy(examples / "box.png", tmp_path / f"{k}.png")
    (tmp_path / "9.jpg").write_text("no image", encoding="utf-8")
    result = run("compare", tmp_path, "--methods", "orb", "-n", 200, "--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 1 and list(answer["failed"]) == [str(tmp_path / "9.jpg")]
    assert [[Path(p).name for p in pair] for pair in answer["pairs"]] == [["0.png", "1.png"], ["1.png", "2.png"]]
    assert answer["methods"][0]["verified"] == 2
    some = run("compare", tmp_path / "*.png", "--methods", "orb", "-n", 200, "--pairs", 1, "--json")
    assert len(json.loads(some.stdout)["pairs"]) == 1
    for arguments, message in (
        ((tmp_path / "0.png",), "needs two"),
        ((tmp_path, "--methods", "orb,orb"), "orb"),
        ((tmp_path, "--methods", "obr"), "did you mean 'orb'"),
    ):
        wrong = run("compare", *arguments)
        assert wrong.exit_code in (1, 2) and message in wrong.stderr and len(wrong.stderr.splitlines()) == 1


def test_videos_and_lists_are_compared_too(examples: Path, tmp_path: Path) -> None:
    desk = np.ascontiguousarray(tp.read(examples / "desk_1.jpg")[:, :, ::-1])
    video = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (400, 300))
    for i in range(4):
        video.write(np.ascontiguousarray(desk[4 * i : 4 * i + 300, 8 * i : 8 * i + 400]))
    video.release()
    listed = tmp_path / "list.txt"
    listed.write_text(f"{examples / 'desk_1.jpg'}\n{examples / 'desk_2.jpg'}\n", encoding="utf-8")
    for source, options, pairs in (
        (tmp_path / "clip.avi", ("--every", 2), [["clip.avi/000000", "clip.avi/000002"]]),
        (listed, (), [[str(examples / name) for name in ("desk_1.jpg", "desk_2.jpg")]]),
    ):
        result = run("compare", source, "--methods", "orb", "-n", 300, "--json", *options)
        assert result.exit_code == 0 and json.loads(result.stdout)["pairs"] == pairs, result.output


def test_nothing_verified_fails_as_match_does(examples: Path) -> None:
    unlike = (examples / "box.png", examples / "desk_1.jpg")
    result = run("compare", *unlike, "--methods", "orb,rootsift", "-n", 300)
    assert result.exit_code == run("match", *unlike, "-e", "orb", "-n", 300).exit_code == 1
    assert "0 of 1" in result.stdout and "NOT VERIFIED: no method" in result.stderr
    assert len(result.stderr.splitlines()) == 2
    typo = run("compare", *unlike, "--methods", "mdnet,superglue")
    assert typo.exit_code == 2 and len(typo.stderr) < 200 and "`tiepoints extractors`" in typo.stderr


def test_coverage_counts_cells() -> None:
    corners = np.array([[-0.5, -0.5], [99.4, 49.4], [0, 0], [50, 25]])
    assert coverage(corners, (100, 50)) == 0.03
    assert coverage(np.zeros((0, 2)), (100, 50)) == 0


def test_doctor_tells_what_is_there() -> None:
    result = run("doctor", "--json")
    answer = json.loads(result.stdout)
    said = {finding["what"]: finding["value"] for finding in answer["findings"]}
    assert said["tiepoints"] == tp.__version__ and "CPU" in said["ONNX Runtime computes on"]
    assert {"free memory", "cores", "cache", "OpenCV"} <= set(said)
    assert not any("cannot be imported" in value for value in said.values())
    assert (result.exit_code == 1) == (answer["faults"] > 0)


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (["opencv-python", "opencv_contrib_python_headless"], True),
        (["opencv-contrib-python"], False),
        (["opencv-contrib-python-headless"], False),
    ],
)
def test_doctor_names_packages_that_overwrite_each_other(
    monkeypatch: pytest.MonkeyPatch, names: list[str], fault: bool
) -> None:
    there = [SimpleNamespace(metadata={"Name": name}) for name in names]
    others = [d for d in distributions() if not (d.metadata["Name"] or "").startswith("opencv")]
    monkeypatch.setattr(doctor, "distributions", lambda: [*others, *there])
    result = run("doctor")
    assert ("these packages overwrite each other" in result.stdout) == fault
    if fault:
        assert result.exit_code == 1
        lines = [line.strip() for line in result.stdout.splitlines()]
        at = lines.index("FAULT; try:")
        assert lines[at + 1].endswith("-m pip uninstall -y opencv-contrib-python-headless opencv-python")
        assert lines[at + 2].endswith("-m pip install --no-deps opencv-contrib-python")
        assert "&&" not in result.stdout  # which PowerShell 5.1 does not know


@pytest.mark.parametrize(
    ("path", "command"),
    [(r"C:\env\python.exe", r"C:\env\python.exe -m pip"), (r"C:\A B\python.exe", r'& "C:\A B\python.exe" -m pip')],
)
def test_doctor_s_commands_work_in_powershell(monkeypatch: pytest.MonkeyPatch, path: str, command: str) -> None:
    monkeypatch.setattr(doctor, "os", SimpleNamespace(name="nt"))
    monkeypatch.setattr(doctor.sys, "executable", path)
    assert doctor._pip() == command
