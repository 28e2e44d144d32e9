"""What a training of MD-Net begins with: photographs, the space of its teachers, the weights of another network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..errors import ImageError, InvalidInputError
from .cache import ArrayCache
from .distributed import World
from .network import Config, MDNet
from .photographs import LEAST_EDGE, Photographs, prepare
from .teacher import Targets, principal_directions

__all__ = ["start_from", "usable_photographs", "with_teacher"]


def usable_photographs(images: list[Path], cache: ArrayCache, where: World, say: Callable[[str], None]) -> Photographs:
    """All usable photographs."""
    photographs, wrong = prepare(images, cache, where.device, rank=where.rank, world=where.size)
    for message in wrong:
        say(f"left out: {message}")
    if not len(photographs):
        raise ImageError(
            f"{images[0].parent}: no usable photograph is left; they must be readable images of at least "
            f"{LEAST_EDGE} pixels along the short edge"
        )
    return photographs


def with_teacher(
    network: Config,
    names: Sequence[str],
    targets: Targets,
    begin: tuple[Config, dict[str, torch.Tensor]] | None,
    say: Callable[[str], None],
) -> Config:
    """The network's shape with its teacher; the targets get the basis of the model to start with, or their own."""
    teacher = "+".join(names)
    if begin is not None and begin[0].teacher == teacher and begin[0].descriptor_size == network.descriptor_size:
        basis = begin[1]["basis"].float()
    else:
        basis, held = principal_directions(targets, network.descriptor_size)
        say(f"{network.descriptor_size} directions hold {held:.3f} of what {teacher} says")
        network = replace(network, rotations=1)  # this teacher's numbers say nothing of the rotated image
    targets.basis = basis
    return replace(network, teacher=teacher, teacher_size=len(basis))


def start_from(network: MDNet, state: dict[str, torch.Tensor], path: Path) -> None:
    """Take over all tensors but those of detection heads for other numbers of sets, which begin as the nearest head."""
    own = network.state_dict()
    for name, value in own.items():
        part = name.split(".")
        if part[0] == "basis" or (part[0] == "detect" and name not in state):
            continue
        if value.is_floating_point() and (name not in state or state[name].shape != value.shape):
            raise InvalidInputError(f"{path}: its network has another shape ({name}); start with one of the same shape")
    known = {name.split(".")[1] for name in state if name.startswith("detect.")}
    for k in network.config.sets:
        if str(k) not in known and known:
            near = min(known, key=lambda other: abs(math.log(int(other) / k)))
            layer = f"detect.{near}.0."  # the hidden layer does not depend on the number of sets
            own.update({f"detect.{k}.0." + n[len(layer) :]: v for n, v in state.items() if n.startswith(layer)})
    own.update({name: v for name, v in state.items() if name in own and own[name].shape == v.shape})
    network.load_state_dict(own)
