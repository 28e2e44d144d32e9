"""Options and helpers that several commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .numbers import FloatRange, IntRange

if TYPE_CHECKING:
    from ..extraction import Extractor
    from ..matching import Matcher

DEFAULT_EXTRACTOR = "mdnet"


def examples(*commands: str) -> str:
    """Commands for the end of a help text, each on a line that can be copied."""
    return "\n".join(["\b", "Examples:" if len(commands) > 1 else "Example:", *(f"  {line}" for line in commands)])


class ExtractorName(click.ParamType):  # type: ignore[type-arg] # generic since click 8.5 only
    """A registered extractor's name; the registry checks it, and is imported for completion only."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        from ..extraction import extractors

        return [
            click.shell_completion.CompletionItem(metadata.name, help=metadata.summary)
            for metadata in extractors()
            if metadata.name.startswith(incomplete)
        ]


class Setting(click.ParamType):  # type: ignore[type-arg]
    """KEY=VALUE, the value a Python literal or else a string."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        from ..checks import setting
        from ..errors import InvalidInputError

        try:
            return setting(str(value))
        except InvalidInputError as error:
            self.fail(str(error), param, ctx)


max_size_option = click.option(
    "--max-size", type=IntRange(min=1), help="Shrink images to this long edge in pixels first."
)


def max_keypoints_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """-n and --max-keypoints; `what` is their help."""
    return click.option("-n", "--max-keypoints", type=IntRange(min=1), default=2048, show_default=True, help=what)


def _keep_rotation(context: click.Context, option: click.Parameter, value: str | None) -> None:
    context.find_root().meta["tiepoints.rotation"] = value


def rotation() -> str | None:
    """What --rotation was given."""
    value: str | None = click.get_current_context().find_root().meta.get("tiepoints.rotation")
    return value


rotation_option = click.option(
    "--rotation",
    type=click.Choice(("any", "upright")),
    expose_value=False,
    callback=_keep_rotation,
    help="any: photographs may be rotated to each other, as a drone's, scans, and those of a phone on its side. mdnet, "
    "rootsift, sift, orb and akaze match them by default; with other methods `match` of two images tries IMAGE_B in "
    "four rotations. upright: mdnet compares photographs as they are, too.",
)


def extractor_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose and set up an extractor: name, count, size, and those of the method itself."""
    for option in (
        click.option(
            "-O",
            "--option",
            "settings",
            type=Setting(),
            multiple=True,
            help="An option of the method itself, for instance contrast_threshold=0.01; repeatable. "
            "`tiepoints extractors NAME` lists them.",
        ),
        rotation_option,
        max_size_option,
        max_keypoints_option("Max. number of keypoints, the best by score."),
        click.option(
            "-e",
            "--extractor",
            "name",
            type=ExtractorName(),
            default=DEFAULT_EXTRACTOR,
            show_default=True,
            help="What finds the keypoints; `tiepoints extractors` lists them.",
        ),
    ):
        function = option(function)
    return function


def make_extractor(
    name: str,
    max_keypoints: int,
    max_size: int | None,
    settings: tuple[tuple[str, Any], ...],
    *,
    rotated: bool = True,
) -> Extractor:
    """The extractor that the shared options ask for; an option that the method lacks is wrong usage.

    `rotated` says whether --rotation is this function's matter.
    """
    from ..extraction import load

    if "," in name:
        raise click.UsageError(f"-e takes one extractor; `tiepoints compare ... --methods {name}` shows several")
    try:
        extractor = load(name, **{"max_keypoints": max_keypoints, "max_size": max_size, **dict(settings)})
    except TypeError as error:
        raise click.UsageError(f"{name}: {error}") from None
    if not rotated or rotation() is None:
        return extractor
    if rotation() == "upright":
        return extractor.upright_only()
    able = extractor.in_any_rotation()
    if able is None:
        raise click.UsageError(
            f"--rotation any: {extractor.metadata.name} tells up from down; take -e mdnet or -e rootsift"
        )
    return able


