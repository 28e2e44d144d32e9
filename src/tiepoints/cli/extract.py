"""`tiepoints extract`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import counted
from .batch import (
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
from .options import (
    check_not_an_input,
    examples,
    extractor_options,
    json_option,
    make_extractor,
    output_option,
    picture_option,
    print_json,
    quiet_option,
    say,
)
from .shards import Shard, shard_option

if TYPE_CHECKING:
    from ..collection import Collection, Engine, Extract
    from ..features import Features


@click.command(
    "extract",
    epilog=examples(
        "tiepoints extract photo.jpg --plot keypoints.png",
        "tiepoints extract photos/ --max-size 1600 --out features.h5",
        "tiepoints extract clip.mp4 --every 10 --out features.h5",
    ),
)
@click.argument("images", nargs=-1, required=True, type=click.Path())
@extractor_options
@output_option("--out", what="Write the features: .h5 for any number of images (HDF5 as hloc reads it), .npz for one.")
@click.option("--overwrite", is_flag=True, help="Replace --out instead of adding the images that it does not hold yet.")
@picture_option("Write a picture of the keypoints; for one image.")
@photographs_options
@store_option("--out with .work added")
@shard_option
@json_option
@quiet_option
def command(
    images: tuple[str, ...],
    name: str,
    max_keypoints: int,
    max_size: int | None,
    settings: tuple[tuple[str, Any], ...],
    out: Path | None,
    overwrite: bool,
    plot: Path | None,
    mask: Path | None,
    every: int,
    jobs: int | None,
    engine: str,
    address: str | None,
    store: Path | None,
    shard: Shard | None,
    as_json: bool,
) -> None:
    """Extract the features of IMAGES: files, folders with all below them, quoted patterns such as "a/*.jpg", lists
    (.txt, a path on each line), or videos.

    In the .h5 file an image is called by its path below the folder that was given; of several folders or files, below
    the one that all of them share. The file knows what each image's features were made from and with: the same command
    goes on with interrupted work, does changed images anew, and never mixes other options or weights in. Images that
    cannot be read are named and left out, and the exit code is then 1.
    """
    if out is not None and out.suffix.lower() not in (".h5", ".hdf5", ".npz"):
        raise click.BadParameter(f"{out} must end in .h5 or .npz", param_hint="--out")
    photographs = found(images, mask, every, as_json)
    check_not_an_input((plot, out), (one.path for one in photographs.values()))
    count = len(photographs) + len(photographs.failed)
    if count > 1 and (plot is not None or (out is not None and out.suffix.lower() == ".npz")):
        raise click.UsageError(f"--plot and --out FILE.npz take one image, but these are {count}; use --out FILE.h5")
    if count > 1 and out is None:
        raise click.UsageError(f"{count} images need --out FILE.h5")
    from ..collection import Extract

    step = Extract(make_extractor(name, max_keypoints, max_size, settings))
    say_memory(step.extractor, sizes_of(photographs))
    started = time.perf_counter()
    if shard is not None:
        if out is None or out.suffix.lower() == ".npz":
            raise click.UsageError("--shard needs --out FILE.h5")
        part = photographs.select(shard.mine(photographs))
        where = engine_of(jobs, engine, address)
        _shard(part, step, work_folder(out, store), shard, where, as_json, photographs.failed)
        return
    if out is None or out.suffix.lower() == ".npz":
        done = _one(photographs, step, out)
    else:
        where = engine_of(jobs, engine, address)
        done = _many(photographs, step, out, work_folder(out, store), store is None, overwrite, where, as_json)
    if not done.images:
        from ..errors import ImageError

        raise ImageError(none_read(done.failed))
    if plot is not None:
        from ..plot import plot_keypoints, save_image

        ((image, features),) = done.features.items()
        save_image(plot, plot_keypoints(photographs[image].read(), features))
    _tell(photographs, done, step.extractor.metadata.name, out, plot, time.perf_counter() - started, as_json)
    if done.failed:
        raise SystemExit(1)


class _Done(NamedTuple):
    """What became of the images, by their names."""

    images: list[str]
    """All that have features now."""
    new: dict[str, dict[str, int]]
    """Sizes and counts of those that were extracted now."""
    failed: dict[Any, str]
    features: Mapping[Any, Features]
    """Where there is one image."""
    computed: int
    """How many were extracted by this call; the others of the new ones were finished before an interruption."""


def _about(results: Mapping[Any, Features], without: Mapping[Any, str]) -> dict[str, dict[str, int]]:
    """Size and count of each, read one by one."""
    about: dict[str, dict[str, int]] = {}
    for name in results:
        if name not in without:
            features = results[name]
            width, height = features.image_size
            about[name] = {"width": width, "height": height, "keypoints": len(features)}
    return about


def _one(photographs: Collection, step: Extract, out: Path | None) -> _Done:
    """One image without a store."""
    from ..collection import run

    with explained_interrupt(None):
        results = run(step, photographs)
    if out is not None and len(results):
        from ..storage import save_features

        save_features(out, next(iter(results.values())))
    new = _about(results, {})
    return _Done(list(new), new, results.failed, results, results.computed)


def _many(
    photographs: Collection,
    step: Extract,
    out: Path,
    folder: Path,
    remove: bool,
    overwrite: bool,
    engine: Engine,
    quiet: bool,
) -> _Done:
    """What the file lacks, through a store that outlives an interruption; then the file is put together."""
    from ..collection import Store, export_features, run
    from ..collection.steps import key_of
    from ..files import write_lock

    held = _held(out, step) if out.exists() and not overwrite else {}
    failed: dict[Any, str] = dict(photographs.failed)
    there, lacking = [], []
    for one, error in photographs.keyed():
        if error is not None:
            failed[one.name] = error
        elif held.get(one.name) == key_of(step.fingerprint, one.key):
            there.append(one.name)
        else:
            lacking.append(one.name)
            if one.name in held:
                click.echo(
                    f"tiepoints: {shown(one.name)} is another photograph than the one of that name in {shown(out)}, "
                    "or was changed: it is done anew and takes its place",
                    err=True,
                )
    if not lacking:
        return _Done(there, {}, failed, _read(out, there) if len(photographs) == 1 else {}, 0)
    with explained_interrupt(folder), write_lock(folder), Store(folder) as store:
        with progress_bar("extracting", quiet) as progress:
            results = run(step, photographs.select(lacking), store, engine=engine, progress=progress)
        failed |= results.failed
        say_turned(photographs, results)
        if len(results):
            failed |= export_features(
                out, results, made_with=repr(step.extractor), overwrite=not held,
                attributes={"fingerprint": step.fingerprint},
            )  # fmt: skip
        new = _about(results, failed)
        features = {name: results[name] for name in new} if len(photographs) == 1 else {}
    if remove:
        shutil.rmtree(folder, ignore_errors=True)
    return _Done([*there, *new], new, failed, features, results.computed)


def _shard(
    part: Collection,
    step: Extract,
    folder: Path,
    shard: Shard,
    engine: Engine,
    as_json: bool,
    failed: Mapping[Any, str],
) -> None:
    """One part of the images, into the store alone."""
    from ..collection import Store, run
    from ..files import write_lock

    with (
        explained_interrupt(folder),
        write_lock(folder / shard.name),
        Store(folder, shard=shard.name) as store,
        progress_bar("extracting", as_json) as progress,
    ):
        results = run(step, part, store, engine=engine, progress=progress)
    lost = {**failed, **results.failed}
    say_failures(lost)
    if as_json:
        errors = [{"path": str(name), "error": error} for name, error in lost.items()]
        print_json({"store": str(folder), "images": len(results), "computed": results.computed, "failed": errors})
    else:
        say(f"{counted(len(results), 'image', 6)} of shard {shard.number} of {shard.parts} in {shown(folder)}")
    if lost:
        raise SystemExit(1)


def _read(out: Path, names: list[str]) -> dict[Any, Features]:
    from ..storage import FeatureReader

    with FeatureReader(out) as reader:
        return {name: reader[name] for name in names}


def _held(out: Path, step: Extract) -> dict[str, str]:
    """What the file holds, by the keys of what it was made from; refused if it was made with something else."""
    from ..storage import FeatureReader
    from ..storage.hdf5 import differences
    from ..tasks.earlier import refused

    with FeatureReader(out) as old:
        if old.attribute("fingerprint") != step.fingerprint:
            before, now = old.made_with, repr(step.extractor)
            was = "something else" if not before else ", not ".join(differences(before, now))
            if before == now:
                was = "other weights or versions of its packages"
            raise refused(out, f"was made with {was}")
        return old.made_from()


def _tell(
    photographs: Collection,
    done: _Done,
    name: str,
    out: Path | None,
    plot: Path | None,
    seconds: float,
    as_json: bool,
) -> None:
    paths = {image: str(photographs[image].path) for image in done.images}
    say_failures(done.failed)
    if as_json:
        images = [
            {"path": paths[image], "name": image, "skipped": image not in done.new} | done.new.get(image, {})
            for image in done.images
        ]
        lost = [
            {"path": str(photographs[image].path) if image in photographs else str(image), "error": error}
            for image, error in done.failed.items()
        ]
        written = {"out": None if out is None else str(out), "plot": None if plot is None else str(plot)}
        left_out = [str(path) for path in photographs.left_out]
        content = {
            "extractor": name,
            "images": images,
            "failed": lost,
            "left_out": left_out,
            "seconds": seconds,
            "computed": done.computed,
        }
        print_json(content | written)
        return
    if len(done.images) == 1 and done.new:
        ((image, about),) = done.new.items()
        say(
            f"{counted(about['keypoints'], f'{name} keypoint', 6)} in {shown(paths[image])} "
            f"({about['width']}x{about['height']}), {1000 * seconds:.0f} ms"
        )
    elif done.new:
        total = sum(about["keypoints"] for about in done.new.values())
        each = 1000 * seconds / len(done.new)
        say(f"{counted(total, f'{name} keypoint')} in {counted(len(done.new), 'image')}, {each:.0f} ms an image")
    if len(done.images) > len(done.new):
        there = len(done.images) - len(done.new)
        say(f"there already: {there} of {len(done.images)} (--overwrite starts anew)")
    if done.failed:
        every = len(done.images) + len(done.failed)
        say(f"images that failed and are left out: {len(done.failed)} of {every}", err=True)
    for path in (out, plot):
        if path is not None and done.new:
            say(f"wrote {shown(path)}")
