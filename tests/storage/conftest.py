"""Arbitrary features and matches for hypothesis, and what it means that two are the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import strategies as st

from tiepoints.features import Features, Matches


def make_features(
    seed: int, count: int, size: int = 8, dtype: type = np.float32, optional: tuple[str, ...] = ()
) -> Features:
    """Random features; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    if dtype is np.float32:
        descriptors = rng.normal(size=(count, size)).astype(np.float32)
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True) + 1e-9
    else:
        info = np.iinfo(dtype)
        descriptors = rng.integers(info.min, info.max + 1, (count, size)).astype(dtype)
    extra = {
        "sets": rng.integers(0, 4, count).astype(np.uint8),
        "scales": rng.uniform(0.5, 60, count).astype(np.float32),
        "angles": rng.uniform(-4, 7, count).astype(np.float32),
        "uncertainties": rng.uniform(0, 4, count).astype(np.float32),
    }
    return Features(
        rng.uniform(-2, 5000, (count, 2)).astype(np.float32),
        descriptors,
        rng.normal(size=count).astype(np.float32),
        (int(rng.integers(1, 9000)), int(rng.integers(1, 9000))),
        **{name: extra[name] for name in optional},
    )


def make_matches(seed: int, count_a: int, count_b: int) -> Matches:
    """Random mutual matches in the order of the first image's keypoints."""
    rng = np.random.default_rng(seed)
    m = int(rng.integers(0, min(count_a, count_b) + 1))
    rows = np.sort(rng.permutation(count_a)[:m])
    return Matches(np.stack([rows, rng.permutation(count_b)[:m]], axis=1), rng.uniform(-1, 1, m))


st.register_type_strategy(
    Features,
    st.builds(
        make_features,
        seed=st.integers(0, 2**32),
        count=st.integers(0, 20),
        size=st.integers(1, 40),
        dtype=st.sampled_from([np.float32, np.uint8, np.int8]),
        optional=st.sets(st.sampled_from(["sets", "scales", "angles", "uncertainties"])).map(tuple),
    ),
)
st.register_type_strategy(
    Matches, st.builds(make_matches, seed=st.integers(0, 2**32), count_a=st.integers(0, 20), count_b=st.integers(0, 20))
)


@pytest.fixture(scope="session")
def features() -> Callable[..., Features]:
    return make_features


@pytest.fixture(scope="session")
def matches() -> Callable[..., Matches]:
    return make_matches


@pytest.fixture(scope="session")
def assert_same() -> Callable[..., None]:
    """Equality to the bit of two Features, or of two Matches."""

    def check(a: Features | Matches, b: Features | Matches) -> None:
        fields = ("keypoints", "descriptors", "scores", "sets", "scales", "angles", "uncertainties")
        for name in fields if isinstance(a, Features) else ("indices", "scores"):
            x, y = getattr(a, name), getattr(b, name)
            assert (x is None) == (y is None), name
            if x is not None:
                assert x.dtype == y.dtype, name
                np.testing.assert_array_equal(x, y, err_msg=name)
        if isinstance(a, Features):
            assert a.image_size == b.image_size

    return check
