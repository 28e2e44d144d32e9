"""The machinery of the speed benchmark: who runs when, what is divided by what. No time is asserted."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.benchmarks import Method, evaluate_speed, method
from tiepoints.benchmarks.memory import peak_memory
from tiepoints.benchmarks.speed import installed_methods
from tiepoints.benchmarks.timing import (
    ORB,
    SIFT,
    alternating,
    opencv_match,
    opencv_orb,
    opencv_sift,
    ratio,
    scene,
)
from tiepoints.errors import InvalidInputError


def test_everyone_runs_alternating_after_a_warm_up() -> None:
    order: list[str] = []
    times = alternating({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 4
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}
    assert all(value >= 0 for values in times.values() for value in values)


def test_ratios_are_taken_between_neighbours() -> None:
    """A machine that is ten times slower for a while changes no ratio."""
    assert ratio([2, 20, 2], [1, 10, 1]) == 2
    assert ratio([1, 9, 2], [1, 1, 1]) == 2, "the median"


def test_opencv_sift_finds_as_many_as_asked_for(texture: NDArray[np.uint8]) -> None:
    usual = len(tp.load("sift", max_keypoints=10_000)(texture))
    count, descriptors = opencv_sift(texture, usual + 50)()
    assert count == usual + 50 and descriptors.shape == (usual + 50, 128)
    assert opencv_sift(np.zeros((64, 64), np.uint8), 100)()[0] == 0, "and gives up where there is nothing"
    assert 50 < opencv_orb(texture, 120)()[0] <= 120


def test_opencv_matches_as_we_do(texture: NDArray[np.uint8]) -> None:
    for run, extractor in ((opencv_sift, "sift"), (opencv_orb, "orb")):
        first, second = run(texture, 150)()[1], run(texture[:, ::-1], 150)()[1]
        scale = 1 if extractor == "orb" else np.linalg.norm(first, axis=1, keepdims=True)
        a, b = (
            tp.Features(
                np.zeros((len(d), 2)), d / scale[: len(d)] if extractor == "sift" else d, np.zeros(len(d)), (1, 1)
            )
            for d in (first, second)
        )
        if extractor == "sift":
            b = tp.Features(b.keypoints, second / np.linalg.norm(second, axis=1, keepdims=True), b.scores, (1, 1))
        ours = len(tp.match(a, b))
        assert opencv_match(first, second)() == pytest.approx(ours, rel=0.1)
    assert opencv_match(first[:0], second)() == 0


@pytest.mark.parametrize("colour", [False, True])
def test_scenes_have_the_size_and_overlap(texture: NDArray[np.uint8], colour: bool) -> None:
    photograph = np.repeat(texture[:, :, None], 3, axis=2) if colour else texture
    for source in (photograph, None):
        a, b = scene(source, (200, 160))
        assert a.shape[:2] == b.shape[:2] == (160, 200) and a.dtype == b.dtype == np.uint8
        extractor = tp.load("rootsift")
        fa, fb = extractor(a), extractor(b)
        assert tp.homography(fa, fb, tp.match(fa, fb)).num_inliers > 20, "it is the same thing from elsewhere"
    assert (scene(None, (64, 48))[0] == scene(None, (64, 48))[0]).all()


def test_the_report() -> None:
    seen: list[tuple[str, int, int]] = []
    report = evaluate_speed(
        ["orb", method("sift:contrast_threshold=0.001")],
        size=(160, 120), count=60, sizes=((80, 60), (160, 120)), counts=(30, 60), memory=False,
        progress=lambda *state: seen.append(state),
    )  # fmt: skip
    usual, by_size, by_count, matching = report.tables
    names = [SIFT, ORB, "orb", "sift contrast_threshold=0.001"]
    assert [[row.method for row in table.rows] for table in report.tables] == [names] * 4
    first = usual.row(SIFT).values
    assert first["extract_to_sift"] == 1 and first["match_to_sift"] == 1 and first["peak_mb"] is None
    keypoints = len(tp.load("orb", max_keypoints=60)(scene(None, (160, 120))[0]))
    assert usual.row("orb").values["keypoints"] == keypoints > 20
    assert by_size.row("orb").values.keys() >= {"ms_4800", "to_sift_4800", "ms_19200", "exponent"}
    assert by_count.row("orb").values.keys() == matching.row("orb").values.keys() >= {"ms_30", "ms_60", "exponent"}
    assert len(report.plots) == 3 and seen[-1] == ("matching", 6, 6)
    runs = [record for record in report.details if record["method"] == "orb" and record["width"] == 160]
    assert sorted({(r["asked"], r["run"]) for r in runs}) == [(n, run) for n in (30, 60) for run in range(1, 6)]
    assert any("synthetic texture" in note for note in report.notes)


def test_the_growth_is_the_slope_of_the_logarithms() -> None:
    from tiepoints.benchmarks.speed import _exponent

    assert _exponent([100, 200, 400], [3, 6, 12]) == pytest.approx(1)
    assert _exponent([100, 200, 400], [1, 4, 16]) == pytest.approx(2)
    assert _exponent([100], [1]) is None and _exponent([100, 100], [1, 2]) is None


def test_fewer_keypoints_than_asked_for_are_named() -> None:
    report = evaluate_speed(
        ["sift:contrast_threshold=0.3"], size=(80, 60), count=500, sizes=(), counts=(), memory=False
    )
    assert any("fewer than 500 keypoints" in note and "sift contrast_threshold=0.3" in note for note in report.notes)
    assert len(report.tables) == 1


def test_an_extractor_object_takes_part() -> None:
    report = evaluate_speed(
        [tp.load("orb", max_keypoints=50)], size=(80, 60), count=50, sizes=(), counts=(20,), memory=False
    )
    assert report.table.row("orb").values["keypoints"] is not None


def test_nobody_gets_more_threads_than_the_others() -> None:
    """MD-Net's network would take all cores; whoever insists on a number of its own is named."""
    report = evaluate_speed(
        ["mdnet", "mdnet:threads=3", Method("object", tp.load("mdnet"))],
        size=(64, 64), count=20, sizes=(), counts=(), threads=1, memory=False,
    )  # fmt: skip
    assert "threads=1" in report.about["mdnet"] and "threads=3" in report.about["mdnet threads=3"]
    told = [note for note in report.notes if "ran on" in note]
    assert told == ["mdnet threads=3 ran on 3 threads, not on 1", "object ran on all threads, not on 1"]


