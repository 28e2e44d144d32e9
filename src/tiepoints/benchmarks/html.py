"""A report as one HTML file: tables that can be sorted, plots and pictures inside it, no network."""

from __future__ import annotations

import base64
import hashlib
import io
import warnings
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from ..images import resize_to
from .report import Column, Picture, Plot, Report, Table

__all__ = ["page", "plot_svg"]

# Sorts the rows of every part of a table by the column whose title is clicked; a dash comes last.
_SCRIPT = """
document.querySelectorAll("th button").forEach(button => button.addEventListener("click", () => {
  const head = button.parentElement, table = head.closest("table"), at = head.cellIndex;
  const up = head.getAttribute("aria-sort") === "descending";
  table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => { const v = row.cells[at].dataset.v; return v === "" ? null : at ? Number(v) : v; };
  const less = (a, b) => a === b ? 0 : a === null ? 1 : b === null ? -1 : (a < b) === up ? -1 : 1;
  table.querySelectorAll("tbody").forEach(body => [...body.querySelectorAll("tr:not(.group)")]
    .sort((a, b) => less(key(a), key(b))).forEach(row => body.append(row)));
}));
"""

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --faint: #6b6b6b; --line: #ddd; --band: #f3f3f3;
  --best: #e3f1e3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #17191c; --faint: #9a9a9a; --line: #3a3d42; --band: #24272c; --best: #22412c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1180px;
  margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
