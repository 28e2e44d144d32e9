"""Time exact matching beside its peers, alternately, and print medians, ratios and agreement.

    python tools/matching.py                      # 2048 and 8192 descriptors of 128 floats, 2 threads
    python tools/matching.py --sets 1 2 4 8 16 --dimensions 64  # how the time falls with the number of sets
    python tools/matching.py --sizes 1024 --json

Peers: faiss's exact search (IndexFlatIP) in both directions with the mutual check, and OpenCV's BFMatcher with
crossCheck. All get unit float32 descriptors made from photograph-like clusters, so that there are true neighbours.
"""

from __future__ import annotations

import os

from tiepoints.threads import variables

THREADS = int(os.environ.get("THREADS", "2"))
os.environ.update(variables(THREADS))  # before the libraries are loaded
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import statistics
from functools import partial

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.benchmarks.timing import alternating, ratio

Pairs = NDArray[np.int64]


def descriptors(count: int, size: int, noise: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two sets of unit vectors; half of the second are noisy copies of rows of the first, in another order."""
    rng = np.random.default_rng(0)
    a = np.abs(rng.normal(size=(count, size)))
    b = np.abs(rng.normal(size=(count, size)))
    b[: count // 2] = a[rng.permutation(count)[: count // 2]] + noise * rng.normal(size=(count // 2, size))
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    return a.astype(np.float32), b.astype(np.float32)


def features(vectors: NDArray[np.float32], sets: int) -> tp.Features:
    labels = None if sets == 1 else (np.arange(len(vectors)) % sets).astype(np.uint8)
    zeros = np.zeros(len(vectors), np.float32)
    return tp.Features(np.zeros((len(vectors), 2), np.float32), vectors, zeros, (1, 1), sets=labels)


def by_faiss(a: NDArray[np.float32], b: NDArray[np.float32]) -> Pairs:
    def nearest(query: NDArray[np.float32], base: NDArray[np.float32]) -> Pairs:
        index = faiss.IndexFlatIP(base.shape[1])
        index.add(base)
        return np.asarray(index.search(query, 1)[1][:, 0])

    ahead, back = nearest(a, b), nearest(b, a)
    rows = np.flatnonzero(back[ahead] == np.arange(len(a)))
    return np.stack([rows, ahead[rows]], axis=1)


def by_opencv(a: NDArray[np.float32], b: NDArray[np.float32]) -> Pairs:
    found = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(a, b)
    return np.array([(m.queryIdx, m.trainIdx) for m in found]).reshape(-1, 2)


def measure(count: int, size: int, runs: int) -> list[dict[str, object]]:
    a, b = descriptors(count, size, noise=0.1)
    whole_a, whole_b, sets_a, sets_b = features(a, 1), features(b, 1), features(a, 4), features(b, 4)
    times = alternating(
        {
            "tiepoints": lambda: tp.match(whole_a, whole_b),
            "tiepoints, 4 sets": lambda: tp.match(sets_a, sets_b),
            "tiepoints, ratio 0.9": lambda: tp.match(whole_a, whole_b, ratio=0.9),
            "faiss": lambda: by_faiss(a, b),
            "OpenCV": lambda: by_opencv(a, b),
        },
        runs,
    )
    ours, reference = {tuple(p) for p in tp.match(whole_a, whole_b).indices.tolist()}, by_faiss(a, b)
    agreement = len(ours & {tuple(p) for p in reference.tolist()}) / max(len(ours), len(reference))
    return [
        {
            "count": count,
            "size": size,
            "method": name,
            "median_ms": round(statistics.median(values), 2),
            "min_ms": round(min(values), 2),
            "max_ms": round(max(values), 2),
            "to_faiss": round(ratio(values, times["faiss"]), 3),
            "to_opencv": round(ratio(values, times["OpenCV"]), 3),
            "agrees_with_faiss": round(agreement, 5) if name == "tiepoints" else None,
        }
        for name, values in times.items()
    ]


def by_sets(counts: list[int], size: int, sets: list[int], runs: int) -> None:
    """The table of times over the number of sets, each beside its ratio to the first."""
    print("| sets | " + " | ".join(f"{count} x {count}, ms | ratio" for count in counts) + " |")
    print("|---" * (1 + 2 * len(counts)) + "|")
    cells: dict[int, list[str]] = {k: [] for k in sets}
    for count in counts:
        a, b = descriptors(count, size, noise=0.1)
        pairs = {k: (features(a, k), features(b, k)) for k in sets}
        times = alternating({k: partial(tp.match, *pair) for k, pair in pairs.items()}, runs)
        for k, values in times.items():
            cells[k] += [f"{statistics.median(values):.1f}", f"{ratio(values, times[sets[0]]):.2f}"]
    for k, row in cells.items():
        print(f"| {k} | " + " | ".join(row) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 8192], help="descriptors an image")
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--sets", type=int, nargs="+", help="only these numbers of sets, against each other")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(THREADS)
    faiss.omp_set_num_threads(THREADS)
    if options.sets:
        by_sets(options.sizes, options.dimensions, options.sets, options.runs)
        return
    rows = [row for count in options.sizes for row in measure(count, options.dimensions, options.runs)]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{THREADS} threads, {options.runs} alternating runs, ms; ratios pair by pair")
    print(f"{'descriptors':>12}  {'method':22}{'median':>9}{'min':>9}{'max':>9}{'/ faiss':>9}{'/ OpenCV':>9}")
    for row in rows:
        print(
            f"{row['count']:>6} x {row['size']:<4} {row['method']:22}{row['median_ms']:>9}{row['min_ms']:>9}"
            f"{row['max_ms']:>9}{row['to_faiss']:>9}{row['to_opencv']:>9}"
            + (f"   agrees with faiss: {row['agrees_with_faiss']}" if row["agrees_with_faiss"] else "")
        )


if __name__ == "__main__":
    main()
