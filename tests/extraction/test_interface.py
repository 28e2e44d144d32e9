"""What every registered extractor keeps, whatever its method."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import tiepoints as tp
from tiepoints.extraction import is_ready, options_of

METADATA = {metadata.name: metadata for metadata in tp.extractors()}
# Of the published models of one network, the first proves the kind.
KINDS = {metadata.paper if metadata.weights else metadata.name: metadata.name for metadata in reversed(tp.extractors())}
# On a CPU; test_learned and test_composed have what they do not share with the others.
SLOW = ("superpoint", "aslfeat", "disk", "r2d2", "alike-", "keynet", "sift+hardtfeat")
BYTES = {"float32": 4, "int8": 1}
FEW = 100  # keypoints, where more tell no more: networks of patches take milliseconds for each


@pytest.fixture(
    params=sorted(name for name in KINDS.values() if not name.startswith(SLOW) and name != "sift+lift"), scope="module"
)
def name(request: pytest.FixtureRequest) -> str:
    if not is_ready(METADATA[request.param]):
        pytest.skip(f"{request.param} needs {METADATA[request.param].requires} and its weights (TIEPOINTS_WEIGHTS)")
    return str(request.param)


@pytest.fixture(scope="module")
def extractor(name: str) -> tp.Extractor:
    """The extractor with few keypoints; one for all tests, as nothing is kept between calls."""
    return tp.load(name, max_keypoints=FEW)


@pytest.fixture(scope="module")
def few(extractor: tp.Extractor, texture: NDArray[np.uint8]) -> tp.Features:
    """What it finds in the texture."""
    return extractor(texture)


def check(features: tp.Features, metadata: tp.Metadata, size: tuple[int, int]) -> None:
    """Shapes, types, order, and no keypoint outside the image."""
    assert features.image_size == size
    n = len(features)
    assert features.keypoints.shape == (n, 2) and features.keypoints.dtype == np.float32
    columns = -(-metadata.descriptor_size // 8) if metadata.descriptor_type == "binary" else metadata.descriptor_size
    assert features.descriptors.shape == (n, columns)
    assert features.descriptors.dtype == ("uint8" if metadata.descriptor_type == "binary" else metadata.descriptor_type)
    assert (np.diff(features.scores) <= 0).all()
    assert (features.keypoints >= -0.5).all()
    assert (features.keypoints <= np.array(size) - 0.5).all()
    if metadata.descriptor_type == "float32" and n:
        np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-3)
    for values in (features.scales, features.angles):
        assert values is None or np.isfinite(values).all()
    if features.scales is not None:
        assert (features.scales > 0).all()


def same(a: tp.Features, b: tp.Features) -> None:
    for field in dataclasses.fields(tp.Features):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=field.name)


def test_card(name: str) -> None:
    metadata = METADATA[name]
    assert metadata.name == name and metadata.summary and metadata.paper and metadata.code_licence
    assert all(len(file.sha256) in (0, 64) for file in metadata.weights)
    assert type(tp.load(name)).metadata == metadata


def test_features_of_a_textured_image(name: str, few: tp.Features) -> None:
    check(few, METADATA[name], (320, 240))
    assert 30 < len(few) <= FEW
    assert len(np.unique(few.descriptors, axis=0)) > 20


def test_the_same_call_gives_the_same_features_and_leaves_the_image(
    name: str, extractor: tp.Extractor, few: tp.Features, texture: NDArray[np.uint8]
) -> None:
    before = texture.copy()
    extractor(texture[::-1])  # nothing is kept between calls
    same(few, extractor(texture))
    same(few, tp.load(name, max_keypoints=FEW)(texture))
    np.testing.assert_array_equal(texture, before)


def test_grey_equals_rgb_of_grey(extractor: tp.Extractor, few: tp.Features, texture: NDArray[np.uint8]) -> None:
    same(few, extractor(np.repeat(texture[:, :, None], 3, axis=2)))


def test_arrays_that_are_not_contiguous(extractor: tp.Extractor, texture: NDArray[np.uint8]) -> None:
    part = texture[:120, :160].copy()
    plain = extractor(part)
    assert len(plain) > 10
    for view in (part[:, ::-1], part.T, texture[::2, ::2]):
        same(extractor(view), extractor(view.copy()))
    same(extractor(np.asfortranarray(part)), plain)
    locked = part.copy()
    locked.flags.writeable = False
    same(extractor(locked), plain)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_image_has_no_keypoints(name: str, level: int) -> None:
    features = tp.load(name)(np.full((120, 160), level, np.uint8))
    assert len(features) == 0
    check(features, METADATA[name], (160, 120))


@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (64, 1), (7, 5), (16, 16), (33, 17), (16, 8000), (8000, 16)])
def test_odd_sizes(name: str, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    check(tp.load(name)(image), METADATA[name], (shape[1], shape[0]))


def test_max_size_returns_original_pixels(name: str, few: tp.Features, texture: NDArray[np.uint8]) -> None:
    big = np.kron(texture, np.ones((3, 3), np.uint8))  # pixel k becomes 3k .. 3k + 2, its centre 3k + 1
    small = tp.load(name, max_size=320, max_keypoints=FEW)(big)
    check(small, METADATA[name], (960, 720))
    assert len(small) == len(few)
    np.testing.assert_allclose(small.keypoints, few.keypoints * 3 + 1, atol=1e-3)
    if few.scales is not None and small.scales is not None:
        np.testing.assert_allclose(small.scales, few.scales * 3, rtol=1e-5)
    np.testing.assert_array_equal(small.descriptors, few.descriptors)


def test_mask(name: str, texture: NDArray[np.uint8]) -> None:
    mask = np.zeros(texture.shape, bool)
    mask[60:180, 100:200] = True
    for options in ({}, {"max_size": 200}):
        features = tp.load(name, max_keypoints=200, **options)(texture, mask=mask)
        assert len(features) > 10
        column, row = np.rint(features.keypoints).astype(int).T
        assert mask[row, column].all()
    assert len(tp.load(name)(texture, mask=np.zeros(texture.shape))) == 0


def test_max_keypoints_keeps_the_best(name: str, texture: NDArray[np.uint8]) -> None:
    everything = tp.load(name, max_keypoints=10_000)(texture)
    few = tp.load(name, max_keypoints=10)(texture)
    assert len(few) == 10 and len(tp.load(name, max_keypoints=1)(texture)) == 1
    assert np.median(few.scores) >= np.quantile(everything.scores, 0.8)


def test_no_features_pass_through_everything(extractor: tp.Extractor, few: tp.Features) -> None:
    none = extractor(np.zeros((50, 60), np.uint8))
    for a, b in ((none, few), (few, none), (none, none)):
        matches = tp.match(a, b)
        assert len(matches) == 0
        for estimate in (tp.homography, tp.fundamental):
            model = estimate(a, b, matches)
            assert not model and model.inliers.shape == (0,)


def test_wrong_images_and_options(name: str, texture: NDArray[np.uint8]) -> None:
    extractor = tp.load(name)
    for image in (
        texture.astype(float),
        texture.astype(np.uint16),
        np.zeros((5, 5, 5), np.uint8),
        None,
        3,
        np.zeros(5),
    ):
        with pytest.raises(tp.InvalidInputError):
            extractor(image)  # type: ignore[arg-type]
    with pytest.raises(tp.InvalidInputError, match="mask has 3x3 pixels"):
        extractor(texture, mask=np.ones((3, 3)))
    for options in ({"max_keypoints": 0}, {"max_size": 0}, {"max_keypoints": "many"}, {"max_size": 0.5}):
        with pytest.raises(tp.InvalidInputError, match="at least 1"):
            tp.load(name, **options)
    with pytest.raises(
        tp.InvalidInputError, match=f"{re.escape(name)} has no option nonsense; it takes .*max_keypoints, max_size"
    ):
        tp.load(name, max_keypoints=9, nonsense=1)


def test_options_are_documented_and_taken(name: str) -> None:
    options = options_of(name)
    assert {"max_keypoints", "max_size", "device"} <= {option.name for option in options}
    assert all(option.kind and option.what and "\n" not in option.what for option in options)
    shown = vars(tp.load(name, **{option.name: option.default for option in options}))
    assert {option.name for option in options} <= set(shown)


def test_repr_shows_the_options(name: str) -> None:
    assert repr(tp.load(name, max_keypoints=7)).startswith(f"<{name} extractor: max_keypoints=7, max_size=None")


def test_angles_turn_with_the_image(name: str, texture: NDArray[np.uint8]) -> None:
    """Turned by 90 degrees clockwise as seen, every orientation grows by pi / 2: our sense, x towards y."""
    extractor = tp.load(name, max_keypoints=500)
    plain, turned = extractor(texture), extractor(np.rot90(texture, -1).copy())
    if plain.angles is None or turned.angles is None or "upright" in name:
        pytest.skip("the method has no orientation")
    height = texture.shape[0]
    expected = np.stack([height - 1 - plain.keypoints[:, 1], plain.keypoints[:, 0]], axis=1)
    distance = np.linalg.norm(expected[:, None] - turned.keypoints[None], axis=2)
    difference = turned.angles[None] - plain.angles[:, None] - np.pi / 2
    close = distance < 0.5
    assert close.any(axis=1).mean() > 0.5
    within = 0.2 if "lift" in name else 0.1  # a short training: of its angles 73 % agree within .1
    agree = close & (np.cos(difference) > np.cos(within))
    assert agree.any(axis=1).sum() > 0.8 * close.any(axis=1).sum()


def test_nothing_is_found_where_a_file_is_transparent(
    extractor: tp.Extractor, texture: NDArray[np.uint8], tmp_path: Path
) -> None:
    alpha = np.zeros(texture.shape, np.uint8)
    cv2.circle(alpha, (160, 120), 100, 255, -1, cv2.LINE_AA)
    picture = Image.fromarray(np.dstack([texture, texture, texture, alpha]))
    picture.save(tmp_path / "cut.png")
    mask = np.zeros(texture.shape, np.uint8)
    mask[:, :150] = 1
    for image in (tmp_path / "cut.png", str(tmp_path / "cut.png"), picture):
        for given in (None, mask):
            column, row = np.rint(extractor(image, given).keypoints).astype(int).T
            assert len(row) > 20 and (alpha[row, column] > 0).all()
            assert given is None or (column < 150).all()


def test_the_outline_of_a_cut_out_is_no_edge(name: str, texture: NDArray[np.uint8]) -> None:
    """A blank object before a white ground has nothing to find, whatever its shape."""
    blank = np.full((*texture.shape, 3), 60, np.uint8)
    alpha = np.zeros(texture.shape, np.uint8)
    outline = np.array([[60, 40], [250, 60], [200, 120], [270, 200], [80, 190], [120, 110]])
    cv2.fillPoly(alpha, [outline], 255, cv2.LINE_AA)
    assert len(tp.load(name)(Image.fromarray(np.dstack([blank, alpha])))) <= 5
