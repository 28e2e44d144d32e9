"""Re-make the tables of docs/benchmarks.md; the prose around them stays as it is.

    python tools/page.py                              # every section, on the development sets of TIEPOINTS_DATA
    python tools/page.py --only hpatches --only wxbs  # some of them
    python tools/page.py -e rootsift -e mdnet         # with these extractors
    python tools/page.py --only poses -e xfeat        # the other rows of methods, poses, core, multiview stay

What was computed is kept in the store of `tiepoints bench`: a second run only writes. Times are always measured.
A section is what stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->` in the page, and a function below.
"""

from __future__ import annotations

import os

from tiepoints.threads import variables

for name, value in variables(2).items():
    os.environ.setdefault(name, value)  # before the libraries are loaded

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from sections import ROOT, method_table, remarks, share, told, with_kept, write_section

import tiepoints as tp
from tiepoints.benchmarks import Report, default_store, evaluate_hpatches, evaluate_speed, method
from tiepoints.benchmarks.timing import opencv_sift, scene
from tiepoints.benchmarks.writers import markdown_table
from tiepoints.collection import Collection, Extract, Processes, Step, Store, Threads, run
from tiepoints.extraction import is_ready
from tiepoints.geometry import homography_error
from tiepoints.matching import Nearest
from tiepoints.metrics.depth import CalibratedPose
from tiepoints.metrics.planar import share_within
from tiepoints.metrics.poses import mean_average_accuracy
from tiepoints.training.judges import find_judged, pose_figures

