"""How long a folder of photographs takes until it is a verified database: `tiepoints match FOLDER` beside COLMAP's own.

    python tools/folder.py data/lund_door/images --runs 3

Each run begins with nothing, in processes of its own, and includes their start; runs alternate. COLMAP: pycolmap's
SIFT and exhaustive matching with its verification, as they are by default. Ours: the command as it is by default. The
core time is what all threads computed: other work on the machine counts little in it. Both databases are mapped by
COLMAP at the end, outside of the times, for the number of photographs that are registered.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COLMAP = """
import sys, pycolmap
pycolmap.logging.minloglevel = 2
pycolmap.extract_features(sys.argv[2], sys.argv[1])
pycolmap.match_exhaustive(sys.argv[2])
"""
MAPPED = """
import sys, pycolmap
pycolmap.logging.minloglevel = 2
models = pycolmap.incremental_mapping(sys.argv[2], sys.argv[1], sys.argv[3])
print(max((model.num_reg_images() for model in models.values()), default=0))
"""


def timed(command: list[str]) -> tuple[float, float]:
    """Wall and core time of a command, in seconds."""
    began, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    core = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began, core


def main() -> None:
    """Print both times of each run, the ratios, and what is registered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    ratios: dict[str, list[float]] = {"time": [], "core time": []}
    for run in range(given.runs):
        with tempfile.TemporaryDirectory() as out:
            ours, theirs, folder = f"{out}/ours.db", f"{out}/colmap.db", str(given.folder)
            wall, core = timed([sys.executable, "-m", "tiepoints", "match", folder, "--out", ours])
            wall_colmap, core_colmap = timed([sys.executable, "-c", COLMAP, folder, theirs])
            ratios["time"].append(wall / wall_colmap)
            ratios["core time"].append(core / core_colmap)
            print(f"ours {wall:.1f} s ({core:.1f} of core time), COLMAP {wall_colmap:.1f} s ({core_colmap:.1f})")
            if run == given.runs - 1:
                for name, database in (("ours", ours), ("COLMAP", theirs)):
                    command = [sys.executable, "-c", MAPPED, folder, database, f"{out}/{name}"]
                    Path(f"{out}/{name}").mkdir()
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    every = sum(path.is_file() for path in given.folder.iterdir())
                    print(f"{name}: {done.stdout.split()[-1]} of {every} photographs registered")
    for name, values in ratios.items():
        print(f"ratio of {name}: {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
