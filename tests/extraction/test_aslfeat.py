"""ASLFeat with random weights: the names of the published file, each equation, keypoints' places, users' mistakes."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.collection.steps import description_of
from tiepoints.extraction import is_ready, metadata_of
from tiepoints.extraction.learned import Learned

torch = pytest.importorskip("torch", reason="the network needs torch")
from torch.nn import functional as F  # noqa: E402

from tiepoints.extraction.torch import aslfeat, deformable  # noqa: E402
from tiepoints.extraction.torch.base import Dense  # noqa: E402

CHECKPOINT = "model.ckpt-380000.index"
LAYERS = {"conv0": (1, 32), "conv1": (32, 32), "conv2": (32, 64), "conv3": (64, 64), "conv4": (64, 128)}
LAYERS |= dict.fromkeys(("conv5", "conv6_0", "conv6_1", "conv6"), (128, 128))
DEFORMABLE = ("conv6_0", "conv6_1", "conv6")


def published(seed: int) -> dict[str, NDArray[Any]]:
    """Random tensors under the names, and of the shapes, that the authors' code gives its variables."""
    random = np.random.default_rng(seed)

    def normal(*shape: int, scale: float) -> NDArray[np.float32]:
        return random.normal(scale=scale, size=shape).astype(np.float32)

    tensors: dict[str, NDArray[Any]] = {"global_step": np.array(380000, np.int64)}
    for name, (before, after) in LAYERS.items():
        tensors[f"{name}/kernel"] = normal(3, 3, before, after, scale=(2 / (9 * before)) ** 0.5)
        tensors[f"{name}/kernel/Momentum"] = normal(3, scale=1)
        if name != "conv6":
            tensors[f"{name}/bn/moving_mean"] = normal(after, scale=0.1)
            tensors[f"{name}/bn/moving_variance"] = 1 + normal(after, scale=0.1) ** 2
    for name in DEFORMABLE:
        for part, channels in (("offset", 18), ("amplitude", 9)):
            tensors[f"deform_param/{name}/{part}/kernel"] = normal(3, 3, 128, channels, scale=0.02)
            tensors[f"deform_param/{name}/{part}/bias"] = normal(channels, scale=0.3)
    for name in ("conv1", "conv3", "conv6"):
        tensors[f"tower/{name}/instance_max"] = np.array(4 + random.random(), np.float32)
    return tensors


