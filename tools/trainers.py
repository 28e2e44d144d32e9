"""What the scripts that train networks of other methods share: options, and what a file says of its training."""

from __future__ import annotations

import argparse
from datetime import date
from typing import Any

import torch


def options_of(doc: str | None, *, minutes: float) -> argparse.ArgumentParser:
    """A parser with the options that all trainings have; `parsed` reads them."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options that were given; torch has its threads and its seed from them."""
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    return options


def about(name: str, options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """What the file of a network says of itself."""
    return {
        "name": name,
        "note": "trained by tiepoints, not the authors' weights",
        "licence": "Apache-2.0",
        "minutes": options.minutes,
        "threads": options.threads,
        "seed": options.seed,
        "date": date.today().isoformat(),
        **more,
    }


def say(line: str) -> None:
    """Print a line at once, also into a file."""
    print(line, flush=True)
