"""Reports: nothing is lost or invented on the way to the terminal, to machines and to the browser."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
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
from tiepoints.benchmarks.html import plot_svg
from tiepoints.benchmarks.report import show
from tiepoints.benchmarks.writers import markdown_table
from tiepoints.errors import InvalidInputError, StorageError

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


def test_a_terminal_gets_no_control_characters(report: Report) -> None:
    rows = (Row("a\x1b[31m", {"mma": 0.5}, "v_\x1b]0;x\x07"),)
    odd = replace(report, title="t\x1b[2J", tables=(Table("T\x9b", COLUMNS, rows),), notes=("n\x1b[1m\n\x08",))
    stream = io.StringIO()
    print_report(odd, Console(file=stream, width=80))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", stream.getvalue()) and ".500" in stream.getvalue()


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
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts.append(data)
        else:
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", {}))


def test_html_is_whole_safe_and_needs_no_network(report: Report, tmp_path: Path) -> None:
    save_report(report, tmp_path / "r.html")
    page = _Page()
    page.feed((tmp_path / "r.html").read_text(encoding="utf-8"))
    tags = [tag for tag, _ in page.tags]
    assert not {"link", "iframe", "object", "embed"} & set(tags)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    allowed = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert len(page.scripts) == 1 and f"script-src 'sha256-{allowed}'" in str(policy), "no script but the page's own"
    assert str(policy).startswith("default-src 'none'")
    names = ("src", "href", "data", "srcset", "xlink:href")
    loaded = [a[name] for _, a in page.tags for name in names if name in a and not str(a[name]).startswith("#")]
    assert len(loaded) == 1 and str(loaded[0]).startswith("data:image/jpeg;base64,")
    assert "url(" not in page.text and "@import" not in page.text
    assert tags.count("svg") == 2 and tags.count("table") == 3
    for expected in (HOSTILE, "d2net", ".500", ".250", "a paper", "image 4 is missing", "a picture", "What it is."):
        assert expected in page.text


def test_svg_is_well_formed(report: Report) -> None:
    for plot in report.plots:
        root = ET.fromstring(plot_svg(plot))
        assert HOSTILE[:30] in "".join(root.itertext()) and plot.title in "".join(root.itertext())
        assert not re.search(r"\b(nan|inf)\b", plot_svg(plot)), "what is not finite is left out"
        assert plot_svg(plot) == plot_svg(plot)
        assert "$" not in plot_svg(plot), "labels of a logarithmic axis are plain numbers"
    assert "Empty & none" in "".join(ET.fromstring(plot_svg(Plot("Empty & none", "x", "y", ()))).itertext())


@pytest.mark.parametrize("values", [(1.0, 1.0), (0.0, 0.0), (1e-9, 2e-9), (1e9, 3e9), (-5.0, 5.0)])
@pytest.mark.parametrize("log", [False, True])
def test_svg_of_any_range(values: tuple[float, float], log: bool) -> None:
    text = plot_svg(Plot("P", "x", "y", (Series("_a $b", values, values),), log_x=log, log_y=log))
    assert "_a $b" in "".join(ET.fromstring(text).itertext())


def test_without_matplotlib_the_extra_is_named(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    save_report(report, tmp_path / "r.html")
    assert "tiepoints[report]" in (tmp_path / "r.html").read_text(encoding="utf-8")


RANKED = (
    Column("mma", "MMA", better="higher"),
    Column("ms", "MS", better="higher"),
    Column("error", "error", 1, better="lower"),
    Column("count", "count", 0),
)


def test_a_sentence_says_who_is_best() -> None:
    rows = (
        Row("a", {"mma": 0.5, "ms": 0.2, "error": 3.0, "count": 9}, "overall"),
        Row("b", {"mma": 0.4, "ms": 0.2001, "error": 1.0, "count": 1}, "overall"),
        Row("paper", {"mma": 0.9}, "overall", "a paper"),
        Row("b", {"mma": 0.9, "error": 9.0}, "viewpoint"),
    )
    table = Table("T", RANKED, rows, ranks=("mma", "ms", "error", "count"))
    assert table.verdict == "Overall: a is best at MMA (.500); a and b are best at MS (.200); b is best at error (1.0)."
    assert table.best(rows[:3], RANKED[0]) == {"a"} and table.best(rows[:3], RANKED[3]) == set()
    assert Table("T", RANKED, rows[:1], ranks=("mma",)).verdict == "", "one method has nobody to beat"
    assert Table("T", RANKED, rows).verdict == ""


def test_the_best_value_stands_out(tmp_path: Path) -> None:
    rows = (Row("a", {"mma": 0.5}), Row("b", {"mma": 0.4}), Row("p", {"mma": 0.9}, source="a paper"))
    report = Report("R", "p", "", (Table("T", RANKED, rows, ranks=("mma",)),))
    save_report(report, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert re.findall(r'class="best">([^<]*)<', text) == [".500"] and "a is best at MMA (.500)." in text
    stream = io.StringIO()
    print_report(report, Console(file=stream, force_terminal=True))
    assert "\x1b[1m.500\x1b[0m" in stream.getvalue() and "\x1b[1m.400" not in stream.getvalue()


def test_equal_groups_are_shown_once(tmp_path: Path) -> None:
    rows = (
        Row("a", {"mma": 0.5}, "overall"),
        Row("paper", {"mma": 0.7}, "overall", "a paper"),
        Row("a", {"mma": 0.5}, "viewpoint"),
        Row("paper", {"mma": 0.6}, "viewpoint", "a paper"),
        Row("a", {"mma": 0.4}, "other"),
    )
    table = Table("T", RANKED, rows)
    assert [[(name, row.values["mma"]) for row in rows] for name, rows in table.groups().items()] == [
        [("overall = viewpoint", 0.5), ("overall = viewpoint", 0.6)],
        [("other", 0.4)],
    ]
    assert markdown_table(table).count("| a |") == 2
    save_report(Report("R", "p", "", (table,)), tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text(encoding="utf-8").count(",a,") == 3, "machines get every row"


def test_long_and_many_notes_are_folded(tmp_path: Path) -> None:
    names = ", ".join(f"v_sequence_{i}" for i in range(100))
    notes = (f"data: 100 of 108 sequences are missing: {names}", *(f"note {i}" for i in range(9)))
    save_report(Report("R", "p", "", (Table("T", RANKED, ()),), notes=notes), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<summary>data: 100 of 108 sequences are missing ...</summary>" in text and names in text
    assert "<summary>4 more notes</summary>" in text and "<li>note 8</li>" in text


@pytest.mark.parametrize("suffix", [".json", ".csv", ".md", ".html"])
def test_a_file_that_cannot_be_written_is_one_line(report: Report, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "file").touch()
    folders = [tmp_path / "file", *([Path("/proc")] if Path("/proc").is_dir() else [])]
    report = replace(report, plots=())
    for folder in folders:
        for save in (save_report, save_details):
            with pytest.raises(StorageError, match=f"x{suffix}: cannot be written") as error:
                save(report, folder / f"x{suffix}")
            assert "\n" not in str(error.value)


def test_wrong_names(report: Report, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"\.json, \.csv, \.md, \.html"):
        save_report(report, tmp_path / "report.pdf")
    with pytest.raises(InvalidInputError, match="no column for nonsense"):
        Table("T", COLUMNS, (Row("a", {"nonsense": 1}),))
    with pytest.raises(KeyError):
        report.table.row("ours", "nowhere")
