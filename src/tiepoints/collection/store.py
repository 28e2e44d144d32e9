"""Where results are kept: SQLite databases in a folder, one for each step, configuration and shard.

A result is known by its key, which tells what it was made from, so that nothing in a store can be stale. A record has a
checksum of its own: a damaged one is missing, and the others are not. SQLite's write-ahead log survives the death of
its process at any time; what was written before is there again.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from .. import checks
from ..errors import InvalidInputError, StorageError
from ..files import PathLike, one_line
from .memory import stage_of
from .records import decode, is_whole
from .salvage import PAGE, rebuild
from .steps import Step

__all__ = ["Store"]

_BATCH = 500  # keys in one query; SQLite's limit of parameters is 999 in old versions
# How SQLite says that a database is damaged.
_DAMAGED = ("malformed", "not a database", "corrupt")
_ADD = "insert or ignore into records values (?, ?, ?)"
_WAIT = 60.0  # seconds that a writer waits for another one
_SCHEMA = """
create table if not exists records (id integer primary key, key text not null, body blob not null);
create table if not exists about (name text primary key, value text not null);
create table if not exists files (path text primary key, state text not null, hash text not null);
"""


T = TypeVar("T")


class Store:
    """Results in a folder; several programs may read and write it at once, and several shards are read as one.

    Files are called ``<step>-<fingerprint>.<shard>.sqlite``. Everything in the folder can be computed again, so it may
    be deleted, whole or file by file.

    Parameters
    ----------
    folder : path
        Made if missing.
    shard : str
        Which files this program writes to. Workers on machines that share a folder need one each, for SQLite cannot
        be written from two machines; all shards are read.
    also : iterable of path
        Folders of other stores that are read too, and never written: what workers without a shared folder have made.

    Raises
    ------
    StorageError
        If the folder cannot be made or written.

    Examples
    --------
    >>> from tiepoints.collection import Collection, Extract, Store, run
    >>> step, photos = Extract("orb", max_keypoints=100), Collection.from_folder("examples")
    >>> with Store("photos.work") as store:
    ...     _ = run(step, photos, store)
    ...     print(run(step, photos, store))
    Results(extract-orb of 4 items, 0 computed now)
    """

    def __init__(self, folder: PathLike, *, shard: str = "main", also: Iterable[PathLike] = ()) -> None:
        folder = checks.path(folder, "folder")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", shard):
            raise InvalidInputError(f"shard is {shard!r}, but must be letters, digits, '-' and '_'")
        self.folder = Path(folder)
        self.shard = shard
        self.also = tuple(Path(other) for other in also)
        for other in self.also:
            if not other.is_dir():
                raise StorageError(f"{other}: no such folder of results")
        self._lock = threading.Lock()
        self._files: dict[Path, _File] = {}
        self._listed: dict[str, list[Path]] = {}  # by the stage, its shards when they were last looked for
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = (
                "it is a file, and a folder is kept there"
                if self.folder.is_file()
                else error.strerror or one_line(error)
            )
            raise StorageError(f"{folder}: cannot be made ({why})") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return reopened, (self.folder, self.shard, self.also)

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r})"

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; the store opens them again when it is used again."""
        with self._lock:
            files, self._files = self._files, {}
            self._listed.clear()  # the files may be gone when it is used again
        for file in files.values():
            file.close()

    def known(self, step: Step, keys: Iterable[str]) -> set[str]:
        """Which of the keys there are results for, in any shard."""
        left, found = list(keys), set()
        for file in self._shards(stage_of(step)):
            here = file.known(left)
            found |= here
            left = [key for key in left if key not in here]
        return found

    def put(self, step: Step, key: str, record: bytes) -> None:
        """Keep a result; when the method returns, it survives the death of this process.

        Raises
        ------
        StorageError
            If it cannot be written, for instance because the disk is full; what was finished before stays.
        """
        path = self.folder / f"{stage_of(step)}.{self.shard}.sqlite"
        file = self._file(path)
        file.describe(step)
        file.put(key, record)

    def copy(self, path: Path) -> int:
        """Take the whole results of another store's file, and return how many were new.

        Raises
        ------
        StorageError
            As `put`, or if the file cannot be read.
        """
        source = _File(path)
        try:
            return self._file(self.folder / f"{path.name.split('.')[0]}.{self.shard}.sqlite").copy(source)
        finally:
            source.close()

    def get(self, stage: str, key: str) -> Any:
        """A result, from whichever shard has it.

        Raises
        ------
        StorageError
            If it is missing or damaged; the next run computes it anew.
        """
        return decode(self.record(stage, key))

    def record(self, stage: str, key: str) -> bytes:
        """A result's bytes."""
        for look in (False, True):  # a shard may be new
            for file in self._shards(stage, look=look):
                record = file.get(key)
                if record is not None:
                    return record
        raise StorageError(f"{self.folder}: holds no result of {stage} with the key {key}; run the step again")

    def hashes(self) -> Hashes:
        """The known hashes of files."""
        return Hashes(self._file(self.folder / f"files.{self.shard}.sqlite"))

    def stages(self) -> dict[str, str]:
        """What the store holds: from the files' stage to the description of its step, as JSON."""
        found: dict[str, str] = {}
        for path in [path for folder in (self.folder, *self.also) for path in sorted(folder.glob("*.sqlite"))]:
            stage = path.name.split(".")[0]
            if stage != "files":
                found[stage] = found.get(stage) or self._file(path).about().get("step", "")
        return found

    def _shards(self, stage: str, *, look: bool = True) -> Iterator[_File]:
        """The files of a stage, its own first; they are looked for in the folders only where that is asked for."""
        if look or stage not in self._listed:
            own = self.folder / f"{stage}.{self.shard}.sqlite"
            folders = (self.folder, *self.also)
            found = [path for folder in folders for path in sorted(folder.glob(f"{stage}.*.sqlite")) if path != own]
            self._listed[stage] = [path for path in [own, *found] if path in self._files or path.exists()]
        for path in self._listed[stage]:
            yield self._file(path)

    def _file(self, path: Path) -> _File:
        with self._lock:
            if path not in self._files:
                self._files[path] = _File(path)
            return self._files[path]


