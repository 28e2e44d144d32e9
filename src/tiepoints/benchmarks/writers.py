"""Reports on the terminal, and in files for machines (JSON, CSV), for documents (Markdown) and for people (HTML)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import checks
from ..errors import InvalidInputError, printable
from ..files import PathLike, write_whole
from .html import page
from .report import Report, Table, Value, plain

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["SUFFIXES", "markdown_table", "print_report", "save_details", "save_report"]


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the tables and the notes; notes about many things are shortened, the files have them whole.

    Tables that are wider than the terminal run over its edge rather than lose figures.

    Parameters
    ----------
    report : Report
    console : rich.console.Console, optional
        By default one of standard output.

    Examples
    --------
    >>> from tiepoints.benchmarks import Column, Row
    >>> from tiepoints.benchmarks import Report, Table, print_report
    >>> table = Table("T", (Column("mma3", "MMA@3"),), (Row("orb", {"mma3": 0.5}),))
    >>> print_report(Report("Title", "d2net", "What it is.", (table,)))
    Title, protocol d2net
    <BLANKLINE>
    T
    method  MMA@3
    orb      .500
    <BLANKLINE>
    """
    checks.instance(report, "report", Report)
    from rich.console import Console

    console = console or Console()
    console.print(f"[bold]{_safe(report.title)}[/bold], protocol {_safe(report.protocol)}", highlight=False)
    sources = report.sources
    for table in report.tables:
        console.print(f"\n[italic]{_safe(table.title)}[/italic]", highlight=False)
        before, console.width = console.width, 10_000  # rich never draws wider than its console, whatever it is told
        console.print(_rich_table(table, sources), soft_wrap=True)
        console.width = before
    console.print()
    if report.table.verdict:
        console.print(_safe(report.table.verdict), highlight=False, soft_wrap=True)
    for number, source in enumerate(sources, start=1):
        console.print(_safe(f"[{number}] {source}"), style="dim", highlight=False, soft_wrap=True)
    for note in report.notes:
        text = note if len(note) <= 300 else f"{note[:297].rpartition(' ')[0]} ... (all in the files)"
        console.print(f"note: {_safe(text)}", highlight=False, soft_wrap=True)


def _rich_table(table: Table, sources: list[str]) -> Any:
    """For the terminal: the best values are bold, published rows are dim and carry the number of their source."""
    from rich.table import Table as RichTable

    named = any(row.group for row in table.rows)
    drawn = RichTable(box=None, pad_edge=False)
    for name in ["", "method"] if named else ["method"]:
        drawn.add_column(name, no_wrap=True)
    for column in table.main:
        drawn.add_column(_safe(column.title), justify="right", no_wrap=True)
    for group, lines in table.lines(table.main, sources):
        for row, name, cells in lines:
            part = [_safe(group) if row is lines[0][0] else ""] if named else []
            texts = (f"[bold]{_safe(text)}[/bold]" if best else _safe(text) for text, best in cells)
            drawn.add_row(*part, _safe(name), *texts, style="dim" if row.source else None)
    return drawn


def _safe(text: str) -> str:
    """A text that rich and a terminal may get: names of folders hold anything."""
    from rich.markup import escape

    return escape(printable(text))


def save_report(report: Report, path: PathLike) -> None:
    """Write a report; the kind of file follows from the name.

    Parameters
    ----------
    report : Report
    path : str or path
        .json: everything but plots and pictures. .csv: all columns of all tables. .md: the tables. .html: tables, plots
        (with the extra `report`) and pictures in one file that needs no network.

    Raises
    ------
    InvalidInputError
        If the name has another ending.
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> from tiepoints.benchmarks import Report, save_report
    >>> save_report(Report("Title", "d2net", "What it is.", ()), "report.csv")
    """
    checks.instance(report, "report", Report)
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidInputError(f"{path}: a report is written as one of {', '.join(SUFFIXES)}")
    write_whole(path, _WRITERS[suffix](report).encode())


def save_details(report: Report, path: PathLike) -> None:
    """Write the records of every pair and method as CSV.

    Parameters
    ----------
    report : Report
    path : str or path

    Raises
    ------
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> from tiepoints.benchmarks import Report, save_details
    >>> save_details(Report("Title", "d2net", "", (), details=({"pair": "1 2", "mma3": 0.5},)), "pairs.csv")
    """
    checks.instance(report, "report", Report)
    keys = list(dict.fromkeys(key for record in report.details for key in record))
    write_whole(path, _csv([keys, *([record.get(key) for key in keys] for record in report.details)]).encode())


def markdown_table(table: Table, columns: Iterable[str] | None = None) -> str:
    """One table as Markdown, with its main columns or those of the given keys.

    Examples
    --------
    >>> from tiepoints.benchmarks import Column, Row
    >>> from tiepoints.benchmarks import Table
    >>> from tiepoints.benchmarks.writers import markdown_table
    >>> print(markdown_table(Table("T", (Column("mma3", "MMA@3"),), (Row("orb", {"mma3": 0.5}),))), end="")
    | method | MMA@3 |
    | --- | --- |
    | orb | .500 |
    """
    checks.instance(table, "table", Table)
    chosen = table.main if columns is None else [c for key in columns for c in table.columns if c.key == key]
    groups, sources = any(row.group for row in table.rows), any(row.source for row in table.rows)

    def line(part: str, method: str, cells: Iterable[str], source: str) -> str:
        whole = [*([part] if groups else []), method, *cells, *([source] if sources else [])]
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in whole) + " |\n"

    rows = [
        line(group, row.method, (text for text, _ in cells), row.source)
        for group, lines in table.lines(chosen)
        for row, _, cells in lines
    ]
    head = line("part", "method", (c.title for c in chosen), "source")
    return head + line("---", "---", ["---"] * len(chosen), "---") + "".join(rows)


def _csv(rows: Iterable[Iterable[Value]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(map(plain, row) for row in rows)  # None is an empty cell
    return stream.getvalue()


def _csv_blocks(report: Report) -> str:
    """One block a table, with a blank line between blocks."""
    blocks = []
    for table in report.tables:
        keys = [column.key for column in table.columns]
        rows: list[list[Value]] = [["protocol", "table", "group", "method", "source", *keys]]
        for row in table.rows:
            values = [row.values.get(key) for key in keys]
            rows.append([report.protocol, table.title, row.group, row.method, row.source, *values])
        blocks.append(_csv(rows))
    return "\n".join(blocks)


def _markdown(report: Report) -> str:
    parts = [f"# {report.title}\n", f"Protocol `{report.protocol}`. {report.description}\n"]
    if report.table.verdict:
        parts.append(f"{report.table.verdict}\n")
    for table in report.tables:
        parts += [f"## {table.title}\n", markdown_table(table)]
    if report.notes:
        parts.append("\n".join(f"- {note}" for note in report.notes) + "\n")
    return "\n".join(parts)


_WRITERS: dict[str, Callable[[Report], str]] = {
    ".json": lambda report: json.dumps(report.as_dict(), indent=2, allow_nan=False) + "\n",
    ".csv": _csv_blocks,
    ".md": _markdown,
    ".html": page,
}
#: What `save_report` can write.
SUFFIXES = tuple(_WRITERS)
