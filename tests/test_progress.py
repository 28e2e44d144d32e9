"""Who looks sees how far long work is, and nobody else is disturbed."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tiepoints as tp
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
    with progress_bar("matching") as progress:
        assert progress is not None
        progress(2, None)
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
