"""Poses of pairs: exact points, outliers, failures, and golden figures on real photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiepoints as tp
from tiepoints.benchmarks.image_matching.stereo import JudgePair, MatchPair, Track, estimator_for, judge_pair
from tiepoints.datasets.scenes import find_scenes, read_scene
from tiepoints.errors import InvalidInputError, MissingDependencyError
from tiepoints.features import Features
from tiepoints.metrics.poses import mean_average_accuracy

# Fewer samples than by default: without a single right match all that are allowed are drawn.
TRACKS = [
    Track("usac", 0.5, max_iterations=2000),
    Track("poselib", 1.0, max_iterations=2000),
    Track("degensac", 0.5, max_iterations=2000),
]
tracks = pytest.mark.parametrize("track", TRACKS, ids=lambda track: track.estimator)


@pytest.fixture(scope="module")
def pair(scene_folder: Path, world):
    scene = read_scene(scene_folder)
    a, b = (list(scene.views.values())[i] for i in (1, 5))
    (pixels_a, _, shown_a), (pixels_b, _, shown_b) = world.seen(1), world.seen(5)
    _, in_a, in_b = np.intersect1d(shown_a, shown_b, return_indices=True)
    return pixels_a[in_a], pixels_b[in_b], a.camera, b.camera


@tracks
def test_exact_points_and_outliers(pair, track: Track) -> None:
    p, q, a, b = pair
    exact = judge_pair(p, q, a, b, track)
    assert exact.error < 0.05 and exact.inliers.mean() > 0.95
    assert exact.error == max(exact.rotation, exact.translation)
    rng = np.random.default_rng(0)
    bad = rng.random(len(p)) < 0.4
    wrong = np.where(bad[:, None], rng.uniform(0, 470, q.shape), q + rng.normal(0, 0.2, q.shape))
    noisy = judge_pair(p, wrong, a, b, track)
    assert noisy.error < 2
    assert noisy.inliers[bad].mean() < 0.1 and noisy.inliers[~bad].mean() > 0.8
    again = judge_pair(p, wrong, a, b, track)
    assert again.error == noisy.error and (again.inliers == noisy.inliers).all(), "the seed decides, not the clock"


@tracks
def test_failures(pair, track: Track) -> None:
    p, q, a, b = pair
    for points_a, points_b in ((p[:0], q[:0]), (p[:7], q[:7]), (p[:1].repeat(20, 0), q[:1].repeat(20, 0))):
        result = judge_pair(points_a, points_b, a, b, track)
        assert result.error == np.inf and result.inliers.shape == (len(points_a),)
        assert not result.inliers.any() or len(points_a) >= 8
    rng = np.random.default_rng(1)
    chance = [judge_pair(p, rng.permutation(q), a, b, track).error for _ in range(4)]
    assert mean_average_accuracy(chance) <= 0.25, "shuffled matches give no pose"


def test_tracks_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="known are degensac, usac, poselib"):
        Track("ransac", 1.0)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="threshold is 0"):
        Track("usac", 0)
    assert "0.5 px" in Track("degensac", 0.5).description
    assert estimator_for("essential") == "poselib"
    assert estimator_for("fundamental") == "degensac"
    monkeypatch.setattr("tiepoints.benchmarks.image_matching.stereo.find_spec", lambda name: None)
    assert estimator_for("fundamental") == "usac"
    with pytest.raises(MissingDependencyError, match=r"pip install 'tiepoints\[bench\]'"):
        Track("degensac", 0.5)


def test_matches_of_one_place_count_once() -> None:
    rows = np.eye(4, 8, dtype=np.float32)
    # SIFT gives a place several orientations: 0 and 1 are one place in both images, 2 is another, 3 is one in b only.
    a = Features([[1, 1], [1, 1], [2, 2], [3, 3]], rows, np.ones(4), (9, 9))
    b = Features([[5, 5], [5, 5], [6, 6], [5, 5]], rows, np.ones(4), (9, 9))
    assert MatchPair(None)(a, b).indices.tolist() == [[0, 0], [2, 2], [3, 3]]
    assert MatchPair(0.9)(a, b).indices.tolist() == [[0, 0], [2, 2], [3, 3]]
    assert len(MatchPair(0.9)(a, Features.empty((9, 9), 8))) == 0


def test_only_the_same_sets_meet() -> None:
    rows = np.eye(2, 8, dtype=np.float32)
    a = Features([[1, 1], [2, 2]], rows, np.ones(2), (9, 9), sets=[0, 1])
    b = Features([[5, 5], [6, 6]], rows, np.ones(2), (9, 9), sets=[1, 1])
    assert MatchPair(None)(a, b).indices.tolist() == [[1, 1]]


def test_scores_are_those_at_3_pixels(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    p, q, a, b = (values[:40] if i < 2 else values for i, values in enumerate(pair))
    fa, fb = (Features(points, np.eye(40, dtype=np.float32), np.ones(40), (640, 480)) for points in (p, q))
    monkeypatch.setattr("tiepoints.benchmarks.image_matching.stereo.repeatabilities", lambda *_: np.arange(1, 11))
    monkeypatch.setattr("tiepoints.benchmarks.image_matching.stereo.matching_scores", lambda *_: np.arange(1, 11))
    judge, matches = JudgePair({"essential": Track("poselib", 1.0)}), tp.match(fa, fb)
    record = judge(fa, fb, matches, (a, b), np.ones(40), np.ones(40))
    assert record["rep3"] == record["essential_ms3"] == 3
    assert judge(fa, fb, matches, (a, b))["rep3"] is None, "without depth maps"


def test_golden_figures_on_strecha(shared: Path) -> None:
    """Measured with this code: .929 and .679. One of the 28 pairs is .036; another version may lose a few."""
    extractor = tp.load("rootsift", max_keypoints=1024, max_size=512)
    scene = next(s for s in find_scenes(shared / "data" / "strecha") if s.name == "Herz-Jesus-P8")
    features = {name: extractor(tp.read(view.path)) for name, view in scene.views.items()}
    figures = {}
    for track in (Track("poselib", 1.0), Track("usac", 0.5)):
        errors = []
        for a, b in scene.pairs:
            found = MatchPair(0.9)(features[a], features[b])
            points = found.points(features[a], features[b])
            errors.append(judge_pair(*points, scene.views[a].camera, scene.views[b].camera, track).error)
        figures[track.estimator] = mean_average_accuracy(errors)
    assert figures["poselib"] == pytest.approx(0.929, abs=0.05)
    assert figures["usac"] == pytest.approx(0.679, abs=0.1)
