"""`tiepoints bench imb`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from ..batch import engine_of
from ..numbers import FloatRange, IntRange
from ..options import examples, print_json, say
from .options import (
    check_reports,
    deliver,
    make_methods,
    methods_options,
    progress_bar,
    report_options,
    store_options,
)

_BAGS = "5:100,10:50,25:25"


class _Bags(click.ParamType):  # type: ignore[type-arg] # generic since click 8.5 only
    """SIZE:COUNT,SIZE:COUNT as a dictionary."""

    name = "size:count,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[int, int]:
        try:
            bags = {int(size): int(count) for size, count in (part.split(":") for part in str(value).split(","))}
        except ValueError:
            self.fail(f"{value!r} is not of the form SIZE:COUNT,SIZE:COUNT such as {_BAGS}", param, ctx)
        if any(size < 3 or count < 1 for size, count in bags.items()):
            self.fail(f"{value!r}: a bag has 3 images at least, and there is 1 bag at least", param, ctx)
        return bags


@click.command(
    "imb",
    epilog=examples(
        "tiepoints bench imb --root phototourism -e mdnet -e upright-rootsift --out imb.html",
        "tiepoints bench imb --root strecha --task stereo --ratio 0.85",
        "tiepoints bench imb --root phototourism -e mdnet --task none --export submission",
    ),
)
@click.option(
    "--root",
    "roots",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="A scene's folder, or one that holds scenes: in the benchmark's layout, or with images/ and cameras.csv; "
    "repeatable.",
)
@methods_options
@click.option(
    "--task",
    type=click.Choice(["stereo", "multiview", "both", "none"]),
    default="both",
    show_default=True,
    help="Pairs of images, or bags of images through COLMAP (needs the extra sfm); none only exports.",
)
@click.option(
    "--ratio",
    type=FloatRange(0, 1, min_open=True),
    help="Keep matches whose distance is at most this times that of the second nearest; 1 keeps all.  "
    "[default: the method's, 0.9 or for binary descriptors 0.8]",
)
@click.option(
    "--estimator",
    type=click.Choice(["auto", "degensac", "usac"]),
    default="auto",
    show_default=True,
    help="What finds fundamental matrices. The published one is DEGENSAC (extra bench); without it auto takes USAC.",
)
@click.option(
    "--threshold",
    type=FloatRange(min=0, min_open=True),
    default=0.5,
    show_default=True,
    help="Inlier threshold (px) of the fundamental-matrix track.",
)
@click.option(
    "--essential-threshold",
    type=FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Inlier threshold (px) of the essential-matrix track.",
)
@click.option(
    "--bags",
    type=_Bags(),
    default=_BAGS,
    show_default=True,
    help="How many bags of which sizes; a release's own lists come first.",
)
@click.option(
    "--intrinsics",
    type=click.Choice(["estimated", "known"]),
    default="estimated",
    show_default=True,
    help="Whether COLMAP estimates the focal lengths, as published, or is given the true calibration.",
)
@click.option(
    "--seed",
    type=IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Seed of the bags and of random samples.",
)
@click.option(
    "--export",
    "submission",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the benchmark's submission files of the one method into this folder; made if missing.",
)
@store_options
@report_options
def command(
    roots: tuple[Path, ...],
    specs: tuple[str, ...],
    max_keypoints: int,
    max_size: int | None,
    task: str,
    ratio: float | None,
    estimator: str,
    threshold: float,
    essential_threshold: float,
    bags: dict[int, int],
    intrinsics: str,
    seed: int,
    submission: Path | None,
    store: Path | None,
    jobs: int | None,
    engine: str | None,
    address: str | None,
    outs: tuple[Path, ...],
    details: Path | None,
    as_json: bool,
) -> None:
    """Image Matching Benchmark: poses of pairs, and reconstructions of small bags of images.

    Prints for every scene and in the mean: keypoints NF, inliers NI, repeatability Rep@3, matching score MS@3, stereo
    mAA@5 and mAA@10 on the published track and with known calibration; matches NM, landmarks NL, track length TL,
    trajectory error ATE and mAA@10 of COLMAP's models; and the average mAA. Published figures stand below.

    What is finished is kept in the store: after an interruption the same command goes on.
    """
    check_reports(outs, details)
    if submission is not None and len(specs) > 1:
        raise click.UsageError("--export writes one method's files; give one -e")
    if task == "none" and submission is None:
        raise click.UsageError("--task none only exports; give --export FOLDER")

    if task in ("multiview", "both") and find_spec("pycolmap") is None:
        from ...errors import MissingDependencyError

        # Now, not after the stereo task's hours.
        raise MissingDependencyError(
            "the multiview task needs pycolmap: pip install 'tiepoints[sfm]'; --task stereo works without it"
        )
    from ...benchmarks import default_store
    from ...benchmarks.image_matching import Options, Track, evaluate_image_matching, export_submission
    from ...benchmarks.image_matching.stereo import estimator_for

    methods = make_methods(specs, max_keypoints, max_size)
    folder = store or default_store()
    # COLMAP may end its process: that costs the bag that it was about, not the others.
    where = engine_of(jobs, engine or ("threads" if task == "stereo" else "processes"), address)
    report = None
    written: list[Path] = []
    with progress_bar(quiet=as_json) as progress:
        if task != "none":
            chosen: Any = estimator_for("fundamental") if estimator == "auto" else estimator
            options = Options(
                stereo=task != "multiview",
                multiview=task != "stereo",
                ratio=ratio,
                tracks={
                    "fundamental": Track(chosen, threshold, seed=seed),
                    "essential": Track("poselib", essential_threshold, seed=seed),
                },
                bags=bags,
                intrinsics=intrinsics,  # type: ignore[arg-type] # click allows no other
                seed=seed,
            )
            report = evaluate_image_matching(
                methods,
                roots,
                options=options,
                store=folder,
                engine=where,
                pictures=any(path.suffix.lower() == ".html" for path in outs),
                progress=progress,
            )
        if submission is not None:
            own: dict[str, Any] = {"ratio": ratio, "threshold": threshold, "store": folder, "engine": where}
            written = export_submission(methods[0], roots, submission, progress=progress, **own)
    if report is not None:
        deliver(report, outs, details, as_json)
    elif as_json:
        print_json({"written": [str(path) for path in written]})
    if not as_json:
        for path in written:
            say(f"wrote {path}")
