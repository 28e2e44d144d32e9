"""Many images of one size: one in each core (`tiepoints.extract_images`), against all cores on one after another.

    python tools/stream.py PHOTOGRAPH [-e mdnet] [--runs 9] [--files 300]

Prints the tables of docs/performance.md, with two threads. Images are in memory, as frames of a camera are; with
--files, so many small files go through the whole pipeline into one HDF5 file, against the extractions alone, one after
another on one core.
"""

from __future__ import annotations

import os

from tiepoints.threads import limited, variables

THREADS = 2
os.environ.update(variables(THREADS))  # before the libraries are loaded

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np

import tiepoints as tp
from tiepoints.benchmarks.timing import alternating, ratio
from tiepoints.collection import Collection, Extract, Store, export_features, run

COUNT = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photograph")
    parser.add_argument("-e", "--extractor", default="mdnet")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--files", type=int, default=0)
    arguments = parser.parse_args()
    cv2.setNumThreads(THREADS)
    photograph = tp.read(arguments.photograph)
    extractor = tp.load(arguments.extractor)
    if arguments.files:
        small_files(photograph, extractor, arguments.files, arguments.runs)
        return
    print(f"| {THREADS} threads | one after another, ms an image | one in each core | ratio |")
    print("|---|---|---|---|")
    for width, height in ((160, 120), (320, 240), (640, 480), (1280, 960)):
        frames = [np.ascontiguousarray(cv2.resize(photograph, (width, height), interpolation=cv2.INTER_AREA))] * COUNT
        times = alternating(
            {
                "one after another": partial(lambda frames: [extractor(frame) for frame in frames], frames),
                "one in each core": partial(lambda frames: list(tp.extract_images(extractor, frames)), frames),
            },
            arguments.runs,
        )
        one, other = times.values()
        each = [statistics.median(values) / COUNT for values in (one, other)]
        print(f"| {width}x{height} | {each[0]:.1f} | {each[1]:.1f} | {ratio(other, one):.2f} |")


def small_files(photograph: np.ndarray, extractor: tp.Extractor, count: int, runs: int) -> None:
    """What names, hashes, the store and the HDF5 file add to the extractions."""
    print("| images | alone, CPU ms | pipeline, CPU ms | ratio | alone, ms | pipeline, ms | ratio |")
    print("|---|---|---|---|---|---|---|")
    single, rng = extractor.with_threads(1), np.random.default_rng(0)
    photograph = cv2.resize(photograph, (960, 720), interpolation=cv2.INTER_AREA)
    for width, height in ((240, 160), (320, 240)):
        with tempfile.TemporaryDirectory() as folder:
            photos = Path(folder) / "photos"
            photos.mkdir()
            for k in range(count):
                x, y = int(rng.integers(960 - width)), int(rng.integers(720 - height))
                crop = photograph[y : y + height, x : x + width, ::-1]
                cv2.imwrite(str(photos / f"{k}.jpg"), np.ascontiguousarray(crop))
            files = sorted(photos.iterdir())
            found: list[list[float]] = []
            for k in range(runs + 1):  # the first one warms up
                began = time.process_time(), time.perf_counter()
                with limited(1):
                    for file in files:
                        single(file)
                middle = time.process_time(), time.perf_counter()
                with Store(Path(folder) / f"work-{k}") as store:
                    results = run(Extract(extractor), Collection.from_folder(photos), store)
                    export_features(Path(folder) / f"{k}.h5", results)
                end = time.process_time(), time.perf_counter()
                if k:
                    found.append([*np.subtract(middle, began), *np.subtract(end, middle)])
            alone_cpu, alone, cpu, took = 1000 * np.median(found, axis=0) / count
            ratios = [statistics.median(row[2 + i] / row[i] for row in found) for i in (0, 1)]
            print(
                f"| {count} of {width}x{height} | {alone_cpu:.1f} | {cpu:.1f} | {ratios[0]:.2f} "
                f"| {alone:.1f} | {took:.1f} | {ratios[1]:.2f} |"
            )


if __name__ == "__main__":
    main()
