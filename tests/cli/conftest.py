"""How the tests of the commands run them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from tiepoints.cli import cli

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run() -> Command:
    """Runs a command in this process, which spares its start; what only a process shows is for `start`."""

    def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {"COLUMNS": "160"} | environment
        result = CliRunner().invoke(cli, list(map(str, arguments)), prog_name="tiepoints", env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception  # a process would show a traceback
        return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)

    return command


@pytest.fixture
def start() -> Command:
    """Runs a command in a process of its own, in which a warning of any library is an error."""

    def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-W", "error", "-m", "tiepoints", *map(str, arguments)]
        env = os.environ | {"COLUMNS": "160"} | environment
        return subprocess.run(line, capture_output=True, text=True, check=False, env=env, encoding="utf-8")

    return command
