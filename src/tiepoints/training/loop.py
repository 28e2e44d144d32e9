"""The training of MD-Net: steps, schedule, checkpoints, and the development benchmark that picks the best weights."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ..errors import InvalidInputError, StorageError
from ..files import one_line
from .beginning import start_from, usable_photographs, with_teacher
from .cache import ArrayCache
from .development import Development, Figures
from .distributed import World, agree, world
from .export import read_model, save_model
from .network import MDNet
from .pairs import Pairs
from .photographs import split
from .plans import static_groups
from .recipe import Recipe, recipe_as_dict, recipe_from
from .run_time import extractor_of
from .scenes import LEAST_SHARED, covisible, find_scenes
from .state import State, load_checkpoint
from .teacher import Targets, compute_targets, open_teacher

__all__ = ["Progress", "train"]

_LEAST = 0.25  # of the hours: what the steps get where reading and judging take long. Ours.


@dataclass
class Progress:
    """What a training tells from time to time.

    Parameters
    ----------
    step, pairs : int
        So far, earlier sessions included; pairs of all processes.
    seconds : float
        Wall time of the steps so far, earlier sessions included.
    share : float
        Of the whole training, 0 to 1.
    losses : dict
        Means since the last report, by name.
    pairs_per_second : float
    waited : float
        Share of the time spent on making pairs.
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
    figures: Figures = field(default_factory=dict)
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
    static: Sequence[Path] = (),
    views: Sequence[Path] = (),
    cache: Path | None = None,
    cache_bytes: int = 40 * 2**30,
    prepare_only: bool = False,
    compiled: bool = False,
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
        interrupted or not; hours fit it into a night. Reading the photographs, the teacher's values and judging the
        result are in the hours, of which the steps get at least a quarter.
    start : path, optional
        Begin with the weights of this model or checkpoint. Tensors of another shape start anew.
    resume : bool
        Go on from `out/checkpoint.pt`, if there is one.
    development : list of path
        Folders in the layouts of `judges` on which the weights are judged, besides photographs that are held out. Where
        a resumed training is judged on something else than before, the best model so far starts anew.
    static : list of path
        More photographs: those in one folder are of one camera that did not move, at different times.
    views : list of path
        Folders with more photographs, of scenes from several places, and COLMAP's models of them: see `find_scenes`.
    cache : path, optional
        Folder for decoded photographs and teachers' values, which runs share; by default `training-cache` beside
        `out`. What was used longest ago is deleted where it grows beyond `cache_bytes`.
    prepare_only : bool
        Decode the photographs, ask the teacher, and train nothing: what takes time before the first step.
    compiled : bool
        Let torch.compile translate the network: minutes at the start for less time a step.
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
    began = time.monotonic()
    with world() as where, _stopping() as stopped, ExitStack() as stack:
        tell: Callable[[str], None] = say if where.rank == 0 else lambda message: None
        checkpoint = out / "checkpoint.pt"
        saved = load_checkpoint(checkpoint) if resume and checkpoint.exists() else None
        if saved is None and checkpoint.exists():
            raise StorageError(
                f"{checkpoint}: there is a training here already; --resume goes on, or take another folder"
            )
        if saved is not None:
            recipe = recipe_from(saved["recipe"])
            if _share(saved["step"], saved["seconds"], hours, steps, saved.get("reading", 0.0)) >= 1:
                option = "hours" if steps is None else "steps"
                done = (
                    f"{(saved['seconds'] + saved.get('reading', 0.0)) / 3600:.2f}" if steps is None else saved["step"]
                )
                tell(f"{done} {option} are done already; a greater --{option} prolongs the training")
                return True
        _check_size(recipe)
        scenes = [scene for folder in views for scene in find_scenes(folder)]
        for message in (message for scene in scenes for message in scene.wrong):
            tell(f"left out: {message}")
        known = {*images, *static}
        viewed = dict.fromkeys(o.path for scene in scenes for o in scene.photographs if o.path not in known)
        begin = read_model(start)[:2] if start is not None and saved is None else None
        teachers = [open_teacher(name, where.device) for name in recipe.teachers]

        store = ArrayCache(out.absolute().parent / "training-cache" if cache is None else cache, cache_bytes)
        photographs = usable_photographs([*images, *static, *viewed], store, where, tell)
        real = {*static, *(observed.path for scene in scenes for observed in scene.photographs)}
        seen, unseen = split([path for path in photographs.paths if path not in real])
        learned = photographs.chosen([*seen, *(path for path in photographs.paths if path in real)])
        held_out, targets = photographs.chosen(unseen), None
        groups = static_groups(learned, static)
        if static and not groups:
            raise InvalidInputError(
                f"{static[0].parent}: no two photographs of one size in one folder; give a folder for each camera"
            )
        shared = covisible(learned, scenes)
        if views and not shared:
            raise InvalidInputError(
                f"{views[0]}: no two photographs from different places share {LEAST_SHARED} points that a third one "
                "shows too; take more photographs of each scene, and reconstruct it anew"
            )
        network = recipe.network
        if teachers:
            targets = compute_targets(learned, teachers, where, stopped=stopped, say=tell)
            if targets is None:
                tell("the teacher's values so far are kept")
                return False
            if saved is None and not prepare_only:
                network = with_teacher(network, recipe.teachers, targets, begin, tell)
        if prepare_only:
            return True
        if not teachers and saved is None and not recipe.heads_only:
            network = replace(network, teacher="", teacher_size=0)
        recipe = replace(recipe, network=network)
        torch.manual_seed(recipe.seed)
        model = MDNet(network)
        if begin is not None and start is not None:
            start_from(model, begin[1], start)
        if targets is not None and targets.basis is not None:
            model.basis.copy_(targets.basis)
        state = State(model, recipe, where, compiled=compiled)
        stack.callback(state.part)
        if saved is not None:
            state.restore(saved)
        if targets is not None:
            targets = Targets(learned, targets.keys, state.network.teacher_directions()[0])

        benchmark = Development(held_out, development) if where.rank == 0 else None
        if benchmark is not None:
            if state.judged_on not in ("", benchmark.digest):
                say("the weights are judged on other pictures than before: the best model so far starts anew")
                state.best = -math.inf
            state.judged_on = benchmark.digest
            say(
                f"{len(learned)} photographs to learn from, judged on {benchmark} every "
                f"{benchmark_minutes:g} minutes; on {_devices(where)}"
            )
        about = {
            "recipe": recipe_as_dict(recipe),
            "training_data": f"{len(learned)} photographs, synthetic pairs"
            + (f", {len(groups)} static cameras" if groups else "")
            + (f", {len(shared)} pairs from several places" if shared else "")
            + (f", values of {' and '.join(recipe.teachers)}" if recipe.teachers else ""),
        } | (about or {})
        pairs = Pairs(
            learned, recipe.warps, recipe.seed, targets, recipe.places, static=groups, views=shared, real=recipe.real
        )
        state.reading += time.monotonic() - began
        return _steps(
            state, pairs, out, benchmark, about,
            hours=hours, steps=steps, stopped=stopped, report=report, say=say,
            every=(checkpoint_minutes * 60, benchmark_minutes * 60, report_seconds),
        )  # fmt: skip


