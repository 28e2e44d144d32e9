"""The state of a training: the network, its moving average, the optimiser; a step, a checkpoint, and back."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import StorageError, TrainingError
from ..files import read_bytes, write_whole
from .average import average_of, follow
from .distributed import World, share_statistics
from .network import MDNet
from .objective import objective
from .pairs import Batch
from .recipe import Recipe, recipe_as_dict

__all__ = ["State", "load_checkpoint"]

_CHECKED = 20  # ours: steps


class State:
    """The network, its moving average, the optimiser, and how far the training is."""

    def __init__(self, network: MDNet, recipe: Recipe, where: World, *, compiled: bool = False) -> None:
        self.recipe, self.where = recipe, where
        network = network.to(where.device)
        for parameter in network.parameters():
            if parameter.dim() == 4:  # the convolutions' weights; what goes through them is laid out the same way
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.average = average_of(network)
        self.network = share_statistics(network, where.device) if where.size > 1 else network
        heads = list(self.network.detect.parameters())
        trunk = [p for name, p in self.network.named_parameters() if not name.startswith("detect.")]
        groups: list[dict[str, Any]] = [{"params": heads, "share": 1.0}]
        if recipe.heads_only:
            for parameter in trunk:
                parameter.requires_grad_(False)
        else:
            groups.append({"params": trunk, "share": recipe.trunk_rate})
        self.trained = [parameter for group in groups for parameter in group["params"]]
        self.optimiser = torch.optim.AdamW(groups, recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
        self.objective = recipe.objective
        if recipe.heads_only:  # nothing that is trained changes the descriptors
            self.objective = replace(recipe.objective, triplet=0.0, entropy=0.0, distance=0.0, ranking=0.0)
        #: Descriptors that know the rotated image's go on learning that: images b are then rotated by quarter turns.
        self.turning = recipe.network.rotations > 1 and not recipe.heads_only
        self.of_teacher = _of_teacher(network)
        self.parallel: nn.Module = self.network
        if where.size > 1:
            self.parallel = nn.parallel.DistributedDataParallel(self.network, broadcast_buffers=False)
        if compiled:
            self.parallel.compile()
        # bfloat16 halves the network's time on CUDA and on CPUs with matrix units, and takes a third of it away on CPUs
        # with AVX-512 BF16; on others it costs a third more.
        fast = where.device.type == "cuda" or torch.cpu._is_amx_tile_supported()
        fast = bool(fast or torch.cpu._is_avx512_bf16_supported())
        self.bfloat16 = fast if recipe.precision == "auto" else recipe.precision == "bfloat16"
        self.step, self.seconds, self.best = 0, 0.0, -math.inf
        self.reading = 0.0  # seconds before the first step of each session
        self.judged_on = ""  # what `best` was reached on, see Development.digest

    def advance(self, batch: Batch, share: float) -> dict[str, Tensor]:
        """One step: the losses by name, and "total"."""
        recipe = self.recipe
        self.network.train()
        if recipe.heads_only:  # the trunk keeps its statistics too
            self.network.eval()
            self.network.detect.train()
        rate = recipe.learning_rate * min((self.step + 1) / recipe.warmup, 1) * min((1 - share) / recipe.cooldown, 1)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        turns = self.step % 4 if self.turning else 0
        images = _turned(batch.images, turns).contiguous(memory_format=torch.channels_last)
        # Shapes do not change from step to step, so that CUDA's fastest convolutions can be tried out once.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            with torch.autocast(self.where.device.type, torch.bfloat16, enabled=self.bfloat16):
                logits, described = self.parallel(images)
            logits = {k: _turned(values, -turns) for k, values in logits.items()}
            described = _turned(described, -turns, recipe.network.rotations)
            total, parts = objective(logits, described, batch, self.objective, self.step, self.of_teacher)
            self.optimiser.zero_grad()
            torch.autograd.backward(total)
        norm = nn.utils.clip_grad_norm_(self.trained, recipe.grad_clip)
        # Of the gradient, so of the loss too; the same in all processes. On CUDA to look is to wait.
        if (self.where.device.type == "cpu" or self.step % _CHECKED == 0) and not torch.isfinite(norm):
            bad = [name for name, value in parts.items() if not torch.isfinite(value)]
            raise TrainingError(
                f"step {self.step}: the loss is not finite ({', '.join(bad) or 'its gradient'}); the last checkpoint "
                "is kept: train again with a lower --learning-rate"
            )
        self.optimiser.step()
        self.step += 1
        follow(self.average, self.network, recipe.ema, self.step)
        return parts | {"total": total.detach()}

    def check(self) -> None:
        """Refuse weights that are not finite, before they are kept."""
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.trained):
            raise TrainingError(
                f"step {self.step}: the weights are not finite; the last checkpoint is kept: train again with a lower "
                "--learning-rate"
            )

    def part(self) -> None:
        """Let go of the other processes, before their group is left; no step can be made any more."""
        self.parallel = self.network

    def save(self, path: Path, about: dict[str, Any]) -> None:
        """Write a checkpoint."""
        self.check()
        content = {
            "network": self.recipe.network.as_dict(),
            "recipe": recipe_as_dict(self.recipe),
            "about": about | self.progress(),
            "weights": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "reading": self.reading,
            "best": self.best,
            "judged_on": self.judged_on,
        }
        buffer = io.BytesIO()  # first in memory: torch's own writer hides a full disk behind an error of its format
        torch.save(content, buffer)
        write_whole(path, buffer.getbuffer())

    def restore(self, content: dict[str, Any]) -> None:
        self.network.load_state_dict(content["weights"])
        self.of_teacher = _of_teacher(self.network)
        self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.step, self.seconds, self.best = content["step"], content["seconds"], content["best"]
        self.judged_on, self.reading = content.get("judged_on", ""), content.get("reading", 0.0)

    def progress(self) -> dict[str, Any]:
        pairs = self.step * self.recipe.batch * self.where.size
        return {"steps": self.step, "pairs": pairs, "hours": round(self.seconds / 3600, 3)}


def _of_teacher(network: MDNet) -> Tensor | None:
    """See `MDNet.teacher_directions`."""
    return network.teacher_directions()[1] if network.config.teacher_size else None


def _turned(maps: Tensor, turns: int, rotations: int = 1) -> Tensor:
    """Maps (2 B, C, S, S) with the images b rotated counter-clockwise, and the parts of descriptors, too."""
    if not turns:
        return maps
    a, b = maps.chunk(2)
    b = torch.rot90(b, turns, (2, 3))
    return torch.cat([a, b.roll(-turns * (b.shape[1] // rotations), 1) if rotations > 1 else b])


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
    except MemoryError:
        raise
    except Exception as error:  # whatever a broken file makes torch say, in words of its own insides
        raise StorageError(
            f"{path}: not a checkpoint of `tiepoints train`, or damaged or truncated; move it away and train anew, "
            "or give another --out"
        ) from error
