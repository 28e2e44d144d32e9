"""What a benchmark hands over: tables of figures with their sources, and what is needed to judge them."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..errors import InvalidInputError

__all__ = ["Column", "Picture", "Plot", "Report", "Row", "Series", "Table", "Value", "versions"]

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
    """

    key: str
    title: str
    digits: int = 3
    help: str = ""
    main: bool = True


@dataclass(frozen=True)
class Row:
    """A line of a table: one method on one part of the data.

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
    """

    method: str
    values: Mapping[str, Value]
    group: str = ""
    source: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under common columns.

    Raises
    ------
    InvalidInputError
        If a row has a value for which there is no column.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

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


@dataclass(frozen=True)
class Series:
    """One method's points in a plot; `reference` marks what was not measured here."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    reference: bool = False


@dataclass(frozen=True)
class Plot:
    """Curves ("lines"), or marks ("points"), one series a method."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    kind: Literal["lines", "points"] = "lines"
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, eq=False)
class Picture:
    """An example: (H, W, 3) uint8 RGB and what it shows."""

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

    @property
    def table(self) -> Table:
        """The first table."""
        return self.tables[0]

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pictures, as JSON takes it: what is not finite becomes None."""
        return {
            "title": self.title,
            "protocol": self.protocol,
            "description": self.description,
            "notes": list(self.notes),
            "tables": [
                {
                    "title": table.title,
                    "columns": [{"key": c.key, "title": c.title, "help": c.help} for c in table.columns],
                    "rows": [
                        {"method": row.method, "group": row.group, "source": row.source}
                        | {"values": {key: plain(value) for key, value in row.values.items()}}
                        for row in table.rows
                    ],
                }
                for table in self.tables
            ],
            "details": [{key: plain(value) for key, value in record.items()} for record in self.details],
            "about": dict(self.about),
        }


def plain(value: Any) -> Value:
    """A NumPy number as a Python one; None for what is not finite, which JSON cannot say."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value  # type: ignore[no-any-return]


def versions(*packages: str) -> dict[str, str]:
    """Versions of tiepoints, Python, the machine and the given distributions, for `Report.about`."""
    found = {"tiepoints": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # noqa: PERF203
            found[name] = "not installed"
    return found
