"""Each loss does what its equation says; worked values, limits, gradients and masks."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra train")

from tiepoints.training import losses  # noqa: E402

S = 48


def peaks(places: list[tuple[int, int]], height: float = 1.0) -> torch.Tensor:
    """(1, 1, S, S), zero but for single pixels (x, y)."""
    d = torch.zeros(1, 1, S, S, dtype=torch.float64)
    for x, y in places:
        d[0, 0, y, x] = height
    return d


ALL = torch.ones(1, 1, S, S)
EVERY_WINDOW = [(x, y) for x in range(4, S, 8) for y in range(4, S, 8)]


@pytest.mark.parametrize(
    ("positive", "negative", "loss"), [(1.0, -1.0, 0.0), (0.8, 0.2, 0.0), (0.6, 0.3, 0.2), (0.2, 0.6, 0.9)]
)
def test_triplet_values_of_the_paper(positive: float, negative: float, loss: float) -> None:
    value = losses.triplet(torch.tensor([[positive]]), torch.tensor([[negative]]), torch.ones(1, 1), margin=0.5)
    assert value.item() == pytest.approx(loss, abs=1e-6)


def test_similarity_is_zero_for_a_heatmap_and_itself_and_one_for_disjoint_ones() -> None:
    torch.manual_seed(0)
    d = torch.rand(2, 3, S, S, dtype=torch.float64)
    mask = torch.ones(2, 1, S, S)
    assert losses.similarity(d, d, mask).item() == pytest.approx(0, abs=1e-9)
    assert losses.similarity(d, 0.3 * d, mask).item() == pytest.approx(0, abs=1e-9), "a cosine has no scale"
    moved = peaks([(x + 3, y) for x, y in EVERY_WINDOW])
    assert losses.similarity(peaks(EVERY_WINDOW), moved, ALL).item() == pytest.approx(1, abs=1e-6)


def test_similarity_is_zero_for_a_heatmap_and_its_exact_warp() -> None:
    """A warp by whole pixels resamples exactly."""
    torch.manual_seed(1)
    d = torch.rand(1, 2, S, S, dtype=torch.float64)
    warped = torch.roll(d, shifts=(5, -7), dims=(2, 3))
    back = torch.roll(warped, shifts=(-5, 7), dims=(2, 3))
    mask = ALL.clone()
    mask[..., -5:, :] = 0
    mask[..., :, :7] = 0
    assert losses.similarity(d, back, mask).item() == pytest.approx(0, abs=1e-9)


def test_peaky_prefers_one_sharp_peak_a_window() -> None:
    flat = torch.full((1, 1, S, S), 0.5)
    assert losses.peaky(flat, ALL).item() == pytest.approx(1)
    sharp = losses.peaky(peaks(EVERY_WINDOW), ALL).item()
    assert sharp < 0.05
    assert sharp < losses.peaky(peaks(EVERY_WINDOW, height=0.5), ALL).item() < 1


def test_intersections_tell_disjoint_from_equal_and_near() -> None:
    one = peaks(EVERY_WINDOW)
    apart = peaks([(x - 4, y) for x, y in EVERY_WINDOW])
    beside = peaks([(x + 1, y) for x, y in EVERY_WINDOW])

    def loss(other: torch.Tensor) -> float:
        return losses.intersections(torch.cat([one, other], dim=1), ALL).item()

    assert loss(apart) == pytest.approx(0, abs=1e-9)
    assert loss(one) == pytest.approx(1, abs=1e-3)
    assert 0.2 < loss(beside) < 1
    assert losses.intersections(one, ALL).item() == 0


@pytest.mark.parametrize("k", [3, 4])
def test_intersections_find_the_one_pair_of_sets_that_collides(k: int) -> None:
    apart = [peaks([(x + m, y + 3 * (m % 2)) for x, y in EVERY_WINDOW]) for m in range(k)]
    assert losses.intersections(torch.cat(apart, dim=1), ALL, reach=1).item() == pytest.approx(0, abs=1e-9)
    twice = torch.cat([*apart[:-1], apart[0]], dim=1)
    assert losses.intersections(twice, ALL, reach=1).item() == pytest.approx(2 / k, abs=1e-3)


def test_nearly_equal_sets_are_driven_apart_as_strongly_as_others() -> None:
    """Descent by the loss from a difference of a hundredth ends with sets that share nothing."""
    torch.manual_seed(5)
    d = (0.5 + 0.01 * torch.randn(1, 2, S, S, dtype=torch.float64)).requires_grad_()
    for _ in range(60):
        loss = losses.intersections(d, ALL, reach=1)
        (gradient,) = torch.autograd.grad(loss, d)
        d = (d - gradient * (0.5 / gradient.abs().max())).clamp(0, 1).detach().requires_grad_()
    assert losses.intersections(d, ALL, reach=1).item() < 0.2
    assert (d.amax(dim=(2, 3)) > 0.4).all(), "none of them dies"


def test_unreliable_lowers_the_heatmap_where_descriptors_fail() -> None:
    d = torch.full((1, 4), 0.5, requires_grad=True)
    positive, negative = torch.tensor([[0.9, 0.6, 0.2, 0.2]]), torch.tensor([[0.1, 0.3, 0.6, 0.6]])
    losses.unreliable(d, positive, negative, torch.tensor([[1.0, 1.0, 1.0, 0.0]])).backward()
    assert d.grad is not None
    good, fair, bad, unusable = d.grad[0].tolist()
    assert good == 0 < fair < bad
    assert unusable == 0


def test_a_pair_counts_as_much_as_another_whatever_it_shows() -> None:
    """So the mean over two processes is that of one with both batches."""
    torch.manual_seed(4)
    d, other = torch.rand(2, 2, S, S), torch.rand(2, 2, S, S)
    mask = torch.ones(2, 1, S, S)
    mask[1, :, :, 20:] = 0
    for loss in (losses.similarity, lambda x, y, m: losses.peaky(x, m), lambda x, y, m: losses.intersections(x, m)):
        one, two = (loss(d[i : i + 1], other[i : i + 1], mask[i : i + 1]) for i in range(2))
        assert loss(d, other, mask).item() == pytest.approx((one + two).item() / 2, abs=1e-6)


def gradcheck(function: Any, inputs: tuple[torch.Tensor, ...]) -> bool:
    """Along random directions; one difference for each of 2,304 pixels takes a hundred times as long."""
    return torch.autograd.gradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("name", ["similarity", "peaky", "intersections", "triplet", "unreliable"])
def test_gradients_agree_with_finite_differences(name: str) -> None:
    torch.manual_seed(2)
    mask = torch.ones(1, 1, 24, 24, dtype=torch.float64)
    mask[..., :3] = 0
    d, other = (torch.rand(1, 2, 24, 24, dtype=torch.float64, requires_grad=True) for _ in range(2))
    scores = torch.rand(2, 6, dtype=torch.float64, requires_grad=True), torch.rand(2, 6, dtype=torch.float64)
    usable = torch.tensor([[1, 1, 1, 1, 0, 1], [1, 0, 0, 1, 1, 1]], dtype=torch.float64)
    if name == "similarity":
        assert gradcheck(lambda a, b: losses.similarity(a, b, mask), (d, other))
    elif name == "triplet":
        pair = scores[0], scores[1].requires_grad_()
        assert gradcheck(lambda a, b: losses.triplet(a, b, usable), pair)
    elif name == "unreliable":
        weighed = scores[1], scores[1].flip(0), usable
        assert gradcheck(lambda x: losses.unreliable(x, *weighed), (scores[0],))
    else:
        assert gradcheck(lambda x: getattr(losses, name)(x, mask), (d,))


@pytest.mark.parametrize("name", ["similarity", "peaky", "intersections"])
def test_nothing_outside_the_mask_contributes(name: str) -> None:
    torch.manual_seed(3)
    mask = ALL.clone()
    mask[..., 20:] = 0
    d, other = torch.rand(1, 2, S, S), torch.rand(1, 2, S, S)
    changed = d.clone()
    # the reach of the intersections' maximum stays outside too
    changed[..., 22:] = torch.rand(1, 2, S, S - 22)

    def loss(x: torch.Tensor) -> float:
        function = getattr(losses, name)
        return float(function(x, other, mask) if name == "similarity" else function(x, mask))

    assert loss(d) == loss(changed)
    assert loss(d) != loss(d * torch.rand(1, 2, S, S))
    nothing = torch.zeros_like(mask)
    x = d.clone().requires_grad_()
    value = losses.similarity(x, other, nothing) if name == "similarity" else getattr(losses, name)(x, nothing)
    value.backward()
    assert torch.isfinite(value) and x.grad is not None and (x.grad == 0).all()


def test_balance_is_the_matching_cost_above_that_of_equal_sets() -> None:
    one, other = peaks(EVERY_WINDOW), peaks([(x - 3, y) for x, y in EVERY_WINDOW])
    assert losses.balance(one, ALL).item() == pytest.approx(0, abs=1e-6)
    assert losses.balance(torch.cat([one, other], 1), ALL).item() == pytest.approx(0, abs=1e-6)
    assert losses.balance(torch.cat([one, 0 * other], 1), ALL).item() == pytest.approx(1, abs=1e-6)
    # one of four fires three times as high: shares 1/2 and 1/6, so 4 (1/4 + 3/36) - 1
    three = torch.cat([3 * one, one, one, one], 1) / 3
    assert losses.balance(three, ALL).item() == pytest.approx(1 / 3, abs=1e-6)


def test_reprojection_values() -> None:
    at = torch.tensor([[[[20.0, 30.0], [20.25, 30.0]]]], dtype=torch.float64)
    flat = torch.zeros(1, 1, S, S, dtype=torch.float64)
    first, second = (torch.tensor([[w]], dtype=torch.float64) for w in ([1.0, 0.0], [0.0, 1.0]))
    assert losses.reprojection(flat, at, first).item() == pytest.approx(4.394449, abs=1e-6), "log 81"
    exact = 50 * peaks([(20, 30)])
    assert losses.reprojection(exact, at, first).item() == pytest.approx(0, abs=1e-6)
    # a quarter of the label lies on the next pixel
    assert losses.reprojection(exact, at, second).item() == pytest.approx(12.5, abs=1e-6)
    assert losses.reprojection(exact, at + 100, 0 * first).item() == 0, "outside, and not counted"


def test_reprojection_leads_a_peak_to_the_place_between_pixels() -> None:
    """Minimised over the logits of two pixels, their heights share the label as bilinear interpolation does."""
    logits = torch.full((1, 1, S, S), -20.0)
    free = torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.Adam([free], 0.1)
    for _ in range(200):
        u = logits.clone()
        u[0, 0, 30, 20:22] = free
        loss = losses.reprojection(u, torch.tensor([[[[20.25, 30.0]]]]), torch.ones(1, 1, 1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.softmax(free, 0).tolist() == pytest.approx([0.75, 0.25], abs=0.01)


def test_heights_and_floor_values() -> None:
    half, counted = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    assert losses.heights(half, torch.tensor([[0.3, 1.0]]), counted).item() == pytest.approx(0.693147, abs=1e-5)
    lowest = losses.heights(torch.logit(torch.tensor([[0.3]])), torch.tensor([[0.3]]), torch.ones(1, 1))
    for other in (0.25, 0.35):
        assert losses.heights(torch.logit(torch.tensor([[other]])), torch.tensor([[0.3]]), torch.ones(1, 1)) > lowest
    d, scores = torch.tensor([[0.9, 0.1, 0.7]]), torch.tensor([[0.4, 0.6, 0.0]])
    assert losses.floor(d, scores, torch.tensor([[1.0, 1.0, 0.0]])).item() == pytest.approx(0.25)


def test_distance_and_ranking_values() -> None:
    one, other = torch.eye(4, dtype=torch.float64)[:2]
    target = torch.stack([one, other, one])[None]
    values = torch.stack([one, one, one])[None]
    counted = torch.ones(1, 3, dtype=torch.float64)
    assert losses.distance(values, target, counted).item() == pytest.approx(1 / 3)
    at = torch.tensor([[[0.0, 0.0], [50.0, 0.0], [3.0, 0.0]]], dtype=torch.float64)
    e = torch.exp(torch.tensor(1 / 0.07, dtype=torch.float64))
    # the third place is too near to the first to count as its rival; both are rivals of the second
    first, second = torch.log((e + 1) / e), torch.log((1 + 2 * e) / 1)
    expected = (2 * first + second) / 3
    assert losses.ranking(values, target, at, counted).item() == pytest.approx(expected.item())
    # what does not count is nobody's rival either
    alone = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    assert losses.ranking(values, target, at, alone).item() == pytest.approx(0)


def test_gradients_of_what_was_added() -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    counted = torch.tensor([[1.0, 0.0, 1.0]] * 2, dtype=torch.float64)
    at = 7 + 3 * random(2, 1, 3, 2).detach()
    values, target = random(2, 3, 4), random(2, 3, 4).detach()
    for function, inputs in (
        (lambda x: losses.reprojection(x, at, counted[:, None]), random(2, 1, 16, 16)),
        (lambda x: losses.heights(x, target[..., 0], counted), random(2, 3)),
        (lambda x: losses.distance(x, target, counted), values),
        (lambda x: losses.ranking(x, target, 10 * target[..., :2], counted), values),
        (lambda x: losses.balance(x, torch.ones(2, 1, 32, 32)), random(2, 3, 32, 32)),
    ):
        assert torch.autograd.gradcheck(function, (inputs,), fast_mode=True)
