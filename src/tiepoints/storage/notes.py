"""A note inside a COLMAP database of what it was made with, in a table that COLMAP does not look at."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import NamedTuple

from .. import checks
from ..errors import StorageError, one_line
from ..files import PathLike

__all__ = ["Noted", "read_note", "write_note"]


class Noted(NamedTuple):
    """What `read_note` finds in a database.

    Parameters
    ----------
    note : dict
        Texts by their names; empty if the database is not ours.
    images : list of str
        The names of its images.

    Examples
    --------
    >>> from tiepoints.storage.notes import Noted
    >>> Noted({}, ["a.jpg"]).images
    ['a.jpg']
    """

    note: dict[str, str]
    images: list[str]


def write_note(path: PathLike, note: Mapping[str, str]) -> None:
    """Keep texts in a SQLite database that no other program has open.

    Raises
    ------
    StorageError
        If it cannot be written.

    Examples
    --------
    >>> from tiepoints.storage.notes import read_note, write_note
    >>> write_note("noted.db", {"ratio": "0.9"})
    >>> read_note("noted.db").note
    {'ratio': '0.9'}
    """
    path = checks.path(path, "path")
    try:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS tiepoints_made_with (name TEXT PRIMARY KEY, value TEXT)")
            database.executemany("INSERT OR REPLACE INTO tiepoints_made_with VALUES (?, ?)", list(note.items()))
    except sqlite3.Error as error:
        raise StorageError(f"{path}: cannot be written ({one_line(error)})") from error


def read_note(path: PathLike) -> Noted:
    """What `write_note` kept in a database, and the names of its images. The file is left exactly as it is.

    A file that cannot be read as a database counts as one that is not ours.

    Examples
    --------
    >>> from tiepoints.storage.notes import read_note
    >>> read_note("examples/box.png")
    Noted(note={}, images=[])
    """
    path = checks.path(path, "path")
    where = f"{path.absolute().as_uri()}?mode=ro&immutable=1"  # opens no log and takes no lock
    try:
        with closing(sqlite3.connect(where, uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            ours = "tiepoints_made_with" in tables
            note = dict(database.execute("SELECT name, value FROM tiepoints_made_with")) if ours else {}
            images = [name for (name,) in database.execute("SELECT name FROM images")] if "images" in tables else []
    except sqlite3.Error:
        return Noted({}, [])
    return Noted({str(name): str(value) for name, value in note.items()}, list(map(str, images)))
