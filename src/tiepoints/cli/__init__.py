"""The command `tiepoints`. A subcommand's module is imported when it runs, so that --help answers at once."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from .. import __version__
from ..errors import InvalidInputError, TiepointsError, UnknownExtractorError

__all__ = ["main"]

# Name -> module, and the line that `tiepoints --help` shows for it.
_COMMANDS: dict[str, tuple[str, str]] = {
    "match": ("match", "Find verified tie points between two photographs."),
    "extract": ("extract", "Extract the features of one photograph or many."),
    "extractors": ("extractors", "List the extractors with their licences."),
    "train": ("train", "Train MD-Net on your own photographs."),
    "export": ("export", "Write a trained network as one file that runs without torch."),
    "completion": ("completion", "Print the script that completes commands in your shell."),
}


class _Lazy(click.Group):
    """A group that knows its commands' names and one-line helps without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"{__name__}.{_COMMANDS[cmd_name][0]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (UnknownExtractorError, InvalidInputError) as error:
            print(f"tiepoints: {error}", file=sys.stderr)
            ctx.exit(2)
        except TiepointsError as error:
            print(f"tiepoints: {error}", file=sys.stderr)
            ctx.exit(1)


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: tiepoints match a.jpg b.jpg --plot matches.png",
)
@click.version_option(__version__, package_name="tiepoints")
def cli() -> None:
    """Find the same physical points in different photographs.

    Exit code: 0 done, 1 failed, 2 wrong usage.
    """


def main() -> None:
    """Run the command line; the entry point of the script `tiepoints`."""
    cli(prog_name="tiepoints")
