"""Points of a map from poses that are known already, of another tool or a calibrated rig."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import checks
from ..collection import Collection, ConsistentViews, Engine, Match, MatchVerified, Results, Store, export_colmap
from ..collection.pairs import Pair
from ..errors import InvalidInputError, TiepointsError
from ..extraction import Extractor
from ..files import folder_beside, write_lock
from ..optional import require
from ..storage.colmap_model import save_model
from .mapping import run_mapper
from .reconstruction import images_folder
from .verified import Report, verified_pairs

__all__ = ["triangulate"]


def triangulate(
    photographs: Collection,
    work: Path,
    model: Any,
    extractor: Extractor,
    *,
    pairs: str | Iterable[Pair] = "auto",
    match: Match | MatchVerified | None = None,
    two_views: bool = False,
    align: bool = True,
    store: Path,
    engine: Engine | None = None,
    progress: Report | None = None,
) -> tuple[Path, Results]:
    """Triangulate the extractor's keypoints with a model's cameras and poses, which stay as they are.

    Parameters
    ----------
    photographs : Collection
        Only those that the model has are used.
    work : path
        Gets database.db and sparse/0.
    model : pycolmap.Reconstruction
    two_views : bool
        Whether points that only two images see count; their depth is less certain.
    align : bool
        Whether keypoints are moved to where the photographs agree around them, as in `reconstruct`.
    extractor, pairs, match, store, engine, progress
        As for `verified_pairs`.

    Returns
    -------
    sparse : path
        The new model.
    features : Results of `Extract`

    Raises
    ------
    InvalidInputError
        If the model has none of the photographs.
    TiepointsError
        If COLMAP fails.

    Examples
    --------
    >>> import pycolmap
    >>> from pathlib import Path
    >>> import tiepoints as tp
    >>> from tiepoints.collection import Collection
    >>> from tiepoints.tasks.triangulation import triangulate
    >>> photos, work = Collection.from_folder("examples"), Path("triangulated")
    >>> model = pycolmap.Reconstruction("known/")                                   # doctest: +SKIP
    >>> sparse, features = triangulate(photos, work, model, tp.load("mdnet"), store=work / "store")    # doctest: +SKIP
    """
    checks.instance(photographs, "photographs", Collection)
    pycolmap = require("pycolmap", "triangulation", "sfm")
    known = {model.image(i).name: i for i in model.reg_image_ids()}
    common = [name for name in photographs if name in known]
    if not common:
        raise InvalidInputError(
            f"the model has none of the photographs: it calls one {next(iter(known), '(none)')!r}, and they are called "
            f"{next(iter(photographs), '(none)')!r} and so on"
        )
    given = photographs.select(common)
    with write_lock(work / "sparse"):
        with Store(store) as kept:
            found = verified_pairs(given, kept, extractor, pairs=pairs, match=match, engine=engine, progress=progress)
            database = work / "database.db"
            views = ConsistentViews(found.views, found.features)
            export_colmap(database, given, found.features, views, camera_mode="per-image")
        with folder_beside(work / "sparse") as temporary:
            posed = _posed(pycolmap, database, model, known, temporary / "posed")
            images = images_folder(given, temporary / "images")
            out = temporary / "sparse"
            job = {"mapper": "triangulate", "database": str(database), "images": str(images), "out": str(out)}
            (out / "0").mkdir(parents=True)
            if run_mapper(job | {"model": str(posed), "two_views": two_views, "align": align}, progress) < 1:
                raise TiepointsError("COLMAP could not triangulate any point")
            shutil.rmtree(work / "sparse", ignore_errors=True)
            shutil.move(str(out), str(work / "sparse"))
    return work / "sparse" / "0", found.features


def _posed(pycolmap: Any, database: Path, model: Any, known: dict[str, int], folder: Path) -> Path:
    """The model's cameras and poses under the database's numbers, without points."""
    posed = pycolmap.Reconstruction()
    with pycolmap.Database.open(str(database)) as opened:
        for image in opened.read_all_images():
            old = model.image(known[image.name])
            camera = pycolmap.Camera(model.camera(old.camera_id).todict())
            camera.camera_id = image.camera_id
            posed.add_camera_with_trivial_rig(camera)
            new = pycolmap.Image(image.name, pycolmap.Point2DList(), image.camera_id, image.image_id)
            posed.add_image_with_trivial_frame(new, old.cam_from_world())
    save_model(folder, posed)
    return folder
