"""What one should know of a method before using it: paper, licences, kind of descriptor, what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InvalidInputError
from ..weights import WeightFile

__all__ = ["LICENCES", "Metadata", "WeightFile"]

#: SPDX identifier -> whether it allows commercial use. Any other licence counts as one that does not.
LICENCES: dict[str, bool] = {
    "0BSD": True,
    "Apache-2.0": True,
    "BSD-2-Clause": True,
    "BSD-3-Clause": True,
    "BSL-1.0": True,
    "CC-BY-4.0": True,
    "CC-BY-SA-4.0": True,
    "CC0-1.0": True,
    "ISC": True,
    "MIT": True,
    "MPL-2.0": True,
    "Unlicense": True,
    "Zlib": True,
    "CC-BY-NC-4.0": False,
    "CC-BY-NC-ND-4.0": False,
    "CC-BY-NC-SA-3.0": False,
    "CC-BY-NC-SA-4.0": False,
}


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What one should know of a method before using it.

    Parameters
    ----------
    name : str
        The name that `load` takes.
    summary : str
        One line for the table of extractors.
    paper : str
        Authors, title, year.
    code_licence : str
        Of the code, as an SPDX identifier.
    weights_licence : str
        Of the trained weights, as an SPDX identifier, or several with AND; empty for methods that are not learned.
    licence_url : str
        Where the licence of the weights can be read, if it does not allow commercial use; several with " AND " between
        them; empty where it is not known.
    descriptor_size : int
        Columns of `Features.descriptors`; for binary descriptors the number of bits.
    descriptor_type : {"float32", "int8", "binary"}
    subpixel : bool
        Whether keypoints are refined below one pixel.
    learned : bool
        Whether it was trained on images; what it responds to is then known by measurement only.
    weights : tuple of WeightFile
        What is downloaded; empty where the weights come inside the package, or where there are none.
    requires : tuple of str
        Packages beyond the core install that the method imports.
    extra : str
        The extra of tiepoints that installs them.
    rotation_invariant : bool
        Whether images match however they are rotated to each other, because each keypoint has an orientation.
    patents : str
        Patents on the method that may be in force, and until when; empty where none are known. What we know, no advice.

    Raises
    ------
    InvalidInputError
        If a learned method names no licence of its weights.

    Examples
    --------
    >>> import tiepoints as tp
    >>> sift = tp.load("sift").metadata
    >>> sift.code_licence, sift.commercial
    ('Apache-2.0', True)
    """

    name: str
    summary: str
    paper: str
    code_licence: str
    weights_licence: str = ""
    licence_url: str = ""
    descriptor_size: int
    descriptor_type: Literal["float32", "int8", "binary"] = "float32"
    subpixel: bool = True
    learned: bool = False
    weights: tuple[WeightFile, ...] = ()
    requires: tuple[str, ...] = ()
    extra: str = ""
    rotation_invariant: bool = False
    patents: str = ""

    def __post_init__(self) -> None:
        if not self.code_licence:
            raise InvalidInputError(f"{self.name}: code_licence is empty: name the licence of the code")
        if (self.learned or self.weights) and not self.weights_licence:
            raise InvalidInputError(f"{self.name}: weights_licence is empty: name the licence of the weights")

    @property
    def licences(self) -> tuple[str, ...]:
        """The licence of the code, and that of the weights where there are weights."""
        return tuple(licence for licence in (self.code_licence, self.weights_licence) if licence)

    @property
    def commercial(self) -> bool:
        """Whether every one of the licences is known to allow commercial use, and no patents are known."""
        return self.licences_allow_commerce and not self.patents

    @property
    def licences_allow_commerce(self) -> bool:
        """Whether every one of the licences is known to allow commercial use; by `LICENCES`."""
        parts = (part for licence in self.licences for part in licence.split(" AND "))
        return all(LICENCES.get(part, False) for part in parts)

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "weights": [vars(file) for file in self.weights],
            "requires": list(self.requires),
            "commercial": self.commercial,
        }
