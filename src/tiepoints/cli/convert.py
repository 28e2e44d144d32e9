"""`tiepoints convert`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import counted
from .batch import found, shown
from .earlier import overwrite_option
from .options import examples, json_option, print_json, quiet_option, say

if TYPE_CHECKING:
    from ..storage import Exchange

_KINDS = ("hloc", "colmap", "opensfm", "meshroom", "model", "model-text")
# What each format writes, as a pattern below the folder OUT, or as a file's name by that of the file OUT.
_WRITES = {
    "hloc": ("{name}", "{stem}-features{suffix}"),
    "colmap": ("{name}",),
    "opensfm": ("features", "matches"),
    "meshroom": ("*.feat", "*.matches.txt"),
    "model": ("cameras.*",),
    "model-text": ("cameras.*",),
}
_BY_SUFFIX = {".db": "colmap", ".h5": "hloc", ".hdf5": "hloc"}


@click.command(
    "convert",
    epilog=examples(
        "tiepoints convert feats.h5 matches.h5 database.db --images photos/",
        "tiepoints convert database.db dataset/ --format opensfm",
        "tiepoints convert sparse/0 sparse-text/ --format model-text",
    ),
)
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--format", "kind", type=click.Choice(_KINDS), help="The format of OUT.  [default: colmap for .db, hloc for .h5]"
)
@click.option(
    "--images", type=click.Path(path_type=Path), help="Folder of the photographs, for cameras and sizes that lack."
)
@overwrite_option("OUT")
@quiet_option
@json_option
def command(
    sources: tuple[Path, ...], out: Path, kind: str | None, images: Path | None, overwrite: bool, as_json: bool
) -> None:
    """Convert features and matches, or a COLMAP model, for another program.

    SOURCES are hloc's HDF5 files (features, and matches), a COLMAP database (its verified matches), a COLMAP model, an
    OpenSfM dataset, or a folder of Meshroom's. OUT is a database (.db), hloc's matches (.h5; the features go to
    OUT-features.h5), or a folder for --format opensfm and meshroom. A model as the only source is also written as a
    model: --format model (binary) and model-text.
    """
    from ..storage import read_exchange, write_exchange
    from ..storage.colmap_model import is_model, load_model, save_model
    from ..tasks.earlier import refused

    content: dict[str, Any]
    kind = kind or _BY_SUFFIX.get(out.suffix.lower())
    if kind is None:
        raise click.UsageError(f"{out}: say what it is to be: --format {', '.join(_KINDS)}")
    taken = next((path for pattern in _WRITES[kind] for path in _there(out, pattern)), None)
    if taken is not None and not overwrite:
        raise refused(taken, "is there")
    if kind.startswith("model"):
        if len(sources) != 1 or not is_model(sources[0]):
            raise click.UsageError(
                f"--format {kind} takes the folder of one COLMAP model; `tiepoints reconstruct` makes one"
            )
        save_model(out, load_model(sources[0]), text=kind == "model-text")
        written, content = [out], {"out": [str(out)], "format": kind}
    else:
        exchange = read_exchange(sources)
        if images is not None:
            exchange = _with_images(exchange, images, as_json)
        elif exchange.upright and kind != "hloc":
            say("features of tiepoints are of upright photographs: give --images if EXIF rotates some", err=True)
        written = write_exchange(out, exchange, kind)
        content = {"out": [str(path) for path in written], "format": kind}
        content |= {"images": len(exchange.features), "pairs": len(exchange.matches), "failed": exchange.failed}
        if not as_json:
            say(f"{counted(len(exchange.features), 'image', 6)}, {counted(len(exchange.matches), 'pair')}")
    if as_json:
        print_json(content)
    else:
        for path in written:
            say(f"wrote {shown(path)}")
    if content.get("failed"):  # a warning has named them
        raise SystemExit(1)


def _there(out: Path, pattern: str) -> Iterator[Path]:
    """What is there and would be replaced, or mixed with: files that are not empty, and folders."""
    if out.is_dir():
        yield from out.glob(pattern)
    else:
        beside = out.with_name(pattern.format(stem=out.stem, suffix=out.suffix, name=out.name))
        yield from (path for path in [beside] if path.is_file() and path.stat().st_size)


def _with_images(exchange: Exchange, folder: Path, quiet: bool) -> Exchange:
    """With the sizes and cameras of the photographs where the source has none, all of the stored pixels."""
    from ..camera import Camera
    from ..collection.orientation import stored_features

    photographs = found([folder], None, 1, quiet)
    features, cameras = dict(exchange.features), dict(exchange.cameras)
    for name, one in exchange.features.items():
        if name not in photographs:
            continue
        header = photographs[name].header
        size = header.size if header.orientation < 5 else header.size[::-1]
        if exchange.upright:
            features[name] = stored_features(one, header.orientation)
        elif not all(one.image_size):
            features[name] = replace(one, image_size=size)
        if name not in cameras:
            cameras[name] = Camera.from_exif(photographs[name].path, upright=False)
    return replace(exchange, features=features, cameras=cameras, upright=False)
