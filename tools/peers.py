"""The time of MD-Net and of the networks that it is compared with, by the CPU time of one core.

    python tools/peers.py examples/desk_1.jpg
    python tools/peers.py examples/desk_1.jpg --threads 2    # wall time of two threads: for an idle machine only

All methods in turn (A B A B ...), from pixels to 2,048 keypoints with descriptors at 640x480, each in its run-times.
The CPU time of one core hardly depends on what else runs; threads that wait for each other do.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time

from tiepoints.threads import variables

SPECS = (
    "mdnet",
    "mdnet:precision=int8",
    "mdnet-small",
    "mdnet-large",
    "xfeat",
    "xfeat:runtime=onnx",
    "edgepoint2-s64:threshold=-30",
    "edgepoint2-s64:threshold=-30,runtime=onnx",
    "superpoint:threshold=0",
    "superpoint:threshold=0,runtime=onnx",
    "aliked-n16",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photograph")
    parser.add_argument("-e", "--extractor", action="append", help=f"repeatable; default {', '.join(SPECS)}")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    os.environ.update(variables(options.threads))  # before the libraries are loaded

    import cv2

    import tiepoints as tp
    from tiepoints.benchmarks import method

    cv2.setNumThreads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    image = tp.read(options.photograph)
    image = cv2.resize(image, (640, 480), interpolation=cv2.INTER_AREA)
    methods = [method(spec, max_keypoints=2048).with_threads(options.threads) for spec in options.extractor or SPECS]
    for one in methods:  # memory, the network's first run
        one.extractor(image)
    counts = {one.label: len(one.extractor(image)) for one in methods}
    times: dict[str, list[float]] = {one.label: [] for one in methods}
    for run in range(options.runs):
        for one in methods:
            started = clock()
            one.extractor(image)
            times[one.label].append((clock() - started) * 1000)
        print(f"\rrun {run + 1}/{options.runs}", end="", file=sys.stderr)
    first = times[methods[0].label]
    print(f"\n| method | keypoints | ms | {methods[0].label} / it |\n|---|---|---|---|")
    for label, own in times.items():
        ratio = statistics.median(a / b for a, b in zip(first, own, strict=True))
        print(f"| `{label}` | {counts[label]} | {statistics.median(own):.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
