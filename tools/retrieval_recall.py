"""How many of the photographs that show the same place retrieval finds, on scenes with true cameras.

    python tools/retrieval_recall.py data/strecha/* data/lund_door data/temple_ring --distractors PHOTOGRAPHS

The photographs of all scenes lie in one collection. Which of them show the same follows from the true cameras alone
and the scene's points: matches of Upright-RootSIFT that lie within 2 pixels of the true epipolar lines are triangulated
with the true cameras. An image is relevant for another one if it has at least a quarter of that one's points inside,
in front of it, and seen from a direction less than 45 degrees off, so that they are not on the other side.

recall@k is the share of the relevant images among the first k, of as many as can be there: found / min(k, relevant),
mean over all queries that have a relevant image.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import tiepoints as tp
from tiepoints.collection import Collection, Extract, Store, run
from tiepoints.collection.retrieval import nearest_images
from tiepoints.datasets.scenes import Scene, View, read_scene
from tiepoints.tasks.verified import vocabulary_of

RANKS = (1, 5, 10, 20)
SHARE, ANGLE, EPIPOLAR = 0.25, 45.0, 2.0


def gallery_of(scenes: list[Scene]) -> tuple[Collection, dict[str, View]]:
    """All photographs, called scene/name."""
    views = {f"{scene.name}/{view.path.name}": view for scene in scenes for view in scene.views.values()}
    return Collection.from_paths({name: view.path for name, view in views.items()}), views


def points_of(views: dict[str, View], features: Any) -> dict[str, np.ndarray]:
    """The scene's points that each image shows, triangulated with the true cameras."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in views}
    for a, b in itertools.combinations(views, 2):
        one, other = views[a], views[b]
        matches = tp.match(features[a], features[b], ratio=0.9)
        if not len(matches):
            continue
        p, q = (points.astype(np.float64) for points in matches.points(features[a], features[b]))
        R = other.R @ one.R.T
        t = other.t - R @ one.t
        E = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]]) @ R
        F = np.linalg.inv(other.K).T @ E @ np.linalg.inv(one.K)
        lines = np.column_stack([p, np.ones(len(p))]) @ F.T
        far = np.abs((np.column_stack([q, np.ones(len(q))]) * lines).sum(axis=1)) / np.linalg.norm(lines[:, :2], axis=1)
        near = far < EPIPOLAR
        if not near.any():
            continue
        cameras = [view.K @ np.column_stack([view.R, view.t]) for view in (one, other)]
        X = cv2.triangulatePoints(*cameras, p[near].T, q[near].T)
        X = (X[:3] / np.where(X[3] == 0, np.nan, X[3])).T
        rays = [(X + view.R.T @ view.t) for view in (one, other)]
        cosine = (rays[0] * rays[1]).sum(axis=1) / np.prod([np.linalg.norm(ray, axis=1) for ray in rays], axis=0)
        front = [(X @ view.R.T + view.t)[:, 2] > 0 for view in (one, other)]
        good = front[0] & front[1] & (cosine < np.cos(np.radians(1.5)))
        found[a].append(X[good])
        found[b].append(X[good])
    return {name: np.concatenate([np.zeros((0, 3)), *several]) for name, several in found.items()}


def shown_share(points: np.ndarray, one: View, other: View, size: tuple[int, int]) -> float:
    """The share of the points of one image that another one shows, from about the same side."""
    if not len(points):
        return 0.0
    inside = points @ other.R.T + other.t
    pixels = (inside @ other.K.T)[:, :2] / inside[:, 2:]
    rays = [points + view.R.T @ view.t for view in (one, other)]
    cosine = (rays[0] * rays[1]).sum(axis=1) / np.prod([np.linalg.norm(ray, axis=1) for ray in rays], axis=0)
    shown = (inside[:, 2] > 0) & (pixels > 0).all(axis=1) & (pixels < size).all(axis=1)
    return float((shown & (cosine > np.cos(np.radians(ANGLE)))).mean())


