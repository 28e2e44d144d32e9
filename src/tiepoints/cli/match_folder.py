"""`tiepoints match FOLDER`: every pair of a collection, verified, into a COLMAP database or hloc's HDF5 files."""

from __future__ import annotations

import glob
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import counted
from .batch import (
    check_two,
    engine_of,
    explained_interrupt,
    found,
    none_read,
    photographs_options,
    progress_bar,
    say_failures,
    say_memory,
    say_turned,
    shown,
    sizes_of,
    store_option,
    work_folder,
)
from .earlier import note_of, overwrite_option
from .many import CAMERA_MODES, FOCAL, early_option, pairs_of, pairs_option, placed_of
from .options import check_not_an_input, print_json, say
from .shards import Shard, shard_option

_NAMED = 10  # images and pairs that are named, on the terminal
_FEW = 3  # pairs of one kind that are named there
_OUTPUTS = (".db", ".h5", ".hdf5")
_NOTE = "made_with_options"  # HDF5's attribute

if TYPE_CHECKING:
    from ..collection import Collection, ConsistentViews, Results
    from ..collection.steps import Step
    from ..extraction import Extractor
    from ..tasks.earlier import Earlier


class Wanted(NamedTuple):
    """What the command line asks for."""

    sources: list[Path]
    out: Path
    pairs: str
    matcher: Any
    geometry: Any
    threshold: float | None
    seed: int
    mask: Path | None
    every: int
    camera_mode: Any
    focal: float | None
    jobs: int | None
    engine: str
    address: str | None
    store: Path | None
    shard: Shard | None
    overwrite: bool
    early_stop: bool
    stored_pixels: bool
    as_json: bool