class Hashes:
    """The SHA-256 of files that were hashed before and have not changed since, by size, times and number."""

    def __init__(self, file: _File) -> None:
        self._file = file
        self._new: list[tuple[str, str, str]] = []
        self._lock = threading.Lock()

    def get(self, path: str, state: str) -> str | None:
        """The hash of a file in this state, if it is known."""
        return self._file.hash_of(path, state)

    def put(self, path: str, state: str, digest: str) -> None:
        """Remember the hash of a file, at the latest when `flush` is called."""
        with self._lock:
            self._new.append((path, state, digest))
            if len(self._new) < _BATCH:
                return
        self.flush()

    def flush(self) -> None:
        """Write what is to be remembered."""
        with self._lock:
            new, self._new = self._new, []
        if new:
            self._file.keep_hashes(new)


class _File:
    """One SQLite database: opened when it is used, by one thread at a time; rebuilt from what is whole if damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = os.getpid()
        self._described = False

    def known(self, keys: Iterable[str]) -> set[str]:
        """Which of the keys have records that are whole."""
        ids = {_id(key): key for key in keys}
        wanted = list(ids)

        def look(database: sqlite3.Connection) -> set[str]:
            found: set[str] = set()
            for start in range(0, len(wanted), _BATCH):
                some = wanted[start : start + _BATCH]
                marks = ",".join("?" * len(some))
                for row, key, body in database.execute(
                    f"select id, key, body from records where id in ({marks})",  # noqa: S608 - marks only
                    some,
                ):
                    if not is_whole(body):
                        raise sqlite3.DatabaseError(f"record {row} is malformed")
                    if key == ids[row]:
                        found.add(key)
            return found

        return self._do(look)

    def get(self, key: str) -> bytes | None:
        row = self._do(lambda d: d.execute("select key, body from records where id = ?", (_id(key),)).fetchone())
        return None if row is None or row[0] != key else bytes(row[1])

    def put(self, key: str, record: bytes) -> None:
        self._do(lambda d: d.execute("insert or replace into records values (?, ?, ?)", (_id(key), key, record)))

    def copy(self, source: _File) -> int:
        """Take the records of another file, some hundred at once."""
        last, new = -1, 0
        for name, value in source.about().items():
            self._do(lambda d, row=(name, value): d.execute("insert or ignore into about values (?, ?)", row))  # type: ignore[misc]
        while rows := source.after(last):
            last = rows[-1][0]
            whole = [row for row in rows if is_whole(row[2])]
            new += self._do(lambda d, some=whole: _all_or_none(d, _ADD, some))  # type: ignore[misc]
        return new

    def after(self, last: int) -> list[tuple[int, str, bytes]]:
        """The records that follow one, some at once."""
        query = "select id, key, body from records where id > ? order by id limit 100"
        return self._do(lambda d: d.execute(query, (last,)).fetchall())

    def describe(self, step: Step) -> None:
        """Say, once, what the results were made with: for people who look into the store."""
        if not self._described:
            text = json.dumps(step.describe(), sort_keys=True)
            self._do(lambda d: d.execute("insert or ignore into about values ('step', ?)", (text,)))
            self._described = True

    def about(self) -> dict[str, str]:
        return dict(self._do(lambda d: d.execute("select name, value from about").fetchall()))

    def hash_of(self, path: str, state: str) -> str | None:
        row = self._do(lambda d: d.execute("select state, hash from files where path = ?", (path,)).fetchone())
        return row[1] if row is not None and row[0] == state else None

    def keep_hashes(self, rows: list[tuple[str, str, str]]) -> None:
        self._do(lambda d: _all_or_none(d, "insert or replace into files values (?, ?, ?)", rows))

    def close(self) -> None:
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        self.close()  # a store that nobody closed; Python 3.13 warns of connections that are left open

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Work with the connection, in one thread; SQLite's errors become StorageErrors about this file."""
        with self._lock:
            try:
                try:
                    return work(self._opened())
                except sqlite3.DatabaseError as error:
                    if not any(word in str(error) for word in _DAMAGED):
                        raise
                self.close()
                rebuild(self.path, _connect)
                return work(self._opened())
            except sqlite3.DatabaseError as error:
                raise StorageError(f"{self.path}: {_reason(error)}") from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None or self._process != os.getpid():
            self._process = os.getpid()  # a forked process must not use its parent's connection
            self._connection = _connect(self.path)
        return self._connection


