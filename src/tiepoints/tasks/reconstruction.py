"""Structure from motion: from a folder of photographs to cameras and points, by COLMAP's mappers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import checks
from ..checks import choice
from ..collection import (
    Collection,
    ConsistentViews,
    Engine,
    Match,
    MatchVerified,
    Results,
    Store,
    Verify,
    export_colmap,
)
from ..collection.pairs import Pair
from ..errors import counted
from ..extraction import Extractor, load
from ..files import PathLike, folder_beside, write_lock, write_whole
from ..optional import require
from ..storage.colmap_model import load_model as load_model, save_points
from .earlier import check_earlier, earlier_reconstruction, note_of_arguments, noted
from .given import check_arguments, check_focal, kind_of, with_given_cameras
from .mapping import mapper_process, run_mapper
from .nerfstudio import transforms_of
from .page import page_of, small_pictures
from .reasons import PairReport
from .rotated import rotated_photograph, strength_by
from .verified import Report, verified_pairs

if TYPE_CHECKING:
    from ..storage import Exchange
    from ..storage.colmap_checks import CameraMode

__all__ = ["MAPPERS", "Reconstruction", "reconstruct", "summary_of"]

#: COLMAP's mappers by name.
MAPPERS = ("incremental", "global")

_STILL = "no model: the camera stood still, or all photographs are the same picture"


@dataclass(frozen=True)
class Reconstruction:
    """What `reconstruct` made.

    Parameters
    ----------
    folder : path
        Holds sparse/0, sparse/1 ... (COLMAP's binary models, the largest first), points.ply, transforms.json,
        report.json, report.html and database.db.
    images : int
        Photographs that were given.
    registered : int
        Photographs whose camera was found, in the largest model.
    models : int
        More than one where too few matches connect the photographs.
    points : int
        3D points of the largest model.
    track_length : float
        Images that see a point, mean.
    reprojection_error : float
        Pixels, mean.
    pairs, verified : int
        Pairs that were matched, and that geometric verification accepted.
    missing : dict
        Photographs that are not registered, and why.
    further : tuple of tuple of str
        The photographs of sparse/1, sparse/2 ...
    features : Results of `Extract`, optional
        Of every photograph, read from the store where they are asked for.
    hint : str
        A photograph that would match others if it were rotated, and what helps; or that the camera stood still. Empty
        if neither is known.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tiepoints.tasks import Reconstruction
    >>> made = Reconstruction(Path("scene"), 12, 11, 1, 3012, 4.31, 0.62, 66, 48, missing={"blurred.jpg": "no matches"})
    >>> made
    Reconstruction(11 of 12 images, 3012 points, track length 4.31, reprojection error 0.62 px)
    """

    folder: Path
    images: int
    registered: int
    models: int
    points: int
    track_length: float
    reprojection_error: float
    pairs: int
    verified: int
    missing: dict[str, str] = field(default_factory=dict)
    further: tuple[tuple[str, ...], ...] = ()
    features: Results | None = field(default=None, repr=False)
    hint: str = ""

    def __bool__(self) -> bool:
        return self.registered > 0

    def __repr__(self) -> str:
        return (
            f"Reconstruction({self.registered} of {counted(self.images, 'image')}, {counted(self.points, 'point')}, "
            f"track length {self.track_length:.2f}, reprojection error {self.reprojection_error:.2f} px)"
        )


def reconstruct(
    photographs: Collection | PathLike,
    out: PathLike,
    *,
    extractor: str | Extractor = "mdnet",
    pairs: str | Iterable[Pair] = "auto",
    mapper: str = "incremental",
    camera_mode: CameraMode = "equal",
    focal: float | None = None,
    given: Exchange | None = None,
    match: Match | MatchVerified | None = None,
    verify: Verify | None = None,
    align: bool = True,
    store: PathLike | None = None,
    engine: Engine | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Report | None = None,
) -> Reconstruction:
    """Reconstruct a scene from photographs of it: extraction, pairs, matching, verification, COLMAP's mapper.

    Everything before the mapper is kept in a store, so that an interrupted run goes on, and one with more photographs
    computes what is new.

    Parameters
    ----------
    photographs : Collection or path
        A folder is taken with all below it.
    out : path
        A folder, made if missing; see `Reconstruction`. The same call, also with more photographs, goes on with what
        is there. A model is replaced when the new one is whole.
    extractor : str or Extractor
    pairs : str or iterable of pairs
        As for `verified_pairs`.
    mapper : {"incremental", "global"}
        The incremental one is the more robust, the global one the faster.
    camera_mode : {"equal", "single", "per-folder", "per-image"}
        Which photographs share a camera.
    focal : float, optional
        Focal length in pixels of all photographs; by default the photographs' own cameras, EXIF, or a guess. Only the
        last two are refined.
    given : Exchange, optional
        Features, and matches where it has any, of another program: see `verified_pairs`. Its cameras are first guesses.
    match, verify : Match or MatchVerified, Verify, optional
    align : bool
        Whether keypoints of the model are moved to where the photographs agree around them, before the last adjustment:
        see `alignment.align_keypoints`.
    store : path, optional
        By default ``work`` inside `out`.
    engine : Engine, optional
    seed : int
        Of COLMAP's random samples.
    overwrite : bool
        Whether a result may be replaced that was made with other arguments, by another program, or from photographs
        that are not given now.
    progress : callable, optional
        ``progress("mapping", registered, all)`` and so on.

    Returns
    -------
    reconstruction : Reconstruction
        Falsy where no camera was found; the report says why.

    Raises
    ------
    MissingDependencyError
        Without pycolmap.
    ImageError
        If no photograph could be read.
    StorageError
        If there is another result, unless it may be replaced.
    TiepointsError
        If COLMAP fails.

    Examples
    --------
    >>> tp.tasks.reconstruct("photos/", "scene/")    # doctest: +SKIP
    Reconstruction(12 of 12 images, 3012 points, track length 4.31, reprojection error 0.62 px)
    """
    out = checks.path(out, "out")
    require("pycolmap", "reconstruction", "sfm")
    choice(mapper, "mapper", MAPPERS)
    checks.count(seed, "seed")
    check_arguments(
        camera_mode=camera_mode, given=given, match=match, verify=verify, align=align, store=store, engine=engine,
        progress=progress,
    )  # fmt: skip
    photos = photographs if isinstance(photographs, Collection) else Collection.from_folder(photographs)
    if given is not None:
        photos = with_given_cameras(photos, given)
    check_focal(focal, photos)
    method = checks.instance(load(extractor) if isinstance(extractor, str) else extractor, "extractor", Extractor)
    folder = Path(out)
    work = folder / "work" if store is None else Path(store)
    pairs = pairs if isinstance(pairs, str) else list(checks.iterable(pairs, "pairs", "pairs of names"))
    note = note_of_arguments(
        "reconstruct", method, photos, pairs=pairs, mapper=mapper, camera_mode=camera_mode, focal=focal,
        given=None if given is None else kind_of(given), match=match or Match(), verify=verify, align=align,
        seed=seed,
    )  # fmt: skip
    if not checks.flag(overwrite, "overwrite"):
        check_earlier(folder, earlier_reconstruction(folder), note, [*photos, *photos.failed])
    with noted(folder, note), write_lock(folder / "sparse"), Store(work) as kept:
        found = verified_pairs(
            photos, kept, method, pairs=pairs, given=given, match=match, verify=verify, engine=engine,
            progress=progress,
        )  # fmt: skip
        with mapper_process() as process:
            database = folder / "database.db"
            views = ConsistentViews(found.views, found.features)
            export_colmap(database, photos, found.features, views, camera_mode=camera_mode, focal=focal)
            report = PairReport(views.items(), found.failed)
            known = focal is not None or all(
                one.camera is not None and one.camera.focal_is_known for one in photos.values()
            )
            job = {"mapper": mapper, "database": str(database), "seed": seed}
            job |= {"refine_focal": not known, "refine_extra": not known, "align": align}
            with small_pictures(photos) as picture_of:  # the mapper leaves cores idle
                every = len(found.features)
                can = report.tells_depth(photos)
                models = _map(job, photos, folder, every, report, progress, process) if can else []
                if not models:
                    _remove_models(folder)
                result = _result(folder, photos, models, report, len(found.views), dict(found.failed), found.features)
                if report.stood_still and not models:
                    result = replace(result, hint=_STILL)
                elif result.missing and given is None:
                    strength = strength_by(match or Match(), verify)
                    hint = rotated_photograph(photos, found.features, report, method, strength)
                    result = replace(result, hint=hint)
                figures = summary_of(result) | report.as_dict()
                page = page_of(models[0] if models else None, photos, figures, picture_of)
    write_whole(folder / "report.json", json.dumps(figures, indent=1).encode())
    write_whole(folder / "report.html", page.encode("utf-8", "replace"))
    return result


def _map(
    job: dict[str, Any],
    photographs: Collection,
    folder: Path,
    count: int,
    report: PairReport,
    progress: Report | None,
    process: Any,
) -> list[Any]:
    """The models, largest first, in folder/sparse; an old result is replaced when the new one is whole."""
    import pycolmap

    def told(what: str, done: int, every: int) -> None:
        if progress is not None:
            progress(what, min(done, every or count), every or count)

    with folder_beside(folder / "sparse") as temporary:
        images = images_folder(photographs, temporary / "images")
        run_mapper(job | {"images": str(images), "out": str(temporary / "sparse")}, told, process)
        parts = sorted(path for path in (temporary / "sparse").iterdir() if path.is_dir())
        models = [(path, pycolmap.Reconstruction(path)) for path in parts]
        models = _worth_keeping(models, report)
        sparse = folder / "sparse"
        _remove_numbered(sparse)
        sparse.mkdir(parents=True, exist_ok=True)
        for number, (path, _) in enumerate(models):
            path.rename(sparse / str(number))
    reconstructions = [model for _, model in models]
    if reconstructions:
        best = reconstructions[0]
        save_points(folder / "points.ply", best)
        write_whole(folder / "transforms.json", json.dumps(transforms_of(best, photographs, folder), indent=1).encode())
    return reconstructions


def _worth_keeping(models: list[tuple[Path, Any]], report: PairReport) -> list[tuple[Path, Any]]:
    """The models, largest first, without those whose photographs are all in a larger one, and those without depth."""
    models = sorted(models, key=lambda item: (-item[1].num_reg_images(), -item[1].num_points3D()))
    kept: list[tuple[Path, Any]] = []
    held: list[set[str]] = []
    for path, model in models:
        names = _registered(model)
        if report.tells_depth(names) and not any(names <= larger for larger in held):
            kept.append((path, model))
            held.append(names)
    return kept


def _registered(model: Any) -> set[str]:
    """The names of a model's photographs."""
    return {model.image(i).name for i in model.reg_image_ids()}


def _remove_models(folder: Path) -> None:
    """Remove the models of an earlier run, of which the report of this one says nothing."""
    _remove_numbered(folder / "sparse")
    for name in ("points.ply", "transforms.json"):
        (folder / name).unlink(missing_ok=True)


def _remove_numbered(sparse: Path) -> None:
    """Remove sparse/0, sparse/1 and so on; what else somebody keeps there stays."""
    for path in sparse.iterdir() if sparse.is_dir() else ():
        if path.name.isdecimal():
            shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):  # it is not empty, or was never there
        sparse.rmdir()


