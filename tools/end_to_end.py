"""How long photographs take until they are a COLMAP model: `tiepoints reconstruct` beside COLMAP's own commands.

    python tools/end_to_end.py data/strecha/fountain-P11 data/lund_door --runs 3

Both get the folder of photographs, without their calibration, and as many keypoints. COLMAP: pycolmap's SIFT,
exhaustive matching with its own verification, incremental mapping. Each run is a process of its own that begins with
nothing; runs alternate, and ratios are those of neighbours in time. Core time is what all threads of a run computed:
other work on the machine counts little in it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from tiepoints.benchmarks.timing import ratio

COLUMNS = (
    "scene", "method", "registered", "points", "track length", "extraction, s", "matching, s", "mapping, s", "all, s",
    "ratio", "core time, s", "ratio",
)  # fmt: skip


def run_ours(images: str, out: str, keypoints: str, extractor: str) -> dict[str, Any]:
    """In a process of its own."""
    import tiepoints as tp
    from tiepoints.tasks import reconstruct

    began: dict[str, float] = {}

    def told(what: str, done: int, every: int) -> None:
        began.setdefault(what, time.perf_counter())

    made = reconstruct(images, out, extractor=tp.load(extractor, max_keypoints=int(keypoints)), progress=told)
    matching, mapping = began["matching"] - began["extracting"], began.get("mapping", time.perf_counter())
    parts = [matching, mapping - began["matching"], time.perf_counter() - mapping]
    return {"registered": made.registered, "points": made.points, "track": made.track_length, "parts": parts}


def run_colmap(images: str, out: str, keypoints: str, _: str) -> dict[str, Any]:
    """In a process of its own."""
    import pycolmap

    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    folder = Path(out)
    folder.mkdir(parents=True)
    clock = [time.perf_counter()]
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.sift.max_num_features = int(keypoints)
    pycolmap.extract_features(
        folder / "database.db", images, camera_mode=pycolmap.CameraMode.SINGLE, extraction_options=extraction,
        device=pycolmap.Device.cpu,
    )  # fmt: skip
    clock.append(time.perf_counter())
    pycolmap.match_exhaustive(folder / "database.db", device=pycolmap.Device.cpu)
    clock.append(time.perf_counter())
    options = pycolmap.IncrementalPipelineOptions()
    options.min_model_size = 3
    models = pycolmap.incremental_mapping(folder / "database.db", images, folder, options)
    clock.append(time.perf_counter())
    best = max(models.values(), key=lambda model: model.num_reg_images(), default=None)
    return {
        "registered": best.num_reg_images() if best else 0,
        "points": best.num_points3D() if best else 0,
        "track": best.compute_mean_track_length() if best else 0.0,
        "parts": [b - a for a, b in pairwise(clock)],
    }


def once(kind: str, images: Path, keypoints: int, extractor: str) -> dict[str, Any]:
    """One run from nothing, with the seconds of its whole process."""
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, __file__, f"--{kind}", str(images), f"{temporary}/out", str(keypoints), extractor]
        begun, worked = time.perf_counter(), core_seconds()
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds, core = time.perf_counter() - begun, core_seconds() - worked
    return json.loads(said.splitlines()[-1]) | {"seconds": seconds, "core": core}


def core_seconds() -> float:
    """What all processes that this one started and waited for have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    if len(sys.argv) == 6 and sys.argv[1] in ("--tiepoints", "--colmap"):
        run = run_ours if sys.argv[1] == "--tiepoints" else run_colmap
        print(json.dumps(run(*sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, nargs="+", help="folders of photographs, or folders with images/ in them")
    parser.add_argument("-e", "--extractor", default="mdnet")
    parser.add_argument("--keypoints", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for scene in options.scenes:
        images = scene / "images" if (scene / "images").is_dir() else scene
        runs: dict[str, list[dict[str, Any]]] = {"tiepoints": [], "colmap": []}
        for _ in range(options.runs):
            for kind, found in runs.items():
                found.append(once(kind, images, options.keypoints, options.extractor))
        peer, peer_core = ([one[what] for one in runs["colmap"]] for what in ("seconds", "core"))
        for kind, found in runs.items():
            times, core = ([one[what] for one in found] for what in ("seconds", "core"))
            parts = [statistics.median(one["parts"][k] for one in found) for k in range(3)]
            last = found[-1]
            print(
                f"| {scene.name} | {kind} | {last['registered']} | {last['points']} | {last['track']:.2f} | "
                f"{' | '.join(f'{part:.2f}' for part in parts)} | {statistics.median(times):.2f} | "
                f"{ratio(times, peer):.2f} | {statistics.median(core):.1f} | {ratio(core, peer_core):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
