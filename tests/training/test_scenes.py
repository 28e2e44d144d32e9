"""Photographs of a scene from several places: the points that a COLMAP model says they share are so in both crops."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="training needs the extra train")
pycolmap = pytest.importorskip("pycolmap", reason="COLMAP's models need the extra sfm")

from click.testing import CliRunner  # noqa: E402

import tiepoints as tp  # noqa: E402
from tiepoints.cli import cli  # noqa: E402
from tiepoints.images import resize_to  # noqa: E402
from tiepoints.training.cache import ArrayCache  # noqa: E402
from tiepoints.training.loop import train  # noqa: E402
from tiepoints.training.network import Config, MDNet  # noqa: E402
from tiepoints.training.objective import Objective, objective  # noqa: E402
from tiepoints.training.pairs import Pairs  # noqa: E402
from tiepoints.training.photographs import prepare  # noqa: E402
from tiepoints.training.recipe import Recipe  # noqa: E402
from tiepoints.training.scenes import Shared, covisible, find_scenes  # noqa: E402
from tiepoints.training.warps import Warps  # noqa: E402

S = 256
TOY = Config(
    sets=(2,), channels=(16,) * 5, depths=(0,) * 5, pyramid=(16,) * 3, fused=16, descriptor_size=16
)  # fmt: skip


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photographs of 60 points, each a spot of its own grey; EXIF turns the second one."""
    folder = tmp_path_factory.mktemp("scene")
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=5, num_points3D=60, num_points2D_without_point3D=0
    )
    pycolmap.set_random_seed(1)
    model = pycolmap.synthesize_dataset(options)
    greys = {n: 40 + 3.5 * i for i, n in enumerate(sorted(model.point3D_ids()))}
    for i, number in enumerate(sorted(model.reg_image_ids())):
        image = model.image(number)
        camera = model.camera(image.camera_id)
        y, x = np.mgrid[0 : camera.height, 0 : camera.width] + 0.5  # as COLMAP has pixels
        pixels = np.zeros((camera.height, camera.width), np.uint8)
        for point in image.points2D:
            if point.has_point3D():
                pixels[np.hypot(x - point.xy[0], y - point.xy[1]) < 9] = greys[point.point3D_id]
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 1 else 1
        (folder / image.name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).convert("RGB").save(folder / image.name, exif=exif, format="PNG")
    (folder / "out" / "sparse" / "0").mkdir(parents=True)
    model.write_binary(str(folder / "out" / "sparse" / "0"))
    return folder


@pytest.fixture(scope="module")
def shared(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pairs]:
    scenes = find_scenes(scene)
    paths = [observed.path for observed in scenes[0].photographs]
    cache = ArrayCache(tmp_path_factory.mktemp("cache"), 2**30)
    photographs = prepare(paths, cache, torch.device("cpu"))[0]
    pairs = covisible(photographs, scenes)
    assert {n for pair in pairs for n in pair.photographs} == set(range(5)), "the turned one too"
    return lambda **changes: Pairs(photographs, Warps(size=S, **changes), 0, views=pairs, real=1.0)


def test_shared_points_lie_where_the_photographs_show_them(scene: Path) -> None:
    """To half a pixel, in the full and in a smaller size, and in the photograph that EXIF turns."""
    [found] = find_scenes(scene)
    assert len(found.photographs) == 5 and not found.wrong
    whole = tp.read(found.photographs[1].path)
    assert whole.shape[0] > whole.shape[1], "turned"
    for observed in found.photographs:
        for edge in (None, 640):
            image = resize_to(tp.read(observed.path), edge)[0][..., 0].astype(float)
            places = observed.at * image.shape[::-1] - 0.5
            off = []
            for at in places:
                apart = np.sort(np.hypot(*(places - at).T))[1:2] if len(places) > 1 else [np.inf]
                if apart[0] > 30 and min(at) > 20 and (at < np.array(image.shape[::-1]) - 20).all():
                    left, top = (int(c) - 15 for c in at)
                    y, x = np.mgrid[top : top + 32, left : left + 32]
                    near = np.hypot(x - at[0], y - at[1]) < (14 if edge is None else 9)
                    x, y = x[near], y[near]
                    weight = image[y, x]
                    off.append(np.array([x @ weight, y @ weight]) / weight.sum() - at)
            assert len(off) > 3
            assert np.abs(np.mean(off, axis=0)).max() < 0.15


@pytest.mark.parametrize("bend", [0.0, 1.0])
def test_both_crops_show_the_same_spots(shared: Callable[..., Pairs], bend: float) -> None:
    batch = shared(photometric=0, bend=bend).batch(range(10))
    assert batch.points is not None and batch.points.sparse.all()
    assert batch.points.counted.sum(1).min() >= 8
    greys = []
    for view, (_, rows) in enumerate(batch.halves()):
        at = (batch.points.at[:, :, view] * 2 / (S - 1) - 1)[:, None]
        greys.append(torch.nn.functional.grid_sample(batch.images[rows], at, align_corners=True)[:, 0, 0])
    counted = batch.points.counted > 0
    off = (greys[0] - greys[1]).abs()[counted]
    assert off.median() < 0.01 and (off < 0.02).float().mean() > 0.8  # the others lie behind another spot
    others = (greys[0] - greys[1].roll(1, 1)).abs()[counted & counted.roll(1, 1)]
    assert others.median() > 0.1


