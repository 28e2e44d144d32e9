"""A matcher is an object or a name; other packages add theirs."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import tiepoints as tp
from tiepoints.matching import Matcher, Nearest, load_matcher, matchers, registry


class InOrder(Matcher):
    """The first feature with the first, and so on."""

    def __init__(self, *, most: int = 3) -> None:
        self.most = most

    def _match(self, a: tp.Features, b: tp.Features) -> tp.Matches:
        n = min(len(a), len(b), self.most)
        return tp.Matches(np.repeat(np.arange(n)[:, None], 2, axis=1), np.ones(n))  # type: ignore[arg-type]


class Entry:
    """An entry point as an installed package has it."""

    name = "in-order"

    def load(self) -> type[Matcher]:
        return InOrder


@pytest.fixture
def some() -> tp.Features:
    return tp.Features(np.zeros((5, 2)), np.eye(5), np.ones(5), (9, 9))  # type: ignore[arg-type]


def test_by_name_and_as_an_object(some: tp.Features) -> None:
    for matcher in ("nearest", "NEAREST", Nearest(), Nearest(ratio=0.9)):
        assert [(i, j) for i, j, _ in tp.match(some, some, matcher=matcher)] == [(i, i) for i in range(5)]
    assert len(tp.match(some, some, matcher=InOrder(most=2))) == 2
    assert repr(load_matcher("nearest", ratio=1)) == "Nearest(ratio=1.0, min_similarity=None, mutual=True)"
    again = pickle.loads(pickle.dumps(Nearest(ratio=0.8, mutual=False)))
    assert again.options() == {"ratio": 0.8, "min_similarity": None, "mutual": False}


def test_other_packages_add_theirs(some: tp.Features, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_plugins", lambda: {"in-order": Entry()})
    assert matchers()[-1] == "in-order"
    assert len(tp.match(some, some, matcher="in-order", most=4)) == 4


def test_what_a_matcher_of_ones_own_returns_is_checked(some: tp.Features) -> None:
    class Careless(Matcher):
        def __init__(self, *, result: object) -> None:
            self.result = result

        def _match(self, a: tp.Features, b: tp.Features) -> tp.Matches:
            return self.result  # type: ignore[return-value]

    for result, message in (
        (np.zeros((2, 2)), r"what Careless\._match returns is an array .*but Matches is expected"),
        (tp.Matches([[0, 5]], [1]), r"Careless\._match returns wrong row numbers: .*keypoint \[0, 5\]"),
    ):
        with pytest.raises(tp.InvalidInputError, match=message):
            tp.match(some, some, matcher=Careless(result=result))


def test_wrong_use_is_named(some: tp.Features) -> None:
    for options, message in (
        ({"matcher": "nearets"}, "did you mean 'nearest'"),
        ({"matcher": 3}, "matcher is 3, but must be a Matcher or one of nearest"),
        ({"ratoi": 3}, r"no option ratoi \(did you mean 'ratio'\?\); it takes ratio, min_similarity, mutual"),
        ({"matcher": Nearest(), "ratio": 0.9}, "has its options already"),
    ):
        with pytest.raises(tp.InvalidInputError, match=message):
            tp.match(some, some, **options)  # type: ignore[arg-type]
