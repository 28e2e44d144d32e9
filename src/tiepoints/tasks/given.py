"""What other programs made, as the results of a collection: their features and matches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, get_args

from .. import checks
from ..camera import Camera
from ..collection import (
    Collection,
    Engine,
    Match,
    MatchVerified,
    Memory,
    Photograph,
    Results,
    Step,
    Store,
    Verify,
    run,
)
from ..collection.orientation import opposite, stored_camera, stored_features
from ..errors import ImageError, InvalidInputError, TiepointsError
from ..features import Features
from ..files import named_as
from ..storage import Exchange
from ..storage.colmap_checks import CameraMode

__all__ = ["Imported", "check_arguments", "check_focal", "given_features", "kind_of", "renamed", "with_given_cameras"]


_LOOKED_AT = 10  # photographs whose headers are read: most often all are of one size


class Imported(Step):
    """What another program made, kept as a result.

    Examples
    --------
    >>> from tiepoints.collection import run
    >>> from tiepoints.tasks.given import Imported
    >>> run(Imported(), {"a": 3.5})["a"]
    3.5
    """

    def __call__(self, value: Any) -> Any:
        """The value itself."""
        return value


def check_focal(focal: float | None, photographs: Collection) -> None:
    """Refuse a focal length that no camera with so many pixels has, before hours of work.

    Raises
    ------
    InvalidInputError
        With the range for the first photographs.

    Examples
    --------
    >>> from tiepoints.collection import Collection
    >>> from tiepoints.tasks.given import check_focal
    >>> check_focal(800, Collection.from_folder("examples"))
    """
    if focal is not None:
        for one in itertools.islice(photographs.values(), _LOOKED_AT):
            with suppress(ImageError):  # whoever reads it names it
                Camera.from_focal(focal, one.header.size)


def check_arguments(
    *,
    camera_mode: Any,
    given: Any = None,
    match: Any = None,
    verify: Any = None,
    align: Any = True,
    store: Any = None,
    engine: Any = None,
    progress: Any = None,
) -> None:
    """Refuse what `reconstruct` and `build_map` would only find out after hours of extraction and matching.

    Raises
    ------
    InvalidInputError
        In one line, for the first argument of the wrong kind.

    Examples
    --------
    >>> from tiepoints.tasks.given import check_arguments
    >>> check_arguments(camera_mode="single", align=False)
    """
    checks.choice(camera_mode, "camera_mode", get_args(CameraMode))
    checks.flag(align, "align")
    for value, what, kinds, hint in (
        (given, "given", (Exchange,), "read one by tiepoints.storage.read_exchange"),
        (match, "match", (Match, MatchVerified), "such as Match('nearest', ratio=0.9)"),
        (verify, "verify", (Verify,), "such as Verify('fundamental')"),
        (engine, "engine", (Engine,), "such as Threads()"),
    ):
        if value is not None and not isinstance(value, kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise InvalidInputError(f"{what} is {checks.shown(value)}, but {names} is expected: {hint}")
    if store is not None:
        checks.path(store, "store")
    if progress is not None and not callable(progress):
        raise InvalidInputError(f"progress is {checks.shown(progress)}, but a function is expected")


def kind_of(given: Exchange) -> str:
    """What another program's features are, in a few words, by which one result is told from another.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.storage import Exchange
    >>> from tiepoints.tasks.given import kind_of
    >>> kind_of(Exchange({"box.png": tp.load("orb", max_keypoints=100)("examples/box.png")}, {}))
    'descriptors of 32 numbers (uint8), no matches'
    """
    some = next(iter(given.features.values()), None)
    kind = (
        "no features"
        if some is None
        else f"descriptors of {some.descriptors.shape[1]} numbers ({some.descriptors.dtype})"
    )
    return f"{kind}, {'matches' if given.matches else 'no matches'}"


def given_features(given: Exchange, photographs: Collection | None, store: Store | Memory) -> Results:
    """Another program's features as results, in the frame of the upright photographs.

    Parameters
    ----------
    given : Exchange
    photographs : Collection, optional
        Only these, and turned as their EXIF says; photographs without features are named as failed.
    store : Store or Memory

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection import Store
    >>> from tiepoints.storage import Exchange
    >>> from tiepoints.tasks.given import given_features
    >>> given = Exchange({"box.png": tp.load("orb", max_keypoints=100)("examples/box.png")}, {})
    >>> with Store("given.work") as store:
    ...     print(given_features(given, None, store))
    Results(imported of 1 items, 1 computed now)
    """
    given = given if photographs is None else renamed(given, photographs)
    features = dict(given.features)
    failed: dict[Any, str] = {}
    if photographs is not None:
        features = {}
        for name, one in photographs.items():
            try:
                features[name] = _sized(given.features[name], one)
                orientation = 1 if given.upright else one.header.orientation
                features[name] = stored_features(features[name], opposite(orientation))
            except KeyError:  # noqa: PERF203 - one photograph costs no other
                failed[name] = f"{name}: the given features have none of it"
            except TiepointsError as error:
                failed[name] = str(error)
                features.pop(name, None)
    results = run(Imported(), features, store)
    results.failed.update(failed)
    return results


def with_given_cameras(photographs: Collection, given: Exchange) -> Collection:
    """The photographs with another program's cameras as first guesses, where they have none of their own.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection import Collection
    >>> from tiepoints.storage import Exchange
    >>> from tiepoints.tasks.given import with_given_cameras
    >>> given = Exchange({}, {}, cameras={"box.png": tp.Camera.from_focal(500, (324, 223))})
    >>> with_given_cameras(Collection.from_folder("examples"), given)["box.png"].camera.params[0]
    500.0
    """
    cameras: dict[str, Camera] = {}
    given = renamed(given, photographs)
    for name, one in photographs.items():
        if one.camera is None and name in given.cameras:
            with suppress(TiepointsError):  # the file is gone, or a distortion that cannot be turned
                upright = stored_camera(given.cameras[name], opposite(one.header.orientation))
                cameras[name] = replace(upright, focal_is_known=False)  # to be refined
    return photographs.with_cameras(cameras) if cameras else photographs


def renamed(given: Exchange, names: Iterable[str]) -> Exchange:
    r"""With the names of a list, where another program's differ from it in the Unicode form only.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.storage import Exchange
    >>> from tiepoints.tasks.given import renamed
    >>> given = Exchange({}, {("Ko\u0308ln.jpg", "b.jpg"): tp.Matches.empty()})
    >>> ("K\u00f6ln.jpg", "b.jpg") in renamed(given, ["K\u00f6ln.jpg"]).matches
    True
    """
    listed = list(names)
    theirs = {*given.features, *itertools.chain.from_iterable(given.matches)}
    ours = {name: own for own, name in named_as({name: name for name in theirs}, listed).items()}
    return replace(
        given,
        features={ours[name]: value for name, value in given.features.items()},
        matches={(ours[a], ours[b]): value for (a, b), value in given.matches.items()},
        cameras=named_as(given.cameras, listed),
        positions=named_as(given.positions, listed),
    )


def _sized(features: Features, photograph: Photograph) -> Features:
    """With the size of the stored picture, where the features do not tell it."""
    if all(features.image_size):
        return features
    header = photograph.header
    return replace(features, image_size=header.size if header.orientation < 5 else header.size[::-1])
