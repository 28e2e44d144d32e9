"""Where the losses look: anchors inside the shared area, no negative beside a positive, every part switchable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra train")

from tiepoints.training.objective import LOSSES, Batch, Objective, objective, sample  # noqa: E402

S, B, K, D = 64, 2, 2, 16


def identity_batch(seed: int = 0) -> Batch:
    """Image b equals image a: every pixel's counterpart is itself."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(B, 1, S, S, generator=generator)
    y, x = torch.meshgrid(torch.arange(S), torch.arange(S), indexing="ij")
    field = torch.stack([x, y], dim=2).float().expand(B, S, S, 2).clone()
    return Batch(image, image, field, torch.ones(B, 1, S, S), torch.rand(B, S, S, generator=generator))


def outputs(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, K, S, S, generator=generator)
    return logits, torch.randn(B, D, S // 4, S // 4, generator=generator)


WEIGHTS = Objective(anchors=32, warm_up=1)


def test_equal_images_and_outputs_have_perfect_similarity_and_positives() -> None:
    logits, described = outputs()
    _, parts = objective((logits, logits, described, described), identity_batch(), WEIGHTS, 10)
    assert set(parts) == {*LOSSES, "positive", "negative"}
    assert parts["similarity"].item() == pytest.approx(0, abs=1e-5)
    assert parts["positive"].item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_can_be_switched_off_and_is_the_weighted_sum_s_share(name: str) -> None:
    logits, described = outputs()
    others = outputs(2)
    arguments = ((logits, others[0], described, others[1]), identity_batch())
    with_it, parts = objective(*arguments, WEIGHTS, 10)
    without, _ = objective(*arguments, replace(WEIGHTS, **{name: 0.0}), 10)
    assert (with_it - without).item() == pytest.approx(getattr(WEIGHTS, name) * parts[name].item(), abs=1e-5)
    assert parts[name].item() > 0


def test_the_triplet_is_blended_in_after_the_warm_up() -> None:
    logits, described = outputs()
    arguments = ((logits, logits, described, outputs(2)[1]), identity_batch())
    weights = Objective(anchors=32, warm_up=10, similarity=0, peaky=0, intersections=0, unreliable=0)
    for step, blend in ((0, 0.0), (10, 0.0), (15, 0.5), (20, 1.0), (1000, 1.0)):
        total, parts = objective(*arguments, weights, step)
        expected = weights.entropy * parts["entropy"] + blend * weights.triplet * parts["triplet"]
        assert total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_sets_together_ask_for_about_as_many_keypoints_as_two() -> None:
    """The windows of more sets are larger; the paper's are kept for one and two."""
    assert [Objective().window_of(k) for k in (1, 2, 4, 8)] == [16, 16, 24, 32]
    for k in (3, 5, 16, 255):
        assert k / Objective().window_of(k) ** 2 == pytest.approx(2 / 16**2, rel=0.5)
    assert Objective(window=20).window_of(8) == 20


def test_nothing_beyond_the_valid_area_moves_the_loss() -> None:
    """Anchors lie where both images see the same; what a's heatmap says elsewhere has no gradient."""
    batch = identity_batch()
    valid = batch.valid_a.clone()
    valid[..., 32:] = 0
    batch = batch._replace(valid_a=valid)
    logits, described = outputs()
    logits.requires_grad_()
    total, _ = objective((logits, outputs(2)[0], described, described), batch, WEIGHTS, 10)
    total.backward()
    assert logits.grad is not None
    assert (logits.grad[..., 36:] == 0).all()
    assert (logits.grad[..., :32] != 0).any()


def test_negatives_beside_the_positive_do_not_count() -> None:
    """A descriptor map that is one smooth blob: only what lies farther than `exclusion` may be the hardest."""
    batch = identity_batch()
    angle = torch.linspace(0, torch.pi / 2, S // 4)  # descriptors turn slowly from left to right
    row = torch.stack([torch.cos(angle), torch.sin(angle)])
    described = row[None, :, None, :].expand(B, 2, S // 4, S // 4).contiguous()
    logits = torch.zeros(B, K, S, S)
    # a negative in the same column is equal to the positive, unless all the height is excluded
    hardest = []
    for exclusion in (1.0, 24.0, 100.0):
        weights = replace(WEIGHTS, exclusion=exclusion)
        hardest.append(objective((logits, logits, described, described), batch, weights, 10)[1]["negative"].item())
    assert hardest[0] > 0.99
    assert hardest[2] == pytest.approx(-1), "everything is excluded"
    assert hardest[0] >= hardest[1] > hardest[2]


def test_what_anchors_out_of_sight_meet_is_no_negative() -> None:
    """All places of a that b does not see map to one spot of b, whose descriptor is every anchor's own."""
    batch = identity_batch()
    valid = torch.zeros(B, 1, S, S)
    valid[..., :4, :4] = 1  # fewer pixels than anchors: the others are drawn out of sight
    own, of_a, of_b = torch.eye(3)[:, :, None, None]
    described_a, described_b = (x.repeat(B, 1, S // 4, S // 4) for x in (of_a, of_b))
    for described in (described_a, described_b):
        described[..., :2, :2] = own
    described_b[..., 9, 9] = own[..., 0, 0]  # odd: between the candidates of the grid
    field = batch.b_from_a.clone()
    field[~(valid[:, 0] > 0)] = 4 * 9 + 1.5  # the centre of that descriptor
    logits = torch.zeros(B, K, S, S)
    batch = batch._replace(valid_a=valid, b_from_a=field)
    _, parts = objective((logits, logits, described_a, described_b), batch, WEIGHTS, 10)
    assert parts["positive"].item() == pytest.approx(1)
    assert parts["negative"].item() == pytest.approx(0, abs=1e-5)


def test_descriptors_are_sampled_where_the_extractor_samples_them() -> None:
    from tiepoints.extraction.mdnet import sampled

    described = torch.randn(1, D, 12, 20)
    at = torch.tensor([[[0.0, 0.0], [1.5, 1.5], [33.3, 17.9], [79.0, 47.0], [78.0, 2.0]]])
    ours = sample(described, at)[0].numpy()
    np.testing.assert_allclose(ours, sampled(described[0].permute(1, 2, 0).numpy(), at[0].numpy()), atol=1e-5)
