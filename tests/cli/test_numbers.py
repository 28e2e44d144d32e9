"""Options that take numbers: no command takes one that is not finite, or beyond what the libraries behind it hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tiepoints.benchmarks import evaluate_speed
from tiepoints.cli import cli, numbers
from tiepoints.collection import Verify, sequential
from tiepoints.collection.engines import failure_of
from tiepoints.errors import ImageError, InvalidInputError


def commands(group: click.Command, name: str = "tiepoints") -> Iterator[tuple[str, click.Command]]:
    yield name, group
    if isinstance(group, click.Group):
        context = click.Context(group)
        for inner in group.list_commands(context):
            command = group.get_command(context, inner)
            assert command is not None
            yield from commands(command, f"{name} {inner}")


def test_every_option_for_numbers_is_checked() -> None:
    seen = 0
    for name, command in commands(cli):
        for option in command.params:
            if isinstance(option.type, click.types.IntParamType | click.types.FloatParamType):
                assert isinstance(option.type, numbers.IntRange | numbers.FloatRange), f"{name} {option.opts}"
                seen += 1
    assert seen > 40


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["match", "a.jpg", "b.jpg", "--threshold", "nan"], "nan is not a finite number"),
        (["localize", "map", "a.jpg", "--focal", "inf"], "inf is not in the range 1<=x<=1"),
        (["extract", "a.jpg", "--max-size", "9" * 30], "is beyond 2147483647"),
        (["bench", "trajectory", "a.txt", "--truth", "b.txt", "--max-difference", "-nan"], "is not a finite number"),
    ],
)
def test_odd_numbers_are_wrong_usage(arguments: list[str], reason: str) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2 and reason in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["match", "reconstruct", "map", "localize", "add"])
@pytest.mark.parametrize("focal", ["1e300", "nan", "-inf", "0", "-500", "1e-9", "1.5"])
def test_a_focal_length_that_no_camera_has_is_wrong_usage(
    examples: Path, tmp_path: Path, command: str, focal: str
) -> None:
    if focal == "1.5" and command in ("localize", "add"):  # their own test has a map
        focal = "0.5"
    out = ["--out", tmp_path / "m.db"] if command == "match" else [] if command == "localize" else [tmp_path / "out"]
    result = CliRunner().invoke(cli, [command, *map(str, (examples, *out)), "--focal", focal])
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())
    assert "range 1<=x<=1" in result.stderr or "is not a finite" in result.stderr or "between 16.2" in result.stderr


def test_huge_numbers_take_no_memory(tmp_path: Path) -> None:
    assert sequential(["a", "b", "c"], 2**31 - 1) == [("a", "b"), ("a", "c"), ("b", "c")]
    for wrong in ({"counts": [2**31 - 1]}, {"threads": 2**31}, {"runs": 10**9}, {"size": (2**31, 2)}, {"runs": 4}):
        with pytest.raises(InvalidInputError, match="but must be a whole number from"):
            evaluate_speed(["orb"], **wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="seed is"):
        Verify(seed=10**30)


def test_a_lack_of_memory_is_one_whoever_tells_of_it() -> None:
    for error in (MemoryError(), RuntimeError("std::bad_alloc"), ValueError("DefaultCPUAllocator: can't allocate")):
        assert failure_of(error) == failure_of(MemoryError())
    assert failure_of(ImageError("a.jpg: not enough memory to decode this image")).message.startswith("a.jpg")
