"""Features, matches and cameras of whole collections, in whichever of the known formats: to convert, and to go on from.

A source is recognized by what it holds. Everything is in the frame of the stored pixels, as these programs have it.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import checks
from ..camera import Camera
from ..checks import array, choice, path as as_path
from ..errors import InvalidInputError, StorageError, counted
from ..exif import Position
from ..features import Features, Matches
from ..files import PathLike, read_bytes
from .colmap_checks import check_pair, left_out, pair_name, why_not
from .colmap_model import is_model, load_model
from .hdf5 import Reader

__all__ = ["FORMATS", "Exchange", "read_exchange", "write_exchange"]

Pair = tuple[str, str]

_SQLITE = b"SQLite format 3\0"  # with which a database begins, whatever its name

#: What can be written, by name.
FORMATS = ("hloc", "colmap", "opensfm", "meshroom")


@dataclass(frozen=True, eq=False)
class Exchange:
    """The features of images, the matches of pairs, and what is known about cameras.

    Parameters
    ----------
    features : dict of str to Features
    matches : dict of (str, str) to Matches
    cameras : dict of str to Camera
        As far as they are known.
    positions : dict of str to Position
        As far as they are known.
    upright : bool
        Whether the features are of the upright photographs, as tiepoints extracts them, and not of the stored pixels.
    failed : dict of str to str
        Images of the source that are left out, and why: they cannot be used, or have matches and no features. Pairs,
        as "a.jpg - b.jpg", whose matches cannot be used.

    Examples
    --------
    >>> from tiepoints.storage import Exchange
    >>> Exchange({}, {})
    Exchange(0 images, 0 pairs)
    """

    features: dict[str, Features]
    matches: dict[Pair, Matches]
    cameras: dict[str, Camera] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    upright: bool = False
    failed: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Exchange({counted(len(self.features), 'image')}, {counted(len(self.matches), 'pair')})"


def read_exchange(sources: PathLike | Iterable[PathLike]) -> Exchange:
    """Read the features and matches of hloc, COLMAP, OpenSfM or Meshroom.

    Parameters
    ----------
    sources : path, or several
        hloc's HDF5 file of features, together with its file of matches; a COLMAP database, whose verified matches
        count where there are any; the folder of a COLMAP model, binary or text, whose 2D points are the features (they
        have no descriptors: give a file of features too) and whose tracks are the matches; the folder of an OpenSfM
        dataset; a folder of Meshroom's.

    Returns
    -------
    exchange : Exchange

    Raises
    ------
    StorageError
        If a source is none of these or damaged, or there are no features.
    InvalidInputError
        If a model and the features beside it have different numbers of keypoints.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.storage import FeatureWriter, read_exchange
    >>> with FeatureWriter("boxes.h5", overwrite=True) as writer:
    ...     writer.write("box.png", tp.load("orb", max_keypoints=50)("examples/box.png"))
    >>> read_exchange("boxes.h5")
    Exchange(1 image, 0 pairs)
    """
    checks.present(sources, "sources")
    alone = isinstance(sources, str | bytes | Path) or not isinstance(sources, Iterable)
    listed: list[Any] = [sources] if alone else list(sources)  # type: ignore[arg-type]
    if not listed:
        raise InvalidInputError("sources is empty, but files or folders of features and matches are expected")
    parts = [_read(as_path(source, "a source")) for source in listed]
    features: dict[str, Features] = {}
    # Of a model the 2D points; a file of features beside it has them with descriptors.
    for part in sorted(parts, key=lambda one: any(len(f) and f.descriptors.shape[1] for f in one.features.values())):
        for name, one in part.features.items():
            if name in features and len(features[name]) != len(one):
                raise InvalidInputError(
                    f"{name} has {len(features[name])} keypoints in one source and {len(one)} in another: they were "
                    "made from different features"
                )
            features[name] = one
    if not features:
        raise StorageError(f"{', '.join(map(str, listed))}: no features here; give the file of features too")
    merged: dict[str, dict[Any, Any]] = {"matches": {}, "cameras": {}, "positions": {}, "failed": {}}
    for part in parts:
        for what, content in merged.items():
            content.update(getattr(part, what))
    matches = {_named(pair, features): found for pair, found in merged["matches"].items()}
    failed = {name: why for name, why in merged["failed"].items() if name not in features}
    lacking = Counter(name for pair in matches for name in pair if name not in features and name not in failed)
    if lacking:
        failed |= {name: f"{counted(count, 'pair')} matched, but no features of it" for name, count in lacking.items()}
        where = ", ".join(map(str, listed))
        warnings.warn(left_out(where, {name: failed[name] for name in lacking}), stacklevel=2)
    matches = {pair: found for pair, found in matches.items() if pair[0] in features and pair[1] in features}
    counts = {name: len(one) for name, one in features.items()}
    beyond = {}
    for pair, found in matches.items():
        try:
            check_pair(pair, found, counts, {})
        except InvalidInputError as error:  # noqa: PERF203 - one pair costs no other
            beyond[pair] = str(error)
    if beyond and len(beyond) == len(matches):
        raise StorageError(f"{next(iter(beyond.values()))}: the matches were made from other features")
    if beyond:
        unusable = {pair_name(pair): why for pair, why in beyond.items()}
        failed |= unusable
        warnings.warn(left_out(", ".join(map(str, listed)), unusable), stacklevel=2)
        matches = {pair: found for pair, found in matches.items() if pair not in beyond}
    upright = any(part.upright for part in parts)
    return Exchange(features, matches, merged["cameras"], merged["positions"], upright, failed)


def write_exchange(path: PathLike, content: Exchange, kind: str) -> list[Path]:
    """Write features and matches for another program.

    Parameters
    ----------
    path : path
        hloc: the file of matches, ``NAME.h5``; that of features is ``NAME-features.h5``. colmap: a database, ``.db``.
        opensfm, meshroom: a folder.
    content : Exchange
    kind : str
        One of `FORMATS`.

    Returns
    -------
    written : list of path

    Raises
    ------
    InvalidInputError
        If the format cannot hold this: see its own function.
    StorageError
        If it cannot be written.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.storage import Exchange, write_exchange
    >>> orb = tp.load("orb", max_keypoints=100)
    >>> features = {name: orb(f"examples/{name}") for name in ("box.png", "box_in_scene.png")}
    >>> content = Exchange(features, {tuple(features): tp.match(*features.values())})
    >>> [path.name for path in write_exchange("box.h5", content, "hloc")]
    ['box.h5', 'box-features.h5']
    """
    path = checks.path(path, "path")
    checks.instance(content, "content", Exchange)
    target = Path(path)
    choice(kind, "the format", FORMATS)
    if kind == "hloc":
        from .hdf5_features import FeatureWriter
        from .hdf5_matches import MatchWriter

        beside = target.with_name(f"{target.stem}-features{target.suffix}")
        with FeatureWriter(beside, overwrite=True) as features:
            for name, one in content.features.items():
                features.write(name, one)
        with MatchWriter(target, overwrite=True) as writer:
            for pair, found in content.matches.items():
                writer.write(pair, found, (len(content.features[pair[0]]), len(content.features[pair[1]])))
        return [target, beside]
    if kind == "colmap":
        from .colmap import write_colmap

        images = {name: (one, _camera_of(name, one, content)) for name, one in content.features.items()}
        write_colmap(target, images, content.matches, camera_mode="equal", positions=content.positions)
    elif kind == "opensfm":
        from .opensfm import save_opensfm

        save_opensfm(target, content.features, content.matches)
    else:
        from .meshroom import save_meshroom

        save_meshroom(target, content.features, content.matches)
    return [target]


def _read(path: Path) -> Exchange:
    """One source, recognized by what it holds."""
    if path.is_dir():
        if is_model(path):
            return _of_model(path)
        if (path / "features").is_dir() and next((path / "features").rglob("*.features.npz"), None):
            from .opensfm import load_opensfm

            return _warned(path, load_opensfm)
        from .meshroom import load_meshroom

        if next(path.rglob("*.feat"), None) is None:
            raise StorageError(
                f"{path}: no features here: neither a COLMAP model, nor an OpenSfM dataset (features/), nor Meshroom's "
                "(*.feat); `tiepoints match` and `extract` make them from photographs"
            )
        return _warned(path, load_meshroom)
    if path.suffix.lower() == ".db" or (path.is_file() and read_bytes(path, len(_SQLITE)) == _SQLITE):
        from .colmap import read_colmap

        database = read_colmap(path)
        verified = {pair: view.matches for pair, view in database.two_views.items() if len(view.matches)}
        cameras = {name: camera for name, (_, camera) in database.images.items()}
        features = {name: one for name, (one, _) in database.images.items()}
        return Exchange(features, verified or database.matches, cameras, database.positions, failed=database.failed)
    return _of_hdf5(path)


def _of_hdf5(path: Path) -> Exchange:
    from .hdf5_features import FeatureReader
    from .hdf5_matches import MatchReader

    try:
        with FeatureReader(path) as reader:
            features, failed = _usable(reader)
            return Exchange(features, {}, upright=bool(reader.made_with), failed=failed)
    except StorageError as error:
        try:
            with MatchReader(path) as pairs:
                matches, failed = _usable(pairs)
                return Exchange({}, matches, failed=failed)
        except StorageError:
            raise error from None


def _usable(reader: Reader[Any, Any]) -> tuple[dict[Any, Any], dict[str, str]]:
    """The items that can be read, and why the others cannot, which a warning names."""
    found: dict[Any, Any] = {}
    failed: dict[str, str] = {}
    for key in reader:
        try:
            found[key] = reader[key]
        except StorageError as error:  # noqa: PERF203 - one item costs no other
            if not found and len(failed) + 1 == len(reader):
                raise
            failed[key if isinstance(key, str) else pair_name(key)] = str(error).removeprefix(f"{reader.path}: ")
    if failed:
        warnings.warn(left_out(reader.path, failed), stacklevel=2)
    return found, failed


def _warned(folder: Path, load: Any) -> Exchange:
    """What a loader finds in a folder; what it leaves out is named."""
    failed: dict[str, str] = {}
    features, matches = load(folder, failed=failed)
    if failed:
        warnings.warn(left_out(folder, failed), stacklevel=2)
    return Exchange(features, matches, failed=failed)


def _of_model(folder: Path) -> Exchange:
    """The 2D points of a COLMAP model, and as matches the keypoints that show the same point."""
    model = load_model(folder)
    names, features, cameras = {}, {}, {}
    failed: dict[str, str] = {}
    for number in model.reg_image_ids():
        image = model.image(number)
        points = np.array([p.xy for p in image.points2D], np.float64).reshape(-1, 2) - 0.5
        try:
            camera = Camera.from_pycolmap(model.camera(image.camera_id))
            features[image.name] = Features(
                array(points, "keypoints", ("N", 2), np.float32), np.zeros((len(points), 0), np.float32),
                np.ones(len(points), np.float32), (camera.width, camera.height),
            )  # fmt: skip
        except InvalidInputError as error:  # one image costs no other
            failed[image.name] = why_not(error)
            continue
        names[number], cameras[image.name] = image.name, camera
    rows: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for number in model.point3D_ids():
        track = [(one.image_id, one.point2D_idx) for one in model.point3D(number).track.elements]
        track.sort()
        for i, (a, row_a) in enumerate(track):
            for b, row_b in track[i + 1 :]:
                if a != b:
                    rows.setdefault((a, b), []).append((row_a, row_b))
    matches = {
        (names[a], names[b]): Matches(np.array(sorted(found), np.int32), np.ones(len(found), np.float32))
        for (a, b), found in rows.items()
        if a in names and b in names
    }
    if failed and not features:
        name, reason = next(iter(failed.items()))
        raise StorageError(f"{folder}: none of its images can be used: {name}: {reason}")
    if failed:
        warnings.warn(left_out(folder, failed), stacklevel=2)
    return Exchange(features, matches, cameras, failed=failed)


def _named(pair: Pair, features: Mapping[str, Features]) -> Pair:
    """The true names of a pair: hloc's file of matches has '-' for '/' in them."""
    if pair[0] in features and pair[1] in features:
        return pair
    by_key = {name.replace("/", "-"): name for name in features}
    return by_key.get(pair[0], pair[0]), by_key.get(pair[1], pair[1])


def _camera_of(name: str, features: Features, content: Exchange) -> Camera:
    camera = content.cameras.get(name)
    if camera is not None:
        return camera
    if not all(features.image_size):
        raise InvalidInputError(f"{name}: neither its camera nor its size is known; give the folder of the images")
    return Camera.from_focal(1.2 * max(features.image_size), features.image_size, known=False)
