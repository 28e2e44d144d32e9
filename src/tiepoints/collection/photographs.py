"""Collections of photographs: their names, and what each is, told by its content."""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..checks import did_you_mean, instance, iterable, number, path as as_path, shown
from ..decode import turned
from ..errors import ImageError, InvalidInputError, StorageError, counted
from ..extraction.inputs import mask_of
from ..files import PathLike, check_name, composed, named_as, one_line, sha256_of
from ..images import Header, header_of, read, to_grey
from ..threads import cores
from .steps import key_of

if TYPE_CHECKING:
    from .store import Hashes

__all__ = ["Collection", "Photograph", "natural_order"]

# A file that was changed less than this many nanoseconds ago may change again without its times showing it.
_SETTLED = 2_000_000_000
# Part of the key of what has a mask: another one since those of more than 8 bits hide only where they are 0.
_MASKS = " 2"


def natural_order(name: str) -> tuple[Any, ...]:
    """A key for `sorted` that takes runs of digits as numbers: frame2 before frame10.

    Examples
    --------
    >>> from tiepoints.collection import natural_order
    >>> sorted(["frame10.jpg", "frame2.jpg", "a.jpg"], key=natural_order)
    ['a.jpg', 'frame2.jpg', 'frame10.jpg']
    """
    parts = re.split(r"([0-9]+)", instance(name, "name", str))
    return (*[(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)], (-1, name))


@dataclass(frozen=True)
class Photograph:
    """One image of a collection.

    Parameters
    ----------
    name : str
        A relative path with slashes.
    path : path
        The file: an image, or a video whose frame it is.
    mask : path, optional
        An image of the same size; keypoints are wanted where one of its channels is not 0, of one that is transparent
        somewhere, where it is not.
    camera : Camera, optional
        Of the upright image, where it is known.
    group : str
        Photographs of one group were taken with one camera, unless it is empty.
    frame : int, optional
        The number of a video's frame, from 0.
    value_range : (float, float), optional
        The values that become black and white in images of more than 8 bits, as for `tiepoints.read`.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tiepoints.collection import Photograph
    >>> photograph = Photograph("box.png", Path("examples/box.png"))
    >>> photograph.header.size == photograph.read().shape[1::-1]
    True
    """

    name: str
    path: Path
    mask: Path | None = None
    camera: Camera | None = None
    group: str = ""
    frame: int | None = None
    value_range: tuple[float, float] | None = None

    @cached_property
    def key(self) -> str:
        """Tells the photograph, with its mask, by its content: 32 hexadecimal digits.

        Raises
        ------
        ImageError
            If a file cannot be read.
        """
        return self._key(_hash)

    def _key(self, hash_of: Callable[[Path], str]) -> str:
        parts = [hash_of(self.path), "" if self.frame is None else str(self.frame)]
        stretched = () if self.value_range is None else (repr(self.value_range),)
        return key_of(*parts, "" if self.mask is None else hash_of(self.mask) + _MASKS, *stretched)

    def load(self) -> Photograph:
        """The photograph itself: what steps are called with."""
        return self

    @cached_property
    def header(self) -> Header:
        """Size and orientation, read without decoding the image."""
        if self.frame is None:
            return header_of(self.path)
        from .videos import frame_size

        return Header(frame_size(self.path), 1)

    def read(self) -> NDArray[np.uint8]:
        """The image, upright: (H, W, 3) uint8 RGB.

        Raises
        ------
        ImageError
            If it cannot be read.
        """
        if self.frame is None:
            return read(self.path, value_range=self.value_range)
        from .videos import read_frame

        return read_frame(self.path, self.frame)

    def read_stored(self) -> NDArray[np.uint8]:
        """The grey image (H, W) uint8 as it is stored, not turned as EXIF asks for.

        Raises
        ------
        ImageError
            If it cannot be read.
        """
        if self.frame is None:
            return read(self.path, grey=True, upright=False, value_range=self.value_range)
        return to_grey(self.read())

    def read_mask(self) -> NDArray[np.uint8] | None:
        """The mask, upright: (H, W) uint8, 0 where nothing is to be found; None without one.

        A file whose edges are those of the stored pixels of a photograph that EXIF turns, as COLMAP has masks, is
        turned with it.

        Raises
        ------
        ImageError
            If it cannot be read.
        InvalidInputError
            If it is of another size.
        """
        if self.mask is None:
            return None
        (width, height), orientation = self.header
        stored = orientation >= 5 and width != height and header_of(self.mask).size == (height, width)
        shape = (width, height) if stored else (height, width)
        kept = np.asarray(mask_of(self.mask, shape), np.uint8) * np.uint8(255)
        return turned(kept, orientation) if stored else kept


