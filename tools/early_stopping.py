"""What `MatchVerified` saves and costs, beside `Match` and `Verify`.

    python tools/early_stopping.py data/strecha/* data/lund_door data/phone/* --sets 2

All pairs inside each scene, every --every-th of them, and a third as many of different scenes, alternating between the
ways. Times are CPU times of one thread, so that other work on the machine counts little. With --reconstruct a second
table: what the ways make of each scene with true cameras, all pairs, calibrated; medians of three seeds of RANSAC.
"""

from __future__ import annotations

import os

from tiepoints.threads import variables

os.environ.update(variables(1))  # before the libraries are loaded

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
from evaluate_tasks import collection_of, compare, middle, poses_of

import tiepoints as tp
from tiepoints.collection import Collection, Extract, Match, MatchVerified, Store, Verify, run
from tiepoints.datasets.scenes import read_scene
from tiepoints.matching import Nearest
from tiepoints.tasks import reconstruct

WAYS = {"all matches": None, "stops early": True, "`rest=False`": False}


class Counting(Nearest):
    """Counts the distances that it computes."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def _match(self, a: tp.Features, b: tp.Features) -> tp.Matches:
        sets = [np.zeros(len(one), np.uint8) if one.sets is None else one.sets for one in (a, b)]
        counts = [np.bincount(one, minlength=256) for one in sets]
        self._count += int((counts[0] * counts[1]).sum())
        return super()._match(a, b)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, nargs="+")
    parser.add_argument("-e", "--extractor", default="mdnet")
    parser.add_argument("--sets", type=int)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--store", type=Path, default=Path("early.work"))
    parser.add_argument("--reconstruct", action="store_true", help="a second table, of reconstructions")
    options = parser.parse_args()
    scenes = [folder for folder in options.scenes if (folder / "images").is_dir()]
    paths = {f"{folder}/{p.name}": p for folder in scenes for p in sorted((folder / "images").iterdir())}
    photographs = Collection.from_paths({name.lstrip("/"): path for name, path in paths.items()})
    settings = {} if options.sets is None else {"sets": options.sets}
    with Store(options.store) as store:
        features = dict(run(Extract(options.extractor, **settings), photographs, store))
    every = list(itertools.combinations(features, 2))
    inside = [pair for pair in every if Path(pair[0]).parent == Path(pair[1]).parent][:: options.every]
    across = [pair for pair in every if Path(pair[0]).parent != Path(pair[1]).parent]
    chosen = np.random.default_rng(0).permutation(len(across))[: len(inside) // 3]
    pairs = inside + [across[i] for i in chosen]
    ways = {}
    for name, rest in (
        ("all matches, then verification", None),
        ("stops early", True),
        ("and leaves out the rest", False),
    ):
        matcher = Counting()
        ways[name] = matcher, (Match(matcher), Verify()) if rest is None else MatchVerified(matcher, rest=rest)
    results: dict[str, list[tuple[float, bool, int]]] = {name: [] for name in ways}
    for pair in pairs:
        a, b = (features[name] for name in pair)
        for name, (_, step) in ways.items():
            begun = time.process_time()
            view = step[1](step[0](a, b), a, b) if isinstance(step, tuple) else step(a, b)
            results[name].append((time.process_time() - begun, bool(view), len(view.inliers)))
    print(f"{len(inside)} pairs inside scenes, {len(pairs) - len(inside)} across; {options.extractor} {settings}")
    base = results["all matches, then verification"]
    total = ways["all matches, then verification"][0]._count
    print("| | distances | ms a pair verified | ms another one | time | verified | lost | won | inliers of both |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, rows in results.items():
        both = [(x[2], y[2]) for x, y in zip(base, rows, strict=True) if x[1] and y[1]]
        seen = [
            1000 * np.mean([y[0] for x, y in zip(base, rows, strict=True) if x[1] is kind]) for kind in (True, False)
        ]
        lost = sum(x[1] and not y[1] for x, y in zip(base, rows, strict=True))
        won = sum(y[1] and not x[1] for x, y in zip(base, rows, strict=True))
        share = sum(y for _, y in both) / max(1, sum(x for x, _ in both))
        spent = sum(row[0] for row in rows) / sum(row[0] for row in base)
        print(
            f"| {name} | {ways[name][0]._count / total:.0%} | {seen[0]:.0f} | {seen[1]:.0f} | {spent:.0%} | "
            f"{sum(row[1] for row in rows)} | {lost} | {won} | {share:.1%} |"
        )
    if options.reconstruct:
        print("\n| scene | | registered | points | track length | centre error, % | rotation error, degrees |")
        print("|---" * 7 + "|")
        for folder in options.scenes:
            reconstructions(folder, tp.load(options.extractor, max_keypoints=2048, **settings), options.store)


def reconstructions(folder: Path, extractor: tp.extraction.Extractor, store: Path) -> None:
    """The rows of one scene in the second table."""
    scene = read_scene(folder)
    photographs, views = collection_of(scene)
    for name, rest in WAYS.items():
        rows = []
        for seed in range(3):
            verify = Verify(seed=seed)
            match = Match() if rest is None else MatchVerified(verify=verify, rest=rest)
            with tempfile.TemporaryDirectory() as out:
                whole = reconstruct(
                    photographs, out, extractor=extractor, match=match, verify=verify, store=store, seed=seed
                )
                found = compare(poses_of(Path(out) / "sparse" / "0") if whole else {}, views)
            rows.append(
                (whole.registered, whole.points, whole.track_length, middle(found.shares), middle(found.degrees))
            )
        registered, points, length, share, degrees = np.median(rows, axis=0)
        print(
            f"| {scene.name if rest is None else ''} | {name} | {registered:.0f} of {whole.images} | {points:.0f} | "
            f"{length:.2f} | {share * 100:.3f} | {degrees:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
