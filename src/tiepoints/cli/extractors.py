"""`tiepoints extractors`."""

from __future__ import annotations

from dataclasses import asdict

import click

from .options import json_option, print_json


@click.command("extractors", epilog="Example: tiepoints extractors --commercial")
@click.option(
    "--commercial/--non-commercial", default=None, help="Only those whose licence allows, or forbids, commercial use."
)
@click.option("--licence", metavar="TEXT", help="Only those whose licence contains this text.")
@json_option
def command(commercial: bool | None, licence: str | None, as_json: bool) -> None:
    """List the extractors: what they are, their descriptors and their licences."""
    from ..extraction import extractors, is_installed

    cards = extractors(commercial=commercial, licence=licence)
    if as_json:
        print_json([asdict(card) | {"installed": is_installed(card)} for card in cards])
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "what", "descriptor", "licence", "commercial use", box=None, pad_edge=False)
    for card in cards:
        unit = "bits" if card.descriptor_type == "binary" else f"x {card.descriptor_type}"
        missing = "" if is_installed(card) else f" (pip install 'tiepoints[{card.extra}]')"
        table.add_row(
            card.name,
            card.summary + missing,
            f"{card.descriptor_size} {unit}",
            card.licence,
            "yes" if card.commercial else "NO",
        )
    Console().print(table)