class Collection(Mapping[str, Photograph]):
    """Photographs by their names, in natural order of numbers; one that cannot be taken is named, and costs no other.

    Parameters
    ----------
    photographs : iterable of Photograph
    failed : mapping, optional
        What could not be taken, by how it was called, and why.
    left_out : iterable of path, optional
        Files that were found and are no photographs, such as videos.

    Raises
    ------
    InvalidInputError
        If two photographs have the same name.

    Examples
    --------
    >>> from tiepoints.collection import Collection
    >>> photos = Collection.from_folder("examples")
    >>> list(photos)
    ['box.png', 'box_in_scene.png', 'desk_1.jpg', 'desk_2.jpg']
    """

    def __init__(
        self,
        photographs: Iterable[Photograph],
        *,
        failed: Mapping[str, str] | None = None,
        left_out: Iterable[Path] = (),
    ) -> None:
        several = sorted(iterable(photographs, "photographs", "photographs"), key=lambda one: natural_order(one.name))
        self._items = {one.name: one for one in several}
        if len(self._items) < len(several):
            names = [one.name for one in several]
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidInputError(f"two photographs are called {twice!r}")
        self.failed = dict(failed or {})
        self.left_out = list(left_out)

    @classmethod
    def from_folder(cls, folder: PathLike, *, masks: PathLike | None = None) -> Collection:
        """All photographs in a folder and those below it, called by their paths below it.

        Parameters
        ----------
        folder : path
        masks : path, optional
            A folder with the masks, called as the photographs, or the same with another suffix, or with ``.png`` added;
            or one file for all photographs.

        Raises
        ------
        ImageError
            If there is no such folder, or no photograph in it.
        """
        from .finding import find

        return find([folder], masks=masks)

    @classmethod
    def from_sources(cls, sources: Iterable[PathLike], *, masks: PathLike | None = None, every: int = 1) -> Collection:
        """The photographs of files, folders, patterns, lists (.txt: a path on each line) and videos.

        Parameters
        ----------
        sources : iterable of path
        masks : path, optional
            As for `from_folder`.
        every : int
            Of a video's frames, every so many.

        Raises
        ------
        ImageError
            If a source is not there, or holds no photograph.
        """
        from .finding import find

        return find(sources, masks=masks, every=every)

    @classmethod
    def from_paths(cls, paths: Mapping[str, PathLike]) -> Collection:
        """Photographs by names of the caller's own.

        Parameters
        ----------
        paths : mapping from str to path
            Files by the names that the photographs get.

        Returns
        -------
        photographs : Collection
        """
        if not isinstance(paths, Mapping):
            raise InvalidInputError(f"paths is {shown(paths)}, but a mapping from names to paths is expected")
        photographs, failed = [], {}
        for name, path in paths.items():
            try:
                photographs.append(Photograph(check_name(name), as_path(path, "path")))
            except InvalidInputError as error:  # noqa: PERF203 - one bad name must not cost the others
                failed[name] = str(error)
        return cls(photographs, failed=failed)

    def __getitem__(self, name: str) -> Photograph:
        if name not in self._items:
            return self._items[self._forms[composed(name)]]
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items or (isinstance(name, str) and composed(name) in self._forms)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        wrong = f", {len(self.failed)} failed" if self.failed else ""
        return f"Collection({counted(len(self), 'photograph')}{wrong})"

    @cached_property
    def _forms(self) -> dict[str, str]:
        """Names by their composed form: macOS writes them decomposed, and they look the same."""
        return {composed(name): name for name in self._items}

    def select(self, names: Iterable[str]) -> Collection:
        """Those of these names.

        Parameters
        ----------
        names : iterable of str

        Returns
        -------
        photographs : Collection

        Raises
        ------
        InvalidInputError
            If there is no photograph of one of them.
        """
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            if name not in self:
                raise InvalidInputError(f"there is no photograph {name!r}: {did_you_mean(str(name), list(self))}")
        return Collection(self[name] for name in names)

    def with_cameras(self, cameras: Mapping[str, Camera] | Camera, *, shared: bool = False) -> Collection:
        """The same photographs with known cameras: one for all, or by name.

        Parameters
        ----------
        cameras : Camera, or mapping from names
            Names that no photograph has are warned of.
        shared : bool
            Whether all were taken with one camera.
        """
        for camera in cameras.values() if isinstance(cameras, Mapping) else (cameras,):
            instance(camera, "the camera", Camera, "make one of a matrix by Camera.from_matrix(K, (width, height))")
        several = (
            named_as(cameras, self._items, "the cameras")
            if isinstance(cameras, Mapping)
            else dict.fromkeys(self._items, cameras)
        )
        return Collection(
            (
                replace(one, camera=several.get(one.name, one.camera), group="one" if shared else one.group)
                for one in self.values()
            ),
            failed=self.failed,
            left_out=self.left_out,
        )

    def with_value_range(self, low: float, high: float) -> Collection:
        """The same photographs on one scale: values that become black and white in images of more than 8 bits.

        By default each is stretched by its own values, and the same thing has another brightness in each frame of a
        thermal camera, as far as these differ.

        Raises
        ------
        InvalidInputError
            Unless low < high.
        """
        limits = number(low, "the low end of the values"), number(high, "the high end of the values")
        if not limits[0] < limits[1]:
            raise InvalidInputError(f"the values go from {low} to {high}, but the first must be lower")
        stretched = (replace(one, value_range=limits) for one in self.values())
        return Collection(stretched, failed=self.failed, left_out=self.left_out)

    def keyed(self, hashes: Hashes | None = None) -> Iterator[tuple[Photograph, str | None]]:
        """Each photograph with its key known, and None; or with what is wrong with it.

        Parameters
        ----------
        hashes : Hashes, optional
            Hashes of files that are known; a file whose size, times and number are the same is not read again.
        """

        def look(one: Photograph) -> tuple[Photograph, str | None]:
            try:
                if "key" not in one.__dict__:
                    one.__dict__["key"] = one._key(lambda path: _hash(path, hashes))
            except ImageError as error:
                return one, str(error)
            return one, None

        try:
            with ThreadPoolExecutor(cores()) as pool:
                yield from pool.map(look, self.values())
        finally:
            if hashes is not None:
                with suppress(StorageError):  # it only saves time
                    hashes.flush()


def _hash(path: Path, hashes: Hashes | None = None) -> str:
    """The SHA-256 of a regular file's content, looked up where the file has not changed since it was hashed."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise ImageError(f"{path}: not a regular file")
        name = os.path.abspath(path)  # noqa: PTH100 - without resolving links
        state = f"{about.st_size} {about.st_mtime_ns} {about.st_ctime_ns} {about.st_ino}"
        known = hashes.get(name, state) if hashes is not None else _recent.get((name, state))
        if known is not None:
            return known
        digest = sha256_of(path)
        if time.time_ns() - max(about.st_mtime_ns, about.st_ctime_ns) > _SETTLED:
            if hashes is not None:
                with suppress(StorageError):  # it only saves time
                    hashes.put(name, state, digest)
            else:
                with _recent_lock:
                    _recent[name, state] = digest
    except StorageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or one_line(error)})") from None
    else:
        return digest


# Without a store: several steps on one collection read each file once.
_recent: dict[tuple[str, str], str] = {}
_recent_lock = threading.Lock()
