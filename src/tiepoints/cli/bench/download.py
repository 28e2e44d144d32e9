"""`tiepoints bench download`."""

from __future__ import annotations

from pathlib import Path

import click

from ..options import examples, json_option, print_json, quiet_option, say
from .options import progress_bar


@click.command("download", epilog=examples("tiepoints bench download hpatches --to data"))
@click.argument("name", type=click.Choice(["hpatches", "imb", "imb-test"]))
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    show_default=True,
    help="Folder for the data; made if missing.",
)
@click.option("--url", "urls", multiple=True, help="A mirror to use instead of the public address; repeatable.")
@click.option("--sha256", metavar="HEX", help="What the archive must have, if you know it from somewhere you trust.")
@click.option("--keep-archive", is_flag=True, help="Keep the archive beside what it held.")
@json_option
@quiet_option
def command(
    name: str, folder: Path, urls: tuple[str, ...], sha256: str | None, keep_archive: bool, as_json: bool
) -> None:
    """Fetch the data of a benchmark: hpatches, or the Image Matching Benchmark's validation (imb) or test scenes.

    An interrupted download goes on where it ended. The archive's SHA-256 is compared with --sha256, with what the host
    announces, or else with what this folder's checksums.json pinned at the first download: nobody publishes one.
    """
    from ...datasets.catalogue import CATALOGUE, download

    dataset = CATALOGUE[name]
    if not as_json:
        say(f"{dataset.title}\nterms: {dataset.terms}")
    kept = "what came is kept, run the same command again to go on"
    with progress_bar(as_json, kept, in_bytes=True) as progress:
        done = download(name, folder, urls=urls or None, sha256=sha256, keep_archive=keep_archive, progress=progress)
    if as_json:
        print_json(
            {
                "name": name,
                "entries": [str(path) for path in done.entries],
                "url": done.url,
                "sha256": done.sha256,
                "checked": done.checked,
                "already_there": done.already_there,
            }
        )
        return
    say(f"{'was there already' if done.already_there else 'fetched from ' + done.url}")
    say(f"SHA-256 {done.sha256} ({done.checked})")
    if done.checked == "pinned now":
        say("nothing was known to compare it with; later downloads into this folder are compared with this one")
    for path in done.entries:
        say(f"{path}" if done.already_there else f"wrote {path}")
    say(f"next: tiepoints bench {dataset.benchmark} --root {done.entries[0]}")
