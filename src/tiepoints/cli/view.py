"""`tiepoints view`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from .numbers import IntRange
from .options import examples, say


@click.command(
    "view",
    epilog=examples("tiepoints view scene/ photos/", "tiepoints view colmap/sparse/0"),
)
@click.argument("scene", type=click.Path(path_type=Path))
@click.argument("photos", nargs=-1, type=click.Path())
@click.option("--port", type=IntRange(1, 65535), default=8080, show_default=True, help="Where the server listens.")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 lets other machines look.")
def command(scene: Path, photos: tuple[str, ...], port: int, host: str) -> None:
    """Show the reconstruction in the folder SCENE in the browser, with its PHOTOS in the cameras (extra viewer).

    SCENE is what `tiepoints reconstruct` made, or a COLMAP model. Ctrl-C ends it. `report.html` in the folder shows the
    same without a server.
    """
    from ..collection import Collection
    from ..tasks.viewer import show

    server = show(scene, Collection.from_sources(photos) if photos else None, host=host, port=port)
    say(f"open http://{host}:{server.get_port()} in a browser; Ctrl-C ends this")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        server.stop()
