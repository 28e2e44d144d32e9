"""`tiepoints match`."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import counted
from .batch import value_range
from .match_folder import folder_options, many_of, match_folder
from .numbers import FloatRange, IntRange
from .options import (
    check_not_an_input,
    examples,
    extractor_options,
    is_quiet,
    json_option,
    make_extractor,
    make_matcher,
    matcher_options,
    output_option,
    picture_option,
    print_json,
    quiet_option,
    rotation,
    say,
)

if TYPE_CHECKING:
    from ..pair import MatchedPair


@click.command(
    "match",
    epilog=examples(
        "tiepoints match a.jpg b.jpg --max-size 1600 --plot matches.png --out matches.npz",
        "tiepoints match template.png photo.jpg --geometry homography --overlay overlay.png",
        "tiepoints match photos/ --max-size 1600 --out database.db",
        "tiepoints match frames/ --pairs sequential --out matches.h5",
    ),
)
@click.argument(
    "images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE_A IMAGE_B | FOLDER..."
)
@extractor_options
@matcher_options
@click.option(
    "--geometry",
    type=click.Choice(["fundamental", "homography", "none"]),
    default="fundamental",
    show_default=True,
    help="The geometric verification (by RANSAC): fundamental for any rigid scene, homography for a plane or a camera "
    "that only rotates.",
)
@click.option(
    "--threshold",
    type=FloatRange(min=0, min_open=True),
    help="Inlier threshold in pixels.  [default: 1 for fundamental, 3 for homography]",
)
@click.option("--seed", type=IntRange(min=0), default=0, show_default=True, help="Seed of RANSAC's random samples.")
@picture_option("Write a picture of the inliers (.png, .jpg).")
@click.option("--outliers", is_flag=True, help="Draw the other matches too, in red.")
@picture_option("Write IMAGE_A laid on IMAGE_B by the homography.", "--overlay")
@output_option(
    "--out",
    what="Write the matches: .npz (arrays), .csv (a row each: xa, ya, xb, yb, score, inlier), or - for CSV to standard "
    "output; of a FOLDER: .db or .h5.",
)
@folder_options
@json_option
@quiet_option
def command(
    images: tuple[Path, ...],
    name: str,
    max_keypoints: int,
    max_size: int | None,
    settings: tuple[tuple[str, Any], ...],
    matcher: str,
    ratio: float | None,
    min_similarity: float | None,
    geometry: str,
    threshold: float | None,
    seed: int,
    plot: Path | None,
    outliers: bool,
    overlay: Path | None,
    out: Path | None,
    as_json: bool,
    **many: Any,
) -> None:
    """Find verified tie points between IMAGE_A and IMAGE_B, or between all photographs of a FOLDER.

    The features of both images are matched by mutual nearest neighbours: the putative matches. RANSAC verifies them
    by a geometric model; what agrees with it are the inliers. If there are no more of them than chance would give, the
    pair is not verified and the exit code is 1.

    Instead of two images, one FOLDER (or lists, quoted patterns, videos, more images, and all of these together, as for
    `tiepoints extract`) is matched pair by pair into --out: a COLMAP database (.db), or hloc's files (.h5, with the
    features beside it). Finished work is kept, and the same command goes on with it, also when photographs were added.
    What other options, other photographs or another program made is replaced only with --overwrite. The exit code is 1
    where something failed, or no pair is verified.
    """
    several = many_of(images, out)
    if several:
        if plot is not None or overlay is not None or outliers:
            raise click.UsageError(f"--plot, --overlay and --outliers take two images, not {several}")
        if not match_folder(
            lambda: make_extractor(name, max_keypoints, max_size, settings),
            images,
            several,
            {"out": out, "matcher": make_matcher(matcher, ratio, min_similarity), "geometry": geometry}
            | many
            | {"threshold": threshold, "seed": seed, "as_json": as_json},
        ):
            raise SystemExit(1)
        return
    image_a, image_b = images
    _refuse_folder_options(many)
    stream = str(out) == "-"
    if out is not None and not stream and out.suffix.lower() not in (".npz", ".csv"):
        raise click.BadParameter(f"{out} must end in .npz or .csv, or be -", param_hint="--out")
    if stream and as_json:
        raise click.UsageError("--out - and --json both write to standard output; give --out a file")
    if overlay is not None and geometry != "homography":
        raise click.UsageError("--overlay needs --geometry homography")
    check_not_an_input((plot, overlay, None if stream else out), (image_a, image_b))

    from ..images import read
    from ..pair import match_images, rotation_that_matches
    from ..progress import progress_lines

    limits = value_range()
    a, b = ((path if limits is None else read(path, value_range=limits)) for path in (image_a, image_b))
    make = cache(lambda: make_extractor(name, max_keypoints, max_size, settings, rotated=False))
    chosen = make_matcher(matcher, ratio, min_similarity)
    with nullcontext() if as_json or is_quiet() else progress_lines() as progress:
        pair = match_images(
            a,
            b,
            masks=_masks(many["mask"], image_a.name, image_b.name),
            extractor=make,
            matcher=chosen,
            geometry=geometry,
            threshold=threshold,
            rotation=rotation(),
            seed=seed,
            progress=progress,
        )
    written = _write(pair, plot, outliers, overlay, out)
    result = _as_dict(pair, (image_a, image_b), make().metadata.name, matcher.lower(), geometry) | written
    if as_json:
        print_json(result)
    elif not is_quiet():
        missed = pair.verified is False and rotation() is None
        _print(result, rotation_that_matches(pair, make(), chosen) if missed else "", to_error=stream)
    if pair.verified is False:
        raise SystemExit(1)


def _refuse_folder_options(many: dict[str, Any]) -> None:
    """Options of a FOLDER that were given with two images would do nothing."""
    context = click.get_current_context()
    given = [
        option.opts[0]
        for option in context.command.params
        if option.name in many
        and option.name != "mask"
        and context.get_parameter_source(option.name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{', '.join(given)}: for a FOLDER, not for two images")


def _masks(masks: Path | None, a: str, b: str) -> tuple[Path, Path] | None:
    """The two images' masks from a folder, or the one file for both."""
    if masks is None:
        return None
    from ..collection.finding import mask_of

    return mask_of(masks, a), mask_of(masks, b)


