"""Bags, COLMAP's models of them, and camera centres: by hand, on the made-up scene, and on real photographs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiepoints as tp
from tiepoints.benchmarks.image_matching.multiview import (
    absolute_trajectory_error,
    choose_bags,
    reconstruct,
    rms_after_alignment,
    verified_database,
)
from tiepoints.benchmarks.image_matching.stereo import match_pair
from tiepoints.datasets.scenes import find_scenes, read_scene
from tiepoints.errors import InvalidInputError, MissingDependencyError
from tiepoints.features import Matches
from tiepoints.metrics.poses import mean_average_accuracy, pairwise_errors

CENTRES = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0.5, 0], [3, 1.5, 0], [3.5, 3, 0.5], [3, 4, 1], [2, 5, 1]])


def moved(points: np.ndarray, turn: tuple[float, ...], shift: tuple[float, ...], scale: float) -> np.ndarray:
    return scale * points @ cv2.Rodrigues(np.array(turn))[0].T + shift


vector = st.tuples(*[st.floats(-3, 3)] * 3)


@given(turn=vector, shift=vector, scale=st.floats(0.01, 100))
def test_similarities_do_not_count(turn, shift, scale) -> None:
    estimated = moved(CENTRES, turn, shift, scale)
    assert absolute_trajectory_error(estimated, CENTRES) == pytest.approx(0, abs=1e-6)
    assert rms_after_alignment(estimated, CENTRES) == pytest.approx(0, abs=1e-6)
    noisy = CENTRES + 0.05 * np.random.default_rng(0).normal(size=CENTRES.shape)
    rms, ate = rms_after_alignment(noisy, CENTRES), absolute_trajectory_error(noisy, CENTRES)
    assert rms_after_alignment(moved(noisy, turn, shift, scale), CENTRES) == pytest.approx(rms, rel=1e-6)
    assert absolute_trajectory_error(moved(noisy, turn, shift, scale), CENTRES) == pytest.approx(ate, rel=1e-6)
    assert 0 < rms < 0.12 and 0 < ate < 0.2


def test_outliers_and_worst_cases_of_the_ate() -> None:
    wild = CENTRES.copy()
    wild[2] += [50, -30, 20]
    assert absolute_trajectory_error(wild, CENTRES) == pytest.approx(0, abs=1e-9), "the mean of the inliers' distances"
    assert rms_after_alignment(wild, CENTRES) > 1, "the root mean square has no outliers"
    line = np.outer(np.arange(7), [1.0, 2, 3])
    assert absolute_trajectory_error(line, CENTRES) == pytest.approx(np.linalg.norm([3.5, 5, 1]) / 2), "half the box"
    mirrored = CENTRES * [1, 1, -1]
    assert rms_after_alignment(mirrored, CENTRES) > 0.1, "a mirror image is no similarity"
    assert rms_after_alignment(line, CENTRES) is None
    for metric in (absolute_trajectory_error, rms_after_alignment):
        assert metric(CENTRES[:2], CENTRES[:2]) is None
        assert metric(CENTRES[:3], CENTRES[:3] * 2) == pytest.approx(0, abs=1e-9)


def test_three_tenths_of_inliers_are_needed_for_the_ate() -> None:
    """Of 12 true centres on a sphere, which no wrong alignment meets, 3 or 4 are found; the others are far off."""
    golden = (1 + 5**0.5) / 2
    corners = np.array([[0, x, y * golden] for x in (-1, 1) for y in (-1, 1)])
    truth = np.concatenate([np.roll(corners, i, axis=1) for i in range(3)])
    few, enough = truth.copy(), truth.copy()
    few[3:] = enough[4:] = [900, -700, 400]
    assert absolute_trajectory_error(few, truth) == pytest.approx(np.linalg.norm(np.ptp(truth, axis=0)) / 2)
    assert absolute_trajectory_error(enough, truth) == pytest.approx(0, abs=1e-9)


def test_bags_are_drawn_by_seed(scene_folder: Path) -> None:
    scene = read_scene(scene_folder)  # 7 images
    bags, notes = choose_bags(scene, {5: 10, 6: 50, 25: 25}, seed=1)
    assert len(bags[5]) == len(set(bags[5])) == 10 and all(len(set(bag)) == 5 for bag in bags[5])
    assert set(bags[6]) == set(itertools.combinations(sorted(scene.views), 6)), "fewer than asked for: all of them"
    assert 25 not in bags
    assert notes[-1] == "no bags of 25: the scene has 7 images"
    assert notes[0] == "10 bags of 5 drawn with seed 1: the scene has no lists of its own"
    assert notes[1] == "all 7 bags of 6: the scene has no lists of its own"
    assert choose_bags(scene, {5: 10}, seed=1)[0][5] == bags[5]
    assert choose_bags(scene, {5: 10}, seed=2)[0][5] != bags[5]
    own = replace(scene, bags={5: (("a", "b", "c", "d", "e"),) * 3})
    assert choose_bags(own, {5: 2}, seed=1) == ({5: own.bags[5][:2]}, [])
    for wrong in ({2: 5}, {5: 0}):
        with pytest.raises(InvalidInputError, match="3 images at least"):
            choose_bags(scene, wrong, seed=0)


@pytest.fixture(scope="module")
def toy(scene_folder: Path, oracle):
    scene, extractor = read_scene(scene_folder), oracle()
    features = {name: extractor(tp.read(view.path)) for name, view in scene.views.items()}
    matches = {(a, b): match_pair(features[a], features[b], 0.9) for a, b in scene.pairs}
    return scene, features, matches


@pytest.mark.parametrize("intrinsics", ["estimated", "known"])
def test_perfect_features_are_reconstructed(toy, intrinsics) -> None:
    scene, features, matches = toy
    bag = tuple(scene.views)[:5]
    truth = {name: (scene.views[name].R, scene.views[name].t) for name in bag}
    with verified_database(scene, features, matches, intrinsics=intrinsics) as (database, kept):
        assert set(kept) == set(matches)
        assert all(0.95 * len(matches[pair]) <= count <= len(matches[pair]) for pair, count in kept.items())
        model = reconstruct(database, bag, intrinsics, seed=0)
        again = reconstruct(database, bag, intrinsics, seed=0)
    assert not database.exists()
    assert set(model.poses) == set(bag)
    assert model.landmarks > 300 and 3 < model.track_length <= 5
    errors = list(pairwise_errors(model.poses, truth).values())
    assert mean_average_accuracy(errors) == 1.0
    for name in bag:
        np.testing.assert_array_equal(model.poses[name][0], again.poses[name][0])


def test_without_matches_nothing_is_reconstructed(toy) -> None:
    scene, features, matches = toy
    few = {pair: Matches.empty() for pair in matches}
    a, b = next(iter(few))
    few[a, b] = matches[a, b].select(slice(0, 20))
    with verified_database(scene, features, few) as (database, kept):
        assert sum(kept.values()) <= 20
        model = reconstruct(database, tuple(scene.views)[:5], "estimated", seed=0)
    assert model.poses == {} and model.landmarks == 0 and model.track_length == 0
    truth = {name: (view.R, view.t) for name, view in scene.views.items()}
    assert mean_average_accuracy(list(pairwise_errors(model.poses, truth).values())) == 0


def test_without_pycolmap_the_extra_is_named(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycolmap", None)
    with pytest.raises(MissingDependencyError, match=r"tiepoints\[sfm\]"), verified_database(*toy):
        pass


def test_a_real_bag(shared: Path) -> None:
    extractor = tp.load("rootsift", max_keypoints=1024, max_size=768)
    scene = find_scenes(shared / "data" / "strecha" / "fountain-P11")[0]
    bag = tuple(scene.views)[2:7]
    features = {name: extractor(tp.read(scene.views[name].path)) for name in bag}
    pairs = list(itertools.combinations(bag, 2))
    matches = {(a, b): match_pair(features[a], features[b], 0.9) for a, b in pairs}
    with verified_database(scene, features, matches, intrinsics="known") as (database, kept):
        model = reconstruct(database, bag, "known", seed=0)
    assert min(kept.values()) > 50
    assert set(model.poses) == set(bag)
    truth = {name: (scene.views[name].R, scene.views[name].t) for name in bag}
    assert max(pairwise_errors(model.poses, truth).values()) < 1
    centres = [[-np.asarray(R).T @ t for R, t in (poses[name] for name in bag)] for poses in (model.poses, truth)]
    assert rms_after_alignment(*centres) < 0.03, "metres, of a scene about 10 m away"