def images_folder(photographs: Collection, folder: Path) -> Path:
    """A folder in which COLMAP finds every photograph by its name: where they lie, or one of links."""
    tops = {
        str(one.path)[: -len(name)]
        for name, one in photographs.items()
        if one.path.as_posix().endswith(f"/{name}") or one.path.as_posix() == name
    }
    if len(tops) == 1 and all(one.frame is None for one in photographs.values()):
        return Path(tops.pop() or ".")
    for name, one in photographs.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if one.frame is None:
            try:
                link.symlink_to(one.path.absolute())
            except OSError:  # Windows without the right to
                shutil.copyfile(one.path, link)
        else:
            from PIL import Image

            Image.fromarray(one.read()).save(link, format="PNG", compress_level=1)  # for minutes: time counts
    return folder


def _result(
    folder: Path,
    photographs: Collection,
    models: list[Any],
    report: PairReport,
    pairs: int,
    failed: dict[Any, str],
    features: Results,
) -> Reconstruction:
    registered = _registered(models[0]) if models else set()
    further = tuple(tuple(sorted(_registered(model))) for model in models[1:])
    others = {name for names in further for name in names}
    missing: dict[str, str] = {name: message for name, message in failed.items() if isinstance(name, str)}
    for name in photographs:
        if name in registered or name in missing:
            continue
        if name in others:
            missing[name] = "in a smaller model: too few matches hold it to the largest one"
        else:
            missing[name] = report.why(name)
    best = models[0] if models else None
    return Reconstruction(
        folder,
        len(photographs) + len(photographs.failed),
        len(registered),
        len(models),
        best.num_points3D() if best else 0,
        float(best.compute_mean_track_length()) if best else 0.0,
        float(best.compute_mean_reprojection_error()) if best else 0.0,
        pairs,
        report.verified(),
        missing,
        further,
        features,
    )


def summary_of(result: Reconstruction) -> dict[str, Any]:
    """The result as JSON can say it.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tiepoints.tasks import Reconstruction
    >>> from tiepoints.tasks.reconstruction import summary_of
    >>> summary_of(Reconstruction(Path("scene"), 12, 11, 1, 3012, 4.31, 0.62, 66, 48))["registered"]
    11
    """
    checks.instance(result, "result", Reconstruction)
    return {
        "folder": str(result.folder),
        "images": result.images,
        "registered": result.registered,
        "models": result.models,
        "further_models": [
            {"model": f"sparse/{number}", "registered": len(names), "photographs": list(names)}
            for number, names in enumerate(result.further, 1)
        ],
        "points": result.points,
        "track_length": round(result.track_length, 3),
        "reprojection_error": round(result.reprojection_error, 3),
        "pairs": result.pairs,
        "verified": result.verified,
        "missing": result.missing,
        "hint": result.hint,
    }
