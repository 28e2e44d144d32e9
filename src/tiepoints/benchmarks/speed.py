"""The speed benchmark: one table at the usual size, and how the cost grows with the image and with the keypoints."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import InvalidInputError, MissingDependencyError
from ..extraction import Extractor, extractors, is_ready
from ..matching import match
from .memory import peak_memory
from .methods import Method, Progress, method, methods_of
from .report import Column, Plot, Report, Row, Series, Table, Value, less, versions
from .timing import ORB, SIFT, alternating, opencv_match, opencv_orb, opencv_sift, ratio, scene

__all__ = ["Timed", "evaluate_speed", "installed_methods", "time_methods", "usual_table"]

UInt8 = NDArray[np.uint8]
K = TypeVar("K")
#: (width, height) and the number of keypoints.
_Task = tuple[tuple[int, int], int]

_DESCRIPTION = (
    "Extraction and exact mutual matching, image already decoded, methods alternating (A B A B ...) after a warm-up; "
    "medians of {runs} runs, ratios run by run, {threads} threads. OpenCV's SIFT has its contrast threshold lowered "
    "until it returns as many keypoints; its descriptors and ORB's are matched by OpenCV's BFMatcher with crossCheck, "
    "all others by tiepoints. Ratios carry over to other machines, milliseconds do not."
)


_PEERS = {
    "extract": ("/ SIFT", 2, "relative to OpenCV's SIFT in the same runs"),
    "match": ("/ BFMatcher", 2, "relative to OpenCV's BFMatcher on SIFT's descriptors in the same runs"),
}


@dataclass(frozen=True)
class Timed:
    """One method at one size and number of keypoints."""

    name: str
    keypoints: int
    extract: tuple[float, ...]  # ms of each run
    match: tuple[float, ...]


def installed_methods(max_keypoints: int = 2048) -> list[Method]:
    """Every registered extractor that needs no fetched weights; to time all published ones takes hours."""
    found = []
    for metadata in extractors():
        if metadata.weights or not is_ready(metadata):
            continue
        try:
            found.append(method(metadata.name, max_keypoints=max_keypoints))
        except (MissingDependencyError, OSError):  # its weights are not here
            continue
    return found


def evaluate_speed(
    methods: Iterable[str | Extractor | Method] | None = None,
    *,
    photograph: UInt8 | None = None,
    size: tuple[int, int] = (640, 480),
    count: int = 2048,
    sizes: Sequence[tuple[int, int]] = ((320, 240), (640, 480), (1280, 960)),
    counts: Sequence[int] = (512, 1024, 2048, 4096),
    runs: int = 5,
    threads: int = 2,
    memory: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Time extractors beside OpenCV's SIFT and ORB.

    Parameters
    ----------
    methods : iterable of str, Extractor or Method, optional
        Specifications or extractors; by default all that are installed. The growth with the number of keypoints leaves
        extractor objects as they are, since it needs a specification.
    photograph : (H, W) or (H, W, 3) uint8, optional
        What is extracted, brought to each size; without it a synthetic texture.
    size, count : (int, int), int
        The usual (width, height) and number of keypoints.
    sizes, counts : sequence
        For the growth; may be empty.
    runs : int
        At least 5.
    threads : int
        Of OpenCV and of methods that have threads of their own, such as MD-Net's network; set here. The BLAS reads
        OMP_NUM_THREADS when it is loaded: set that before Python starts, as `tiepoints bench speed` does.
    memory : bool
        Measure peak memory too, in processes of their own.
    progress : callable, optional

    Returns
    -------
    report : Report
        Tables "usual", by image size and by number of keypoints; a plot of each growth.

    Raises
    ------
    InvalidInputError
        If runs is below 5, a size or count is not positive or absurd, two sizes have equally many pixels, or two
        methods the same label.

    Examples
    --------
    >>> from tiepoints.benchmarks import evaluate_speed
    >>> report = evaluate_speed(["orb"], size=(160, 120), count=100, sizes=(), counts=(), memory=False)
    >>> [row.method for row in report.table.rows]
    ['OpenCV SIFT', 'OpenCV ORB', 'orb']
    """
    checks.count(runs, "runs", least=5, most=10_000)  # a median needs five
    checks.count(threads, "threads", least=1, most=1024)
    for number in (count, *counts):
        checks.count(number, "the number of keypoints", least=1, most=10**6)
    for edge in (edge for pair in (size, *sizes) for edge in pair):
        checks.count(edge, "an edge of a size", least=1, most=2**15)
    by_size = [(s, count) for s in sorted({size, *sizes}, key=math.prod)]
    by_count = [(size, n) for n in sorted({count, *counts})]
    if len({math.prod(s) for s, _ in by_size}) < len(by_size):
        raise InvalidInputError("two of the sizes have equally many pixels: the growth is over these")
    chosen = installed_methods(count) if methods is None else methods_of(methods, max_keypoints=count)
    chosen = [one.with_threads(threads) for one in chosen]
    # In the order that was asked for.
    tasks = list(dict.fromkeys([(size, count), *((s, count) for s in sizes), *((size, n) for n in counts)]))
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        calls: dict[_Task, list[_Calls]] = {}
        for done, (s, n) in enumerate(tasks, start=1):
            those = chosen if n == count else [one.with_options(max_keypoints=n) for one in chosen]
            calls[s, n] = _calls(those, scene(photograph, s), n)
            if progress is not None:
                progress("preparing", done, len(tasks))
        timed = _measure(calls, runs, progress)
        peaks = _peaks(chosen, scene(photograph, size)[0], count, threads, progress) if memory else {}
    finally:
        cv2.setNumThreads(before)
    usual, edges = timed[size, count], f"{size[0]}x{size[1]}"
    tables, plots = [usual_table(f"{edges}, {count} keypoints", usual, peaks)], []
    for title, growing, what, in_pixels in (
        (f"Extraction by image size, {count} keypoints", by_size, "extract", True),
        (f"Extraction by number of keypoints, {edges}", by_count, "extract", False),
        (f"Matching by number of keypoints, {edges}", by_count, "match", False),
    ):
        if len(growing) > 1:
            table, plot = _growth(title, {task: timed[task] for task in growing}, what, in_pixels)
            tables.append(table)
            plots.append(plot)
    return Report(
        title="Speed",
        protocol="side by side",
        description=_DESCRIPTION.format(runs=runs, threads=threads),
        tables=tuple(tables),
        notes=_notes(usual, chosen, count, photograph is None, threads),
        details=tuple(_details(timed)),
        plots=tuple(plots),
        about=versions("opencv-contrib-python-headless", "numpy")
        | {"cores": str(os.cpu_count()), "load before": _load()}
        | {one.label: repr(one.extractor) for one in chosen},
    )


