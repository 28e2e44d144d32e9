"""What a COLMAP database says of two views, and all that it holds, in our conventions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal as OneOf, get_args

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..errors import InvalidInputError
from ..exif import Position
from ..features import Features, Matches

__all__ = ["MATRIX", "ColmapDatabase", "Kind", "Pair", "TwoView"]

Pair = tuple[str, str]

#: COLMAP's names for what relates two views, in lower case.
Kind = OneOf[
    "undefined",
    "degenerate",
    "calibrated",
    "calibrated_rig",
    "uncalibrated",
    "planar",
    "panoramic",
    "planar_or_panoramic",
    "watermark",
    "multiple",
]
# Which of a two-view geometry's matrices belongs to its kind.
MATRIX: dict[str, str] = {
    "calibrated": "E",
    "calibrated_rig": "E",
    "uncalibrated": "F",
    "planar": "H",
    "panoramic": "H",
    "planar_or_panoramic": "H",
}


@dataclass(frozen=True, eq=False)
class TwoView:
    """The verified matches of a pair and the model that verified them.

    Parameters
    ----------
    matches : Matches
        The inliers; their scores do not go into the database.
    kind : str
        COLMAP's configuration, in lower case; 'calibrated', 'uncalibrated' and 'planar' are the usual ones.
    matrix : (3, 3) float64, optional
        From the first image to the second, in pixels, pixel-centre convention: the essential matrix (of normalised
        coordinates) if calibrated, the fundamental matrix if uncalibrated, the homography if planar or panoramic.
    putative : Matches, optional
        What was to be verified; the inliers if not given.

    Raises
    ------
    InvalidInputError
        If the kind is unknown, or the matrix is not 3x3 and finite or the kind has none.

    Examples
    --------
    >>> import numpy as np
    >>> import tiepoints as tp
    >>> from tiepoints.storage import TwoView
    >>> inliers = tp.Matches([[0, 0], [1, 2]], [0.9, 0.8])
    >>> TwoView(inliers, "planar", np.eye(3)).kind
    'planar'
    """

    matches: Matches
    kind: Kind = "uncalibrated"
    matrix: NDArray[np.float64] | None = None
    putative: Matches | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InvalidInputError(
                f"{self.kind!r} is no kind of two-view geometry; known are {', '.join(get_args(Kind))}"
            )
        if self.matrix is not None:
            matrix = np.array(self.matrix, dtype=np.float64)
            if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or self.kind not in MATRIX:
                raise InvalidInputError(f"no matrix of kind {self.kind}: {matrix.tolist()}")
            matrix.flags.writeable = False
            object.__setattr__(self, "matrix", matrix)


@dataclass(frozen=True, eq=False)
class ColmapDatabase:
    """What a COLMAP database holds, in our conventions.

    Parameters
    ----------
    images : dict of str to (Features, Camera)
        By image name, in the order of the database.
    matches : dict of (str, str) to Matches
        Unverified; every score is 1.
    two_views : dict of (str, str) to TwoView
        Verified; what the mapper works from.
    positions : dict of str to Position
        Where images were taken, as far as the database has it in WGS 84.
    failed : dict of str to str
        Images that cannot be used, and why: their camera is of an unknown model or damaged, or their name leads out of
        the folder of the images. Their pairs are left out as well. Pairs of other images, as "a.jpg - b.jpg", whose
        matches or geometry are damaged.

    Examples
    --------
    >>> import tiepoints as tp
    >>> features = tp.load("orb", max_keypoints=50)("examples/box.png")
    >>> tp.storage.write_colmap("one.db", {"box.png": (features, tp.Camera.from_focal(400, (324, 223)))})
    >>> found = tp.storage.read_colmap("one.db")
    >>> list(found.images), found.images["box.png"][1].model, found.failed
    (['box.png'], 'SIMPLE_RADIAL', {})
    """

    images: dict[str, tuple[Features, Camera]]
    matches: dict[Pair, Matches]
    two_views: dict[Pair, TwoView]
    positions: dict[str, Position] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
