"""`tiepoints weights`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from .lazy import NamingGroup
from .options import examples, json_option, print_json, print_rows

if TYPE_CHECKING:
    from ..extraction import Metadata
    from ..matching.lightglue import LightGlueModel


class WeightsName(click.ParamType):  # type: ignore[type-arg]
    """The name of an extractor or of a matcher's model that has weights."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        return [click.shell_completion.CompletionItem(m.name) for m in _with_weights() if m.name.startswith(incomplete)]


@click.group(
    "weights",
    cls=NamingGroup,
    synonyms={"get": "fetch", "download": "fetch", "pull": "fetch", "show": "list", "path": "where"},
    epilog=examples(
        "tiepoints weights list",
        "tiepoints weights fetch aliked-n16",
        "tiepoints weights fetch superpoint --accept-licence",
    ),
)
def command() -> None:
    """List, fetch and find the weights of published methods.

    A file is looked for in the folder that TIEPOINTS_WEIGHTS names, then in the user's cache, then it is fetched from
    where its authors publish it. Its SHA-256 is compared with the known one.
    """


@command.command("list", epilog=examples("tiepoints weights list"))
@json_option
def list_(as_json: bool) -> None:
    """List the files, their licences, and whether they are on this machine."""
    from ..errors import WeightsError
    from ..weights import accepted, find

    rows: list[dict[str, Any]] = []
    for metadata in _with_weights():
        for file in metadata.weights:
            try:
                path = find(file)
                where = str(path) if path else "not here"
            except WeightsError as error:
                where = str(error)
            allowed = metadata.commercial or accepted(metadata.weights_licence)
            rows.append(
                {
                    "name": metadata.name,
                    "file": file.name,
                    "licence": metadata.weights_licence,
                    "licence_url": metadata.licence_url,
                    "commercial": metadata.commercial,
                    "accepted": allowed,
                    "where": where,
                    "url": file.url,
                    "sha256": file.sha256,
                }
            )
    if as_json:
        print_json(rows)
        return
    uses = []
    for row in rows:
        use = "yes" if row["commercial"] else "NO" if row["accepted"] else "NO; not accepted yet"
        uses.append(f"{use}: {row['licence_url']}" if row["licence_url"] else use)
    print_rows(
        ("name", "file", "licence", "commercial use", "where"),
        [(row["name"], row["file"], row["licence"], use, row["where"]) for row, use in zip(rows, uses, strict=True)],
    )


@command.command(
    "fetch",
    epilog=examples("tiepoints weights fetch aliked-n16", "tiepoints weights fetch superpoint --accept-licence"),
)
@click.argument("names", nargs=-1, required=True, type=WeightsName())
@click.option("--accept-licence", is_flag=True, help="Accept a licence without commercial use; it is remembered.")
@json_option
def fetch(names: tuple[str, ...], accept_licence: bool, as_json: bool) -> None:
    """Fetch the weights of the extractors or matchers NAMES, unless they are on this machine, and check them.

    Of several names, those that fail are named at the end, the others are fetched, and the exit code is 1.
    """
    from ..errors import TiepointsError

    done: list[dict[str, str]] = []
    failed: dict[str, str] = {}
    for name in dict.fromkeys(names):
        try:
            metadata = _of(name)
            _consent(metadata, accept_licence)
            _fetch(metadata, as_json, done)
        except (TiepointsError, click.UsageError) as error:  # noqa: PERF203 - one must not end the others
            if len(names) == 1:
                raise
            failed[name] = str(error)
    if as_json:
        print_json([*done, *({"name": name, "error": why} for name, why in failed.items())])
    for name, why in failed.items():
        click.echo(f"tiepoints: {name}: {why}", err=True)
    if failed:
        raise SystemExit(1)


def _consent(metadata: Metadata | LightGlueModel, accept_licence: bool) -> None:
    """Show a licence without commercial use that is not accepted yet, and accept it if that is wished."""
    from ..weights import accept, accepted

    licence = metadata.weights_licence
    if metadata.commercial or accepted(licence):
        return
    read = f", which can be read at {metadata.licence_url}" if metadata.licence_url else ""
    click.echo(f"{metadata.name}: {licence}{read}: no commercial use; {metadata.paper}", err=True)
    for file in metadata.weights:
        click.echo(f"its authors publish {file.name} at {file.url}", err=True)
    if not accept_licence:
        raise click.UsageError(f"read that licence, then add --accept-licence to fetch {metadata.name}")
    accept(licence)


def _fetch(metadata: Metadata | LightGlueModel, as_json: bool, done: list[dict[str, str]]) -> None:
    from ..weights import obtain
    from .bench.options import progress_bar

    kept = "what came is kept, run the same command again to go on"
    for file in metadata.weights:
        with progress_bar(as_json, kept, in_bytes=True) as progress:
            path = obtain(file, progress=partial(progress, file.name))
        done.append({"name": metadata.name, "path": str(path), "licence": metadata.weights_licence})
        if not as_json:
            click.echo(f"{metadata.name}: {path} ({metadata.weights_licence})")


@command.command("where", epilog=examples("tiepoints weights where", "tiepoints weights where aliked-n16"))
@click.argument("name", required=False, type=WeightsName())
@json_option
def where(name: str | None, as_json: bool) -> None:
    """Print where weights are looked for, in order; with NAME, where that extractor's lie (exit code 1: nowhere)."""
    from ..errors import WeightsError
    from ..weights import cache_folder, find, never_fetched, user_folder

    if name is None:
        own = user_folder()
        content = {"TIEPOINTS_WEIGHTS": None if own is None else str(own), "cache": str(cache_folder())}
        if as_json:
            print_json(content)
        else:
            click.echo(f"TIEPOINTS_WEIGHTS: {own or 'not set'}\ncache: {cache_folder()}")
        return
    metadata = _of(name)
    paths: dict[str, str | None] = {}
    lacking = []
    for file in metadata.weights:
        try:
            path = find(file)
            paths[file.name] = None if path is None else str(path)
            if path is None:
                fetch = f"{file.name} is not on this machine: tiepoints weights fetch {name}"
                lacking.append(never_fetched(file) or fetch)
        except WeightsError as error:  # noqa: PERF203 - another version of one file hides no other
            paths[file.name] = None
            lacking.append(str(error))
    if as_json:
        print_json(paths)
    else:
        for where in filter(None, paths.values()):
            click.echo(where)
    if metadata.licence_url and not as_json:  # not among the paths, which scripts read
        click.echo(f"{name}: {metadata.weights_licence}, which can be read at {metadata.licence_url}", err=True)
    for why in lacking:
        click.echo(f"tiepoints: {why}", err=True)
    if lacking:
        raise SystemExit(1)


def _with_weights() -> list[Metadata | LightGlueModel]:
    from ..extraction import extractors
    from ..matching.lightglue import MODELS

    return [*(metadata for metadata in extractors() if metadata.weights), *MODELS.values()]


def _of(name: str) -> Metadata | LightGlueModel:
    from ..errors import InvalidInputError
    from ..extraction import metadata_of
    from ..matching.lightglue import MODELS

    if name.lower() == "lightglue":
        raise InvalidInputError(
            f"lightglue has weights for several features: {', '.join(m.name for m in MODELS.values())}"
        )
    for model in MODELS.values():
        if model.name == name.lower():
            return model
    metadata = metadata_of(name)
    if not metadata.weights:
        raise InvalidInputError(f"{name} needs no weights from elsewhere")
    return metadata
