"""Features and matches in the files of the Image Matching Benchmark (Jin et al., IJCV 2021), one folder for a scene.

Every file maps keys to arrays; an image's key is its file name without folder and suffix, a pair's ``LARGER-SMALLER``
in the order of strings. Other conventions than ours (sources: the benchmark's ``import_features.py``,
``submission_validator.py`` and ``utils/feature_helper.py``):

- ``keypoints.h5``: N x 2, the centre of the top-left pixel is (0.5, 0.5);
- ``scales.h5``: the radius, half of OpenCV's ``KeyPoint.size``;
- ``angles.h5`` (the benchmark) and ``orientations.h5`` (its importer; the same): degrees in [0, 360), as OpenCV's;
- ``matches.h5``: 2 x M, the first row belongs to the first image of the key.

``descriptors.h5`` (N x D) and ``scores.h5`` are as ours. tiepoints adds ``sets.h5`` where there are any, and the image
size as an attribute of the keypoints; the benchmark looks at neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import InvalidInputError, StorageError
from ..features import Features, Matches
from ..files import PathLike, check_name, one_line, real, remove_leftovers, replacing, write_lock
from .npz import features_of
from .reading import array_of, attribute_of, linked, open_hdf5, reading

Pair = tuple[str, str]

_FEATURES = ("keypoints", "descriptors", "scores", "scales", "angles", "orientations", "sets")
_ALL = (*_FEATURES, "matches")


def save_imb(folder: PathLike, features: Mapping[str, Features], matches: Mapping[Pair, Matches] | None = None) -> None:
    """Write the features of a scene's images, and the matches of its pairs, as the Image Matching Benchmark reads them.

    Each file is replaced as a whole, and files of the folder that this export has nothing for are deleted, so that
    nothing of an older one stays among the new. Scores of matches have no place in the format.

    Parameters
    ----------
    folder : str or path
        The scene's folder; made if missing.
    features : mapping of str to Features
        By image name; a `FeatureReader` will do, one image is held in memory at a time.
    matches : mapping of (str, str) to Matches, optional
        By the names of both images, in any order; a `MatchReader` will do.

    Raises
    ------
    InvalidInputError
        If two images have the same name without folder and suffix, a pair is there twice or names an unknown image.
    StorageError
        If a file cannot be written, or another process is writing to the folder.

    Examples
    --------
    >>> import tiepoints as tp
    >>> orb = tp.load("orb", max_keypoints=100)
    >>> a, b = orb("examples/box.png"), orb("examples/box_in_scene.png")
    >>> tp.storage.save_imb("scene", {"box.png": a, "shelf.png": b}, {("box.png", "shelf.png"): tp.match(a, b)})
    >>> list(tp.storage.load_imb("scene")[0])
    ['box', 'shelf']
    """
    folder = checks.path(folder, "folder")
    checks.instance(features, "features", Mapping)
    stems: dict[str, str] = {}
    for name in features:
        stem = _stem(name)
        if stem in stems:
            raise InvalidInputError(
                f"images {stems[stem]!r} and {name!r} have the same key {stem!r} in this format: rename one of them"
            )
        stems[stem] = name
    keys = _pair_keys(matches or {}, features)
    folder = real(folder)
    with write_lock(folder / "keypoints.h5"):
        for name in _ALL:
            remove_leftovers(folder / f"{name}.h5")
        written: set[str] = set()
        with ExitStack() as stack:
            open_file = _opener(folder, stack, written)
            try:
                open_file("keypoints")  # also without images
                for stem, name in stems.items():
                    _write_image(open_file, stem, features[name])
                if matches is not None:
                    file = open_file("matches")
                    for key, (pair, swap) in keys.items():
                        indices = matches[pair].indices
                        file[key] = (indices[:, ::-1] if swap else indices).T
            except StorageError:
                raise
            except OSError as error:
                raise StorageError(f"{folder}: cannot be written ({one_line(error)})") from error
        for name in set(_ALL) - written:
            (folder / f"{name}.h5").unlink(missing_ok=True)


def load_imb(folder: PathLike) -> tuple[dict[str, Features], dict[Pair, Matches]]:
    """Read a scene's folder of the Image Matching Benchmark.

    Parameters
    ----------
    folder : str or path
        With ``keypoints.h5`` at least. Where a file is missing: scores are 1, descriptors (N, 0), and ``scales``,
        ``angles`` (else ``orientations``) and ``sets`` None; the image size is (0, 0) unless tiepoints wrote the file.

    Returns
    -------
    features : dict of str to Features
        By the image's key, its file name without suffix.
    matches : dict of (str, str) to Matches
        By both images' keys, in the order of the file; every score is 1. Empty without ``matches.h5``.

    Raises
    ------
    StorageError
        If ``keypoints.h5`` is missing, or a file is truncated or holds something else.

    Examples
    --------
    >>> import tiepoints as tp
    >>> tp.storage.save_imb("one", {"box.png": tp.load("orb", max_keypoints=100)("examples/box.png")})
    >>> features, matches = tp.storage.load_imb("one")
    >>> list(features), matches
    (['box'], {})
    """
    folder = checks.path(folder, "folder")
    if not (folder / "keypoints.h5").is_file():
        raise StorageError(f"{folder}: no keypoints.h5; give the folder of one scene")
    with ExitStack() as stack:
        files: dict[str, Any] = {}
        for name in _ALL:
            path = folder / f"{name}.h5"
            if path.is_file():
                files[name] = stack.enter_context(open_hdf5(path))
        features: dict[str, Features] = {}
        for stem in _keys(folder, "keypoints", files):
            with _reported(folder, "keypoints", stem):
                features[check_name(stem)] = _read_image(files, stem)
        matches: dict[Pair, Matches] = {}
        for key in _keys(folder, "matches", files):
            with _reported(folder, "matches", key):
                indices = array_of(linked(files["matches"], key), "matches").T.reshape(-1, 2)
                matches[_pair_of(key, features)] = Matches(indices, np.ones(len(indices), np.float32))
    return features, matches


def _reported(folder: Path, name: str, key: str) -> AbstractContextManager[None]:
    return reading(f"{folder / name}.h5", f"{key!r} there, or in a file beside it, is", remedy="write them again")


def _keys(folder: Path, name: str, files: Mapping[str, Any]) -> list[str]:
    with reading(f"{folder / name}.h5"):
        return list(files.get(name, ()))


def _stem(name: str) -> str:
    return check_name(PurePosixPath(check_name(name)).stem)


def _pair_keys(matches: Mapping[Pair, Matches], features: Mapping[str, Features]) -> dict[str, tuple[Pair, bool]]:
    """For every key of the file the pair that it stands for, and whether its columns have to be swapped."""
    keys: dict[str, tuple[Pair, bool]] = {}
    for pair in matches:
        unknown = next((name for name in pair if name not in features), None)
        if unknown is not None:
            raise InvalidInputError(f"the pair {pair} has matches, but {unknown!r} has no features")
        a, b = _stem(pair[0]), _stem(pair[1])
        key = f"{max(a, b)}-{min(a, b)}"
        if key in keys:
            raise InvalidInputError(f"the pairs {keys[key][0]} and {pair} have the same key {key!r} in this format")
        keys[key] = pair, a < b
    return keys


def _opener(folder: Path, stack: ExitStack, written: set[str]) -> Callable[[str], Any]:
    """A function that opens a new file of the folder by its name, once; all take their places when `stack` ends."""
    import h5py

    files: dict[str, Any] = {}

    def open_file(name: str) -> Any:
        if name not in files:
            path = folder / f"{name}.h5"
            temporary = stack.enter_context(replacing(path))
            try:
                files[name] = stack.enter_context(h5py.File(temporary, "w"))
            except OSError as error:
                raise StorageError(f"{path}: cannot be written ({one_line(error)})") from error
            written.add(name)
        return files[name]

    return open_file


def _write_image(open_file: Callable[[str], Any], stem: str, features: Features) -> None:
    file = open_file("keypoints")
    file[stem] = features.keypoints + np.float32(0.5)
    file[stem].attrs["image_size"] = features.image_size
    open_file("descriptors")[stem] = features.descriptors
    open_file("scores")[stem] = features.scores
    if features.scales is not None:
        open_file("scales")[stem] = features.scales / np.float32(2)
    if features.angles is not None:
        degrees = np.mod(np.rad2deg(features.angles.astype(np.float64)), 360).astype(np.float32)
        degrees[degrees == 360] = 0  # what rounding to float32 makes of 359.999999
        open_file("angles")[stem] = degrees
        open_file("orientations")[stem] = degrees
    if features.sets is not None:
        open_file("sets")[stem] = features.sets


def _read_image(files: Mapping[str, Any], stem: str) -> Features:
    def read(name: str) -> NDArray[Any] | None:
        return array_of(linked(files[name], stem), name) if name in files and stem in files[name] else None

    keypoints = linked(files["keypoints"], stem)
    points = array_of(keypoints, "keypoints").astype(np.float32).reshape(-1, 2) - np.float32(0.5)
    descriptors, scores, scales, sets = read("descriptors"), read("scores"), read("scales"), read("sets")
    angles = read("angles")
    if angles is None:
        angles = read("orientations")
    size = attribute_of(keypoints, "image_size")
    arrays = {
        "keypoints": points,
        "descriptors": np.zeros((len(points), 0), np.float32) if descriptors is None else descriptors,
        # The benchmark's own exporters write N x 1.
        "scores": np.ones(len(points), np.float32) if scores is None else scores.ravel(),
        "image_size": np.zeros(2, int) if size is None else size,
    }
    if scales is not None:
        arrays["scales"] = scales.ravel() * 2
    if angles is not None:
        arrays["angles"] = np.deg2rad(angles.ravel())
    if sets is not None:
        arrays["sets"] = sets
    return features_of(arrays)


def _pair_of(key: str, known: Mapping[str, Features]) -> Pair:
    """Both images of a key; where names have a '-' themselves, the split whose two sides are images."""
    parts = key.split("-")
    splits = [("-".join(parts[:i]), "-".join(parts[i:])) for i in range(1, len(parts))]
    found = [split for split in splits if split[0] in known and split[1] in known]
    if len(found) != 1:
        raise InvalidInputError("it names no two images of keypoints.h5" if not found else f"it may be any of {found}")
    return found[0]
