"""A pair from two files to verified matches, against the same with OpenCV's SIFT: warm, cold, and in memory.

    python tools/pair.py A.jpg B.jpg [--runs 11]

Prints the tables of docs/performance.md, with two threads. `opencv_sift.py` is the peer.
"""

from __future__ import annotations

import os

from tiepoints.threads import variables

THREADS = 2
os.environ.update(variables(THREADS))  # before the libraries are loaded

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

import tiepoints as tp
from tiepoints.benchmarks.timing import alternating, ratio

PEER = Path(__file__).with_name("opencv_sift.py")
COUNT = 2048
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs=2)
    parser.add_argument("--runs", type=int, default=11)
    arguments = parser.parse_args()
    cv2.setNumThreads(THREADS)
    a, b = arguments.images
    print("| from two files to verified matches | ms | / OpenCV | matches | inliers |")
    print("|---|---|---|---|---|")
    methods = {"OpenCV SIFT, cross-check, USAC": opencv_pair(a, b)}
    methods |= {f"tiepoints, MD-Net in {k} sets": tiepoints_pair(a, b, k) for k in (2, 4)}
    times = alternating(methods, arguments.runs)
    peer = next(iter(times.values()))
    for name, found in times.items():
        matches, inliers = methods[name]()
        print(f"| {name} | {statistics.median(found):.1f} | {ratio(found, peer):.2f} | {matches} | {inliers} |")

    print("\n| cold process | s | / script | peak MB | / script |")
    print("|---|---|---|---|---|")
    commands = {
        "ten lines of OpenCV": [sys.executable, str(PEER), a, b],
        "`tiepoints match`": [sys.executable, "-m", "tiepoints", "match", a, b],
    }
    times = alternating({name: process(command) for name, command in commands.items()}, arguments.runs)
    memory = {name: peak_megabytes(command) for name, command in commands.items()}
    peer, least = next(iter(times.values())), next(iter(memory.values()))
    for name, found in times.items():
        took = f"{statistics.median(found) / 1000:.2f} | {ratio(found, peer):.2f}"
        print(f"| {name} | {took} | {memory[name]:.0f} | {memory[name] / least:.2f} |")

    print("\n| photograph | seconds | peak MB |")
    print("|---|---|---|")
    photograph = cv2.imread(a)
    with tempfile.TemporaryDirectory() as folder:
        for width, height in ((1000, 750), (2000, 1500), (4000, 3000)):
            path = str(Path(folder) / f"{width}.jpg")
            cv2.imwrite(path, cv2.resize(photograph, (width, height), interpolation=cv2.INTER_CUBIC))
            command = [sys.executable, "-m", "tiepoints", "extract", path, "--out", f"{folder}/{width}.npz"]
            start = time.perf_counter()
            process(command)()
            print(f"| {width}x{height} | {time.perf_counter() - start:.2f} | {peak_megabytes(command):.0f} |")


def opencv_pair(a: str, b: str) -> Callable[[], tuple[int, int]]:
    """The lines of the script, in this process."""
    sift = cv2.SIFT_create(nfeatures=COUNT, contrastThreshold=0.01)
    matcher = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)

    def run() -> tuple[int, int]:
        (ka, da), (kb, db) = (sift.detectAndCompute(cv2.imread(p, cv2.IMREAD_GRAYSCALE), None) for p in (a, b))
        matches = matcher.match(da, db)
        points_a = np.array([ka[m.queryIdx].pt for m in matches])
        points_b = np.array([kb[m.trainIdx].pt for m in matches])
        _, inliers = cv2.findFundamentalMat(points_a, points_b, cv2.USAC_MAGSAC, 1.0, 0.999, 10000)
        return len(matches), int(inliers.sum())

    return run


def tiepoints_pair(a: str, b: str, sets: int) -> Callable[[], tuple[int, int]]:
    """What `tiepoints match` does, in this process."""
    extractor = tp.load("mdnet", sets=sets, max_keypoints=COUNT)

    def run() -> tuple[int, int]:
        one, two = extractor(tp.read(a)), extractor(tp.read(b))
        matches = tp.match(one, two)
        return len(matches), tp.fundamental(one, two, matches).num_inliers

    return run


def process(command: list[str]) -> Callable[[], None]:
    """A process from start to end, with its modules compiled before, as pip does when it installs them."""
    return lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=ENVIRONMENT) and None


def peak_megabytes(command: list[str]) -> float:
    """The greatest resident memory of a process; started by a small one, because a child inherits its parent's peak."""
    small = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    found = subprocess.run(
        [sys.executable, "-c", small, *command], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    return int(found.stdout) / 1024


if __name__ == "__main__":
    main()