def time_methods(methods: Sequence[Method], views: tuple[UInt8, UInt8], count: int, runs: int) -> list[Timed]:
    """Time extraction and matching of two views by every method, OpenCV's SIFT and ORB first; one entry each."""
    return _measure({0: _calls(methods, views, count)}, runs)[0]


class _Calls(NamedTuple):
    """What is timed: the extraction of the first view, and the matching of both."""

    name: str
    keypoints: int
    extract: Callable[[], Any]
    match: Callable[[], Any]


def _calls(methods: Sequence[Method], views: tuple[UInt8, UInt8], count: int) -> list[_Calls]:
    a, b = views
    found = []
    for name, peer in ((SIFT, opencv_sift), (ORB, opencv_orb)):
        extract = peer(a, count)
        keypoints, descriptors = extract()
        found.append(_Calls(name, keypoints, extract, opencv_match(descriptors, peer(b, count)()[1])))
    for one in methods:
        first, second = one.extractor(a), one.extractor(b)
        found.append(_Calls(one.label, len(first), partial(one.extractor, a), partial(match, first, second)))
    return found


def _measure(tasks: Mapping[K, Sequence[_Calls]], runs: int, progress: Progress | None = None) -> dict[K, list[Timed]]:
    """Every task is in the same rounds, so that a growth is no matter of when it was measured."""
    every = {(task, calls.name): calls for task, several in tasks.items() for calls in several}
    told = [None if progress is None else partial(progress, what) for what in ("extraction", "matching")]
    extract = alternating({key: calls.extract for key, calls in every.items()}, runs, told[0])
    matching = alternating({key: calls.match for key, calls in every.items()}, runs, told[1])
    found: dict[K, list[Timed]] = {task: [] for task in tasks}
    for (task, name), calls in every.items():
        both = tuple(extract[task, name]), tuple(matching[task, name])
        found[task].append(Timed(name, calls.keypoints, *both))
    return found


def _peaks(
    methods: Sequence[Method], image: UInt8, count: int, threads: int, progress: Progress | None
) -> dict[str, float | None]:
    several: list[tuple[str, Method | str]] = [(SIFT, "sift"), (ORB, "orb"), *((m.label, m) for m in methods)]
    peaks = {}
    for done, (name, one) in enumerate(several, start=1):
        peaks[name] = peak_memory(one, image, count, threads)
        if progress is not None:
            progress("memory", done, len(several))
    return peaks


