"""COLMAP models in folders, binary and text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import StorageError
from ..files import PathLike, one_line
from ..optional import require

__all__ = ["is_model", "load_model", "save_model"]


def is_model(folder: PathLike) -> bool:
    """Whether a folder looks like a COLMAP model's.

    Examples
    --------
    >>> from tiepoints.storage.colmap_model import is_model
    >>> is_model("examples")
    False
    """
    return any((Path(folder) / f"images{suffix}").is_file() for suffix in (".bin", ".txt"))


def load_model(folder: PathLike) -> Any:
    """COLMAP's model in a folder (binary or text): a pycolmap.Reconstruction.

    Raises
    ------
    StorageError
        If it is none.
    """
    pycolmap = require("pycolmap", "reading a COLMAP model", "sfm")
    path = Path(folder)
    if not is_model(path):
        raise StorageError(f"{path}: no COLMAP model here; it has cameras, images and points3D, .bin or .txt")
    try:
        return pycolmap.Reconstruction(path)
    except Exception as error:  # pycolmap's own, of several kinds
        raise StorageError(f"{path}: COLMAP cannot read this model; it is damaged or of another version") from error


def save_model(folder: PathLike, model: Any, *, text: bool = False) -> None:
    """Write a COLMAP model, binary or as text.

    Parameters
    ----------
    folder : path
        Made if missing.
    model : pycolmap.Reconstruction
    text : bool

    Raises
    ------
    StorageError
        If it cannot be written.

    Examples
    --------
    >>> import pycolmap
    >>> from tiepoints.storage.colmap_model import load_model, save_model
    >>> made = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions(num_points3D=20))
    >>> save_model("as_text", made, text=True)
    >>> load_model("as_text").num_points3D()
    20
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        (model.write_text if text else model.write_binary)(str(path))
    except Exception as error:
        raise StorageError(f"{path}: the model cannot be written ({one_line(error)})") from error
