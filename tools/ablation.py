"""What each loss of MD-Net buys: equal short trainings with one loss switched off, judged on the same pairs.

    python tools/ablation.py PHOTOGRAPHS OUT [FOLDER ...] --teacher aliked-n16 --steps 600 --seeds 3

Folders are those of `tiepoints train --dev`: planar and wide pairs, poses, other light. Photographs and the teacher's
values are shared by all trainings. Losses that need a teacher are left out without one.

A training that is there already is not repeated. Prints the table of docs/training.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

import tiepoints
from tiepoints.images import find_images
from tiepoints.training.loop import Progress, train
from tiepoints.training.network import SIZES
from tiepoints.training.objective import LOSSES, OF_TEACHER, Objective
from tiepoints.training.recipe import Recipe
from tiepoints.training.warps import Warps

COLUMNS = {
    ("synthetic", "mma_1"): "synthetic MMA@1", ("synthetic", "mma_3"): "MMA@3", ("synthetic", "ms_3"): "MS@3",
    ("planar", "mma_1"): "planar MMA@1", ("planar", "mma_3"): "MMA@3", ("planar", "ms_3"): "MS@3",
    ("wide", "maa"): "wide mAA", ("pose", "maa_10"): "pose mAA@10", ("pose", "precision"): "precision",
    ("static", "mma_3"): "other light MMA@3", ("synthetic", "cost"): "cost", ("sets", "overlap"): "overlap",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--teacher", action="append", default=[])
    parser.add_argument("--losses", nargs="*", choices=LOSSES, help="Which ones are switched off; default: each.")
    parser.add_argument("--from", dest="start", type=Path, help="Begin with these weights instead of from nothing.")
    arguments = parser.parse_args()
    photographs = find_images([arguments.photographs])
    losses = arguments.losses
    if losses is None:
        losses = [name for name in LOSSES if arguments.teacher or name not in OF_TEACHER]
    variants = {"all losses": {}} | {f"without {name}": {name: 0.0} for name in losses}
    print(f"| losses | seeds | {' | '.join(COLUMNS.values())} |")
    print("|---" * (2 + len(COLUMNS)) + "|")
    for title, changes in variants.items():
        found = []
        for seed in range(arguments.seeds):
            out = arguments.out / f"{title.replace(' ', '-')}-{seed}"
            if not (out / "figures.json").exists():
                recipe = Recipe(
                    network=replace(SIZES["mdnet"], sets=(2,)),
                    objective=replace(Objective(), **changes),
                    warps=Warps(size=arguments.crop, strong=0.4 if arguments.teacher else 0.0),
                    teachers=tuple(arguments.teacher),
                    seed=seed,
                )

                def keep(progress: Progress, out: Path = out) -> None:
                    if progress.figures:
                        figures: dict[str, dict[str, float]] = dict(progress.figures)
                        figures["sets"] = {"overlap": overlap(out / "best.onnx", photographs[:20])}
                        (out / "figures.json").write_text(json.dumps(figures))

                train(
                    photographs, out, recipe, steps=arguments.steps, resume=True, development=arguments.folders,
                    benchmark_minutes=1e6, report=keep, start=arguments.start,
                )  # fmt: skip
            found.append(json.loads((out / "figures.json").read_text()))
        cells = [_cell([f[name][key] for f in found if name in f]) for name, key in COLUMNS]
        print(f"| {title} | {len(found)} | {' | '.join(cells)} |", flush=True)


def overlap(model: Path, photographs: list[Path]) -> float:
    """The share of the keypoints within 2 px of one of another set, when nothing is suppressed across the sets."""
    extractor = tiepoints.load("mdnet", weights=model, nms_radius_across=0)
    near, count = 0, 0
    for photograph in photographs:
        features = extractor(tiepoints.read(photograph))
        distance = np.linalg.norm(features.keypoints[:, None] - features.keypoints[None], axis=2)
        distance[features.sets[:, None] == features.sets[None]] = np.inf
        near += np.count_nonzero(distance.min(axis=1) <= 2)
        count += len(features)
    return near / count


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}".replace("0.", ".")  # all figures are at most 1


if __name__ == "__main__":
    main()
