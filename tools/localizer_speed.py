"""How long a query takes in a map of 500 images, and how much memory.

    OMP_NUM_THREADS=2 python tools/localizer_speed.py data/lund_door PHOTOGRAPHS [--images 500] [--runs 3]

The map is one of the scene, without every third photograph, together with other photographs whose keypoints show points
that were drawn at random. Queries are the scene's remaining photographs, and photographs of something else, whose
RANSAC draws all of its samples. Each is timed by the wall clock and by the cores; the parts are core time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from evaluate_tasks import collection_of

import tiepoints as tp
from tiepoints.collection import Collection, Extract, run
from tiepoints.collection.retrieval import nearest_images
from tiepoints.datasets.scenes import read_scene
from tiepoints.tasks import Localizer, build_map
from tiepoints.tasks.alignment import no_patches
from tiepoints.tasks.maps import Map, write_version
from tiepoints.threads import cores


def enlarged(place: Map, others: list[tp.Features], folder: Path, seed: int = 0) -> Map:
    """The map with more images: as many of their keypoints as its own images have, each with a point of its own."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = dict(place.arrays())
    each = int(np.diff(arrays["offsets"]).mean())
    parts = {name: [arrays[name]] for name in arrays if name != "words"}
    low, high = place.xyz.min(axis=0), place.xyz.max(axis=0)
    points = len(place.xyz)
    for found in others:
        rows = rng.permutation(len(found))[:each]
        parts["descriptors"].append(found.descriptors[rows])
        parts["points"].append(np.arange(points, points + len(rows), dtype=np.int32))
        parts["xyz"].append(rng.uniform(low, high, (len(rows), 3)))
        parts["vectors"].append(place.vocabulary(found)[None])
        parts["offsets"].append(parts["offsets"][-1][-1:] + len(rows))
        if place.patches is not None:
            for name, values in no_patches(len(rows))._asdict().items():
                parts[name].append(values)
        if "sets" in parts:
            parts["sets"].append(found.sets[rows])
        points += len(rows)
    content = place.content()
    content["names"] = [*content["names"], *(f"other-{number}" for number in range(len(others)))]
    joined = {name: np.concatenate(several) for name, several in parts.items()}
    return write_version(folder, content, joined | {"words": arrays["words"]})


def memory() -> tuple[float, float]:
    """MB that only this process has, and MB of files that it has mapped and touched."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(lines[name].split()[0]) / 1000 for name in ("RssAnon", "RssFile"))  # type: ignore[return-value]


def timed(call: Any, runs: int) -> tuple[float, float, Any]:
    """Medians of the wall clock's and the cores' seconds, and the last result."""
    wall, core = [], []
    for _ in range(runs):
        begun, worked = time.perf_counter(), time.process_time()
        result = call()
        wall.append(time.perf_counter() - begun)
        core.append(time.process_time() - worked)
    return statistics.median(wall), statistics.median(core), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("-e", "--extractor", default="mdnet")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    photographs, _ = collection_of(read_scene(options.scene))
    queries = list(photographs)[1::3]
    rest = photographs.select(name for name in photographs if name not in queries)
    extractor = tp.load(options.extractor, max_keypoints=2048)
    every = sorted(p for p in options.photographs.iterdir() if p.suffix.lower() in (".jpg", ".png"))
    every = every[:: max(1, len(every) // options.images)][: options.images - len(rest) + 5]
    with tempfile.TemporaryDirectory() as temporary:
        build_map(rest, Path(temporary) / "small", extractor=extractor)
        others = run(Extract(extractor), Collection.from_paths({p.name: p for p in every[5:]}))
        place = Localizer(Path(temporary) / "small").map
        large = enlarged(place, list(others.values()), Path(temporary) / "large")
        del others
        before = memory()
        localizer, without = Localizer(large), Localizer(large, align=False)
        print(f"{large}, {cores()} threads; of the scene {len(place)} images")
        print("| query | localized | wall, s | core, s | extraction | retrieval | matching | pose | alignment |")
        print("|---" * 9 + "|")
        for name, image, camera in [
            *((name, photographs[name].read(), photographs[name].camera) for name in queries),
            *((path.name, tp.read(path), None) for path in every[:5]),
        ]:
            wall, core, found = timed(lambda i=image, c=camera: localizer(i, c), options.runs)
            _, plain, _ = timed(lambda i=image, c=camera: without(i, c), options.runs)
            _, extraction, features = timed(lambda i=image: localizer.extractor(i), options.runs)
            vector = localizer.map.vocabulary(features)
            held, top, words = localizer.map.vectors, localizer.top, localizer.map.vocabulary
            nearest = nearest_images(vector[None], held, top, words)[0][0]
            _, search, _ = timed(
                lambda f=features, h=held, t=top, w=words: nearest_images(w(f)[None], h, t, w),
                options.runs,
            )
            _, matching, _ = timed(lambda f=features, n=nearest: localizer._correspondences(f, n), options.runs)
            parts = [extraction, search, matching, plain - extraction - search - matching, core - plain]
            print(
                f"| {name} | {'yes' if found else 'no'} | {wall:.2f} | {core:.2f} | "
                f"{' | '.join(f'{max(part, 0):.3f}' for part in parts)} |",
                flush=True,
            )
        after = memory()
        print(f"memory for queries: {after[0] - before[0]:.0f} MB of its own, {after[1]:.0f} MB of files mapped")


if __name__ == "__main__":
    main()
