"""What all benchmarks' commands share: help, lists of names, the bar that shows how far they are."""

from __future__ import annotations

import io
import sys

import click
import pytest
from click.testing import CliRunner

from tiepoints.cli import cli
from tiepoints.cli.bench import _BENCHMARKS, download, hpatches, options
from tiepoints.errors import TiepointsError


@pytest.mark.parametrize("command", _BENCHMARKS)
def test_help_lists_every_benchmark(command: str) -> None:
    assert command in CliRunner().invoke(cli, ["bench", "--help"]).output


def test_a_command_that_is_none() -> None:
    run = CliRunner().invoke(cli, ["bench", "nonsense"])
    assert run.exit_code == 2 and "nonsense" in run.stderr


def test_what_help_lists_is_what_there_is() -> None:
    """The commands list names without importing what has them."""
    from tiepoints.benchmarks.writers import SUFFIXES
    from tiepoints.datasets.catalogue import CATALOGUE
    from tiepoints.metrics.planar import PROFILES

    choices = {p.name: tuple(p.type.choices) for p in hpatches.command.params if isinstance(p.type, click.Choice)}
    assert choices["profile"] == tuple(PROFILES)
    assert tuple(download.command.params[0].type.choices) == tuple(CATALOGUE)
    assert options._REPORTS == (".json", ".csv", ".md", ".html") == SUFFIXES


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("in_bytes", [False, True])
def test_the_bar_is_for_people(monkeypatch: pytest.MonkeyPatch, in_bytes: bool) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for quiet, stream, seen in ((False, Terminal(), True), (True, Terminal(), False), (False, io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with options.progress_bar(quiet, in_bytes=in_bytes) as move:
            move("extracting", 500_000, 1_000_000)
            move("matching", 5, 0)  # nobody knows of how many
        assert ("extracting" in stream.getvalue()) is seen
        if seen:
            assert ("0.5/1.0 MB" if in_bytes else "500000/1000000") in stream.getvalue()


@pytest.mark.parametrize(("kept", "line"), [("all is kept", "interrupted; all is kept"), ("", "interrupted")])
def test_an_interruption_says_what_is_kept(kept: str, line: str) -> None:
    with pytest.raises(TiepointsError) as error, options.progress_bar(True, kept):
        raise KeyboardInterrupt
    assert str(error.value) == line
