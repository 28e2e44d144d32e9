"""The endless stream of training pairs: which photographs, in which order, made by worker processes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import InvalidInputError
from .objective import Batch
from .pairs import Photographs, Warps, make_pair

__all__ = ["LEAST_EDGE", "Pairs", "batches", "split"]

LEAST_EDGE = 128  # ours: pixels; smaller photographs hold too little for two different crops


def split(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Photographs to train on, and a few that training never sees; the same ones at every call.

    Held out are 3 %, at most 30; of few photographs 5 or a third, whichever is less, but at least one. Ours.

    Raises
    ------
    InvalidInputError
        If there are fewer than two photographs.
    """
    if len(paths) < 2:
        raise InvalidInputError(f"{paths[0].parent}: one photograph is too few; give at least two, better hundreds")
    order = sorted(paths)
    random.Random(0).shuffle(order)  # noqa: S311 - no secret
    held = max(1, min(round(0.03 * len(order)), 30), min(5, len(order) // 3))
    return sorted(order[held:]), sorted(order[:held])


class Pairs(Dataset[tuple[np.ndarray, ...]]):
    """Pair number n is the same whenever and wherever it is made: all its chance comes from (seed, n).

    Every photograph is used once before any is used again.

    Parameters
    ----------
    photographs : Photographs
    warps : Warps
    seed : int
    """

    def __init__(self, photographs: Photographs, warps: Warps, seed: int) -> None:
        self.photographs = photographs
        self.warps = warps
        self.seed = seed
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        round_, place = divmod(number, len(self.photographs))
        if self._order[0] != round_:
            self._order = round_, np.random.default_rng((self.seed, 0, round_)).permutation(len(self.photographs))
        rng = np.random.default_rng((self.seed, 1, number))
        pair = make_pair(self.photographs[int(self._order[1][place])], self.warps, rng)
        noise = rng.random(pair.image_a.shape, np.float32)
        return pair.image_a, pair.image_b, pair.b_from_a, pair.valid_a, noise


class _Numbers:
    """The numbers of the pairs of each batch of one process, from a step on, for ever."""

    def __init__(self, batch: int, step: int, rank: int, world: int) -> None:
        self.batch, self.step, self.rank, self.world = batch, step, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        step = self.step
        while True:
            first = (step * self.world + self.rank) * self.batch
            yield list(range(first, first + self.batch))
            step += 1


def batches(
    pairs: Pairs, batch: int, step: int = 0, *, rank: int = 0, world: int = 1, workers: int = 1
) -> Iterator[Batch]:
    """Batches from a step on, for ever; process `rank` of `world` gets its own share of each step's pairs.

    Parameters
    ----------
    pairs : Pairs
    batch : int
        Pairs a step in each process.
    workers : int
        Processes that make pairs while the network runs; 0 makes them in between.
    """
    loader = DataLoader(
        pairs,
        batch_sampler=_Numbers(batch, step, rank, world),
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_quiet,
        prefetch_factor=4 if workers else None,
        persistent_workers=False,
        multiprocessing_context="spawn" if workers else None,  # forks of a process with threads may hang
    )
    iterator: Any = iter(loader)
    try:
        yield from iterator
    finally:
        if workers:
            # What a worker dies of while it ends, torch raises wherever this process is: here it can do no harm.
            with suppress(RuntimeError):
                iterator._shutdown_workers()


def _collate(pairs: list[tuple[np.ndarray, ...]]) -> Batch:
    a, b, b_from_a, valid, noise = (torch.from_numpy(np.stack(x)) for x in zip(*pairs, strict=True))

    def planes(x: Tensor) -> Tensor:
        return x[:, None].float()

    return Batch(planes(a), planes(b), b_from_a, planes(valid), noise)


def _quiet(worker: int) -> None:
    """Workers leave the cores to the network, and Ctrl-C and SIGTERM to the process that started them."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
