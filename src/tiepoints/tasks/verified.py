"""From a collection to the verified pairs that every task on many images begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import checks
from ..checks import choice
from ..collection import (
    Collection,
    Engine,
    Extract,
    Match,
    MatchVerified,
    Results,
    Store,
    Verify,
    exhaustive,
    positions_of,
    run,
    sequential,
    spatial,
    union,
)
from ..collection.pairs import Pair
from ..collection.retrieval import Describe, Vocabulary, retrieval, shipped_vocabulary
from ..errors import ImageError, InvalidInputError, counted
from ..exif import Position
from ..extraction import Extractor
from ..storage import Exchange
from .given import Imported, given_features, renamed

__all__ = [
    "PAIRS",
    "VerifiedPairs",
    "choose_pairs",
    "kind_of_pairs",
    "pairs_of_kind",
    "verified_pairs",
    "vocabulary_of",
]

#: Called with what is being done, the number of items done, and of all.
Report = Callable[[str, int, int], None]

#: How pairs are chosen, by name.
PAIRS = ("auto", "exhaustive", "sequential", "retrieval", "spatial")
_COUNTED = PAIRS[2:]  # that take a number, as in "retrieval:30"

# Up to so many images every pair is matched; beyond, each with those most like it. Ours: 100 images are 4,950 pairs, a
# minute's work.
_EVERY_PAIR = 100
# Images from which a vocabulary is learned where none is shipped for the extractor.
_TEACHERS = 200


@dataclass(frozen=True, eq=False)
class VerifiedPairs:
    """What `verified_pairs` found.

    Parameters
    ----------
    photographs : Collection
    features : Results of `Extract`
    views : Results of `Verify`
        Of each pair that was matched.
    vectors : Results of `Describe`, or None
        Where pairs were chosen by retrieval.
    failed : dict
        Images and pairs that failed, and why.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection import Collection, Store, Verify
    >>> from tiepoints.tasks import verified_pairs
    >>> with Store("box.work") as store:
    ...     found = verified_pairs(
    ...         Collection.from_folder("examples"), store, tp.load("orb"), pairs=[("box.png", "box_in_scene.png")],
    ...         verify=Verify("homography"),
    ...     )
    >>> len(found.features), [pair for pair, view in found.views.items() if view]
    (4, [('box.png', 'box_in_scene.png')])
    """

    photographs: Collection
    features: Results
    views: Results
    vectors: Results | None
    failed: dict[Any, str]


def kind_of_pairs(pairs: str) -> tuple[str, int | None]:
    """One of `PAIRS` and how many for each image, if that is said.

    Raises
    ------
    InvalidInputError
        If it is none.

    Examples
    --------
    >>> from tiepoints.tasks.verified import kind_of_pairs
    >>> kind_of_pairs("retrieval:30"), kind_of_pairs("auto")
    (('retrieval', 30), ('auto', None))
    """
    kind, colon, many = checks.instance(pairs, "pairs", str).partition(":")
    if not colon:
        return choice(pairs, "pairs", PAIRS), None
    if kind not in _COUNTED or not (many.isdecimal() and many.isascii() and 0 < int(many) < 2**31):
        known = ", ".join(f"{one}:N" for one in _COUNTED)
        raise InvalidInputError(f"pairs is {checks.shown(pairs)}, but a number belongs to {known}, with N at least 1")
    return kind, int(many)


def pairs_of_kind(
    pairs: str,
    photographs: Collection,
    features: Results,
    store: Store,
    extractor: Extractor | None,
    *,
    top: int = 20,
    window: int = 10,
    within: float | None = None,
    engine: Engine | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Pair], Results | None]:
    """The pairs that `verified_pairs` matches, and the vectors by which they were chosen, if so.

    Parameters
    ----------
    pairs, photographs, store, top, window, within, engine
        As for `verified_pairs`.
    features : Results of `Extract`
    extractor : Extractor, optional
        None where the features are another program's.
    progress : callable, optional
        Called with the number of images described, and of all.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection import Collection, Extract, Store, run
    >>> from tiepoints.tasks.verified import pairs_of_kind
    >>> orb, photos = tp.load("orb", max_keypoints=200), Collection.from_folder("examples")
    >>> with Store("kinds.work") as store:
    ...     features = run(Extract(orb), photos, store)
    ...     found, vectors = pairs_of_kind("sequential:1", photos, features, store, orb)
    >>> found[0], vectors is None
    (('box.png', 'box_in_scene.png'), True)
    """
    kind, many = kind_of_pairs(pairs)
    if kind == "auto":
        kind = "exhaustive" if len(features) <= _EVERY_PAIR else "retrieval"
    positions = positions_of(photographs, map(str, features)) if kind == "spatial" else None
    vectors = vocabulary = None
    if kind == "retrieval" or (positions is not None and len(positions) < len(features)):
        vocabulary = vocabulary_of(extractor, features)
        vectors = run(Describe(vocabulary), features, store, engine=engine, progress=progress)
    return choose_pairs(
        kind, map(str, features), vectors=vectors, vocabulary=vocabulary, positions=positions, top=many or top,
        window=many or window, within=within,
    ), vectors  # fmt: skip


def verified_pairs(
    photographs: Collection,
    store: Store,
    extractor: Extractor,
    *,
    pairs: str | Iterable[Pair] = "auto",
    top: int = 20,
    window: int = 10,
    within: float | None = None,
    given: Exchange | None = None,
    match: Match | MatchVerified | None = None,
    verify: Verify | None = None,
    engine: Engine | None = None,
    progress: Report | None = None,
) -> VerifiedPairs:
    """Extract, choose pairs, match, and verify; what the store has is not computed again.

    Parameters
    ----------
    photographs : Collection
    store : Store
    extractor : Extractor
    pairs : str or iterable of pairs
        One of `PAIRS`, or names of images two by two. "auto": every pair up to 100 images, else "retrieval".
        "sequential:5", "retrieval:30" and "spatial:30" say how many for each image.
    top, window : int
        Of "retrieval" and "spatial", and of "sequential", where `pairs` has no number.
    within : float, optional
        Of "spatial": metres.
    given : Exchange, optional
        Features of another program's, which are taken instead of the extractor's, and its matches, which are verified
        instead of `pairs` being matched, where there are any.
    match : Match or MatchVerified
        By default ``Match()``. `MatchVerified` stops early, and verifies by itself.
    verify : Verify
        By default ``Verify("fundamental")``.
    engine : Engine, optional
    progress : callable, optional
        ``progress("extracting", done, all)``.

    Returns
    -------
    found : VerifiedPairs

    Raises
    ------
    ImageError
        If no photograph could be read.
    InvalidInputError
        If `pairs` is none of these.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection import Collection, Store
    >>> from tiepoints.tasks import verified_pairs
    >>> with Store("pairs.work") as store:
    ...     found = verified_pairs(
    ...         Collection.from_folder("examples"), store, tp.load("orb"), pairs=[("desk_1.jpg", "desk_2.jpg")]
    ...     )
    >>> found.views["desk_1.jpg", "desk_2.jpg"].verified
    True
    """
    checks.instance(photographs, "photographs", Collection)
    checks.instance(store, "store", Store)
    checks.instance(extractor, "extractor", Extractor)
    if isinstance(pairs, str):
        kind_of_pairs(pairs)
    else:
        pairs = list(checks.iterable(pairs, "pairs", "pairs of names"))
        _check_names(pairs, photographs)

    def told(what: str) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, every: progress(what, done, every)

    if given is None:
        features = run(Extract(extractor), photographs, store, engine=engine, progress=told("extracting"))
    else:
        given = renamed(given, photographs)
        features = given_features(given, photographs, store)
    if not features:
        first = next(iter(features.failed.values()), "there are none")
        raise ImageError(f"no photograph could be read, of {len(photographs)}; for instance: {first}")
    vectors = None
    if given is not None and given.matches:
        known = {pair: found for pair, found in given.matches.items() if pair[0] in features and pair[1] in features}
        matches = run(Imported(), known, store)
    else:
        if isinstance(pairs, str):
            pairs, vectors = pairs_of_kind(
                pairs, photographs, features, store, None if given is not None else extractor,
                top=top, window=window, within=within, engine=engine, progress=told("describing images"),
            )  # fmt: skip
        matches = run(match or Match(), pairs, store, features, engine=engine, progress=told("matching"))
    if isinstance(match, MatchVerified) and isinstance(matches.step, MatchVerified):
        views = matches
    else:
        again = verify or Verify("fundamental")
        views = run(again, matches, store, features, engine=engine, progress=told("verifying"))
    failed = {**features.failed, **matches.failed, **views.failed}
    return VerifiedPairs(photographs, features, views, vectors, failed)


def _check_names(pairs: Iterable[Any], photographs: Collection) -> None:
    """That a list of pairs is of these photographs: a misspelled one would match nothing without a word."""
    known = {*photographs, *map(str, photographs.failed)}
    for pair in pairs:
        if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)):
            raise InvalidInputError(f"{checks.shown(pair)} is no pair of names")
        for name in pair:
            if name not in known and name not in photographs:
                hint = checks.did_you_mean(name, list(photographs))
                raise InvalidInputError(f"the pair {tuple(pair)} has {name!r}, which is no photograph: {hint}")


def choose_pairs(
    kind: str,
    names: Iterable[str],
    *,
    vectors: Results | None = None,
    vocabulary: Vocabulary | None = None,
    positions: Mapping[str, Position] | None = None,
    top: int = 20,
    window: int = 10,
    within: float | None = None,
    altitude: bool = False,
) -> list[Pair]:
    """Pairs of these images, by one of `PAIRS`.

    Parameters
    ----------
    kind : str
        "exhaustive"; "sequential" with far ones for loops; "retrieval" by `vectors`; "spatial" by `positions`, where
        images without one get pairs by `vectors`, or else by sequence.
    names : iterable of str
    vectors : Results of `Describe`, optional
    vocabulary : Vocabulary, optional
        That made the vectors: see `nearest_images`.
    positions : mapping, optional
        As `positions_of` gives them.
    top : int
        Of "retrieval" and "spatial": how many for each image.
    window : int
        Of "sequential".
    within, altitude
        Of "spatial": see there.

    Returns
    -------
    pairs : list of (str, str)

    Raises
    ------
    ImageError
        If spatial pairs are asked for and no image has a position.
    InvalidInputError
        If `kind` is none of these, or retrieval has no vectors.

    Examples
    --------
    >>> from tiepoints.tasks import choose_pairs
    >>> choose_pairs("sequential", ["frame1", "frame2", "frame3"], window=1)
    [('frame1', 'frame2'), ('frame1', 'frame3'), ('frame2', 'frame3')]
    """
    choice(kind, "kind", PAIRS)
    checks.iterable(names, "names", "names")
    listed = list(names)
    # The neighbours in the order of names cost little, and hold together what looks too different.
    if kind == "sequential":
        return sequential(listed, window, loops=True)
    if kind == "retrieval":
        checks.present(vectors, "vectors, by which retrieval chooses,")
        assert vectors is not None
        return union(retrieval(vectors, top, vocabulary), sequential(listed, 1))
    if kind == "spatial":
        placed = {name: positions[name] for name in listed if name in positions} if positions else {}
        if not placed:
            raise no_positions(len(listed))
        others = sequential(listed, window) if vectors is None else retrieval(vectors, top, vocabulary)
        others = [pair for pair in others if not (pair[0] in placed and pair[1] in placed)]
        return union(spatial(placed, top, within=within, altitude=altitude), others, sequential(listed, 1))
    return exhaustive(listed)


def no_positions(count: int) -> ImageError:
    """The error where pairs are wanted by position, and none of so many photographs has one."""
    return ImageError(
        f"none of these {counted(count, 'photograph')} has a position in EXIF: choose their pairs by retrieval"
    )


def vocabulary_of(extractor: Extractor | None, features: Results) -> Vocabulary:
    """The vocabulary that is shipped for the extractor, or one learned from these features, whatever made them.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection import Collection, Extract, run
    >>> from tiepoints.tasks.verified import vocabulary_of
    >>> orb = tp.load("orb", max_keypoints=200)
    >>> vocabulary_of(orb, run(Extract(orb), Collection.from_folder("examples"))).words.shape
    (64, 256)
    """
    # weights of one's own have other descriptors
    if extractor is not None and getattr(extractor, "weights", None) is None:
        shipped = shipped_vocabulary(extractor.metadata.name)
        if shipped is not None:
            return shipped
    names = list(features)
    return Vocabulary.learn(features[name] for name in names[:: max(1, len(names) // _TEACHERS)])
