"""Training pairs: the map is exact both ways, pair n is the same wherever it is made, and what the teacher said moves
with the photograph."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="training needs the extra train")

from torch.nn import functional as F  # noqa: E402

from tiepoints.training.cache import ArrayCache  # noqa: E402
from tiepoints.training.pairs import Batch, Pairs  # noqa: E402
from tiepoints.training.photographs import Photographs, Resident, prepare  # noqa: E402
from tiepoints.training.plans import static_groups  # noqa: E402
from tiepoints.training.random_streams import normal, streams, uniform, uniforms  # noqa: E402
from tiepoints.training.warps import VIEW_UNIFORMS, Warps, draw_views, homography_from_square  # noqa: E402

CPU = torch.device("cpu")
S = 96


def pictures(folder: Path, *images: np.ndarray) -> Photographs:
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.png")
    return prepare(sorted(folder.glob("*.png")), ArrayCache(folder / "cache", 2**30), CPU)[0]


@pytest.fixture(scope="module")
def smooth(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    """Photographs, one small, whose grey changes slowly and is the same in all channels."""
    waves = []
    for width, height in ((400, 300), (300, 400), (130, 140)):
        y, x = np.mgrid[0:height, 0:width]
        waves.append((127 + 60 * np.sin(x / 25) + 60 * np.cos(y / 31)).astype(np.uint8)[..., None].repeat(3, 2))
    return pictures(tmp_path_factory.mktemp("smooth"), *waves)


def difference(a: Batch, b: Batch, rows: slice = slice(None)) -> float:
    """Between some of the pairs of a and those of b: JPEG rounds what rounding moved a little, so a mean."""
    images = zip(a.images.chunk(2), b.images.chunk(2), strict=True)
    parts = [(x[rows] - y).abs().mean() for x, y in images]
    parts += [(a.grid[rows] - b.grid).abs().mean(), (a.uniforms[rows] - b.uniforms).abs().max()]
    return float(torch.stack(parts).max())


@pytest.mark.parametrize("bend", [0.0, 1.0])
def test_the_maps_are_inverse_to_each_other(smooth: Photographs, bend: float) -> None:
    batch = Pairs(smooth, Warps(size=S, bend=bend, any_rotation=0.3, strong=0.5), seed=0).batch(range(24))
    points = torch.rand(24, 500, 2) * (S - 1)
    for one, other in ((batch.a, batch.b), (batch.b, batch.a)):
        there = other.from_photo(one.to_photo(points))
        back = one.from_photo(other.to_photo(there))
        near = ((there > -S) & (there < 2 * S)).all(dim=2)  # far away a homography loses digits
        assert near.float().mean() > 0.5
        assert (back - points)[near].abs().max() < 5e-3


@pytest.mark.parametrize("bend", [0.0, 1.0])
def test_both_images_show_the_same_at_corresponding_places(smooth: Photographs, bend: float) -> None:
    """Without changes of light, a smooth photograph has the same grey at both ends."""
    batch = Pairs(smooth, Warps(size=S, photometric=0, bend=bend, strong=0.5), seed=1).batch(range(24))
    a, b = batch.images.chunk(2)
    seen = F.grid_sample(b, batch.grid, align_corners=True)
    assert (batch.valid[:24].flatten(1).sum(1) > S * S / 10).all()
    assert ((seen - a)[:, 0].abs() * batch.valid[:24]).max() < 0.04
    # the sampling grid and the views say the same
    y, x = torch.meshgrid(torch.arange(S), torch.arange(S), indexing="ij")
    pixels = torch.stack([x, y], dim=2).float().view(1, -1, 2).expand(24, -1, -1)
    exact = batch.b.from_photo(batch.a.to_photo(pixels)).view(24, S, S, 2)
    off = ((batch.grid + 1) * (S - 1) / 2 - exact).abs().amax(dim=3)
    assert off[batch.valid[:24]].max() < 1e-3


def test_what_lies_outside_the_photograph_or_the_other_crop_is_not_valid(smooth: Photographs) -> None:
    batch = Pairs(smooth, Warps(size=S), seed=2).batch(range(12))
    sizes = torch.tensor([smooth[n].shape[:0:-1] for n in range(3)])
    assert not batch.valid.all()
    y, x = torch.meshgrid(torch.arange(S), torch.arange(S), indexing="ij")
    pixels = torch.stack([x, y], dim=2).float().view(1, -1, 2).expand(12, -1, -1)
    for view, rows in batch.halves():
        at = view.to_photo(pixels)
        # whichever photograph it is, the largest one has no such place
        beyond = ((at < -0.01) | (at > sizes.amax(0) - 0.99)).any(dim=2).view(12, S, S)
        assert not (batch.valid[rows] & beyond).any()
    other = batch.b.from_photo(batch.a.to_photo(pixels))
    assert not (batch.valid[:12] & ((other < -0.01) | (other > S - 0.99)).any(dim=2).view(12, S, S)).any()


def test_pair_n_is_the_same_alone_and_in_any_batch(smooth: Photographs) -> None:
    pairs = Pairs(smooth, Warps(size=S, bend=0.5), seed=5)
    whole = pairs.batch(range(8))
    assert whole.images.shape == (16, 1, S, S) and 0 <= whole.images.min() <= whole.images.max() <= 1
    assert difference(whole, Pairs(smooth, Warps(size=S, bend=0.5), seed=5).batch(range(8))) == 0
    assert difference(whole, pairs.batch(range(3, 6)), slice(3, 6)) < 1e-4
    assert difference(whole, Pairs(smooth, Warps(size=S, bend=0.5), seed=6).batch(range(8))) > 0.05


def test_every_photograph_is_used_once_a_round(smooth: Photographs) -> None:
    pairs = Pairs(smooth, Warps(size=S), seed=5)
    used = [pairs.planner._photograph(number) for number in range(30)]
    rounds = [used[i : i + 3] for i in range(0, 30, 3)]
    assert all(sorted(r) == [0, 1, 2] for r in rounds) and len({tuple(r) for r in rounds}) > 1


def test_two_photographs_of_a_static_camera_are_a_pair(tmp_path: Path) -> None:
    """Every pixel of one is the same point in the other: by night, here, everything is half as bright."""
    y, x = np.mgrid[0:300, 0:400]
    day = (127 + 60 * np.sin(x / 25) + 60 * np.cos(y / 31)).astype(np.uint8)[..., None].repeat(3, 2)
    photographs = pictures(tmp_path, day, day // 2, day[:200])
    groups = static_groups(photographs, photographs.paths)
    assert groups == [[0, 1]], "another size is another camera"
    pairs = Pairs(photographs, Warps(size=S, photometric=0, bend=0.5), 0, static=groups, real=1.0)
    batch = pairs.batch(range(12))
    a, b = batch.images[:, 0].chunk(2)
    seen = F.grid_sample(b[:, None], batch.grid, align_corners=True)[:, 0]
    both = [tuple(some) for some in pairs.planner.plan(range(12)).photographs.tolist()]
    assert {(0, 1), (1, 0)} == set(both)
    for n, (one, _) in enumerate(both):
        dark, bright = (seen[n], a[n]) if one == 0 else (a[n], seen[n])
        assert ((2 * dark - bright).abs() * batch.valid[n]).max() < 0.06
    shared = Pairs(photographs, Warps(size=S), 0, static=groups, real=0.25)
    real = [len(set(both)) == 2 for both in shared.planner.plan(range(200)).photographs.tolist()]
    assert 0.15 < np.mean(real) < 0.35


def test_a_homography_from_a_square_in_closed_form() -> None:
    rng = np.random.default_rng(0)
    square = np.array([[0, 0], [9, 0], [9, 9], [0, 9]])
    corners = square * 3.0 + rng.uniform(-2, 2, (5, 2, 4, 2))
    matrices = homography_from_square(corners, 9)
    at = np.einsum("...ij,kj->...ki", matrices, np.c_[square, np.ones(4)])
    np.testing.assert_allclose(at[..., :2] / at[..., 2:], corners, atol=1e-9)


def test_views_keep_to_their_ranges_and_share_a_part() -> None:
    warps, sizes = Warps(size=192, scale=2.0), np.array([[640.0, 480.0]]).repeat(200, 0)
    drawn = draw_views(sizes, warps, np.random.default_rng(0).random((200, VIEW_UNIFORMS)))
    ratio = drawn.spans[:, 0] / drawn.spans[:, 1]
    assert 1 / 2.001 < ratio.min() < 0.6 and 1.6 < ratio.max() < 2.001
    middle = drawn.photo_from_view @ np.array([95.5, 95.5, 1])
    middle = middle[..., :2] / middle[..., 2:]
    assert ((middle > 0) & (middle < [640, 480])).all()


def test_a_stack_on_the_device_gives_the_same_pairs(tmp_path: Path) -> None:
    """What lies on a device as a whole, and what is read photograph by photograph."""
    rng = np.random.default_rng(0)
    images = [
        cv2.GaussianBlur(rng.integers(0, 255, (h, w, 3)).astype(np.uint8), (0, 0), 3)
        for h, w in ((201, 333), (333, 200), (640, 640))
    ]
    one, other = pictures(tmp_path, *images), pictures(tmp_path, *images)
    other.resident = Resident(CPU, room=2**30)
    assert one.stacked() is None and other.stacked() is not None
    warps = Warps(size=S, photometric=0, bend=0.5, strong=0.5)
    for number in range(0, 48, 12):
        single, stacked = (Pairs(some, warps, 0).batch(range(number, number + 12)) for some in (one, other))
        assert torch.equal(single.valid, stacked.valid) and torch.equal(single.uniforms, stacked.uniforms)
        # a part is halved from its own first pixel, a photograph from its own
        assert (single.images - stacked.images).abs().max() < 0.02


def test_chance_is_the_same_in_numpy_and_torch_and_of_its_distribution() -> None:
    stream = streams(7, [0, 1, 2**40])
    assert len(set(stream.tolist())) == 3 and stream[1] == streams(7, [1])[0] != streams(8, [1])[0]
    numbers = uniforms(stream, 50_000)
    np.testing.assert_array_equal(uniform(torch.from_numpy(stream), 40_000, 10_000).numpy(), numbers[:, 10_000:])
    assert abs(np.corrcoef(numbers)[np.triu_indices(3, 1)]).max() < 0.02
    histogram = np.array([np.histogram(row, 20, (0, 1))[0] for row in numbers])
    assert (abs(histogram - 2500) < 5 * 50).all()
    drawn = normal(torch.from_numpy(stream), 50_001)
    assert drawn.shape == (3, 50_001) and drawn.mean(1).abs().max() < 0.02
    assert (drawn.std(1) - 1).abs().max() < 0.02 and ((drawn.abs() < 1).float().mean(1) - 0.6827).abs().max() < 0.01
