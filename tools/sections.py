"""How scripts write pages of docs/: sections between markers, tables, remarks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tiepoints.benchmarks import Report
from tiepoints.files import write_whole

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"


def write_section(name: str, content: str) -> None:
    """Write the page of benchmarks with new content between the markers of a section."""
    write_whole(PAGE, with_section(PAGE.read_text(encoding="utf-8"), name, content).encode())
    print(f"wrote section {name} of {PAGE.name}")


def with_section(page: str, name: str, content: str) -> str:
    """A page with new content between the markers of a section."""
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise SystemExit(f"the page must have one {begin} with one {end}")
    return pattern.sub(lambda _: f"{begin}\n{content.strip()}\n{end}", page)


def method_table(
    section: str,
    heads: Sequence[str],
    rows: dict[str, list[str]],
    column: int,
    *,
    rising: bool,
    keep: bool,
) -> str:
    """A table of methods in the order of a column; `keep` those that the page has and `rows` lacks."""
    if keep:
        there = PAGE.read_text(encoding="utf-8").partition(f"<!-- begin: {section} -->")[2].partition("<!-- end:")[0]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in there.splitlines() if "`" in line]
        rows = {name.strip("`"): values for name, *values in cells} | rows
    order = sorted(rows, key=lambda name: float(rows[name][column]), reverse=not rising)
    lines = [f"| `{name}` | {' | '.join(rows[name])} |" for name in order]
    return "\n".join([f"| method | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|", *lines])


def with_kept(section: str, table: str) -> str:
    """A table with parts and methods, and the rows of the page's section that it lacks, next to their part's others."""
    page = PAGE.read_text(encoding="utf-8").partition(f"<!-- begin: {section} -->")[2].partition("<!-- end:")[0]
    before, now = ([line for line in text.splitlines() if line.startswith("| ")] for text in (page, table))
    rows = {tuple(line.split(" | ")[:2]): line for line in before[1:]} | {
        tuple(line.split(" | ")[:2]): line for line in now[1:]
    }
    parts = list(dict.fromkeys(part for part, _ in rows))
    order = sorted(rows, key=lambda key: parts.index(key[0]))
    head, ruler = table.splitlines()[:2]
    return "\n".join([head, ruler, *(rows[key] for key in order if "---" not in key[0])]) + "\n"


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".removeprefix("0")


def told(report: Report, *parts: str) -> str:
    """Tables between the protocol and the remarks."""
    about = "Made with " + ", ".join(f"{key} {value}" for key, value in report.about.items()) + "."
    notes = "\n".join(f"- {note}" for note in report.notes)
    several = (f"Protocol `{report.protocol}`. {report.description}", *parts, notes, about)
    return "\n\n".join(part.strip() for part in several)


def remarks(report: Report) -> str:
    """The report's notes as a list, without this machine's folders, and without lists that would fill the page."""
    notes = [re.sub(r"(/[\w.-]+)+/", "", note) for note in report.notes]
    notes = [note if len(note) < 300 else note.rpartition(": ")[0] for note in notes]
    return "".join(f"\n- {note}" for note in notes) + ("\n" if notes else "")
