"""Benchmarks: extractors evaluated by the field's own protocols; what is computed is kept and not computed again.

>>> from tiepoints.benchmarks import evaluate_hpatches
>>> report = evaluate_hpatches(tp.load("rootsift"), "hpatches-sequences-release", profile="d2net")
>>> report.table.row("rootsift", "overall").values["mma3"]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .hpatches import evaluate_hpatches
    from .image_matching import evaluate_image_matching
    from .methods import Method, default_store, method
    from .report import Column, Picture, Plot, Report, Row, Series, Table
    from .speed import evaluate_speed
    from .trajectories import evaluate_trajectories
    from .writers import print_report, save_details, save_report

_MODULES = {
    "image_matching": ("evaluate_image_matching",),
    "methods": ("Method", "default_store", "method"),
    "hpatches": ("evaluate_hpatches",),
    "report": ("Column", "Picture", "Plot", "Report", "Row", "Series", "Table"),
    "speed": ("evaluate_speed",),
    "trajectories": ("evaluate_trajectories",),
    "writers": ("print_report", "save_details", "save_report"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Column",
    "Method",
    "Picture",
    "Plot",
    "Report",
    "Row",
    "Series",
    "Table",
    "default_store",
    "evaluate_hpatches",
    "evaluate_image_matching",
    "evaluate_speed",
    "evaluate_trajectories",
    "method",
    "print_report",
    "save_details",
    "save_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
