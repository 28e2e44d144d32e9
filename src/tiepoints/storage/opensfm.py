"""The features and matches of an OpenSfM dataset: a folder with ``features/`` and ``matches/``.

Source: OpenSfM's ``features.py`` and ``dataset.py``.

- ``features/IMAGE.features.npz``: ``points`` (N x 4: x, y, size, angle in degrees), ``descriptors`` (N x D) and
  ``colors``. x and y are relative to the middle of the image, x, y and size divided by its longer edge.
- ``matches/IMAGE_matches.pkl.gz``: a pickled dictionary from the other image's name to its matches, (M, 2) whole
  numbers.

A pickle is a program. It is read here by an interpreter that knows dictionaries, texts, numbers and NumPy's arrays, and
refuses everything else.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import InvalidInputError, StorageError, one_line
from ..features import Features, Matches
from ..files import PathLike, check_name, real, write_lock, write_whole
from .colmap_checks import pair_name
from .reading import _MOST_PACKED, _SMALL, check_regular, reading, typed, unpacked, whole_of

__all__ = ["load_opensfm", "save_opensfm"]

Pair = tuple[str, str]
Size = tuple[int, int]

_VERSION = 3
_FEATURES, _MATCHES = ".features.npz", "_matches.pkl.gz"


def save_opensfm(folder: PathLike, features: Mapping[str, Features], matches: Mapping[Pair, Matches]) -> None:
    """Write features and matches into an OpenSfM dataset, from where ``opensfm create_tracks`` goes on.

    Colours are written as black. Scores and sets have no place in the format.

    Parameters
    ----------
    folder : path
        The dataset; made if missing. Files of the same images are replaced, others stay.
    features : mapping of str to Features
        In pixels of the stored images, with their sizes.
    matches : mapping of (str, str) to Matches

    Raises
    ------
    InvalidInputError
        If an image's size is not known, or matches name an image without features.
    StorageError
        If a file cannot be written.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.storage import load_opensfm, save_opensfm
    >>> orb = tp.load("orb", max_keypoints=100)
    >>> a, b = orb("examples/box.png"), orb("examples/box_in_scene.png")
    >>> pair = ("box.png", "box_in_scene.png")
    >>> save_opensfm("dataset", dict(zip(pair, (a, b))), {pair: tp.match(a, b)})
    >>> features, matches = load_opensfm("dataset", {"box.png": a.image_size, "box_in_scene.png": b.image_size})
    >>> len(features["box.png"]), list(matches)
    (100, [('box.png', 'box_in_scene.png')])
    """
    folder = checks.path(folder, "folder")
    checks.instance(features, "features", Mapping)
    checks.instance(matches, "matches", Mapping)
    folder = real(folder)
    of_image: dict[str, dict[str, NDArray[np.int64]]] = {name: {} for name in features}
    for (a, b), found in matches.items():
        for name in (a, b):
            if name not in of_image:
                raise InvalidInputError(f"there are matches of {name!r}, but no features of it")
        of_image[a][b] = found.indices.astype(np.int64)
    with write_lock(folder / "features"):
        for name, one in features.items():
            check_name(name)
            arrays: dict[str, Any] = {
                "points": _normalised(one, name), "descriptors": one.descriptors,
                "colors": np.zeros((len(one), 3), np.uint8), "OPENSFM_FEATURES_VERSION": np.array(_VERSION),
            }  # fmt: skip
            stream = io.BytesIO()
            np.savez_compressed(stream, **arrays)
            write_whole(folder / "features" / f"{name}{_FEATURES}", stream.getvalue())
        for name, others in of_image.items():
            packed = gzip.compress(pickle.dumps(others, protocol=4), mtime=0)
            write_whole(folder / "matches" / f"{name}{_MATCHES}", packed)


def load_opensfm(
    folder: PathLike,
    sizes: Mapping[str, Size] | Callable[[str], Size | None] | None = None,
    *,
    failed: dict[str, str] | None = None,
) -> tuple[dict[str, Features], dict[Pair, Matches]]:
    """Read the features and matches of an OpenSfM dataset.

    Parameters
    ----------
    folder : path
    sizes : mapping from str to (width, height), or callable, optional
        The images' sizes, without which places are not known in pixels. By default from the dataset's ``exif/`` or
        ``images/``.
    failed : dict, optional
        Gets what cannot be used, and why: images, and pairs as "a.jpg - b.jpg". Without it that is an error, as it is
        where no image can be used.

    Returns
    -------
    features : dict of str to Features
        Every score is 1. Descriptors of bytes that are no bits (HAHOG's) become unit vectors.
    matches : dict of (str, str) to Matches

    Raises
    ------
    StorageError
        If there are no features, a file is damaged, holds something else, or an image's size is not known.

    Examples
    --------
    >>> from tiepoints.storage import load_opensfm
    >>> features, matches = load_opensfm("dataset/")    # doctest: +SKIP
    """
    folder = checks.path(folder, "folder")
    features: dict[str, Features] = {}
    first: StorageError | None = None
    for path in sorted((folder / "features").rglob(f"*{_FEATURES}")):
        name = _name_of(path, folder / "features", _FEATURES)
        try:
            known = sizes(name) if callable(sizes) else None if sizes is None else sizes.get(name)
            size = known or _size_of(folder, name)
            check_regular(path)
            with reading(path, layout="of another layout than OpenSfM's"), path.open("rb") as stream:
                features[name] = _features_of(unpacked(stream), size)
        except StorageError as error:
            if failed is None:
                raise
            failed[name], first = str(error), first or error
    if not features:
        if first is not None:
            raise first
        raise StorageError(f"{folder}: no OpenSfM features here (features/IMAGE{_FEATURES})")
    matches: dict[Pair, Matches] = {}
    for path in sorted((folder / "matches").rglob(f"*{_MATCHES}")):
        name = _name_of(path, folder / "matches", _MATCHES)
        try:
            listed = _unpickled(path)
        except StorageError as error:
            if failed is None:
                raise
            failed.setdefault(name, str(error))
            continue
        for other, indices in listed.items():
            if name in features and other in features and len(indices) and (other, name) not in matches:
                if (indices.max(axis=0) >= (len(features[name]), len(features[other]))).any() or indices.min() < 0:
                    why = f"{path}: matches with {other!r} refer to keypoints that are not there"
                    if failed is None:
                        raise StorageError(why)
                    failed[pair_name((name, other))] = why
                    continue
                matches[name, other] = Matches(indices.astype(np.int32), np.ones(len(indices), np.float32))
    return features, matches


def _name_of(path: Path, folder: Path, ending: str) -> str:
    return check_name(path.relative_to(folder).as_posix()[: -len(ending)])


def _normalised(one: Features, name: str) -> NDArray[np.float32]:
    width, height = one.image_size
    if not (width and height):
        raise InvalidInputError(f"{name}: the image's size is not known, and OpenSfM's places are shares of it")
    edge = max(width, height)
    points = np.zeros((len(one), 4), np.float64)
    points[:, :2] = (one.keypoints + 0.5 - np.array([width, height]) / 2) / edge
    points[:, 2] = (1.0 if one.scales is None else one.scales) / edge
    points[:, 3] = 0.0 if one.angles is None else np.degrees(one.angles)
    return points.astype(np.float32)


def _features_of(arrays: Mapping[str, NDArray[Any]], size: Size) -> Features:
    points = arrays["points"].astype(np.float64).reshape(-1, arrays["points"].shape[-1])
    width, height = size
    edge = max(width, height)
    keypoints = points[:, :2] * edge - 0.5 + np.array([width, height]) / 2
    descriptors = arrays.get("descriptors", np.zeros((len(points), 0), np.float32))
    if descriptors.dtype == np.uint8 and descriptors.shape[1] == 128:  # numbers, as HAHOG and SIFT have them
        descriptors = descriptors.astype(np.float32)
    if descriptors.dtype.kind == "f":
        descriptors = descriptors.astype(np.float32)
        norms = np.linalg.norm(descriptors, axis=1, keepdims=True)
        descriptors = descriptors / np.maximum(norms, 1e-12)
    return Features(
        keypoints.astype(np.float32),
        descriptors,
        np.ones(len(points), np.float32),
        size,
        scales=(points[:, 2] * edge).astype(np.float32) if points.shape[1] > 2 else None,
        angles=np.radians(points[:, 3]).astype(np.float32) if points.shape[1] > 3 else None,
    )


def _size_of(folder: Path, name: str) -> Size:
    """From OpenSfM's own note about the image, or from the image."""
    note = folder / "exif" / f"{name}.exif"
    if note.is_file():
        with reading(note, layout="no note of OpenSfM's"):
            content = typed(json.loads(note.read_text(encoding="utf-8")), dict)
            return whole_of(content["width"]), whole_of(content["height"])
    image = folder / "images" / name
    if image.is_file():
        from ..images import header_of

        (width, height), orientation = header_of(image)
        return (height, width) if orientation >= 5 else (width, height)  # as it is stored
    raise StorageError(
        f"{folder}: the size of {name} is not known: there is neither exif/{name}.exif nor images/{name}; give the "
        "folder of the images"
    )


class _Unpickler(pickle.Unpickler):
    """Knows what NumPy's arrays need, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        core = module.replace("numpy._core", "numpy.core")
        known: dict[tuple[str, str], Any] = {
            ("numpy.core.multiarray", "_reconstruct"): _empty,
            ("numpy.core.numeric", "_frombuffer"): _from_buffer,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _encoded,
        }
        if (core, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which matches do not need")
        return known[core, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to other objects")


def _empty(*_: Any) -> NDArray[np.int8]:
    """What an array's numbers are put into; without the shape that is asked for, which may be any."""
    return np.ndarray.__new__(np.ndarray, (0,), np.int8)


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _encoded(text: str, encoding: str) -> bytes:
    """Python 2's way to have bytes in a pickle."""
    if encoding != "latin1":
        raise pickle.UnpicklingError("text in an odd encoding")
    return text.encode("latin1")


def _row(values: Any) -> list[Any]:
    """A list that may be a tuple."""
    return typed(list(values) if isinstance(values, tuple) else values, list)


def _unpickled(path: Path) -> dict[str, NDArray[Any]]:
    """The dictionary of a file of matches, checked."""
    check_regular(path)
    most = _SMALL + _MOST_PACKED * path.stat().st_size
    with reading(path, layout="no matches of OpenSfM's"), gzip.open(path, "rb") as stream:
        content = stream.read(most + 1)
        if len(content) > most:
            raise ValueError("it unpacks to more than it can hold")
        try:
            found = typed(_Unpickler(io.BytesIO(content)).load(), dict)
        except (AttributeError, TypeError) as error:  # what a damaged pickle does to the functions above
            raise ValueError(one_line(error)) from None
        arrays: dict[str, NDArray[Any]] = {}
        for name, values in found.items():
            if not isinstance(values, np.ndarray):
                values = [[typed(one, int) for one in _row(row)] for row in _row(values)]
            array = np.asarray(values)
            if not isinstance(name, str) or (array.size and (array.dtype.kind not in "iu" or array.ndim != 2)):
                raise ValueError("no lists of pairs of whole numbers")
            array = array.reshape(-1, 2)
            if array.size and int(array.max()) > np.iinfo(np.int32).max:
                raise ValueError("a keypoint's number beyond all")
            arrays[name] = array
        return arrays
