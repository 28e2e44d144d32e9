"""Who looks sees how far long work is, and nobody else is disturbed."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tiepoints as tp
from tiepoints import progress
from tiepoints.progress import progress_bar, shown_progress

FRAMES = [np.zeros((32, 32), np.uint8)] * 4


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# These are called in a test, not fixtures: pytest sets sys.stderr anew before each test's own code.


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    return shown


def notebook(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """As a kernel of Jupyter is, or of Colab, whose shell derives from it."""
    kind = type("Shell", (type("ZMQInteractiveShell", (), {}),), {})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=kind))
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    return shown


def extracted() -> int:
    return len(list(tp.extract_images(tp.load("orb"), FRAMES))) + len(tp.load("orb")(FRAMES))


@pytest.fixture(autouse=True)
def wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIEPOINTS_PROGRESS")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(monkeypatch)
    assert extracted() == 8
    assert shown.getvalue().count("4/4") >= 2 and "extracting" in shown.getvalue()


def test_what_a_program_prints_meanwhile_goes_where_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)
    out = io.StringIO()  # a file
    monkeypatch.setattr(sys, "stdout", out)
    for one in tp.extract_images(tp.load("orb"), FRAMES):
        print(len(one.features or ()))
    assert out.getvalue() == "0\n" * 4


def test_a_notebook_gets_a_line_without_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = notebook(monkeypatch)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert extracted() == 8
    assert shown.getvalue().count("extracting: 4 of 4") == 2 and "\n" not in shown.getvalue()
    with progress_bar("matching") as update:
        assert update is not None
        update(2, None)
    assert shown.getvalue().endswith("\rmatching: 2\n")


@pytest.mark.parametrize("where", [terminal, notebook])
def test_it_can_be_turned_off(where: Callable[..., io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = where(monkeypatch)
    monkeypatch.setenv("TIEPOINTS_PROGRESS", "0")
    assert extracted() == 8 and shown.getvalue() == ""


def test_a_file_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    with (tmp_path / "log").open("w+") as log:
        monkeypatch.setattr(sys, "stderr", log)
        assert extracted() == 8
        log.seek(0)
        assert log.read() == ""


def test_one_inside_another_is_not_shown_and_early_stops_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = notebook(monkeypatch)
    for number in shown_progress(iter(range(3)), range(3), "outer"):
        assert list(shown_progress(range(5), range(5), "inner")) == [0, 1, 2, 3, 4]
        if number == 1:
            break
    assert "inner" not in shown.getvalue() and "outer: 1 of 3" in shown.getvalue()
    list(shown_progress(range(5), range(5), "after"))
    assert "after: 5 of 5" in shown.getvalue()


@pytest.mark.parametrize("options", [(), ("-q",), ("--json",)])
def test_the_log_of_a_long_command_gets_lines(
    options: tuple[str, ...], examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes longer than the interval, also on a single photograph."""
    from click.testing import CliRunner

    from tiepoints.cli import cli
    from tiepoints.collection import Extract

    monkeypatch.setattr(progress, "_INTERVAL", 0.2)
    monkeypatch.setattr(progress, "_last_line", None)
    real = Extract.__call__

    def slow(self: Extract, photograph: Any) -> tp.Features:
        time.sleep(0.5)
        return real(self, photograph)

    monkeypatch.setattr(Extract, "__call__", slow)
    command = ["extract", str(examples), "-e", "orb", "-n", "50", "--jobs", "1", "--out", str(tmp_path / "f.h5")]
    started = time.perf_counter()
    lines = CliRunner().invoke(cli, [*command, *options]).stderr.splitlines()
    took = time.perf_counter() - started
    if options:
        assert lines == []
        return
    assert 5 <= len(lines) <= took / 0.2 + 1, "two seconds or more, a line every fifth of one"
    assert all(re.fullmatch(r"extracting: \d of 4 after \d+ s(, about \d+ s left)?", line) for line in lines)
    assert lines[0].startswith("extracting: 0 of 4") and lines[-1].startswith("extracting: 3 of 4")


def test_the_first_line_comes_soon_and_the_next_ones_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(progress, "_last_line", None)
    monkeypatch.setattr(progress, "_FIRST", 0.2)
    with progress.progress_lines() as tell:
        tell("mapping", 1, 3)
        time.sleep(1.0)
    with progress.progress_lines() as tell:
        tell("aligning keypoints", 1, 3)
        time.sleep(0.5)
    assert re.fullmatch(r"mapping: 1 of 3 after \d s, about \d s left\n", log.getvalue())


def test_short_work_and_odd_names_do_not_disturb_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(progress, "_last_line", None)
    with progress_bar("quick", lines=True) as update:
        assert update is not None
        update(1, 2)
    assert log.getvalue() == ""
    monkeypatch.setattr(progress, "_INTERVAL", 0.05)
    with progress.progress_lines() as tell:
        tell("a\033[31m\nb", 1, None)
        time.sleep(0.3)
    assert "\033" not in log.getvalue() and set(log.getvalue().splitlines()) == {"a\\x1b[31m\\nb: 1 after 0 s"}
    monkeypatch.setenv("TIEPOINTS_PROGRESS", "0")
    before = log.getvalue()
    with progress.progress_lines() as tell:
        tell("more", 1, 2)
        time.sleep(0.2)
    assert log.getvalue() == before
