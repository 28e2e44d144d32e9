"""The benchmark as a whole: perfect features, shuffled ones, interruptions, and what the report says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiepoints.benchmarks import save_report
from tiepoints.benchmarks.image_matching import Options, Track, evaluate_image_matching, read_scene, stereo
from tiepoints.benchmarks.image_matching.evaluate import default_ratio
from tiepoints.benchmarks.image_matching.summary import SceneResult, scene_values, tables
from tiepoints.benchmarks.methods import Method, method
from tiepoints.collection import Processes, Serial
from tiepoints.errors import InvalidInputError, StorageError
from tiepoints.metrics.poses import mean_average_accuracy

INF = float("inf")
# Few samples: without a single right match, all that are allowed are drawn.
TRACKS = {
    "fundamental": Track("usac", 0.5, max_iterations=500),
    "essential": Track("poselib", 1.0, max_iterations=500),
}
QUICK = Options(tracks=TRACKS, bags={5: 3}, multiview=False)


def test_perfect_features_give_one(scene_folder: Path, oracle) -> None:
    extractor = oracle()
    report = evaluate_image_matching(extractor, scene_folder, options=replace(QUICK, multiview=True))
    row = report.table.row("oracle", "cloud").values
    assert row["maa10"] == row["e_maa10"] == row["mv_maa10"] == row["mv_maa10_5"] == row["average"] == 1.0
    assert row["maa5"] == row["e_maa5"] == 1.0 and row["failures"] == 0 and row["pairs"] == 21
    assert row["rep3"] > 0.8, "points at the edges are seen in one image only"
    assert row["ms3"] > 0.95, "where two points share a pixel of the depth map, one has a wrong depth"
    assert row["nf"] == pytest.approx(np.mean([len(extractor._world.seen(i)[0]) for i in range(7)]))
    assert row["ni"] > 0.95 * row["matches"] > 200
    assert row["nm_given"] >= row["nm"] > 200 and row["nl"] > 300 and 3 < row["tl"] <= 5
    assert row["registered"] == row["success"] == 1 and row["ate"] < 0.01 and row["rms"] < 0.01
    assert row["cost"] == 1
    assert "usac for degensac" in report.protocol
    assert any("3 bags of 5 drawn with seed 0" in note for note in report.notes)
    assert {record["task"] for record in report.details} == {"stereo", "multiview"} and len(report.details) == 24


def test_shuffled_descriptors_give_nothing(scene_folder: Path, oracle) -> None:
    report = evaluate_image_matching(oracle(shuffled=True), scene_folder, options=replace(QUICK, multiview=True))
    row = report.table.row("oracle", "cloud").values
    assert row["maa10"] < 0.1 and row["e_maa10"] < 0.1 and row["mv_maa10"] < 0.1
    assert row["ms3"] < 0.1
    assert row["rep3"] > 0.8, "the keypoints are as repeatable as before"


def test_images_without_a_single_keypoint(scene_folder: Path) -> None:
    report = evaluate_image_matching("rootsift", scene_folder, options=replace(QUICK, multiview=True))
    row = report.table.row("rootsift", "cloud").values  # its images are blank
    assert row["nf"] == row["ni"] == row["rep3"] == row["ms3"] == row["nm"] == row["success"] == 0
    assert row["maa10"] == row["e_maa10"] == row["mv_maa10"] == row["average"] == 0
    assert row["failures"] == 21 and row["nl"] == row["tl"] == 0 and row["ate"] is None


def test_several_methods_in_one_table(scene_folder: Path, oracle, tmp_path: Path) -> None:
    methods = [Method("true", oracle()), Method("shuffled", oracle(shuffled=True)), Method("sets", WithSets(oracle()))]
    report = evaluate_image_matching(methods, [scene_folder], options=QUICK, pictures=True)
    assert [row.method for row in report.table.rows] == ["true", "shuffled", "sets"]
    assert report.table.row("sets", "cloud").values["cost"] == pytest.approx(0.5, abs=0.01)
    assert report.table.row("sets", "cloud").values["maa10"] == 1.0
    assert [len(plot.series) for plot in report.plots] == [3, 3, 3]
    assert len(report.pictures) == 3 and "pose off by 0.0" in report.pictures[0].caption
    assert report.tables[1].row("MD-2-Net", "Phototourism (test)").source.startswith("Santellani")
    for suffix in (".json", ".csv", ".md", ".html"):
        save_report(report, tmp_path / f"report{suffix}")
    stored = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert stored["tables"][0]["rows"][0]["values"]["maa10"] == 1.0
    assert all(record["fundamental_rotation"] is None or record["fundamental_rotation"] >= 0
               for record in stored["details"])  # fmt: skip


def WithSets(extractor):
    """The same features in two complementary sets."""
    detect = extractor._detect

    def in_sets(image, mask):
        found = detect(image, mask)
        numbers = extractor._world.seen(int(image[0, 0]) // 10)[2]
        return found._replace(sets=(numbers % 2).astype(np.uint8))

    extractor._detect = in_sets
    return extractor


def test_an_interrupted_run_goes_on(scene_folder: Path, oracle, tmp_path: Path, monkeypatch) -> None:
    whole = evaluate_image_matching(oracle(), scene_folder, options=QUICK)
    judged = []
    real = stereo.judge_pair
    monkeypatch.setattr(stereo, "judge_pair", lambda *a: judged.append(1) or real(*a))

    def interrupt(what: str, done: int, total: int) -> None:
        if what.endswith("poses") and done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_image_matching(
            oracle(), scene_folder, options=QUICK, store=tmp_path, engine=Serial(), progress=interrupt
        )
    assert len(judged) == 2 * 8
    resumed = evaluate_image_matching(oracle(), scene_folder, options=QUICK, store=tmp_path)
    assert len(judged) == 2 * 21, "only what was missing"
    assert resumed.details == whole.details
    again = evaluate_image_matching(oracle(), scene_folder, options=QUICK, store=tmp_path)
    assert len(judged) == 2 * 21 and again.details == whole.details
    other = replace(QUICK, tracks={"fundamental": Track("usac", 2.0)})
    evaluate_image_matching(oracle(), scene_folder, options=other, store=tmp_path)
    assert len(judged) == 3 * 21, "another threshold is another result"


def test_bags_are_kept_too_and_processes_change_nothing(scene_folder: Path, oracle, tmp_path: Path) -> None:
    options = replace(QUICK, bags={5: 2}, multiview=True, stereo=True, tracks={"essential": Track("poselib", 1.0)})
    seen = []
    alone = evaluate_image_matching(oracle(), scene_folder, options=options)
    together = evaluate_image_matching(
        oracle(),
        scene_folder,
        options=options,
        store=tmp_path,
        engine=Processes(2),
        progress=lambda *step: seen.append(step),
    )
    assert together.details == alone.details
    assert ("oracle on cloud: COLMAP reconstructs", 2, 2) in seen
    seen.clear()
    kept = evaluate_image_matching(
        oracle(), scene_folder, options=options, store=tmp_path, progress=lambda *step: seen.append(step)
    )
    assert kept.details == alone.details
    assert all(done == every for _, done, every in seen), "nothing was left to be done"


def test_what_changes_the_truth_changes_the_result(new_scene, oracle, tmp_path: Path) -> None:
    import h5py

    folder = new_scene(tmp_path / "d" / "s", depth=False)
    options = replace(QUICK, tracks={"essential": Track("poselib", 1.0)})
    first = evaluate_image_matching(oracle(), folder, options=options, store=tmp_path / "store")
    row = first.table.row("oracle", "s").values
    assert row["e_maa10"] == 1.0 and row["rep3"] is None and "maa10" not in row
    assert "s: no depth maps, hence no Rep@3 and no MS@3" in first.notes
    with h5py.File(folder / "calibration" / "calibration_00_0.h5", "a") as file:
        file["T"][...] = -file["T"][()] + [0, 3.0, 0]
    second = evaluate_image_matching(oracle(), folder, options=options, store=tmp_path / "store")
    assert second.table.row("oracle", "s").values["e_maa10"] < 1.0


def test_unreadable_images_are_named(new_scene, oracle, tmp_path: Path) -> None:
    folder = new_scene(tmp_path / "d" / "s")
    broken = folder / "images" / "03_3.png"
    broken.write_bytes(broken.read_bytes()[:40])
    report = evaluate_image_matching(oracle(), folder, options=QUICK)
    assert any("s: an image is left out" in note and "03_3.png" in note for note in report.notes) and report.incomplete
    assert report.table.row("oracle", "s").values["pairs"] == 15
    for path in sorted((folder / "images").iterdir())[1:]:
        path.write_bytes(b"")
    with pytest.raises(StorageError, match="6 of 7 images cannot be read"):
        evaluate_image_matching(oracle(), folder, options=QUICK)


def test_images_of_another_size_than_their_cameras(scene_folder: Path, oracle) -> None:
    scene = read_scene(scene_folder)
    views = {name: replace(view, size=(320, 240)) for name, view in scene.views.items()}
    with pytest.raises(StorageError, match=r"00_0\.png: the image is 640x480, but its camera 320x240"):
        evaluate_image_matching(oracle(), [replace(scene, views=views)], options=QUICK)


def test_wrong_usage(scene_folder: Path, oracle) -> None:
    with pytest.raises(InvalidInputError, match="nothing to do"):
        Options(stereo=False, multiview=False)
    with pytest.raises(InvalidInputError, match=r"ratio is 1\.5"):
        Options(ratio=1.5)
    with pytest.raises(InvalidInputError, match="no track homography"):
        Options(tracks={"homography": Track("usac", 1)})
    with pytest.raises(InvalidInputError, match="oracle is given twice"):
        evaluate_image_matching([oracle(), oracle()], scene_folder)
    with pytest.raises(InvalidInputError, match="the scene toy/cloud is given twice"):
        evaluate_image_matching(oracle(), [scene_folder, scene_folder])


def test_ratio_of_a_method() -> None:
    assert default_ratio(method("rootsift")) == 0.9
    assert default_ratio(method("orb")) == 0.8


def pair(rotation: float, translation: float, inliers: int, ms3: float | None, rep3: float | None) -> dict[str, Any]:
    track = {"inliers": inliers, "rotation": rotation, "translation": translation, "ms3": ms3}
    record = {"task": "stereo", "matches": 100, "cost": 0.25, "rep3": rep3}
    return record | {f"fundamental_{key}": value for key, value in track.items()}


def bag(size: int, errors: list[float], registered: int, **more: float) -> dict[str, Any]:
    values = {"landmarks": 0, "track_length": 0.0, "ate": None, "rms": None, "given": 10.0, "kept": 8.0} | more
    values |= {"maa5": mean_average_accuracy(errors, 5), "maa10": mean_average_accuracy(errors)}
    return {"task": "multiview", "size": size, "bag": 0, "registered": registered} | values


def test_the_row_of_a_scene_by_hand(scene_folder: Path) -> None:
    scene = read_scene(scene_folder)
    pairs = (pair(0.5, 2.5, 40, 0.8, 0.4), pair(INF, INF, 0, 0.0, 0.2), pair(0.1, 0.2, 50, None, None))
    bags = (
        bag(5, [0.5] * 10, 5, landmarks=100, track_length=3.0, ate=0.2),
        bag(5, [INF] * 10, 0),  # no model: a miss of mAA, and no figure of landmarks, tracks and trajectory
        bag(10, [0.5] * 45, 10, landmarks=300, track_length=5.0, ate=0.4, kept=16.0),
    )
    row = scene_values(SceneResult(scene, "m", 1000.0, (*pairs, *bags)))
    assert row["maa10"] == pytest.approx((1 * 1 / 3 + 1 / 3 + 8 * 2 / 3) / 10)  # .1 and 2.5 degrees, and a failure
    assert row["ni"] == 30 and row["failures"] == 1 and row["cost"] == 0.25
    assert row["ms3"] == pytest.approx(0.4) and row["rep3"] == pytest.approx(0.3)
    assert row["mv_maa10_5"] == 0.5 and row["mv_maa10_10"] == 1.0 and row["mv_maa10"] == 0.75
    assert row["nl"] == 200 and row["tl"] == 4 and row["ate"] == pytest.approx(0.3)
    assert row["nm"] == 12 and row["nm_given"] == 10 and row["success"] == 0.75
    assert row["average"] == pytest.approx((row["maa10"] + 0.75) / 2)
    none = scene_values(SceneResult(scene, "m", 1000.0, (*bags, bag(25, [INF] * 300, 0))))
    assert none["nl"] == pytest.approx(400 / 3) and none["tl"] == pytest.approx(8 / 3), (
        "a size without a model counts 0"
    )
    assert none["ate"] == pytest.approx(0.3), "as in the release, the error is that of the sizes with a model"


def test_means_over_scenes_leave_no_scene_out(scene_folder: Path) -> None:
    scene = read_scene(scene_folder)
    one = SceneResult(scene, "m", 1000.0, [pair(0.5, 0.5, 40, 0.8, 0.4)])
    two = SceneResult(replace(scene, name="x"), "m", 2000.0, [pair(INF, INF, 0, None, None)])
    three = SceneResult(replace(scene, dataset="other"), "m", 3000.0, [pair(0.5, 0.5, 40, 0.8, 0.4)])
    table = tables([one, two, three])[0]
    assert [row.group for row in table.rows] == ["toy/cloud", "x", "other/cloud", "mean of toy", "mean of 3 scenes"]
    mean = table.row("m", "mean of toy").values
    assert mean["maa10"] == 0.5 and mean["nf"] == 1500 and mean["pairs"] == 2 and mean["failures"] == 1
    assert "rep3" not in mean, "one scene has no depth maps: no mean over the two"
    assert table.row("m", "mean of 3 scenes").values["maa10"] == pytest.approx(2 / 3)
