"""MD-Net: sets that complement each other, keypoints that follow the image, and its own options."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.extraction.model import released
from tiepoints.geometry import project

SETS = [1, 2, 4, 8]


@pytest.fixture(scope="module")
def photograph(examples: Path) -> NDArray[np.uint8]:
    return tp.read(examples / "desk_1.jpg", grey=True)


@pytest.fixture(scope="module")
def found(photograph: NDArray[np.uint8]) -> Callable[..., tp.Features]:
    """What MD-Net with some options finds in the photograph; computed once for all tests that ask for the same."""

    @functools.cache
    def extract(**options: Any) -> tp.Features:
        return tp.load("mdnet", **options)(photograph)

    return extract


def nearest(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """The distance from each point of a to the nearest of b."""
    return np.asarray(np.linalg.norm(a[:, None] - b[None], axis=2).min(axis=1))


def test_one_file_has_the_four_numbers_of_sets() -> None:
    assert tp.load("mdnet").sets == 2  # type: ignore[attr-defined]
    assert [tp.load("mdnet", sets=k).sets for k in SETS] == SETS  # type: ignore[attr-defined]
    with pytest.raises(tp.InvalidInputError, match="heads of 2, 4, 8 sets, which make no 3"):
        tp.load("mdnet", sets=3)


@pytest.mark.parametrize("k", SETS)
def test_sets_are_complementary(found: Callable[..., tp.Features], k: int) -> None:
    """By the network itself, too: without suppression across the sets no more keypoints are near each other."""
    for radius in (2, 0):
        features = found(sets=k, scales=(1,), nms_radius_across=radius)
        assert (features.sets is None) == (k == 1)
        if features.sets is None:
            return
        share = np.bincount(features.sets, minlength=k) / len(features)
        assert share.min() > 0.3 / k, "every set takes its part"
        close = [
            nearest(features.keypoints[features.sets == m], features.keypoints[features.sets != m]) < 2
            for m in range(k)
        ]
        assert np.concatenate(close).mean() < 0.02


@pytest.mark.parametrize("k", SETS)
def test_matching_costs_one_kth(found: Callable[..., tp.Features], k: int) -> None:
    features = found(sets=k)
    counts = np.bincount(features.sets) if features.sets is not None else np.array([len(features)])
    assert (counts.astype(float) ** 2).sum() / len(features) ** 2 < 1.05 / k


def test_one_set_is_two_taken_together(found: Callable[..., tp.Features]) -> None:
    one, two = (found(sets=k) for k in (1, 2))
    assert one.sets is None and two.sets is not None
    np.testing.assert_array_equal(one.keypoints, two.keypoints)
    np.testing.assert_array_equal(one.descriptors, two.descriptors)


def test_balanced_sets_have_equal_shares(photograph: NDArray[np.uint8]) -> None:
    features = tp.load("mdnet", balanced=True, max_keypoints=301)(photograph)
    assert sorted(np.bincount(features.sets)) == [150, 151]


@pytest.mark.parametrize("shift", [(16, 0), (0, 32), (48, 16)])
def test_a_shift_by_whole_strides_moves_the_keypoints_exactly(
    photograph: NDArray[np.uint8], shift: tuple[int, int]
) -> None:
    dx, dy = shift
    extractor = tp.load("mdnet", scales=(1,), max_keypoints=400)
    a, b = extractor(photograph[: 480 - 64, : 640 - 64]), extractor(photograph[dy : dy + 416, dx : dx + 576])
    moved = a.keypoints - [dx, dy]
    inner = ((moved > 48) & (moved < np.array([576, 416]) - 48)).all(axis=1)
    assert inner.sum() > 100
    assert (nearest(moved[inner], b.keypoints) < 0.5).mean() > 0.8


def test_keypoints_follow_a_warp(photograph: NDArray[np.uint8]) -> None:
    """A rotation by 10 degrees and a scale of 1.1: most matches lie within 1.5 px of where the warp puts them."""
    matrix = cv2.getRotationMatrix2D((320, 240), 10, 1.1)
    warped = np.asarray(cv2.warpAffine(photograph, matrix, (640, 480)), np.uint8)
    extractor = tp.load("mdnet", max_keypoints=1000)
    a, b = extractor(photograph), extractor(warped)
    matches = tp.match(a, b)
    before, after = matches.points(a, b)
    error = np.linalg.norm(before @ matrix[:, :2].T + matrix[:, 2] - after, axis=1)
    assert len(matches) > 300
    assert (error < 1.5).mean() > 0.6


def test_suppression_and_border(photograph: NDArray[np.uint8]) -> None:
    features = tp.load("mdnet", scales=(1,), nms_radius=6, nms_radius_across=6, remove_borders=20)(photograph)
    distance = np.abs(features.keypoints[:, None] - features.keypoints[None]).max(axis=2)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 5  # the peaks are 7 px apart; the summits may lie half a pixel off either
    assert (features.keypoints > 19).all() and (features.keypoints < np.array([640, 480]) - 20).all()


def test_threshold_and_scores(found: Callable[..., tp.Features]) -> None:
    everything, sure = found(sets=2), found(detection_threshold=0.5)
    assert ((everything.scores >= 0) & (everything.scores <= 1)).all()
    assert (sure.scores > 0.5).all()
    assert len(sure) == (everything.scores > 0.5).sum()


def test_keypoints_lie_anywhere_within_a_pixel_of_their_peak(photograph: NDArray[np.uint8]) -> None:
    """And evenly: 0.4 of them are more than 0.3 px off the nearest whole pixel."""
    extractor = tp.load("mdnet", scales=(1,))
    features, (heatmaps, _) = extractor(photograph), extractor.dense(photograph)  # type: ignore[attr-defined]
    assert features.sets is not None
    nearest = np.rint(features.keypoints)
    off = np.abs(features.keypoints - nearest)
    assert ((off > 0.3).mean(axis=0) > 0.3).all() and ((off > 0.3).mean(axis=0) < 0.5).all()
    radius = extractor.nms_radius  # type: ignore[attr-defined]
    tops = [cv2.dilate(heat, np.ones((2 * radius + 1,) * 2, np.uint8)) for heat in heatmaps]
    nearby = np.full(len(features), np.inf)
    for m, (heat, top) in enumerate(zip(heatmaps, tops, strict=True)):
        y, x = np.nonzero(heat == top)
        own = np.flatnonzero(features.sets == m)
        distance = np.abs(features.keypoints[own, None] - np.stack([x, y], axis=1)[None]).max(axis=2)
        nearby[own] = distance.min(axis=1)
    assert nearby.max() < 1 + 1e-4
    assert (nearby < 0.5).mean() > 0.5


def test_the_uncertainty_tells_how_far_off_matches_are(
    photograph: NDArray[np.uint8], found: Callable[..., tp.Features]
) -> None:
    """Of a distance in two dimensions whose parts have the standard deviation s, the median is 1.177 s."""
    turn = np.vstack([cv2.getRotationMatrix2D((320, 240), 20, 0.8), [0, 0, 1]])
    warped = cv2.warpPerspective(photograph, turn, (640, 480), flags=cv2.INTER_AREA)
    a, b = found(sets=2), tp.load("mdnet")(warped)
    assert a.uncertainties is not None and b.uncertainties is not None
    i, j = tp.match(a, b).indices.T
    off = np.linalg.norm(project(turn, a.keypoints[i]) - b.keypoints[j], axis=1)
    told = np.hypot(0.8 * a.uncertainties[i], b.uncertainties[j])
    correct = off < 3
    off, told = off[correct], told[correct]
    sure, unsure = told < np.quantile(told, 0.25), told > np.quantile(told, 0.75)
    assert np.median(off[sure]) < 0.75 * np.median(off[unsure])
    assert 0.6 < np.median(off / told) / 1.177 < 1.5


def test_uncertainties_are_in_pixels_of_the_photograph(
    photograph: NDArray[np.uint8], found: Callable[..., tp.Features]
) -> None:
    large = cv2.resize(photograph, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    here, there = found(sets=2), tp.load("mdnet", max_size=640)(large)
    assert here.uncertainties is not None and there.uncertainties is not None
    np.testing.assert_allclose(there.uncertainties, 2 * here.uncertainties, rtol=1e-5)


@pytest.mark.parametrize("factor", [0.5, 0.4])
def test_a_pyramid_matches_photographs_of_different_size(
    photograph: NDArray[np.uint8], found: Callable[..., tp.Features], factor: float
) -> None:
    small = cv2.resize(photograph, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    correct = {}
    for scales in ((1,), (1, 0.5)):
        a, b = found(scales=scales), tp.load("mdnet", scales=scales)(small)
        matches = tp.match(a, b)
        there = (a.keypoints[matches.indices[:, 0]] + 0.5) * factor - 0.5
        off = np.linalg.norm(there - b.keypoints[matches.indices[:, 1]], axis=1)
        correct[scales] = (off < 2).mean()
        assert len(a) <= 2048
        assert (a.scales is None) == (len(scales) == 1)
    assert correct[1, 0.5] > 1.2 * correct[1,]
    assert a.scales is not None
    assert set(np.unique(a.scales).tolist()) == {16, 32}


def test_one_scale_is_that_of_the_image_made_smaller(photograph: NDArray[np.uint8]) -> None:
    half = tp.load("mdnet", scales=(0.5,))(photograph)
    other = tp.load("mdnet", scales=(1,), max_size=320)(photograph)
    np.testing.assert_array_equal(half.keypoints, other.keypoints)
    np.testing.assert_array_equal(half.descriptors, other.descriptors)


@pytest.mark.parametrize("scales", [(), (1, 1), (0,), (np.nan,), "1", (1, "a"), (100,)])
def test_odd_scales_are_refused(scales: object) -> None:
    with pytest.raises(tp.InvalidInputError, match="scales"):
        tp.load("mdnet", scales=scales)


@pytest.mark.parametrize("edge", [16, 40, 64])
@pytest.mark.parametrize("k", [1, 2])
def test_a_checkerboard_has_keypoints_whether_it_is_turned_or_not(edge: int, k: int) -> None:
    """Without any noise, its grey is constant around each response of the network, which lies beside the corner."""
    y, x = np.mgrid[:900, :1000]
    board = ((x // edge + y // edge) % 2 * 255).astype(np.uint8)
    turned = cv2.warpAffine(board, cv2.getRotationMatrix2D((500, 450), 1, 1), (1000, 900))
    straight, tilted = (len(tp.load("mdnet", sets=k)(part[200:680, 150:790])) for part in (board, turned))
    assert 0.6 < straight / tilted < 1.6 and straight > 400


def test_where_nothing_changes_there_is_nothing(photograph: NDArray[np.uint8]) -> None:
    image = photograph.copy()
    image[:, 300:] = 77
    for scales, reach in (((1,), 9), ((0.85, 0.425), 21)):
        features = tp.load("mdnet", scales=scales)(image)
        assert len(features) > 200 and features.keypoints[:, 0].max() < 300 + reach
    for value in (0, 128, 255):
        assert not len(tp.load("mdnet")(np.full((480, 640), value, np.uint8)))


@pytest.mark.parametrize("name", ["mdnet-large", "mdnet-small"])
@pytest.mark.parametrize(("k", "share"), [(2, 0.7), (4, 0.45)])
def test_features_of_the_other_sizes_match_set_by_set(
    photograph: NDArray[np.uint8], found: Callable[..., tp.Features], name: str, k: int, share: float
) -> None:
    """All learned the space of one teacher, and set m of each finds much of what set m of the others does."""
    extractor = tp.load(name, sets=k)
    middle, other = found(sets=k), extractor(photograph)
    assert extractor.metadata.name == name
    assert len(other) > 1800 and other.descriptors.shape[1] == 64
    assert not np.array_equal(middle.keypoints, other.keypoints)
    before, after = tp.match(middle, other).points(middle, other)
    right = np.linalg.norm(before - after, axis=1) < 2
    assert right.mean() > share and right.sum() > 500


def test_descriptors_in_the_teachers_space(photograph: NDArray[np.uint8], examples: Path) -> None:
    extractor = tp.load("mdnet", max_keypoints=500)
    features, other = extractor(photograph), extractor(examples / "desk_2.jpg")
    wide, wide_other = (extractor.to_teacher(each) for each in (features, other))  # type: ignore[attr-defined]
    assert wide.descriptors.shape == (500, 128) and wide.rotations == 1
    np.testing.assert_allclose(np.linalg.norm(wide.descriptors, axis=1), 1, atol=1e-4)
    np.testing.assert_array_equal(features.to_teacher().descriptors, wide.descriptors)
    ours, theirs = ({tuple(row) for row in tp.match(*pair).indices.tolist()} for pair in (
        (features, other), (wide, wide_other)))  # fmt: skip
    assert len(ours & theirs) > 0.6 * len(ours), "what is alike there is alike here"
    with pytest.raises(tp.InvalidInputError, match=r"descriptors are 128 x float32, but .* 64 x float32"):
        extractor.to_teacher(wide)  # type: ignore[attr-defined]
    pickled = pickle.loads(pickle.dumps(extractor))
    np.testing.assert_array_equal(pickled.to_teacher(features).descriptors, wide.descriptors)


def test_a_device_by_its_name(photograph: NDArray[np.uint8]) -> None:
    for name in ("cpu", "CPU", "cpu:0"):
        extractor = tp.load("mdnet", device=name, max_keypoints=20)
        assert len(pickle.loads(pickle.dumps(extractor))(photograph)) == 20


def test_dense_output(photograph: NDArray[np.uint8]) -> None:
    heatmaps, descriptors = tp.load("mdnet").dense(photograph[:475, :630])  # type: ignore[attr-defined]
    assert heatmaps.shape == (2, 475, 630) and 0 <= heatmaps.min() <= heatmaps.max() <= 1
    assert descriptors.shape == (64, 119, 158)
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=0), 1, atol=1e-5)


def test_an_extractor_can_be_sent_to_another_process(photograph: NDArray[np.uint8]) -> None:
    extractor = tp.load("mdnet", max_keypoints=50)
    copy = pickle.loads(pickle.dumps(extractor))
    np.testing.assert_array_equal(copy(photograph).keypoints, extractor(photograph).keypoints)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nms_radius": -1}, "nms_radius is -1"),
        ({"nms_radius": 10**20}, "nms_radius is 100000000000000000000, but must be a whole number from 0 to 255"),
        ({"nms_radius_across": -1}, "nms_radius_across is -1"),
        ({"remove_borders": -3}, "remove_borders is -3"),
        ({"detection_threshold": 1.0}, "detection_threshold is 1.0"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": 100000}, "threads is 100000, but must be a whole number from 1 to 1024"),
        ({"nms_radius": "abc"}, "nms_radius is 'abc', but must be a whole number"),
        ({"remove_borders": 1.5}, "remove_borders is 1.5, but must be a whole number"),
        ({"detection_threshold": "high"}, "detection_threshold is 'high', but must be a finite number"),
        ({"detection_threshold": float("nan")}, "detection_threshold is nan, but must be a finite number"),
        ({"device": 0}, "device is 0, but must be a name"),
        ({"device": "abacus"}, "device is 'abacus', but the ONNX Runtime installed here has .*cpu"),
        ({"device": "cpu:x"}, "device is 'cpu:x', but"),
        (
            {"nms": 4},
            r"mdnet has no option nms \(did you mean 'nms_radius'\?\); it takes sets, weights, balanced, scales",
        ),
        ({"balanced": 3}, "balanced is 3, but must be True or False"),
        ({"sets": "two"}, "sets is 'two', but must be a whole number"),
        ({"precision": "int4"}, "precision is 'int4': did you mean 'int8'"),
        ({"weights": 5}, "weights is 5, but must be the path of a file"),
        ({"precision": "int8", "weights": "mine.onnx"}, "files of your own have theirs"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(tp.InvalidInputError, match=message):
        tp.load("mdnet", **options)


@pytest.mark.parametrize("k", SETS)
def test_eight_bits_find_nearly_the_same(found: Callable[..., tp.Features], k: int) -> None:
    exact, coarse = found(sets=k), found(sets=k, precision="int8")
    near = nearest(exact.keypoints, coarse.keypoints) < 1
    assert near.mean() > 0.85
    matches = tp.match(exact, coarse)
    assert len(matches) > 0.8 * len(exact) and np.median(matches.scores) > 0.98


def test_weights_that_are_not_released_in_int8_say_which_are() -> None:
    with pytest.raises(tp.InvalidInputError, match="mdnet-small in int8: mdnet and mdnet-large have them; leave"):
        tp.load("mdnet-small", precision="int8")


def test_released_weights_as_a_file() -> None:
    assert tp.load("mdnet", weights=released(), sets=4).sets == 4  # type: ignore[attr-defined]
    assert tp.load("mdnet", weights=released()).sets == 2  # type: ignore[attr-defined]