def folder_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that only a FOLDER takes."""
    for option in (
        click.option(
            "--stored-pixels",
            is_flag=True,
            help="Of a FOLDER to FILE.h5: keypoints in pixels of the files as they are stored, without EXIF's "
            "rotation, as hloc and COLMAP read them.",
        ),
        early_option,
        shard_option,
        overwrite_option("--out of a FOLDER"),
        store_option("--out with .work added"),
        photographs_options,
        click.option(
            "--focal",
            type=FOCAL,
            help="Of a FOLDER: focal length in pixels, if known.",
        ),
        click.option(
            "--camera-mode",
            type=click.Choice(CAMERA_MODES),
            default="equal",
            show_default=True,
            help="Of a FOLDER: which images share a camera in COLMAP: those of equal size and focal length, all, ...",
        ),
        pairs_option("exhaustive", "Of a FOLDER: "),
    ):
        function = option(function)
    return function


def match_folder(make: Callable[[], Extractor], sources: Sequence[Path], several: str, options: dict[str, Any]) -> bool:
    """Extract, match, verify, write, and tell; `several` says what the sources are.

    Returns
    -------
    good : bool
        Whether nothing failed and at least one pair is verified.
    """
    out = options["out"]
    if out is None or out.suffix.lower() not in _OUTPUTS:
        raise click.UsageError(
            f"{several}: every pair is matched, which needs --out FILE.db (COLMAP) or FILE.h5 (hloc)"
            + ("" if out is None else f", not {out}")
        )
    if options["geometry"] == "none":
        raise click.UsageError("the matches of many pairs are verified: --geometry is fundamental or homography")
    wanted = Wanted(list(sources), **options)
    if out.suffix.lower() == ".db" and wanted.shard is None:
        from ..optional import require

        require("pycolmap", "COLMAP's database", "sfm")  # not after an hour of work
    from ..collection import ConsistentViews, Extract, Match, MatchVerified, Store, Verify, run
    from ..errors import ImageError
    from ..files import write_lock
    from ..tasks.given import check_focal
    from ..tasks.reasons import PairReport
    from ..tasks.rotated import rotated_photograph, strength_by
    from ..tasks.verified import pairs_of_kind

    started = time.perf_counter()
    photographs = found(wanted.sources, wanted.mask, wanted.every, wanted.as_json)
    check_two(photographs, photographs.failed, "matching")
    check_not_an_input((wanted.out,), (one.path for one in photographs.values()))
    note = note_of()
    if wanted.shard is None:
        _check_replaced(_outputs(wanted.out), note, [*photographs, *photographs.failed], wanted.overwrite)
    check_focal(wanted.focal, photographs)
    pairs = pairs_of(wanted.pairs, photographs)
    if wanted.shard is not None:
        pairs = _before_extraction(pairs, photographs)
    extractor = make()
    matcher = wanted.matcher.for_extractor(extractor.metadata.name)
    verify = Verify(wanted.geometry, threshold=wanted.threshold, seed=wanted.seed)
    pair_steps = (MatchVerified(matcher, verify),) if wanted.early_stop else (Match(matcher), verify)
    steps: tuple[Step, ...] = (Extract(extractor), *pair_steps)
    say_memory(extractor, sizes_of(photographs))
    folder, engine, quiet = (
        work_folder(wanted.out, wanted.store),
        engine_of(wanted.jobs, wanted.engine, wanted.address),
        wanted.as_json,
    )
    if wanted.shard is not None:
        return _shard(wanted, wanted.shard, photographs, pairs, steps, folder)
    with explained_interrupt(folder), write_lock(folder), Store(folder) as store:
        with progress_bar("extracting", quiet) as progress:
            features = run(steps[0], photographs, store, engine=engine, progress=progress)
        if not features:
            raise ImageError(none_read(features.failed))
        check_two(features, features.failed, "matching")
        if isinstance(pairs, str):
            with progress_bar("describing images", quiet) as progress:
                pairs, _ = pairs_of_kind(
                    pairs, photographs, features, store, extractor, engine=engine, progress=progress
                )
        with progress_bar("matching", quiet) as progress:
            matches = run(steps[1], pairs, store, features, engine=engine, progress=progress)
        judged = matches
        for step in steps[2:]:
            with progress_bar("verifying", quiet) as progress:
                judged = run(step, matches, store, features, engine=engine, progress=progress)
        failed: dict[Any, str] = {**features.failed, **matches.failed, **judged.failed}
        views = ConsistentViews(judged, features)
        report = PairReport(views.items(), {**matches.failed, **judged.failed})
        verified, inliers = report.verified(), sum(len(view.inliers) for view in views.values())
        hint = rotated_photograph(photographs, features, report, extractor, strength_by(*pair_steps))
        failed |= _write(wanted, note, photographs, features, views)
    computed = [results.computed for results in (features, matches, judged)]
    content = {
        "extractor": extractor.metadata.name,
        "images": len(features),
        "pairs": len(views),
        "verified": verified,
        **report.as_dict(),
        "inliers": inliers,
        "computed": dict(zip(("features", "matches", "geometry"), computed, strict=True)),
        "failed": [{"item": name if isinstance(name, str) else list(name), "error": e} for name, e in failed.items()],
        "left_out": [str(path) for path in photographs.left_out],
        "out": [str(path) for path in _outputs(wanted.out)],
        "store": str(folder),
        "without_verified_pair": [str(name) for name in features if not report.verified(str(name))],
        "hint": hint,
        "seconds": time.perf_counter() - started,
    }
    say_failures(failed)
    if wanted.as_json:
        print_json(content)
    else:
        _print(content)
    return not failed and verified > 0


def _shard(
    wanted: Wanted,
    shard: Shard,
    photographs: Collection,
    listed: list[tuple[str, str]],
    steps: tuple[Step, ...],
    folder: Path,
) -> bool:
    """One part of the images and of the pairs whose images have features by now, into the store alone."""
    from ..collection import Store, run, stored
    from ..files import write_lock

    engine = engine_of(wanted.jobs, wanted.engine, wanted.address)
    mine = shard.mine(listed)
    with (
        explained_interrupt(folder),
        write_lock(folder / shard.name),
        Store(folder, shard=shard.name) as store,
        progress_bar("matching", wanted.as_json) as progress,
    ):
        own = run(steps[0], photographs.select(shard.mine(photographs)), store, engine=engine)
        features = stored(steps[0], photographs, store)
        views = matches = run(steps[1], mine, store, features, engine=engine, progress=progress)
        for step in steps[2:]:
            views = run(step, matches, store, features, engine=engine)
    failed: dict[Any, str] = {**own.failed, **matches.failed, **views.failed}
    say_failures(failed)
    if matches.skipped:
        click.echo(
            f"tiepoints: {len(matches.skipped)} of {len(mine)} pairs wait for features of other shards: "
            "run `tiepoints extract` with --shard first, or this command again",
            err=True,
        )
    if wanted.as_json:
        errors = [{"item": name if isinstance(name, str) else list(name), "error": e} for name, e in failed.items()]
        about = {"store": str(folder), "images": len(own), "pairs": len(views), "waiting": len(matches.skipped)}
        print_json(about | {"computed": views.computed, "failed": errors})
    else:
        say(f"{counted(len(views), 'pair', 6)} of shard {shard.number} of {shard.parts} in {shown(folder)}")
    return not failed and not matches.skipped


def many_of(sources: Sequence[Path], out: Path | None) -> str:
    """In words what is more than two photographs, or a file for many; empty for two photographs, a pair."""
    kinds = [kind for kind in map(_kind, sources) if kind]
    if kinds:
        return kinds[0]
    if len(sources) == 1:
        raise click.UsageError("Missing argument 'IMAGE_B': give two images, or a folder")
    if len(sources) > 2:
        return f"{len(sources)} images"
    return f"a file for many, {out}" if out is not None and out.suffix.lower() in _OUTPUTS else ""


def _kind(source: Path) -> str:
    """What a source is, other than one photograph: a folder, a list, a video or a pattern."""
    from ..images import VIDEOS

    suffix = source.suffix.lower()
    kind = (
        "folder" if source.is_dir()
        else "list" if suffix == ".txt"
        else "video" if suffix in VIDEOS
        else "pattern" if not source.exists() and glob.has_magic(str(source))
        else ""
    )  # fmt: skip
    return f"the {kind} {source}" if kind else ""


def _before_extraction(wanted: Any, photographs: Collection) -> list[tuple[str, str]]:
    """The pairs that each shard can tell by itself."""
    from ..tasks import choose_pairs
    from ..tasks.verified import kind_of_pairs

    if not isinstance(wanted, str):
        return list(wanted)
    kind, many = kind_of_pairs(wanted)
    if kind in ("auto", "retrieval"):
        raise click.UsageError(
            f"--pairs {wanted} needs the features of all shards: `tiepoints pairs --kind retrieval --out FILE` writes "
            "a list, which --pairs FILE takes"
        )
    positions = placed_of(photographs, "sequence") if kind == "spatial" else None
    return choose_pairs(kind, photographs, positions=positions, top=many or 20, window=many or 10)


def _outputs(out: Path) -> list[Path]:
    """Matches mean nothing without the keypoints that they refer to: an HDF5 file of matches has one of features."""
    return [out] if out.suffix.lower() == ".db" else [out, out.with_name(f"{out.stem}-features{out.suffix}")]


def _check_replaced(outputs: Sequence[Path], note: dict[str, str], photographs: list[str], overwrite: bool) -> None:
    """Refuse to replace a file of another kind, and unless that is asked for, what another command made."""
    from ..errors import StorageError
    from ..files import read_bytes
    from ..tasks.earlier import check_earlier

    for path in outputs:
        kind, begins = ("database", b"SQLite") if path.suffix.lower() == ".db" else ("HDF5 file", b"\x89HDF")
        if path.is_file() and path.stat().st_size:
            if read_bytes(path, len(begins)) != begins:
                raise StorageError(f"{path}: is there, but is no {kind}: write to another file")
            if not overwrite:
                check_earlier(path, _earlier(path, features=path != outputs[0]), note, photographs)


def _earlier(path: Path, features: bool) -> Earlier:
    """What a file of ours was made with, and the images in it."""
    from ..errors import StorageError
    from ..storage import FeatureReader, MatchReader
    from ..storage.notes import read_note
    from ..tasks.earlier import Earlier

    if path.suffix.lower() == ".db":
        return Earlier(*read_note(path))
    with suppress(StorageError, ValueError, AttributeError), (FeatureReader if features else MatchReader)(path) as held:
        note = json.loads(held.attribute(_NOTE) or "{}")
        return Earlier(dict(note), held.names() if isinstance(held, FeatureReader) and note else [])
    return Earlier({}, [])


def _write(
    wanted: Wanted, note: dict[str, str], photographs: Collection, features: Results, views: ConsistentViews
) -> dict[Any, str]:
    from ..collection import export_colmap, export_features, export_matches

    if wanted.out.suffix.lower() == ".db":
        export_colmap(
            wanted.out, photographs, features, views, camera_mode=wanted.camera_mode, focal=wanted.focal, note=note
        )
        return {}
    if not wanted.stored_pixels:
        say_turned(photographs, features)
    matches, keypoints = _outputs(wanted.out)
    stored_in = photographs if wanted.stored_pixels else None
    made_with = {_NOTE: json.dumps(note)}
    failed: dict[Any, str] = {
        **export_features(keypoints, features, made_with=repr(features.step), stored_in=stored_in, attributes=made_with)
    }
    return failed | export_matches(matches, views, features, attributes=made_with)


def _pair(one: dict[str, Any]) -> str:
    return " - ".join(shown(name) for name in one["pair"])


def _print(content: dict[str, Any]) -> None:
    from ..tasks.reasons import OUTCOMES, outcome_lines

    known = content["images"] - content["computed"]["features"]
    say(f"{counted(content['images'], 'image', 6)}, {known} of them extracted before")
    known = content["pairs"] - content["computed"]["geometry"]
    say(f"{counted(content['pairs'], 'pair', 6)} matched, {known} of them before")
    say(f"{counted(content['verified'], 'pair', 6)} verified, {counted(content['inliers'], 'inlier')}")
    for count, what in outcome_lines(content["pairs_by_outcome"]):
        say(f"{count:6d} {what}")
    for one in content["pairs_with_overlays"][:_NAMED]:
        matches = counted(one["matches"], "match")
        say(f"       {_pair(one)}: {matches} on an overlay that does not move left out", err=True)
    kinds: dict[str, list[str]] = {}
    for one in content["failed_pairs"]:
        kinds.setdefault(one["outcome"], []).append(_pair(one))
    for outcome, pairs in kinds.items():
        rest = content["pairs_by_outcome"][outcome] - len(pairs[:_FEW])
        more = f" and {rest} more (--json lists them)" if rest else ""
        say(f"       {OUTCOMES[outcome]}: {', '.join(pairs[:_FEW])}{more}", err=True)
    if content["failed"]:
        say(f"images or pairs that failed and are left out: {len(content['failed'])}", err=True)
    if not content["verified"]:
        say("       NOT VERIFIED: no pair has more inliers than chance would give", err=True)
    alone = content["without_verified_pair"]
    if alone and content["verified"]:
        more = f" and {len(alone) - _NAMED} more" if len(alone) > _NAMED else ""
        names = ", ".join(map(shown, alone[:_NAMED]))
        say(f"{counted(len(alone), 'image', 6)} without a verified pair: {names}{more}", err=True)
    if content["hint"]:
        say(f"       {shown(content['hint'])}", err=True)
    for path in content["out"]:
        say(f"wrote {shown(path)}")
    say(f"finished work is kept in {shown(content['store'])} (may be deleted), {content['seconds']:.1f} s")
