"""Teach a network the mean of itself, or of a larger one, over many views of each image: the end of a training.

    python tools/distil.py PHOTOGRAPHS runs/mine/best.onnx OUT.onnx --minutes 40
    python tools/distil.py PHOTOGRAPHS mdnet-small OUT.onnx --teacher mdnet --learning-rate 1e-3
    python tools/distil.py PHOTOGRAPHS NEW.onnx OUT.onnx --teacher OLD.onnx --heads-of-many --learning-rate 2e-3
    python tools/distil.py PHOTOGRAPHS UPRIGHT.onnx OUT.onnx --rotations --crop 256 --batch 16 --learning-rate 1.2e-3

PHOTOGRAPHS is a folder. A network is a model file, a checkpoint, or the name of a released one.
`tiepoints.training.distillation` says what happens, and `tiepoints.training.rotations` for a network whose descriptors
do not know those of the rotated image. OUT.onnx is written every three minutes; after an interruption begin again from
it with the same --teacher and --seed, and the minutes that are left.
"""

from __future__ import annotations

from pathlib import Path

import torch
from trainers import options_of, parsed, say

from tiepoints.images import find_images
from tiepoints.training.cache import ArrayCache
from tiepoints.training.distillation import distil
from tiepoints.training.export import read_network, save_model
from tiepoints.training.memory import keep_memory
from tiepoints.training.network import MDNet
from tiepoints.training.photographs import prepare, split
from tiepoints.training.rotations import learn_rotations


def main() -> None:
    parser = options_of(__doc__, minutes=40)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("start", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--teacher", type=Path, help="whose mean it learns; by default its own at the start")
    parser.add_argument(
        "--space", type=Path, help="of --rotations: whose descriptors those that are learned shall match"
    )
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--crop", type=int, default=192, help="edge of the crops, pixels")
    parser.add_argument("--batch", type=int, default=8)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--heads-of-many",
        action="store_true",
        help="only those of more than two sets learn, to say what the teacher's say",
    )
    kind.add_argument("--rotations", action="store_true", help="it learns the descriptors of the rotated image")
    parser.add_argument("--cache", type=Path, default=Path("training-cache"))
    options = parsed(parser)
    keep_memory()
    network, about = read_network(options.start)
    teacher, _ = read_network(options.teacher or options.start)
    found, wrong = prepare(
        find_images([options.photographs]), ArrayCache(options.cache, 40 * 2**30), torch.device("cpu")
    )
    for line in wrong:
        say(f"left out: {line}")
    learned, _ = split(found.paths)
    say(f"{len(learned)} photographs")

    def keep(average: MDNet, steps: int) -> None:
        save_model(average, options.out, about, half=True)

    same = {
        "minutes": options.minutes, "crop": options.crop, "batch": options.batch, "seed": options.seed,
        "learning_rate": options.learning_rate, "log": say, "keep": keep,
    }  # fmt: skip
    if options.rotations:
        space = None if options.space is None else read_network(options.space)[0]
        average, steps = learn_rotations(network, teacher, found.chosen(learned), space=space, **same)
    else:
        average, steps = distil(network, teacher, found.chosen(learned), heads_of_many=options.heads_of_many, **same)
    keep(average, steps)
    say(f"{steps} steps; wrote {options.out}")


if __name__ == "__main__":
    main()
