"""What a Ray cluster of four workers on this machine costs beside two processes of the local engine.

    python tools/ray_overhead.py PHOTOGRAPHS [--images 200] [--runs 3]

The same photographs are extracted, matched with the five that follow them, and verified. Each run is a process of its
own with an empty store; runs alternate, and ratios are those of neighbours in time. Ray is connected before the clock
starts, its workers are not. Core time is what the workers, the caller and Ray's own processes compute: on a machine
that does other things too, four workers get a larger share of it than two, and the wall clock then flatters them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from load_test import make_views

from tiepoints.benchmarks.timing import ratio

STAGES = ("extraction", "matching", "verification")


def core_seconds() -> float:
    """User and system time of this process and of all below it, also of those that have ended and were waited for."""
    below: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            below.setdefault(int(fields[1]), []).append(int(folder.name))
            ticks[int(folder.name)] = sum(map(int, fields[11:15]))
    family, rest = [], [os.getpid()]
    while rest:
        family.append(rest.pop())
        rest += below.get(family[-1], [])
    return sum(ticks[one] for one in family if one in ticks) / os.sysconf("SC_CLK_TCK")


def measure(photos: str, folder: str, kind: str, workers: str, size: str) -> None:
    """One run, in a process of its own."""
    from tiepoints.collection import Collection, Engine, Extract, Match, Processes, Ray, Store, Verify, run, sequential

    engine: Engine
    if kind == "ray":
        import ray

        ray.init(num_cpus=int(workers), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        time.sleep(3)  # it starts some workers by itself
        engine = Ray()
    else:
        engine = Processes(int(workers), own_shards=True)
    clock, core = [time.perf_counter()], [core_seconds()]

    def lap() -> None:
        while kind != "ray" and any(one.is_alive() for one in multiprocessing.active_children()):
            time.sleep(0.01)  # until their time is known
        clock.append(time.perf_counter())
        core.append(core_seconds())

    with Store(folder) as store:
        given = Collection.from_folder(photos)
        features = run(Extract("mdnet", max_keypoints=1024, max_size=int(size)), given, store, engine=engine)
        lap()
        matches = run(Match(), sequential(given, 5), store, features, engine=engine)
        lap()
        views = run(Verify(), matches, store, features, engine=engine)
        lap()
    assert len(views) == len(matches) > len(features) == len(given)
    told = {"wall": [b - a for a, b in pairwise(clock)]}
    print(json.dumps(told | {"core": [b - a for a, b in pairwise(core)]}))


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    every = sorted(p for p in options.photographs.iterdir() if p.suffix.lower() in (".jpg", ".png"))
    engines = {"2 processes": ("processes", "2"), "Ray, 4 workers": ("ray", "4")}
    runs: dict[str, list[dict[str, list[float]]]] = {name: [] for name in engines}
    with tempfile.TemporaryDirectory() as temporary:
        photos = Path(temporary) / "photos"
        make_views(
            every[:: max(1, len(every) * 10 // options.images)][: options.images // 10], photos, 10, options.size
        )
        for number in range(options.runs):
            for name, (kind, workers) in engines.items():
                folder = str(Path(temporary) / f"{kind}-{number}")
                command = [sys.executable, __file__, "--measure", str(photos), folder, kind, workers, str(options.size)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    print(f"| engine | {' | '.join(f'{stage}, core s' for stage in STAGES)} | all, core s | ratio | all, s | ratio |")
    print("|---" * 8 + "|")
    sums = {
        name: {what: [sum(one[what]) for one in found] for what in ("core", "wall")} for name, found in runs.items()
    }
    peer = sums["2 processes"]
    for name, found in runs.items():
        parts = [statistics.median(one["core"][k] for one in found) for k in range(len(STAGES))]
        cells = [f"{part:.1f}" for part in parts]
        for what in ("core", "wall"):
            cells += [f"{statistics.median(sums[name][what]):.1f}", f"{ratio(sums[name][what], peer[what]):.2f}"]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
