"""Bags, COLMAP's models of them, and camera centres: by hand, on the made-up scene, and on real photographs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiepoints as tp
from tiepoints.benchmarks.image_matching.multiview import Reconstruct, VerifyScene, choose_bags
from tiepoints.benchmarks.image_matching.stereo import MatchPair
from tiepoints.collection import Given
from tiepoints.datasets.scenes import find_scenes, read_scene
from tiepoints.errors import InvalidInputError, MissingDependencyError
from tiepoints.features import Matches
from tiepoints.metrics.poses import mean_average_accuracy, pairwise_errors
from tiepoints.metrics.trajectories import rms_after_alignment


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


def verify(scene, features, matches, intrinsics="estimated"):
    """COLMAP's database of the scene, and how many matches of each pair are kept."""
    cameras = []
    for name in (name for name in scene.views if name in features):
        known = tp.Camera.from_matrix(scene.views[name].K, features[name].image_size)
        cameras.append((name, known if intrinsics == "known" else tp.Camera.from_exif(scene.views[name].path)))
    inputs = [Given(features[name]) for name, _ in cameras] + [Given(some) for some in matches.values()]
    found = VerifyScene(0)(cameras, list(matches), *inputs)
    return found, dict(zip(matches, found["kept"].tolist(), strict=True))


@pytest.fixture(scope="module")
def toy(scene_folder: Path, oracle):
    scene, extractor = read_scene(scene_folder), oracle()
    features = {name: extractor(tp.read(view.path)) for name, view in scene.views.items()}
    matches = {(a, b): MatchPair(0.9)(features[a], features[b]) for a, b in scene.pairs}
    return scene, features, matches


@pytest.mark.parametrize("intrinsics", ["estimated", "known"])
def test_perfect_features_are_reconstructed(toy, intrinsics) -> None:
    scene, features, matches = toy
    bag = tuple(scene.views)[:5]
    truth = {name: (scene.views[name].R, scene.views[name].t) for name in bag}
    database, kept = verify(scene, features, matches, intrinsics)
    assert all(0.95 * len(matches[pair]) <= count <= len(matches[pair]) for pair, count in kept.items())
    model, again = (Reconstruct(intrinsics, 0)(database, bag) for _ in range(2))
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
    database, kept = verify(scene, features, few)
    assert sum(kept.values()) <= 20
    model = Reconstruct("estimated", 0)(database, tuple(scene.views)[:5])
    assert model.poses == {} and model.landmarks == 0 and model.track_length == 0
    truth = {name: (view.R, view.t) for name, view in scene.views.items()}
    assert mean_average_accuracy(list(pairwise_errors(model.poses, truth).values())) == 0


def test_without_pycolmap_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycolmap", None)
    for step in (lambda: VerifyScene(0), lambda: Reconstruct("estimated", 0)):
        with pytest.raises(MissingDependencyError, match=r"tiepoints\[sfm\]"):
            step()


def test_a_real_bag(shared: Path) -> None:
    extractor = tp.load("rootsift", max_keypoints=1024, max_size=768)
    scene = find_scenes(shared / "data" / "strecha" / "fountain-P11")[0]
    bag = tuple(scene.views)[2:7]
    features = {name: extractor(tp.read(scene.views[name].path)) for name in bag}
    pairs = list(itertools.combinations(bag, 2))
    matches = {(a, b): MatchPair(0.9)(features[a], features[b]) for a, b in pairs}
    database, kept = verify(scene, features, matches, "known")
    model = Reconstruct("known", 0)(database, bag)
    assert min(kept.values()) > 50
    assert set(model.poses) == set(bag)
    truth = {name: (scene.views[name].R, scene.views[name].t) for name in bag}
    assert max(pairwise_errors(model.poses, truth).values()) < 1
    centres = [[-np.asarray(R).T @ t for R, t in (poses[name] for name in bag)] for poses in (model.poses, truth)]
    assert rms_after_alignment(*centres) < 0.03, "metres, of a scene about 10 m away"
