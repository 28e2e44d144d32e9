"""`tiepoints export`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from .options import Setting, json_option, output_option, print_json


@click.command("export", epilog="Example: tiepoints export runs/mine/checkpoint.pt --out mine.onnx")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@output_option("--out", required=True, what="The model's file (.onnx).")
@click.option("--about", type=Setting(), multiple=True, help="What the file shall say, e.g. licence=CC0-1.0.")
@click.option(
    "--int8",
    "photographs",
    type=click.Path(path_type=Path),
    help="Convolutions of 8 bits, calibrated on the photographs of this folder: faster on CPUs that multiply bytes.",
)
@json_option
def command(
    checkpoint: Path, out: Path, about: tuple[tuple[str, Any], ...], photographs: Path | None, as_json: bool
) -> None:
    """Write the network of CHECKPOINT (.pt, or .onnx) as one ONNX file that runs without torch.

    Load it with tiepoints.load("mdnet", weights="mine.onnx") or -O weights=mine.onnx.
    """
    if out.suffix != ".onnx":
        raise click.BadParameter(f"{out} must end in .onnx", param_hint="--out")
    if photographs is not None and out.resolve() == checkpoint.resolve():
        raise click.UsageError(f"{out} is the model itself, which 8 bits cannot give back; give another --out")
    from ..optional import require

    require("torch", "export", "train")
    from ..training.export import read_model, save_model
    from ..training.network import MDNet

    config, state, described = read_model(checkpoint)
    network = MDNet(config)
    network.load_state_dict(state, strict=False)
    described |= dict(about)
    if photographs is None:
        save_model(network, out, described)
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
        sets = ", ".join(map(str, config.sets))
        click.echo(f"wrote {out}: {sets} sets, {config.descriptor_size}-D, {out.stat().st_size / 1e6:.1f} MB")