MDNET = ("mdnet", "mdnet:sets=1", "mdnet:sets=4", "mdnet:sets=8")  # without a number: 2 sets
SIFT = (
    "rootsift:contrast_threshold=0.01",
    "upright-rootsift",
)  # the threshold gives it as many keypoints as the others
EXTRACTORS = (*MDNET, *SIFT, "orb", "akaze")
# Where hundreds of bags are reconstructed, which takes its time.
IN_MODELS = ("mdnet", "mdnet:sets=4", *SIFT)
# One model or two of each method, the quick ones first.
_MORE = "detector={'contrast_threshold':0.01}"
QUICK = (
    *("mdnet", "mdnet-small", "mdnet-large", *SIFT, "surf", "orb", "akaze"),
    *("xfeat", "edgepoint2-t32", "edgepoint2-s64", "edgepoint2-e64"),
)
ALL = (
    *QUICK,
    *(f"sift+tfeat:{_MORE}", f"sift+hardtfeat:{_MORE}", f"sift+hardnet:{_MORE}", "keynet+hardtfeat"),
    *("superpoint", "alike-n", "aliked-t16", "aliked-n16", "aliked-n16rot", "disk", "aliked-n32", "aslfeat"),
    *("keynet+affnet+orinet+hardtfeat", f"sift+lift:{_MORE}", "lift", "r2d2-wasf-n16:runtime=onnx"),
)
# Of these, wide baselines as well.
WIDE = ("mdnet", *SIFT, "surf", "orb", "akaze", "xfeat", "edgepoint2-s64", f"sift+hardnet:{_MORE}", "aliked-n16")
# And poses, by the faster run-time; R2D2's pyramid of a whole photograph takes half a minute.
POSED = (
    *QUICK,
    *("aliked-n16", "aliked-t16", f"sift+hardnet:{_MORE}", "superpoint:runtime=onnx", "alike-n:runtime=onnx"),
    *("disk:runtime=onnx", "aslfeat", "lift", "keynet+hardtfeat", "r2d2-wasf-n16:runtime=onnx,max_size=640"),
)
# The sets with true cameras, and those where the scenes of tourists' and a phone's photographs are poses too.
CAMERAS = ("strecha", "lund_door", "temple_ring")
POSES = (*CAMERAS, "phone", "tourists")
# Networks' features match best without a ratio test there, or nearly so; SIFT's need one.
RATIOS = {"sift": 0.9, "rootsift": 0.9, "upright-rootsift": 0.9, "surf": 0.9, "orb": 0.8, "akaze": 0.8}
# MMA@3 on the same pairs by other code that ran the authors' networks and OpenCV's features.
ELSEWHERE = {
    "orb": 0.493, "rootsift": 0.429, "upright-rootsift": 0.330, "superpoint": 0.475, "xfeat": 0.395, "alike-n": 0.464,
    "aliked-t16": 0.497, "aliked-n16": 0.536, "disk": 0.557, "r2d2-wasf-n16": 0.533, "edgepoint2-e64": 0.530,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What the sections need to know."""

    data: Path
    store: Path
    wanted: tuple[str, ...]  # instead of the methods of each section
    jobs: int

    def of(self, usual: Sequence[str]) -> tuple[str, ...]:
        """The methods of a section: those that are wanted, else the usual ones that can be made here."""
        return self.wanted or tuple(ready_of(usual))


def planar(settings: Settings, profile: str, *sets: str, specs: Sequence[str] = ()) -> Report:
    roots = [settings.data / name for name in sets]
    specs = specs or settings.of(EXTRACTORS)
    return evaluate_hpatches(
        specs, roots, profile=profile, store=settings.store, engine=Threads(settings.jobs), progress=tell
    )


def hpatches(settings: Settings) -> str:
    """The development sequences of HPatches by the usual protocol, published figures beside them."""
    report = planar(settings, "d2net", "hpatches")
    return markdown_table(report.table) + remarks(report)


def profiles(settings: Settings) -> str:
    """The same pairs by the two other protocols."""
    parts = []
    for profile in ("aslfeat", "strek"):
        report = planar(settings, profile, "hpatches")
        own = [row for row in report.table.rows if row.group == "overall" and not row.source]
        table = type(report.table)(report.table.title, report.table.columns, tuple(own))
        parts.append(f"Protocol `{profile}`: {report.description}\n\n{markdown_table(table)}")
    return "\n".join(parts)


def others(settings: Settings) -> str:
    """All development pairs with a homography, and their parts."""
    report = planar(settings, "d2net", "hpatches", "oxford_affine", "homogr")
    own = tuple(row for row in report.table.rows if not row.source)
    return markdown_table(type(report.table)(report.table.title, report.table.columns, own))


def methods(settings: Settings) -> str:
    """Every method that is ready on this machine: HPatches' development sequences, and wide baselines for some."""
    specs = settings.of(ALL)
    report = planar(settings, "d2net", "hpatches", specs=specs)
    wxbs_of = {}
    if wide := [spec for spec in specs if spec in WIDE]:
        rows = planar(settings, "d2net", "wxbs", specs=wide).table.rows
        wxbs_of = {row.method: row.values["corr10"] for row in rows if row.group == "overall"}
    keys = ("mma1", "mma2", "mma3", "ms3", "rep3", "h1", "h3", "keypoints", "matches")
    titles = {column.key: column.title for column in report.table.columns}
    heads = [*(titles[key] for key in keys), "MMA@3, other code", "WxBS corr@10"]
    found = {}
    for row in report.table.rows:
        if row.group == "overall" and not row.source:
            numbers = [f"{row.values[key]:.0f}" if key in keys[-2:] else share(row.values[key]) for key in keys]
            numbers += [share(ELSEWHERE.get(row.method.partition(" ")[0])), share(wxbs_of.get(row.method))]
            found[row.method] = numbers
    return method_table("methods", heads, found, keys.index("mma3"), rising=False, keep=bool(settings.wanted))


def ready_of(several: Sequence[str]) -> list[str]:
    """Those that can be made here."""
    names = {metadata.name for metadata in tp.extractors() if is_ready(metadata)}
    found = [spec for spec in several if spec.partition(":")[0] in names]
    if left_out := ", ".join(spec for spec in several if spec not in found):
        print(f"left out, as weights, packages or an accepted licence are missing: {left_out}", file=sys.stderr)
    return found


class PosePair(Step):
    """The error of a pair's pose; see `pose_figures`."""

    packages = ("numpy", "poselib")

    def __init__(self, ratio: float | None) -> None:
        self.ratio = ratio

    def __call__(self, a: tp.Features, b: tp.Features, *cameras: CalibratedPose) -> dict[str, float]:
        return pose_figures(a, b, *cameras, Nearest(ratio=self.ratio))


def poses(settings: Settings) -> str:
    """mAA@10 of two-view poses with known calibration: the mean over the scenes, and each."""
    judged = find_judged([settings.data / name for name in POSES]).only("pose")
    names = [name.rpartition("/")[2] for name in judged.scenes]
    rows = {}
    with Store(settings.store) as store:
        for one in map(method, settings.of(POSED)):
            features = run(Extract(one.extractor), Collection.from_paths(judged.images), store)
            ratio = RATIOS.get(one.extractor.metadata.name.partition("+")[0])
            pairs = {
                (pair.a, pair.b): (features.reference(pair.a), features.reference(pair.b), *judged.cameras(pair))
                for pair in judged.pairs
            }
            found = run(PosePair(ratio), pairs, store, engine=Threads(settings.jobs))
            numbers = [
                mean_average_accuracy([found[p.a, p.b]["error"] for p in judged.pairs if p.group == scene])
                for scene in judged.scenes
            ]
            numbers.insert(0, statistics.mean(numbers))
            rows[one.label] = [str(ratio or "-"), *map(share, numbers)]
            print(one.label, *rows[one.label], file=sys.stderr, flush=True)
    return method_table("poses", ["ratio test", "mean", *names], rows, 1, rising=False, keep=bool(settings.wanted))


def core(settings: Settings) -> str:
    """Core times to extract, beside OpenCV's SIFT."""
    times = core_times(settings.of(ALL))
    rows = {name: [f"{value:.2g}"] for name, value in times.items()}
    return method_table("core", ["core time / SIFT's"], rows, 0, rising=True, keep=bool(settings.wanted))


def core_times(specs: Sequence[str], runs: int = 3) -> dict[str, float]:
    """Core time to extract, as a multiple of what OpenCV's SIFT takes, one thread, in turns; medians."""
    photograph, count = scene(tp.read(ROOT / "examples" / "desk_1.jpg"), (640, 480))[0], 2048
    peer = opencv_sift(photograph, count)
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    times = {}
    for one in map(method, specs):
        extractor = one.with_threads(1).extractor

        def extract(extractor: tp.Extractor = extractor) -> None:
            extractor(photograph)

        ratios = []
        for _ in range(1 + runs):  # the first one warms up
            ours, theirs = (core_time(what) for what in (extract, peer))
            ratios.append(ours / theirs)
        times[one.label] = statistics.median(ratios[1:])
    cv2.setNumThreads(before)
    return times


def core_time(what: Callable[[], object]) -> float:
    began = time.process_time()
    what()
    return time.process_time() - began


def wxbs(settings: Settings) -> str:
    """Wide baselines by marked correspondences."""
    report = planar(settings, "d2net", "wxbs")
    return markdown_table(report.table)


def independent(settings: Settings) -> str:
    """OpenCV's features on v_boat, our matching and errors, beside what others published of the same pairs."""
    root = settings.data / "hpatches"
    lines = [
        "| method | pair | keypoints | matches | published | precision @1, 3, 10 px | published |",
        "|" + "---|" * 7,
    ]
    with (root / "published_sift_orb.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["sequence"] == "v_boat"]
    for row in rows:
        second = root / "v_boat" / f"{row['baseline_idx']}.png"
        if not second.exists():
            continue
        a, b = (plain_opencv(row["method"], path) for path in (root / "v_boat" / "1.png", second))
        matches = tp.match(a, b, ratio=0.75, mutual=False)
        H = np.loadtxt(root / "v_boat" / f"H_1_{row['baseline_idx']}")
        ours = share_within(homography_error(H, *matches.points(a, b)))[[0, 2, 9]]
        theirs = [float(row[f"precision_at_{t}px"]) for t in (1, 3, 10)]
        same = (len(a), len(b)) == (int(row["num_kp1"]), int(row["num_kp2"]))
        cells = [
            row["method"].upper(),
            f"1-{row['baseline_idx']}",
            f"{len(a)}, {len(b)}{' (the same)' if same else ''}",
        ]
        cells += [str(len(matches)), row["num_matches"]]
        cells += [", ".join(f"{value:.3f}" for value in values) for values in (ours, theirs)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plain_opencv(name: str, path: Path) -> tp.Features:
    grey = tp.read(path, grey=True)
    detector = cv2.SIFT.create() if name == "sift" else cv2.ORB.create(nfeatures=2000)
    points, descriptors = detector.detectAndCompute(grey, None)
    if name == "sift":
        descriptors = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
    return tp.Features(np.array([p.pt for p in points]), descriptors, np.ones(len(points)), grey.shape[::-1])


def speed(settings: Settings) -> str:
    """Times beside OpenCV's SIFT and ORB on an example photograph."""
    report = evaluate_speed(
        settings.of(EXTRACTORS), photograph=tp.read(ROOT / "examples" / "desk_1.jpg"), runs=9, progress=tell
    )
    parts = [f"{table.title}:\n\n{markdown_table(table)}" for table in report.tables]
    return "\n".join(parts) + remarks(report)


def image_matching(settings: Settings, *, both: bool) -> Report:
    """Stereo, or both tasks, on the sets with true cameras."""
    from tiepoints.benchmarks.image_matching import Options, evaluate_image_matching

    roots = [settings.data / name for name in CAMERAS]
    return evaluate_image_matching(
        settings.of(IN_MODELS),
        roots,
        options=Options(multiview=both),
        store=settings.store,
        engine=Processes(settings.jobs),
        progress=tell,
    )


def stereo(settings: Settings) -> str:
    """Two-view poses, and the published rows."""
    report = image_matching(settings, both=False)
    measured, published = report.tables
    columns = ("nf", "matches", "ni", "maa5", "maa10", "e_maa5", "e_maa10", "failures", "pairs")
    known = ("nf", "ni", "rep3", "ms3", "maa10", "nm", "nl", "tl", "ate", "mv_maa10", "average")
    return told(
        report,
        markdown_table(measured, columns),
        "Published, for comparison, multiview too (other scenes, hence other figures):",
        markdown_table(published, known),
    )


def multiview(settings: Settings) -> str:
    """COLMAP's models of bags of images, and the average of both tasks."""
    report = image_matching(settings, both=True)
    columns = ("nm", "nl", "tl", "ate", "rms", "registered", "mv_maa10_5", "mv_maa10_10", "mv_maa10", "average")
    table = markdown_table(report.tables[0], columns)
    return told(report, with_kept("multiview", table) if settings.wanted else table)


SECTIONS: dict[str, Callable[[Settings], str]] = {
    "hpatches": hpatches,
    "profiles": profiles,
    "others": others,
    "methods": methods,
    "poses": poses,
    "core": core,
    "wxbs": wxbs,
    "independent": independent,
    "speed": speed,
    "stereo": stereo,
    "multiview": multiview,
}


def tell(what: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{what} {done}/{total}   ", end="" if done < total else "\n", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; repeatable")
    parser.add_argument(
        "-e", "--extractor", action="append", default=[], help="method; repeatable; default those of each section"
    )
    parser.add_argument("--data", type=Path, help="the folder with hpatches/, wxbs/ ...; default $TIEPOINTS_DATA/data")
    parser.add_argument("--store", type=Path, default=default_store())
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    data = options.data or Path(os.environ.get("TIEPOINTS_DATA", ROOT.parent / "shared")) / "data"
    if not data.is_dir():
        parser.error(f"{data}: no such folder; give --data, or set TIEPOINTS_DATA")
    settings = Settings(data, options.store, tuple(options.extractor), options.jobs)

    for name in options.only or SECTIONS:
        write_section(name, SECTIONS[name](settings))  # one by one: an interruption keeps those that are done


if __name__ == "__main__":
    main()
