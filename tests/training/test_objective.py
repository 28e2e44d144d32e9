"""Where the losses look: anchors inside the shared area, no negative beside a positive, every part switchable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra train")

from tiepoints.training.objective import LOSSES, Objective, objective, sample  # noqa: E402
from tiepoints.training.pairs import Batch, uniforms_of  # noqa: E402
from tiepoints.training.places import Places, ScoreMaps  # noqa: E402
from tiepoints.training.warps import View  # noqa: E402

S, B, K, D = 64, 2, 2, 16
OF_TEACHER = {"heights", "floor", "distance", "ranking"}


def identity_batch(seed: int = 0) -> Batch:
    """Image b equals image a: every pixel's counterpart is itself, and the photograph's."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(B, 1, S, S, generator=generator)
    y, x = torch.meshgrid(torch.arange(S), torch.arange(S), indexing="ij")
    grid = (torch.stack([x, y], dim=2).float() * (2 / (S - 1)) - 1).expand(B, S, S, 2)
    view = View(torch.eye(3).repeat(B, 1, 1), torch.eye(3).repeat(B, 1, 1))
    valid = torch.ones(2 * B, S, S, dtype=torch.bool)
    return Batch(image.repeat(2, 1, 1, 1), grid, valid, torch.rand(B, uniforms_of(S), generator=generator), view, view)


def taught_batch(scores: int = 100) -> Batch:
    """The same with a teacher whose score is the same everywhere."""
    batch = identity_batch()
    generator = torch.Generator().manual_seed(9)
    values = torch.nn.functional.normalize(torch.randn(2 * B, 20, D, generator=generator), dim=2)
    batch.places = Places(torch.rand(2 * B, 20, 2, generator=generator) * (S - 1), values, torch.ones(2 * B, 20))
    batch.scores = ScoreMaps(torch.full((2 * B, S, S), scores, dtype=torch.uint8))
    return batch


