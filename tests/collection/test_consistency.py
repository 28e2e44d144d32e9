"""Pairs that others contradict: scenes whose parts look alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.collection import Collection, ConsistentViews, Extract, Match, Verified, Verify, exhaustive, run
from tiepoints.datasets.scenes import read_scene
from tiepoints.tasks.reasons import PairReport

SIZE = (640, 480)
COLUMNS = 12


def temple() -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """A round temple whose columns all look alike, 30 degrees from one to the next, from cameras 15 degrees apart.

    Returns points (columns, N, 3), the same N on each column, and cameras [R | t].
    """
    rng = np.random.default_rng(0)
    column = np.stack([rng.normal(0, 0.1, 40), rng.uniform(-1, 1, 40), 1 + rng.normal(0, 0.1, 40)], axis=1)
    points = np.stack([column @ turned(360 / COLUMNS * k).T for k in range(COLUMNS)])
    cameras = [np.c_[turned(-15 * n), [0.0, 0.0, 4.0]] for n in range(8)]
    return points, cameras


def turned(degrees: float) -> NDArray[np.float64]:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def features_of(points: NDArray[np.float64], camera: NDArray[np.float64]) -> tp.Features:
    """All points, hidden ones too, in their order."""
    x, y, z = camera[:, :3] @ points.reshape(-1, 3).T + camera[:, 3:]
    at = np.stack([600 * x / z + 320, 600 * y / z + 240], axis=1).astype(np.float32)
    return tp.Features(
        keypoints=at, scores=np.ones(len(at)), descriptors=np.zeros((len(at), 4), np.float32), image_size=SIZE
    )


def seen(camera: NDArray[np.float64]) -> list[int]:
    """The columns on the camera's side of the temple."""
    centre = -camera[:, :3].T @ camera[:, 3]
    return [k for k in range(COLUMNS) if (turned(360 / COLUMNS * k) @ [0, 0, 1]) @ centre > 1]


def test_a_pair_on_the_wrong_columns_is_contradicted() -> None:
    points, cameras = temple()
    names = [f"{n}.jpg" for n in range(len(cameras))]
    features = {name: features_of(points, camera) for name, camera in zip(names, cameras, strict=True)}
    verify, views = Verify(), dict[tuple[str, str], Verified]()
    each = points.shape[1]

    def view_of(a: int, b: int, shift: int, every: int = 1) -> None:
        """Columns of a matched with those of b that stand `shift` further; all that both cameras see."""
        pairs = [
            (k * each + i, (k + shift) % COLUMNS * each + i)
            for k in seen(cameras[a])
            if (k + shift) % COLUMNS in seen(cameras[b])
            for i in range(0, each, every)
        ]
        matches = tp.Matches(np.array(pairs, np.uint32), np.ones(len(pairs), np.float32))
        views[names[a], names[b]] = verify(matches, features[names[a]], features[names[b]])

    for n in range(7):
        view_of(n, n + 1, 0)
    view_of(0, 2, 0, every=2)
    view_of(0, 3, 1, every=2)  # 45 degrees apart, as if it were 15
    view_of(1, 5, 2, every=2)
    assert all(views.values())  # each is right by itself
    judged = ConsistentViews(views, features)
    assert list(judged) == list(views)
    wrong = [pair for pair, view in judged.items() if view.outcome == "contradicted"]
    assert wrong == [("0.jpg", "3.jpg"), ("1.jpg", "5.jpg")]
    assert not judged["0.jpg", "3.jpg"].verified and len(judged["0.jpg", "3.jpg"].inliers) == 0
    assert "look alike" in judged["0.jpg", "3.jpg"].reason
    assert judged["0.jpg", "2.jpg"].agreement > 0.9
    assert np.isnan(judged["0.jpg", "1.jpg"].agreement)  # nothing stronger tells of it
    report = PairReport(judged.items(), {})
    assert report.verified() == len(views) - 2 and report.outcomes["contradicted"] == 2
    assert views["0.jpg", "3.jpg"].verified  # what was given is as it was


def test_pairs_of_a_temple(shared: Path) -> None:
    """19 photographs around a temple: pairs far apart match the wrong columns, and those near by say so."""
    scene = read_scene(shared / "data" / "temple_ring")
    chosen = {view.path.name: view for view in scene.views.values()}
    photographs = Collection.from_paths({name: view.path for name, view in chosen.items()})
    features = run(Extract("mdnet"), photographs)
    matches = run(Match(), exhaustive(photographs), None, features)
    views = ConsistentViews(run(Verify(), matches, None, features), features)
    outcomes: dict[str, list[str]] = {"near": [], "far": []}
    for (a, b), view in views.items():
        turn, _ = tp.geometry.pose_error(chosen[b].R @ chosen[a].R.T, [1, 0, 0], np.eye(3), [1, 0, 0])
        if turn < 40 or turn > 80:
            outcomes["near" if turn < 40 else "far"].append(view.outcome)
    assert len(outcomes["near"]) >= 70 and set(outcomes["near"]) == {"verified"}
    assert len(outcomes["far"]) >= 30 and "verified" not in outcomes["far"]
    assert outcomes["far"].count("contradicted") >= 0.5 * len(outcomes["far"])


def test_none_at_all() -> None:
    assert dict(ConsistentViews({}, {})) == {}


@pytest.mark.parametrize("count", [3, 400])
def test_the_order_of_pairs_does_not_matter(count: int) -> None:
    rng = np.random.default_rng(1)
    points, cameras = temple()
    some = rng.permutation(points.reshape(-1, 3))[:count][None]
    features = {str(n): features_of(some, camera) for n, camera in enumerate(cameras[:4])}
    matches = tp.Matches(np.stack([np.arange(count)] * 2, axis=1).astype(np.uint32), np.ones(count, np.float32))
    pairs = exhaustive(features)
    views = {pair: Verify()(matches, features[pair[0]], features[pair[1]]) for pair in pairs}
    one = ConsistentViews(views, features)
    other = ConsistentViews(dict(reversed(views.items())), features)
    assert [one[pair].outcome for pair in pairs] == [other[pair].outcome for pair in pairs]
    assert all(one[pair].outcome == ("few" if count == 3 else "verified") for pair in pairs)
