"""Submission files, read as the benchmark's own code reads them."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from tiepoints.benchmarks.image_matching import export_submission
from tiepoints.benchmarks.methods import Method
from tiepoints.errors import InvalidInputError
from tiepoints.storage import load_imb

NAMES = [f"{i:02d}_{i}" for i in range(7)]


def test_features_and_config(scene_folder: Path, oracle, tmp_path: Path) -> None:
    extractor = oracle()
    written = export_submission(Method("My Oracle_2", extractor), scene_folder, tmp_path / "out", ratio=0.85)
    assert written == [tmp_path / "out" / "toy" / "cloud", tmp_path / "out" / "config.json"]
    assert {path.name for path in written[0].iterdir()} == {"keypoints.h5", "descriptors.h5", "scores.h5"}
    with h5py.File(written[0] / "keypoints.h5") as file:
        assert sorted(file) == NAMES
        true = extractor._world.seen(2)[0]
        np.testing.assert_allclose(np.sort(file["02_2"][()], axis=0), np.sort(true + 0.5, axis=0), atol=1e-3)
    (config,) = json.loads(written[1].read_text(encoding="utf-8"))
    common = config["config_common"]
    assert common["num_keypoints"] == 2048
    assert all(re.fullmatch("[a-z0-9.-]+", common[key]) for key in ("json_label", "keypoint", "descriptor"))
    stereo, multiview = config["config_toy_stereo"], config["config_toy_multiview"]
    assert stereo["matcher"]["filtering"] == {"type": "snn_ratio_pairwise", "threshold": 0.85}
    assert stereo["matcher"]["symmetric"] == {"enabled": True, "reduce": "both"}
    assert stereo["geom"]["method"] == "cmp-degensac-f" and stereo["geom"]["threshold"] == 0.5
    assert multiview["colmap"] == {} and "geom" not in multiview


def test_matches_of_all_pairs(scene_folder: Path, oracle, tmp_path: Path) -> None:
    folder, _ = export_submission(oracle(), scene_folder, tmp_path, with_matches=True)
    with h5py.File(folder / "matches.h5") as file:
        keys = {f"{max(p)}-{min(p)}" for p in itertools.combinations(NAMES, 2)}
        assert set(file) == keys, "the benchmark's validator wants every pair, the larger name first"
        assert all(values.shape[0] == 2 for values in file.values())
    features, matches = load_imb(folder)
    a, b = features["04_4"], features["01_1"]
    found = matches["04_4", "01_1"]
    assert len(found) > 200
    np.testing.assert_array_equal(a.descriptors[found.indices[:, 0]], b.descriptors[found.indices[:, 1]])
    (config,) = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    stereo = config["config_toy_stereo"]
    assert stereo["use_custom_matches"] and "matcher" not in stereo and "_" not in stereo["custom_matches_name"]


def test_what_the_benchmark_would_refuse(new_scene, oracle, tmp_path: Path, monkeypatch) -> None:
    folder = new_scene(tmp_path / "d" / "s")
    (folder / "images" / "00_0.png").write_bytes(b"")
    with pytest.raises(InvalidInputError, match=r"no submission without all images: .*00_0\.png"):
        export_submission(oracle(), folder, tmp_path / "out")
    monkeypatch.setattr("tiepoints.benchmarks.image_matching.export._CATEGORIES", (10, 20))
    with pytest.raises(InvalidInputError, match="the benchmark takes 20 at most"):
        export_submission(oracle(), new_scene(tmp_path / "e" / "s"), tmp_path / "out")
