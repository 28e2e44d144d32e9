"""A thousand photographs: throughput and memory over time, and whether runs that were killed end like one that was not.

    python tools/load_test.py PHOTOGRAPHS [--scenes 100] [--views 10] [--size 320] [--kills 10]

The collection is made of warped and cropped views of some photographs. Work is extraction, pairs by retrieval,
matching and verification, and two HDF5 files. It is done once undisturbed, then by a process that is ended by SIGKILL
at random moments and started again. Both have to write the same, byte for byte. Memory is that of the
process, private pages only, in each tenth of the time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

FILES = ("features.h5", "matches.h5")


def make_views(photographs: list[Path], folder: Path, views: int, size: int) -> None:
    """So many crops of each photograph, turned, tilted and brightened a little, of size x 3/4 size pixels."""
    folder.mkdir(parents=True)
    for number, path in enumerate(photographs):
        rng = np.random.default_rng(number)
        image = cv2.imread(str(path))
        for view in range(views):
            height, width = image.shape[:2]
            part = rng.uniform(0.6, 0.9) * min(width / 4, height / 3) * np.array([4, 3])
            corner = rng.uniform(0, 1, 2) * ([width, height] - part)
            source = corner + part * [[0, 0], [1, 0], [1, 1], [0, 1]] + rng.normal(0, 0.03, (4, 2)) * part
            target = np.array([size, size * 3 // 4]) * [[0, 0], [1, 0], [1, 1], [0, 1]]
            warp = cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32))
            warped = cv2.warpPerspective(image, warp, (size, size * 3 // 4), flags=cv2.INTER_AREA)
            bright = cv2.convertScaleAbs(warped, alpha=rng.uniform(0.8, 1.2), beta=rng.uniform(-10, 10))
            cv2.imwrite(str(folder / f"{number:04d}_{view:02d}.jpg"), bright, [cv2.IMWRITE_JPEG_QUALITY, 90])


def work(photos: str, out: str, keypoints: str, top: str) -> None:
    """In a process of its own; says when each stage began, and how many items it has."""
    import tiepoints as tp
    from tiepoints.collection import Collection, Store, export_features, export_matches
    from tiepoints.tasks import verified_pairs

    began: dict[str, tuple[float, int]] = {}

    def told(what: str, done: int, every: int) -> None:
        began.setdefault(what, (time.perf_counter(), every))

    folder = Path(out)
    with Store(folder / "store") as store:
        found = verified_pairs(
            Collection.from_folder(photos), store, tp.load("mdnet", max_keypoints=int(keypoints)), pairs="retrieval",
            top=int(top), progress=told,
        )  # fmt: skip
        began["writing"] = time.perf_counter(), 1
        export_features(folder / FILES[0], found.features)
        export_matches(folder / FILES[1], found.views, found.features)
    ends = [start for start, _ in began.values()][1:] + [time.perf_counter()]
    stages = {what: (end - start, every) for (what, (start, every)), end in zip(began.items(), ends, strict=True)}
    verified = sum(bool(view) for view in found.views.values())
    print(json.dumps({"stages": stages, "failed": len(found.failed), "verified": verified}))


def private_bytes(process: int) -> int:
    """Memory that only this process has; files that it maps are the system's."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def digest(folder: Path) -> list[str]:
    """Of all that the files hold; HDF5 also writes the time into them."""
    digests = []
    for name in FILES:
        found = hashlib.sha256()

        def add(path: str, item: h5py.Group | h5py.Dataset, found: Any = found) -> None:
            found.update(path.encode())
            values = [item[()]] if isinstance(item, h5py.Dataset) else []
            for value in [*values, *(item.attrs[key] for key in sorted(item.attrs))]:
                array = np.asarray(value)
                found.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())

        with h5py.File(folder / name) as file:
            file.visititems(add)
        digests.append(found.hexdigest())
    return digests


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--views", type=int, default=10)
    parser.add_argument("--size", type=int, default=320, help="long edge of a view, pixels")
    parser.add_argument("--keypoints", type=int, default=512)
    parser.add_argument("--top", type=int, default=5, help="pairs of each photograph by retrieval")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    every = sorted(p for p in options.photographs.iterdir() if p.suffix.lower() in (".jpg", ".png"))
    with tempfile.TemporaryDirectory() as temporary:
        photos, undisturbed, killed = (Path(temporary) / name for name in ("photos", "undisturbed", "killed"))
        make_views(rng.sample(every, min(options.scenes, len(every))), photos, options.views, options.size)
        command = [sys.executable, __file__, "--work", str(photos)]
        rest = [str(options.keypoints), str(options.top)]

        begun, memory = time.perf_counter(), []
        process = subprocess.Popen([*command, str(undisturbed), *rest], stdout=subprocess.PIPE, text=True)
        while process.poll() is None:
            memory.append(private_bytes(process.pid))
            time.sleep(0.2)
        whole = time.perf_counter() - begun
        said = json.loads(process.communicate()[0].splitlines()[-1])
        for what, (seconds, items) in said["stages"].items():
            print(f"{what:18s} {items:6d} items in {seconds:7.1f} s, {items / max(seconds, 1e-9):7.1f} a second")
        print(f"{said['verified']} pairs verified, {said['failed']} failed, {whole:.1f} s in all")
        tenths = np.array_split(np.array(memory) / 1e6, 10)
        print("memory in each tenth of the time, largest, MB:", " ".join(f"{part.max():.0f}" for part in tenths))

        moments = []
        for _ in range(options.kills):
            process = subprocess.Popen([*command, str(killed), *rest], stdout=subprocess.DEVNULL)
            wait = rng.uniform(0, 2 * whole / options.kills)
            try:
                process.wait(wait)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                moments.append(wait)
        print(f"killed {len(moments)} times, after {', '.join(f'{moment:.1f}' for moment in moments)} s")
        subprocess.run([*command, str(killed), *rest], check=True, stdout=subprocess.DEVNULL)
        same = digest(undisturbed) == digest(killed)
        print(f"{' and '.join(FILES)}: {'equal, byte for byte' if same else 'DIFFERENT'}")
    if not same or len(moments) < options.kills:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
