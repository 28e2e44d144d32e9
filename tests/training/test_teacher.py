"""What a teacher says is kept by content, moves with the photograph into every crop, and its directions are exact."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra train")

from torch.nn import functional as F  # noqa: E402

import tiepoints as tp  # noqa: E402
from tiepoints.training import teacher  # noqa: E402
from tiepoints.training.cache import ArrayCache  # noqa: E402
from tiepoints.training.distributed import World  # noqa: E402
from tiepoints.training.pairs import Pairs  # noqa: E402
from tiepoints.training.photographs import Photographs, Resident, prepare  # noqa: E402
from tiepoints.training.teacher import Targets, Teacher, compute_targets, principal_directions  # noqa: E402
from tiepoints.training.warps import Warps  # noqa: E402

CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)


class Blurred:
    """A teacher whose value at a place is the blurred colour there, and whose score is the blurred red: what it says
    about a crop can be told from the photograph."""

    def __init__(self) -> None:
        self.seen = 0
        kernel = torch.ones(3, 1, 5, 5) / 25

        def look(images: torch.Tensor) -> SimpleNamespace:
            self.seen += 1
            smooth = F.conv2d(F.pad(images, (2,) * 4, mode="replicate"), kernel, groups=3)

            def describe(places: list[torch.Tensor]) -> list[torch.Tensor]:
                limit = torch.tensor([images.shape[3] - 1, images.shape[2] - 1])
                grid = (places[0] / limit * 2 - 1)[None, None]
                return [F.normalize(F.grid_sample(smooth, grid, align_corners=True)[0, :, 0].T, dim=1)]

            return SimpleNamespace(score_map=smooth[:, :1], describe=describe)

        self.teacher = Teacher(look, "blurred", CPU)


@pytest.fixture(scope="module")
def learned(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Photographs, Targets, Blurred]:
    cache = ArrayCache(tmp_path_factory.mktemp("cache"), 2**30)
    found, _ = prepare(sorted(photographs.iterdir())[:4], cache, CPU)
    blurred = Blurred()
    targets = compute_targets(found, [blurred.teacher], ALONE)
    assert targets is not None
    targets.basis = torch.eye(3)
    return found, targets, blurred


def test_each_photograph_and_its_mirror_image_are_shown_once(learned: tuple[Photographs, Targets, Blurred]) -> None:
    photographs, targets, blurred = learned
    assert blurred.seen == 8
    again = compute_targets(photographs, [blurred.teacher], ALONE)
    assert blurred.seen == 8 and again is not None
    photographs.cache.path(photographs.keys[2], "blurred-mirrored-scores").unlink()
    assert compute_targets(photographs, [blurred.teacher], ALONE, stopped=lambda: True) is None
    assert compute_targets(photographs, [blurred.teacher], ALONE) is not None and blurred.seen == 10
    upright, mirrored = targets[1, False], targets[1, True]
    assert torch.equal(mirrored.scores, upright.scores.flip(1))
    assert (upright.points[:, 2] == 0).sum() == teacher.RANDOM < len(upright.points)


def test_values_and_scores_are_those_of_what_the_crop_shows(learned: tuple[Photographs, Targets, Blurred]) -> None:
    """By another way: the photograph's own blurred colours at the place of the photograph that the crop shows."""
    photographs, targets, blurred = learned
    size, count = 96, 8
    pairs = Pairs(photographs, Warps(size=size, bend=0.5), 3, targets, places=50)
    batch = pairs.batch(range(count))
    assert batch.places is not None and batch.scores is not None
    at, values, counted = batch.places
    assert at.shape == (2 * count, 50, 2) and counted.mean() > 0.9
    assert ((at > 3) & (at < size - 4))[counted > 0].all()
    for view, rows in batch.halves():
        photo = view.to_photo(at[rows])
        plan = pairs.planner.plan(range(count))
        for n in range(count):
            image = photographs[int(plan.photographs[n, 0])].permute(1, 2, 0).numpy()
            if plan.mirrored[n]:
                image = image[:, ::-1]
            dense = blurred.teacher.look(image)
            expected = dense.describe([photo[n]])[0]
            used = counted[rows][n] > 0
            assert (values[rows][n] - expected)[used].abs().max() < 2e-2
            peaks = F.max_pool2d(dense.score_map, 5, 1, 2)
            limit = torch.tensor([image.shape[1] - 1, image.shape[0] - 1])
            scores = F.grid_sample(peaks, (photo[n] / limit * 2 - 1)[None, None], align_corners=True)[0, 0, 0]
            assert (batch.scores.at(torch.cat([photo, photo]))[rows][n] - scores)[used].abs().max() < 6e-3


