"""Everything that decides what a training makes of its photographs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from .network import Config
from .objective import Objective
from .warps import Warps

__all__ = ["Recipe", "recipe_as_dict", "recipe_from"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training makes of its photographs. All values are ours.

    Parameters
    ----------
    network, objective, warps : Config, Objective, Warps
        The shape of the network, the losses, and how pairs are made.
    teachers : tuple of str
        Extractors whose descriptors the network learns to predict; the first one's scores too. Empty: the network
        learns from photographs alone.
    places : int
        At most so many of the teacher's values an image.
    real : float
        Share of the pairs that are of two photographs, of a static camera or of one scene, where there are some.
    batch : int
        Pairs a step, in each process.
    learning_rate, weight_decay : float
        Of AdamW.
    trunk_rate : float
        Learning rate of all that is not a detection head, as a share of `learning_rate`; 0 leaves it as it is.
    warmup : int
        Steps in which the learning rate rises from 0.
    cooldown : float
        The last share of the training, in which it falls to 0; in between it stays, so that a training can be
        prolonged.
    ema : float
        Decay of the exponential moving average of the weights, which is what is judged and exported.
    grad_clip : float
        Longest gradient.
    precision : {"auto", "float32", "bfloat16"}
        Of the convolutions. "auto" is bfloat16 on CUDA and on CPUs that have it (AMX, AVX-512 BF16), else float32.
    seed : int
    """

    network: Config = field(default_factory=Config)
    objective: Objective = field(default_factory=Objective)
    warps: Warps = field(default_factory=Warps)
    teachers: tuple[str, ...] = ()
    places: int = 320
    real: float = 0.25
    batch: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    trunk_rate: float = 1.0
    warmup: int = 300
    cooldown: float = 0.3
    ema: float = 0.998
    grad_clip: float = 1.0
    precision: str = "auto"
    seed: int = 0

    @property
    def heads_only(self) -> bool:
        """Whether the trunk stays as it is."""
        return self.trunk_rate == 0


def recipe_as_dict(recipe: Recipe) -> dict[str, Any]:
    """Plain values, for checkpoints and models."""
    return asdict(recipe) | {"network": recipe.network.as_dict(), "teachers": list(recipe.teachers)}


def recipe_from(values: dict[str, Any]) -> Recipe:
    """The inverse of `recipe_as_dict`."""
    parts: dict[str, Callable[[Any], Any]] = {
        "network": Config.from_dict,
        "objective": lambda v: Objective(**v),
        "warps": lambda v: Warps(**v),
        "teachers": tuple,
    }
    settings: dict[str, Any] = {name: parts[name](value) if name in parts else value for name, value in values.items()}
    return Recipe(**settings)
