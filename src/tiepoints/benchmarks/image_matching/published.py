"""Figures that others published on the Image Matching Benchmark, each with its source."""

from __future__ import annotations

from ..report import Row

__all__ = ["PUBLISHED"]

_MDNET = "Santellani et al., MD-Net, ICPR 2022 (arXiv 2208.05350)"
_RELEASE = "the benchmark's released results, rootsift-upright-2k-both-degensac.json"
_KEYS = ("nf", "ni", "rep3", "ms3", "maa10", "nm", "nl", "tl", "ate", "mv_maa10", "average")

# As printed: the average of ASLFeat's second row, .403, is not that of its two columns, .401 and .400.
_TABLE: dict[str, dict[str, tuple[float, ...]]] = {
    "Phototourism": {
        "MD-2-Net": (2047.5, 233.0, 0.396, 0.792, 0.455, 238.6, 1391.5, 4.604, 0.411, 0.708, 0.581),
        "R2D2": (2048.0, 201.5, 0.429, 0.746, 0.390, 294.3, 1225.9, 4.280, 0.478, 0.640, 0.515),
        "ASLFeat": (2042.6, 126.0, 0.431, 0.749, 0.337, 157.5, 1106.6, 4.415, 0.533, 0.556, 0.446),
        "Upright-SIFT": (1892.8, 98.6, 0.333, 0.788, 0.383, 148.0, 1165.7, 4.118, 0.524, 0.555, 0.469),
    },
    "other scenes": {
        "MD-2-Net": (2048.0, 175.5, 0.039, 0.027, 0.542, 236.3, 605.8, 3.197, 6.753, 0.451, 0.497),
        "R2D2": (2048.0, 167.0, 0.032, 0.025, 0.539, 338.9, 526.0, 3.170, 6.837, 0.444, 0.491),
        "ASLFeat": (2048.0, 110.5, 0.059, 0.029, 0.401, 217.1, 574.4, 3.036, 6.414, 0.400, 0.403),
        "Upright-SIFT": (2048.0, 119.8, 0.060, 0.027, 0.414, 157.3, 433.3, 2.989, 5.666, 0.361, 0.387),
    },
}

# RootSIFT, upright, 2,048 keypoints, ratio 0.9, DEGENSAC 0.5 px, on the three validation scenes.
_VALIDATION = {
    "nf": 1975.7,
    "matches": 188.3,
    "ni": 91.8,
    "maa5": 0.4855,
    "maa10": 0.5756,
    "nm_given": 196.1,
    "nl": 1202.2,
    "tl": 4.053,
    "ate": 0.611,
    "mv_maa10_5": 0.4069,
    "mv_maa10_10": 0.6691,
    "mv_maa10_25": 0.8596,
    "mv_maa10": 0.6452,
    "average": 0.6104,
}
_SCENES = {"reichstag": 0.5641, "sacre_coeur": 0.7233, "st_peters_square": 0.4393}

PUBLISHED: tuple[Row, ...] = (
    *(
        Row(method, dict(zip(_KEYS, figures, strict=True)), group=f"{block} (test)", source=_MDNET)
        for block, methods in _TABLE.items()
        for method, figures in methods.items()
    ),
    Row("RootSIFT-upright", _VALIDATION, group="Phototourism (validation)", source=_RELEASE),
    *(Row("RootSIFT-upright", {"maa10": maa}, group=scene, source=_RELEASE) for scene, maa in _SCENES.items()),
)
