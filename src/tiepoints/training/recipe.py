"""Everything that decides what a training makes of its photographs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from .network import Config
from .objective import Objective
from .pairs import Warps

__all__ = ["Recipe", "recipe_as_dict", "recipe_from"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training makes of its photographs. All values are ours.

    Parameters
    ----------
    network, objective, warps : Config, Objective, Warps
        The shape of the network, the losses, and how pairs are made.
    batch : int
        Pairs a step, in each process.
    learning_rate, weight_decay : float
        Of AdamW.
    rise : int
        Steps in which the learning rate rises from 0.
    fall : float
        The last share of the training, in which it falls to 0; in between it stays, so that a training can be
        prolonged.
    average : float
        Decay of the moving average of the weights, which is what is judged and exported.
    clip : float
        Longest gradient.
    heads_only : bool
        Train the detection head and leave the rest as it is: other numbers of sets from one backbone.
    seed : int
    """

    network: Config = field(default_factory=Config)
    objective: Objective = field(default_factory=Objective)
    warps: Warps = field(default_factory=Warps)
    batch: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    rise: int = 300
    fall: float = 0.3
    average: float = 0.998
    clip: float = 1.0
    heads_only: bool = False
    seed: int = 0


def recipe_as_dict(recipe: Recipe) -> dict[str, Any]:
    """Plain values, for checkpoints and models."""
    return asdict(recipe) | {"network": recipe.network.as_dict()}


def recipe_from(values: dict[str, Any]) -> Recipe:
    """The inverse of `recipe_as_dict`."""
    parts: dict[str, Callable[[Any], Any]] = {
        "network": Config.from_dict,
        "objective": lambda v: Objective(**v),
        "warps": lambda v: Warps(**v),
    }
    settings: dict[str, Any] = {name: parts[name](value) if name in parts else value for name, value in values.items()}
    return Recipe(**settings)
