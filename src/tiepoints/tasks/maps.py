"""A map for localization: a folder that is written once and only read afterwards.

    map.json               what it was made with, and which of the folders beside it holds the arrays
    VERSION/words.npy      (K, D) the vocabulary of the retrieval
    VERSION/vectors.npy    (N, K D) one vector for each image
    VERSION/xyz.npy        (P, 3) the points
    VERSION/descriptors.npy (M, D) of every keypoint of the images that shows a point, image after image
    VERSION/points.npy     (M,) which point it shows
    VERSION/sets.npy       (M,) its set; missing where the extractor has none
    VERSION/offsets.npy    (N + 1,) where each image's keypoints begin
    VERSION/patches.npy    (P, 15, 15) what the points look like, 225 bytes each, and
    VERSION/frames.npy     (P, 3, 2) how their samples lie in the world; both missing where no photograph was at hand

Arrays are mapped into memory, so that opening a map costs nothing and several processes share it. A version is named by
its content. A new one is written beside the old one, then map.json takes its place in one step: whoever has the map
open goes on in the old version, which stays until there is another one after it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..camera import Camera
from ..collection.retrieval import Vocabulary
from ..collection.steps import weights_of
from ..errors import StorageError, counted
from ..extraction import load
from ..features import Features
from ..files import PathLike, one_line, replacing, write_lock, write_whole
from .alignment import PointPatches, no_patches

__all__ = ["Map", "Rows", "read_map", "write_map", "write_version"]

FORMAT = 3
_ARRAYS = ("words", "vectors", "xyz", "descriptors", "points", "offsets")


@dataclass(frozen=True, eq=False)
class Rows:
    """The keypoints of one map image that show points of the map.

    Parameters
    ----------
    features : Features
        Descriptors and sets; their places do not matter any more.
    points : (M,) int
        The index of the point that each shows.

    Examples
    --------
    >>> import numpy as np
    >>> import tiepoints as tp
    >>> from tiepoints.tasks.maps import Rows
    >>> rows = Rows(tp.load("orb", max_keypoints=100)("examples/desk_1.jpg"), np.arange(100, dtype=np.int32))
    >>> len(rows.features) == len(rows.points)
    True
    """

    features: Features
    points: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Map:
    """What `read_map` reads.

    Parameters
    ----------
    version : str
        Tells its content.
    names : tuple of str
        Of the N images.
    extractor, options
        What `tiepoints.load` is given for queries.
    matching
        What `tiepoints.match` is given.
    cameras : dict
        The images' cameras, by size (width, height), where all of that size share one.
    vocabulary : Vocabulary
    vectors : (N, K D) float32
    xyz : (P, 3) float64
    patches : PointPatches or None
        What the points look like, for the alignment of queries.
    added : tuple of str
        The images that `add_to_map` brought.
    rotations : int
        Of how many rotations of an image the descriptors know, see `Features.rotations`.
    weights : tuple of str
        The sha256 of the extractor's files of weights.

    Examples
    --------
    >>> from tiepoints.tasks.maps import read_map
    >>> place = read_map("map/")           # doctest: +SKIP
    >>> len(place.names), len(place.xyz)   # doctest: +SKIP
    (40, 8127)
    """

    folder: Path
    version: str
    names: tuple[str, ...]
    extractor: str
    options: dict[str, Any]
    matching: dict[str, Any]
    cameras: dict[tuple[int, int], Camera]
    vocabulary: Vocabulary
    vectors: NDArray[np.float32]
    xyz: NDArray[np.float64]
    _descriptors: NDArray[Any]
    _points: NDArray[np.int32]
    _sets: NDArray[np.uint8] | None
    _offsets: NDArray[np.int64]
    added: tuple[str, ...] = ()
    patches: PointPatches | None = None
    rotations: int = 1
    weights: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        images, points = counted(len(self), "image"), counted(len(self.xyz), "point")
        return f"Map({str(self.folder)!r}: {images}, {points}, {self.extractor})"

    def content(self) -> dict[str, Any]:
        """What ``map.json`` says about it."""
        return {
            "extractor": self.extractor, "options": self.options, "matching": self.matching,
            "names": list(self.names), "cameras": [camera.as_dict() for camera in self.cameras.values()],
            "added": list(self.added), "rotations": self.rotations, "weights": list(self.weights),
        }  # fmt: skip

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by their names in its folder."""
        found: dict[str, NDArray[Any]] = {
            "words": self.vocabulary.words, "vectors": self.vectors, "xyz": self.xyz,
            "descriptors": self._descriptors, "points": self._points, "offsets": self._offsets,
        }  # fmt: skip
        if self._sets is not None:
            found["sets"] = self._sets
        return found if self.patches is None else found | self.patches._asdict()

    def rows(self, image: int) -> Rows:
        """The keypoints of an image that show points."""
        part = slice(int(self._offsets[image]), int(self._offsets[image + 1]))
        count = part.stop - part.start
        return Rows(
            Features(
                np.zeros((count, 2), np.float32),
                self._descriptors[part],
                np.ones(count, np.float32),
                (1, 1),
                sets=None if self._sets is None else self._sets[part],
                rotations=self.rotations,
            ),
            self._points[part],
        )


