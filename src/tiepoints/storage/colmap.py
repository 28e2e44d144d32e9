"""COLMAP databases; the only module of tiepoints that touches ``pycolmap.Database``, and never by SQL; `notes` does.

What differs from our conventions: COLMAP has the centre of the top-left pixel at (0.5, 0.5), so that keypoints,
principal points, fundamental matrices and homographies move by half a pixel on the way; its scale of a keypoint is half
of ours. Since COLMAP 3.12 an image belongs to a frame and a camera to a rig: each image gets a frame, each camera a rig
of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..camera import Camera
from ..checks import choice
from ..errors import InvalidInputError, MissingDependencyError, StorageError
from ..exif import Position
from ..features import Features, Matches
from ..files import PathLike, check_name, one_line, read_bytes, real, replacing, write_lock
from ..optional import require
from .colmap_checks import (
    CameraMode,
    Space,
    check_image,
    check_pair,
    check_shared,
    keeps_descriptors,
    left_out,
    pair_name,
    shared_by,
    why_not,
)
from .notes import write_note
from .reading import check_regular
from .two_view import MATRIX, ColmapDatabase, Kind, Pair, TwoView

__all__ = ["read_colmap", "write_colmap"]


def write_colmap(
    path: PathLike,
    images: Mapping[str, tuple[Features, Camera]],
    matches: Mapping[Pair, Matches | TwoView] | None = None,
    *,
    camera_mode: CameraMode = "per-image",
    positions: Mapping[str, Position] | None = None,
    gravity: Mapping[str, tuple[float, float, float]] | None = None,
    note: Mapping[str, str] | None = None,
) -> None:
    """Write a new COLMAP database; the old file stays whole until the new one is, and is then replaced.

    COLMAP's mapper works from verified pairs only: give `TwoView`, or let ``pycolmap.verify_matches`` make them from
    plain `Matches`. Descriptors go along where COLMAP's SIFT has room for them: 128 floats, none negative, stored as
    round(512 d) up to 255 as COLMAP stores its own; others are left out, and COLMAP would need them only to match anew.
    Scores and sets are left out. With scales or angles, keypoints are stored as x, y, scale, orientation, with COLMAP's
    defaults (scale 1, orientation 0) for the missing one.

    Parameters
    ----------
    path : str or path
        The database.
    images : mapping of str to (Features, Camera)
        By name, relative to the folder of the images; ids count from 1 in this order.
    matches : mapping of (str, str) to Matches or TwoView, optional
        By the names of both images.
    camera_mode : {"per-image", "per-folder", "single", "equal"}
        Which images were taken with one camera, which COLMAP then refines as one: none, those of one folder (by their
        names), all, or those whose cameras are equal. Of images with one camera, the first one's camera counts.
    positions : mapping of str to Position, optional
        Where images were taken, see `position_from_exif`: COLMAP's pose priors, for mappers that use them. Those
        without an altitude are left out.
    gravity : mapping of str to (3,) float, optional
        Where down is in the camera's frame (x right, y down, z forwards), for COLMAP's priors, see
        `exif.gravity_from_exif`.
    note : mapping of str to str, optional
        What the database was made with; it is kept in a table of its own, which COLMAP does not look at.

    Raises
    ------
    MissingDependencyError
        Without pycolmap 4.
    InvalidInputError
        If a camera has another size than its image, scales or angles are not finite, a pair is there twice or with
        itself, or matches refer to images or keypoints that are not there.
    StorageError
        If the file cannot be written, or is open in another program.

    Examples
    --------
    >>> import tiepoints as tp
    >>> names = ["desk_1.jpg", "desk_2.jpg"]
    >>> orb = tp.load("orb", max_keypoints=500)
    >>> a, b = (orb(f"examples/{name}") for name in names)
    >>> camera = tp.Camera.from_exif("examples/desk_1.jpg")
    >>> images = {"desk_1.jpg": (a, camera), "desk_2.jpg": (b, camera)}
    >>> matches = tp.match(a, b)
    >>> model = tp.fundamental(a, b, matches)
    >>> verified = tp.storage.TwoView(matches[model.inliers], "uncalibrated", model.matrix)
    >>> tp.storage.write_colmap("database.db", images, {tuple(names): verified}, camera_mode="equal")
    """
    path = checks.path(path, "path")
    checks.instance(images, "images", Mapping)
    checks.instance({} if matches is None else matches, "matches", Mapping, "from pairs of names")
    pycolmap = _pycolmap()
    choice(camera_mode, "camera_mode", get_args(CameraMode))
    path = real(path)
    with write_lock(path), replacing(path) as temporary:
        space = Space(path)
        with _open(pycolmap, temporary, path) as database, pycolmap.DatabaseTransaction(database):
            ids: dict[str, int] = {}
            counts: dict[str, int] = {}
            cameras: dict[Any, tuple[Camera, tuple[int, int]]] = {}
            for name, one in images.items():
                features, camera = check_image(name, one)
                space.take(16 * len(features) + 128 * len(features) * keeps_descriptors(features))
                shared = shared_by(camera_mode, name, camera)
                if shared not in cameras:
                    cameras[shared] = camera, _write_camera(pycolmap, database, camera)
                check_shared(name, camera, cameras[shared][0], camera_mode)
                ids[name] = _write_image(pycolmap, database, name, features, cameras[shared][1])
                counts[name] = len(features)
                _write_prior(pycolmap, database, ids[name], (positions or {}).get(name), (gravity or {}).get(name))
            for pair, found in (matches or {}).items():
                check_pair(pair, found, counts, matches or {})
                plain = found if isinstance(found, Matches) else found.putative or found.matches
                space.take(8 * len(plain) + (0 if isinstance(found, Matches) else 8 * len(found.matches)))
                _write_pair(pycolmap, database, ids[pair[0]], ids[pair[1]], found)
        if note:
            write_note(temporary, note)
        _settle(pycolmap, path)


def read_colmap(path: PathLike) -> ColmapDatabase:
    """Read a COLMAP database.

    Descriptors of COLMAP's SIFT come as unit float32 vectors, those of its learned extractors as the floats they are;
    where there are none they are (N, 0). Every score is 1, the image size is the camera's. Pairs are in the order of
    the images' ids. COLMAP updates a database of an older version when it is opened, here as well.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    database : ColmapDatabase
        In pixels of the stored images, the centre of the top-left one at (0, 0).

    Raises
    ------
    MissingDependencyError
        Without pycolmap 4.
    StorageError
        If there is no such file, it is no COLMAP database or damaged, or none of its images can be used. Where only
        some of them, or some pairs, cannot, `ColmapDatabase.failed` tells why, and a warning names them.

    Examples
    --------
    >>> import tiepoints as tp
    >>> features, camera = tp.load("orb", max_keypoints=50)("examples/box.png"), tp.Camera.from_exif("examples/box.png")
    >>> tp.storage.write_colmap("one.db", {"box.png": (features, camera)})
    >>> database = tp.storage.read_colmap("one.db")
    >>> list(database.images), database.matches
    (['box.png'], {})
    """
    pycolmap = _pycolmap()
    path = checks.path(path, "path")
    check_regular(path)
    head = read_bytes(path, 16)
    if head != b"SQLite format 3\0":  # COLMAP would fill an empty file, and prints pages about others
        raise StorageError(f"{path}: not a COLMAP database, or damaged at its beginning; write it again")
    with _open(pycolmap, path, path) as database:
        names: dict[int, str] = {}
        images: dict[str, tuple[Features, Camera]] = {}
        failed: dict[str, str] = {}
        for image in database.read_all_images():
            try:
                camera = Camera.from_pycolmap(database.read_camera(image.camera_id))
                images[check_name(image.name)] = _features_of(pycolmap, database, image.image_id, camera), camera
                names[image.image_id] = image.name
            except Exception as error:  # noqa: PERF203 - one image costs no other
                failed[image.name] = why_not(error)
        if failed and not images:
            name, reason = next(iter(failed.items()))
            raise StorageError(f"{path}: none of its images can be used: {name}: {reason}")
        positions: dict[str, Position] = {}
        for prior in database.read_all_pose_priors():
            owner = names.get(prior.corr_data_id.id)
            if owner is not None and prior.coordinate_system == pycolmap.PosePriorCoordinateSystem.WGS84:
                positions[owner] = Position(*(float(v) for v in prior.position))
        counts = {name: len(features) for name, (features, _) in images.items()}
        matches: dict[Pair, Matches] = {}
        two_views: dict[Pair, TwoView] = {}
        for what in ("matches", "two-view geometry"):
            for pair, value in _of_pairs(pycolmap, database, names, what):
                try:
                    if isinstance(value, Exception):
                        raise value
                    if what == "matches":
                        found = _matches_of(value)
                        check_pair(pair, found, counts, {})
                        matches[pair] = found
                    else:
                        view = _two_view_of(pycolmap, value, matches.get(pair))
                        check_pair(pair, view.matches, counts, {})
                        two_views[pair] = view
                except Exception as error:  # noqa: PERF203 - one pair costs no other
                    failed[pair_name(pair)] = f"its {what} cannot be used ({one_line(error)})"
    if failed:
        warnings.warn(left_out(path, failed), stacklevel=2)
    return ColmapDatabase(images, matches, two_views, positions, failed)


def _of_pairs(pycolmap: Any, database: Any, names: Mapping[int, str], what: str) -> Iterator[tuple[Pair, Any]]:
    """What the database has of each pair of these images; the error in its place where it cannot be read."""
    every, exists, read = {
        "matches": (database.read_all_matches, database.exists_matches, database.read_matches),
        "two-view geometry": (
            database.read_two_view_geometries, database.exists_two_view_geometry, database.read_two_view_geometry
        ),
    }[what]  # fmt: skip
    try:
        keys, values = every()
    except Exception:  # one damaged pair ends the reading of all: look at each by itself
        for a, b in combinations(sorted(names), 2):
            if exists(a, b):
                try:
                    value: Any = read(a, b)
                except Exception as error:
                    value = error
                yield (names[a], names[b]), value
        return
    for key, value in zip(keys, values, strict=True):
        a, b = pycolmap.pair_id_to_image_pair(key)
        if a in names and b in names:
            yield (names[a], names[b]), value


def _pycolmap() -> Any:
    pycolmap = require("pycolmap", "COLMAP's database", "sfm")
    if not hasattr(pycolmap, "FeatureDescriptors"):  # new in 4.0, with the present layout of the database
        raise MissingDependencyError(
            f"pycolmap {pycolmap.__version__} is too old, 4.0 is needed: pip install --upgrade 'tiepoints[sfm]'"
        )
    return pycolmap


@contextmanager
def _open(pycolmap: Any, path: Path, shown: Path) -> Iterator[Any]:
    """A database, closed at the end; errors of COLMAP and SQLite become a StorageError about `shown`."""
    database = None
    try:
        database = pycolmap.Database.open(path)
        yield database
    except (StorageError, InvalidInputError) as error:
        if isinstance(error, InvalidInputError) and path == shown:  # while reading, it is the file that is wrong
            raise StorageError(f"{shown}: {one_line(error)}") from error
        raise
    except Exception as error:  # whatever pybind11 makes of COLMAP's and SQLite's errors
        raise StorageError(f"{shown}: COLMAP cannot use this database ({one_line(error)})") from error
    finally:
        if database is not None:
            database.close()


def _settle(pycolmap: Any, path: Path) -> None:
    """Leave nothing of the old database's write-ahead log beside `path`: SQLite would apply it to the new one."""
    logs = [path.with_name(path.name + ending) for ending in ("-wal", "-journal", "-shm")]
    if path.exists() and any(log.exists() for log in logs):
        with _open(pycolmap, path, path):
            pass  # the last one to close a database folds its log in and removes it
        if any(log.exists() for log in logs):
            raise StorageError(f"{path}: is open in another program; close it there and write again")
    for log in logs:
        log.unlink(missing_ok=True)


