"""Saving what is whole in a damaged SQLite database of results.

SQLite gives up where a page of its tree is damaged, and loses everything below it. But each row of a table lies on a
leaf page of its own kind, and goes on in a chain of overflow pages: so all leaf pages can be read without the tree. The
layout is SQLite's ("Database File Format", sections 1.5, 1.6, 2.1 and 4.1 for the write-ahead log).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from .. import checks
from .records import is_whole

__all__ = ["PAGE", "rebuild"]

#: The size of all pages of our databases.
PAGE = 16384
_LEAF = 0x0D  # the first byte of a leaf page of a table
_FRAME = 24  # bytes before each page of the write-ahead log, which begins with 32 of its own


def rebuild(path: Path, connect: Callable[[Path], sqlite3.Connection]) -> None:
    """Replace a damaged database by a new one that holds all records that are whole.

    Parameters
    ----------
    path : path
    connect : callable
        Opens a database of pages of `PAGE` bytes, and makes its tables if it is new. A row's number is the first half
        of its key, 16 hexadecimal digits, without the last bit.

    Examples
    --------
    >>> import sqlite3
    >>> from pathlib import Path
    >>> from tiepoints.collection.records import encode
    >>> from tiepoints.collection.salvage import PAGE, rebuild
    >>> def connect(path):
    ...     database = sqlite3.connect(path)
    ...     _ = database.execute(f"pragma page_size={PAGE}")
    ...     columns = "id integer primary key, key text not null, body blob not null"
    ...     _ = database.execute(f"create table if not exists records ({columns})")
    ...     return database
    >>> database = connect("damaged.sqlite")
    >>> with database:
    ...     _ = database.execute("insert or ignore into records values (0, ?, ?)", ("0" * 32, encode(0.5)))
    >>> database.close()
    >>> rebuild(Path("damaged.sqlite"), connect)
    >>> database = connect("damaged.sqlite")
    >>> database.execute("select count(*) from records").fetchone()
    (1,)
    >>> database.close()
    """
    path = checks.path(path, "path")
    logs = [path.with_name(path.name + ending) for ending in ("-wal", "-shm")]
    fresh = path.with_name(path.name + ".rebuilt")
    fresh.unlink(missing_ok=True)
    database = connect(fresh)
    try:
        database.execute("pragma journal_mode=delete")
        with database:
            database.execute("begin")
            for row, key, body in _records(path, logs[0]):
                database.execute("insert or ignore into records values (?, ?, ?)", (row, key, body))
            database.execute("commit")
    finally:
        database.close()
    for log in logs:
        log.unlink(missing_ok=True)
    fresh.replace(path)


def _records(path: Path, log: Path) -> Iterator[tuple[int, str, bytes]]:
    """The rows of all leaf pages whose record is whole: number, key, record; the newest of equal numbers first."""
    with path.open("rb") as file:
        pages = _Pages(file.read(), log.read_bytes() if log.exists() else b"")
    for page in pages.numbers():
        content = pages[page]
        head = 100 if page == 1 else 0
        if content[head] != _LEAF:
            continue
        count = int.from_bytes(content[head + 3 : head + 5], "big")
        for i in range(min(count, PAGE // 4)):
            start = int.from_bytes(content[head + 8 + 2 * i : head + 10 + 2 * i], "big")
            try:
                row, payload = _cell(content, start, pages)
                key, body = _columns(payload)
                if is_whole(body) and int(key[:16], 16) >> 1 == row:
                    yield row, key, body
            except (IndexError, ValueError):  # no cell of ours, or a damaged one
                continue


class _Pages:
    """The pages of a database by their numbers from 1, with those of the write-ahead log before those of the file."""

    def __init__(self, file: bytes, log: bytes) -> None:
        self._file = file
        self._log: dict[int, bytes] = {}
        for start in range(32, len(log) - PAGE - _FRAME + 1, PAGE + _FRAME):
            number = int.from_bytes(log[start : start + 4], "big")
            self._log[number] = log[start + _FRAME : start + _FRAME + PAGE]

    def numbers(self) -> list[int]:
        return sorted({*self._log, *range(1, len(self._file) // PAGE + 1)})

    def __getitem__(self, number: int) -> bytes:
        if number in self._log:
            return self._log[number]
        page = self._file[(number - 1) * PAGE : number * PAGE]
        if number < 1 or len(page) < PAGE:
            raise IndexError(number)
        return page


def _cell(page: bytes, start: int, pages: _Pages) -> tuple[int, bytes]:
    """A cell's row number and payload."""
    size, start = _varint(page, start)
    row, start = _varint(page, start)
    most, least = PAGE - 35, (PAGE - 12) * 32 // 255 - 23
    if size <= most:
        return row, page[start : start + size]
    local = least + (size - least) % (PAGE - 4)
    local = local if local <= most else least
    parts, left = [page[start : start + local]], size - local
    following = int.from_bytes(page[start + local : start + local + 4], "big")
    while left > 0:
        overflow = pages[following]
        parts.append(overflow[4 : 4 + left])
        left -= PAGE - 4
        following = int.from_bytes(overflow[:4], "big")
    return row, b"".join(parts)


def _columns(payload: bytes) -> tuple[str, bytes]:
    """Key and record of a row of the table `records`; ValueError where it is another table's."""
    end, start = _varint(payload, 0)
    kinds = []
    while start < end:
        kind, start = _varint(payload, start)
        kinds.append(kind)
    if len(kinds) != 3 or kinds[0] != 0 or kinds[1] < 13 or not kinds[1] % 2 or kinds[2] < 12 or kinds[2] % 2:
        raise ValueError("another table")
    middle = end + (kinds[1] - 13) // 2
    return payload[end:middle].decode("ascii"), payload[middle : middle + (kinds[2] - 12) // 2]


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, and where it ends."""
    value = 0
    for i in range(8):
        byte = data[start + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, start + i + 1
    return value << 8 | data[start + 8], start + 9
