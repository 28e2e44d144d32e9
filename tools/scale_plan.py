"""What a large collection costs: measures an image and a pair on this machine, and multiplies. For docs/scale.md.

python tools/scale_plan.py PHOTOS [--max-size 640] [--keypoints 2048] [--images 1e6 1e8] [--pairs-per-image 20]
"""

from __future__ import annotations

import argparse
import tempfile
import time

from tiepoints.collection import Collection, Extract, Match, Results, Store, Verify, run, sequential
from tiepoints.threads import cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--max-size", type=int, default=640)
    parser.add_argument("--keypoints", type=int, default=2048)
    parser.add_argument("--images", type=float, nargs="+", default=[1e6, 1e8])
    parser.add_argument("--pairs-per-image", type=float, default=20)
    parser.add_argument("--cores", type=int, nargs="+", default=[64, 6400])
    wanted = parser.parse_args()
    photos = Collection.from_folder(wanted.photos)
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
        steps = Extract("mdnet", max_keypoints=wanted.keypoints, max_size=wanted.max_size), Match(), Verify()
        costs = []

        def measured(what: str, made: Results, started: float) -> Results:
            seconds = (time.process_time() - started) / made.computed  # of a core, also on a busy machine
            size = sum(len(store.record(made._stage, made.key(name))) for name in made) / len(made)
            costs.append((what, seconds, size))
            return made

        first = list(photos)[:1]
        run(steps[0], photos.select(first))  # the network is loaded once
        start = time.process_time()
        features = measured("image: extract", run(steps[0], photos, store), start)
        start = time.process_time()
        matches = measured("pair: match", run(steps[1], sequential(photos, 8), store, features), start)
        start = time.process_time()
        measured("pair: verify", run(steps[2], matches, store, features), start)
    print(f"{len(photos)} photographs, {len(matches)} pairs, {cores()} cores")
    for what, seconds, size in costs:
        print(f"{what:16s} {1000 * seconds:8.1f} ms of a core {size / 1000:8.1f} kB")
    for images, machines in zip(wanted.images, wanted.cores, strict=True):
        print(f"\n{images:,.0f} images, {wanted.pairs_per_image:g} pairs an image, {machines} cores")
        for what, seconds, size in costs:
            items = images * (1 if what.startswith("image") else wanted.pairs_per_image)
            print(f"{what:16s} {items * seconds / machines / 3600:10.1f} h {items * size / 1e12:8.2f} TB")


if __name__ == "__main__":
    main()