def _write_camera(pycolmap: Any, database: Any, camera: Camera) -> tuple[int, int]:
    """The ids of a camera and of the rig that holds only it."""
    camera_id = database.write_camera(camera.to_pycolmap())
    rig = pycolmap.Rig()
    rig.add_ref_sensor(pycolmap.sensor_t(pycolmap.SensorType.CAMERA, camera_id))
    return camera_id, database.write_rig(rig)


def _write_image(pycolmap: Any, database: Any, name: str, features: Features, camera: tuple[int, int]) -> int:
    image = pycolmap.Image(name=name, camera_id=camera[0])
    image.image_id = database.write_image(image)
    frame = pycolmap.Frame()
    frame.rig_id = camera[1]
    frame.add_data_id(image.data_id)
    database.write_frame(frame)
    columns = [features.keypoints + np.float32(0.5)]
    if features.scales is not None or features.angles is not None:
        scales = np.ones(len(features), np.float32) if features.scales is None else features.scales / np.float32(2)
        angles = np.zeros(len(features), np.float32) if features.angles is None else features.angles
        columns += [scales[:, None], angles[:, None]]
    database.write_keypoints(image.image_id, np.concatenate(columns, axis=1))
    if keeps_descriptors(features):
        values = features.descriptors
        # FeatureDescriptorsToUnsignedByte in COLMAP's feature/utils.cc, which rounds halves up
        sift = np.minimum(np.floor(values * 512 + 0.5), 255).astype(np.uint8)
        database.write_descriptors(
            image.image_id, pycolmap.FeatureDescriptors(pycolmap.FeatureExtractorType.SIFT, sift)
        )
    return int(image.image_id)


