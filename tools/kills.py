"""Long commands killed (SIGKILL) at random moments: given again, they end as if undisturbed, and compute nothing twice.

    python tools/kills.py PHOTOS HPATCHES [--kills 20] [-e orb] [--seed 0]

PHOTOS is a folder of photographs, HPATCHES one of HPatches sequences. Prints the table of
docs/collections.md. A trigger in the killed store's databases counts results that are computed although they are there.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from tiepoints.storage import FeatureReader, MatchReader

TRIGGER = """
create table if not exists again (key text);
create trigger if not exists twice before insert on records when exists (select 1 from records where key = new.key)
begin insert into again values (new.key); end;
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("hpatches")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("-e", "--extractor", default="orb")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    photos, extractor = arguments.photos, ["-e", arguments.extractor]
    commands: dict[str, tuple[list[str], str, Callable[[Path], Any]]] = {
        "extract": (["extract", photos, *extractor], "features.h5", features_in),
        "match": (["match", photos, *extractor], "matches.h5", matches_in),
        "bench hpatches": (
            ["bench", "hpatches", "--root", arguments.hpatches, "--no-time", *extractor], "report.json", tables_in,
        ),
    }  # fmt: skip
    print("| command | kills | of them with work half done | results there, median | computed twice | other outputs |")
    print("|---|---|---|---|---|---|")
    moments = random.Random(arguments.seed)
    wrong = 0
    for name, (command, out, read) in commands.items():
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "undisturbed"
            began = time.perf_counter()
            finish(command, whole, out)
            took, expected, every = time.perf_counter() - began, read(whole / out), results_in(whole)
            there, twice, others = [], 0, 0
            for k in range(arguments.kills):
                cut = Path(folder) / str(k)
                kill_after(moments.uniform(0, took), command, cut, out)
                there.append(results_in(cut))
                for path in stores_of(cut):
                    with closing(sqlite3.connect(path)) as database:
                        database.executescript(TRIGGER)
                finish(command, cut, out)
                twice += sum(counted(path, "again") for path in stores_of(cut)) + results_in(cut) - every
                others += not same(read(cut / out), expected)
        wrong += twice + others
        busy = sum(0 < count < every for count in there)
        median = statistics.median(there)
        print(f"| `{name}` | {arguments.kills} | {busy} | {median:.0f} of {every} | {twice} | {others} |", flush=True)
    sys.exit(1 if wrong else 0)


def started(command: list[str], folder: Path, out: str) -> subprocess.Popen[bytes]:
    whole = [sys.executable, "-m", "tiepoints", *command, "--store", str(folder / "store"), "--out", str(folder / out)]
    return subprocess.Popen([*whole, "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(command: list[str], folder: Path, out: str) -> None:
    process = started(command, folder, out)
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {said.decode(errors='replace')}")


def kill_after(seconds: float, command: list[str], folder: Path, out: str) -> None:
    process = started(command, folder, out)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def stores_of(folder: Path) -> list[Path]:
    return [path for path in folder.glob("store/*.sqlite") if not path.name.startswith("files.") and has_records(path)]


def has_records(path: Path) -> bool:
    """Whether it was not killed before it had its tables."""
    with closing(sqlite3.connect(path)) as database:
        return bool(database.execute("select 1 from sqlite_master where name = 'records'").fetchone())


def counted(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        if not database.execute("select 1 from sqlite_master where name = ?", (table,)).fetchone():
            return 0
        return int(database.execute(f"select count(*) from {table}").fetchone()[0])


def results_in(folder: Path) -> int:
    return sum(counted(path, "records") for path in stores_of(folder))


def features_in(path: Path) -> dict[str, Any]:
    with FeatureReader(path) as reader:
        return {name: [reader[name].keypoints, reader[name].descriptors, reader[name].scores] for name in reader}


def matches_in(path: Path) -> dict[Any, Any]:
    with MatchReader(path) as reader:
        found = {pair: [reader[pair].indices, reader[pair].scores] for pair in reader}
    return found | features_in(path.with_name(f"{path.stem}-features{path.suffix}"))


def tables_in(path: Path) -> dict[str, Any]:
    return {"tables": json.loads(path.read_text(encoding="utf-8"))["tables"]}


def same(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    if one.keys() != other.keys():
        return False
    pairs = ((one[key], other[key]) for key in one)
    return all(all(map(np.array_equal, a, b)) if isinstance(a[0], np.ndarray) else bool(a == b) for a, b in pairs)


if __name__ == "__main__":
    main()
