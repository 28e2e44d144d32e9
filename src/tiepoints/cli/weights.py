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
    uses = ["yes" if row["commercial"] else "NO" if row["accepted"] else "NO; not accepted yet" for row in rows]
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
    """Fetch the weights of the extractors or matchers NAMES, unless they are on this machine, and check them."""
    from ..weights import accept, accepted, obtain
    from .bench.options import progress_bar

    chosen = [_of(name) for name in names]
    for metadata in chosen:
        if not metadata.commercial and not accepted(metadata.weights_licence):
            click.echo(f"{metadata.name}: {metadata.weights_licence}, no commercial use; {metadata.paper}", err=True)
            for file in metadata.weights:
                click.echo(f"its authors publish {file.name} at {file.url}", err=True)
            if not accept_licence:
                raise click.UsageError(f"read that licence, then add --accept-licence to fetch {metadata.name}")
            accept(metadata.weights_licence)
    done = []
    kept = "what came is kept, run the same command again to go on"
    for metadata in chosen:
        for file in metadata.weights:
            with progress_bar(as_json, kept, in_bytes=True) as progress:
                path = obtain(file, progress=partial(progress, file.name))
            done.append({"name": metadata.name, "path": str(path), "licence": metadata.weights_licence})
            if not as_json:
                click.echo(f"{metadata.name}: {path} ({metadata.weights_licence})")
    if as_json:
        print_json(done)


@command.command("where", epilog=examples("tiepoints weights where", "tiepoints weights where aliked-n16"))
@click.argument("name", required=False, type=WeightsName())
@json_option
def where(name: str | None, as_json: bool) -> None:
    """Print where weights are looked for, in order; with NAME, where that extractor's lie (exit code 1: nowhere)."""
    from ..errors import WeightsError
    from ..weights import cache_folder, find, user_folder

    if name is None:
        own = user_folder()
        content = {"TIEPOINTS_WEIGHTS": None if own is None else str(own), "cache": str(cache_folder())}
        if as_json:
            print_json(content)
        else:
            click.echo(f"TIEPOINTS_WEIGHTS: {own or 'not set'}\ncache: {cache_folder()}")
        return
    paths = {file.name: find(file) for file in _of(name).weights}
    if as_json:
        print_json({file: None if path is None else str(path) for file, path in paths.items()})
    for file, path in paths.items():
        if path is None:
            raise WeightsError(f"{file} is not on this machine: tiepoints weights fetch {name}")
        if not as_json:
            click.echo(path)


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
