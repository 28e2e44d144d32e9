"""`tiepoints export`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from .numbers import IntRange
from .options import Setting, examples, json_option, output_option, print_json


@click.command(
    "export",
    epilog=examples(
        "tiepoints export checkpoint.pt --out mine.onnx",
        "tiepoints export mdnet --sets 2 --out plain.onnx",
    ),
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@output_option("--out", required=True, what="The model's file (.onnx).")
@click.option("--about", type=Setting(), multiple=True, help="What the file shall say, e.g. licence=CC0-1.0.")
@click.option(
    "--sets",
    type=IntRange(1, 255),
    multiple=True,
    help="Write the head of so many sets only; repeatable. Other run-times want one: they compute all that there are.",
)
@click.option("--float16", is_flag=True, help="Store the weights in half the space; what is computed stays float32.")
@click.option(
    "--int8",
    "photographs",
    type=click.Path(path_type=Path),
    help="Convolutions of 8 bits, calibrated on the photographs of this folder: faster on CPUs that multiply bytes.",
)
@json_option
def command(
    checkpoint: Path,
    out: Path,
    about: tuple[tuple[str, Any], ...],
    sets: tuple[int, ...],
    float16: bool,
    photographs: Path | None,
    as_json: bool,
) -> None:
    """Write the network of CHECKPOINT (.pt, .onnx, or a released one by its name) as one ONNX file.

    It runs without torch, also in OpenCV, TensorRT and browsers: image (1, 1, H, W), grey in [0, 1], H and W multiples
    of 32, becomes descriptors (1, H/4, W/4, 64) and for k sets cells_k (1, 4 k, H/2, W/2), the heatmaps' logits before
    the pixel shuffle, after which rows and columns are to be blurred by (1, 2, 2, 2, 1) / 8. Load it with
    tiepoints.load("mdnet", weights="mine.onnx") or -O weights=mine.onnx.
    """
    if out.suffix.lower() != ".onnx":
        raise click.BadParameter(f"{out} must end in .onnx", param_hint="--out")
    from ..files import real

    if photographs is not None and real(out) == real(checkpoint):
        raise click.UsageError(f"{out} is the model itself, which 8 bits cannot give back; give another --out")
    from ..optional import require

    require("torch", "export", "train")
    from ..training.export import read_network, save_model

    network, described = read_network(checkpoint, sets)
    config = network.config
    described |= dict(about)
    if photographs is None:
        save_model(network, out, described, half=float16)
    else:
        from ..images import find_images
        from ..training.eight_bit import save_eight_bit

        images = find_images([str(photographs)])
        with tempfile.TemporaryDirectory(prefix="tiepoints-export-") as folder:
            whole = Path(folder) / "float32.onnx"
            save_model(network, whole, described)
            save_eight_bit(whole, images, out)
    if as_json:
        print_json({"out": str(out), "sets": list(config.sets), "descriptor_size": config.descriptor_size} | described)
    else:
        heads = ", ".join(map(str, config.sets))
        click.echo(f"wrote {out}: {heads} sets, {config.descriptor_size}-D, {out.stat().st_size / 1e6:.1f} MB")
