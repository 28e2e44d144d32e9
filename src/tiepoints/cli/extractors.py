"""`tiepoints extractors`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from .options import ExtractorName, examples, json_option, print_json

if TYPE_CHECKING:
    from rich.table import Table


@click.command(
    "extractors",
    epilog=examples(
        "tiepoints extractors --commercial",
        "tiepoints extractors mdnet",
    ),
)
@click.argument("name", required=False, type=ExtractorName())
@click.option(
    "--commercial/--non-commercial",
    default=None,
    help="Only those whose licences all allow commercial use, or the others.",
)
@click.option("--licence", metavar="TEXT", help="Only those with a licence (code or weights) that contains this text.")
@json_option
def command(name: str | None, commercial: bool | None, licence: str | None, as_json: bool) -> None:
    """List the extractors: what they are, their descriptors and their licences. With NAME, list that one's options."""
    if name is not None:
        if commercial is not None or licence is not None:
            raise click.UsageError("give a NAME, or which ones to list, not both")
        _show_options(name, as_json)
        return
    from ..extraction import extractors, is_installed

    listed = extractors(commercial=commercial, licence=licence)
    if as_json:
        print_json([metadata.as_dict() | {"installed": is_installed(metadata)} for metadata in listed])
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        "name",
        "what",
        "descriptor",
        "licence of the code",
        "of the weights",
        "commercial use",
        box=None,
        pad_edge=False,
    )
    for metadata in listed:
        unit = "bits" if metadata.descriptor_type == "binary" else f"x {metadata.descriptor_type}"
        missing = "" if is_installed(metadata) else f" (pip install 'tiepoints[{metadata.extra}]')"
        table.add_row(
            metadata.name,
            escape(metadata.summary + missing),
            f"{metadata.descriptor_size} {unit}",
            escape(metadata.code_licence),
            escape(metadata.weights_licence or "-"),
            "yes" if metadata.commercial else "NO",
        )
    print_table(table)


def _show_options(name: str, as_json: bool) -> None:
    """What -O takes for a method."""
    from ..extraction import options_of

    options = options_of(name)
    if as_json:
        print_json({"name": name, "options": [option._asdict() for option in options]})
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("option", "default", "type", "what", box=None, pad_edge=False)
    for option in options:
        table.add_row(option.name, escape(str(option.default)), escape(option.kind), escape(option.what))
    print_table(table)
    click.echo(f"give them as -O OPTION=VALUE; to a benchmark as -e {name}:OPTION=VALUE")


def print_table(table: Table) -> None:
    """On the terminal as wide as it is; in a file or a pipe a line for each row, which nobody has to put together."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 10_000).print(table)