def _as_dict(pair: MatchedPair, paths: tuple[Path, Path], name: str, matcher: str, geometry: str) -> dict[str, Any]:
    """What --json prints, but for the files."""
    model, corners = pair.geometry, pair.corners
    known = pair.verified and model is not None and model.matrix is not None
    return {
        "extractor": name,
        "matcher": matcher,
        "images": [
            {"path": str(path), "width": f.image_size[0], "height": f.image_size[1], "keypoints": len(f)}
            for path, f in zip(paths, (pair.a, pair.b), strict=True)
        ],
        "matches": len(pair.matches),
        "geometry": geometry,
        "verified": pair.verified,
        "outcome": None if pair.view is None else pair.view.outcome,
        "why": None if pair.view is None else pair.view.reason,
        "inliers": None if model is None else len(pair.inliers),
        "agreeing": None if model is None else model.num_inliers,
        "on_watermark": 0 if model is None or model.watermark is None else int(model.watermark.sum()),
        "model": model.matrix.tolist() if known and model is not None and model.matrix is not None else None,
        "corners": None if corners is None else corners.round(3).tolist(),
        "times_ms": {stage: round(value, 2) for stage, value in pair.times_ms.items()},
    }


def _write(
    pair: MatchedPair, plot: Path | None, outliers: bool, overlay: Path | None, out: Path | None
) -> dict[str, str | None]:
    """Write what was asked for, and say what was: there is no overlay without a verified homography."""
    if plot is not None:
        from ..plot import save_image

        save_image(plot, pair.plot(outliers=outliers))
    if overlay is not None:
        if pair.verified:
            from ..plot import save_image

            save_image(overlay, pair.overlay())
        else:
            say(f"{overlay} is not written: an overlay needs a verified homography", err=True)
            overlay = None
    if out is not None:
        _write_matches(out, pair)
    files = {"plot": plot, "overlay": overlay, "out": out}
    return {kind: None if path is None else str(path) for kind, path in files.items()}


