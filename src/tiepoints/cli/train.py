"""`tiepoints train`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .numbers import FloatRange, IntRange
from .options import Setting, examples

_FEW_PAIRS = 100_000  # an hour or more of a plain CPU. Ours.

if TYPE_CHECKING:
    from ..training.loop import Progress
    from ..training.recipe import Recipe


@click.command(
    "train",
    epilog=examples(
        "tiepoints train --images photos/ --hours 8 --out runs/mine",
        "tiepoints train --images photos/ --from mdnet --hours 1 --out runs/tuned",
        "tiepoints train --images photos/ --pairs views:scenes/ --out runs/mine",
    ),
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="A folder of photographs, with all below it; repeatable. Hundreds are enough, any subject.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/mdnet"),
    show_default=True,
    help="Folder for best.onnx, checkpoint.pt and the TensorBoard logs; made if missing.",
)
@click.option(
    "--hours",
    type=FloatRange(min=0, min_open=True),
    help="How long it takes in all, with reading the photographs, a teacher's values and judging the result; the steps "
    "get at least a quarter.  [default: 8]",
)
@click.option("--steps", type=IntRange(min=1), help="How long in all, in steps: repeatable to the last bit.")
@click.option("--resume", is_flag=True, help="Go on from --out's checkpoint, with its recipe, if there is one.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    help="An extractor whose descriptors and scores the network learns to predict, e.g. aliked-n16; repeatable.  "
    "[default: learn from the photographs alone]",
)
@click.option(
    "--network",
    type=click.Choice(["mdnet", "mdnet-small", "mdnet-large"]),
    default="mdnet",
    show_default=True,
    help="Shape of the network; --from brings its own.",
)
@click.option(
    "--sets",
    type=IntRange(1, 255),
    multiple=True,
    help="k, the number of complementary sets; repeatable: a head for each.  [default: 2, or those of --from]",
)
@click.option(
    "--from",
    "start",
    type=click.Path(path_type=Path),
    help="Start with these weights: mdnet, mdnet-small or mdnet-large for the released ones, or a file (.onnx or .pt). "
    "Minutes help then, where from nothing it takes hours.",
)
@click.option("--heads-only", is_flag=True, help="Train the detection heads only, on the network of --from.")
@click.option(
    "--trunk-rate",
    type=FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="Learning rate of all but the detection heads, as a share of --learning-rate; --heads-only is 0.",
)
@click.option("--batch", type=IntRange(min=1), default=8, show_default=True, help="Pairs a step and process.")
@click.option(
    "--learning-rate",
    type=FloatRange(min=0, min_open=True),
    default=2e-3,
    show_default=True,
    help="Learning rate of AdamW: that of most steps. It warms up from zero, and falls to zero at the end.",
)
@click.option("--crop", type=IntRange(min=64), default=256, show_default=True, help="Edge of the pairs, pixels.")
@click.option(
    "--loss",
    "losses",
    type=Setting(),
    multiple=True,
    help="A loss and its weight, for instance intersections=0; repeatable. similarity, peaky, intersections, "
    "unreliable, triplet, entropy, reprojection, balance; with a teacher heights, floor, distance, ranking.",
)
@click.option(
    "--dev",
    "development",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A folder to judge the weights on, besides photographs that are held out, in the layout of HPatches or WxBS, "
    "with cameras.csv, or of one view in other light; repeatable.",
)
@click.option(
    "--benchmark-minutes",
    type=FloatRange(min=0.1),
    default=15.0,
    show_default=True,
    help="Judge the weights every so many minutes.",
)
@click.option(
    "--checkpoint-minutes",
    type=FloatRange(min=0.01),
    default=3.0,
    show_default=True,
    help="Save a checkpoint every so many minutes.",
)
@click.option(
    "--pairs",
    "sources",
    multiple=True,
    metavar="static:DIR|views:DIR",
    help="Real pairs beside the warped ones: each folder at or below DIR holds photographs of one camera that did not "
    "move, by day and night, in all seasons (static), or photographs of a scene and its COLMAP model, as "
    "`tiepoints reconstruct` writes it (views); repeatable.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for decoded photographs and teachers' values, shared by runs.  [default: training-cache beside --out]",
)
@click.option("--cache-gb", type=FloatRange(min=0), default=40.0, show_default=True, help="Bound of --cache.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Of the convolutions; auto is bfloat16 on CUDA and on CPUs that have it (AMX, AVX-512 BF16).",
)
@click.option("--prepare-only", is_flag=True, help="Fill --cache, by photographs and teacher, and stop.")
@click.option("--compile", "compiled", is_flag=True, help="Translate the network by torch.compile first.")
@click.option(
    "--seed",
    type=IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of all random choices.",
)
@click.option("--about", type=Setting(), multiple=True, help="What the model's file shall say, e.g. licence=CC0-1.0.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document a line for each report instead of text.")
def command(
    images: tuple[Path, ...],
    out: Path,
    hours: float | None,
    steps: int | None,
    resume: bool,
    teachers: tuple[str, ...],
    network: str,
    sets: tuple[int, ...],
    start: Path | None,
    heads_only: bool,
    trunk_rate: float,
    batch: int,
    learning_rate: float,
    crop: int,
    losses: tuple[tuple[str, Any], ...],
    development: tuple[Path, ...],
    benchmark_minutes: float,
    checkpoint_minutes: float,
    sources: tuple[str, ...],
    cache: Path | None,
    cache_gb: float,
    precision: str,
    prepare_only: bool,
    compiled: bool,
    seed: int,
    about: tuple[tuple[str, Any], ...],
    as_json: bool,
) -> None:
    """Train MD-Net on your own photographs, overnight on a plain CPU, or on CUDA where there is one.

    Any interruption is safe: Ctrl-C and SIGTERM save a checkpoint first, and --resume goes on from it. Several
    processes or machines: start it by `torchrun -m tiepoints train ...`.
    """
    if hours is not None and steps is not None:
        raise click.UsageError("give --hours or --steps, not both")
    if heads_only and start is None and not resume:
        raise click.UsageError("--heads-only needs --from: the network whose heads are trained")
    from ..images import find_images
    from ..optional import require

    require("torch", "training", "train")
    from ..errors import TiepointsError
    from ..training.loop import train
    from ..training.memory import keep_memory

    kinds: dict[str, list[str]] = {"static": [], "views": []}
    for source in sources:
        kind, _, folder = source.partition(":")
        if kind not in kinds or not folder:
            raise click.UsageError(f"--pairs {source}: there is no such kind of pairs, only static:DIR and views:DIR")
        kinds[kind].append(folder)
    paths = find_images(images)
    static = find_images(kinds["static"])
    recipe = _recipe(
        start,
        network,
        sets,
        losses,
        crop,
        teachers=teachers,
        trunk_rate=0.0 if heads_only else trunk_rate,
        batch=batch,
        learning_rate=learning_rate,
        precision=precision,
        seed=seed,
    )
    keep_memory()
    if resume and (out / "checkpoint.pt").exists():
        _refuse_another_recipe(out / "checkpoint.pt", recipe)
    elif resume:
        click.echo(f"tiepoints: {out}: no checkpoint yet, a new training starts", err=True)
    last: list[Progress] = []
    with _reporting(out, as_json, last) as report:
        finished = train(
            paths,
            out,
            recipe,
            hours=(hours or 8.0) if steps is None else None,
            steps=steps,
            start=start,
            resume=resume,
            development=list(development),
            static=static,
            views=[Path(folder) for folder in kinds["views"]],
            cache=cache,
            cache_bytes=int(cache_gb * 2**30),
            prepare_only=prepare_only,
            compiled=compiled,
            checkpoint_minutes=checkpoint_minutes,
            benchmark_minutes=benchmark_minutes,
            about=dict(about),
            report=report,
            say=lambda message: click.echo(f"tiepoints: {message}", err=True),
        )
    if not finished:
        checkpoint = out / "checkpoint.pt"
        message = f"interrupted; {checkpoint} is saved, go on with --resume"
        if not (out / "best.onnx").exists():
            message += f"; `tiepoints export {checkpoint} --out FILE.onnx` makes a model of it"
        raise TiepointsError(message)
    if last and last[0].pairs < _FEW_PAIRS and start is None and not resume:
        click.echo(
            f"tiepoints: {last[0].pairs} pairs from nothing are too few for a useful result, a night on a CPU makes "
            "hundreds of thousands; --from mdnet goes on from the released weights",
            err=True,
        )
    if not as_json and not prepare_only and (out / "best.onnx").exists():
        click.echo(f"wrote {out / 'best.onnx'}; use it with -O weights={out / 'best.onnx'}")


def _recipe(
    start: Path | None,
    size: str,
    sets: tuple[int, ...],
    losses: tuple[tuple[str, Any], ...],
    crop: int,
    **values: Any,
) -> Recipe:
    from dataclasses import replace

    from ..training.export import read_model
    from ..training.network import SIZES
    from ..training.objective import LOSSES, Objective
    from ..training.recipe import Recipe
    from ..training.warps import Warps

    for name, value in losses:
        if name not in LOSSES:
            raise click.UsageError(f"--loss {name}: there is no such loss, only {', '.join(LOSSES)}")
        if not isinstance(value, int | float) or value < 0:
            raise click.UsageError(f"--loss {name}={value}: a weight is a number that is not negative")
    network = SIZES[size] if start is None else read_model(start)[0]
    if sets or start is None:
        network = replace(network, sets=sets or (2,))
    factors: dict[str, Any] = {name: float(value) for name, value in losses}
    # A teacher's values keep their meaning under stronger warps, which descriptors learn from photographs alone badly.
    warps = Warps(size=crop - crop % 32, strong=0.4 if values["teachers"] else 0.0)
    return Recipe(network=network, objective=replace(Objective(), **factors), warps=warps, **values)


def _refuse_another_recipe(checkpoint: Path, recipe: Recipe) -> None:
    """A resumed training goes on with its recipe; an option that asks for another one must not be ignored silently."""
    from ..training.recipe import recipe_from
    from ..training.state import load_checkpoint

    saved = recipe_from(load_checkpoint(checkpoint)["recipe"])
    both: dict[str, tuple[object, object]] = {
        "sets": (recipe.network.sets, saved.network.sets),
        "heads_only": (recipe.heads_only, saved.heads_only),
        "trunk_rate": (recipe.trunk_rate, saved.trunk_rate),
        "teachers": (recipe.teachers, saved.teachers),
        "precision": (recipe.precision, saved.precision),
        "batch": (recipe.batch, saved.batch),
        "learning_rate": (recipe.learning_rate, saved.learning_rate),
        "crop": (recipe.warps.size, saved.warps.size),
        "losses": (recipe.objective, saved.objective),
        "seed": (recipe.seed, saved.seed),
    }
    context = click.get_current_context()
    for name, (wanted, had) in both.items():
        if wanted != had and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            options = {"losses": "--loss", "teachers": "--teacher"}
            option = options.get(name, "--" + name.replace("_", "-"))
            shown = ", ".join(map(str, had)) if isinstance(had, tuple) else had
            was = "" if name in ("losses", "heads_only") else f", {shown or 'none'}"
            raise click.UsageError(
                f"{option}: {checkpoint} was begun with another value{was}, and goes on with it; leave {option} out, "
                "or start a new training in another --out"
            )


@contextmanager
def _reporting(out: Path, as_json: bool, last: list[Progress]) -> Iterator[Callable[[Progress], None]]:
    """Where reports go: the terminal (or JSON lines), TensorBoard, and the last one to `last`."""
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = None

    def report(progress: Progress) -> None:
        nonlocal writer
        last[:] = [progress]
        if writer is None:
            writer = SummaryWriter(str(out / "tensorboard"), purge_step=progress.step)
        figures = progress.figures
        for name, value in progress.losses.items():
            writer.add_scalar(f"loss/{name}", value, progress.step)
        for name, values in figures.items():
            for key, value in values.items():
                writer.add_scalar(f"{name}/{key}", value, progress.step)
        if not figures:
            writer.add_scalar("speed/pairs_per_second", progress.pairs_per_second, progress.step)
            writer.add_scalar("speed/waiting_for_data", progress.waited, progress.step)
        if as_json:
            click.echo(json.dumps(vars(progress) | {"figures": figures}))
        elif figures:
            click.echo(_judged(progress))
        else:
            click.echo(_line(progress))

    try:
        yield report
    finally:
        if writer is not None:
            writer.close()


def _line(progress: Progress) -> str:
    """One line of a log; TensorBoard and --json have each loss by its name."""
    loss = f", loss {progress.losses['total']:.3f}" if "total" in progress.losses else ""
    return f"{progress.share:4.0%} step {progress.step}{loss}, {progress.pairs_per_second:.1f} pairs/s{_left(progress)}"


def _left(progress: Progress) -> str:
    """How long the rest takes, if it goes on as before; nothing before the first step is done."""
    if not progress.share:
        return ""
    left = progress.seconds * (1 - progress.share) / progress.share
    if left < 90:
        return f", {left:.0f} s left"
    return f", {left / 3600:.1f} h left" if left >= 3600 else f", {left / 60:.0f} min left"


def _judged(progress: Progress) -> str:
    shown = {"mma_1": "MMA@1", "mma_3": "MMA@3", "ms_3": "MS@3", "maa": "mAA", "maa_10": "mAA@10"}
    parts = []
    for kind, figures in progress.figures.items():
        part = " ".join(f"{shown.get(k, k)} {v:.3f}" for k, v in figures.items() if k in shown or k == "precision")
        cost = f", cost {figures['cost']:.2f}" if "cost" in figures else ""
        parts.append(f"{kind} {part} ({figures['matches']:.0f} matches{cost})")
    return f"== {progress.pairs} pairs: " + "; ".join(parts) + (" - the best so far" if progress.best else "")
