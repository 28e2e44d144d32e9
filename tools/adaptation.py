"""What going on from the released weights brings for another kind of images: pages as a scanner sees them.

    python tools/adaptation.py make out/pages
    tiepoints train --images out/pages/train --images PHOTOGRAPHS --from mdnet --sets 2 --teacher aliked-n16 \
        --learning-rate 0.0005 --steps 400 --out runs/pages
    python tools/adaptation.py judge out/pages PHOTOGRAPHS mdnet runs/pages/best.onnx rootsift

`make` draws 80 pages to learn from and 30 that are held out: text, tables and line drawings, uneven light, blur, noise.
`judge` prints the figures of warped pairs of the pages held out, and of the photographs that no training learns from
(the same ones that `tiepoints train` sets aside).
"""

from __future__ import annotations

import argparse
import random
import sysconfig
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 640, 480


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make")
    make.add_argument("pages", type=Path)
    compare = commands.add_parser("judge")
    compare.add_argument("pages", type=Path)
    compare.add_argument("photographs", type=Path)
    compare.add_argument("methods", nargs="+", help="Names of extractors, or model files.")
    options = parser.parse_args()
    if options.command == "judge":
        judge(options.pages, options.photographs, options.methods)
        return
    for part, seeds in (("train", range(80)), ("test", range(1000, 1030))):
        (options.pages / part).mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            cv2.imwrite(str(options.pages / part / f"page_{seed:04d}.png"), page(seed))


def page(seed: int) -> NDArray[np.uint8]:
    """A page (480, 640), drawn at twice the size."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    chance, noise = random.Random(seed), np.random.default_rng(seed)
    fonts = sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("DejaVuS*.ttf"))
    fonts = [path for path in fonts if "Display" not in path.name]
    sheet = Image.new("L", (2 * WIDTH, 2 * HEIGHT), 255)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(str(chance.choice(fonts)), chance.choice([14, 18, 22, 28]))
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    lines = chance.choice(sources).read_text(encoding="utf-8", errors="ignore").splitlines()
    first, columns = chance.randrange(max(1, len(lines) - 80)), chance.choice([1, 2])
    for column in range(columns):
        begin = first + 60 * column
        for n, line in enumerate(lines[begin : begin + 60]):
            place = (20 + column * WIDTH, 20 + n * font.size * 1.3)
            draw.text(place, line[: 120 // columns], font=font, fill=chance.choice([0, 0, 40]))
    for _ in range(chance.randrange(4)):
        x, y = chance.randrange(2 * WIDTH - 300), chance.randrange(2 * HEIGHT - 250)
        w, h = chance.randrange(150, 500), chance.randrange(120, 350)
        draw.rectangle([x, y, x + w, y + h], fill=255, outline=0, width=2)
        if chance.random() < 0.5:  # a diagram
            curve = [(x + w * i / 40, y + h / 2 + h * 0.4 * np.sin(i * chance.random() / 2)) for i in range(41)]
            draw.line(curve, fill=0, width=3)
            for i in range(5):
                draw.line([(x, y + h * i / 5), (x + w, y + h * i / 5)], fill=150)
            continue
        for _ in range(chance.randrange(3, 9)):
            ends = [(x + chance.random() * w, y + chance.random() * h) for _ in range(2)]
            draw.line(ends, fill=0, width=chance.randrange(1, 5))
        for _ in range(chance.randrange(5)):
            a, b, r = x + chance.random() * w, y + chance.random() * h, chance.randrange(5, 60)
            draw.ellipse([a - r, b - r, a + r, b + r], outline=0, width=2)
    grey = np.asarray(sheet.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS), np.float32)
    row, column_of = np.mgrid[:HEIGHT, :WIDTH]
    shade = 1 - 0.25 * noise.random() * column_of / WIDTH - 0.25 * noise.random() * row / HEIGHT
    blurred = cv2.GaussianBlur(grey, (0, 0), 0.3 + 0.7 * noise.random())
    seen = blurred * shade * (0.7 + 0.3 * noise.random()) + noise.normal(0, 2 + 4 * noise.random(), grey.shape)
    return np.clip(seen, 0, 255).astype(np.uint8)


def judge(pages: Path, photographs: Path, methods: list[str]) -> None:
    """Print a row for each method and kind of images."""
    import tempfile

    import torch

    import tiepoints as tp
    from tiepoints.images import find_images
    from tiepoints.training.cache import ArrayCache
    from tiepoints.training.development import Development
    from tiepoints.training.photographs import prepare, split

    print("| images | method | MMA@1 | MMA@3 | MS@3 | rep@3 |\n|---|---|---|---|---|---|")
    kinds = {"pages": find_images([pages / "test"]), "photographs": split(find_images([photographs]))[1]}
    with tempfile.TemporaryDirectory() as folder:
        for kind, paths in kinds.items():
            held_out, _ = prepare(paths, ArrayCache(Path(folder), 2**30), torch.device("cpu"), rank=0, world=1)
            development = Development(held_out, [])
            for method in methods:
                extractor = tp.load("mdnet", weights=method) if method.endswith(".onnx") else tp.load(method)
                found = development(extractor)["synthetic"]
                cells = " | ".join(f"{found[name]:.3f}".lstrip("0") for name in ("mma_1", "mma_3", "ms_3", "rep_3"))
                print(f"| {kind} | {method} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
