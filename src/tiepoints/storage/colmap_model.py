"""COLMAP models in folders, binary and text."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InvalidInputError, StorageError
from ..files import PathLike, check_name, check_space, folder_beside, one_line, real, replacing, write_lock
from ..optional import require
from .colmap_checks import why_not

__all__ = ["is_model", "load_model", "save_model", "save_points"]

_TEXT = 2  # times as long as in binary files, about


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
        _check_counts(path)
        model = pycolmap.Reconstruction(path)
        model.reg_image_ids()  # fails where a text file's last, empty line is missing, and with it an image
        for image in model.images.values():
            check_name(image.name)
        return model
    except InvalidInputError as error:
        raise StorageError(f"{path}: {error}") from error
    except Exception as error:  # pycolmap's own, of several kinds
        raise StorageError(
            f"{path}: COLMAP cannot read this model; it is damaged or of another version: {why_not(error)}"
        ) from error


def _check_counts(folder: Path) -> None:
    """Refuse a binary model whose counts of things do not fit its files: COLMAP believes them for hours, or for ever.

    The format is that of COLMAP's ``scene/reconstruction_io_binary.cc``.
    """
    for name, rest in _RESTS.items():
        path = folder / name
        if not path.is_file():
            continue
        data = path.read_bytes()
        (number,) = _U64.unpack_from(data)
        if number > len(data):
            raise ValueError(f"{name} says that it holds {number}")
        at = 8
        for _ in range(number):
            at = rest(data, at)
            if at > len(data):
                raise ValueError(f"{name} ends too early")


def _after_image(data: bytes, at: int) -> int:
    at = data.index(b"\0", at + 64) + 1  # after its number, pose and camera: its name
    return at + 8 + 24 * int(_U64.unpack_from(data, at)[0])


def _after_point(data: bytes, at: int) -> int:
    return at + 51 + 8 * int(_U64.unpack_from(data, at + 43)[0])


def _after_frame(data: bytes, at: int) -> int:
    return at + 68 + 16 * int(_U32.unpack_from(data, at + 64)[0])


def _after_rig(data: bytes, at: int) -> int:
    (sensors,) = _U32.unpack_from(data, at + 4)
    at += 8 + 8 * bool(sensors)
    for _ in range(sensors - 1):
        at += 9 + 56 * bool(data[at + 8])
    return at


_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_RESTS: dict[str, Callable[[bytes, int], int]] = {
    "cameras.bin": lambda data, at: at + 24,  # and its parameters
    "images.bin": _after_image,
    "points3D.bin": _after_point,
    "frames.bin": _after_frame,
    "rigs.bin": _after_rig,
}


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
        If it cannot be written, for instance because the disk is full, of which COLMAP says nothing; the old model
        stays.

    Examples
    --------
    >>> import pycolmap
    >>> from tiepoints.storage.colmap_model import load_model, save_model
    >>> made = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions(num_points3D=20))
    >>> save_model("as_text", made, text=True)
    >>> load_model("as_text").num_points3D()
    20
    """
    path = real(folder)
    sizes, largest = _sizes(model), path / ("images.txt" if text else "images.bin")
    with write_lock(largest), folder_beside(largest) as temporary:
        check_space(largest, sum(sizes.values()) * (_TEXT if text else 1))
        try:
            (model.write_text if text else model.write_binary)(str(temporary))
        except Exception as error:
            raise StorageError(f"{path}: the model cannot be written ({one_line(error)})") from error
        written = sorted(temporary.iterdir())
        for file in written:
            if not (_ends_with_a_line(file) if text else file.stat().st_size >= sizes.get(file.name, 1)):
                raise StorageError(f"{path / file.name}: cannot be written whole; free some space on the disk")
        for file in written:
            file.replace(path / file.name)


def save_points(path: PathLike, model: Any) -> None:
    r"""Write a model's points with their colours as a PLY file.

    Raises
    ------
    StorageError
        If it cannot be written; the old file stays.

    Examples
    --------
    >>> from pathlib import Path
    >>> import pycolmap
    >>> from tiepoints.storage.colmap_model import save_points
    >>> save_points("points.ply", pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions(num_points3D=20)))
    >>> Path("points.ply").read_bytes()[:4]
    b'ply\n'
    """
    with replacing(path) as temporary:
        size = 15 * int(model.num_points3D())  # three floats and three bytes each, after a header
        check_space(path, size)
        model.export_PLY(str(temporary))
        if not temporary.is_file() or temporary.stat().st_size <= size:
            raise StorageError(f"{path}: cannot be written whole; free some space on the disk")


def _sizes(model: Any) -> dict[str, int]:
    """How many bytes COLMAP's binary files of a model's cameras, images and points take."""
    images = (len(one.name.encode()) + 73 + 24 * one.num_points2D() for one in model.images.values())
    return {
        "cameras.bin": 8 + sum(24 + 8 * len(one.params) for one in model.cameras.values()),
        "images.bin": 8 + sum(images),
        "points3D.bin": 8 + 51 * int(model.num_points3D()) + 8 * int(model.compute_num_observations()),
    }


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1))
        return file.read() == b"\n"