def test_targets_that_lie_on_the_device_are_the_same(learned: tuple[Photographs, Targets, Blurred]) -> None:
    photographs, targets, _ = learned
    warps = Warps(size=96, bend=0.5)
    one = Pairs(photographs, warps, 3, targets, places=50).batch(range(8))
    there = photographs.chosen(photographs.paths)
    there.resident = Resident(CPU, room=2**30)
    pairs = Pairs(there, warps, 3, Targets(there, targets.keys, targets.basis), places=50)
    assert pairs._stacked_targets is not None
    other = pairs.batch(range(8))
    assert one.places is not None and other.places is not None and one.scores is not None and other.scores is not None
    assert torch.equal(one.places.at, other.places.at) and torch.equal(one.places.counted, other.places.counted)
    torch.testing.assert_close(one.places.values, other.places.values, atol=1e-3, rtol=0)
    points = torch.cat([view.to_photo(torch.rand(8, 40, 2) * 95) for view, _ in one.halves()])
    torch.testing.assert_close(one.scores.at(points), other.scores.at(points))


def test_directions_keep_what_lies_on_a_plane_and_are_orthonormal(
    learned: tuple[Photographs, Targets, Blurred],
) -> None:
    _, targets, _ = learned
    basis, held = principal_directions(targets, 2)
    assert basis.shape == (3, 2) and 0.9 < held < 1
    torch.testing.assert_close(basis.T @ basis, torch.eye(2), atol=1e-5, rtol=0)
    whole, everything = principal_directions(targets, 3)
    assert everything == pytest.approx(1) and torch.equal(whole[:, :2], basis)
    values = torch.cat([targets.values(n, False) for n in range(4)]).float()
    kept = (values @ basis).square().sum() / values.square().sum()
    assert kept.item() == pytest.approx(held, abs=0.01)
    with pytest.raises(tp.InvalidInputError, match="3 numbers, fewer than the network's 4"):
        principal_directions(targets, 4)


def test_several_teachers_stand_side_by_side(learned: tuple[Photographs, Targets, Blurred]) -> None:
    photographs, targets, blurred = learned
    other = Blurred()
    other.teacher.key = "other"
    both = compute_targets(photographs, [blurred.teacher, other.teacher], ALONE)
    assert both is not None and other.seen == 8
    values = both.values(0, mirrored=True)
    assert torch.equal(values, targets.values(0, mirrored=True).repeat(1, 2))


def test_not_every_extractor_can_teach() -> None:
    with pytest.raises(tp.InvalidInputError, match=r"rootsift cannot be a teacher.*aliked-n16"):
        teacher.open_teacher("rootsift", CPU)


def test_aliked_teaches(shared: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one: its values are of unit length, and those that its extractor gives at the same places."""
    monkeypatch.setenv("TIEPOINTS_WEIGHTS", str(shared / "weights"))
    found, _ = prepare(sorted(photographs.iterdir())[:1], ArrayCache(tmp_path, 2**30), CPU)
    targets = compute_targets(found, [teacher.open_teacher("aliked-n16", CPU)], ALONE)
    assert targets is not None
    targets.basis = torch.eye(128)
    points, values, _, scores = targets[0, False]
    assert scores.shape == found[0].shape[1:] and scores.max() > 100
    features = tp.load("aliked-n16", max_keypoints=50)(tp.read(found.paths[0]))
    distance = torch.cdist(torch.tensor(features.keypoints), points[points[:, 2] == 1, :2])
    near, which = distance.min(dim=1)
    assert (near < 1).float().mean() > 0.9, "its best keypoints are among the places"
    alike = (torch.tensor(features.descriptors) * values[which].float()).sum(dim=1)[near < 0.5]
    assert alike.median() > 0.97
