"""The HDF5 files of the Image Matching Benchmark: depth maps and cameras."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StorageError
from ..files import PathLike, one_line

__all__ = ["read_depth"]

#: What h5py and NumPy raise for files that are damaged or hold something else.
DAMAGED = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError, EOFError)


def read_depth(path: PathLike) -> NDArray[np.float32]:
    """The depth map of an image, (H, W) float32, in the unit of the scene; 0 where it is not known.

    Raises
    ------
    StorageError
        If the file is damaged or holds no map.

    Examples
    --------
    >>> import h5py
    >>> from tiepoints.datasets.hdf5 import read_depth
    >>> with h5py.File("depth.h5", "w") as file:
    ...     file["depth"] = [[1.0, -2.0, 3.0]]
    >>> read_depth("depth.h5").tolist()
    [[1.0, 0.0, 3.0]]
    """
    values = read_h5(path, ("depth",))["depth"]
    if values.ndim != 2 or not values.size:
        raise StorageError(f"{path}: the depth map has shape {values.shape}, but (H, W) is expected")
    depth = values.astype(np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def read_h5(path: PathLike, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """The arrays of these names in a file; StorageError where one is missing or the file is damaged."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return {name: np.asarray(file[name][()]) for name in names}
    except DAMAGED as error:
        raise StorageError(
            f"{path}: not an HDF5 file with {', '.join(names)}, or truncated ({one_line(error)}); fetch it again"
        ) from None
