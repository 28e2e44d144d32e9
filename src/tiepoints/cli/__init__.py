"""The command `tiepoints`. A subcommand's module is imported when it runs, so that --help answers at once."""

from __future__ import annotations

import sys
from typing import Any

import click

from .. import __version__
from ..errors import InvalidInputError, TiepointsError, UnknownExtractorError
from .lazy import LazyGroup

__all__ = ["main"]

# Name -> module, and the line that `tiepoints --help` shows for it.
_COMMANDS: dict[str, tuple[str, str]] = {
    "match": ("match", "Find verified tie points between two photographs."),
    "extract": ("extract", "Extract the features of one photograph or many."),
    "bench": ("bench", "Measure extractors by the field's protocols."),
    "extractors": ("extractors", "List the extractors with their licences, or the options of one."),
    "weights": ("weights", "List, fetch and find the weights of published methods."),
    "train": ("train", "Train MD-Net on your own photographs."),
    "export": ("export", "Write a trained network as one file that runs without torch."),
    "completion": ("completion", "Print the script that completes commands in your shell."),
}


class _Commands(LazyGroup):
    """The whole command line: an error of tiepoints ends it with one line."""

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
    cls=_Commands,
    lazy={name: (f"{__name__}.{module}", line) for name, (module, line) in _COMMANDS.items()},
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
