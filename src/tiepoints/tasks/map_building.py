"""Maps for localization: made from photographs, from known poses, or from another program's model and features."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import checks
from ..collection import Collection, Engine, Match, MatchVerified, Store, run
from ..collection.pairs import Pair
from ..collection.retrieval import Describe, Vocabulary
from ..errors import InvalidInputError, StorageError, TiepointsError, counted
from ..extraction import Extractor, load
from ..files import PathLike, not_among, work_beside
from ..storage import Exchange
from ..storage.colmap_model import load_model
from .alignment import point_patches
from .earlier import Earlier, check_earlier, folder_note, note_of_arguments, noted
from .given import check_arguments, kind_of, renamed
from .maps import Map, read_map, write_map
from .reasons import why_most_are_missing
from .reconstruction import Reconstruction, reconstruct
from .verified import Report, vocabulary_of

if TYPE_CHECKING:
    from ..storage.colmap_checks import CameraMode

__all__ = ["build_map"]

DEFAULT = "mdnet"  # what `reconstruct` is given where it finds no features itself


def build_map(
    photographs: Collection | PathLike | None,
    out: PathLike,
    *,
    extractor: str | Extractor = "mdnet",
    pairs: str | Iterable[Pair] = "auto",
    camera_mode: CameraMode = "equal",
    focal: float | None = None,
    model: PathLike | None = None,
    given: Exchange | None = None,
    ratio: float | None = None,
    early_stop: bool = False,
    align: bool = True,
    store: PathLike | None = None,
    engine: Engine | None = None,
    overwrite: bool = False,
    progress: Report | None = None,
) -> tuple[Map, Reconstruction | None]:
    """Make a map of a place from photographs of it.

    Parameters
    ----------
    photographs : Collection or path, or None
        None with a `model` and `given` features.
    out : path
        The map; see `tiepoints.tasks.maps`. What the map is made from stays beside it, in ``<out>.work``, and may be
        deleted.
    extractor : str or Extractor
        A registered one: queries are extracted with the same. Empty if the features are `given` and those of queries
        will be too.
    pairs, camera_mode, focal, engine, progress
        As for `reconstruct`.
    align : bool
        As for `reconstruct`, also with a `model`; the map then keeps a patch of each point too, by which queries are
        aligned.
    model : path, optional
        A COLMAP model with known poses of these photographs, of whatever tool: the map's points are then triangulated
        from its poses, in its frame. With `given` features the model's own points are taken: its 2D points have to be
        these features, row by row, as COLMAP and hloc make them.
    given : Exchange, optional
        Features of another program's, instead of those of the extractor; and its matches.
    ratio : float, optional
        Ratio test of the matches, also of queries.
    early_stop : bool
        Whether pairs are matched and verified by `MatchVerified`, which stops as soon as the answer is certain.
    store : path, optional
        By default inside ``<out>.work``.
    overwrite : bool
        Whether a map there may be replaced that was made with other arguments or from photographs that are not given
        now, also those that `add_to_map` brought.

    Returns
    -------
    map : Map
    reconstruction : Reconstruction or None
        None where the poses were given.

    Raises
    ------
    TiepointsError
        If no camera was found.
    StorageError
        If there is another map, or something else, unless it may be replaced.

    Examples
    --------
    >>> from tiepoints.tasks import build_map
    >>> place, reconstruction = build_map("photos/", "map/")    # doctest: +SKIP
    """
    target = checks.path(out, "out")
    method = load(extractor) if isinstance(extractor, str) and extractor else extractor or None
    if method is not None:
        checks.instance(method, "extractor", Extractor)
    check_arguments(camera_mode=camera_mode, given=given, align=align, store=store, engine=engine, progress=progress)
    if given is not None:
        _check_descriptors(method, given)
    names = set() if given is None else set(given.features)
    if photographs is not None:
        photographs = photographs if isinstance(photographs, Collection) else Collection.from_folder(photographs)
        names = {*photographs, *photographs.failed}
    pairs = pairs if isinstance(pairs, str) else list(checks.iterable(pairs, "pairs", "pairs of names"))
    note = note_of_arguments(
        "map", method, photographs, pairs=pairs, camera_mode=camera_mode, focal=focal,
        model=None if model is None else Path(model), given=None if given is None else kind_of(given),
        ratio=ratio, early_stop=early_stop, align=align,
    )  # fmt: skip
    if not checks.flag(overwrite, "overwrite"):
        _check_added(target, names)
        check_earlier(target, _earlier(target), note, names)
    if model is not None and given is not None:
        with noted(target, note):
            return _imported_map(target, load_model(model), given, method, ratio), None
    if photographs is None or (method is None and given is None):
        raise InvalidInputError("without photographs and an extractor a map needs a model and its features")
    with noted(target, note):
        photos = photographs
        work = work_beside(target)
        kept = work / "store" if store is None else Path(store)
        matching = MatchVerified(ratio=ratio) if early_stop else Match(ratio=ratio)
        made: Reconstruction | None = None
        if model is None:
            made = reconstruct(
                photos, work, extractor=method or DEFAULT, pairs=pairs, camera_mode=camera_mode, focal=focal,
                given=given, match=matching, align=align, store=kept,
                engine=engine, overwrite=True, progress=progress,
            )  # fmt: skip
            if not made:
                why = "most often " + (why_most_are_missing(made.missing) or "there are no photographs")
                raise TiepointsError(f"no camera was found, so there is no map; {why}")
            assert made.features is not None
            sparse, features = work / "sparse" / "0", made.features
        else:
            from .triangulation import triangulate

            assert method is not None

            sparse, features = triangulate(
                photos, work, load_model(model), method, pairs=pairs, match=matching, align=align, store=kept,
                engine=engine, progress=progress,
            )  # fmt: skip
        with Store(kept) as stored:
            vocabulary = vocabulary_of(None if given is not None else method, features)
            vectors = run(Describe(vocabulary), features, stored, engine=engine)
            mapped = load_model(sparse)
            patches = point_patches(mapped, lambda name: photos[name].read_stored()) if align else None
            found = write_map(target, mapped, features, vectors, vocabulary, *_named(method), {"ratio": ratio}, patches)
        return found, made


def _check_added(target: Path, names: set[str]) -> None:
    """That no photograph that was added to an old map is lost without a word."""
    try:
        added = read_map(target).added
    except StorageError:  # none there, or a damaged one
        return
    lost = not_among(added, names)
    if lost:
        raise StorageError(
            f"{target}: this map would lose {counted(len(lost), 'photograph')} that `tiepoints add` brought, for "
            f"instance {lost[0]!r}: give all of its photographs, or say --overwrite (overwrite=True)"
        )


def _earlier(target: Path) -> Earlier | None:
    """The map that is there, or something else; `_check_added` looks after what `add_to_map` brought."""
    if (target / "map.json").exists():
        try:
            place = read_map(target)
        except StorageError:  # a damaged one
            return Earlier(folder_note(target), ())
        return Earlier(folder_note(target), [name for name in place.names if name not in place.added])
    # A folder of photographs, a reconstruction: anything but what a map that was interrupted leaves.
    other = target.is_dir() and folder_note(target).get("command") != "map" and any(target.iterdir())
    return Earlier(folder_note(target), ()) if other else None


def _imported_map(target: Path, model: Any, given: Exchange, method: Extractor | None, ratio: float | None) -> Map:
    """A map of another program's model and features."""
    names = [model.image(i).name for i in model.reg_image_ids()]
    given = renamed(given, names)
    lost = next((name for name in names if name not in given.features), None)
    if lost is not None:
        raise InvalidInputError(
            f"the model has an image {lost!r}, but the features have none of it: they have "
            f"{next(iter(given.features), '(none)')!r} and so on"
        )
    features = {name: given.features[name] for name in names}
    vocabulary = Vocabulary.learn(features.values())
    vectors = {name: vocabulary(one) for name, one in features.items()}
    return write_map(target, model, features, vectors, vocabulary, *_named(method), {"ratio": ratio})


