"""What a benchmark hands over: tables of figures with their sources, and what is needed to judge them."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..errors import InvalidInputError
from ..optional import version_of

__all__ = ["Column", "Picture", "Plot", "Report", "Row", "Series", "Table", "Value", "less", "more", "plain", "show"]
__all__ += ["versions"]

Value = float | int | str | None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    key : str
        Under which the rows hold its values, and its name in JSON and CSV.
    title : str
        As people see it.
    digits : int
        Decimals shown; the files for machines keep all.
    help : str
        What exactly is measured, in one line: definition and unit.
    main : bool
        Whether people see it at first; JSON and CSV hold every column.
    better : {"higher", "lower", ""}
        Which values are better; "" for those that are neither.

    Examples
    --------
    >>> from tiepoints.benchmarks import Column
    >>> Column("mma3", "MMA@3", help="mean matching accuracy at 3 px", better="higher").digits
    3
    """

    key: str
    title: str
    digits: int = 3
    help: str = ""
    main: bool = True
    better: Literal["higher", "lower", ""] = ""


#: Columns of which more is better, and of which less is.
more, less = partial(Column, better="higher"), partial(Column, better="lower")


@dataclass(frozen=True)
class Row:
    """A row of a table: one method on one part of the data.

    Parameters
    ----------
    method : str
        Extractor and options, or a published method's name.
    values : mapping
        From a column's key to its value; a key that is missing, and None, mean that there is no such figure. A failure
        is a figure: 0, not None.
    group : str
        The part of the data, such as "viewpoint" or a scene.
    source : str
        Where a published figure comes from; empty for what was measured here.

    Examples
    --------
    >>> from tiepoints.benchmarks import Row
    >>> Row("rootsift", {"mma3": 0.51}, group="viewpoint").values["mma3"]
    0.51
    """

    method: str
    values: Mapping[str, Value]
    group: str = ""
    source: str = ""

    def number(self, key: str) -> Value:
        """The value under a key; None where there is none or it is not finite."""
        return plain(self.values.get(key))


#: A row as people see it: its name with the number of its source, and of each column the figure as printed and whether
#: it is the best of its group.
Line = tuple[Row, str, list[tuple[str, bool]]]


@dataclass(frozen=True)
class Table:
    """Rows under common columns.

    Parameters
    ----------
    title, columns, rows
    ranks : tuple of str
        Keys of the columns that `verdict` names.
    summary : str, optional
        The group that `verdict` is about; the first one if not given.

    Raises
    ------
    InvalidInputError
        If a row has a value for which there is no column.

    Examples
    --------
    >>> from tiepoints.benchmarks import Column, Row, Table
    >>> columns = (Column("mma3", "MMA@3", better="higher"),)
    >>> table = Table("HPatches", columns, (Row("rootsift", {"mma3": 0.51}), Row("orb", {"mma3": 0.44})))
    >>> table.row("orb").values
    {'mma3': 0.44}
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    ranks: tuple[str, ...] = ()
    summary: str | None = None

    def __post_init__(self) -> None:
        known = {column.key for column in self.columns}
        for row in self.rows:
            if unknown := set(row.values) - known:
                raise InvalidInputError(f"table {self.title!r} has no column for {', '.join(sorted(unknown))}")

    def row(self, method: str, group: str = "") -> Row:
        """The row of this method and group; KeyError if there is none."""
        for row in self.rows:
            if row.method == method and row.group == group:
                return row
        raise KeyError(f"{method!r}, {group!r}")

    @property
    def main(self) -> list[Column]:
        """The columns that people see: the main ones that any row has a value for."""
        return [column for column in self.filled if column.main]

    @property
    def filled(self) -> list[Column]:
        """The columns that any row has a value for."""
        return [column for column in self.columns if any(row.number(column.key) is not None for row in self.rows)]

    def groups(self) -> dict[str, list[Row]]:
        """The rows by their groups; groups with the same measured rows are one, "overall = viewpoint"."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.group, []).append(row)
        merged: dict[str, list[Row]] = {}
        for name, rows in groups.items():
            measured = [(row.method, _plain(row.values)) for row in rows if not row.source]
            for other, known in merged.items():
                if measured and measured == [(row.method, _plain(row.values)) for row in known if not row.source]:
                    # Published rows: those of the narrower group, where it has any.
                    published = [row for row in rows if row.source] or [row for row in known if row.source]
                    merged[f"{other} = {name}"] = [*(row for row in known if not row.source), *published]
                    del merged[other]
                    break
            else:
                merged[name] = rows
        return merged

    def lines(self, columns: Sequence[Column], sources: Sequence[str] = ()) -> Iterator[tuple[str, list[Line]]]:
        """Every group's rows, ready to be shown under these columns."""
        for group, rows in self.groups().items():
            best = [self.best(rows, column) for column in columns]
            lines: list[Line] = []
            for row in rows:
                name = f"{row.method} [{sources.index(row.source) + 1}]" if row.source in sources else row.method
                shown = [show(row.values.get(column.key), column) for column in columns]
                wins = [not row.source and row.method in winners for winners in best]
                lines.append((row, name, list(zip(shown, wins, strict=True))))
            yield group, lines

    def best(self, rows: Iterable[Row], column: Column) -> set[str]:
        """The methods whose printed figure is the best among several measured rows."""
        values = {row.method: v for row in rows if not row.source and (v := row.number(column.key)) is not None}
        if not column.better or len(values) < 2:
            return set()
        top = (max if column.better == "higher" else min)(values.values())
        return {method for method, value in values.items() if show(value, column) == show(top, column)}

    @property
    def verdict(self) -> str:
        """A sentence that says who is best at what; empty unless several methods were measured."""
        group = self.summary if self.summary is not None else next((row.group for row in self.rows), "")
        rows = [row for row in self.rows if row.group == group and not row.source]
        won: dict[str, list[str]] = {}
        for column in (c for key in self.ranks for c in self.columns if c.key == key):
            if methods := self.best(rows, column):
                value = next(row.values[column.key] for row in rows if row.method in methods)
                won.setdefault(_listed(sorted(methods)), []).append(f"{column.title} ({show(value, column)})")
        parts = [f"{who} {'are' if ' and ' in who else 'is'} best at {_listed(what)}" for who, what in won.items()]
        return f"{group[:1].upper()}{group[1:]}{': ' if group else ''}{'; '.join(parts)}." if parts else ""


