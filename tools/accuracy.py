"""The table and the picture of docs/accuracy.md, from what `tools/judge.py --json` wrote.

    python tools/judge.py DATA mdnet mdnet-large aliked-n16 xfeat --ratio none 0.95 --json out/learned.json
    python tools/judge.py DATA rootsift upright-rootsift --ratio 0.9 --json out/sift.json
    python tools/accuracy.py out/learned.json out/sift.json --draw mdnet --draw xfeat

Writes the sections of the page, and its picture with the methods that are to be drawn; needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from sections import ROOT, with_section

from tiepoints.files import write_whole

PAGE, PICTURE = ROOT / "docs" / "accuracy.md", ROOT / "docs" / "images" / "accuracy.png"

Figures = dict[str, dict[str, float]]

COLUMNS = (
    ("planar", "mma_1", "MMA@1"),
    ("planar", "mma_3", "MMA@3"),
    ("planar", "ms_3", "MS@3"),
    ("planar", "rep_3", "rep@3"),
    ("wide", "maa", "wide mAA"),
    ("pose", "maa_10", "pose mAA@10"),
    ("pose", "precision", "pose precision"),
    ("static", "mma_3", "light MMA@3"),
    ("static", "ms_3", "light MS@3"),
)
SHOWN = (
    ("planar", "mma_3", "planar surfaces:\ncorrect matches"),
    ("wide", "maa", "wide baselines:\ncorrect geometry"),
    ("pose", "maa_10", "two cameras:\ncorrect pose"),
    ("static", "mma_3", "other light:\ncorrect matches"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("judgements", type=Path, nargs="+")
    parser.add_argument("--draw", action="append", help="A row of the picture; repeatable; default all.")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    for path in arguments.judgements:
        found |= json.loads(path.read_text())
    page = PAGE.read_text(encoding="utf-8")
    page = with_section(page, "accuracy", table({name: judged["kinds"] for name, judged in found.items()}))
    page = with_section(page, "scenes", scenes({name: judged["groups"] for name, judged in found.items()}))
    write_whole(PAGE, page.encode())
    draw({name: found[name]["kinds"] for name in arguments.draw or found})
    return 0


def table(rows: dict[str, Figures]) -> str:
    """A row a method, the best of each column in bold."""
    best = {(kind, name): max(f[kind][name] for f in rows.values()) for kind, name, _ in COLUMNS}
    lines = ["| | " + " | ".join(title for *_, title in COLUMNS) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    for method, figures in rows.items():
        cells = [
            f"**{shown(figures[kind][name])}**"
            if figures[kind][name] == best[kind, name]
            else shown(figures[kind][name])
            for kind, name, _ in COLUMNS
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def scenes(rows: dict[str, Figures]) -> str:
    """The poses of each scene: mAA@10, and the precision of the matches behind it."""
    names = [name for name, figures in next(iter(rows.values())).items() if "maa_10" in figures]
    lines = ["| | " + " | ".join(name.rpartition("/")[2] for name in names) + " |", "|---" * (1 + len(names)) + "|"]
    for method, groups in rows.items():
        cells = [f"{shown(groups[name]['maa_10'])} ({shown(groups[name]['precision'])})" for name in names]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(value: float) -> str:
    """Three decimals, without the zero in front."""
    return f"{value:.3f}".removeprefix("0")


def draw(rows: dict[str, Figures]) -> None:
    """A group of bars for each kind of pairs, a bar for each method."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 3.4), dpi=120)
    width = 0.8 / len(rows)
    for i, (method, figures) in enumerate(rows.items()):
        at = [x + (i - (len(rows) - 1) / 2) * width for x in range(len(SHOWN))]
        axes.bar(at, [100 * figures[kind][name] for kind, name, _ in SHOWN], width * 0.92, label=method)
    axes.set_xticks(range(len(SHOWN)), [title for *_, title in SHOWN])
    axes.set_ylabel("%")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=min(len(rows), 4), loc="upper center", bbox_to_anchor=(0.5, 1.22))
    figure.tight_layout()
    figure.savefig(PICTURE)


if __name__ == "__main__":
    sys.exit(main())
