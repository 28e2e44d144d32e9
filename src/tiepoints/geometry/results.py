"""What an estimator returns: a model or none, and which correspondences agree with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from ..errors import InvalidInputError

__all__ = ["Geometry", "Kind"]

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Kind = Literal["homography", "fundamental", "essential", "relative_pose", "absolute_pose"]
_POSES = ("relative_pose", "absolute_pose")


def _mask(values: ArrayLike, what: str) -> Mask:
    array = np.asarray(values)
    mask = array.astype(bool) if array.dtype.kind in "iuf" else array  # 0 and 1 of whatever type
    return checks.frozen(checks.array(mask, what, ("M",), np.bool_))


@dataclass(frozen=True, eq=False, repr=False)
class Geometry:
    """An estimated model with its inliers; falsy if there is no model.

    It unpacks into its parts, ``H, inliers = homography(...)`` and ``R, t, inliers = relative_pose(...)``, and is
    indexed like that tuple.

    Parameters
    ----------
    kind : {"homography", "fundamental", "essential", "relative_pose", "absolute_pose"}
        What the matrix is.
    matrix : (3, 3) or (3, 4) float64, or None
        homography H: b ~ H a, with H[2, 2] = 1 (unless that entry is nearly 0: then of Frobenius norm 1).
        fundamental F: b^T F a = 0. essential E: the same for normalised coordinates (rays with z = 1). F and E have
        Frobenius norm 1, and their entry of the largest magnitude is positive. a and b are homogeneous [x, y, 1], of H
        and F in pixels, pixel-centre convention.
        relative_pose [R | t]: x_b = R x_a + t, b_from_a with |t| = 1, since two views do not tell the scale.
        absolute_pose [R | t]: x_cam = R x_world + t, cam_from_world, in the unit of the points. Camera frames have x to
        the right, y down and z forward. None: no model was found.
    inliers : (M,) bool
        Which correspondences agree with the model; all False without one.
    watermark : (M,) bool, optional
        Correspondences on an overlay, such as a burnt-in date, that is at the same place in both images and says
        nothing about the scene. They were left out of the estimate. None if there is none.
    focal_is_known : bool
        Whether the focal lengths behind a pose or an essential matrix were known, not guessed: see `Camera`.
    threshold : float, optional
        Pixels: the error that an inlier has at most, as it was given to the estimate; None where nobody knows.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.geometry import Geometry
    >>> H, inliers = Geometry("homography", np.eye(3), [True, True, False])
    >>> H.shape, int(inliers.sum())
    ((3, 3), 2)
    """

    kind: Kind
    matrix: Float64 | None
    inliers: Mask
    watermark: Mask | None = None
    focal_is_known: bool = True
    threshold: float | None = None

    def __post_init__(self) -> None:
        checks.choice(self.kind, "the kind of geometry", get_args(Kind))
        object.__setattr__(self, "inliers", _mask(self.inliers, "inliers"))
        checks.flag(self.focal_is_known, "focal_is_known")
        if self.threshold is not None:
            checks.number(self.threshold, "threshold", above=0)
        if self.watermark is not None:
            object.__setattr__(self, "watermark", _mask(self.watermark, "the matches on a watermark"))
            if len(self.watermark) != len(self.inliers):
                raise InvalidInputError(f"watermark has {len(self.watermark)} matches, inliers {len(self.inliers)}")
        if self.matrix is not None:
            shape = (3, 4) if self.kind in _POSES else (3, 3)
            matrix = checks.array(self.matrix, f"the numbers of the {self.kind} matrix", shape)
            object.__setattr__(self, "matrix", checks.frozen(matrix))
        elif self.inliers.any():
            raise InvalidInputError(f"{self.num_inliers} inliers were given without a matrix to agree with")

    @property
    def found(self) -> bool:
        """Whether there is a model."""
        return self.matrix is not None

    @property
    def num_inliers(self) -> int:
        """How many correspondences agree with the model."""
        return int(np.count_nonzero(self.inliers))

    @property
    def rotation(self) -> Float64 | None:
        """(3, 3) float64: R of a pose, orthonormal with determinant 1; None without one."""
        return self.matrix[:, :3] if self.matrix is not None and self.kind in _POSES else None

    @property
    def translation(self) -> Float64 | None:
        """(3,) float64: t of a pose; None without one."""
        return self.matrix[:, 3] if self.matrix is not None and self.kind in _POSES else None

    @property
    def center(self) -> Float64 | None:
        """(3,) the origin of the target frame (the camera's centre), in the source frame; None without a pose."""
        if self.rotation is None or self.translation is None:
            return None
        return -self.rotation.T @ self.translation

    def __bool__(self) -> bool:
        return self.found

    def _parts(self) -> tuple[Any, ...]:
        return (self.rotation, self.translation, self.inliers) if self.kind in _POSES else (self.matrix, self.inliers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parts())

    def __getitem__(self, index: Any) -> Any:
        return self._parts()[index]

    def __len__(self) -> int:
        return len(self._parts())

    def _repr_html_(self) -> str:
        """The model as a table, as a notebook shows it."""
        import html

        rows = [] if self.matrix is None else self.matrix.tolist()
        cells = "".join("<tr>" + "".join(f"<td>{value:.6g}</td>" for value in row) + "</tr>" for row in rows)
        return f"<p>{html.escape(repr(self))}</p>" + (f"<table>{cells}</table>" if cells else "")

    def __repr__(self) -> str:
        what = f"{self.num_inliers} of {len(self.inliers)} inliers" if self.found else f"none in {len(self.inliers)}"
        if self.watermark is not None:
            what += f", {np.count_nonzero(self.watermark)} on a watermark left out"
        if not self.focal_is_known:
            what += ", focal length guessed"
        return f"Geometry({self.kind}, {what})"
