"""Wrong values on the command line are one line and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tiepoints.cli import cli


@pytest.mark.parametrize("value", ["a={[]:1}", "a=" + "-" * 4000 + "1", "levels=abc", "levels=" + "9" * 30, "levels=0"])
def test_a_wrong_value_of_an_option_is_one_line(examples: Path, value: str) -> None:
    result = CliRunner().invoke(cli, ["extract", str(examples / "box.png"), "-e", "orb", "-O", value])
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
