"""What the commands that work on many images share: where work is kept, progress, interruptions, lists of failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .numbers import IntRange
from .options import is_quiet, say

if TYPE_CHECKING:
    from ..collection import Collection, Engine
    from ..extraction import Extractor

_SHOWN = 10  # failures, and files left out, that are listed; the rest is counted


def store_option(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--store, and the words that say where the folder is by default."""
    return click.option(
        "--store",
        type=click.Path(path_type=Path),
        help=f"Keep finished work in this folder, made if missing; commands may share it.  [default: {default}]",
    )


jobs_option = click.option(
    "--jobs",
    type=IntRange(min=1),
    help="Number of images or pairs processed in parallel.  [default: OMP_NUM_THREADS, or all cores]",
)
mask_option = click.option(
    "--mask",
    type=click.Path(path_type=Path),
    help="Folder of masks, each with its image's name, or that name with .png added; or one mask for all. Black hides.",
)


def _keep_range(context: click.Context, option: click.Parameter, value: tuple[float, float] | None) -> None:
    context.find_root().meta["tiepoints.value_range"] = value


value_range_option = click.option(
    "--value-range",
    type=(float, float),
    metavar="LOW HIGH",
    expose_value=False,
    callback=_keep_range,
    help="Of images of more than 8 bits: the values that become black and white in all of them, for instance of a "
    "thermal camera.  [default: from each image's own values]",
)
every_option = click.option(
    "--every", type=IntRange(min=1), default=1, show_default=True, help="Take every N-th frame of a video."
)


def engine_options(function: Callable[..., Any], *, default: str = "") -> Callable[..., Any]:
    """--jobs, --engine and --address: where the work is done; `engine_of` takes all three.

    `default` says in words what no --engine, None, means; otherwise it is threads.
    """
    for option in (
        click.option(
            "--address",
            metavar="HOST:PORT",
            help="Address of the Ray cluster's head.  [default: RAY_ADDRESS, or this machine]",
        ),
        click.option(
            "--engine",
            type=click.Choice(("threads", "processes", "ray")),
            default=None if default else "threads",
            show_default=default or True,
            help="How images and pairs are processed in parallel; ray: on a cluster (extra scale).",
        ),
        jobs_option,
    ):
        function = option(function)
    return function


def photographs_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How photographs are read, and where the work is done: --mask, --value-range, --every, and `engine_options`."""
    for option in (engine_options, every_option, value_range_option, mask_option):
        function = option(function)
    return function


def engine_of(jobs: int | None, engine: str = "threads", address: str | None = None) -> Engine:
    """What --jobs, --engine and --address ask for."""
    from ..collection import Processes, Ray, Threads

    if address is not None and engine != "ray":
        raise click.UsageError("--address takes --engine ray")
    if engine == "ray":
        if jobs is not None:
            raise click.UsageError("--jobs is of this machine; a Ray cluster uses all of its CPUs")
        return Ray(address)
    return Threads(jobs) if engine == "threads" else Processes(jobs)


def work_folder(out: Path, store: Path | None) -> Path:
    """Where finished work is kept: the folder that --store names, or one beside the output."""
    from ..files import work_beside

    return work_beside(out) if store is None else store


def value_range() -> tuple[float, float] | None:
    """What --value-range was given."""
    limits: tuple[float, float] | None = click.get_current_context().find_root().meta.get("tiepoints.value_range")
    return limits


def found(sources: Iterable[str | Path], mask: Path | None, every: int, quiet: bool) -> Collection:
    """The photographs of the command line's sources; files that are left out are named."""
    from ..collection import Collection

    photographs = Collection.from_sources(sources, masks=mask, every=every)
    if not photographs:
        from ..errors import ImageError

        raise ImageError(none_read(photographs.failed))
    if (limits := value_range()) is not None:
        photographs = photographs.with_value_range(*limits)
    if photographs.left_out and not quiet and not is_quiet():
        names = ", ".join(shown(path.name) for path in photographs.left_out[:_SHOWN])
        more = f" and {len(photographs.left_out) - _SHOWN} more" if len(photographs.left_out) > _SHOWN else ""
        click.echo(
            f"left out: {names}{more} (videos: name them to take their frames; raw files: develop them first)", err=True
        )
    return photographs