.verdict { font-size: 1.15em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .6em; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); z-index: 1; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid; }
th[aria-sort=ascending] button::after { content: " \\25b4"; }
th[aria-sort=descending] button::after { content: " \\25be"; }
tr.group th { padding-top: 1em; }
td.best { background: var(--best); font-weight: 600; }
tr.reference td { color: var(--faint); font-style: italic; }
tbody tr:hover td { background: var(--band); }
svg, img { max-width: 100%; height: auto; } svg { background: #fff; border-radius: 4px; }
figure { margin: 1.5em 0; } figcaption, footer, .sources { color: var(--faint); overflow-wrap: anywhere; }
details li, details p { overflow-wrap: anywhere; }
@media (max-width: 640px) { body { font-size: 14px; margin: 1em auto; }
  th, td { padding: .3em .45em; } th:first-child, td:first-child { max-width: 36vw; white-space: normal; } }
"""

_LONG_NOTE, _MANY_NOTES = 200, 6


def page(report: Report) -> str:
    """The whole document as text. Its policy allows this script alone and forbids loading anything."""
    allowed = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{allowed}'"
    verdict, sources = report.table.verdict, [escape(source) for source in report.sources]
    about = (f"{escape(key)}: {escape(value)}" for key, value in report.about.items())
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        f"<title>{escape(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>{escape(report.title)}</h1>",
        *([f'<p class="verdict">{escape(verdict)}</p>'] if verdict else []),
        f"<p>Protocol <b>{escape(report.protocol)}</b>. {escape(report.description)}</p>",
        _notes(report.notes),
        *(f"<h2>{escape(table.title)}</h2>{_tables(table, report.sources)}" for table in report.tables),
        _listed(sources, 'ol class="sources"'),
        *(["<h2>Plots</h2>", *_plots(report.plots)] if report.plots else []),
        *(["<h2>Examples</h2>", *map(_figure, report.pictures)] if report.pictures else []),
        f"<footer>{_folded('How this was made', _listed(about))}</footer>",
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n",
    ]
    return "\n".join(filter(None, parts))


def _listed(items: Iterable[str], kind: str = "ul") -> str:
    inner = "".join(f"<li>{item}</li>" for item in items)
    return f"<{kind}>{inner}</{kind.split()[0]}>" if inner else ""


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>{content}</details>"


def _notes(notes: Iterable[str]) -> str:
    """A list; what is long, such as the names of all that is missing, is folded away, and so are many notes."""
    items = []
    for note in notes:
        start = note
        if len(note) > _LONG_NOTE:
            start = note[:_LONG_NOTE].rpartition(": ")[0] or note[: _LONG_NOTE - 20].rpartition(" ")[0]
        rest = escape(note[len(start) :].removeprefix(":").strip())
        items.append(_folded(f"{escape(start)} ...", f"<p>{rest}</p>") if rest else escape(note))
    if folded := items[_MANY_NOTES:]:
        items[_MANY_NOTES:] = [_folded(f"{len(folded)} more note{'s' * (len(folded) > 1)}", _listed(folded))]
    return _listed(items)


def _tables(table: Table, sources: list[str]) -> str:
    """The main columns, which fit on a screen, and all of them folded away."""
    shown = _table(table, table.main, sources)
    if len(table.filled) > len(table.main):
        shown += _folded("All columns", _table(table, table.filled, sources))
    return shown


def _table(table: Table, columns: Sequence[Column], sources: list[str]) -> str:
    head = '<th><button type="button">method</button></th>'
    for column in columns:
        tip = f' title="{escape(column.help)}"' if column.help else ""
        head += f'<th><button type="button"{tip}>{escape(column.title)}</button></th>'
    bodies = ""
    for group, lines in table.lines(columns, sources):
        title = f'<tr class="group"><th colspan="{len(columns) + 1}">{escape(group)}</th></tr>' if group else ""
        bodies += f"<tbody>{title}"
        for row, name, cells in lines:
            bodies += '<tr class="reference">' if row.source else "<tr>"
            bodies += f'<td data-v="{escape(row.method)}">{escape(name)}</td>'
            for column, (text, best) in zip(columns, cells, strict=True):
                value = row.number(column.key)
                kind = ' class="best"' if best else ""
                bodies += f'<td data-v="{escape("" if value is None else str(value))}"{kind}>{escape(text)}</td>'
            bodies += "</tr>"
        bodies += "</tbody>"
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>{bodies}</table></div>'


def _figure(picture: Picture) -> str:
    stream = io.BytesIO()
    small, _ = resize_to(np.asarray(picture.pixels, np.uint8), 1100)
    Image.fromarray(small).save(stream, format="JPEG", quality=82)
    data = base64.b64encode(stream.getvalue()).decode()
    caption = escape(picture.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def _plots(plots: Iterable[Plot]) -> list[str]:
    try:
        return [f"<figure>{plot_svg(plot)}</figure>" for plot in plots]
    except ImportError:
        return ["<p>Plots need Matplotlib: pip install 'tiepoints[report]', then write the report again.</p>"]


def plot_svg(plot: Plot) -> str:
    """A plot as an <svg> element, by Matplotlib. Points that are not finite are left out, and on a log axis those <= 0.

    Raises
    ------
    ImportError
        Without Matplotlib.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": plot.title, "text.parse_math": False, "font.size": 9}
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # characters that its font lacks: the reader's browser has them
        figure = Figure(figsize=(7.8, 4), layout="constrained")
        axes = figure.add_subplot(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
        axes.set_prop_cycle(color=_COLOURS)
        drawn = []
        for series in plot.series:
            x, y = np.asarray(series.x, float), np.asarray(series.y, float)
            kept = np.isfinite(x) & np.isfinite(y) & ((x > 0) | (not plot.log_x)) & ((y > 0) | (not plot.log_y))
            style = ("--" if series.reference else "-") if plot.kind == "lines" else ""
            look: Any = {"marker": "o", "markersize": 4 if style else 7, "clip_on": False}
            look |= {"markerfacecolor": "none"} if series.reference else {}
            (line,) = axes.plot(x[kept], y[kept], style, **look)
            drawn.append((line, f" {series.label[:40]}"))  # a label that begins with _ would be left out
        log = "log" if any(np.size(line.get_xdata()) for line, _ in drawn) else "linear"  # without points it fails
        axes.set(xscale=log if plot.log_x else "linear", yscale=log if plot.log_y else "linear")
        for axis, scaled in ((axes.xaxis, plot.log_x), (axes.yaxis, plot.log_y)):
            if scaled:  # Matplotlib's own labels are formulas, which are not parsed here
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axis.set_minor_formatter(NullFormatter())
        if not plot.log_y:
            axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        axes.grid(alpha=0.3)
        if drawn:
            figure.legend(*zip(*drawn, strict=True), loc="outside right upper", frameon=False)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    return text[text.index("<svg") :]


# Okabe and Ito's colours, which stay apart for colour-blind eyes too.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
