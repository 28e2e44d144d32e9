"""The features and matches of Meshroom (AliceVision): text files by the numbers of views.

Source: AliceVision's ``feature/feature.hpp``, ``feature/Descriptor.hpp``, ``matching/io.cpp`` and ``sfmDataIO``.

- ``VIEW.TYPE.feat``: a line ``x y scale orientation`` for each keypoint; the centre of the top-left pixel is (0, 0),
  the scale is the radius, the orientation in radians.
- ``VIEW.TYPE.desc``: the count as 8 bytes, little-endian, then the descriptors as they are in memory.
- ``*matches.txt``: ``I J``, the number of types, and for each ``TYPE count`` and as many lines ``i j``.
- ``*.sfm`` (JSON): which file a view is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..checks import array
from ..errors import InvalidInputError, StorageError
from ..features import Features, Matches
from ..files import PathLike, check_name, read_bytes, real, write_lock, write_whole
from .colmap_checks import pair_name
from .reading import reading, typed, whole_of

__all__ = ["load_meshroom", "save_meshroom"]

Pair = tuple[str, str]

# Descriptors by type: how many numbers, and of which kind. Others are keypoints only.
_TYPES: dict[str, tuple[int, Any]] = {
    "sift": (128, np.uint8), "dspsift": (128, np.uint8), "sift_upright": (128, np.uint8),
    "sift_float": (128, np.float32), "akaze": (64, np.float32),
}  # fmt: skip
_OURS = "sift"


def save_meshroom(folder: PathLike, features: Mapping[str, Features], matches: Mapping[Pair, Matches]) -> None:
    """Write features and matches as Meshroom's nodes FeatureExtraction and FeatureMatching do, for StructureFromMotion.

    Where the folder holds the file of views that Meshroom's CameraInit made (``cameraInit.sfm``), the views keep the
    numbers that they have there; otherwise they get new ones, and ``cameraInit.sfm`` lists them. Features are called
    SIFT, whatever they are; descriptors are written only where they are 128 numbers that are not negative.

    Parameters
    ----------
    folder : path
        Made if missing.
    features : mapping of str to Features
        In pixels of the stored images.
    matches : mapping of (str, str) to Matches

    Raises
    ------
    InvalidInputError
        If matches name an image without features, or the list of views lacks an image.
    StorageError
        If a file cannot be written.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.storage import load_meshroom, save_meshroom
    >>> sift = tp.load("sift", max_keypoints=100)
    >>> a, b = sift("examples/box.png"), sift("examples/box_in_scene.png")
    >>> pair = ("box.png", "box_in_scene.png")
    >>> save_meshroom("nodes", dict(zip(pair, (a, b))), {pair: tp.match(a, b)})
    >>> features, matches = load_meshroom("nodes")
    >>> features["box.png"].descriptors.shape, list(matches)
    ((100, 128), [('box.png', 'box_in_scene.png')])
    """
    folder = checks.path(folder, "folder")
    checks.instance(features, "features", Mapping)
    checks.instance(matches, "matches", Mapping)
    folder = real(folder)
    listed = _views(folder)
    if listed:
        numbers = {check_name(name): view for name, view in _numbers(listed, list(features)).items()}
    else:
        numbers = {check_name(name): str(view) for view, name in enumerate(features, start=1)}
    with write_lock(folder / "features"):
        if not listed:
            views = [
                {"viewId": numbers[name], "poseId": numbers[name], "intrinsicId": "1", "path": name,
                 "width": str(one.image_size[0]), "height": str(one.image_size[1])}
                for name, one in features.items()
            ]  # fmt: skip
            content = {"version": ["1", "0", "0"], "views": views, "intrinsics": [], "poses": []}
            write_whole(folder / "cameraInit.sfm", json.dumps(content, indent=1).encode())
        for name, one in features.items():
            scales = np.ones(len(one)) if one.scales is None else one.scales / 2
            angles = np.zeros(len(one)) if one.angles is None else one.angles
            table = np.column_stack([one.keypoints, scales, angles])
            lines = "".join(f"{x:.9g} {y:.9g} {s:.9g} {o:.9g}\n" for x, y, s, o in table.tolist())
            write_whole(folder / f"{numbers[name]}.{_OURS}.feat", lines.encode())
            values = one.descriptors
            if values.dtype == np.float32 and values.shape[1] == 128 and (values >= 0).all():
                stored = np.clip(np.rint(512 * values), 0, 255).astype(np.uint8)
                write_whole(folder / f"{numbers[name]}.{_OURS}.desc", len(one).to_bytes(8, "little") + stored.tobytes())
        parts = []
        for (a, b), found in matches.items():
            for name in (a, b):
                if name not in numbers:
                    raise InvalidInputError(f"there are matches of {name!r}, but no features of it")
            indices = found.indices
            if int(numbers[a]) > int(numbers[b]):  # Meshroom has the smaller number first
                a, b, indices = b, a, indices[:, ::-1]
            rows = "".join(f"{i} {j}\n" for i, j in indices.tolist())
            parts.append(f"{numbers[a]} {numbers[b]}\n1\n{_OURS} {len(indices)}\n{rows}")
        write_whole(folder / "0.matches.txt", "".join(parts).encode())


def load_meshroom(
    folder: PathLike, *, failed: dict[str, str] | None = None
) -> tuple[dict[str, Features], dict[Pair, Matches]]:
    """Read the features and matches that Meshroom wrote.

    Parameters
    ----------
    folder : path
        Everything below it is looked at, so that a Meshroom project's cache will do: the ``.feat`` files, their
        ``.desc`` where they are, ``*matches.txt``, and a ``.sfm`` file that names the views.
    failed : dict, optional
        Gets what cannot be used, and why: images, pairs as "a.jpg - b.jpg", and files of matches. Without it that is an
        error, as it is where no image can be used.

    Returns
    -------
    features : dict of str to Features
        By the file name of the view, or its number where no ``.sfm`` file names it. Features of several types stand
        one after the other. Every score is 1; descriptors are left out, (N, 0), where they are not of one type.
    matches : dict of (str, str) to Matches

    Raises
    ------
    StorageError
        If there are no features, or a file is damaged.

    Examples
    --------
    >>> from tiepoints.storage import load_meshroom
    >>> features, matches = load_meshroom("MeshroomCache/")    # doctest: +SKIP
    """
    folder = checks.path(folder, "folder")
    views = _views(folder)
    names = {view: name for name, view in _short(views).items()}
    files: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.rglob("*.feat")):
        found = re.fullmatch(r"(\d+)\.(\w+)\.feat", path.name)
        if found:
            files.setdefault(found[1], {})[found[2]] = path
    if not files:
        raise StorageError(f"{folder}: no features of Meshroom's here (VIEW.TYPE.feat)")
    features: dict[str, Features] = {}
    begins: dict[str, dict[str, int]] = {}
    for view, types in files.items():
        about = views.get(view, {})
        size = about.get("width", 0), about.get("height", 0)
        try:
            features[names.get(view, view)], begins[view] = _features_of(types, size)
        except StorageError as error:
            if failed is None or (view == list(files)[-1] and not features):
                raise
            failed[names.get(view, view)] = str(error)
    matches: dict[Pair, Matches] = {}
    for path in sorted(folder.rglob("*matches*.txt")):
        with _left_out(path, failed), reading(path, layout="no matches of Meshroom's"):
            for (a, b), indices in _matches_of(read_bytes(path), begins):
                pair = names.get(a, a), names.get(b, b)
                if (indices.max(axis=0, initial=-1) >= (len(features[pair[0]]), len(features[pair[1]]))).any():
                    why = f"matches of {a} and {b} refer to keypoints that are not there"
                    if failed is None:
                        raise ValueError(why)
                    failed[pair_name(pair)] = f"{path}: {why}"
                    continue
                matches[pair] = Matches(indices.astype(np.int32), np.ones(len(indices), np.float32))
    return features, matches


@contextmanager
def _left_out(path: Path, failed: dict[str, str] | None) -> Iterator[None]:
    """What is wrong with a file goes into `failed`, if there is one."""
    try:
        yield
    except StorageError as error:
        if failed is None:
            raise
        failed[path.name] = str(error)


def _features_of(types: Mapping[str, Path], size: tuple[int, int]) -> tuple[Features, dict[str, int]]:
    """The features of a view, and at which row those of each type begin."""
    tables, descriptors, begins, count = [], [], {}, 0
    for kind, path in types.items():
        with reading(path, layout="no features of Meshroom's"):
            numbers = np.array(read_bytes(path).split(), np.float64).reshape(-1, 4)
        tables.append(numbers)
        begins[kind], count = count, count + len(numbers)
        descriptors.append(_descriptors_of(path.with_suffix(".desc"), kind, len(numbers)))
    table = np.concatenate(tables)
    values = np.zeros((count, 0), np.float32)
    if len(descriptors) == 1 and descriptors[0] is not None:
        values = descriptors[0]
    with reading(next(iter(types.values())), layout="no features of Meshroom's"):
        rows = array(table * (1, 1, 2, 1), "keypoints", ("N", 4), np.float32)  # the scale is twice the radius
        found = Features(rows[:, :2], values, np.ones(count, np.float32), size, scales=rows[:, 2], angles=rows[:, 3])
    return found, begins


def _descriptors_of(path: Path, kind: str, count: int) -> NDArray[np.float32] | None:
    if kind not in _TYPES or not path.is_file():
        return None
    size, dtype = _TYPES[kind]
    with reading(path, layout="no descriptors of Meshroom's"):
        content = read_bytes(path)
        if (
            len(content) != 8 + count * size * np.dtype(dtype).itemsize
            or int.from_bytes(content[:8], "little") != count
        ):
            raise ValueError(f"not {count} descriptors of {size} numbers")
        values = np.frombuffer(content, dtype, offset=8).reshape(count, size).astype(np.float32)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12), np.float32)


def _matches_of(content: bytes, begins: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[Pair, NDArray[np.int64]]]:
    words = iter(content.decode().split())
    for first in words:
        pair = first, next(words)
        parts: list[NDArray[Any]] = [np.zeros((0, 2), np.int64)]
        for _ in range(int(next(words))):
            kind, count = next(words), int(next(words))
            indices = np.array([int(next(words)) for _ in range(2 * count)], np.int64).reshape(-1, 2)
            if all(kind in begins.get(view, {}) for view in pair):
                parts.append(indices + [begins[view][kind] for view in pair])
        if all(view in begins for view in pair):
            yield pair, np.concatenate(parts)


def _views(folder: Path) -> dict[str, dict[str, Any]]:
    """The views that a .sfm file lists, by their numbers."""
    for path in sorted(folder.rglob("*.sfm")) if folder.is_dir() else ():
        with reading(path, layout="no views of Meshroom's"):
            content = typed(json.loads(read_bytes(path)), dict)
            views = [typed(view, dict) for view in typed(content["views"], list)]
            sizes = ({side: whole_of(view.get(side) or 0) for side in ("width", "height")} for view in views)
            return {str(whole_of(view["viewId"])): view | size for view, size in zip(views, sizes, strict=True)}
    return {}


def _short(views: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Views by the names of their files: without the folders that all have in common."""
    paths = {view: str(about.get("path", view)).replace("\\", "/").split("/") for view, about in views.items()}
    common = 0
    while paths and all(len(parts) > common + 1 for parts in paths.values()):
        if len({parts[common] for parts in paths.values()}) > 1:
            break
        common += 1
    return {check_name("/".join(part for part in parts[common:] if part)): view for view, parts in paths.items()}


def _numbers(views: Mapping[str, Mapping[str, Any]], names: list[str]) -> dict[str, str]:
    """The number of each image, by the end of its path."""
    paths = {view: str(about.get("path", "")).replace("\\", "/") for view, about in views.items()}
    found: dict[str, str] = {}
    for name in names:
        fitting = [view for view, path in paths.items() if path == name or path.endswith(f"/{name}")]
        if len(fitting) != 1:
            raise InvalidInputError(f"the .sfm file lists {len(fitting) or 'no'} views of {name!r}, not one")
        found[name] = fitting[0]
    return found
