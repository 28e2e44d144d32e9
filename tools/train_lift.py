"""Train a part of LIFT, write the model that comes with tiepoints, and judge them.

    python tools/train_lift.py descriptor PHOTOGRAPHS --minutes 30 --bfloat16 --out lift-descriptor.onnx
    python tools/train_lift.py orientation PHOTOGRAPHS MORE --out lift-orientation.onnx
    python tools/train_lift.py detector PHOTOGRAPHS MORE --out lift-detector.onnx
    python tools/train_lift.py judge PHOTOGRAPHS MORE

Models that come with tiepoints lie in src/tiepoints/weights. The orientation estimator learns by the HardNet that comes
with tiepoints, the others need no other model. `judge` trains nothing: it compares the models that come with tiepoints
with SIFT and OriNet, on warped pairs of photographs that no training sees. These are not the authors' weights.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
from trainers import about, options_of, parsed, say

import tiepoints as tp
from tiepoints.images import find_images, read, resize_to
from tiepoints.training.hardnet import patch_pairs, train_hardnet
from tiepoints.training.judges import planar_figures
from tiepoints.training.keypoint_pairs import warped_views
from tiepoints.training.lift import Descriptor, orientation_pairs, save_descriptor, train_orientation
from tiepoints.training.lift_detector import detector_pairs, save_detector, train_detector
from tiepoints.training.patch_models import save_patch_model, shipped_hardnet

SIFT = {"detector": {"contrast_threshold": 0.01}}
METHODS = {
    "sift+hardnet": SIFT,
    "sift+lift-orientation+hardnet": SIFT,
    "sift+orinet+hardnet": SIFT,
    "sift+lift-descriptor": SIFT,
    "lift-detector+lift-orientation+hardnet": {},
    "lift": {},
}


def main() -> None:
    parser = options_of(__doc__, minutes=3)
    parser.add_argument("what", choices=["descriptor", "orientation", "detector", "judge"])
    parser.add_argument("photographs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, help="the model; default lift-WHAT.onnx")
    parser.add_argument("--bfloat16", action="store_true", help="descriptor: faster on CPUs with AVX-512 BF16 or AMX")
    parser.add_argument("--each", type=int, default=2, help="detector: pairs of views of a photograph")
    parser.add_argument("--most", type=int, default=180, help="take so many of the photographs")
    parser.add_argument("--held-out", type=int, default=8, help="so many others judge")
    parser.add_argument("--max-keypoints", type=int, default=512, help="when judging")
    options = parsed(parser)
    paths = find_images(options.photographs)
    order = np.random.default_rng(options.seed).permutation(len(paths))
    if options.what == "judge":
        judge([paths[i] for i in order[-options.held_out :]], options.max_keypoints, options.threads)
        return
    order = order[: min(options.most, len(order) - options.held_out)]
    options.out = options.out or Path(f"lift-{options.what}.onnx")
    train = {"descriptor": descriptor, "orientation": orientation, "detector": detector}[options.what]
    say(f"{len(order)} photographs")
    steps = train([paths[i] for i in order], options)
    say(f"{steps} steps; wrote {options.out}")


def descriptor(paths: list[Path], options: Namespace) -> int:
    """Train and write the descriptor."""
    pairs = patch_pairs(paths, side=Descriptor.side, seed=options.seed)
    notes = about("lift-descriptor", options, pairs=len(pairs), photographs=len(paths), teacher="none")
    network, steps = train_hardnet(
        pairs,
        Descriptor(),
        minutes=options.minutes,
        batch=128,
        bfloat16=options.bfloat16,
        seed=options.seed,
        log=say,
        keep=lambda so_far, _: save_descriptor(so_far, options.out, notes | {"finished": False}),
    )
    save_descriptor(network, options.out, notes | {"finished": True, "steps": steps})
    return steps


def orientation(paths: list[Path], options: Namespace) -> int:
    """Train and write the orientation estimator."""
    pairs = orientation_pairs(paths, seed=options.seed)
    notes = about(
        "lift-orientation",
        options,
        pairs=len(pairs),
        photographs=len(paths),
        descriptor="HardNet trained by tiepoints (Apache-2.0)",
    )
    network, steps = train_orientation(pairs, shipped_hardnet(), minutes=options.minutes, seed=options.seed, log=say)
    save_patch_model(network, options.out, notes | {"steps": steps})
    return steps


def detector(paths: list[Path], options: Namespace) -> int:
    """Train and write the detector."""
    pairs = detector_pairs(paths, each=options.each, seed=options.seed)
    notes = about("lift-detector", options, pairs=len(pairs), photographs=len(paths), teacher="none")
    network, steps = train_detector(pairs, minutes=options.minutes, seed=options.seed, log=say)
    save_detector(network, options.out, notes | {"steps": steps})
    return steps


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
