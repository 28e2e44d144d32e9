"""Extract once, evaluate often: the features of a benchmark's images on disk, by what they were made from and with.

A file holds one method's features of one collection of images. Inside, an image is known by the SHA-256 of its content,
and the file by the hash of the method's identity: nothing can be stale, whatever was renamed, replaced or retrained.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import ImageError, InvalidInputError
from ..extraction import Extractor
from ..features import Features
from ..files import PathLike, sha256_of
from ..images import read
from .methods import Method
from .processes import spread

__all__ = ["Extracted", "default_store", "extracted"]

#: Called with the number of images done and the number of all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Extracted(Mapping[str, Features]):
    """The features of images by their names; read from the disk where they are asked for.

    Attributes
    ----------
    failed : dict
        Images that could not be read, and why; they are not in the mapping.
    computed : int
        How many images were extracted now; the others were known.
    """

    _items: Mapping[str, Features]
    _keys: Mapping[str, str]
    failed: dict[str, str] = field(default_factory=dict)
    computed: int = 0

    def __getitem__(self, name: str) -> Features:
        return self._items[self._keys[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def default_store() -> Path:
    """Where features are kept unless told otherwise: TIEPOINTS_CACHE, else `tiepoints` in the user's cache folder."""
    if setting := os.environ.get("TIEPOINTS_CACHE"):
        return Path(setting) / "benchmarks"
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "tiepoints" / "benchmarks"


@contextmanager
def extracted(
    method: Method,
    images: Mapping[str, Path],
    *,
    store: PathLike | None = None,
    collection: str = "images",
    jobs: int = 1,
    progress: Progress | None = None,
) -> Iterator[Extracted]:
    """The method's features of these images, computed where the store lacks them.

    Parameters
    ----------
    method : Method
    images : mapping
        From a name, such as "v_boat/1.png", to the file.
    store : path, optional
        The folder of the store; without it everything stays in memory. What was extracted before an interruption, even
        a kill, is found again.
    collection : str
        Names the file in the store, such as "hpatches"; a store may hold many.
    jobs : int
        Processes that extract. More than one needs a method that was made from a specification.
    progress : callable, optional
        Called as ``progress(done, all)`` after each image.

    Yields
    ------
    features : Extracted
        Valid inside the ``with`` block. Images that cannot be read are in its `failed`.

    Raises
    ------
    InvalidInputError
        If `jobs` is less than 1.
    StorageError
        If the store cannot be read or written, or another process is writing the same file.
    """
    if jobs < 1:
        raise InvalidInputError(f"jobs is {jobs}, but must be at least 1")
    keys, failed = _content_keys(images)
    files = {key: images[name] for name, key in keys.items()}  # equal images are extracted once
    with ExitStack() as stack:
        items: Mapping[str, Features]
        if store is None:
            memory: dict[str, Features] = {}
            computed = _extract(method, files, memory.__setitem__, failed, keys, jobs, progress)
            items = memory
        else:
            path = _file(Path(store), method, collection)
            computed = _fill(path, method, files, failed, keys, jobs, progress)
            items = stack.enter_context(_reader(path)) if len(failed) < len(images) else {}
        present = {name: key for name, key in keys.items() if name not in failed}
        yield Extracted(items, present, failed, computed)


def _content_keys(images: Mapping[str, Path]) -> tuple[dict[str, str], dict[str, str]]:
    """Each readable image's SHA-256 by its name, and why the others have none."""
    keys: dict[str, str] = {}
    failed: dict[str, str] = {}
    for name, path in images.items():
        try:
            state = path.stat()
            keys[name] = _content_key(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
        except OSError as error:  # noqa: PERF203
            failed[name] = f"{path}: {error.strerror or error}"
    return keys, failed


@lru_cache(maxsize=100_000)
def _content_key(path: Path, *state: int) -> str:
    """An image's SHA-256; several methods in one run read it once. What changes a file changes its state."""
    return sha256_of(path)


def _file(store: Path, method: Method, collection: str) -> Path:
    folder, name = (re.sub(r"[^\w.-]+", "-", text).strip("-.") for text in (collection, method.extractor.metadata.name))
    digest = hashlib.sha256(method.identity.encode()).hexdigest()[:16]
    return store / (folder or "images") / f"{name}-{digest}.h5"


def _reader(path: Path) -> Any:
    from ..storage import FeatureReader

    return FeatureReader(path)


def _fill(
    path: Path,
    method: Method,
    files: Mapping[str, Path],
    failed: dict[str, str],
    keys: Mapping[str, str],
    jobs: int,
    progress: Progress | None,
) -> int:
    """Extract what the file lacks. It is opened for writing only then, so that readers need no lock."""
    from ..storage import FeatureWriter

    if path.exists() and not path.with_name(f"{path.name}.partial").exists():
        with _reader(path) as known:
            if all(key in known for key in files):
                return 0
    with FeatureWriter(path, made_with=method.identity) as writer:
        missing = {key: file for key, file in files.items() if key not in writer}
        return _extract(method, missing, writer.write, failed, keys, jobs, progress)


def _extract(
    method: Method,
    files: Mapping[str, Path],
    keep: Callable[[str, Features], None],
    failed: dict[str, str],
    keys: Mapping[str, str],
    jobs: int,
    progress: Progress | None,
) -> int:
    broken: dict[str, str] = {}
    results = _in_processes(method, files, jobs) if jobs > 1 and method.recipe else _here(method.extractor, files)
    for done, (key, result) in enumerate(results, start=1):
        if isinstance(result, Features):
            keep(key, result)
        else:
            broken[key] = result
        if progress is not None:
            progress(done, len(files))
    failed.update({name: broken[key] for name, key in keys.items() if key in broken})
    return len(files) - len(broken)


def _here(extractor: Extractor, files: Mapping[str, Path]) -> Iterator[tuple[str, Features | str]]:
    for key, path in files.items():
        try:
            yield key, extractor(read(path))
        except ImageError as error:  # noqa: PERF203 - one unreadable image must not cost the others
            yield key, str(error)


def _in_processes(method: Method, files: Mapping[str, Path], jobs: int) -> Iterator[tuple[str, Features | str]]:
    """As `_here`, in any order."""
    assert method.recipe is not None
    return spread(_work, ((key, (path,)) for key, path in files.items()), jobs, start=_start, arguments=method.recipe)


_extractor: Extractor | None = None  # of a worker process


def _start(name: str, options: Mapping[str, Any]) -> None:
    global _extractor
    import cv2

    from ..extraction import load

    mine = cv2.getNumThreads()  # this process's share of the cores
    _extractor = Method(name, load(name, **options), (name, options)).with_threads(mine).extractor


def _work(path: Path) -> Features | str:
    assert _extractor is not None
    (_, result), *_ = _here(_extractor, {"": path})
    return result
