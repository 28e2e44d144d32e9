"""Judge extractors, or what a training has made, on development sets of every kind.

    python tools/judge.py DATA mdnet aliked-n16 runs/mine --store out/judge
    python tools/judge.py DATA upright-rootsift --ratio 0.9
    python tools/judge.py DATA mdnet -O sets=4 -O nms_radius=3

DATA holds sets in the layouts of HPatches, WxBS and `cameras.csv`, and folders of one view in other light; see
`tiepoints.training.judges`. A run is judged by its best.onnx, or its checkpoint where there is none. Features are kept
in the store: a second look at the same model takes seconds. Prints a row for each method, with --groups for each set.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from click import BadParameter

import tiepoints as tp
from tiepoints.cli.options import Setting
from tiepoints.collection import Collection, Extract, Store, run
from tiepoints.errors import TiepointsError
from tiepoints.training.judges import Judgement, find_judged, judge

COLUMNS = {
    "planar": ("mma_1", "mma_2", "mma_3", "ms_3", "rep_3", "cost"),
    "wide": ("maa",),
    "pose": ("maa_10", "precision"),
    "static": ("mma_3", "ms_3"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("methods", nargs="+", help="Names of extractors, runs of `tiepoints train`, or model files.")
    parser.add_argument("--store", type=Path, default=Path("out/judge"))
    parser.add_argument("--max-keypoints", type=int, default=2048)
    parser.add_argument(
        "-O", dest="options", type=setting, action="append", default=[], metavar="KEY=VALUE", help="Of the extractors."
    )
    parser.add_argument(
        "--ratio", type=limit, nargs="+", default=[None], help="Of the matcher before poses, or none; several: each."
    )
    parser.add_argument("--min-similarity", type=limit, nargs="+", default=[None])
    parser.add_argument("--only", nargs="+", help="Names of folders of DATA.")
    parser.add_argument("--groups", action="store_true", help="A row for each set.")
    parser.add_argument("--json", type=Path, help="Where the figures are written too.")
    arguments = parser.parse_args()
    judged = find_judged(judged_folders(arguments.data, arguments.only))
    print(judged, file=sys.stderr)
    print("| method | score | " + " | ".join(f"{k} {name}" for k, names in COLUMNS.items() for name in names) + " |")
    print("|---" * (2 + sum(map(len, COLUMNS.values()))) + "|")
    everything: dict[str, Any] = {}
    store = Store(arguments.store)
    options = dict(arguments.options)
    for method in arguments.methods:
        try:
            extractor = opened(method, arguments.max_keypoints, options)
        except TiepointsError as error:
            print(f"{method}: {error}", file=sys.stderr)
            continue
        features = run(Extract(extractor), Collection.from_paths(judged.images), store)
        rest = None
        for ratio in arguments.ratio:
            for least in arguments.min_similarity:
                title = " ".join([method, *(f"{name}={value}" for name, value in arguments.options)])
                title += (f", ratio {ratio}" if ratio else "") + (f", similarity {least}" if least else "")
                # only poses depend on the matcher's limits
                found = judge(
                    features, judged if rest is None else judged.only("pose"), ratio=ratio, min_similarity=least
                )
                if rest is None:
                    rest = found
                else:
                    found = Judgement(rest.figures | found.figures, rest.groups | found.groups)
                everything[title] = {"score": found.score, "kinds": found.figures, "groups": found.groups}
                show(title, found, arguments.groups)
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=1))
    return 0


def setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE as the command line of tiepoints understands it."""
    try:
        return Setting().convert(text, None, None)
    except BadParameter as error:
        raise argparse.ArgumentTypeError(error.message) from None


def limit(text: str) -> float | None:
    """A number, or none."""
    return None if text == "none" else float(text)


def judged_folders(data: Path, only: list[str] | None) -> list[Path]:
    """The folders of DATA that hold something to judge by."""
    folders = []
    for path in sorted(data.iterdir()):
        if path.is_dir() and (only is None or path.name in only):
            try:
                find_judged([path])
            except TiepointsError:
                continue
            folders.append(path)
    return folders


def opened(method: str, max_keypoints: int, options: dict[str, Any]) -> tp.Extractor:
    """An extractor by its name, a run's folder or a model's file."""
    options = {"max_keypoints": max_keypoints} | options
    path = Path(method)
    if path.is_dir() and not (path / "best.onnx").exists():
        path = path / "checkpoint.pt"
    elif path.is_dir():
        path = path / "best.onnx"
    if path.suffix == ".pt":
        from tiepoints.training.export import read_model, save_model
        from tiepoints.training.network import MDNet

        config, state, about = read_model(path)
        network = MDNet(config)
        network.load_state_dict(state)
        path = Path(tempfile.mkdtemp()) / "model.onnx"
        save_model(network, path, about)
    if path.suffix == ".onnx":
        return tp.load("mdnet", weights=path, **options)
    return tp.load(method, **options)


def show(title: str, found: Judgement, groups: bool) -> None:
    """A row of the table, and those of its sets."""
    cells = [
        f"{found.figures[k][name]:.3f}" if k in found.figures else "" for k, names in COLUMNS.items() for name in names
    ]
    print(f"| {title} | {found.score:.3f} | {' | '.join(cells)} |", flush=True)
    if groups:
        for name, figures in found.groups.items():
            print(f"    {name}: " + " ".join(f"{key} {value:.3f}" for key, value in figures.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
