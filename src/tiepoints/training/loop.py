"""The training of MD-Net: steps, schedule, checkpoints, and the development benchmark that picks the best weights."""

from __future__ import annotations

import ctypes
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import ImageError, InvalidInputError, StorageError
from ..files import one_line
from .data import LEAST_EDGE, Pairs, batches, split
from .development import Development, Figures
from .distributed import World, agree, world
from .export import read_model, save_model
from .network import MDNet
from .pairs import Photographs
from .recipe import Recipe, recipe_as_dict, recipe_from
from .run_time import extractor_of
from .state import State, load_checkpoint

__all__ = ["Progress", "train"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h


@dataclass
class Progress:
    """What a training tells from time to time.

    Parameters
    ----------
    step, pairs : int
        So far, earlier sessions included; pairs of all processes.
    seconds : float
        Wall time so far, earlier sessions included.
    share : float
        Of the whole training, 0 to 1.
    losses : dict
        Means since the last report, by name.
    pairs_per_second : float
    waited : float
        Share of the time spent waiting for data.
    figures : dict
        Of the development benchmark, by name, where it has just run; else empty.
    best : bool
        Whether these figures are the best so far.
    """

    step: int
    pairs: int
    seconds: float
    share: float
    losses: dict[str, float]
    pairs_per_second: float
    waited: float
    figures: dict[str, Figures] = field(default_factory=dict)
    best: bool = False


def train(
    images: list[Path],
    out: Path,
    recipe: Recipe,
    *,
    hours: float | None = None,
    steps: int | None = None,
    start: Path | None = None,
    resume: bool = False,
    development: Sequence[Path] = (),
    workers: int = 1,
    checkpoint_minutes: float = 3.0,
    benchmark_minutes: float = 15.0,
    report_seconds: float = 10.0,
    about: dict[str, Any] | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda message: None,
) -> bool:
    """Train MD-Net on photographs; `out/best.onnx` is the best model so far, `out/checkpoint.pt` where to go on.

    Parameters
    ----------
    images : list of path
        Photographs; what cannot be read is named through `say` and left out.
    out : path
        A folder.
    recipe : Recipe
        Ignored on `resume`, which goes on with the checkpoint's.
    hours, steps : float, int, optional
        How long, earlier sessions included: exactly one of them. Steps make a training repeatable to the last bit,
        interrupted or not; hours fit it into a night.
    start : path, optional
        Begin with the weights of this model or checkpoint. Tensors of another shape start anew.
    resume : bool
        Go on from `out/checkpoint.pt`, if there is one.
    development : list of path
        Folders in HPatches' layout on which the weights are judged, besides photographs that are held out. Where a
        resumed training is judged on something else than before, the best model so far starts anew.
    workers : int
        Processes that make pairs.
    checkpoint_minutes, benchmark_minutes, report_seconds : float
        How often.
    about : dict, optional
        Plain values that go into the exported models.
    report, say : callable
        Called in the first process only; `say` with lines for a person.

    Returns
    -------
    finished : bool
        False if a signal ended it early; the checkpoint is written.

    Raises
    ------
    InvalidInputError
        If there are too few photographs, the pairs are too small for so many sets, or the network of `start` has
        another shape.
    ImageError
        If no photograph can be used.
    StorageError
        If `start` is missing or no model, `out` cannot be written, or holds a training while `resume` is not set.
    TrainingError
        If the loss is not finite any more; the last checkpoint stays.
    """
    if (hours is None) == (steps is None):
        raise InvalidInputError("give either hours or steps")
    _keep_memory()
    with world() as where, _stopping() as stopped, ExitStack() as stack:
        checkpoint = out / "checkpoint.pt"
        saved = load_checkpoint(checkpoint) if resume and checkpoint.exists() else None
        if saved is None and checkpoint.exists():
            raise StorageError(
                f"{checkpoint}: there is a training here already; --resume goes on, or take another folder"
            )
        if saved is not None:
            recipe = recipe_from(saved["recipe"])
        most = max(recipe.network.sets)
        window = recipe.objective.window_of(most)
        if 2 * window > recipe.warps.size:
            raise InvalidInputError(
                f"pairs of {recipe.warps.size} px are too small for windows of {window} px, which "
                f"{most} sets need; give a crop of at least {2 * window}"
            )
        main = where.rank == 0
        torch.manual_seed(recipe.seed)
        network = MDNet(recipe.network)
        if start is not None and saved is None:
            _start_from(network, start)
        state = State(network, recipe, where)
        stack.callback(state.part)
        if saved is not None:
            state.restore(saved)
        if state.share(hours, steps) >= 1:
            option = "hours" if steps is None else "steps"
            done = f"{state.seconds / 3600:.2f}" if steps is None else state.step
            if main:
                say(f"{done} {option} are done already; a greater --{option} prolongs the training")
            return True

        photographs = Photographs(images)
        for message in photographs.drop_unreadable(LEAST_EDGE):
            if main:
                say(f"left out: {message}")
        if not photographs.paths:
            raise ImageError(
                f"{images[0].parent}: no usable photograph is left; they must be readable images of at least "
                f"{LEAST_EDGE} pixels along the short edge"
            )
        photographs.paths, held_out = split(photographs.paths)

        benchmark = Development(Photographs(held_out), development) if main else None
        if benchmark is not None:
            if state.judged_on not in ("", benchmark.digest):
                say("the weights are judged on other pictures than before: the best model so far starts anew")
                state.best = -math.inf
            state.judged_on = benchmark.digest
            say(
                f"{len(photographs.paths)} photographs to learn from, judged on {benchmark} every "
                f"{benchmark_minutes:g} minutes; on {_devices(where)}"
            )
        about = {
            "recipe": recipe_as_dict(recipe),
            "training_data": f"{len(photographs.paths)} photographs, synthetic pairs",
        } | (about or {})
        return _steps(
            state, photographs, out, benchmark, about,
            hours=hours, steps=steps, workers=workers, stopped=stopped, report=report, say=say,
            every=(checkpoint_minutes * 60, benchmark_minutes * 60, report_seconds),
        )  # fmt: skip


def _steps(
    state: State,
    photographs: Photographs,
    out: Path,
    benchmark: Development | None,
    about: dict[str, Any],
    *,
    hours: float | None,
    steps: int | None,
    workers: int,
    stopped: Callable[[], bool],
    report: Callable[[Progress], None],
    say: Callable[[str], None],
    every: tuple[float, float, float],
) -> bool:
    recipe, where = state.recipe, state.where
    pairs = Pairs(photographs, recipe.warps, recipe.seed)
    stream = batches(pairs, recipe.batch, state.step, rank=where.rank, world=where.size, workers=workers)
    before, begun = state.seconds, time.monotonic()
    saved = judged = told = begun
    tally, count, waited = dict[str, float](), 0, 0.0

    def tell(figures: dict[str, Figures], best: bool) -> None:
        nonlocal tally, count, waited, told
        now = time.monotonic()
        spent = max(now - told, 1e-9)
        progress = Progress(
            state.step, state.step * recipe.batch * where.size, state.seconds, share,
            {name: value / max(count, 1) for name, value in tally.items()},
            count * recipe.batch * where.size / spent, waited / spent, figures, best,
        )  # fmt: skip
        tally, count, waited, told = {}, 0, 0.0, now
        report(progress)

    def judge() -> None:
        assert benchmark is not None
        nonlocal told
        figures = benchmark(extractor_of(state.average))
        score = sum(f.score for f in figures.values()) / len(figures)
        best = score > state.best
        if best:
            summary = {name: {k: round(v, 4) for k, v in f._asdict().items()} for name, f in figures.items()}
            try:
                save_model(state.average, out / "best.onnx", about | state.progress() | {"development": summary})
                state.best = score
            except StorageError as error:
                say(f"{one_line(error)}; training goes on, the best model before stays")
        tell(figures, best)
        told = time.monotonic()

    share = 0.0
    while True:
        if benchmark is not None and count and time.monotonic() - told > every[2]:
            tell({}, False)
        state.seconds = before + time.monotonic() - begun
        share, stop = agree([state.share(hours, steps), float(stopped())], where)
        now = time.monotonic()
        if benchmark is not None:
            over = share >= 1
            if now - judged > every[1] or over:
                if count:
                    tell({}, False)
                judge()
                judged = time.monotonic()
            if now - saved > every[0] or over or stop:
                try:
                    state.save(out / "checkpoint.pt", about)
                except StorageError as error:
                    if over or stop:
                        raise
                    say(f"{one_line(error)}; training goes on, the checkpoint before stays")
                saved = time.monotonic()
        if share >= 1 or stop:
            return share >= 1
        asked = time.monotonic()
        batch = next(stream)
        waited += time.monotonic() - asked
        for name, value in state.advance(batch, share).items():
            tally[name] = tally.get(name, 0.0) + float(value)
        count += 1


def _devices(where: World) -> str:
    if where.device.type == "cuda":
        each = torch.cuda.get_device_name(where.device)
    else:
        each = f"the CPU with {torch.get_num_threads()} threads"
    return each if where.size == 1 else f"{where.size} processes, each on {each}"


def _start_from(network: MDNet, path: Path) -> None:
    """Take over all tensors but those of a detection head for another number of sets."""
    _, state, _ = read_model(path)
    own = network.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    for name, value in own.items():
        if value.is_floating_point() and name not in fitting and not name.startswith("detect"):
            raise InvalidInputError(f"{path}: its network has another shape ({name}); start with one of the same shape")
    network.load_state_dict(fitting, strict=False)


def _keep_memory() -> None:
    """Let glibc keep the big blocks that a step frees: faulting them in at every step takes a tenth of the time."""
    with suppress(OSError, AttributeError):  # another system's C library
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**28)):
            libc.mallopt(option, value)


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or Ctrl-C has asked to stop: the step is finished and saved first. A second one stops at once."""
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    try:
        old = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread: then nobody sends us signals
        old = {}
    try:
        yield lambda: asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
