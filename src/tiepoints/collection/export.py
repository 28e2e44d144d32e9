"""Results as other programs read them: hloc's HDF5 files, COLMAP's database, .npz files; whole or not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import checks
from ..camera import Camera
from ..errors import InvalidInputError
from ..exif import gravity_from_exif
from ..features import Features, Matches
from ..files import PathLike
from ..storage import FeatureWriter, MatchWriter, TwoView, save_features, write_colmap
from ..storage.colmap_checks import CameraMode
from .orientation import stored_camera, stored_features, stored_from_upright, stored_matrix
from .photographs import Collection
from .places import from_exif, positions_of
from .running import Results
from .stages import Verified

__all__ = ["export_colmap", "export_features", "export_matches", "export_npz"]

Pair = tuple[str, str]


def export_colmap(
    path: PathLike,
    photographs: Collection,
    features: Mapping[Any, Features],
    views: Mapping[Any, Verified],
    *,
    camera_mode: CameraMode = "equal",
    focal: float | None = None,
    note: Mapping[str, str] | None = None,
) -> int:
    """Write a COLMAP database with the verified pairs, ready for its mappers.

    COLMAP reads photographs as they are stored, without the rotation that EXIF asks for. Keypoints, cameras and models
    are brought into that frame, so that they fit whatever COLMAP does with the photographs later. Positions in EXIF
    become COLMAP's pose priors, and so does where EXIF's orientation says that down is; mappers use them if they are
    told to.

    Parameters
    ----------
    path : path
        The database; an old one is replaced.
    photographs : Collection
        Those without features are left out.
    features, views : Results
        Of `Extract` and `Verify`.
    camera_mode : {"equal", "single", "per-folder", "per-image"}
        As for `storage.write_colmap`. Cameras are the photographs' own, or else from EXIF, or a guess that COLMAP
        refines.
    focal : float, optional
        Focal length in pixels of all photographs.
    note : mapping, optional
        As for `storage.write_colmap`.

    Returns
    -------
    pairs : int
        How many are verified, and were written.

    Raises
    ------
    StorageError
        If the disk is full or the file cannot be written; the old one then stays.
    InvalidInputError
        If photographs that share a camera have different sizes.

    Examples
    --------
    >>> from tiepoints.collection import Collection, Extract, Match, Verify, export_colmap, run
    >>> photos = Collection.from_folder("examples")
    >>> features = run(Extract("orb"), photos)
    >>> matches = run(Match(), [("box.png", "box_in_scene.png")], None, features)
    >>> views = run(Verify("homography"), matches, None, features)
    >>> export_colmap("exported.db", photos, features, views)
    1
    """
    path = checks.path(path, "path")
    checks.instance(photographs, "photographs", Mapping)
    images = _Images(photographs, features, focal)
    verified = [pair for pair, view in views.items() if view and pair[0] in images and pair[1] in images]
    write_colmap(
        path,
        images,
        _TwoViews(verified, photographs, views),
        camera_mode=camera_mode,
        positions=positions_of(photographs, images),
        gravity=from_exif(photographs, images, gravity_from_exif),
        note=note,
    )
    return len(verified)


class _Images(Mapping[str, tuple[Features, Camera]]):
    """Features and camera of each image in the frame of the stored pixels, made when they are asked for."""

    def __init__(self, photographs: Collection, features: Mapping[Any, Features], focal: float | None) -> None:
        self._photographs, self._features, self._focal = photographs, features, focal
        self._names = [name for name in photographs if name in features]

    def __getitem__(self, name: str) -> tuple[Features, Camera]:
        one, found = self._photographs[name], self._features[name]
        orientation = one.header.orientation
        if self._focal is not None:
            camera = Camera.from_focal(self._focal, found.image_size)
        elif one.camera is not None:
            camera = one.camera
        elif one.frame is not None:
            camera = Camera.from_focal(1.2 * max(found.image_size), found.image_size, known=False)
        else:
            camera = Camera.from_exif(one.path)
        try:
            return stored_features(found, orientation), stored_camera(camera, orientation)
        except InvalidInputError as error:
            raise InvalidInputError(f"{one.path}: {error}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._photographs and name in self._features


class _TwoViews(Mapping[Pair, TwoView]):
    def __init__(self, pairs: list[Pair], photographs: Collection, views: Mapping[Any, Verified]) -> None:
        self._pairs, self._photographs, self._views = dict.fromkeys(pairs), photographs, views

    def __getitem__(self, pair: Pair) -> TwoView:
        view = self._views[pair]
        assert view.geometry.matrix is not None
        a, b = (stored_from_upright(*self._photographs[name].header) for name in pair)
        matrix = stored_matrix(view.geometry.matrix, view.geometry.kind, a, b)
        kind: Any = "planar" if view.geometry.kind == "homography" else "uncalibrated"
        return TwoView(view.inliers, kind, matrix, putative=view.matches)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __contains__(self, pair: object) -> bool:
        return pair in self._pairs


def export_features(
    path: PathLike,
    features: Results | Mapping[str, Features],
    *,
    made_with: str = "",
    overwrite: bool = True,
    attributes: Mapping[str, str] | None = None,
    stored_in: Collection | None = None,
) -> dict[str, str]:
    """Write features into an HDF5 file as hloc reads it.

    Parameters
    ----------
    path : path
    features : Results of `Extract`, or mapping
    made_with : str, optional
        A text that the file keeps.
    overwrite : bool
        Replace an old file; otherwise add to it.
    attributes : mapping, optional
        Further texts that the file keeps, by their names.
    stored_in : Collection, optional
        The photographs: keypoints are then in pixels of the files as they are stored, as hloc and COLMAP read them. By
        default they are in pixels of the upright images.

    Returns
    -------
    failed : dict
        Images that the format cannot hold, and why; the others are written.

    Raises
    ------
    StorageError
        If the disk is full or the file cannot be written; the old one then stays.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection import export_features
    >>> export_features("exported.h5", {"box.png": tp.load("orb", max_keypoints=100)("examples/box.png")})
    {}
    """
    path = checks.path(path, "path")
    checks.instance(features, "features", Mapping)
    with FeatureWriter(path, made_with=made_with, overwrite=overwrite) as writer:

        def write(name: str) -> None:
            found = features[name]
            if stored_in is not None and stored_in[name].frame is None:
                found = stored_features(found, stored_in[name].header.orientation)
            writer.write(name, found, key=features.key(name) if isinstance(features, Results) else "")

        writer.attributes(**(attributes or {}))
        return _each(features, write)


def export_matches(
    path: PathLike,
    views: Mapping[Any, Verified] | Mapping[Any, Matches],
    features: Mapping[Any, Features],
    *,
    attributes: Mapping[str, str] | None = None,
) -> dict[Any, str]:
    """Write matches into an HDF5 file as hloc reads it: the inliers of verified pairs, or all of plain `Matches`.

    Parameters
    ----------
    path : path
        An old file is replaced.
    views : Results of `Verify` or `Match`
        Pairs that are not verified are left out.
    features : Results of `Extract`
    attributes : mapping, optional
        Texts that the file keeps, by their names.

    Returns
    -------
    failed : dict
        Pairs that the format cannot hold, and why.

    Raises
    ------
    StorageError
        As `export_features`.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection import export_matches
    >>> features = {name: tp.load("orb")(f"examples/{name}") for name in ("box.png", "box_in_scene.png")}
    >>> export_matches("exported_matches.h5", {tuple(features): tp.match(*features.values())}, features)
    {}
    """
    path = checks.path(path, "path")
    checks.instance(views, "views", Mapping)
    counts: dict[str, int] = {}
    with MatchWriter(path, overwrite=True) as writer:

        def write(pair: Pair) -> None:
            found = views[pair]
            if isinstance(found, Verified):
                if not found:
                    return
                found = found.inliers
            for name in pair:
                if name not in counts:
                    counts[name] = len(features[name])
            writer.write(pair, found, (counts[pair[0]], counts[pair[1]]))

        writer.attributes(**(attributes or {}))
        return _each(views, write)


def export_npz(folder: PathLike, features: Mapping[Any, Features]) -> None:
    """Write each image's features into a file of its own, called as the image with ``.npz`` added.

    Parameters
    ----------
    folder : path
        Made if missing.
    features : Results of `Extract`, or mapping from names to Features

    Raises
    ------
    StorageError
        If a file cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> import tiepoints as tp
    >>> from tiepoints.collection import export_npz
    >>> export_npz("exported", {"box.png": tp.load("orb", max_keypoints=100)("examples/box.png")})
    >>> [path.name for path in Path("exported").iterdir()]
    ['box.png.npz']
    """
    folder = checks.path(folder, "folder")
    checks.instance(features, "features", Mapping)
    for name in features:
        save_features(Path(folder) / f"{name}.npz", features[name])


def _each(names: Iterable[Any], write: Callable[[Any], None]) -> dict[Any, str]:
    """Write each item; what one item's name or content prevents is that item's, a disk that is full is not."""
    failed: dict[Any, str] = {}
    for name in names:
        try:
            write(name)
        except InvalidInputError as error:  # noqa: PERF203 - one bad item must not cost the others
            failed[name] = str(error)
    return failed
