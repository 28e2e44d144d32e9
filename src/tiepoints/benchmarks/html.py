"""A report as one HTML file: tables, plots and pictures inside it, no script, no network."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from ..images import resize_to
from .report import Picture, Report, Row, Table
from .svg import plot_svg
from .writers import show

__all__ = ["page"]

# A policy that forbids all loading: should a label smuggle markup in, it could fetch nothing.
_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --faint: #767676; --line: #ddd; --band: #f5f5f5; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e8e8e8; --paper: #17191c; --faint: #9a9a9a; --line: #3a3d42; --band: #212429; }}
}}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1180px;
  margin: 2em auto; padding: 0 1em; }}
h1 {{ font-size: 1.5em; }} h2 {{ font-size: 1.15em; margin-top: 2em; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25em .7em; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }}
th {{ border-bottom: 2px solid var(--line); }} th[title] {{ text-decoration: underline dotted; cursor: help; }}
td.text, th.text {{ text-align: left; }}
tr.reference td {{ color: var(--faint); font-style: italic; }}
tbody tr:hover {{ background: var(--band); }}
svg {{ width: 100%; max-width: 760px; height: auto; background: #fff; border: 1px solid var(--line); }}
svg text {{ font: 12px system-ui, sans-serif; fill: #1b1b1b; }} svg .title {{ font-weight: 600; font-size: 13px; }}
svg .axis {{ stroke: #555; fill: none; }} svg .grid {{ stroke: #e6e6e6; fill: none; }}
figure {{ margin: 1.5em 0; }} figure img {{ max-width: 100%; height: auto; }}
figcaption, footer, details {{ color: var(--faint); }}
</style>
</head>
<body>
"""


def page(report: Report) -> str:
    """The whole document as text."""
    parts = [
        _HEAD.format(title=escape(report.title)),
        f"<h1>{escape(report.title)}</h1>",
        f"<p>Protocol <b>{escape(report.protocol)}</b>. {escape(report.description)}</p>",
    ]
    if report.notes:
        parts.append("<ul>" + "".join(f"<li>{escape(note)}</li>" for note in report.notes) + "</ul>")
    parts += [f"<h2>{escape(table.title)}</h2>{_table(table)}" for table in report.tables]
    if report.plots:
        parts.append("<h2>Plots</h2>")
        parts += [f"<figure>{plot_svg(plot)}</figure>" for plot in report.plots]
    if report.pictures:
        parts.append("<h2>Examples</h2>")
        parts += [_figure(picture) for picture in report.pictures]
    about = "; ".join(f"{escape(key)} {escape(value)}" for key, value in report.about.items())
    parts.append(f"<footer><p>{about}</p></footer></body></html>\n")
    return "\n".join(parts)


def _table(table: Table) -> str:
    groups = any(row.group for row in table.rows)
    sources = any(row.source for row in table.rows)
    columns = [c for c in table.columns if any(row.values.get(c.key) is not None for row in table.rows)]
    names = ["part", "method"] if groups else ["method"]
    head = "".join(f'<th class="text">{name}</th>' for name in names)
    for column in columns:
        tip = f' title="{escape(column.help)}"' if column.help else ""
        head += f"<th{tip}>{escape(column.title)}</th>"
    if sources:
        head += '<th class="text">source</th>'

    def line(row: Row) -> str:
        texts = ([row.group] if groups else []) + [row.method]
        cells = "".join(f'<td class="text">{escape(text)}</td>' for text in texts)
        cells += "".join(f"<td>{escape(show(row.values.get(c.key), c))}</td>" for c in columns)
        if sources:
            cells += f'<td class="text">{escape(row.source)}</td>'
        return f'<tr class="reference">{cells}</tr>' if row.source else f"<tr>{cells}</tr>"

    body = "".join(line(row) for row in table.rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(picture: Picture) -> str:
    stream = io.BytesIO()
    small, _ = resize_to(np.asarray(picture.pixels, np.uint8), 1100)
    Image.fromarray(small).save(stream, format="JPEG", quality=82)
    data = base64.b64encode(stream.getvalue()).decode()
    caption = escape(picture.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )
