"""Figures that others published on HPatches and on the Image Matching Benchmark, each with its source.

They are in ``published.csv``. The published caches are averages of the features (or curves) that the methods' authors
published. MD-Net's second table is as printed: the average of ASLFeat, .403, is not that of its two columns, .401 and
.400. The benchmark's released results are RootSIFT, upright, 2,048 keypoints, ratio 0.9, DEGENSAC 0.5 px.
"""

from __future__ import annotations

import csv
import json
from importlib.resources import files

from .report import Row

__all__ = ["rows"]


def rows(protocol: str) -> tuple[Row, ...]:
    """Published rows that a protocol's table shows beside what was measured; none where no figures are known here.

    Parameters
    ----------
    protocol : str
        "d2net" has the averages of the published caches, and homography accuracy; "d2net" and "strek", the protocol of
        the MD-Net authors, have MD-Net's own table; "imb" is the Image Matching Benchmark.
    """
    text = files(__package__).joinpath("published.csv").read_text(encoding="utf-8")
    found = []
    for record in csv.DictReader(text.splitlines()):
        if protocol in record["protocols"].split():
            figures = (figure.split("=") for figure in record["figures"].split())
            values = {key: json.loads(value or "null") for key, value in figures}
            found.append(Row(record["method"], values, record["group"], record["source"]))
    return tuple(found)