def outputs(seed: int = 1, other: int | None = None) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
    """Of both images: equal ones, or those of another seed for the second."""
    halves = []
    for each in (seed, seed if other is None else other):
        generator = torch.Generator().manual_seed(each)
        logits = torch.randn(B, K, S, S, generator=generator)
        halves.append((logits, torch.randn(B, D, S // 4, S // 4, generator=generator)))
    (logits_a, described_a), (logits_b, described_b) = halves
    return {K: torch.cat([logits_a, logits_b])}, torch.cat([described_a, described_b])


WEIGHTS = Objective(anchors=32, peaks=16, warmup=1)


def test_equal_images_and_outputs_have_perfect_similarity_and_positives() -> None:
    _, parts = objective(*outputs(), identity_batch(), WEIGHTS, 10)
    assert set(parts) == {*LOSSES, "positive", "negative"} - OF_TEACHER
    assert parts["similarity"].item() == pytest.approx(0, abs=1e-5)
    assert parts["positive"].item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_can_be_switched_off_and_is_the_weighted_sum_s_share(name: str) -> None:
    arguments = (*outputs(1, 2), taught_batch())
    with_it, parts = objective(*arguments, WEIGHTS, 10)
    without, _ = objective(*arguments, replace(WEIGHTS, **{name: 0.0}), 10)
    assert (with_it - without).item() == pytest.approx(getattr(WEIGHTS, name) * parts[name].item(), abs=1e-4)
    assert parts[name].item() > 0


def test_what_makes_the_teachers_numbers_concerns_only_what_is_compared_with_the_teacher() -> None:
    logits, described = outputs(1, 2)
    factor = torch.randn(D, D, generator=torch.Generator().manual_seed(5))
    made = torch.einsum("bdhw,ed->behw", described, factor)
    parts = objective(logits, described, taught_batch(), WEIGHTS, 10, factor)[1]
    plain, theirs = (objective(logits, each, taught_batch(), WEIGHTS, 10)[1] for each in (described, made))
    for name, value in parts.items():
        of_teacher = name in ("distance", "ranking")
        torch.testing.assert_close(value, (theirs if of_teacher else plain)[name], atol=1e-5, rtol=1e-5)
        assert not of_teacher or abs(float(value - plain[name])) > 1e-3


def test_the_triplet_is_blended_in_after_the_warmup() -> None:
    arguments = (*outputs(1, 2), identity_batch())
    others = dict.fromkeys(set(LOSSES) - {"triplet", "entropy"}, 0.0)
    weights = replace(Objective(anchors=32, warmup=10), **others)
    for step, blend in ((0, 0.0), (10, 0.0), (15, 0.5), (20, 1.0), (1000, 1.0)):
        total, parts = objective(*arguments, weights, step)
        expected = weights.entropy * parts["entropy"] + blend * weights.triplet * parts["triplet"]
        assert total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_of_several_heads_the_mean_counts() -> None:
    logits, described = outputs(1, 2)
    four = {4: torch.randn(2 * B, 4, S, S, generator=torch.Generator().manual_seed(3))}
    weights = replace(WEIGHTS, window=16)
    both = objective(logits | four, described, taught_batch(), weights, 10)[1]
    alone = [objective(heads, described, taught_batch(), weights, 10)[1] for heads in (logits, four)]
    for name in ("similarity", "peaky", "intersections", "balance"):
        assert both[name].item() == pytest.approx((alone[0][name] + alone[1][name]).item() / 2, abs=1e-5)


def test_peaks_are_looked_for_where_the_map_carries_them_and_weighed_by_the_teacher() -> None:
    """Single bumps, equal in both images: reprojection is small, moved by two pixels it is large."""
    bumps = torch.full((B, 1, S, S), -8.0)
    for y in range(12, S - 10, 12):
        for x in range(12, S - 10, 12):
            bumps[:, 0, y, x] = 8.0
    moved = torch.roll(bumps, 2, 3)
    described = outputs()[1]

    def parts(first: torch.Tensor, second: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        return objective({1: torch.cat([first, second])}, described, batch, WEIGHTS, 10)[1]

    assert parts(bumps, bumps, identity_batch())["reprojection"] < 0.01
    assert parts(bumps, moved, identity_batch())["reprojection"] > 10
    # a peak of 1 where the teacher says s: -log(1 - D) (1 - s) - log(D) s
    for scores, expected in ((255, 0.0003), (0, 8.0003), (51, 0.8 * 8.0003 + 0.2 * 0.0003)):
        taught = parts(bumps, bumps, taught_batch(scores))
        assert taught["heights"].item() == pytest.approx(expected, abs=1e-3)
    assert parts(bumps, bumps, taught_batch(0))["floor"].item() < 0.1
    high = torch.full_like(bumps, 8.0)
    assert parts(high, high, taught_batch(51))["floor"].item() == pytest.approx(0.8, abs=1e-3)


def test_sets_together_ask_for_about_as_many_keypoints_as_two() -> None:
    """The windows of more sets are larger; the paper's are kept for one and two."""
    assert [Objective().window_of(k) for k in (1, 2, 4, 8)] == [16, 16, 24, 32]
    for k in (3, 5, 16, 255):
        assert k / Objective().window_of(k) ** 2 == pytest.approx(2 / 16**2, rel=0.5)
    assert Objective(window=20).window_of(8) == 20


def test_nothing_beyond_the_valid_area_moves_the_loss() -> None:
    """Anchors lie where both images see the same; what a's heatmap says elsewhere has no gradient."""
    batch = identity_batch()
    batch.valid[..., 32:] = False
    heads, described = outputs(1, 2)
    heads[K].requires_grad_()
    total, _ = objective(heads, described, batch, WEIGHTS, 10)
    total.backward()
    assert heads[K].grad is not None
    assert (heads[K].grad[:B, ..., 37:] == 0).all()
    assert (heads[K].grad[:B, ..., :32] != 0).any()


def test_negatives_beside_the_positive_do_not_count() -> None:
    """A descriptor map that is one smooth blob: only what lies farther than `exclusion` may be the hardest."""
    batch = identity_batch()
    angle = torch.linspace(0, torch.pi / 2, S // 4)  # descriptors turn slowly from left to right
    row = torch.stack([torch.cos(angle), torch.sin(angle)])
    described = row[None, :, None, :].expand(2 * B, 2, S // 4, S // 4).contiguous()
    logits = {K: torch.zeros(2 * B, K, S, S)}
    # a negative in the same column is equal to the positive, unless all the height is excluded
    hardest = []
    for exclusion in (1.0, 24.0, 100.0):
        weights = replace(WEIGHTS, exclusion=exclusion)
        hardest.append(objective(logits, described, batch, weights, 10)[1]["negative"].item())
    assert hardest[0] > 0.99
    assert hardest[2] == pytest.approx(-1), "everything is excluded"
    assert hardest[0] >= hardest[1] > hardest[2]


def test_what_anchors_out_of_sight_meet_is_no_negative() -> None:
    """All places of a that b does not see map to one spot of b, whose descriptor is every anchor's own."""
    batch = identity_batch()
    batch.valid[:] = False
    batch.valid[..., :4, :4] = True  # fewer pixels than anchors: the others are drawn out of sight

    class Squeezed(View):
        def from_photo(self, points: torch.Tensor) -> torch.Tensor:
            return torch.where((points < 4).all(dim=2, keepdim=True), points, 4 * 9 + 1.5)

    batch.b = Squeezed(torch.eye(3).repeat(B, 1, 1), torch.eye(3).repeat(B, 1, 1))
    own, of_a, of_b = torch.eye(3)[:, :, None, None]
    described_a, described_b = (x.repeat(B, 1, S // 4, S // 4) for x in (of_a, of_b))
    for described in (described_a, described_b):
        described[..., :2, :2] = own
    described_b[..., 9, 9] = own[..., 0, 0]  # odd: between the candidates of the grid
    logits = {K: torch.zeros(2 * B, K, S, S)}
    _, parts = objective(logits, torch.cat([described_a, described_b]), batch, WEIGHTS, 10)
    assert parts["positive"].item() == pytest.approx(1)
    assert parts["negative"].item() == pytest.approx(0, abs=1e-5)


def test_descriptors_are_sampled_where_the_extractor_samples_them() -> None:
    from tiepoints.extraction.descriptors import described_at

    described = torch.randn(1, D, 12, 20)
    at = torch.tensor([[[0.0, 0.0], [1.5, 1.5], [33.3, 17.9], [79.0, 47.0], [78.0, 2.0]]])
    ours = sample(described, at)[0].numpy()
    np.testing.assert_allclose(
        ours, described_at([described[0].permute(1, 2, 0).numpy()], at[0].numpy(), (0, 0), 1), atol=1e-5
    )
