"""`tiepoints extract`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import (
    check_not_an_input,
    extractor_options,
    json_option,
    make_extractor,
    output_option,
    picture_option,
    print_json,
)

if TYPE_CHECKING:
    from ..features import Features


@click.command(
    "extract",
    epilog="Examples: tiepoints extract photo.jpg --plot keypoints.png; "
    "tiepoints extract photos/ --out features.h5 -e upright-sift",
)
@click.argument("images", nargs=-1, required=True, type=click.Path())
@extractor_options
@output_option("--out", what="Write the features: .h5 for any number of images (HDF5 as hloc reads it), .npz for one.")
@click.option("--overwrite", is_flag=True, help="Start anew instead of adding the images that --out does not hold yet.")
@picture_option("Write a picture of the keypoints; for one image.")
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Images worked on at once.  [default: OMP_NUM_THREADS, or all cores]"
)
@json_option
def command(
    images: tuple[str, ...],
    name: str,
    max_keypoints: int,
    max_size: int | None,
    settings: tuple[tuple[str, Any], ...],
    out: Path | None,
    overwrite: bool,
    plot: Path | None,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Extract the features of IMAGES: files, folders with all below them, or quoted patterns such as "a/*.jpg".

    In the .h5 file an image is called by its path below the folder that was given; of several folders or files, below
    the one that all of them share. What the file holds by that name already is skipped, so that the same command goes
    on with interrupted work. Images that cannot be read are named and left out, and the exit code is then 1.
    """
    from ..errors import ImageError
    from ..extraction import extract_images
    from ..images import find_images, read

    if out is not None and out.suffix not in (".h5", ".hdf5", ".npz"):
        raise click.BadParameter(f"{out} must end in .h5 or .npz", param_hint="--out")
    paths = find_images(images)
    check_not_an_input((plot, out), paths)
    if len(paths) > 1 and (plot is not None or (out is not None and out.suffix == ".npz")):
        raise click.UsageError(
            f"--plot and --out FILE.npz take one image, but these are {len(paths)}; use --out FILE.h5"
        )
    if len(paths) > 1 and out is None:
        raise click.UsageError(f"{len(paths)} images need --out FILE.h5")
    extractor = make_extractor(name, max_keypoints, max_size, settings)
    names = _names(paths, images)

    started = time.perf_counter()
    results: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    with (
        _explained_interrupt(lambda: f"{len(results)} images are kept, run it again" if out is not None else ""),
        _opened(out, repr(extractor), overwrite) as (known, write),
        _progress(len(paths), quiet=as_json) as advance,
    ):
        todo = []
        for path in paths:
            if names[path] in known:
                results.append({"path": str(path), "name": names[path], "skipped": True})
                advance()
            else:
                todo.append(path)
        stream = extract_images(extractor, todo, workers=1 if len(todo) == 1 else jobs)
        for path, (_, features, error, spent) in zip(todo, stream, strict=True):
            advance()
            if features is None:
                assert error is not None
                if len(paths) == 1:
                    raise error
                failures.append({"path": str(path), "error": str(error)})  # it must not cost the others
                click.echo(f"tiepoints: {error}", err=True)
                continue
            write(names[path], features)
            if plot is not None:
                from ..plot import plot_keypoints, save_image

                save_image(plot, plot_keypoints(read(path), features))
            width, height = features.image_size
            about = {"width": width, "height": height, "keypoints": len(features), "extract_ms": round(spent, 2)}
            results.append({"path": str(path), "name": names[path], "skipped": False} | about)
        if failures and not results:
            raise ImageError(f"none of the {len(failures)} images could be read")  # inside: leaves no empty file

    if as_json:
        content = {"extractor": name, "images": results, "failed": failures}
        print_json(content | {"out": None if out is None else str(out), "plot": None if plot is None else str(plot)})
    else:
        _print(results, failures, name, out, plot, time.perf_counter() - started)
    if failures:
        raise SystemExit(1)


def _names(paths: list[Path], sources: tuple[str, ...]) -> dict[Path, str]:
    """Each image's path, with slashes, below the one folder that was given, or the deepest one that all share."""
    whole = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 - links keep the names that the user gave
    if len(sources) == 1 and Path(sources[0]).is_dir():
        top = Path(os.path.abspath(sources[0]))  # noqa: PTH100
    else:
        top = Path(os.path.commonpath([path.parent for path in whole]))
    return {path: full.relative_to(top).as_posix() for path, full in zip(paths, whole, strict=True)}


@contextmanager
def _opened(out: Path | None, made_with: str, overwrite: bool) -> Iterator[tuple[Any, Callable[[str, Features], None]]]:
    """Where the features go: what is there already (by name), and what writes one more."""
    if out is None:
        yield (), lambda name, features: None
    elif out.suffix == ".npz":
        from ..storage import save_features

        yield (), lambda name, features: save_features(out, features)
    else:
        from ..storage import FeatureWriter

        with FeatureWriter(out, made_with=made_with, overwrite=overwrite) as writer:
            yield writer, writer.write


@contextmanager
def _explained_interrupt(what: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C ends with one line that says what became of the work."""
    from ..errors import TiepointsError

    try:
        yield
    except KeyboardInterrupt:
        raise TiepointsError(f"interrupted; {what()}".rstrip("; ")) from None


@contextmanager
def _progress(count: int, quiet: bool) -> Iterator[Callable[[], None]]:
    """A progress bar on the terminal; nothing for one image, for machines, or where standard error is a file."""
    import sys

    if quiet or count < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("extracting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=count)
        yield lambda: progress.advance(task)


def _print(
    results: list[dict[str, Any]],
    failures: list[dict[str, str]],
    name: str,
    out: Path | None,
    plot: Path | None,
    seconds: float,
) -> None:
    new = [result for result in results if not result["skipped"]]
    if len(results) == 1 and new:
        only = new[0]
        click.echo(
            f"{only['keypoints']:6d} {name} keypoints in {only['path']} ({only['width']}x{only['height']}), "
            f"{only['extract_ms']:.0f} ms"
        )
    elif new:
        total = sum(result["keypoints"] for result in new)
        click.echo(f"{total} {name} keypoints in {len(new)} images, {1000 * seconds / len(new):.0f} ms an image")
    if len(results) > len(new):
        click.echo(f"{len(results) - len(new)} of {len(results)} were there already (--overwrite starts anew)")
    if failures:
        click.echo(f"{len(failures)} of {len(results) + len(failures)} images could not be read", err=True)
    for path in (out, plot):
        if path is not None and new:
            click.echo(f"wrote {path}")