def test_wrong_usage() -> None:
    with pytest.raises(InvalidInputError, match="from 5 to"):
        evaluate_speed(["orb"], runs=3)
    with pytest.raises(InvalidInputError, match="an edge of a size is 0"):
        evaluate_speed(["orb"], size=(0, 10))
    with pytest.raises(InvalidInputError, match="equally many pixels"):
        evaluate_speed(["orb"], sizes=((640, 480), (480, 640)))


def test_all_installed_methods_take_part() -> None:
    labels = [m.label for m in installed_methods()]
    assert {"mdnet", "sift", "rootsift", "upright-rootsift", "orb", "akaze"} <= set(labels)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
def test_memory_is_measured_elsewhere() -> None:
    """A large image takes more than a small one; this process's own memory plays no part."""
    ballast = np.ones(40_000_000)  # 320 MB
    contestant = method("orb:max_keypoints=100")
    small, large = (peak_memory(contestant, np.zeros((n, n), np.uint8), 100) for n in (64, 6000))
    assert small is not None and large is not None
    assert 20 < small < 300 and large - small > 30, "36 MB of pixels, and its pyramid"
    assert peak_memory("orb", np.zeros((64, 64), np.uint8), 100) is not None
    assert peak_memory(method(tp.load("orb")), np.zeros((64, 64), np.uint8), 100) is None, "cannot be made elsewhere"
    assert ballast.any()