def write_map(
    folder: PathLike,
    model: Any,
    features: Mapping[Any, Features],
    vectors: Mapping[Any, NDArray[np.float32]],
    vocabulary: Vocabulary,
    extractor: str,
    options: Mapping[str, Any],
    matching: Mapping[str, Any],
    patches: PointPatches | None = None,
) -> Map:
    """Write a map from a COLMAP model and the features that its points were made from.

    Parameters
    ----------
    folder : path
        An old map there is replaced when the new one is whole.
    model : pycolmap.Reconstruction
        Its images' 2D points are the features' keypoints, row by row.
    features, vectors : mapping
        Of each image, by its name.
    vocabulary : Vocabulary
        The vectors were made with it.
    extractor : str
    options, matching : mapping
        Of the extractor and of `tiepoints.match`; what JSON can say.
    patches : PointPatches, optional
        Of the model's points.

    Raises
    ------
    StorageError
        If the folder cannot be written, or the model and the features do not belong together.

    Examples
    --------
    >>> import pycolmap
    >>> import tiepoints as tp
    >>> from tiepoints.collection.retrieval import Vocabulary
    >>> from tiepoints.tasks.maps import write_map
    >>> synthetic = pycolmap.SyntheticDatasetOptions(num_points3D=100, num_points2D_without_point3D=0)
    >>> model = pycolmap.synthesize_dataset(synthetic)
    >>> names = [image.name for image in model.images.values()]
    >>> features = dict.fromkeys(names, tp.load("orb", max_keypoints=100)("examples/desk_1.jpg"))
    >>> vocabulary = Vocabulary.learn(features.values(), words=4)
    >>> vectors = {name: vocabulary(features[name]) for name in names}
    >>> place = write_map("synthetic", model, features, vectors, vocabulary, "orb", {"max_keypoints": 100}, {})
    >>> len(place.names), place.xyz.shape
    (10, (100, 3))
    """
    target = checks.path(folder, "folder")
    ids = sorted(model.point3D_ids())
    index = {point: row for row, point in enumerate(ids)}
    images = sorted((model.image(i) for i in model.reg_image_ids()), key=lambda image: str(image.name))
    descriptors, points, sets, offsets = [], [], [], [0]
    for image in images:
        found = features[image.name]
        if image.num_points2D() != len(found):
            raise StorageError(
                f"{image.name}: the model has {image.num_points2D()} keypoints, the features {len(found)}: they were "
                "made from different files"
            )
        seen = [(row, index[p.point3D_id]) for row, p in enumerate(image.points2D) if p.has_point3D()]
        rows = np.array([row for row, _ in seen], np.int64)
        descriptors.append(found.descriptors[rows])
        points.append(np.array([point for _, point in seen], np.int32))
        if found.sets is not None:
            sets.append(found.sets[rows])
        offsets.append(offsets[-1] + len(rows))
    arrays: dict[str, NDArray[Any]] = {
        "words": vocabulary.words,
        "vectors": np.stack([vectors[image.name] for image in images]),
        "xyz": np.array([model.point3D(point).xyz for point in ids], np.float64).reshape(-1, 3),
        "descriptors": np.concatenate(descriptors),
        "points": np.concatenate(points),
        "offsets": np.array(offsets, np.int64),
    }
    if sets:
        arrays["sets"] = np.concatenate(sets)
    if patches is not None:
        arrays |= patches._asdict()
    content = {
        "extractor": extractor, "options": dict(options), "matching": dict(matching),
        "names": [image.name for image in images], "cameras": _cameras(model),
        "rotations": max((features[image.name].rotations for image in images), default=1),
        "weights": weights_of(load(extractor, **options)) if extractor else [],
    }  # fmt: skip
    return write_version(target, content, arrays)