def usual_table(title: str, timed: Sequence[Timed], peaks: Mapping[str, float | None] | None = None) -> Table:
    """Medians, and ratios to OpenCV's SIFT and ORB, which come first in `timed`; peak memory where it is known."""
    columns = (
        Column("keypoints", "keypoints", 0, "found in the first image"),
        less("extract_ms", "extract, ms", 1, "median"),
        Column("extract_to_sift", "/ SIFT", 2, "extraction, relative to OpenCV's SIFT"),
        Column("extract_to_orb", "/ ORB", 2, "extraction, relative to OpenCV's ORB"),
        less("match_ms", "match, ms", 1, "median"),
        Column("match_to_sift", "/ BFMatcher", 2, "matching, relative to OpenCV's BFMatcher on SIFT's descriptors"),
        less("peak_mb", "peak MB", 0, "memory of a process that extracts the image, Python and libraries included"),
    )
    sift, orb = timed[0], timed[1]
    rows = []
    for t in timed:
        extract = statistics.median(t.extract), ratio(t.extract, sift.extract), ratio(t.extract, orb.extract)
        matching = statistics.median(t.match), ratio(t.match, sift.match)
        figures = (t.keypoints, *extract, *matching, (peaks or {}).get(t.name))
        rows.append(Row(t.name, dict(zip((column.key for column in columns), figures, strict=True))))
    return Table(title, columns, tuple(rows), ("extract_ms", "match_ms", "peak_mb"))


def _growth(title: str, timed: Mapping[_Task, Sequence[Timed]], what: str, in_pixels: bool) -> tuple[Table, Plot]:
    """Medians of each task with their ratio to SIFT's, the exponent of the growth, and its curves."""
    columns: list[Column] = []
    values: dict[str, dict[str, Value]] = {t.name: {} for t in next(iter(timed.values()))}
    curves: dict[str, list[tuple[float, float, float]]] = {name: [] for name in values}
    for (size, count), several in timed.items():
        key, name = (math.prod(size), f"{size[0]}x{size[1]}") if in_pixels else (count, str(count))
        columns += [Column(f"ms_{key}", f"{name}, ms", 1, "median"), Column(f"to_sift_{key}", *_PEERS[what])]
        for t in several:
            times = getattr(t, what)
            median = statistics.median(times)
            values[t.name] |= {f"ms_{key}": median, f"to_sift_{key}": ratio(times, getattr(several[0], what))}
            # The growth is over the keypoints that were really found.
            curves[t.name].append((key, key if in_pixels else t.keypoints, median))
    unit = "pixels" if in_pixels else "keypoints"
    text = f"exponent p of time ~ {unit}^p, fitted to the medians; 1 is proportional"
    columns.append(Column("exponent", "growth", 2, text))
    rows, series = [], []
    for name, curve in curves.items():
        asked, found, medians = zip(*curve, strict=True)
        rows.append(Row(name, values[name] | {"exponent": _exponent(found, medians)}))
        series.append(Series(name, tuple(map(float, asked)), medians, reference=name in (SIFT, ORB)))
    label = unit if in_pixels else "keypoints asked for"
    plot = Plot(title, label, "median, ms", tuple(series), log_x=True, log_y=True)
    return Table(title, tuple(columns), tuple(rows)), plot


def _exponent(x: Sequence[float], y: Sequence[float]) -> float | None:
    pairs = [(math.log(a), math.log(b)) for a, b in zip(x, y, strict=True) if a > 0 and b > 0]
    if len({a for a, _ in pairs}) < 2:
        return None
    return float(np.polyfit([a for a, _ in pairs], [b for _, b in pairs], 1)[0])


def _notes(
    usual: Sequence[Timed], methods: Sequence[Method], count: int, synthetic: bool, threads: int
) -> tuple[str, ...]:
    notes = []
    if synthetic:
        notes.append("the image is a synthetic texture; give a photograph with --image")
    fewer = [f"{t.name} {t.keypoints}" for t in usual if t.keypoints < 0.98 * count]
    if fewer:
        notes.append(f"fewer than {count} keypoints, which shortens the time: {', '.join(fewer)}")
    own = {one.label: getattr(one.extractor, "threads", threads) for one in methods}
    notes += [f"{name} ran on {n or 'all'} threads, not on {threads}" for name, n in own.items() if n != threads]
    if os.environ.get("OMP_NUM_THREADS") != str(threads):
        notes.append(f"OMP_NUM_THREADS is not {threads}: the BLAS may have used another number of threads")
    slowest, name = max((max(times) / min(times), t.name) for t in usual for times in (t.extract, t.match))
    if slowest > 2:
        notes.append(f"the machine was busy or uneven: the slowest run of {name} took {slowest:.1f} times its fastest")
    return tuple(notes)


def _details(timed: Mapping[_Task, Sequence[Timed]]) -> Iterator[dict[str, Value]]:
    for ((width, height), count), several in timed.items():
        for t in several:
            about: dict[str, Value] = {"method": t.name, "width": width, "height": height, "asked": count}
            about["keypoints"] = t.keypoints
            for run, (extract, matching) in enumerate(zip(t.extract, t.match, strict=True), start=1):
                yield about | {"run": run, "extract_ms": extract, "match_ms": matching}


def _load() -> str:
    """How busy the machine was in the last minute; an honest reader wants to know."""
    try:
        return f"{os.getloadavg()[0]:.1f}"
    except (AttributeError, OSError):  # Windows
        return "not known"
