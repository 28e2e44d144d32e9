"""`tiepoints match`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from .options import (
    check_not_an_input,
    extractor_options,
    json_option,
    make_extractor,
    output_option,
    picture_option,
    print_json,
)


@click.command("match", epilog="Example: tiepoints match a.jpg b.jpg --plot matches.png --out matches.npz")
@click.argument("image_a", type=click.Path(path_type=Path))
@click.argument("image_b", type=click.Path(path_type=Path))
@extractor_options
@click.option(
    "--ratio",
    type=click.FloatRange(0, 1, min_open=True),
    help="Keep matches whose distance is at most this times that of the second nearest; 0.8 to 0.9 is usual for SIFT.",
)
@click.option("--min-similarity", type=click.FloatRange(-1, 1), help="Keep matches of at least this similarity.")
@click.option(
    "--geometry",
    type=click.Choice(["fundamental", "homography", "none"]),
    default="fundamental",
    show_default=True,
    help="What verifies the matches: fundamental for any rigid scene, homography for a plane or a turning camera.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(min=0, min_open=True),
    help="How far, in pixels, an inlier may lie from the model.  [default: 1 for fundamental, 3 for homography]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random samples of the verification.")
@picture_option("Write a picture of the inliers (.png, .jpg).")
@output_option("--out", what="Write the matches: .npz (arrays), or .csv (a row each: xa, ya, xb, yb, score, inlier).")
@json_option
def command(
    image_a: Path,
    image_b: Path,
    name: str,
    max_keypoints: int,
    max_size: int | None,
    settings: tuple[tuple[str, Any], ...],
    ratio: float | None,
    min_similarity: float | None,
    geometry: str,
    threshold: float | None,
    seed: int,
    plot: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Find verified tie points between IMAGE_A and IMAGE_B.

    Features of both images are matched by mutual nearest neighbours and verified by a geometric model; what agrees with
    it are the inliers. Where they are no more than unrelated images would give, the last line says so.
    """
    if out is not None and out.suffix not in (".npz", ".csv"):
        raise click.BadParameter(f"{out} must end in .npz or .csv", param_hint="--out")
    check_not_an_input((plot, out), (image_a, image_b))

    from ..images import read
    from ..matching import match

    times: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        times[stage] = times.get(stage, 0.0) + (now - clock) * 1000
        clock = now

    extractor = make_extractor(name, max_keypoints, max_size, settings)
    lap("load")
    pixels_a, pixels_b = read(image_a), read(image_b)
    lap("read")
    a, b = extractor(pixels_a), extractor(pixels_b)
    lap("extract")
    matches = match(a, b, ratio=ratio, min_similarity=min_similarity)
    lap("match")
    threshold = {"fundamental": 1.0, "homography": 3.0}.get(geometry) if threshold is None else threshold
    model = _verify(geometry, a, b, matches, threshold, seed)
    chance = None if model is None else _is_chance(model, threshold, b.image_size)
    lap("verify")

    if plot is not None:
        from ..plot import plot_matches, save_image

        inliers = None if model is None else model.inliers
        save_image(plot, plot_matches(pixels_a, pixels_b, a, b, matches, inliers))
    if out is not None:
        _write(out, a, b, matches, model)

    result: dict[str, Any] = {
        "extractor": name,
        "images": [
            {"path": str(path), "width": f.image_size[0], "height": f.image_size[1], "keypoints": len(f)}
            for path, f in ((image_a, a), (image_b, b))
        ],
        "matches": len(matches),
        "geometry": geometry,
        "inliers": None if model is None else model.num_inliers,
        "model": None if model is None or model.matrix is None else model.matrix.tolist(),
        "more_than_chance": None if chance is None else not chance,
        "times_ms": {stage: round(value, 2) for stage, value in times.items()},
        "plot": None if plot is None else str(plot),
        "out": None if out is None else str(out),
    }
    if as_json:
        print_json(result)
    else:
        _print(result)


def _verify(geometry: str, a: Any, b: Any, matches: Any, threshold: float | None, seed: int) -> Any:
    if geometry == "none":
        return None
    from .. import geometry as models

    estimate: Any = models.homography if geometry == "homography" else models.fundamental
    return estimate(a, b, matches, threshold=threshold, seed=seed)


def _is_chance(model: Any, threshold: Any, size: tuple[int, int]) -> bool:
    from ..geometry import log_nfa

    return log_nfa(model, threshold, size) > 0


def _write(out: Path, a: Any, b: Any, matches: Any, model: Any) -> None:
    if out.suffix == ".npz":
        from ..storage import save_matches

        points_a, points_b = matches.points(a, b)
        known = {} if model is None else {"inliers": model.inliers, "model": model.matrix}
        save_matches(out, matches, points_a=points_a, points_b=points_b, **known)
        return
    import csv

    from ..files import replacing

    inliers = [""] * len(matches) if model is None else model.inliers.astype(int)
    with replacing(out) as temporary, temporary.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["xa", "ya", "xb", "yb", "score", "inlier"])
        for (xa, ya), (xb, yb), score, inlier in zip(*matches.points(a, b), matches.scores, inliers, strict=True):
            rows.writerow([f"{xa:.3f}", f"{ya:.3f}", f"{xb:.3f}", f"{yb:.3f}", f"{score:.4f}", inlier])


def _print(result: dict[str, Any]) -> None:
    times = result["times_ms"]
    for image in result["images"]:
        click.echo(f"{image['keypoints']:6d} keypoints in {image['path']} ({image['width']}x{image['height']})")
    click.echo(f"{result['matches']:6d} matches, mutual nearest neighbours of {result['extractor']}")
    if result["inliers"] is not None:
        share = 100 * result["inliers"] / max(result["matches"], 1)
        click.echo(f"{result['inliers']:6d} inliers ({share:.0f} %) of one {result['geometry']} matrix")
        if not result["more_than_chance"]:
            # MD-Net knows about 30 degrees of rotation and one scale: docs/models.md.
            turned = ", or -e rootsift if one is turned or of another scale" if result["extractor"] == "mdnet" else ""
            click.echo(
                "       NOT VERIFIED: chance alone gives as many; the images may not show the same "
                f"(try --ratio 0.8{turned})"
            )
    click.echo("times: " + ", ".join(f"{stage} {value:.0f} ms" for stage, value in times.items()))
    for kind in ("plot", "out"):
        if result[kind]:
            click.echo(f"wrote {result[kind]}")
