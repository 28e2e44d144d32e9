"""The scripts in examples/ do what they say."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest


def test_reconstruct_with_colmap(examples: Path, shared: Path, tmp_path: Path) -> None:
    """Five photographs of Herz-Jesus-P8, focal length guessed; then once more, from what the first run kept."""
    pycolmap = pytest.importorskip("pycolmap", reason="needs the extra sfm")
    scene = shared / "data" / "strecha" / "Herz-Jesus-P8"
    if not scene.is_dir():
        pytest.skip(f"no {scene}")
    photographs, out = tmp_path / "photographs", tmp_path / "out"
    photographs.mkdir()
    with (scene / "cameras.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:5]
    for row in rows:
        shutil.copy(scene / "images" / row["name"], photographs)

    def run(*options: str) -> list[str]:
        script = examples / "reconstruct_with_colmap.py"
        command = [sys.executable, str(script), str(photographs), str(out), "--max-size", "768", *options]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    told = run()
    assert told[:4] == [
        "photographs with features: 5, 0 were there already",
        "matched pairs: 10, 0 were there already",
        "pairs that were tried: 10, 0 were there already",
        "10 of 10 pairs verified",
    ]
    assert re.search(r"0: 5 of 5 photographs registered, \d{3,} points, mean reprojection error 0\.\d\d px", told[4])
    model = pycolmap.Reconstruction(out / "sparse" / "0")
    true = {row["name"]: np.array([float(row[f"R{i}{j}"]) for i in range(3) for j in range(3)]) for row in rows}
    poses = {image.name: image.cam_from_world().rotation.matrix() for image in model.images.values()}
    first = rows[0]["name"]
    for name, rotation in poses.items():
        turn = rotation @ poses[first].T @ (true[name].reshape(3, 3) @ true[first].reshape(3, 3).T).T
        assert np.degrees(np.arccos(min((np.trace(turn) - 1) / 2, 1))) < 1, name

    told = run("--sequential", "1")
    assert told[:4] == [
        "photographs with features: 5, 5 were there already",
        "matched pairs: 4, 4 were there already",
        "pairs that were tried: 4, 4 were there already",
        "4 of 4 pairs verified",
    ]


def test_find_object(examples: Path, tmp_path: Path) -> None:
    """The corners of the box are where OpenCV's own SIFT, matcher and homography have them; it is not on the desk."""
    script, out = examples / "find_object.py", tmp_path / "corners.csv"
    box, scene = examples / "box.png", examples / "box_in_scene.png"
    command = [sys.executable, str(script), str(box), str(scene), str(examples / "desk_1.jpg"), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    assert "desk_1.jpg: not found" in result.stdout
    [[name, inliers, *numbers]] = list(csv.reader(out.read_text().splitlines()))
    assert name == "box_in_scene.png" and int(inliers) > 30

    sift = cv2.SIFT.create()
    images = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in (box, scene)]
    (points_a, a), (points_b, b) = (sift.detectAndCompute(image, None) for image in images)
    near = [one for one, other in cv2.BFMatcher().knnMatch(a, b, k=2) if one.distance < 0.7 * other.distance]
    H, _ = cv2.findHomography(
        np.float32([points_a[one.queryIdx].pt for one in near]),
        np.float32([points_b[one.trainIdx].pt for one in near]), cv2.RANSAC, 3.0,
    )  # fmt: skip
    height, width = images[0].shape
    corners = np.float32([[[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]])
    found = np.array(numbers, float).reshape(4, 2)
    assert np.abs(found - cv2.perspectiveTransform(corners, H)[0]).max() < 4


def test_odometry(examples: Path, shared: Path, tmp_path: Path) -> None:
    """Fifteen frames of KITTI: rotations to half a degree, places to 2 % of the way."""
    scene = shared / "data" / "kitti00_first140"
    if not scene.is_dir():
        pytest.skip(f"no {scene}")
    (tmp_path / "frames").mkdir()
    for path in sorted((scene / "images").iterdir())[20:35]:
        shutil.copy(path, tmp_path / "frames")
    out = tmp_path / "poses.txt"
    command = [sys.executable, str(examples / "odometry.py"), str(tmp_path / "frames"), "--out", str(out)]
    result = subprocess.run(
        [*command, "--camera", "718.856,607.1928,185.2157"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    found, true = np.loadtxt(out).reshape(-1, 3, 4), np.loadtxt(scene / "poses.txt")[20:35].reshape(-1, 3, 4)
    assert len(found) == 15
    first = true[0]
    true = np.concatenate([first[:, :3].T @ true[:, :, :3], first[:, :3].T @ (true[:, :, 3:] - first[:, 3:])], axis=2)
    turns = found[:, :, :3] @ true[:, :, :3].transpose(0, 2, 1)
    angles = np.degrees(np.arccos(np.clip((np.trace(turns, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert angles.max() < 0.5
    places, wanted = found[:, :, 3], true[:, :, 3]
    scale = (places * wanted).sum() / (places**2).sum()
    assert np.linalg.norm(scale * places - wanted, axis=1).max() < 0.02 * np.linalg.norm(wanted[-1])


def test_track_object(examples: Path, shared: Path, tmp_path: Path) -> None:
    """A walking person of 17x50 pixels, for 40 frames: the boxes overlap with the given ones."""
    scene = shared / "data" / "otb_crossing"
    if not scene.is_dir():
        pytest.skip(f"no {scene}")
    (tmp_path / "frames").mkdir()
    for path in sorted((scene / "img").iterdir())[:40]:
        shutil.copy(path, tmp_path / "frames")
    lines = (scene / "groundtruth_rect.txt").read_text().split("\n")[:40]
    true = np.array([line.replace(",", " ").split() for line in lines], float)
    script, out = examples / "track_object.py", tmp_path / "boxes.csv"
    box = ",".join(f"{number:g}" for number in true[0])
    command = [sys.executable, str(script), str(tmp_path / "frames"), "--box", box, "--out", str(out)]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("40 frames; the object was lost in ")
    found = np.array([row[2:] for row in csv.reader(out.read_text().splitlines())], float)
    low, high = (
        np.maximum(found[:, :2], true[:, :2]),
        np.minimum(found[:, :2] + found[:, 2:], true[:, :2] + true[:, 2:]),
    )
    shared_area = np.clip(high - low, 0, None).prod(axis=1)
    overlap = shared_area / (found[:, 2:].prod(axis=1) + true[:, 2:].prod(axis=1) - shared_area)
    assert overlap.mean() > 0.7 and (overlap > 0.5).mean() > 0.9


@pytest.mark.parametrize(
    ("script", "arguments", "code", "message"),
    [
        ("find_object", ["gone.png", "gone.png"], 1, "find_object.py: gone.png: no such file"),
        ("odometry", ["gone", "--camera", "1,2,3", "--out", "x"], 1, "odometry.py: gone: no such file or folder"),
        ("odometry", ["gone", "--camera", "1,2", "--out", "x"], 2, "argument --camera: invalid camera value: '1,2'"),
        ("track_object", ["gone", "--box", "1,2,3,4"], 1, "track_object.py: gone: no such file or folder"),
        ("track_object", ["gone", "--box", "1,2,3"], 2, "argument --box: invalid box value: '1,2,3'"),
        ("reconstruct_with_colmap", ["gone", "x"], 1, "reconstruct_with_colmap.py: gone: no such f"),
    ],
)
def test_what_is_wrong_is_one_line(
    examples: Path, tmp_path: Path, script: str, arguments: list[str], code: int, message: str
) -> None:
    if script == "reconstruct_with_colmap":
        pytest.importorskip("pycolmap", reason="needs the extra sfm")
    command = [sys.executable, str(examples / f"{script}.py"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == code and message in result.stderr.splitlines()[-1], result.stderr
    assert "Traceback" not in result.stderr
