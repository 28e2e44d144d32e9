"""Benchmarks: extractors evaluated by the field's own protocols; what is computed is kept and not computed again.

>>> from tiepoints.benchmarks import evaluate_hpatches
>>> report = evaluate_hpatches(tp.load("rootsift"), "hpatches-sequences-release", profile="d2net")
>>> report.table.row("rootsift", "overall").values["mma3"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .hpatches import evaluate_hpatches as evaluate_hpatches
    from .image_matching import evaluate_image_matching as evaluate_image_matching
    from .methods import Method as Method, default_store as default_store, method as method
    from .report import (
        Column as Column,
        Picture as Picture,
        Plot as Plot,
        Report as Report,
        Row as Row,
        Series as Series,
        Table as Table,
    )
    from .speed import evaluate_speed as evaluate_speed
    from .trajectories import evaluate_trajectories as evaluate_trajectories
    from .writers import print_report as print_report, save_details as save_details, save_report as save_report

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "hpatches": ["evaluate_hpatches"],
        "image_matching": ["evaluate_image_matching"],
        "methods": ["Method", "default_store", "method"],
        "report": ["Column", "Picture", "Plot", "Report", "Row", "Series", "Table"],
        "speed": ["evaluate_speed"],
        "trajectories": ["evaluate_trajectories"],
        "writers": ["print_report", "save_details", "save_report"],
    },
)