def _write_pair(pycolmap: Any, database: Any, a: int, b: int, found: Matches | TwoView) -> None:
    if isinstance(found, Matches):
        database.write_matches(a, b, found.indices.astype(np.uint32))
        return
    putative = found.matches if found.putative is None else found.putative
    database.write_matches(a, b, putative.indices.astype(np.uint32))
    geometry = pycolmap.TwoViewGeometry()
    geometry.config = getattr(pycolmap.TwoViewGeometryConfiguration, found.kind.upper())
    geometry.inlier_matches = found.matches.indices.astype(np.uint32)
    if found.matrix is not None:
        setattr(geometry, MATRIX[found.kind], _shifted(found.matrix, MATRIX[found.kind], 0.5))
    database.write_two_view_geometry(a, b, geometry)


def _shifted(matrix: NDArray[np.float64], which: str, offset: float) -> NDArray[np.float64]:
    """The matrix for pixel coordinates that are larger by `offset`; E is one of normalised coordinates and stays."""
    new_from_old = np.array([[1, 0, offset], [0, 1, offset], [0, 0, 1.0]])
    old_from_new = np.array([[1, 0, -offset], [0, 1, -offset], [0, 0, 1.0]])
    if which == "F":
        return np.asarray(old_from_new.T @ matrix @ old_from_new)
    return np.asarray(new_from_old @ matrix @ old_from_new) if which == "H" else matrix


