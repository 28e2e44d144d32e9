"""What each loss of MD-Net buys: equal short trainings with one loss switched off, judged on the same pairs.

    python tools/ablation.py PHOTOGRAPHS OUT [FOLDER IN HPATCHES' LAYOUT ...] --steps 600 --seeds 1

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
from tiepoints.training.objective import LOSSES, Objective
from tiepoints.training.recipe import Recipe
from tiepoints.training.warps import Warps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--crop", type=int, default=128)
    arguments = parser.parse_args()
    photographs = find_images([arguments.photographs])
    variants = {"all losses": {}} | {f"without {name}": {name: 0.0} for name in LOSSES}
    print("| losses | seeds | synthetic MMA@1 | MMA@3 | MS@3 | planar MMA@1 | MMA@3 | MS@3 | cost | overlap |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for title, changes in variants.items():
        found = []
        for seed in range(arguments.seeds):
            out = arguments.out / f"{title.replace(' ', '-')}-{seed}"
            if not (out / "figures.json").exists():
                recipe = Recipe(objective=replace(Objective(), **changes), warps=Warps(size=arguments.crop), seed=seed)

                def keep(progress: Progress, out: Path = out) -> None:
                    if progress.figures:
                        figures: dict[str, dict[str, float]] = dict(progress.figures)
                        figures["sets"] = {"overlap": overlap(out / "best.onnx", photographs[:20])}
                        (out / "figures.json").write_text(json.dumps(figures))

                train(
                    photographs, out, recipe, steps=arguments.steps, resume=True, development=arguments.folders,
                    benchmark_minutes=1e6, report=keep,
                )  # fmt: skip
            found.append(json.loads((out / "figures.json").read_text()))
        columns = [(name, key) for name in ("synthetic", "planar") for key in ("mma_1", "mma_3", "ms_3")]
        columns += [("synthetic", "cost"), ("sets", "overlap")]
        cells = [_cell([f[name][key] for f in found if name in f]) for name, key in columns]
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
    return f"{np.mean(values):.3f}{spread}".replace("0.", ".", 1)


if __name__ == "__main__":
    main()
