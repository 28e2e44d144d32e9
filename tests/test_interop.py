"""Features and matches go to OpenCV, torch and LightGlue, and come back as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp


@pytest.fixture(scope="module")
def pairs(examples: Path) -> dict[str, tuple[tp.Features, tp.Features]]:
    images = [tp.read(examples / name) for name in ("box.png", "box_in_scene.png")]
    options: dict[str, dict[str, Any]] = {"orb": {}, "rootsift": {}, "mdnet": {"sets": 2}}
    made = {}
    for name, own in options.items():
        extractor = tp.load(name, max_keypoints=200, **own)
        made[name] = (extractor(images[0]), extractor(images[1]))
    return made


def same(a: tp.Features, b: tp.Features, *, sets: bool = True) -> None:
    assert a.image_size == b.image_size
    for name in ("keypoints", "descriptors", "scores", "scales", "angles", *(["sets"] if sets else [])):
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["orb", "rootsift"])
def test_opencv_and_back(pairs: dict[str, tuple[tp.Features, tp.Features]], name: str) -> None:
    a, b = pairs[name]
    keypoints, descriptors = a.to_opencv()
    same(tp.Features.from_opencv(keypoints, descriptors, a.image_size), a)
    matches = tp.match(a, b)
    back = tp.Matches.from_opencv(matches.to_opencv(), a, b)
    np.testing.assert_array_equal(back.indices, matches.indices)
    np.testing.assert_allclose(back.scores, matches.scores, atol=1e-6)
    alone = tp.Matches.from_opencv(matches.to_opencv(a))
    np.testing.assert_array_equal(alone.indices, matches.indices)
    assert (np.diff(alone.scores[np.argsort(-matches.scores)]) <= 1e-6).all() and alone.scores.max() <= 1
    with pytest.raises(tp.InvalidInputError, match="give both"):
        tp.Matches.from_opencv(matches.to_opencv(), a)


def test_sets_go_to_opencv_and_back(pairs: dict[str, tuple[tp.Features, tp.Features]]) -> None:
    a, b = pairs["mdnet"]
    back = [tp.Features.from_opencv(*one.to_opencv(), one.image_size) for one in (a, b)]
    assert a.sets is not None and back[0].sets is not None and len(set(back[0].sets.tolist())) == 2
    np.testing.assert_array_equal(back[0].sets, a.sets)
    np.testing.assert_array_equal(tp.match(*back).indices, tp.match(a, b).indices)


@pytest.mark.parametrize("name", ["AKAZE_create", "KAZE_create", "SIFT_create", "ORB_create"])
def test_levels_of_opencvs_own_methods_are_no_sets(name: str, examples: Path) -> None:
    image = tp.read(examples / "box.png", grey=True)
    make = getattr(cv2, name, None) or getattr(cv2.xfeatures2d, name)  # OpenCV 5 moved some
    points, descriptors = make().detectAndCompute(image, None)
    assert len(points) > 50
    assert tp.Features.from_opencv(points, descriptors, image.shape[::-1]).sets is None


@pytest.mark.parametrize("name", ["orb", "rootsift"])
def test_opencv_matches_our_descriptors_as_we_do(pairs: dict[str, tuple[tp.Features, tp.Features]], name: str) -> None:
    a, b = pairs[name]
    norm = cv2.NORM_HAMMING if a.binary else cv2.NORM_L2
    theirs = cv2.BFMatcher(norm, crossCheck=True).match(a.to_opencv()[1], b.to_opencv()[1])
    ours = {(m.queryIdx, m.trainIdx): m.distance for m in tp.match(a, b).to_opencv(a)}
    common = [(ours[m.queryIdx, m.trainIdx], m.distance) for m in theirs if (m.queryIdx, m.trainIdx) in ours]
    assert len(common) > 0.9 * len(theirs) > 20
    np.testing.assert_allclose(*zip(*common, strict=True), atol=1e-3)


@pytest.mark.parametrize("kind", [cv2.CV_32F, cv2.CV_8U])
def test_opencv_sift_as_it_comes(examples: Path, kind: int) -> None:
    sift = cv2.SIFT_create(300, 3, 0.04, 10, 1.6, kind)
    images = [tp.read(examples / name, grey=True) for name in ("box.png", "box_in_scene.png")]
    found = [sift.detectAndCompute(image, None) for image in images]
    a, b = (tp.Features.from_opencv(p, d, i.shape[::-1]) for (p, d), i in zip(found, images, strict=True))
    np.testing.assert_allclose(np.linalg.norm(a.descriptors, axis=1), 1, atol=1e-5)
    assert a.angles is not None and a.scales is not None
    matches = tp.match(a, b, ratio=0.8)
    assert tp.homography(a, b, matches).num_inliers > 15
    distances = np.array([m.distance for m in matches.to_opencv()])
    raw = [np.linalg.norm(found[0][1][i].astype(float) - found[1][1][j]) for i, j, _ in matches]
    np.testing.assert_allclose(distances, np.array(raw) / 512, rtol=0.02, atol=0.01)


def test_torch_and_back(pairs: dict[str, tuple[tp.Features, tp.Features]]) -> None:
    torch = pytest.importorskip("torch")
    for a, b in pairs.values():
        tensors = a.to_torch()
        assert all(isinstance(value, torch.Tensor) for value in tensors.values())
        tensors["keypoints"][0] = 0  # a copy, that may be written to
        same(tp.Features.from_torch(a.to_torch()), a)
        matches = tp.match(a, b)
        back = tp.Matches.from_torch(matches.to_torch())
        np.testing.assert_array_equal(back.indices, matches.indices)
    half = {"keypoints": torch.ones(1, 3, 2), "descriptors": torch.eye(3)[None].bfloat16().requires_grad_()}
    read = tp.Features.from_torch(half, image_size=(9, 9))
    assert read.descriptors.tolist() == np.eye(3).tolist() and read.scores.tolist() == [1, 1, 1]


def test_lightglue_dictionaries(pairs: dict[str, tuple[tp.Features, tp.Features]]) -> None:
    torch = pytest.importorskip("torch")
    a, b = pairs["rootsift"]
    given = a.to_lightglue()
    assert {name: tuple(value.shape) for name, value in given.items()} == {
        "keypoints": (1, len(a), 2), "descriptors": (1, len(a), 128), "keypoint_scores": (1, len(a)),
        "image_size": (1, 2), "scales": (1, len(a)), "oris": (1, len(a)),
    }  # fmt: skip
    same(tp.Features.from_torch(given), a)
    same(tp.Features.from_lightglue(given), a)
    matches = tp.match(a, b)
    result = matches.to_lightglue(a, b)
    for keys in ({"matches", "scores"}, {"matches0", "matching_scores0"}):
        back = tp.Matches.from_torch({key: result[key] for key in keys})
        np.testing.assert_array_equal(back.indices, matches.indices)
        np.testing.assert_allclose(back.scores, matches.scores)
        np.testing.assert_array_equal(tp.Matches.from_lightglue(result).indices, matches.indices)
    for single in (False, True):  # kornia's LightGlueMatcher, and a batch
        pair = torch.tensor(matches.scores)[:, None], torch.tensor(matches.indices, dtype=torch.long)
        back = tp.Matches.from_lightglue([value[None] for value in pair] if single else pair)
        np.testing.assert_array_equal(back.indices, matches.indices)
        np.testing.assert_array_equal(back.scores, matches.scores)
    assert result["matches1"].shape == (1, len(b)) and int((result["matches1"] >= 0).sum()) == len(matches)
    assert (
        len(tp.Matches.from_torch({"matches": [torch.zeros(0, 2, dtype=torch.long)], "scores": [torch.zeros(0)]})) == 0
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: tp.Features.from_opencv(a.keypoints, a.descriptors, (9, 9)), "sequence of cv2.KeyPoint"),
        (lambda a: tp.Features.from_opencv(None, None, (9, 9)), "keypoints are None"),
        (lambda a: tp.Features.from_opencv(a.to_opencv()[0], a.descriptors[:2], (9, 9)), "descriptors have shape"),
        (lambda a: tp.Matches.from_opencv([(1, 2)], a, a), "knnMatch"),
        (lambda a: tp.Matches.from_opencv([cv2.DMatch(10**6, 0, 0.0)], a, a), "other features"),
        (lambda a: tp.Features.from_torch({"keypoints": a.keypoints}), "no descriptors, but keypoints"),
        (
            lambda a: tp.Features.from_torch({"keypoints": np.ones((2, 3, 2)), "descriptors": a}),
            "2 images",
        ),
        (lambda a: tp.Features.from_torch(a), "a dictionary is expected"),
        (lambda a: tp.Matches.from_torch({"a": 1}), "no indices, matches or matches0"),
        (lambda a: tp.Matches([[10**6, 0]], [0]).to_lightglue(a, a), "other features"),
    ],
)
def test_what_cannot_be_converted_is_named(
    pairs: dict[str, tuple[tp.Features, tp.Features]], call: Any, message: str
) -> None:
    with pytest.raises(tp.InvalidInputError, match=message):
        call(pairs["orb"][0])


def test_key_points_alone(texture: NDArray[np.uint8]) -> None:
    points = cv2.FastFeatureDetector_create().detect(texture)
    features = tp.Features.from_opencv(points, None, (320, 240))
    assert len(features) == len(points) and features.descriptors.shape[1] == 0 and features.angles is None
    with pytest.raises(tp.InvalidInputError, match="no descriptors"):
        tp.match(features, features)


def test_kornias_local_affine_frames(pairs: dict[str, tuple[tp.Features, tp.Features]]) -> None:
    """The numbers of kornia 0.9's `laf_from_center_scale_ori(xy, 6 scale, -degrees)`, which has y upwards."""
    torch = pytest.importorskip("torch")
    a, _ = pairs["rootsift"]
    frames = a.to_lafs()
    assert tuple(frames.shape) == (1, len(a), 2, 3) and a.scales is not None and a.angles is not None
    one = tp.Features([[30, 40]], np.ones((1, 8)), [1], (64, 48), scales=[2], angles=[np.pi / 2])
    np.testing.assert_allclose(one.to_lafs()[0, 0].numpy(), [[0, -12, 30], [12, 0, 40]], atol=1e-5)
    np.testing.assert_allclose(one.to_lafs(1.0)[0, 0, :, :2].abs().sum().item(), 4, atol=1e-5)
    back = tp.Features.from_torch({"lafs": frames, "descriptors": torch.tensor(a.descriptors)[None]}, a.image_size)
    np.testing.assert_array_equal(back.keypoints, a.keypoints)
    np.testing.assert_allclose(back.scales, a.scales, rtol=1e-5)
    np.testing.assert_allclose(np.exp(1j * back.angles), np.exp(1j * a.angles), atol=1e-5)
    # as kornia's LocalFeatureMatcher.extract_features has them
    given = {"lafs": frames, "responses": torch.tensor(a.scores)[None, :, None], "descriptors": torch.eye(len(a))[None]}
    np.testing.assert_array_equal(tp.Features.from_lightglue(given, a.image_size).scores, a.scores)
    with pytest.raises(tp.InvalidInputError, match=r"no image_size: give image_size=\(width, height\)"):
        tp.Features.from_torch(given)
    assert tp.Features.from_torch(given, (0, 0)).image_size == (0, 0)
    with pytest.raises(tp.InvalidInputError, match="lafs have shape"):
        tp.Features.from_torch({"lafs": np.zeros((3, 3, 3)), "descriptors": np.eye(3)})
    with pytest.raises(tp.InvalidInputError, match="mr_size"):
        a.to_lafs(0)
