"""Reports: nothing is lost or invented on the way to the terminal, to machines and to the browser."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tiepoints.benchmarks import (
    Column,
    Picture,
    Plot,
    Report,
    Row,
    Series,
    Table,
    print_report,
    save_details,
    save_report,
)
from tiepoints.benchmarks.svg import plot_svg
from tiepoints.benchmarks.writers import markdown_table, show
from tiepoints.errors import InvalidInputError

HOSTILE = '<script>alert("x")</script>&|[red]'
COLUMNS = (
    Column("mma", "MMA@1", help='correct "matches"'),
    Column("count", "matches", 0),
    Column("more", "MMA@9", main=False),
    Column("none", "never"),
)


@pytest.fixture
def report() -> Report:
    rows = (
        Row("ours", {"mma": np.float64(0.5), "count": np.int64(1234), "more": 0.25}, "overall"),
        Row(HOSTILE, {"mma": float("nan"), "count": 0}, "overall"),
        Row("theirs", {"mma": 0.4}, "overall", "a paper"),
        Row("ours", {"mma": 1.0, "count": 2}, "viewpoint"),
    )
    curve = Series(HOSTILE, (1.0, 2.0, float("nan")), (0.1, 0.2, 0.3))
    return Report(
        title="Report",
        protocol="d2net",
        description="What it is.",
        tables=(Table("First", COLUMNS, rows), Table("Second", COLUMNS[:1], (Row("ours", {"mma": 0.125}),))),
        notes=("image 4 is missing", "x " * 400),
        details=({"method": "ours", "mma": np.float32(0.5), "pair": "1-2"}, {"method": "ours", "extra": float("inf")}),
        plots=(Plot("Curve", "px", "MMA", (curve,)), Plot("Log", "ms", "MMA", (curve,), "points", log_x=True)),
        pictures=(Picture("a picture", np.zeros((20, 30, 3), np.uint8)),),
        about={"tiepoints": "0", "numpy": "2"},
    )


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.2966, 3, ".297"), (1.0, 3, "1.000"), (-0.5, 2, "-.50"), (0.0, 3, ".000"), (0.9999, 3, "1.000"),
        (10.25, 1, "10.2"), (0, 0, "0"), (2047.6, 0, "2048"), (None, 3, "-"), (float("nan"), 3, "-"), ("yes", 3, "yes"),
    ],
)  # fmt: skip
def test_figures_as_printed(value: object, digits: int, text: str) -> None:
    assert show(value, Column("x", "X", digits)) == text


def test_terminal(report: Report) -> None:
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=40))
    text = stream.getvalue()
    for expected in ("protocol d2net", "MMA@1", ".500", "1234", HOSTILE, "theirs [1]", "[1] a paper", ".125"):
        assert expected in text, "nothing is cut off on a narrow terminal"
    assert "MMA@9" not in text and "never" not in text
    assert "image 4 is missing" in text and "(all in the files)" in text


def test_json(report: Report, tmp_path: Path) -> None:
    save_report(report, tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    rows = content["tables"][0]["rows"]
    assert rows[0] == {
        "method": "ours", "group": "overall", "source": "", "values": {"mma": 0.5, "count": 1234, "more": 0.25}
    }  # fmt: skip
    assert rows[1]["values"]["mma"] is None and rows[2]["source"] == "a paper"
    assert content["protocol"] == "d2net" and content["notes"] == list(report.notes)
    assert content["details"] == [{"method": "ours", "mma": 0.5, "pair": "1-2"}, {"method": "ours", "extra": None}]


def test_csv(report: Report, tmp_path: Path) -> None:
    save_report(report, tmp_path / "r.csv")
    first, second = (tmp_path / "r.csv").read_text(encoding="utf-8").split("\n\n")
    rows = list(csv.DictReader(io.StringIO(first)))
    assert [row["mma"] for row in rows] == ["0.5", "", "0.4", "1.0"]
    assert rows[0]["more"] == "0.25" and rows[0]["protocol"] == "d2net" and rows[1]["method"] == HOSTILE
    assert next(csv.DictReader(io.StringIO(second)))["table"] == "Second"
    save_details(report, tmp_path / "d.csv")
    details = list(csv.DictReader((tmp_path / "d.csv").read_text(encoding="utf-8").splitlines()))
    assert details[0] == {"method": "ours", "mma": "0.5", "pair": "1-2", "extra": ""}


def test_markdown(report: Report, tmp_path: Path) -> None:
    save_report(report, tmp_path / "r.md")
    text = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert "| part | method | MMA@1 | matches | source |" in text and "| overall | ours | .500 | 1234 |  |" in text
    assert "\\|" in text, "a bar in a label is no new cell"
    chosen = markdown_table(report.table, ["more", "mma"])
    assert chosen.startswith("| part | method | MMA@9 | MMA@1 | source |")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_whole_safe_and_needs_no_network(report: Report, tmp_path: Path) -> None:
    save_report(report, tmp_path / "r.html")
    page = _Page()
    page.feed((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    loaded = [a[name] for _, a in page.tags for name in ("src", "href", "data", "srcset") if name in a]
    assert len(loaded) == 1 and str(loaded[0]).startswith("data:image/jpeg;base64,")
    assert "url(" not in page.text and "@import" not in page.text
    assert sum(tag == "svg" for tag, _ in page.tags) == 2 and sum(tag == "table" for tag, _ in page.tags) == 2
    for expected in (HOSTILE, "d2net", ".500", ".250", "a paper", "image 4 is missing", "a picture", "What it is."):
        assert expected in page.text


def test_svg_is_well_formed(report: Report) -> None:
    for plot in report.plots:
        root = ET.fromstring(plot_svg(plot))
        assert len(root.findall(".//{*}circle")) == 2, "what is not finite is left out"
    empty = ET.fromstring(plot_svg(Plot("Empty & none", "x", "y", ())))
    assert "nothing to plot" in "".join(empty.itertext())


def test_svg_places_points_where_they_belong() -> None:
    series = Series("a", (1.0, 10.0, 100.0), (0.0, 0.5, 1.0))
    root = ET.fromstring(plot_svg(Plot("P", "x", "y", (series,), log_x=True)))
    x, y = ([float(c.attrib[name]) for c in root.findall(".//{*}circle")] for name in ("cx", "cy"))
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2) and x[2] > x[0]
    assert y[0] - y[1] == pytest.approx(y[1] - y[2], abs=0.2) and y[2] < y[0], "y grows upwards"


@pytest.mark.parametrize("values", [(1.0, 1.0), (0.0, 0.0), (1e-9, 2e-9), (1e9, 3e9), (-5.0, 5.0)])
def test_svg_of_any_range(values: tuple[float, float]) -> None:
    for log in (False, True):
        text = plot_svg(Plot("P", "x", "y", (Series("a", values, values),), log_x=log, log_y=log))
        assert not re.search(r"nan|inf", text)


def test_wrong_names(report: Report, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"\.json, \.csv, \.md, \.html"):
        save_report(report, tmp_path / "report.pdf")
    with pytest.raises(InvalidInputError, match="no column for nonsense"):
        Table("T", COLUMNS, (Row("a", {"nonsense": 1}),))
    with pytest.raises(KeyError):
        report.table.row("ours", "nowhere")
