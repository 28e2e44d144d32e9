"""Several stores into one: for machines that share no folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .. import checks
from ..errors import StorageError
from ..files import PathLike
from .store import Store

__all__ = ["join"]


def join(store: Store, others: Iterable[PathLike]) -> dict[str, int]:
    """Copy the results of other stores, of all their shards, into this one's shard.

    What the store holds already stays; damaged results are left out; the others are only read.

    Parameters
    ----------
    store : Store
    others : iterable of path
        Folders of stores.

    Returns
    -------
    copied : dict
        How many results of each step were copied.

    Raises
    ------
    StorageError
        If a folder is no store, or the store cannot be written.

    Examples
    --------
    >>> from tiepoints.collection import Collection, Extract, Store, join, run
    >>> step, photos = Extract("orb", max_keypoints=100), Collection.from_folder("examples")
    >>> with Store("there.work") as there:
    ...     _ = run(step, photos, there)
    >>> with Store("here.work") as here:
    ...     _ = join(here, ["there.work"])
    ...     print(run(step, photos, here))
    Results(extract-orb of 4 items, 0 computed now)
    """
    checks.instance(store, "store", Store)
    checks.iterable(others, "others", "folders")
    copied: dict[str, int] = {}
    folders = [Path(other) for other in others]
    for folder in folders:
        if not any(folder.glob("*.sqlite")):
            raise StorageError(f"{folder}: holds no results: give the folder of --store, or --out with .work added")
    for folder in folders:
        for path in sorted(folder.glob("*.sqlite")):
            stage = path.name.split(".")[0]
            if stage != "files":
                copied[stage] = copied.get(stage, 0) + store.copy(path)
    return copied