def _write_matches(out: Path, pair: MatchedPair) -> None:
    import numpy as np

    model, matches = pair.geometry, pair.matches
    # What is not verified has no inliers, whatever agrees with the best model.
    inliers = None if model is None else model.inliers if pair.verified else np.zeros(len(matches), bool)
    points_a, points_b = matches.points(pair.a, pair.b)
    if out.suffix.lower() == ".npz":
        from ..storage import save_matches

        known = {} if model is None else {"inliers": inliers, "model": model.matrix if pair.verified else None}
        save_matches(out, matches, points_a=points_a, points_b=points_b, **known)
        return
    import csv
    import io

    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(["xa", "ya", "xb", "yb", "score", "inlier"])
    marks = [""] * len(matches) if inliers is None else inliers.astype(int).tolist()
    for (xa, ya), (xb, yb), score, mark in zip(points_a, points_b, matches.scores, marks, strict=True):
        rows.writerow([f"{xa:.3f}", f"{ya:.3f}", f"{xb:.3f}", f"{yb:.3f}", f"{score:.4f}", mark])
    if str(out) == "-":
        click.echo(text.getvalue(), nl=False)
        return
    from ..files import write_whole

    write_whole(out, text.getvalue().encode())


def _print(result: dict[str, Any], rotated: str, to_error: bool) -> None:
    """The result in words; `rotated` says how the second image would have to be rotated to match."""

    def tell(text: str) -> None:
        say(text, err=to_error)

    for image in result["images"]:
        tell(f"{counted(image['keypoints'], 'keypoint', 6)} in {image['path']} ({image['width']}x{image['height']})")
    how = "mutual nearest neighbours" if result["matcher"] == "nearest" else f"by {result['matcher']}"
    tell(f"{counted(result['matches'], 'putative match', 6)} of {result['extractor']}, {how}")
    if result["on_watermark"]:
        tell(f"{result['on_watermark']:6d} of them left out: a watermark or a burnt-in label, which does not move")
    model = "homography" if result["geometry"] == "homography" else f"{result['geometry']} matrix"
    if result["verified"]:
        share = 100 * result["inliers"] / max(result["matches"], 1)
        tell(f"{counted(result['inliers'], 'inlier', 6)} ({share:.0f} %) of one {model}")
        if result["why"]:
            fits = "; --geometry homography fits it" if result["outcome"] == "planar" else ""
            tell(f"       {result['why']}{fits}")
    elif result["verified"] is False and (blank := [one["path"] for one in result["images"] if not one["keypoints"]]):
        has, is_it = ("has", "is it") if len(blank) == 1 else ("have", "are they")
        tell(f"NOT VERIFIED: {' and '.join(blank)} {has} no keypoints: {is_it} blank, or all hidden by a mask?")
    elif result["verified"] is False:
        # MD-Net knows changes of scale up to 3, and is weakest at 45 degrees: docs/models.md.
        hint = (
            " or -e rootsift if one is of another scale, or rotated by some 45 degrees"
            if result["extractor"].startswith("mdnet")
            else ""
        )
        tell(
            f"NOT VERIFIED: one {model} explains {counted(result['agreeing'], 'match')}, no more than chance gives; "
            + (
                f"they match if {result['images'][1]['path']} is rotated {rotated}: try --rotation any"
                if rotated
                else f"the images may not show the same (try --ratio 0.8{hint})"
            )
        )
    if result["geometry"] == "homography" and result["model"] is not None:
        for row in result["model"]:
            tell("       " + "".join(f"{value:14.6g}" for value in row))
        if result["corners"] is not None:
            places = ", ".join(f"({x:.1f}, {y:.1f})" for x, y in result["corners"])
            tell(f"corners of the first image in the second: {places}")
    tell("times: " + ", ".join(f"{stage} {value:.0f} ms" for stage, value in result["times_ms"].items()))
    for kind in ("plot", "overlay", "out"):
        if result[kind] not in (None, "-"):
            tell(f"wrote {result[kind]}")