@pytest.fixture(scope="module")
def folder(checkpoints: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights")
    checkpoints.write(path / CHECKPOINT, published(3))
    return path


@pytest.fixture(scope="module")
def network(folder: Path) -> aslfeat.ASLFeat:
    made = aslfeat.make("").eval().requires_grad_(False)
    made.read(folder / CHECKPOINT)
    return made


@pytest.fixture
def extractor(folder: Path) -> tp.Extractor:
    return tp.load("aslfeat", weights=folder / CHECKPOINT, max_keypoints=60, threads=1, threshold=0.0)


def test_the_kernels_are_turned_as_torch_has_them(network: aslfeat.ASLFeat) -> None:
    tensors = published(3)
    state = network.state_dict()
    assert len([name for name in tensors if not name.endswith(("Momentum", "global_step"))]) == 40
    assert len([name for name in state if not name.endswith("num_batches_tracked")]) == 38  # one of three maxima
    for ours, theirs in (
        ("convs.conv4.weight", "conv4/kernel"),
        ("convs.conv6.kernel.weight", "conv6/kernel"),
        ("convs.conv6_1.offset.weight", "deform_param/conv6_1/offset/kernel"),
        ("convs.conv6_0.amplitude.weight", "deform_param/conv6_0/amplitude/kernel"),
    ):
        np.testing.assert_array_equal(state[ours].permute(2, 3, 1, 0), tensors[theirs])
    for ours, theirs in (
        ("norms.conv3.running_mean", "conv3/bn/moving_mean"),
        ("norms.conv6_1.running_var", "conv6_1/bn/moving_variance"),
        ("convs.conv6.offset.bias", "deform_param/conv6/offset/bias"),
    ):
        np.testing.assert_array_equal(state[ours], tensors[theirs])
    np.testing.assert_array_equal(
        state["largest"], [tensors[f"tower/{x}/instance_max"] for x in ("conv1", "conv3", "conv6")]
    )


@pytest.mark.parametrize(("height", "width"), [(6, 9), (7, 8)])
def test_strided_convolutions_see_what_those_of_tensorflow_see(height: int, width: int) -> None:
    """TensorFlow: outputs = ceil(n / 2); of the padding, the smaller half is above."""
    random = np.random.default_rng(0)
    image, kernel = random.normal(size=(height, width)), random.normal(size=(3, 3))
    expected = np.zeros((-(-height // 2), -(-width // 2)))
    above, left = ((2 * (-(-n // 2) - 1) + 3 - n) // 2 for n in (height, width))
    for y, x in np.ndindex(*expected.shape):
        for i, j in np.ndindex(3, 3):
            row, column = 2 * y + i - above, 2 * x + j - left
            if 0 <= row < height and 0 <= column < width:
                expected[y, x] += kernel[i, j] * image[row, column]
    padded = F.pad(torch.tensor(image)[None, None], aslfeat.same_padding(torch.Size((height, width)), 2))
    np.testing.assert_allclose(F.conv2d(padded, torch.tensor(kernel)[None, None], stride=2)[0, 0], expected)


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_peakiness_is_the_largest_product_of_two_softplus(dilation: int) -> None:
    features = np.random.default_rng(1).normal(size=(2, 5, 6))
    around = np.pad(features, ((0, 0), (dilation,) * 2, (dilation,) * 2), mode="reflect")
    expected = np.zeros((5, 6))
    for y, x in np.ndindex(5, 6):
        window = around[:, y : y + 2 * dilation + 1 : dilation, x : x + 2 * dilation + 1 : dilation]
        spatial = np.log1p(np.exp(features[:, y, x] - window.mean(axis=(1, 2))))
        channel = np.log1p(np.exp(features[:, y, x] - features[:, y, x].mean()))
        expected[y, x] = (spatial * channel).max()
    found = aslfeat.peakiness(torch.tensor(features)[None], dilation)
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-6)
    flat = aslfeat.peakiness(torch.full((1, 3, 8, 8), 5.0), dilation)
    np.testing.assert_allclose(flat, np.log(2) ** 2, rtol=1e-6)


def test_maps_are_enlarged_with_the_top_left_pixel_in_place() -> None:
    small = torch.tensor([[0.0, 4.0, 8.0], [12.0, 16.0, 20.0]])[None, None]
    large = aslfeat.enlarged(small, torch.Size((8, 12)))[0, 0]
    expected = np.minimum(np.arange(8), 4)[:, None] * 3 + np.minimum(np.arange(12), 8)
    np.testing.assert_allclose(large, expected)


def test_a_deformable_convolution_without_offsets_is_a_convolution() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, 7, 9), torch.randn(5, 4, 3, 3)
    plain = F.conv2d(x, weight, padding=1)
    torch.testing.assert_close(deformable.deform_conv(x, torch.zeros(2, 18, 7, 9), weight), plain)
    half = deformable.deform_conv(x, torch.zeros(2, 18, 7, 9), weight, torch.full((2, 9, 7, 9), 0.5))
    torch.testing.assert_close(half, plain / 2)
    conv = aslfeat.ModulatedConv(4)
    for part in (conv.offset, conv.amplitude):  # as the authors begin: no offsets, factors of a half
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(part.bias)  # type: ignore[arg-type]
    torch.testing.assert_close(conv(x), conv.kernel(x) / 2)


def test_the_offsets_are_dy_and_dx_of_each_tap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the definition, tap by tap; zeros outside, bilinear between; also where it is computed in bands."""
    random = np.random.default_rng(2)
    x, offset, factor = random.normal(size=(4, 5)), random.normal(size=(9, 2, 4, 5)), random.random((9, 4, 5))
    weight = random.normal(size=(3, 3))
    padded = np.pad(x, 8)
    expected = np.zeros((4, 5))
    for row, column, tap in np.ndindex(4, 5, 9):
        y, x_ = np.array([row + tap // 3 - 1, column + tap % 3 - 1]) + offset[tap, :, row, column] + 8
        top, left = int(y), int(x_)
        a, b = y - top, x_ - left
        four = padded[top : top + 2, left : left + 2]
        value = np.array([1 - a, a]) @ four @ np.array([1 - b, b])
        expected[row, column] += weight[tap // 3, tap % 3] * factor[tap, row, column] * value
    given = [torch.tensor(v, dtype=torch.float32)[None] for v in (x[None], offset.reshape(18, 4, 5), factor)]
    kernel = torch.tensor(weight, dtype=torch.float32)[None, None]
    for largest in (1 << 26, 9 * 5 * 3, 1):
        monkeypatch.setattr(deformable, "_LARGEST", largest)
        found = deformable.deform_conv(given[0], given[1], kernel, given[2])
        np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)


def blobs(size: tuple[int, int], places: list[tuple[float, float]], sigma: float) -> Any:
    y, x = np.mgrid[: size[0], : size[1]]
    values = sum(np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2)) for u, v in places)
    return torch.tensor(values, dtype=torch.float32)[None, None]


class Blobs(aslfeat.ASLFeat):
    """The image itself is the score map."""

    def forward(self, image: Any) -> Dense:
        return Dense(image, lambda xy: [torch.ones(len(at), 1) for at in xy], image)


def test_keypoints_are_maxima_that_are_no_edges_refined_below_the_pixel(network: aslfeat.ASLFeat) -> None:
    score = blobs((60, 80), [(20.3, 17.8), (50.45, 30.0), (3.0, 30.0)], 4)  # the last one lies at the edge
    y, x = np.mgrid[:60, :80]
    score += torch.tensor(np.exp(-((x - 70) ** 2) / 4 - ((y - 30) ** 2) / 2000), dtype=torch.float32)  # a ridge
    assert score[0, 0, 30, 70] == score[..., 60:].max()
    (found,) = network.keypoints(Dense(score, lambda xy: [], None), 10, 0.5)
    np.testing.assert_allclose(found.xy[found.xy[:, 0].argsort()], [[20.3, 17.8], [50.45, 30.0]], atol=0.02)
    assert found.scores.min() > 0.5 and (np.diff(found.scores) <= 0).all()
    (one,) = network.keypoints(Dense(score, lambda xy: [], None), 1, 0.5)
    assert len(one.xy) == 1
    assert len(network.keypoints(Dense(torch.ones(1, 1, 20, 20), lambda xy: [], None), 9, 0.5)[0].xy) == 0


def test_several_scales_agree_on_where_a_blob_is() -> None:
    image = blobs((360, 500), [(100.3, 80.7), (301.6, 250.2)], 9)
    (single,) = Blobs().keypoints(Blobs()(image), 20, 0.3)
    (several,) = Blobs(multi_scale=True).keypoints(Blobs()(image), 20, 0.3)
    assert (len(single.xy), len(several.xy)) == (2, 6)  # levels 1, 0.71 and 0.5
    for place in ((100.3, 80.7), (301.6, 250.2)):
        distance = np.linalg.norm(several.xy.numpy() - place, axis=1)
        assert (np.sort(distance)[:3] < 0.1).all(), distance
    assert several.descriptors is not None and several.descriptors.shape == (6, 1)


def test_descriptors_are_those_of_the_quarter_map(network: aslfeat.ASLFeat) -> None:
    image = torch.rand(1, 1, 41, 54, generator=torch.Generator().manual_seed(1))
    dense = network(image)
    score, features = network.maps(image)
    assert score.shape == (1, 1, 41, 54) and features.shape == (1, 128, 11, 14)
    np.testing.assert_array_equal(dense.score_map, score)
    xy = torch.tensor([[0.0, 0.0], [8.0, 20.0], [10.0, 20.0], [-0.5, 40.4], [53.4, 40.0]])
    (found,) = dense.describe([xy])
    one = features[0]
    expected = [one[:, 0, 0], one[:, 5, 2], one[:, 5, 2] + one[:, 5, 3], one[:, 10, 0], one[:, 10, 13]]
    np.testing.assert_allclose(found, [F.normalize(each, dim=0) for each in expected], atol=1e-5)
    np.testing.assert_allclose(found.norm(dim=1), 1, atol=1e-5)


def test_tensorflow_gives_the_same(network: aslfeat.ASLFeat) -> None:
    """What a graph of TensorFlow 2.21's own operations gave for these weights and this image.

    It was built after the authors' code: padding SAME, fused batch normalisation, pooling with dilations, resize of
    TensorFlow 1; the taps of the deformable convolutions were gathered by NumPy.
    """
    image = np.random.default_rng(9).integers(0, 256, (37, 46)).astype(np.uint8)
    dense = network(torch.tensor(image)[None, None] / 255)
    places = ((0, 0), (5, 7), (18, 20), (36, 45), (11, 40), (30, 3))
    scores = [0.62188756, 0.71168756, 0.80341381, 0.60842669, 0.77431595, 0.70586860]
    np.testing.assert_allclose([dense.score_map[0, 0][place] for place in places], scores, rtol=1e-5)
    features = network.maps(torch.tensor(image)[None, None] / 255)[1][0]
    assert features.shape == (128, 10, 12)
    np.testing.assert_allclose(features[:4, 4, 5], [0.19749628, 0.10396155, -0.20812303, -0.00590809], atol=1e-5)
    np.testing.assert_allclose(features[:2, 9, 11], [0.02079715, 0.01206472], atol=1e-5)
    (found,) = network.keypoints(dense, 6, 0.5)
    np.testing.assert_allclose(
        np.c_[found.xy, found.scores],
        [
            [32.001849, 16.120065, 1.00034940],
            [25.909826, 26.009757, 0.90394664],
            [15.850949, 19.670280, 0.90202117],
            [30.091003, 15.953194, 0.89482796],
            [33.917693, 9.920747, 0.89474261],
            [29.097688, 14.007441, 0.88399100],
        ],
        atol=1e-4,
    )
    assert len(network.keypoints(dense, 999, 0.5)[0].xy) == 66


def test_an_image_that_moves_by_four_pixels_takes_the_keypoints_along(network: aslfeat.ASLFeat) -> None:
    image = torch.rand(1, 1, 24, 28, generator=torch.Generator().manual_seed(2))
    image = F.interpolate(image, scale_factor=4.0, mode="bilinear")
    (here,) = network.keypoints(network(image), 400, 0.0)
    (moved,) = network.keypoints(network(image.roll((4, 8), dims=(2, 3))), 400, 0.0)
    inner = (here.xy > 24).all(dim=1) & (here.xy < torch.tensor([112 - 32, 96 - 28])).all(dim=1)
    expected = here.xy[inner] + torch.tensor([8.0, 4.0])
    distance = (expected[:, None] - moved.xy).norm(dim=2).min(dim=1).values
    assert len(distance) > 20 and (distance < 0.01).all()


def test_the_contract(extractor: tp.Extractor, texture: NDArray[np.uint8]) -> None:
    image = texture[:101, :123]
    features = extractor(image)
    assert 20 < len(features) <= 60 and features.descriptors.shape == (len(features), 128)
    assert features.keypoints.dtype == features.descriptors.dtype == np.float32 and features.image_size == (123, 101)
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-3)
    assert (features.keypoints >= 4.5).all() and (features.keypoints <= (122 - 4.5, 100 - 4.5)).all()
    assert (np.diff(features.scores) <= 0).all() and (features.keypoints % 1 != 0).any()
    for again in (extractor(image), pickle.loads(pickle.dumps(extractor))(image)):
        np.testing.assert_array_equal(again.keypoints, features.keypoints)
        np.testing.assert_array_equal(again.descriptors, features.descriptors)
    mask = np.zeros(image.shape, np.uint8)
    mask[:, :60] = 1
    assert (np.rint(extractor(image, mask=mask).keypoints[:, 0]) < 60).all()
    assert len(extractor(np.zeros((40, 50), np.uint8))) == 0
    for tiny in (texture[:1, :1], texture[:16, :16], texture[:64, :1], texture[:33, :17]):
        extractor(tiny)


def test_several_images_and_several_scales(folder: Path, texture: NDArray[np.uint8]) -> None:
    image = texture[:150, :180]
    options: dict[str, Any] = {"weights": folder / CHECKPOINT, "threads": 1, "threshold": 0.0, "max_keypoints": 3000}
    single = tp.load("aslfeat", **options)(image)
    several = tp.load("aslfeat", **options, multi_scale=True, batch=2)
    found, other = several([image, image[::-1]])
    assert len(found) == len(single)  # no level is less than 128 px wide
    np.testing.assert_allclose(found.keypoints, single.keypoints, atol=1e-3)
    assert len(other) > 20
    assert len(several(texture[:120, :270])) > len(tp.load("aslfeat", **options)(texture[:120, :270]))
    with pytest.raises(tp.InvalidInputError, match="multi_scale"):
        tp.load("aslfeat", **options, multi_scale=2)


def test_our_weights_come_with_it_and_say_what_they_are(texture: NDArray[np.uint8]) -> None:
    metadata = metadata_of("aslfeat")
    assert is_ready(metadata) and metadata.commercial and not metadata.weights
    assert "not the authors' weights" in metadata.summary
    extractor = tp.load("aslfeat", max_keypoints=30, threads=1)
    assert isinstance(extractor, Learned) and len(extractor(texture[:120, :160])) == 30
    with np.load(extractor.weights_file) as content:
        about = json.loads(str(content["about"]))
    assert about["licence"] == "Apache-2.0" and about["steps"] > 0
    assert "not the authors' weights" in about["note"]


def test_other_weights_are_one_line_that_names_the_file(checkpoints: Any, folder: Path, tmp_path: Path) -> None:
    other = checkpoints.write(
        tmp_path / "other.index", published(4) | {"conv0/kernel": np.ones((3, 3, 3, 32), np.float32)}
    )
    lonely, damaged = tmp_path / "lonely.index", tmp_path / "damaged.index"
    lonely.write_bytes((folder / CHECKPOINT).read_bytes())
    damaged.write_bytes((folder / CHECKPOINT).read_bytes()[:-100])
    for path, words in (
        (other, r"holds no weights of aslfeat \(its tensor conv0/kernel has the shape \(3, 3, 3, 32\), not"),
        (lonely, r"cannot be read as weights of aslfeat \(lonely.data-00000-of-00001, with its numbers, is not"),
        (damaged, "it is no index of a checkpoint, or it is damaged or truncated"),
        (folder / "model.ckpt-380000.data-00000-of-00001", r"given by its file that ends in \.index"),
        (tmp_path / "absent.index", "no such file"),
        (tmp_path / "absent.npz", "no such file"),
    ):
        with pytest.raises(tp.WeightsError, match=words) as caught:
            tp.load("aslfeat", weights=path)
        text = str(caught.value)
        assert text.startswith(f"{path}: ") and "\n" not in text and len(text) < 400
        assert text.endswith("; put a file of aslfeat there, or name another one with `weights`")


def test_what_is_stored_with_other_weights_is_computed_anew(checkpoints: Any, folder: Path, tmp_path: Path) -> None:
    checkpoints.write(tmp_path / CHECKPOINT, published(4))
    made = [tp.load("aslfeat", weights=path / CHECKPOINT) for path in (folder, tmp_path)]
    assert description_of(made[0]) != description_of(made[1])
    assert description_of(made[0]) == description_of(tp.load("aslfeat", weights=folder / CHECKPOINT))
