"""Reports on the terminal, and in files for machines (JSON, CSV), for documents (Markdown) and for people (HTML)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInputError
from ..files import PathLike, replacing
from .report import Column, Report, Row, Table, Value, plain

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["SUFFIXES", "markdown_table", "print_report", "save_details", "save_report", "show"]


def show(value: Value, column: Column) -> str:
    """A figure as tables print it: the column's decimals, no zero before the point, and a dash for none."""
    value = plain(value)
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    text = f"{value:.{column.digits}f}"
    if column.digits == 0 or not text.lstrip("-").startswith("0."):
        return text
    return text.replace("0.", ".", 1)


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the tables and the notes; notes about many things are shortened, the files have them whole.

    Tables that are wider than the terminal run over its edge rather than lose figures.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.measure import Measurement

    console = console or Console()
    console.print(f"[bold]{escape(report.title)}[/bold], protocol {escape(report.protocol)}", highlight=False)
    sources = list(dict.fromkeys(row.source for table in report.tables for row in table.rows if row.source))
    for table in report.tables:
        console.print(f"\n[italic]{escape(table.title)}[/italic]", highlight=False)
        drawn, before = _rich_table(table, sources), console.width
        console.width = 10_000  # rich never draws wider than its console, whatever it is told
        console.width = max(before, Measurement.get(console, console.options, drawn).maximum)
        console.print(drawn, soft_wrap=True)
        console.width = before
    console.print()
    for number, source in enumerate(sources, start=1):
        console.print(escape(f"[{number}] {source}"), style="dim", highlight=False, soft_wrap=True)
    for note in report.notes:
        text = note if len(note) <= 300 else f"{note[:297].rpartition(' ')[0]} ... (all in the files)"
        console.print(f"note: {escape(text)}", highlight=False, soft_wrap=True)


def _rich_table(table: Table, sources: list[str]) -> Any:
    """For the terminal: published rows are dim and carry the number of their source."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    columns, groups = _main(table), any(row.group for row in table.rows)
    drawn = RichTable(box=None, pad_edge=False)
    for name in ["", "method"] if groups else ["method"]:
        drawn.add_column(name, no_wrap=True)
    for column in columns:
        drawn.add_column(escape(column.title), justify="right", no_wrap=True)
    before = None
    for row in table.rows:
        name = f"{row.method} [{sources.index(row.source) + 1}]" if row.source else row.method
        cells = [name, *(show(row.values.get(c.key), c) for c in columns)]
        if groups:
            cells.insert(0, row.group if row.group != before else "")
        before = row.group
        drawn.add_row(*map(escape, cells), style="dim" if row.source else None)
    return drawn


def save_report(report: Report, path: PathLike) -> None:
    """Write a report; the kind of file follows from the name.

    Parameters
    ----------
    report : Report
    path : str or path
        .json: everything but pictures. .csv: all columns of all tables. .md: the tables. .html: tables, plots and
        pictures in one file that needs no network.

    Raises
    ------
    InvalidInputError
        If the name has another ending.
    StorageError
        If the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidInputError(f"{path}: a report is written as one of {', '.join(SUFFIXES)}")
    text = _WRITERS[path.suffix.lower()](report)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def save_details(report: Report, path: PathLike) -> None:
    """Write the records of every pair and method as CSV."""
    keys = list(dict.fromkeys(key for record in report.details for key in record))
    with replacing(path) as temporary:
        temporary.write_text(
            _csv([keys, *([record.get(key) for key in keys] for record in report.details)]),
            encoding="utf-8",
            newline="",
        )


def markdown_table(table: Table, columns: Iterable[str] | None = None) -> str:
    """One table as Markdown, with its main columns or those of the given keys."""
    chosen = _main(table) if columns is None else [c for key in columns for c in table.columns if c.key == key]
    groups, sources = any(row.group for row in table.rows), any(row.source for row in table.rows)
    head = [*(["part"] if groups else []), "method", *(c.title for c in chosen), *(["source"] if sources else [])]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]

    def cells(row: Row) -> list[str]:
        values = [show(row.values.get(c.key), c) for c in chosen]
        return [*([row.group] if groups else []), row.method, *values, *([row.source] if sources else [])]

    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |" for row in table.rows]
    return "\n".join(lines) + "\n"


def _main(table: Table) -> list[Column]:
    """The columns that people see: the main ones that any row has a value for."""
    return [c for c in table.columns if c.main and any(row.values.get(c.key) is not None for row in table.rows)]


def _json(report: Report) -> str:
    return json.dumps(report.as_dict(), indent=2, allow_nan=False) + "\n"


def _as_csv(report: Report) -> str:
    """One block a table, with a blank line between blocks."""
    blocks = []
    for table in report.tables:
        rows: list[list[Value]] = [["protocol", "table", "group", "method", "source", *(c.key for c in table.columns)]]
        for row in table.rows:
            values = [row.values.get(column.key) for column in table.columns]
            rows.append([report.protocol, table.title, row.group, row.method, row.source, *values])
        blocks.append(_csv(rows))
    return "\n".join(blocks)


def _csv(rows: Iterable[Iterable[Value]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for row in rows:
        writer.writerow(["" if (value := plain(cell)) is None else value for cell in row])
    return stream.getvalue()


def _markdown(report: Report) -> str:
    parts = [f"# {report.title}\n", f"Protocol `{report.protocol}`. {report.description}\n"]
    for table in report.tables:
        parts += [f"## {table.title}\n", markdown_table(table)]
    if report.notes:
        parts.append("\n".join(f"- {note}" for note in report.notes) + "\n")
    return "\n".join(parts)


def _html(report: Report) -> str:
    from .html import page

    return page(report)


_WRITERS: dict[str, Callable[[Report], str]] = {".json": _json, ".csv": _as_csv, ".md": _markdown, ".html": _html}
#: What `save_report` can write.
SUFFIXES = tuple(_WRITERS)
