"""What is published about HPatches: the figures of other methods with their sources."""

from __future__ import annotations

from ..report import Row, Value

__all__ = ["references"]

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


def references(profile: str) -> tuple[Row, ...]:
    """Published rows that a protocol's table shows beside what was measured, each with its source.

    Parameters
    ----------
    profile : str
        "d2net" gets the averages of the published caches, and homography accuracy; "d2net" and "strek", the line of
        the MD-Net authors, get MD-Net's own table. No published figures are known here for other protocols.
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
