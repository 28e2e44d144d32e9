"""Adding photographs to a map: they are localized in it, see its points, and give it further ones."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..camera import Camera
from ..collection import Collection, Engine, Extract, Match, Store, run
from ..collection.orientation import stored_features
from ..collection.retrieval import Describe
from ..errors import StorageError, TiepointsError
from ..features import Features
from ..files import PathLike, work_beside
from ..optional import require
from ..storage.colmap_model import load_model
from .alignment import PointPatches, no_patches, point_patches
from .given import check_focal
from .localization import Localize, Localizer
from .maps import Map, read_map, write_version
from .poses import Localization
from .triangulation import triangulate
from .verified import Report

__all__ = ["Added", "add_to_map"]


@dataclass(frozen=True, eq=False)
class Added:
    """What `add_to_map` did.

    Parameters
    ----------
    map : Map
        The new version, or the old one if nothing was added.
    localized : dict of str to Localization
        The photographs that are in the map now.
    points : int
        Points that are new.
    failed : dict of str to str
        Photographs that are not in the map, and why.

    Examples
    --------
    >>> from tiepoints.tasks import add_to_map
    >>> added = add_to_map("map/", "photos/")                      # doctest: +SKIP
    >>> len(added.localized), added.points, added.failed           # doctest: +SKIP
    (3, 412, {})
    """

    map: Map
    localized: dict[str, Localization]
    points: int
    failed: dict[str, str] = field(default_factory=dict)


def add_to_map(
    folder: PathLike,
    photographs: Collection | PathLike,
    *,
    cameras: Mapping[str, Camera] | None = None,
    focal: float | None = None,
    store: PathLike | None = None,
    engine: Engine | None = None,
    progress: Report | None = None,
) -> Added:
    """Add photographs to a map: a new version of it takes the place of the old one when it is whole.

    Each photograph is localized in the map. Its keypoints that agree with the pose become further views of the map's
    points; keypoints that the new photographs have in common, and that show none of them, give new points, triangulated
    from these poses. The poses and points that the map has stay as they are. Queries are answered meanwhile, by the old
    version: a `Localizer` that is open keeps it, one that is opened afterwards has the new one.

    Parameters
    ----------
    folder : path
        The map.
    photographs : Collection or path
    cameras : mapping of str to Camera, optional
        Known cameras of the stored pixels, by the photographs' names.
    focal : float, optional
        Focal length in pixels of the others.
    store : path, optional
        Where finished work is kept; by default ``<folder>.work/store``, as that of the map.
    engine : Engine, optional
    progress : callable, optional
        ``progress("localizing", done, all)`` and so on.

    Returns
    -------
    added : Added

    Raises
    ------
    StorageError
        If there is no map, or it cannot be written.
    InvalidInputError
        If the map was made from another program's features.

    Examples
    --------
    >>> from tiepoints.tasks import add_to_map
    >>> add_to_map("map/", "photos/").map    # doctest: +SKIP
    Map('map': 43 images, 8539 points, mdnet)
    """
    target = checks.path(folder, "folder")
    work = work_beside(target)
    given = photographs if isinstance(photographs, Collection) else Collection.from_folder(photographs)
    localizer = Localizer(read_map(target))
    place, extractor = localizer.map, localizer.extractor
    check_focal(focal, given)

    def told(what: str) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, every: progress(what, done, every)

    known = set(place.names)
    failed = dict(given.failed)
    failed |= {name: f"{name}: the map has an image of this name already" for name in given if name in known}
    with Store(work / "store" if store is None else store) as kept:
        fresh = given.select(name for name in given if name not in known)
        features = run(Extract(extractor), fresh, kept, engine=engine, progress=told("extracting"))
        step = Localize(localizer, cameras=cameras, focal=focal)
        items = {str(name): (fresh[str(name)], features.reference(name)) for name in features}
        poses = run(step, items, kept, engine=engine, progress=told("localizing"))
        failed |= {str(name): why for name, why in {**features.failed, **poses.failed}.items()}
        localized = {str(name): poses[name] for name in poses if poses[name]}
        failed |= {str(name): f"{name}: not localized: {poses[name].reason}" for name in poses if not poses[name]}
        if not localized:
            return Added(place, {}, 0, failed)
        seen = {name: stored_features(features[name], fresh[name].header.orientation) for name in localized}
        new = _new_points(fresh.select(localized), localized, place, kept.folder, engine, progress)
        vectors = run(Describe(place.vocabulary), features, kept, engine=engine)
        arrays = _extended(place, localized, seen, {name: vectors[name] for name in localized}, new)
    content = place.content()
    content["names"], content["added"] = [*place.names, *localized], [*place.added, *localized]
    return Added(write_version(target, content, arrays), localized, len(new.xyz), failed)


class _Points(NamedTuple):
    """Points that a map had not."""

    xyz: NDArray[np.float64]  # (Q, 3)
    patches: PointPatches  # of these
    tracks: dict[str, list[tuple[int, int]]]  # for each photograph (keypoint, point)


def _new_points(
    photographs: Collection,
    localized: Mapping[str, Localization],
    place: Map,
    store: Path,
    engine: Engine | None,
    progress: Report | None,
) -> _Points:
    """The points that the new photographs have in common."""
    none = _Points(np.zeros((0, 3)), no_patches(0), {})
    if len(localized) < 2:
        return none
    pycolmap = require("pycolmap", "triangulation", "sfm")
    model = pycolmap.Reconstruction()
    for number, (name, found) in enumerate(localized.items(), start=1):
        camera = found.camera.to_pycolmap()
        camera.camera_id = number
        model.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(name, pycolmap.Point2DList(), number, number)
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(found.pose.rotation), found.pose.translation)
        model.add_image_with_trivial_frame(image, pose)
    extractor = Localizer(place).extractor
    with tempfile.TemporaryDirectory(prefix="tiepoints-adding-") as temporary:
        try:
            sparse, _ = triangulate(
                photographs, Path(temporary), model, extractor, match=Match(**place.matching), two_views=True,
                store=store, engine=engine, progress=progress,
            )  # fmt: skip
        except StorageError:
            raise
        except TiepointsError:  # no two of them have a point in common: the map's own points remain
            return none
        made = load_model(sparse)
    taken = {name: set(found.observations[:, 0].tolist()) for name, found in localized.items()}
    patches = point_patches(made, lambda name: photographs[name].read_stored())
    xyz: list[Any] = []
    kept: list[int] = []
    tracks: dict[str, list[tuple[int, int]]] = {name: [] for name in localized}
    for number, point in enumerate(sorted(made.point3D_ids())):
        elements = [(made.image(e.image_id).name, e.point2D_idx) for e in made.point3D(point).track.elements]
        if any(row in taken[name] for name, row in elements):
            continue  # it is one of the map's points
        for name, row in elements:
            tracks[name].append((row, len(xyz)))
        xyz.append(made.point3D(point).xyz)
        kept.append(number)
    return _Points(np.array(xyz, np.float64).reshape(-1, 3), patches.of(kept), tracks)


def _extended(
    place: Map,
    localized: Mapping[str, Localization],
    features: Mapping[str, Features],
    vectors: Mapping[str, NDArray[np.float32]],
    new: _Points,
) -> dict[str, NDArray[Any]]:
    """The map's arrays with those of the new photographs behind them."""
    old = place.arrays()
    parts: dict[str, list[NDArray[Any]]] = {
        name: [old[name]] for name in ("descriptors", "points", "sets") if name in old
    }
    offsets = [old["offsets"]]
    if place.patches is not None:
        for name, values in new.patches._asdict().items():
            parts[name] = [old[name], values]
    for name, found in localized.items():
        # One row of a keypoint, and one of a point: the pose's inliers are each keypoint's only one.
        further = np.array(new.tracks.get(name, []), np.int64).reshape(-1, 2) + [0, len(place.xyz)]
        pairs = np.concatenate([found.observations.astype(np.int64), further])
        parts["descriptors"].append(features[name].descriptors[pairs[:, 0]])
        parts["points"].append(pairs[:, 1].astype(np.int32))
        if "sets" in parts:
            sets = features[name].sets
            assert sets is not None
            parts["sets"].append(sets[pairs[:, 0]])
        offsets.append(offsets[-1][-1:] + len(pairs))
    return {
        "words": old["words"],
        "vectors": np.concatenate([old["vectors"], *(vectors[name][None] for name in localized)]),
        "xyz": np.concatenate([old["xyz"], new.xyz]),
        "offsets": np.concatenate(offsets),
        **{name: np.concatenate(several) for name, several in parts.items()},
    }
