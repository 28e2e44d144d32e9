"""The scripts in examples/ do what they say."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

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