def _share(step: int, seconds: float, hours: float | None, steps: int | None, beside: float = 0.0) -> float:
    """How much of a training of so many hours or steps is done, 0 to 1; `beside` takes seconds of the hours, too."""
    if steps is not None:
        return min(1.0, step / steps)
    every = (hours or 0) * 3600
    return min(1.0, seconds / max(every - beside, _LEAST * every))


def _check_size(recipe: Recipe) -> None:
    most = max(recipe.network.sets)
    window = recipe.objective.window_of(most)
    if 2 * window > recipe.warps.size:
        raise InvalidInputError(
            f"pairs of {recipe.warps.size} px are too small for windows of {window} px, which {most} sets need; give a "
            f"crop of at least {2 * window}"
        )


def _steps(
    state: State,
    pairs: Pairs,
    out: Path,
    benchmark: Development | None,
    about: dict[str, Any],
    *,
    hours: float | None,
    steps: int | None,
    stopped: Callable[[], bool],
    report: Callable[[Progress], None],
    say: Callable[[str], None],
    every: tuple[float, float, float],
) -> bool:
    recipe, where = state.recipe, state.where
    before, begun = state.seconds, time.monotonic()
    saved = judged = told = begun
    tally, count, waited, judging = dict[str, torch.Tensor](), 0, 0.0, 0.0

    def tell(figures: Figures, best: bool) -> None:
        nonlocal tally, count, waited, told
        now = time.monotonic()
        spent = max(now - told, 1e-9)
        progress = Progress(
            state.step, state.step * recipe.batch * where.size, state.seconds, share,
            {name: float(value) / max(count, 1) for name, value in tally.items()},
            count * recipe.batch * where.size / spent, waited / spent, figures, best,
        )  # fmt: skip
        tally, count, waited, told = {}, 0, 0.0, now
        report(progress)

    def judge() -> None:
        assert benchmark is not None
        nonlocal told, judging
        asked = time.monotonic()
        figures = benchmark(extractor_of(state.average))
        score = benchmark.score(figures)
        best = score > state.best
        if best:
            summary = {kind: {name: round(v, 4) for name, v in found.items()} for kind, found in figures.items()}
            try:
                save_model(state.average, out / "best.onnx", about | state.progress() | {"development": summary})
                state.best = score
            except StorageError as error:
                say(f"{one_line(error)}; training goes on, the best model before stays")
        tell(figures, best)
        told = time.monotonic()
        judging = told - asked

    share = 0.0
    while True:
        state.seconds = before + time.monotonic() - begun
        share = _share(state.step, state.seconds, hours, steps, state.reading + judging)
        if benchmark is not None and count and time.monotonic() - told > every[2]:
            tell({}, False)
        share, stop = agree([share, float(stopped())], where)
        now = time.monotonic()
        if benchmark is not None:
            over = share >= 1
            if now - judged > every[1] or over:
                if count:
                    tell({}, False)
                if over:  # before it is judged: whatever goes wrong there must not lose the last steps
                    state.save(out / "checkpoint.pt", about)
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
        first = (state.step * where.size + where.rank) * recipe.batch
        batch = pairs.batch(range(first, first + recipe.batch))
        waited += time.monotonic() - asked
        for name, value in state.advance(batch, share).items():
            tally[name] = tally[name] + value if name in tally else value  # on the device: nothing waits for it
        count += 1


def _devices(where: World) -> str:
    if where.device.type == "cuda":
        each = torch.cuda.get_device_name(where.device)
    else:
        each = f"the CPU with {torch.get_num_threads()} threads"
    return each if where.size == 1 else f"{where.size} processes, each on {each}"


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
