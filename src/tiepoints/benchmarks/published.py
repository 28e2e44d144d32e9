"""Figures that others published on HPatches and on the Image Matching Benchmark, each with its source."""

from __future__ import annotations

from .report import Row, Value

__all__ = ["IMAGE_MATCHING", "hpatches"]

_CACHE = "published cache, 540 pairs"
_CACHE_KEYS = ("mma1", "mma2", "mma3", "keypoints", "matches")
_PAPER = "MD-Net's paper (ICPR 2022), 540 pairs"
_PAPER_KEYS = ("mma1", "mma2", "mma3", "ms1", "ms2", "ms3")

# method: MMA@1, 2, 3, keypoints, matches. From the features (or curves) that the methods' authors published.
_CACHES: dict[str, tuple[float | None, ...]] = {
    "D2-Net": (0.127, 0.277, 0.406, None, None),
    "LF-Net": (0.307, 0.468, 0.530, None, None),
    "HesAff + RootSIFT": (0.313, 0.486, 0.562, None, None),
    "HesAffNet + HardNet++": (0.331, 0.522, 0.616, None, None),
    "SuperPoint": (0.339, 0.542, 0.645, 1563, 883),
    "R2D2 WAF 256-1024": (0.274, 0.544, 0.687, None, None),
    "R2D2 WASF scale .3-1": (0.333, 0.622, 0.758, 4959, 1635),
    "ASLFeat": (0.398, 0.613, 0.723, None, None),
    "ASLFeat v2 MS": (0.407, 0.637, 0.753, None, None),
    "DISK 2k": (0.415, 0.669, 0.753, None, None),
    "DISK 8k": (0.380, 0.667, 0.774, None, None),
    "ALIKE-N": (0.435, 0.631, 0.708, None, None),
    "ALIKE-L": (0.439, 0.631, 0.705, None, None),
}

# method: homography accuracy @1, 2, 3.
_HOMOGRAPHIES = {
    "SuperPoint": (0.350, 0.583, 0.702),
    "R2D2": (0.357, 0.594, 0.715),
    "ASLFeat": (0.372, 0.617, 0.735),
    "DISK": (0.341, 0.576, 0.706),
    "ALIKE-L": (0.450, 0.659, 0.769),
}

# part of the data: method: MMA@1, 2, 3, MS@1, 2, 3.
_MDNET = {
    "viewpoint": {
        "MD-2-Net": (0.316, 0.600, 0.722, 0.171, 0.313, 0.393),
        "R2D2": (0.280, 0.568, 0.700, 0.118, 0.228, 0.273),
        "ASLFeat": (0.332, 0.565, 0.675, 0.203, 0.338, 0.398),
        "Upright-SIFT": (0.313, 0.472, 0.533, 0.167, 0.247, 0.277),
    },
    "illumination": {
        "MD-2-Net": (0.480, 0.658, 0.765, 0.242, 0.323, 0.368),
        "R2D2": (0.377, 0.660, 0.797, 0.170, 0.285, 0.336),
        "ASLFeat": (0.469, 0.664, 0.774, 0.290, 0.398, 0.456),
        "Upright-SIFT": (0.344, 0.475, 0.528, 0.161, 0.216, 0.238),
    },
    "overall": {
        "MD-2-Net": (0.398, 0.630, 0.743, 0.206, 0.317, 0.369),
        "R2D2": (0.326, 0.612, 0.747, 0.143, 0.255, 0.304),
        "ASLFeat": (0.398, 0.613, 0.723, 0.245, 0.367, 0.426),
        "Upright-SIFT": (0.327, 0.473, 0.531, 0.164, 0.232, 0.258),
    },
}


def hpatches(profile: str) -> tuple[Row, ...]:
    """Published rows that a protocol's table shows beside what was measured, each with its source.

    Parameters
    ----------
    profile : str
        "d2net" gets the averages of the published caches, and homography accuracy; "d2net" and "strek", the protocol
        of the MD-Net authors, get MD-Net's own table. No published figures are known here for other protocols.
    """
    rows: list[Row] = []
    if profile == "d2net":
        for method in dict.fromkeys([*_CACHES, *_HOMOGRAPHIES]):
            values: dict[str, Value] = dict(zip(_CACHE_KEYS, _CACHES.get(method, ()), strict=False))
            values |= dict(zip(("h1", "h2", "h3"), _HOMOGRAPHIES.get(method, ()), strict=False))
            rows.append(Row(method, values, "overall", _CACHE))
    if profile in ("d2net", "strek"):
        rows += [
            Row(method, dict(zip(_PAPER_KEYS, values, strict=True)), part, _PAPER)
            for part, methods in _MDNET.items()
            for method, values in methods.items()
        ]
    return tuple(rows)


# Image Matching Benchmark.

_IMB_MDNET = "Santellani et al., MD-Net, ICPR 2022 (arXiv 2208.05350)"
_IMB_RELEASE = "the benchmark's released results, rootsift-upright-2k-both-degensac.json"
_IMB_KEYS = ("nf", "ni", "rep3", "ms3", "maa10", "nm", "nl", "tl", "ate", "mv_maa10", "average")

# As printed: the average of ASLFeat's second row, .403, is not that of its two columns, .401 and .400.
_IMB_TABLE: dict[str, dict[str, tuple[float, ...]]] = {
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
_IMB_VALIDATION = {
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
_IMB_SCENES = {"reichstag": 0.5641, "sacre_coeur": 0.7233, "st_peters_square": 0.4393}

IMAGE_MATCHING: tuple[Row, ...] = (
    *(
        Row(method, dict(zip(_IMB_KEYS, figures, strict=True)), group=f"{block} (test)", source=_IMB_MDNET)
        for block, methods in _IMB_TABLE.items()
        for method, figures in methods.items()
    ),
    Row("RootSIFT-upright", _IMB_VALIDATION, group="Phototourism (validation)", source=_IMB_RELEASE),
    *(Row("RootSIFT-upright", {"maa10": maa}, group=scene, source=_IMB_RELEASE) for scene, maa in _IMB_SCENES.items()),
)
