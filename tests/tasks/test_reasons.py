"""Why pairs and photographs are not part of a reconstruction: the right reason for each."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

import tiepoints as tp
from tiepoints.cli import cli
from tiepoints.collection import Collection, Extract, Match, Verified, Verify, exhaustive, run
from tiepoints.tasks import Reconstruction
from tiepoints.tasks.reasons import OUTCOMES, PairReport, outcome_lines, why_most_are_missing


def pairs_of(
    images: dict[str, NDArray[np.uint8]], folder: Path, extractor: str = "orb"
) -> dict[tuple[str, str], Verified]:
    for name, image in images.items():
        Image.fromarray(image).save(folder / name)
    photographs = Collection.from_folder(folder)
    features = run(Extract(extractor), photographs)
    matches = run(Match(), exhaustive(features), None, features)
    return dict(run(Verify("fundamental"), matches, None, features))


@pytest.fixture(scope="module")
def desk(examples: Path) -> NDArray[np.uint8]:
    return tp.read(examples / "desk_1.jpg")


def test_every_reason_is_the_right_one(desk: NDArray[np.uint8], examples: Path, tmp_path: Path) -> None:
    h, w = desk.shape[:2]
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    moved = corners + np.array([[30, 20], [-10, 15], [-25, -20], [12, -8]], np.float32)
    turned = cv2.warpPerspective(desk, cv2.getPerspectiveTransform(corners, moved), (w, h))
    blank = np.full_like(desk, 120)
    cv2.circle(blank, (300, 200), 30, (250, 250, 250), -1)
    cv2.rectangle(blank, (100, 300), (140, 350), (10, 10, 10), -1)
    images = {
        "a.png": desk, "b.png": tp.read(examples / "desk_2.jpg"), "blank.png": blank, "same.png": desk,
        "turned.png": turned, "z.png": cv2.resize(tp.read(examples / "box_in_scene.png"), (w, h)),
    }  # fmt: skip
    views = pairs_of(images, tmp_path)
    report = PairReport(views.items(), {("a.png", "lost.png"): "lost.png: no such file"})
    found = {pair: view.outcome for pair, view in views.items()}
    assert found["a.png", "b.png"] == "verified"
    assert found["a.png", "same.png"] == "still"
    assert found["a.png", "turned.png"] == "planar"
    assert found["a.png", "blank.png"] == "few"
    assert found["a.png", "z.png"] == "chance"
    assert ("a.png", "b.png") not in report.reasons
    assert "stood still" in report.reasons["a.png", "same.png"]
    assert "only rotated" in report.reasons["a.png", "turned.png"]
    assert "too few matches" in report.reasons["a.png", "blank.png"]
    assert re.search(r"\d+ inliers of \d+ matches", report.reasons["a.png", "z.png"])
    assert report.reasons["a.png", "lost.png"] == "lost.png: no such file"
    assert report.outcomes["failed"] == 1
    assert report.verified() == sum(bool(view) for view in views.values())
    assert report.why("blank.png") == "no verified pair (too few matches: 5 of 5)"
    assert report.why("z.png").startswith("no verified pair (no more inliers than chance gives: 4 of 5")
    assert report.why("turned.png").startswith("no depth") or report.verified("turned.png") > 2
    assert report.why("nobody.png").startswith("no pair")
    alone = {"a.png": PairReport([], {}).why("a.png")}
    assert why_most_are_missing(alone) == "no second photograph (1 of 1): give two or more, taken from different places"
    only = PairReport([(("a.png", "turned.png"), views["a.png", "turned.png"])], {})
    assert only.why("turned.png") == "no depth: its verified pair shows a plane, or the camera only rotated"


def test_overlays_are_named(examples: Path, tmp_path: Path) -> None:
    """The same label on photographs of different things: a dashboard's, a camera's, an agency's."""
    label = np.random.default_rng(3).integers(0, 2, (10, 60)).repeat(4, 0).repeat(4, 1).astype(np.uint8) * 255
    images = {}
    for name in ("box_in_scene.png", "desk_1.jpg"):
        image = cv2.resize(tp.read(examples / name), (640, 480))
        image[-44:-4, 10:250] = label[..., None]
        images[f"{name}.png"] = image
    ((pair, view),) = pairs_of(images, tmp_path, "sift").items()
    assert view.outcome == "overlay"
    report = PairReport([(pair, view)], {})
    assert report.overlays[pair] >= 8
    result = CliRunner().invoke(cli, ["match", str(tmp_path), "-e", "sift", "--out", str(tmp_path / "m.h5")])
    assert result.exit_code == 1 and "matches on an overlay that does not move left out" in result.stderr
    assert "     1 pair: only an overlay agrees" in result.stdout and "     1 pair matched" in result.stdout
    said = json.loads(CliRunner().invoke(cli, [*_match(tmp_path), "--json"]).stdout)
    assert said["failed_pairs"][0]["outcome"] == "overlay"
    assert said["failed_pairs"][0]["pair"] == list(pair) and "overlay" in said["failed_pairs"][0]["why"]
    assert said["pairs_with_overlays"][0]["matches"] >= 8


def test_planar_pairs_are_counted_once() -> None:
    outcomes = {"few": 2, "verified": 5, "still": 1, "planar": 3, "chance": 1}
    assert outcome_lines(outcomes) == [
        (3, f"of them: {OUTCOMES['planar']}"),
        (1, f"of them: {OUTCOMES['still']}"),
        (2, f"pairs: {OUTCOMES['few']}"),
        (1, f"pair: {OUTCOMES['chance']}"),
    ]
    assert not any("verified" in OUTCOMES[flat] for flat in ("planar", "still"))


def _match(folder: Path) -> list[str]:
    return ["match", str(folder), "-e", "sift", "--out", str(folder / "m.h5")]


def test_the_report_of_a_reconstruction_names_failed_pairs(scene: Reconstruction) -> None:
    report = json.loads((scene.folder / "report.json").read_text())
    outcomes = report["pairs_by_outcome"]
    assert sum(outcomes.values()) == report["pairs"] == 28
    assert outcomes["verified"] + outcomes.get("planar", 0) == report["verified"]
    strange = [one for one in report["failed_pairs"] if "other.png" in one["pair"]]
    assert len(strange) == 7 and all("chance" in one["why"] or "few" in one["why"] for one in strange)
    assert "no verified pair" in scene.missing["other.png"] and "of 7" in scene.missing["other.png"]
    page = (scene.folder / "report.html").read_text(encoding="utf-8")
    assert "Pairs that are not verified" in page and "DSC_0001.jpg - other.png" in page