def _check_descriptors(method: Extractor | None, given: Exchange) -> None:
    """That queries can be matched with these features, by the extractor that is named for them."""
    some = next((one for one in given.features.values() if one.descriptors.shape[1]), None)
    if some is None:
        raise InvalidInputError("these features have no descriptors, by which queries are matched with the map")
    if method is None:
        return
    # Of a blank image there are none, but of their kind, which options and weights decide as well.
    sizes = [(one.dtype, one.shape[1]) for one in (some.descriptors, method(np.zeros((64, 64), np.uint8)).descriptors)]
    if sizes[0] != sizes[1]:
        these, those = (f"{size} numbers ({dtype})" for dtype, size in sizes)
        raise InvalidInputError(
            f"these features have descriptors of {these}, those of {method.metadata.name} {those}: "
            "name the extractor that made them, with the same options"
        )


def _named(method: Extractor | None) -> tuple[str, dict[str, Any]]:
    """The name and the options of what finds the features of queries; none where these are given too."""
    return ("", {}) if method is None else (method.metadata.name, _options_of(method))


def _options_of(extractor: Extractor) -> dict[str, Any]:
    """What makes the same extractor again, as JSON can say it; threads are this machine's matter."""
    from ..extraction import options_of

    known = {option.name for option in options_of(extractor.metadata.name)} - {"threads", "device"}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(extractor).items()
        if name in known and value is not None
    }
