"""A folder of arrays that are computed once: decoded photographs, teachers' values. Runs share it."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import StorageError
from ..files import sha256_of, write_whole

__all__ = ["ArrayCache", "content_key"]


def content_key(path: Path) -> str:
    """What a file holds, as 32 hexadecimal digits: two files of equal bytes have one key, whatever their names."""
    return sha256_of(path)[:32]


_NAMES = f"{'[0-9a-f]' * 32}.*.npy"  # of `content_key` and a part


class ArrayCache:
    """Arrays by key and part, a file each. Files appear whole or not at all, so any number of processes may write.

    Parameters
    ----------
    folder : path
        Made when the first array is written.
    max_bytes : int
        Beyond it `trim` deletes the arrays that were used longest ago.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def path(self, key: str, part: str) -> Path:
        """Where an array lies, or would."""
        return self.folder / f"{key}.{part}.npy"

    def use(self, key: str, *parts: str) -> bool:
        """Whether all these arrays are there and whole; they count as used now."""
        for part in parts:
            path = self.path(key, part)
            try:
                os.utime(path)
                np.load(path, mmap_mode="r")  # checks the header and that the file is as long as it says
            except (OSError, ValueError, EOFError):
                return False
        return True

    def write(self, key: str, part: str, values: NDArray[np.generic]) -> None:
        """Keep an array.

        Raises
        ------
        StorageError
            If the folder cannot be written.
        """
        buffer = io.BytesIO()
        np.save(buffer, values)
        write_whole(self.path(key, part), buffer.getbuffer())

    def read(self, key: str, part: str) -> NDArray[np.generic]:
        """The array, mapped into memory: what is not looked at is not read.

        Raises
        ------
        StorageError
            If it is not there any more.
        """
        try:
            return np.asarray(np.load(self.path(key, part), mmap_mode="c"))
        except (OSError, ValueError, EOFError) as error:
            raise StorageError(
                f"{self.path(key, part)}: gone or damaged while the training runs; start it again with --resume"
            ) from error

    def trim(self, keep: set[str]) -> None:
        """Delete what was used longest ago until the bound holds; never an array of the keys in `keep`."""
        found, total = [], 0
        for path in self.folder.glob(_NAMES):  # and nobody else's arrays
            with suppress(OSError):  # another process may have deleted it
                status = path.stat()
                total += status.st_size
                if path.name.split(".")[0] not in keep:
                    found.append((status.st_mtime, status.st_size, path))
        for _, size, path in sorted(found):
            if total <= self.max_bytes:
                return
            with suppress(OSError):
                path.unlink()
                total -= size