def _all_or_none(database: sqlite3.Connection, statement: str, rows: list[Any]) -> int:
    """Execute a statement for each of the rows, in one transaction; how many changed something."""
    database.execute("begin immediate")
    try:
        before = database.total_changes
        database.executemany(statement, rows)
        database.execute("commit")
    except BaseException:
        database.execute("rollback")
        raise
    return database.total_changes - before


def _connect(path: Path) -> sqlite3.Connection:
    if path.exists() and not os.access(path.parent, os.W_OK):  # a store that is only to be read
        address = f"{path.absolute().as_uri()}?immutable=1"
        return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
    connection = sqlite3.connect(path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"pragma page_size={PAGE}")
        # What was committed survives the death of the process at once; a power cut may lose the last results.
        if path.name.endswith(".main.sqlite"):
            connection.execute("pragma journal_mode=wal")
            connection.execute("pragma synchronous=normal")
            connection.execute("pragma wal_autocheckpoint=2000")
        else:
            # A shard is read from other machines, which cannot share the memory that a write-ahead log needs.
            connection.execute("pragma journal_mode=truncate")
            connection.execute("pragma synchronous=off")
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _reason(error: sqlite3.DatabaseError) -> str:
    if "full" in str(error):
        return "cannot be written (the disk is full); what is finished is kept: free some space and run again"
    if "readonly" in str(error) or "unable to open" in str(error):
        return f"cannot be opened or written ({one_line(error)}); choose another folder"
    return f"cannot be used ({one_line(error)}); delete it, what it holds is then computed anew"


def _id(key: str) -> int:
    """The row of a key: its first 63 bits. Of two keys with equal ones (1 in 10^7 at a million keys) one is kept."""
    return int(key[:16], 16) >> 1


def reopened(folder: Path, shard: str, also: tuple[Path, ...] = ()) -> Store:
    """One store for each folder in a process that gets many references to it."""
    with _stores_lock:
        if (folder, shard, also) not in _stores:
            _stores[folder, shard, also] = Store(folder, shard=shard, also=also)
        return _stores[folder, shard, also]


def let_go() -> None:
    """Close what `reopened` has opened: a worker does it between two runs, for a folder may have been deleted."""
    with _stores_lock:
        for store in _stores.values():
            store.close()


_stores: dict[tuple[Path, str, tuple[Path, ...]], Store] = {}
_stores_lock = threading.Lock()
