"""Benchmarks: what extractors are worth on the field's own protocols, from features that are extracted once.

>>> from tiepoints.benchmarks import evaluate_hpatches
>>> report = evaluate_hpatches(tp.load("rootsift"), "hpatches-sequences-release", profile="d2net")
>>> report.table.row("rootsift", "overall").values["mma3"]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .image_matching import evaluate_image_matching
    from .methods import Method, method
    from .planar.hpatches import evaluate_hpatches
    from .report import Column, Picture, Plot, Report, Row, Series, Table
    from .speed.benchmark import evaluate_speed
    from .store import Extracted, default_store, extracted
    from .trajectories import evaluate_trajectories
    from .writers import print_report, save_details, save_report

_MODULES = {
    "image_matching": ("evaluate_image_matching",),
    "methods": ("Method", "method"),
    "planar.hpatches": ("evaluate_hpatches",),
    "report": ("Column", "Picture", "Plot", "Report", "Row", "Series", "Table"),
    "speed.benchmark": ("evaluate_speed",),
    "store": ("Extracted", "default_store", "extracted"),
    "trajectories": ("evaluate_trajectories",),
    "writers": ("print_report", "save_details", "save_report"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Column",
    "Extracted",
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
    "extracted",
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
