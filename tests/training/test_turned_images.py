"""Weights whose descriptors know those of the rotated image, and others: what is extracted, and how trainings go on."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="training needs the extra train")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import tiepoints as tp  # noqa: E402
from tiepoints.training.cache import ArrayCache  # noqa: E402
from tiepoints.training.distributed import World  # noqa: E402
from tiepoints.training.export import read_model, save_model  # noqa: E402
from tiepoints.training.loop import train  # noqa: E402
from tiepoints.training.network import Config, MDNet  # noqa: E402
from tiepoints.training.objective import Objective  # noqa: E402
from tiepoints.training.pairs import Batch, Pairs  # noqa: E402
from tiepoints.training.photographs import Photographs, prepare  # noqa: E402
from tiepoints.training.places import Places, ScoreMaps  # noqa: E402
from tiepoints.training.recipe import Recipe  # noqa: E402
from tiepoints.training.state import State  # noqa: E402
from tiepoints.training.warps import Warps  # noqa: E402

CPU = torch.device("cpu")
D = 16
TINY = Config(
    sets=(2,), channels=(16,) * 5, depths=(0,) * 5, pyramid=(16,) * 3, fused=16, descriptor_size=D,
    teacher="aliked-n16", teacher_size=128, rotations=4,
)  # fmt: skip
RECIPE = Recipe(
    network=TINY, objective=Objective(anchors=32, peaks=16, warmup=2), warps=Warps(size=64), batch=2, warmup=3,
    precision="float32",
)  # fmt: skip


def network_of(config: Config, seed: int = 0) -> MDNet:
    """Of random weights, with a basis whose columns are not orthonormal."""
    torch.manual_seed(seed)
    network = MDNet(config).eval()
    network.basis.normal_()
    return network


def model_of(config: Config, path: Path, seed: int = 0) -> Path:
    save_model(network_of(config, seed), path, {})
    return path


def steered(described: torch.Tensor, turns: int) -> torch.Tensor:
    """The descriptor maps of the rotated images, from those of the images as they are."""
    return torch.rot90(described, turns, (2, 3)).roll(-turns * (described.shape[1] // 4), 1)


@pytest.fixture(scope="module")
def seen(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    cache = ArrayCache(tmp_path_factory.mktemp("cache"), 2**30)
    return prepare(sorted(photographs.iterdir())[:4], cache, CPU)[0]


# What the extractor makes of weights.


@pytest.fixture(scope="module")
def desk(examples: Path) -> NDArray[np.uint8]:
    return np.ascontiguousarray(tp.read(examples / "desk_1.jpg", grey=True)[100:305, 200:470])  # no whole strides


@pytest.mark.parametrize("rotations", [1, 4])
def test_four_looks_by_any_weights_see_the_same_in_each_rotation(
    tmp_path: Path, desk: NDArray[np.uint8], rotations: int
) -> None:
    """Exactly, to a rounding: the network is not asked to have learned anything."""
    weights = model_of(replace(TINY, rotations=rotations), tmp_path / "one.onnx")
    extractor = tp.load("mdnet", weights=weights, rotation="any", looks=4, scales=(1,), max_keypoints=200)
    there = extractor(desk)
    assert there.rotations == 4 and there.descriptors.shape[1] == (D if rotations == 4 else 4 * D)
    width, _ = there.image_size
    moved = np.stack([there.keypoints[:, 1], width - 1 - there.keypoints[:, 0]], axis=1)  # by a quarter turn
    found = extractor(np.ascontiguousarray(np.rot90(desk)))
    apart = np.abs(moved[:, None] - found.keypoints[None]).max(axis=2)
    near, which = apart.min(axis=1), apart.argmin(axis=1)
    assert (near < 0.01).mean() > 0.9
    known, measured = there.rotated(1).descriptors[near < 0.01], found.descriptors[which[near < 0.01]]
    np.testing.assert_allclose(known, measured, atol=1e-3)
    assert np.abs(there.descriptors[near < 0.01] - measured).max() > 0.05, "which are not those of the image as it is"


def test_weights_that_do_not_know_the_rotated_image_are_upright_by_default(
    tmp_path: Path, desk: NDArray[np.uint8]
) -> None:
    weights = model_of(replace(TINY, rotations=1), tmp_path / "one.onnx")
    options: dict[str, Any] = {"weights": weights, "scales": (1,), "max_keypoints": 100}
    upright: Any = tp.load("mdnet", **options)
    assert (upright.rotation, upright.looks) == ("upright", 1)
    able = upright.in_any_rotation()
    assert (able.rotation, able.looks) == ("any", 4) and (upright.rotation, upright.looks) == ("upright", 1)
    again = able.upright_only()
    assert (again.rotation, again.looks) == ("upright", 1)
    plain, found = upright(desk), able(desk)
    assert (plain.rotations, plain.descriptors.shape[1]) == (1, D)
    assert (found.rotations, found.descriptors.shape[1]) == (4, 4 * D)
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(again(desk).descriptors, plain.descriptors)
    with pytest.raises(tp.InvalidInputError, match="looks is 1, but must be 4: these weights need them"):
        tp.load("mdnet", rotation="any", looks=1, **options)
    with pytest.raises(tp.InvalidInputError, match="different kinds"):
        tp.match(plain, found)
    # four looks for the keypoints alone, and descriptors of the image as it is
    steady = tp.load("mdnet", rotation="upright", looks=4, **options)(desk)
    assert steady.rotations == 1
    np.testing.assert_array_equal(steady.keypoints, found.keypoints)
    np.testing.assert_allclose(steady.descriptors, 2 * found.descriptors[:, :D], atol=1e-6)
    # and in the teacher's space
    for features in (found, replace(found, teacher_basis=None)):
        wide = able.to_teacher(features)
        assert wide.rotations == 1
        np.testing.assert_allclose(wide.descriptors, steady.to_teacher().descriptors, atol=1e-4)


def test_weights_that_know_it_are_matched_in_any_rotation_by_default(tmp_path: Path, desk: NDArray[np.uint8]) -> None:
    weights = model_of(TINY, tmp_path / "four.onnx")
    assert read_model(weights)[0] == TINY and read_model(weights)[2]["rotations"] == 4
    options: dict[str, Any] = {"weights": weights, "max_keypoints": 100}
    extractor: Any = tp.load("mdnet", **options)
    assert (extractor.rotation, extractor.looks) == ("any", 1) and extractor.in_any_rotation() is extractor
    upright = extractor.upright_only()
    assert (upright.rotation, upright.looks, upright(desk).rotations) == ("upright", 1, 1)
    assert upright.in_any_rotation()(desk).rotations == 4
    np.testing.assert_array_equal(upright(desk).descriptors, extractor(desk).descriptors)
    kept = tp.load("mdnet", looks=4, **options).upright_only()
    assert (kept.rotation, kept.looks) == ("upright", 4), "what was asked for stays"


# How a training goes on with them.


class Equivariant(nn.Module):
    """Exactly so: the mean over the four rotations of a convolution for logits, and of one for descriptors."""

    teacher_directions = MDNet.teacher_directions

    def __init__(self, exact: bool = True) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.config, self.rotations = TINY, range(4 if exact else 1)
        self.detect = nn.ModuleDict({"2": nn.Conv2d(1, 2, 5, padding=2)})
        self.describe = nn.Conv2d(1, D, 4, stride=4)
        self.register_buffer("basis", torch.randn(128, D))
        self.basis: torch.Tensor

    def forward(self, images: torch.Tensor) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
        logits, described = torch.zeros(()), torch.zeros(())
        for turns in self.rotations:
            turned = torch.rot90(images, turns, (2, 3))
            logits = logits + torch.rot90(self.detect["2"](turned), -turns, (2, 3))
            described = described + steered(self.describe(turned), -turns)
        return {2: logits}, described


def taught_batch(seen: Photographs) -> Batch:
    """Pairs, and what a teacher says at some places of them."""
    batch = Pairs(seen, Warps(size=64), seed=0).batch(range(2))
    generator = torch.Generator().manual_seed(9)
    values = F.normalize(torch.randn(4, 20, D, generator=generator), dim=2)
    batch.places = Places(torch.rand(4, 20, 2, generator=generator) * 63, values, torch.ones(4, 20))
    batch.scores = ScoreMaps(torch.full((4, 64, 64), 100, dtype=torch.uint8))
    return batch


@pytest.mark.parametrize("exact", [True, False])
def test_rotated_images_cost_what_upright_ones_do_where_descriptors_know_them(seen: Photographs, exact: bool) -> None:
    """Losses and gradients of every step: of an exactly equivariant network, and of no other."""
    batch = taught_batch(seen)
    same = []
    for step in range(4):
        found = []
        for rotations in (4, 1):
            network: Any = Equivariant(exact)
            state = State(network, replace(RECIPE, network=replace(TINY, rotations=rotations)), World(0, 1, CPU))
            state.step = step
            parts = state.advance(batch, 0.0)
            found.append([*parts.values(), *(p.grad for p in network.parameters())])
        same.append(all(torch.allclose(a, b, atol=1e-4, rtol=1e-3) for a, b in zip(*found, strict=True)))
    assert same == ([True] * 4 if exact else [True, False, False, False])


def checkpoint(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / "checkpoint.pt", weights_only=True)
    return content


@pytest.fixture(scope="module")
def few(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("few")
    return [Path(shutil.copy(path, folder)) for path in sorted(photographs.iterdir())[:4]]


def run(images: list[Path], out: Path, recipe: Recipe, stop_at: int = 0, **options: Any) -> list[dict[str, float]]:
    losses = []

    def report(progress: Any) -> None:
        losses.append(progress.losses)
        if progress.step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    train(images, out, recipe, steps=5, report=report, report_seconds=0.0, **options)
    return [each for each in losses if each]


def test_a_training_goes_on_exactly_where_it_was_interrupted(few: list[Path], tmp_path: Path) -> None:
    """From photographs alone; of a resumed training the rotation of a step is that of its number."""
    recipe = replace(RECIPE, network=replace(TINY, teacher="", teacher_size=0))
    whole = run(few, tmp_path / "whole", recipe)
    parts = run(few, tmp_path / "parts", recipe, stop_at=2) + run(few, tmp_path / "parts", recipe, resume=True)
    one, two = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    assert whole == parts and one["network"]["rotations"] == 4
    for name, value in one["weights"].items():
        assert torch.equal(value, two["weights"][name]), name
    assert tp.load("mdnet", weights=tmp_path / "whole" / "best.onnx").rotation == "any"  # type: ignore[attr-defined]
    plain = run(few, tmp_path / "plain", replace(recipe, network=replace(recipe.network, rotations=1)))
    assert plain[0] == whole[0] and plain[1] != whole[1], "the first step's images are not rotated, the second's are"


def test_with_the_teacher_it_had_and_with_another_one(
    few: list[Path], tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIEPOINTS_WEIGHTS", str(shared / "weights"))
    recipe = replace(RECIPE, teachers=("aliked-n16",), places=40)
    start = model_of(TINY, tmp_path / "start.onnx")
    whole = run(few, tmp_path / "whole", recipe, start=start)
    parts = run(few, tmp_path / "parts", recipe, stop_at=2, start=start)
    parts += run(few, tmp_path / "parts", recipe, resume=True)
    assert parts == whole and {"distance", "ranking"} < set(whole[0])
    one, two = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    assert one["network"]["rotations"] == 4
    torch.testing.assert_close(one["weights"]["basis"], network_of(TINY).basis)  # its own stays
    for name, value in one["weights"].items():
        assert torch.equal(value, two["weights"][name]), name
    # what another teacher says knows nothing of the rotated image
    other = replace(TINY, teacher="sift")
    run(few, tmp_path / "other", replace(recipe, network=other), start=model_of(other, tmp_path / "sift.onnx"))
    after = checkpoint(tmp_path / "other")
    assert (after["network"]["rotations"], after["network"]["teacher"]) == (1, "aliked-n16")
    basis = after["weights"]["basis"]
    torch.testing.assert_close(basis.T @ basis, torch.eye(D), atol=1e-5, rtol=0)