@dataclass(frozen=True)
class Series:
    """One method's points in a plot; `reference` marks what was not measured here.

    Examples
    --------
    >>> from tiepoints.benchmarks import Series
    >>> Series("orb", (1, 2, 3), (0.25, 0.44, 0.52)).y[-1]
    0.52
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    reference: bool = False


@dataclass(frozen=True)
class Plot:
    """Curves ("lines"), or marks ("points"), one series a method.

    Examples
    --------
    >>> from tiepoints.benchmarks import Plot, Series
    >>> curves = Plot("MMA", "threshold, px", "MMA", (Series("orb", (1, 2, 3), (0.25, 0.44, 0.52)),))
    >>> curves.kind, len(curves.series)
    ('lines', 1)
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    kind: Literal["lines", "points"] = "lines"
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, eq=False)
class Picture:
    """An example: (H, W, 3) uint8 RGB and what it shows.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.benchmarks import Picture
    >>> Picture("the box", tp.read("examples/box.png")).pixels.shape
    (223, 324, 3)
    """

    caption: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Report:
    """All that a benchmark says, whatever will print it.

    Parameters
    ----------
    title : str
    protocol : str
        The protocol's name, which every figure carries.
    description : str
        What the protocol is, in a few sentences.
    tables : tuple of Table
        The most important first.
    notes : tuple of str
        What the reader must know before trusting the figures: images that were missing, what was left out and why.
    details : tuple of mapping
        A flat record for each pair (image, bag, frame) and method.
    plots, pictures : tuple
        For the HTML report.
    about : mapping
        How the figures were made: versions, options, folders.
    incomplete : bool
        Whether an image or pair could not be judged; the notes name it.

    Examples
    --------
    >>> from tiepoints.benchmarks import Column, Report, Row, Table, print_report
    >>> table = Table("HPatches", (Column("mma3", "MMA@3", better="higher"),), (Row("orb", {"mma3": 0.44}),))
    >>> report = Report("HPatches", "d2net", "Mean matching accuracy.", (table,), notes=("one sequence only",))
    >>> report.table.row("orb").values["mma3"], report.incomplete
    (0.44, False)
    """

    title: str
    protocol: str
    description: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    details: tuple[Mapping[str, Value], ...] = ()
    plots: tuple[Plot, ...] = ()
    pictures: tuple[Picture, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    incomplete: bool = False

    @property
    def table(self) -> Table:
        """The first table."""
        return self.tables[0]

    @property
    def sources(self) -> list[str]:
        """Where the published figures come from, each once, in order."""
        return list(dict.fromkeys(row.source for table in self.tables for row in table.rows if row.source))

    def as_dict(self) -> dict[str, Any]:
        """Everything but plots and pictures, as JSON takes it: what is not finite becomes None."""
        tables = [
            {
                "title": table.title,
                "columns": [{"key": c.key, "title": c.title, "help": c.help} for c in table.columns],
                "rows": [asdict(row) | {"values": _plain(row.values)} for row in table.rows],
            }
            for table in self.tables
        ]
        return {
            "title": self.title,
            "protocol": self.protocol,
            "description": self.description,
            "verdict": self.table.verdict,
            "notes": list(self.notes),
            "tables": tables,
            "details": [_plain(record) for record in self.details],
            "about": dict(self.about),
        }


def versions(*packages: str) -> dict[str, str]:
    """Versions of tiepoints, Python, the machine and the given distributions, for `Report.about`."""
    found = {"tiepoints": __version__, "python": platform.python_version(), "machine": platform.machine()}
    return found | {name: version_of(name) or "not installed" for name in packages}


def show(value: Value, column: Column) -> str:
    """A figure as tables print it: the column's decimals, no zero before the point, and a dash for none."""
    value = plain(value)
    if value is None:
        return "-"
    text = value if isinstance(value, str) else f"{value:.{column.digits}f}"
    return re.sub(r"^(-?)0\.", r"\1.", text)


def plain(value: Any) -> Value:
    """A NumPy number as a Python one; None for what is not finite, which JSON cannot say."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value  # type: ignore[no-any-return]


def _plain(values: Mapping[str, Value]) -> dict[str, Value]:
    return {key: plain(value) for key, value in values.items()}


def _listed(texts: list[str]) -> str:
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
