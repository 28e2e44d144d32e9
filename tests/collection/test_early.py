"""Matching and verification in one step that stops early: the same verdicts as without, and nearly the same inliers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import tiepoints as tp
from tiepoints.cli import cli
from tiepoints.collection import Collection, Extract, Match, MatchVerified, Verify, exhaustive, run
from tiepoints.collection.running import Results
from tiepoints.geometry.refinement import refined
from tiepoints.matching import Nearest


class Counting(Nearest):
    """Notes the sizes of what it matches."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[int, int]] = []

    def _match(self, a: tp.Features, b: tp.Features) -> tp.Matches:
        self._calls.append((len(a), len(b)))
        return super()._match(a, b)


@pytest.fixture(scope="module", params=["mdnet:2", "mdnet:4", "upright-rootsift"])
def features(request: pytest.FixtureRequest, examples: Path) -> Results:
    name, _, sets = request.param.partition(":")
    extractor = tp.load(name, sets=int(sets)) if sets else tp.load(name)
    return run(Extract(extractor), Collection.from_folder(examples))


def test_verdicts_are_the_same_and_inliers_nearly(features: Results) -> None:
    pairs = exhaustive(features)
    early = run(MatchVerified(), pairs, None, features)
    matches = run(Match(), pairs, None, features)
    plain = run(Verify("fundamental"), matches, None, features)
    assert {pair for pair, view in plain.items() if view} == {
        ("box.png", "box_in_scene.png"),
        ("desk_1.jpg", "desk_2.jpg"),
    }
    for pair, view in plain.items():
        assert bool(early[pair]) is bool(view)
        if view:
            one, other = ({tuple(row) for row in v.inliers.indices.tolist()} for v in (early[pair], view))
            assert len(one) > 0.85 * len(other)
            if pair[0] != "box.png":  # it is flat: of many epipolar geometries each takes other chance matches along
                assert len(one & other) > 0.85 * len(other)
            if early[pair].log_nfa < -50:  # then all sets were matched, by the same matcher
                np.testing.assert_array_equal(early[pair].matches.indices, view.matches.indices)


def test_it_matches_no_more_than_it_needs(features: Results) -> None:
    a, b = (features[name] for name in ("desk_1.jpg", "desk_2.jpg"))
    sets = 1 if a.sets is None else int(a.sets.max()) + 1
    matcher = Counting()
    for one in (a, b):
        for other in ("box.png", "box_in_scene.png"):
            assert not MatchVerified(matcher)(one, features[other])
    assert len(matcher._calls) < 4 * sets or sets == 1  # some are hopeless before the last set
    matcher._calls.clear()
    view = MatchVerified(matcher)(a, b)
    assert view and len(matcher._calls) == sets
    assert sum(m for m, _ in matcher._calls) == len(a)
    matcher._calls.clear()
    short = MatchVerified(matcher, rest=False)(a, b)
    assert short and len(matcher._calls) == 1
    assert len(short.inliers) <= len(view.inliers)


def test_all_sets_are_compared_in_the_same_rotation() -> None:
    """Also one whose features, taken alone, are more alike in another."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    a = tp.Features(
        rng.uniform(50, 450, (300, 2)), vectors, np.ones(300), (500, 500), sets=np.arange(300) // 200, rotations=4
    )
    descriptors = a.rotated(1).descriptors.copy()
    descriptors[200:] = a.descriptors[200:]
    b = replace(a, keypoints=a.keypoints + np.float32([9, 4]), descriptors=descriptors)
    view, matches = MatchVerified()(a, b), Match()(a, b)
    assert view and len(view.inliers) >= 200
    np.testing.assert_array_equal(view.matches.indices, matches.indices)


def test_few_features_are_all_matched_and_verified_as_usual(features: Results) -> None:
    a, b = (features[name].top(60) for name in ("desk_1.jpg", "desk_2.jpg"))
    early, plain = MatchVerified()(a, b), Verify("fundamental")(Match()(a, b), a, b)
    np.testing.assert_array_equal(early.matches.indices, plain.matches.indices)
    np.testing.assert_array_equal(early.geometry.inliers, plain.geometry.inliers)
    empty = a.select([])
    assert not MatchVerified()(a, empty) and not MatchVerified()(empty, empty)


@pytest.mark.parametrize("kind", ["fundamental", "homography"])
def test_refinement_finds_the_inliers_of_all_matches(kind: str) -> None:
    """A model of a few noisy matches, then all of them: nearer to the truth, with every inlier."""
    rng = np.random.default_rng(0)
    a = rng.uniform(0, 1000, (400, 2))
    H = np.array([[0.9, 0.1, 30], [-0.05, 1.1, -20], [1e-5, -2e-5, 1]])
    if kind == "homography":
        b = tp.geometry.project(H, a)
    else:
        depth = rng.uniform(4, 9, 400)
        rays = np.column_stack([(a - 500) / 800, np.ones(400)]) * depth[:, None]
        seen = rays @ np.array([[0.99, 0, 0.14], [0, 1, 0], [-0.14, 0, 0.99]]) + [1, 0.2, 0.1]
        b = seen[:, :2] / seen[:, 2:] * 800 + 500
    true, b = b, b + rng.normal(0, 0.3, b.shape)
    b[300:] = rng.uniform(0, 1000, (100, 2))
    estimate = tp.fundamental if kind == "fundamental" else tp.homography
    few = estimate(a[:30], b[:30], threshold=2.0)
    whole = refined(few, a, b, None, 2.0)
    assert whole.kind == kind and whole.inliers[:300].mean() > 0.98
    assert whole.num_inliers >= np.count_nonzero(_errors(kind, few.matrix, a, b) <= 2.0)
    error = [np.median(_errors(kind, model.matrix, a, true)) for model in (few, whole)]
    assert error[1] < error[0]
    np.testing.assert_array_equal(whole.inliers, _errors(kind, whole.matrix, a, b) <= 2.0)
    assert not refined(few, a[:5], b[:5], None, 2.0)


def _errors(kind: str, matrix: object, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    error = tp.geometry.sampson_error if kind == "fundamental" else tp.geometry.symmetric_homography_error
    return error(matrix, a, b)


def test_the_command_takes_it(examples: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.h5"
    command = ["match", str(examples), "--early-stop", "--out", str(out), "--json"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["verified"] == 2
    again = json.loads(CliRunner().invoke(cli, command).stdout)
    assert again["computed"] == {"features": 0, "matches": 0, "geometry": 0}
