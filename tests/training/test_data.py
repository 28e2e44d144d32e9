"""The stream of pairs: repeatable, resumable, shared out without repetition."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra train")

from tiepoints.training.data import Pairs, batches, split  # noqa: E402

import tiepoints as tp  # noqa: E402
from tiepoints.training.pairs import Photographs, Warps  # noqa: E402


@pytest.fixture
def pairs(photographs: Path) -> Pairs:
    return Pairs(Photographs(sorted(photographs.iterdir())), Warps(size=64), seed=5)


def same(a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_later_start_and_workers_give_the_same_batches(pairs: Pairs) -> None:
    plain = list(islice(batches(pairs, 2, workers=0), 4))
    assert plain[0].image_a.shape == (2, 1, 64, 64) and plain[0].b_from_a.shape == (2, 64, 64, 2)
    assert not torch.equal(plain[0].image_a, plain[1].image_a)
    later = list(islice(batches(pairs, 2, step=2, workers=0), 2))
    assert same(later[0], plain[2]) and same(later[1], plain[3])
    worked = list(islice(batches(pairs, 2, workers=2), 4))
    assert all(same(a, b) for a, b in zip(plain, worked, strict=True))


def test_processes_share_each_step_s_pairs(pairs: Pairs) -> None:
    whole = list(islice(batches(pairs, 4, workers=0), 3))
    parts = [list(islice(batches(pairs, 2, rank=rank, world=2, workers=0), 3)) for rank in range(2)]
    for step in range(3):
        both = [torch.cat([x, y]) for x, y in zip(parts[0][step], parts[1][step], strict=True)]
        assert same(tuple(both), whole[step])


def test_every_photograph_is_used_once_a_round(pairs: Pairs) -> None:
    used: list[int] = []

    class Watched(Photographs):
        def __getitem__(self, index: int) -> object:  # type: ignore[override]
            used.append(index)
            return super().__getitem__(index)

    watched = Pairs(Watched(pairs.photographs.paths), pairs.warps, 5)
    for number in range(20):
        watched[number]
    assert sorted(used[:10]) == sorted(used[10:]) == list(range(10))
    assert used[:10] != used[10:]


def test_split_holds_out_the_same_photographs_always(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.jpg" for i in range(200)]
    seen, held = split(paths)
    assert len(held) == 6 and not set(seen) & set(held) and set(seen) | set(held) == set(paths)
    assert split(paths[::-1]) == (seen, held)
    assert [len(split(paths[:n])[1]) for n in (2, 9, 40)] == [1, 3, 5]  # enough to judge by, where there are enough
    many = [tmp_path / f"{i}.jpg" for i in range(5000)]
    assert len(split(many)[1]) == 30
    with pytest.raises(tp.InvalidInputError, match="too few"):
        split(paths[:1])
