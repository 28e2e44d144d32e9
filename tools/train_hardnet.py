"""Train HardNet on patches of photographs, and write the model that comes with tiepoints.

    python tools/train_hardnet.py PHOTOGRAPHS src/tiepoints/weights/hardnet.onnx --minutes 60 --teacher HardTFeat.pth

The photographs are warped; patches are those of the keypoints that SIFT finds in both views. With --teacher, the
descriptors also learn to be HardTFeat's in the first half. These are not the authors' weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from trainers import about, options_of, parsed, say

from tiepoints.extraction.torch.base import build
from tiepoints.extraction.torch.patches import HardNet
from tiepoints.images import find_images
from tiepoints.training.hardnet import patch_pairs, save_hardnet, train_hardnet


def main() -> None:
    parser = options_of(__doc__, minutes=60)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--most", type=int, default=450, help="take so many of the photographs")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--teacher", type=Path, help="HardTFeat.pth of its authors")
    parser.add_argument("--bfloat16", action="store_true", help="faster on CPUs with AVX-512 BF16 or AMX")
    options = parsed(parser)
    paths = find_images([options.photographs])
    order = np.random.default_rng(options.seed).permutation(len(paths))[: options.most]
    pairs = patch_pairs([paths[i] for i in order], seed=options.seed)
    say(f"{len(pairs)} pairs of patches from {len(order)} photographs")
    teacher = (
        None if options.teacher is None else build("patches", "hardtfeat", options.teacher, "cpu", name="hardtfeat")
    )
    notes = about(
        "hardnet",
        options,
        pairs=len(pairs),
        photographs=len(order),
        batch=options.batch,
        teacher="" if teacher is None else "HardTFeat (MIT)",
    )
    network, steps = train_hardnet(
        pairs,
        HardNet(),
        minutes=options.minutes,
        batch=options.batch,
        teacher=teacher,
        bfloat16=options.bfloat16,
        seed=options.seed,
        log=say,
        keep=lambda so_far, _: save_hardnet(so_far, options.out, notes | {"finished": False}),
    )
    save_hardnet(network, options.out, notes | {"finished": True, "steps": steps})
    say(f"{steps} steps; wrote {options.out}")


if __name__ == "__main__":
    main()