class MatcherName(click.ParamType):  # type: ignore[type-arg]
    """A registered matcher's name; the registry checks it."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        from ..matching import matchers

        return [click.shell_completion.CompletionItem(name) for name in matchers() if name.startswith(incomplete)]


def matcher_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose and set up a matcher: `matcher`, `ratio`, `min_similarity`, for `make_matcher`."""
    for option in (
        click.option(
            "--min-similarity",
            type=FloatRange(-1, 1),
            help="Keep matches of at least this similarity, or score of a learned matcher.",
        ),
        click.option(
            "--ratio",
            type=FloatRange(0, 1, min_open=True),
            help="Ratio test: keep matches whose distance is at most this times that of the second nearest; 0.8 to 0.9 "
            "is usual for SIFT.",
        ),
        click.option(
            "--matcher",
            type=MatcherName(),
            default="nearest",
            show_default=True,
            help="What matches the features; nearest: mutual nearest neighbours; lightglue: learned, for ALIKED, DISK, "
            "SuperPoint and MD-Net.",
        ),
    ):
        function = option(function)
    return function


def make_matcher(name: str, ratio: float | None, min_similarity: float | None) -> Matcher:
    """The matcher that the shared options ask for."""
    from ..matching import load_matcher

    given = {"ratio": ratio, "min_similarity": min_similarity}
    return load_matcher(name, **{option: value for option, value in given.items() if value is not None})


def output_option(*names: str, what: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option that names a file to be written; `files.replacing` writes all of them, and makes their folders."""
    settings = {"type": click.Path(path_type=Path), "callback": _check_no_photograph, **settings}
    return click.option(*names, help=f"{what} Its folder is made if missing.", **settings)


def _check_no_photograph(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """Refuse to write what is no picture over one, whether it is among what is read or not."""
    for path in value if option.multiple else (value,):
        if path is not None and path.is_file():
            from ..images import SUFFIXES

            if path.suffix.lower() in SUFFIXES:
                raise click.BadParameter(f"{path} is a photograph; write to another file", param_hint=option.opts[0])
    return value


def picture_option(what: str, name: str = "--plot") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option that names a picture to be written."""
    return output_option(name, what=what, callback=_check_picture)


def _check_picture(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a picture's name before the work is done, not after it."""
    if path is not None and path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"):
        raise click.BadParameter(f"{path} must end in .png, .jpg, .webp or .tif", param_hint=option.opts[0])
    return path


def check_not_an_input(outputs: Iterable[Path | None], inputs: Iterable[Path]) -> None:
    """Refuse to write over a photograph that is being read."""
    from ..files import real  # a path's own `resolve` fails on a link to itself

    photographs = {real(path) for path in inputs}
    for path in outputs:
        if path is not None and real(path) in photographs:
            raise click.UsageError(f"{path} is one of the images; write to another file")


def _set_quiet(context: click.Context, option: click.Parameter, value: bool) -> None:
    context.find_root().meta["tiepoints.quiet"] = value


quiet_option = click.option(
    "-q", "--quiet", is_flag=True, expose_value=False, callback=_set_quiet, help="Print nothing but errors."
)


def is_quiet() -> bool:
    """Whether the command was given --quiet."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.find_root().meta.get("tiepoints.quiet"))


def say(text: str, *, err: bool = False) -> None:
    """A line for people; nothing with --quiet."""
    if not is_quiet():
        click.echo(text, err=err)


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON for machines instead of text; docs/json.md explains its fields."
)


def print_rows(
    header: Sequence[str], rows: Iterable[Sequence[str]], marked: Callable[[int, int], bool] = lambda row, column: False
) -> None:
    """A table on a terminal, with cells in bold; a line for each row, tabs between its columns, in a pipe or a file,
    and on a terminal that is too narrow.
    """
    rows = [list(row) for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(*header, box=None, pad_edge=False)
        for i, row in enumerate(rows):
            cells = (f"[bold]{escape(cell)}[/bold]" if marked(i, j) else escape(cell) for j, cell in enumerate(row))
            table.add_row(*cells)
        if Console(width=10_000).measure(table).minimum <= Console().width:
            Console().print(table)
            return
    for row in (list(header), *rows):
        click.echo("\t".join(" ".join(cell.split()) for cell in row))


def print_json(content: Mapping[str, Any] | list[Any]) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(content, indent=2))
