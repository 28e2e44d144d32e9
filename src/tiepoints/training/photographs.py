"""The photographs of a training: decoded once, kept as arrays, some held out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ImageError, InvalidInputError
from ..images import read, resize_to
from ..threads import cores
from .cache import ArrayCache, content_key

__all__ = ["LEAST_EDGE", "MAX_EDGE", "Photographs", "Resident", "prepare", "split"]

LEAST_EDGE = 128  # ours: pixels; smaller photographs hold too little for two different crops
MAX_EDGE = 640  # ours: pixels; larger photographs are shrunk to this long edge
_PART = f"photo{MAX_EDGE}"


def split(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Photographs to train on, and a few that training never sees; the same ones at every call.

    Held out are 3 %, at most 30; of few photographs 5 or a third, whichever is less, but at least one. Ours.

    Raises
    ------
    InvalidInputError
        If there are fewer than two photographs.
    """
    if not paths:
        raise InvalidInputError(
            "no photographs but those of real pairs; give at least two others to judge the weights on"
        )
    if len(paths) < 2:
        raise InvalidInputError(f"{paths[0].parent}: one photograph is too few; give at least two, better hundreds")
    order = sorted(paths)
    random.Random(0).shuffle(order)  # noqa: S311 - no secret
    held = max(1, min(round(0.03 * len(order)), 30), min(5, len(order) // 3))
    return sorted(order[held:]), sorted(order[:held])


class Photographs:
    """Photographs that were decoded into a cache, by number.

    Parameters
    ----------
    paths, keys : list
        What `prepare` found usable, and the keys of their contents.
    cache : ArrayCache
    device : torch.device
        Where they are wanted. On the CPU files are mapped and the system's page cache keeps them; on another device
        they stay there, once used, up to a bound.
    """

    def __init__(self, paths: Sequence[Path], keys: Sequence[str], cache: ArrayCache, device: torch.device) -> None:
        self.paths, self.keys = list(paths), list(keys)
        self.cache, self.device = cache, device
        self.resident = Resident(device)
        self._sizes: dict[int, tuple[int, int]] = {}
        self._stack: Tensor | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """RGB (3, H, W) uint8 on the device."""
        return self.resident.get((self.keys[index], _PART), lambda: self.pixels(index))

    def pixels(self, index: int) -> NDArray[np.generic]:
        """RGB (3, H, W) uint8, mapped from its file."""
        return self.cache.read(self.keys[index], _PART)

    def size(self, index: int) -> tuple[int, int]:
        """Width and height in pixels, without reading them."""
        if index not in self._sizes:
            _, height, width = self.pixels(index).shape
            self._sizes[index] = width, height
        return self._sizes[index]

    def stacked(self) -> Tensor | None:
        """All of them as one tensor (N, 3, E, E) on the device, each in the corner; None on a CPU or without room."""
        if self._stack is None and self.resident.take(len(self) * 3 * MAX_EDGE**2):
            self._stack = torch.zeros(len(self), 3, MAX_EDGE, MAX_EDGE, dtype=torch.uint8, device=self.device)
            for number in range(len(self)):
                pixels = torch.from_numpy(self.pixels(number))
                self._stack[number, :, : pixels.shape[1], : pixels.shape[2]] = pixels
        return self._stack

    def chosen(self, paths: Sequence[Path]) -> Photographs:
        """Those with these paths."""
        key = dict(zip(self.paths, self.keys, strict=True))
        return Photographs(paths, [key[path] for path in paths], self.cache, self.device)

    def mapped(self) -> Photographs:
        """The same on the CPU, for what is looked at once: no device's memory is kept for it."""
        return Photographs(self.paths, self.keys, self.cache, torch.device("cpu"))


class Resident:
    """Arrays that were asked for, as tensors on a device that is not the CPU, as long as there is room.

    Parameters
    ----------
    device : torch.device
    room : int, optional
        Bytes that may be taken; by default two fifths of what is free on the device, and none on a CPU, where the
        system's page cache holds the files.
    """

    def __init__(self, device: torch.device, room: int | None = None) -> None:
        self.device = device
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
        self._left = int(free * 0.4) if room is None else room
        self._kept: dict[tuple[str, str], Tensor] = {}

    def take(self, size: int) -> bool:
        """Whether there is room for so many bytes; then they are taken."""
        fits = 0 < size <= self._left
        self._left -= size if fits else 0
        return fits

    def get(self, name: tuple[str, str], load: Callable[[], NDArray[np.generic]]) -> Tensor:
        """The tensor of this name, loaded where it is not held."""
        if name in self._kept:
            return self._kept[name]
        tensor = torch.from_numpy(load())
        if self.device.type == "cpu":
            return tensor
        tensor = tensor.to(self.device)
        if self.take(tensor.nbytes):
            self._kept[name] = tensor
        return tensor


def prepare(
    paths: Sequence[Path], cache: ArrayCache, device: torch.device, *, rank: int = 0, world: int = 1
) -> tuple[Photographs, list[str]]:
    """Decode what is not in the cache yet; several processes share the work.

    Returns
    -------
    photographs : Photographs
        Those that can be read and are large enough.
    wrong : list of str
        What is wrong with each of the others, a line each.

    Raises
    ------
    StorageError
        If the cache cannot be written.
    """

    def decode(number: int) -> tuple[int, str, str]:
        """Number, key, and what is wrong."""
        path, key = paths[number], ""
        try:
            key = content_key(path)
            if cache.use(key, _PART):
                return number, key, ""
            image, _ = resize_to(read(path), MAX_EDGE)
        except (ImageError, OSError) as error:
            return number, key, str(error)
        height, width = image.shape[:2]
        if min(height, width) < LEAST_EDGE:
            return number, key, f"{path}: {width}x{height} pixels are less than {LEAST_EDGE}"
        cache.write(key, _PART, np.ascontiguousarray(image.transpose(2, 0, 1)))
        return number, key, ""

    with ThreadPoolExecutor(cores()) as threads:
        mine = list(threads.map(decode, range(rank, len(paths), world)))
    if world > 1:
        everyone: list[list[tuple[int, str, str]]] = [[]] * world
        torch.distributed.all_gather_object(everyone, mine)
        mine = sorted(entry for part in everyone for entry in part)
    good = [(paths[number], key) for number, key, wrong in mine if not wrong]
    cache.trim({key for _, key, _ in mine})
    return (
        Photographs([path for path, _ in good], [key for _, key in good], cache, device),
        [wrong for *_, wrong in mine if wrong],
    )