def check_two(names: Iterable[Any], failed: Mapping[Any, str], what: str) -> None:
    """Refuse a single photograph, where there is nothing to match it with; `failed` are those that cannot be read."""
    from ..errors import ImageError

    first, *others = names
    if not others:
        lost = (
            f"; {len(failed)} cannot be read, for instance {next(iter(failed.values()))}" if failed else ": give more"
        )
        raise ImageError(f"{first}: one photograph only, but {what} needs two{lost}")


def none_read(failed: Mapping[Any, str]) -> str:
    """What went wrong where it went wrong with every image."""
    only = next(iter(failed.values()), "there are none")
    return only if len(failed) == 1 else f"none of the {len(failed)} images could be read, for instance: {only}"


def say_memory(extractor: Extractor, sizes: Iterable[tuple[int, int]]) -> None:
    """One line, with what helps, where the largest of the photographs takes more memory than is meant to be taken."""
    from ..collection.engines import MEMORY
    from ..collection.stages import memory_of

    largest = max(sizes, key=lambda size: size[0] * size[1], default=(1, 1))
    if (taken := memory_of(extractor, largest)) > MEMORY:
        say(
            f"{extractor.metadata.name} takes about {taken / 1e9:.1f} GB of memory for {largest[0]}x{largest[1]} "
            "pixels; --max-size 1600 takes less, and less time",
            err=True,
        )


def sizes_of(photographs: Collection) -> Iterator[tuple[int, int]]:
    """Width and height of the first photographs, as far as their headers tell."""
    from ..errors import TiepointsError

    for one in islice(photographs.values(), _SHOWN):
        with suppress(TiepointsError):
            yield one.header.size


def say_turned(photographs: Collection, names: Iterable[Any]) -> None:
    """One line where hloc's files get keypoints of photographs that EXIF turns: other programs may not turn them."""
    names = list(names)
    turned = [name for name in names if photographs[name].frame is None and photographs[name].header.orientation != 1]
    if turned:
        say(
            f"{len(turned)} of {len(names)} photographs are turned by EXIF, for instance {shown(turned[0])}: keypoints "
            "are in pixels of the upright picture. hloc and COLMAP read the stored pixels: for them `tiepoints match` "
            "of a folder writes --out FILE.db, or FILE.h5 with --stored-pixels",
            err=True,
        )


def say_failures(failed: Mapping[Any, str]) -> None:
    """A line for each, up to a number that a terminal shows."""
    for message in list(failed.values())[:_SHOWN]:
        click.echo(f"tiepoints: {shown(message)}", err=True)
    if len(failed) > _SHOWN:
        click.echo(f"tiepoints: and {len(failed) - _SHOWN} more like these; --json lists all", err=True)


def shown(text: object) -> str:
    """A text that a terminal may get: names of files hold anything."""
    from ..errors import printable

    return printable(text)


@contextmanager
def explained_interrupt(kept: Path | None) -> Iterator[None]:
    """Ctrl-C ends with one line that says what became of the work."""
    from ..errors import TiepointsError

    try:
        yield
    except KeyboardInterrupt:
        what = "" if kept is None else f"; what is finished is kept in {kept}: run the same command again"
        raise TiepointsError(f"interrupted{what}") from None


@contextmanager
def progress_bar(what: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on the terminal, a line now and then where standard error is a file; nothing for machines."""
    from ..progress import progress_bar as shown_bar

    with nullcontext() if quiet or is_quiet() else shown_bar(what, lines=True) as progress:
        yield progress
