"""`tiepoints bench trajectory`."""

from __future__ import annotations

from pathlib import Path

import click

from ..numbers import FloatRange, IntRange
from ..options import examples
from .options import check_reports, deliver, report_options


@click.command(
    "trajectory",
    epilog=examples("tiepoints bench trajectory estimate.txt --truth groundtruth.txt --out trajectory.html"),
)
@click.argument("estimates", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--truth", required=True, type=click.Path(path_type=Path), help="The true trajectory, in the estimates' format."
)
@click.option(
    "--align",
    type=click.Choice(["sim3", "se3", "none"]),
    default="sim3",
    show_default=True,
    help="What the estimate is moved by first: sim3 with scale, for one camera; se3 without.",
)
@click.option(
    "--max-difference",
    type=FloatRange(min=0),
    default=0.02,
    show_default=True,
    help="Seconds by which the times of an estimated and a true pose may differ (TUM).",
)
@click.option(
    "--delta",
    type=IntRange(min=1),
    default=1,
    show_default=True,
    help="Frames between the poses whose relative motion RPE compares.",
)
@report_options
def command(
    estimates: tuple[Path, ...],
    truth: Path,
    align: str,
    max_difference: float,
    delta: int,
    outs: tuple[Path, ...],
    details: Path | None,
    as_json: bool,
) -> None:
    """Absolute trajectory error (ATE) and relative pose error (RPE) of ESTIMATES, as the evo library computes them.

    Files are in TUM's format (timestamp tx ty tz qx qy qz qw, poses are found by their times) or KITTI's (12 numbers a
    line, as many lines in both files); in both, poses map the camera to the world.
    """
    check_reports(outs, details)
    from ...benchmarks.trajectories import evaluate_trajectories, read_trajectory

    names = [path.stem for path in estimates]
    labels = [path.stem if names.count(path.stem) == 1 else str(path) for path in estimates]
    if len(set(labels)) < len(labels):
        raise click.UsageError("the same estimate is given twice")
    report = evaluate_trajectories(
        dict(zip(labels, estimates, strict=True)),
        read_trajectory(truth),
        align=align,  # type: ignore[arg-type] # click allows no other
        max_difference=max_difference,
        delta=delta,
    )
    deliver(report, outs, details, as_json)
