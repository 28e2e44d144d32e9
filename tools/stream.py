"""Many images of one size: one in each core (`tiepoints.extract_images`), against all cores on one after another.

    OMP_NUM_THREADS=2 python tools/stream.py PHOTOGRAPH [-e mdnet] [--runs 9]

Prints the table of docs/performance.md. Images are in memory, as frames of a camera are.
"""

from __future__ import annotations

import argparse
import os
import statistics
from functools import partial

import cv2
import numpy as np

import tiepoints as tp
from tiepoints.benchmarks.timing import alternating, ratio

COUNT = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photograph")
    parser.add_argument("-e", "--extractor", default="mdnet")
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    threads = int(os.environ.setdefault("OMP_NUM_THREADS", "2"))
    cv2.setNumThreads(threads)
    photograph = tp.read(arguments.photograph)
    extractor = tp.load(arguments.extractor)
    print(f"| {threads} threads | one after another, ms an image | one in each core | ratio |")
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


if __name__ == "__main__":
    main()
