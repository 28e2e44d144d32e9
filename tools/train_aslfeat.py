"""Train ASLFeat on warped photographs, and write the model that comes with tiepoints.

    python tools/train_aslfeat.py PHOTOGRAPHS src/tiepoints/weights/aslfeat.npz --minutes 80 --teacher aliked-n16

With --teacher, descriptors and scores also learn to be the teacher's; its values are computed once and kept in --cache.
These are not the authors' weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
from trainers import about, options_of, parsed, say

from tiepoints.extraction.torch.aslfeat import ASLFeat
from tiepoints.images import find_images
from tiepoints.training.aslfeat import begun, save_aslfeat, train_aslfeat
from tiepoints.training.cache import ArrayCache
from tiepoints.training.distributed import World
from tiepoints.training.memory import keep_memory
from tiepoints.training.pairs import Pairs
from tiepoints.training.photographs import prepare, split
from tiepoints.training.teacher import compute_targets, open_teacher
from tiepoints.training.warps import Warps


def main() -> None:
    parser = options_of(__doc__, minutes=80)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--crop", type=int, default=160, help="edge of the pairs, pixels")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--from", dest="start", type=Path, help="go on from this .npz")
    parser.add_argument("--teacher", help="an extractor with 128 numbers, such as aliked-n16")
    parser.add_argument("--cache", type=Path, default=Path("training-cache"))
    parser.add_argument("--bfloat16", action="store_true", help="faster on CPUs with AVX-512 BF16 or AMX")
    options = parsed(parser)
    keep_memory()
    here = World(0, 1, torch.device("cpu"))
    found, wrong = prepare(find_images([options.photographs]), ArrayCache(options.cache, 40 * 2**30), here.device)
    for line in wrong:
        say(f"left out: {line}")
    learned, _ = split(found.paths)
    photographs = found.chosen(learned)
    targets = None
    if options.teacher:
        targets = compute_targets(photographs, [open_teacher(options.teacher, here.device)], here, say=say)
        assert targets is not None
        targets.basis = torch.eye(128)
    warps = Warps(size=options.crop, strong=0.4 if targets is not None else 0.0)
    pairs = Pairs(photographs, warps, options.seed, targets)
    say(f"{len(photographs)} photographs")
    notes = about(
        "aslfeat",
        options,
        photographs=len(photographs),
        crop=options.crop,
        batch=options.batch,
        teacher=options.teacher or "",
    )

    def keep(network: ASLFeat, steps: int) -> None:
        save_aslfeat(network, options.out, notes | {"finished": False, "steps": steps})

    start = None
    if options.start is not None:
        start = begun()
        start.read(options.start)
    network, steps = train_aslfeat(
        pairs,
        minutes=options.minutes,
        start=start,
        batch=options.batch,
        learning_rate=options.learning_rate,
        bfloat16=options.bfloat16,
        log=say,
        keep=keep,
    )
    save_aslfeat(network, options.out, notes | {"finished": True, "steps": steps})
    say(f"{steps} steps; wrote {options.out}")


if __name__ == "__main__":
    main()
