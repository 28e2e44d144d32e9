"""`tiepoints join`."""

from __future__ import annotations

from pathlib import Path

import click

from .options import examples, json_option, output_option, print_json, quiet_option, say


@click.command(
    "join",
    epilog=examples(
        "tiepoints join machine-1.work machine-2.work --out features.h5.work",
        "tiepoints extract photos/ --out features.h5",
    ),
)
@click.argument("stores", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_option("--out", required=True, what="Folder to copy the results to.")
@json_option
@quiet_option
def command(stores: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Copy the finished work of STORES, with all of their shards, into one folder.

    STORES are the work folders of `tiepoints extract` and `match FOLDER` on several machines. Where the machines share
    one folder nothing is to be joined: the command without --shard reads all shards. Results that --out holds already
    are kept, damaged ones are left out, and STORES stay as they are.
    """
    from ..collection import Store, join
    from ..files import write_lock

    with write_lock(out), Store(out) as store:
        copied = join(store, stores)
    if as_json:
        print_json({"out": str(out), "results": copied})
        return
    for stage, number in copied.items():
        say(f"{number:6d} results of {stage}")
    say(f"wrote {out}")