def relevant_images(scenes: list[Scene], store: Store) -> dict[str, set[str]]:
    """Which images show the same as each image."""
    found: dict[str, set[str]] = {}
    for scene in scenes:
        photographs, views = gallery_of([scene])
        features = run(Extract("upright-rootsift"), photographs, store)
        points = points_of(views, {name: features[name] for name in views})
        for a, b in itertools.permutations(views, 2):
            found.setdefault(a, set())
            if shown_share(points[a], views[a], views[b], photographs[b].header.size) >= SHARE:
                found[a].add(b)
    return found


def recall(table: np.ndarray, names: list[str], relevant: dict[str, set[str]], words: Any = None) -> list[float]:
    """recall@k of each rank."""
    nearest, _ = nearest_images(table, table, max(RANKS) + 1, words)
    rows = []
    for i, name in enumerate(names):
        if relevant.get(name):
            order = [names[j] for j in nearest[i] if j != i]
            rows.append([len(relevant[name].intersection(order[:k])) / min(k, len(relevant[name])) for k in RANKS])
    return np.mean(rows, axis=0).tolist()


def mean_descriptor(features: tp.Features) -> np.ndarray:
    """The simplest aggregation: the mean of the descriptors, of unit length."""
    total = np.asarray(features.descriptors, np.float32).sum(axis=0)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-12), np.float32)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """The grey image at 16 x 16 pixels, without its mean, of unit length."""
    small = cv2.resize(image.mean(axis=2), (16, 16), interpolation=cv2.INTER_AREA).ravel()
    small -= small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-12), np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, nargs="+")
    parser.add_argument("-e", "--extractor", action="append", dest="extractors")
    parser.add_argument("--distractors", type=Path, help="a folder of other photographs")
    parser.add_argument("--most", type=int, default=1000, help="number of distractors")
    parser.add_argument("--store", type=Path, default=Path("out/retrieval"), help="what is finished is kept here")
    options = parser.parse_args()
    with Store(options.store) as store:
        scenes = [read_scene(folder) for folder in options.scenes if folder.is_dir()]
        relevant = relevant_images(scenes, store)
        gallery, _ = gallery_of(scenes)
        several = [len(one) for one in relevant.values()]
        print(f"{len(gallery)} images; relevant ones of an image: {min(several)} to {max(several)}")
        paths = {name: one.path for name, one in gallery.items()}
        if options.distractors is not None:
            others = Collection.from_folder(options.distractors)
            # from the end: those that the vocabulary may have been learned from are every so many from the beginning
            chosen = list(others)[1 :: max(1, len(others) // options.most)][: options.most]
            paths |= {f"distractors/{name}": others[name].path for name in chosen}
            print(f"and {len(chosen)} distractors")
        photographs = Collection.from_paths(paths)
        print(f"| vector | numbers | {' | '.join(f'recall@{k}' for k in RANKS)} |\n|---{'|---' * (len(RANKS) + 1)}|")

        def row(name: str, make: Callable[[str], np.ndarray], names: list[str], words: Any = None) -> None:
            table = np.stack([make(one) for one in names])
            found = " | ".join(f"{value:.3f}" for value in recall(table, names, relevant, words))
            print(f"| {name} | {table.shape[1]} | {found} |", flush=True)

        row("thumbnail of 16 x 16 pixels", lambda name: thumbnail(photographs[name].read()), list(photographs))
        for name in options.extractors or ["mdnet"]:
            features = run(Extract(name), photographs, store)
            vocabulary = vocabulary_of(tp.load(name), features)
            kept = {str(one): features[one] for one in features}
            row(f"{name}, mean descriptor", lambda one, kept=kept: mean_descriptor(kept[one]), list(kept))
            row(f"{name}, VLAD", lambda one, kept=kept, words=vocabulary: words(kept[one]), list(kept), vocabulary)


if __name__ == "__main__":
    main()
