"""Train LIFT's orientation estimator, write the model that comes with tiepoints, and judge it.

    python tools/train_lift.py PHOTOGRAPHS MORE --out src/tiepoints/weights/lift-orientation.onnx
    python tools/train_lift.py PHOTOGRAPHS MORE --judge

The descriptor that it learns by is the HardNet that comes with tiepoints. --judge trains nothing: it compares the model
that comes with tiepoints with SIFT's orientation and OriNet's, on warped pairs of photographs that no training sees.
These are not the authors' weights.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

import numpy as np
import torch

import tiepoints as tp
from tiepoints.images import find_images, read, resize_to
from tiepoints.training.judges import planar_figures
from tiepoints.training.keypoint_pairs import warped_views
from tiepoints.training.lift import orientation_pairs, save_orientation, shipped_hardnet, train_orientation

SIFT = {"detector": {"contrast_threshold": 0.01}}
METHODS = {
    "sift+hardnet": SIFT,
    "sift+lift-orientation+hardnet": SIFT,
    "sift+orinet+hardnet": SIFT,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("lift-orientation.onnx"))
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--most", type=int, default=180, help="take so many of the photographs")
    parser.add_argument("--held-out", type=int, default=8, help="so many others judge")
    parser.add_argument("--max-keypoints", type=int, default=512, help="when judging")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    paths = find_images(options.photographs)
    order = np.random.default_rng(options.seed).permutation(len(paths))
    if options.judge:
        judge([paths[i] for i in order[-options.held_out :]], options.max_keypoints, options.threads)
        return
    order = order[: min(options.most, len(order) - options.held_out)]
    pairs = orientation_pairs([paths[i] for i in order], seed=options.seed)
    print(f"{len(pairs)} pairs of patches from {len(order)} photographs", flush=True)

    def say(line: str) -> None:
        print(line, flush=True)

    about = {
        "name": "lift-orientation",
        "note": "trained by tiepoints, not the authors' weights",
        "licence": "Apache-2.0",
        "descriptor": "HardNet trained by tiepoints (Apache-2.0)",
        "threads": options.threads,
        "photographs": len(order),
        "pairs": len(pairs),
        "minutes": options.minutes,
        "seed": options.seed,
        "date": date.today().isoformat(),
    }
    network, steps = train_orientation(pairs, shipped_hardnet(), minutes=options.minutes, seed=options.seed, log=say)
    save_orientation(network, options.out, about | {"steps": steps})
    print(f"{steps} steps; wrote {options.out}")


def judge(paths: list[Path], count: int, threads: int) -> None:
    """Print a row of figures for each method: means over warped pairs, one of each photograph."""
    pairs = [
        warped_views(resize_to(read(path, grey=True), 640)[0], np.random.default_rng((9, number)))
        for number, path in enumerate(paths)
    ]
    for name, extra in METHODS.items():
        extractor = tp.load(name, max_keypoints=count, threads=threads, **extra)
        figures = [planar_figures(extractor(a), extractor(b), b_from_a) for (a, b), b_from_a in pairs]
        means = {key: np.mean([each[key] for each in figures]) for key in figures[0]}
        print(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in means.items()), flush=True)


if __name__ == "__main__":
    main()