def _write_prior(
    pycolmap: Any, database: Any, image_id: int, position: Position | None, gravity: tuple[float, float, float] | None
) -> None:
    placed = position is not None and position.altitude is not None  # COLMAP's own reader asks for all three
    if not placed and gravity is None:
        return
    prior = pycolmap.PosePrior()
    if placed:
        prior.position = np.array(position)
        prior.coordinate_system = pycolmap.PosePriorCoordinateSystem.WGS84
    if gravity is not None and hasattr(prior, "gravity"):  # new in COLMAP 4.0
        prior.gravity = checks.array(gravity, "gravity", (3,))
    prior.corr_data_id = database.read_image(image_id).data_id
    database.write_pose_prior(prior)


def _features_of(pycolmap: Any, database: Any, image_id: int, camera: Camera) -> Features:
    table = np.asarray(database.read_keypoints(image_id), dtype=np.float32)
    count, scales, angles = len(table), None, None
    if table.shape[1] == 4:
        scales, angles = table[:, 2] * 2, table[:, 3]
    elif table.shape[1] == 6:  # x, y and the affine shape [a11 a12; a21 a22]: FeatureKeypoint in feature/types.cc
        scales = np.hypot(table[:, 2], table[:, 4]) + np.hypot(table[:, 3], table[:, 5])
        angles = np.arctan2(table[:, 4], table[:, 2])
    descriptors = np.zeros((count, 0), np.float32)
    if count and database.exists_descriptors(image_id):
        stored = database.read_descriptors(image_id)
        if stored.type == pycolmap.FeatureExtractorType.SIFT:
            descriptors = np.asarray(stored.data, dtype=np.float32)
            descriptors = descriptors / np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-12)
        else:
            descriptors = np.asarray(stored.to_float().data, dtype=np.float32)
    return Features(
        table[:, :2].reshape(-1, 2) - np.float32(0.5),
        descriptors,
        np.ones(count, np.float32),
        (camera.width, camera.height),
        scales=scales,
        angles=angles,
    )


def _matches_of(indices: Any) -> Matches:
    indices = np.asarray(indices).reshape(-1, 2).astype(np.int32)
    return Matches(indices, np.ones(len(indices), np.float32))


def _two_view_of(pycolmap: Any, geometry: Any, putative: Matches | None) -> TwoView:
    kind: Kind = pycolmap.TwoViewGeometryConfiguration(geometry.config).name.lower()
    matrix = getattr(geometry, MATRIX[kind]) if kind in MATRIX else None
    if matrix is not None:
        matrix = _shifted(np.asarray(matrix, dtype=np.float64), MATRIX[kind], -0.5)
    return TwoView(_matches_of(geometry.inlier_matches), kind, matrix, putative)
