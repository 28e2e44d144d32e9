"""The state of a training: the network, its moving average, the optimiser; a step, a checkpoint, and back."""

from __future__ import annotations

import copy
import io
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import StorageError, TrainingError
from ..files import read_bytes, write_whole
from .distributed import World, share_statistics
from .network import MDNet
from .objective import Batch, objective
from .recipe import Recipe, recipe_as_dict

__all__ = ["State", "load_checkpoint"]


class State:
    """The network, its moving average, the optimiser, and how far the training is."""

    def __init__(self, network: MDNet, recipe: Recipe, where: World) -> None:
        self.recipe, self.where = recipe, where
        if where.size > 1:
            share_statistics(network)
        self.network = network.to(where.device)
        for parameter in self.network.parameters():
            if parameter.dim() == 4:  # the convolutions' weights; what goes through them is laid out the same way
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        if recipe.heads_only:
            for name, parameter in self.network.named_parameters():
                parameter.requires_grad_(name.startswith("detect"))
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(trained, recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
        self.parallel: nn.Module = self.network
        if where.size > 1:
            self.parallel = nn.parallel.DistributedDataParallel(self.network, broadcast_buffers=False)
        # bf16 halves the time on CUDA and on CPUs with matrix units, and costs a third more on other CPUs.
        self.bf16 = where.device.type == "cuda" or bool(torch.cpu._is_amx_tile_supported())
        self.step, self.seconds, self.best = 0, 0.0, -math.inf
        self.judged_on = ""  # what `best` was reached on, see Development.digest

    def advance(self, batch: Batch, share: float) -> dict[str, Tensor]:
        """One step: the losses by name, and "total"."""
        recipe = self.recipe
        self.network.train()
        if recipe.heads_only:
            for name, module in self.network.named_children():
                module.train(name.startswith("detect"))
        rate = recipe.learning_rate * min((self.step + 1) / recipe.rise, 1) * min((1 - share) / recipe.fall, 1)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batch = Batch(*(x.to(self.where.device, non_blocking=True) for x in batch))
        both = torch.cat([batch.image_a, batch.image_b]).to(memory_format=torch.channels_last)
        with torch.autocast(self.where.device.type, torch.bfloat16, enabled=self.bf16):
            heads, described = self.parallel(both)
        total, parts = torch.zeros((), device=both.device), dict[str, Tensor]()
        for k, logits in heads.items():
            loss, of_head = objective((*logits.chunk(2), *described.chunk(2)), batch, recipe.objective, self.step)
            total = total + loss / len(heads)
            parts |= of_head if len(heads) == 1 else {f"{name}_{k}": value for name, value in of_head.items()}
        self.optimiser.zero_grad()
        torch.autograd.backward(total)
        norm = nn.utils.clip_grad_norm_(self.optimiser.param_groups[0]["params"], recipe.clip)
        if not torch.isfinite(norm):  # of the gradient, so of the loss too; the same in all processes
            bad = [name for name, value in parts.items() if not torch.isfinite(value)]
            raise TrainingError(
                f"step {self.step}: the loss is not finite ({', '.join(bad) or 'its gradient'}); the last checkpoint "
                "is kept: train again with a lower --learning-rate"
            )
        self.optimiser.step()
        # The average follows the weights closely at first, when they change most.
        decay = min(recipe.average, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)
        self.step += 1
        return parts | {"total": total.detach()}

    def part(self) -> None:
        """Let go of the other processes, before their group is left; no step can be made any more."""
        self.parallel = self.network

    def share(self, hours: float | None, steps: int | None) -> float:
        """How much of a training of so many hours or steps is done, 0 to 1."""
        return min(1.0, self.step / steps if steps is not None else self.seconds / ((hours or 0) * 3600))

    def save(self, path: Path, about: dict[str, Any]) -> None:
        content = {
            "network": self.recipe.network.as_dict(),
            "recipe": recipe_as_dict(self.recipe),
            "about": about | self.progress(),
            "weights": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "judged_on": self.judged_on,
        }
        buffer = io.BytesIO()  # first in memory: torch's own writer hides a full disk behind an error of its format
        torch.save(content, buffer)
        write_whole(path, buffer.getbuffer())

    def restore(self, content: dict[str, Any]) -> None:
        self.network.load_state_dict(content["weights"])
        self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.step, self.seconds, self.best = content["step"], content["seconds"], content["best"]
        self.judged_on = content.get("judged_on", "")

    def progress(self) -> dict[str, Any]:
        pairs = self.step * self.recipe.batch * self.where.size
        return {"steps": self.step, "pairs": pairs, "hours": round(self.seconds / 3600, 3)}


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, for `State.restore`; nothing in it is run.

    Raises
    ------
    StorageError
        If it is damaged or something else.
    """
    data = read_bytes(path)
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        dict(content["recipe"])  # which no other program's file has
        return content
    except Exception as error:  # whatever a broken file makes torch say, in words of its own insides
        raise StorageError(
            f"{path}: not a checkpoint of `tiepoints train`, or damaged or truncated; move it away and train anew, "
            "or give another --out"
        ) from error
