"""`tiepoints extractors`."""

from __future__ import annotations

import sys

import click

from .options import ExtractorName, examples, json_option, print_json, print_rows


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
    help="Only those whose licences all allow commercial use, and that no patent covers, or the others.",
)
@click.option("--licence", metavar="TEXT", help="Only those with a licence (code or weights) that contains this text.")
@json_option
def command(name: str | None, commercial: bool | None, licence: str | None, as_json: bool) -> None:
    """List the extractors: what they are, their descriptors and their licences. With NAME, list that one's options.

    Into a pipe or a file, tabs separate the columns.
    """
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
    rows = []
    for metadata in listed:
        unit = "bits" if metadata.descriptor_type == "binary" else f"x {metadata.descriptor_type}"
        missing = "" if is_installed(metadata) else f" (pip install 'tiepoints[{metadata.extra}]')"
        why = "; ".join(filter(None, (metadata.licence_url, metadata.patents)))
        use = "yes" if metadata.commercial else f"NO: {why}" if why else "NO"
        descriptor = f"{metadata.descriptor_size} {unit}"
        licences = metadata.code_licence, metadata.weights_licence or "-"
        rows.append((metadata.name, metadata.summary + missing, descriptor, *licences, use))
    print_rows(("name", "what", "descriptor", "licence of the code", "of the weights", "commercial use"), rows)


def _show_options(name: str, as_json: bool) -> None:
    """What -O takes for a method."""
    from ..extraction import options_of

    options = options_of(name)
    if as_json:
        print_json({"name": name, "options": [option._asdict() for option in options]})
        return
    rows = [(option.name, str(option.default), option.kind, option.what) for option in options]
    print_rows(("option", "default", "type", "what"), rows)
    # What reads the table from a pipe gets nothing else.
    click.echo(f"give them as -O OPTION=VALUE; to a benchmark as -e {name}:OPTION=VALUE", err=not sys.stdout.isatty())