def test_pairs_of_views_are_repeatable_and_only_a_share(shared: Callable[..., Pairs]) -> None:
    one, again = (shared().batch(range(4)) for _ in range(2))
    assert torch.equal(one.images, again.images) and torch.equal(one.points.at, again.points.at)
    pairs = shared()
    pairs.planner.real = 0.5
    mixed = pairs.batch(range(8))
    assert 0 < mixed.points.sparse.sum() < 8
    pairs.planner.real = 0.0
    plain, alone = pairs.batch(range(2)), Pairs(pairs.photographs, pairs.warps, 0).batch(range(2))
    assert plain.points is None
    for name in ("images", "grid", "valid", "uniforms"):
        assert torch.equal(getattr(plain, name), getattr(alone, name)), name


def test_pairs_with_a_whole_map_lose_nothing_beside_others(shared: Callable[..., Pairs]) -> None:
    """The losses of a plain pair are the same bits where the batch could hold others."""
    pairs = shared()
    points = pairs.batch(range(2)).points
    plain = Pairs(pairs.photographs, pairs.warps, 0).batch(range(2))
    generator = torch.Generator().manual_seed(0)
    logits = {2: torch.randn(4, 2, S, S, generator=generator)}
    described = torch.randn(4, 16, S // 4, S // 4, generator=generator)
    alone, _ = objective(logits, described, plain, Objective(), 500)
    plain.points = points._replace(sparse=torch.zeros(2, dtype=torch.bool))
    beside, _ = objective(logits, described, plain, Objective(), 500)
    assert torch.equal(alone, beside)
    plain.points = points._replace(sparse=torch.tensor([False, True]))
    assert not torch.equal(alone, objective(logits, described, plain, Objective(), 500)[0])


def test_a_few_steps_bring_the_descriptors_of_shared_points_together(shared: Callable[..., Pairs]) -> None:
    torch.manual_seed(0)
    network = MDNet(TOY)
    batch = shared(photometric=0, bend=0).batch(range(2))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    values = []
    for _ in range(12):
        logits, described = network(batch.images)
        total, parts = objective(logits, described, batch, replace(Objective(), anchors=64, warmup=1), 10)
        optimiser.zero_grad()
        torch.autograd.backward(total)
        optimiser.step()
        values.append(float(parts["entropy"]))
        assert float(parts["similarity"]) == pytest.approx(0, abs=1e-6) and float(parts["reprojection"]) == 0
    assert values[-1] < 0.8 * values[0]


def test_a_training_with_views_resumes_to_the_same_bits(scene: Path, photographs: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        network=TOY, objective=Objective(anchors=32, peaks=16, warmup=2), warps=Warps(size=64), batch=2, real=1.0
    )
    for out, stops in (("whole", (2,)), ("parts", (1, 2))):
        for steps in stops:
            train(
                sorted(photographs.iterdir()), tmp_path / out, recipe, steps=steps, resume=True, views=[scene]
            )  # fmt: skip
    whole, parts = (torch.load(tmp_path / out / "checkpoint.pt", weights_only=True) for out in ("whole", "parts"))
    assert all(torch.equal(v, parts["weights"][name]) for name, v in whole["weights"].items())
    assert "pairs from several places" in whole["about"]["training_data"]


def test_folders_that_are_no_scene(scene: Path, photographs: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        cli, ["train", "--images", str(photographs), "--out", str(tmp_path / "o"), "--pairs", f"views:{photographs}"]
    )
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert f"tiepoints reconstruct {photographs} {photographs}/scene" in result.stderr
    shutil.copytree(scene, tmp_path / "both" / "a")
    shutil.copytree(photographs, tmp_path / "both" / "b")
    with pytest.raises(tp.InvalidInputError, match="both/b: photographs, but no COLMAP model"):
        find_scenes(tmp_path / "both")
    shutil.rmtree(tmp_path / "both" / "b")
    [found] = find_scenes(tmp_path / "both")
    one, other = (observed.path for observed in found.photographs[:2])
    Image.new("RGB", (300, 200)).save(one, format="PNG")
    other.write_bytes(b"no image")
    [found] = find_scenes(tmp_path / "both")
    assert len(found.photographs) == 3 and len(found.wrong) == 2
    assert "300x200 pixels, but" in found.wrong[0] and str(other) in found.wrong[1]
    shutil.copytree(scene / "out", tmp_path / "alone" / "out")
    shutil.copy(photographs / "0.png", tmp_path / "alone")
    with pytest.raises(tp.InvalidInputError, match="none of this model's photographs"):
        find_scenes(tmp_path / "alone")


def test_nearly_the_same_place_is_no_pair(scene: Path, tmp_path: Path) -> None:
    [found] = find_scenes(scene)
    one, other = found.photographs[:2]
    beside = other._replace(centre=one.centre + 1e-3)
    photographs = prepare([one.path, other.path], ArrayCache(tmp_path, 2**30), torch.device("cpu"))[0]
    assert covisible(photographs, [found._replace(photographs=[one, other])]) == [Shared((0, 1), (one, other))]
    assert not covisible(photographs, [found._replace(photographs=[one, beside])])
