"""Train LIFT's orientation estimator, write the model that comes with tiepoints, and judge it.

    python tools/train_lift.py PHOTOGRAPHS MORE --out src/tiepoints/weights/lift-orientation.onnx
    python tools/train_lift.py PHOTOGRAPHS MORE --judge

The descriptor that it learns by is the HardNet that comes with tiepoints. --judge trains nothing: it compares the model
that comes with tiepoints with SIFT's orientation and OriNet's, on warped pairs of photographs that no training sees.
These are not the authors' weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from trainers import about, options_of, parsed, say

import tiepoints as tp
from tiepoints.images import find_images, read, resize_to
from tiepoints.training.judges import planar_figures
from tiepoints.training.keypoint_pairs import warped_views
from tiepoints.training.lift import orientation_pairs, train_orientation
from tiepoints.training.patch_models import save_patch_model, shipped_hardnet

SIFT = {"detector": {"contrast_threshold": 0.01}}
METHODS = {
    "sift+hardnet": SIFT,
    "sift+lift-orientation+hardnet": SIFT,
    "sift+orinet+hardnet": SIFT,
}


def main() -> None:
    parser = options_of(__doc__, minutes=3)
    parser.add_argument("photographs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("lift-orientation.onnx"))
    parser.add_argument("--most", type=int, default=180, help="take so many of the photographs")
    parser.add_argument("--held-out", type=int, default=8, help="so many others judge")
    parser.add_argument("--max-keypoints", type=int, default=512, help="when judging")
    parser.add_argument("--judge", action="store_true")
    options = parsed(parser)
    paths = find_images(options.photographs)
    order = np.random.default_rng(options.seed).permutation(len(paths))
    if options.judge:
        judge([paths[i] for i in order[-options.held_out :]], options.max_keypoints, options.threads)
        return
    order = order[: min(options.most, len(order) - options.held_out)]
    pairs = orientation_pairs([paths[i] for i in order], seed=options.seed)
    say(f"{len(pairs)} pairs of patches from {len(order)} photographs")
    notes = about(
        "lift-orientation",
        options,
        pairs=len(pairs),
        photographs=len(order),
        descriptor="HardNet trained by tiepoints (Apache-2.0)",
    )
    network, steps = train_orientation(pairs, shipped_hardnet(), minutes=options.minutes, seed=options.seed, log=say)
    save_patch_model(network, options.out, notes | {"steps": steps})
    say(f"{steps} steps; wrote {options.out}")


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
        say(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in means.items()))


if __name__ == "__main__":
    main()