def write_version(folder: PathLike, content: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Map:
    """Write a version of a map beside the present one, which it then replaces in one step.

    Parameters
    ----------
    folder : path
        The map; made if missing.
    content : mapping
        What ``map.json`` says.
    arrays : mapping
        By their names.

    Raises
    ------
    StorageError
        If it cannot be written, or another process is writing; the map is then as before.

    Examples
    --------
    >>> from tiepoints.tasks.maps import read_map, write_version
    >>> place = read_map("map/")                                       # doctest: +SKIP
    >>> write_version("copy/", place.content(), place.arrays())        # doctest: +SKIP
    Map('copy': 40 images, 8127 points, mdnet)
    """
    target = checks.path(folder, "folder")
    digest = hashlib.sha256(json.dumps(dict(content), sort_keys=True).encode())
    for name, values in sorted(arrays.items()):
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    version = digest.hexdigest()[:16]
    about = target / "map.json"
    with write_lock(about):
        before = _version_of(about)
        try:
            (target / version).mkdir(parents=True, exist_ok=True)
            for name, values in arrays.items():
                with replacing(target / version / f"{name}.npy") as temporary, temporary.open("xb") as stream:
                    np.save(stream, values)
            write_whole(about, json.dumps({"format": FORMAT, "version": version, **content}, indent=1).encode())
        except OSError as error:
            raise StorageError(f"{target}: cannot be written ({error.strerror or one_line(error)})") from error
        for path in target.iterdir():  # versions before the last one, and what a killed process left
            if path.name not in (version, before) and _is_version(path):
                shutil.rmtree(path, ignore_errors=True)  # Windows keeps what somebody has open
    return read_map(target)


def _is_version(path: Path) -> bool:
    """Whether this is a folder of a version's arrays, and holds nothing else."""
    return (
        re.fullmatch("[0-9a-f]{16}", path.name) is not None
        and path.is_dir()
        and not path.is_symlink()
        and all(".npy" in one.name and not one.is_dir() for one in path.iterdir())
    )


def _version_of(about: Path) -> str | None:
    try:
        return str(json.loads(about.read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_map(folder: PathLike) -> Map:
    """Open a map that `write_map` wrote. Nothing in it is changed; a folder without the right to write will do.

    Raises
    ------
    StorageError
        If there is no map, or it is damaged or of another version.

    Examples
    --------
    >>> from tiepoints.tasks.maps import read_map
    >>> read_map("map/").extractor    # doctest: +SKIP
    'mdnet'
    """
    path = checks.path(folder, "folder")
    about = path / "map.json"
    if not about.is_file():
        if (path / "sparse" / "0").is_dir():
            command = f"tiepoints map PHOTOS MAP --model {path / 'sparse' / '0'}"
            raise StorageError(f"{path}: no map here, but a reconstruction; `{command}` makes a map of it")
        raise StorageError(f"{path}: no map here; `tiepoints map PHOTOS MAP` makes one in the folder MAP")
    version = _version_of(about)
    try:
        return _opened(path, about)
    except StorageError:
        if _version_of(about) == version:
            raise
        return _opened(path, about)  # it was replaced between map.json and the arrays


def _opened(path: Path, about: Path) -> Map:
    try:
        content = json.loads(about.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise StorageError(f"{path}: made by another version of tiepoints: make it anew with `tiepoints map`")
        folder = path / str(content["version"])
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
        more = {
            path.stem: np.load(path, mmap_mode="r", allow_pickle=False)
            for path in (folder / f"{name}.npy" for name in ("sets", "patches", "frames"))
            if path.is_file()
        }
        pictured = "patches" in more and "frames" in more
        names = tuple(map(str, content["names"]))
        cameras = {
            (int(one["width"]), int(one["height"])): Camera(
                one["model"], int(one["width"]), int(one["height"]), tuple(one["params"]), True
            )
            for one in content["cameras"]
        }
        found = Map(
            path, str(content["version"]), names, str(content["extractor"]), dict(content["options"]),
            dict(content["matching"]), cameras,
            Vocabulary(arrays["words"]), arrays["vectors"], np.asarray(arrays["xyz"]),
            arrays["descriptors"], arrays["points"], more.get("sets"), np.asarray(arrays["offsets"]),
            tuple(map(str, content.get("added", ()))),
            PointPatches(more["patches"], more["frames"]) if pictured else None,
            int(content.get("rotations", 1)),
            tuple(map(str, content.get("weights", ()))),
        )  # fmt: skip
        _check(found)
    except (StorageError, MemoryError):
        raise
    except Exception as error:  # whatever a damaged file makes the readers say
        raise StorageError(f"{path}: the map is damaged or incomplete; make it anew with `tiepoints map`") from error
    return found


def _check(found: Map) -> None:
    """That the arrays belong together, so that a query meets no foreign error."""
    offsets, count, none = found._offsets, len(found._descriptors), no_patches(len(found.xyz))
    fits = (
        offsets.shape == (len(found.names) + 1,)
        and offsets[0] == 0
        and offsets[-1] == count == len(found._points)
        and bool((np.diff(offsets) >= 0).all())
        and len(found.vectors) == len(found.names)
        and found.xyz.shape[1:] == (3,)
        and (count == 0 or (int(found._points.min()) >= 0 and int(found._points.max()) < len(found.xyz)))
        and (found._sets is None or len(found._sets) == count)
        and found.rotations in (1, 4)
        and found._descriptors.shape[1] % found.rotations == 0
        and (found.patches is None or [one.shape for one in found.patches] == [one.shape for one in none])
    )
    if not fits:
        raise ValueError("arrays of different lengths")


def _cameras(model: Any) -> list[dict[str, Any]]:
    """The cameras of sizes that have one only, in the pixel-centre convention."""
    by_size: dict[tuple[int, int], set[Camera]] = {}
    for one in model.cameras.values():
        camera = Camera(one.model.name, one.width, one.height, tuple(one.params)).shifted(-0.5)
        by_size.setdefault((one.width, one.height), set()).add(camera)
    return [several.pop().as_dict() for several in by_size.values() if len(several) == 1]
