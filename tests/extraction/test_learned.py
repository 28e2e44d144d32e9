"""What a user meets who has other weights than expected, another device, or no torch."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.extraction import composed, is_ready, learned, metadata_of
from tiepoints.matching import lightglue
from tiepoints.weights import find

torch = pytest.importorskip("torch", reason="the networks need torch")

SMALL = "aliked-t16"


@pytest.fixture(scope="module", autouse=True)
def ready() -> None:
    if not is_ready(metadata_of(SMALL)):
        pytest.skip(f"the weights of {SMALL} are not in TIEPOINTS_WEIGHTS")


def metadata_path() -> Path:
    path = find(metadata_of(SMALL).weights[0])
    assert path is not None
    return path


def test_weights_that_are_none_or_those_of_another_network(tmp_path: Path) -> None:
    text, other, evil = tmp_path / "text.pth", tmp_path / "other.pth", tmp_path / "evil.pth"
    text.write_text("not a file of torch")
    cut = tmp_path / "cut.pth"
    cut.write_bytes(metadata_path().read_bytes()[:-9])
    torch.save({"layer.weight": torch.zeros(3)}, other)
    empty = tmp_path / "empty.pth"
    empty.touch()
    with evil.open("wb") as stream:
        pickle.dump(subprocess.Popen, stream, protocol=2)
    for path, words in (
        (text, "is no file of tensors"),
        (other, "holds no weights of aliked-t16"),
        (evil, "holds more than tensors"),
        (tmp_path / "absent.pth", "no such file"),
        (cut, "is truncated or damaged"),
        (empty, "is empty or truncated"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(tp.WeightsError, match=words) as caught:
            tp.load(SMALL, weights=path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_part_of_a_composition_names_no_option_that_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIEPOINTS_WEIGHTS", str(tmp_path))
    path = tmp_path / "HardNet++.pth"
    torch.save({"layer.weight": torch.zeros(3)}, path)
    with pytest.raises(
        tp.WeightsError, match=r"HardNet\+\+\.pth: holds no weights of hardnet.*; put a file of hardnet"
    ) as caught:
        tp.load("sift+hardnet++")
    assert "`weights`" not in str(caught.value)


def test_devices() -> None:
    for device in ("gpu", "cuda:99", "meta:x", ""):
        with pytest.raises(tp.InvalidInputError, match=f"device is '{device}'"):
            tp.load(SMALL, device=device)
    here = r"device is 'coreml', but torch cannot use it: it has cpu.* here"
    with pytest.raises(tp.InvalidInputError, match=here):
        tp.load("keynet+hardtfeat", device="coreml")
    with pytest.raises(tp.InvalidInputError, match="computes on the CPU only"):
        tp.load("sift+hardnet", device="coreml")
    with pytest.raises(tp.InvalidInputError, match="half is True"):
        tp.load(SMALL, half=True)


@pytest.mark.parametrize("name", [SMALL, "superpoint", "keynet+affnet+hardtfeat", "sift+tfeat", "lightglue"])
def test_a_device_is_checked_before_anything_is_fetched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*_: Any) -> None:
        raise AssertionError("weights, or a licence, were asked for first")

    for module in (learned, composed, lightglue):
        monkeypatch.setattr(module, "obtain", fetched)
    for module in (learned, composed):
        monkeypatch.setattr(module, "require_consent", fetched)
    with pytest.raises(tp.InvalidInputError, match="device is 'coreml', but torch cannot use it"):
        if name == "lightglue":
            tp.matching.LightGlue(features="disk", device="coreml")
        else:
            tp.load(name, device="coreml")


def test_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import tiepoints as tp; assert tp.extractors()\n"
        f"try: tp.load({SMALL!r})\n"
        "except tp.MissingDependencyError as error: sys.exit(str(error))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == f"{SMALL} needs the package torch: pip install 'tiepoints[learned]'"


def test_a_teacher_gives_a_score_map_and_descriptors_anywhere(texture: NDArray[np.uint8]) -> None:
    extractor = tp.load(SMALL, max_keypoints=50)
    features = extractor(texture)
    image = torch.tensor(texture)[None, None].expand(1, 3, -1, -1) / 255
    with torch.inference_mode():
        dense = extractor.dense(image)
        (descriptors,) = dense.describe([torch.tensor(features.keypoints)])
    assert dense.score_map.shape == (1, 1, *texture.shape)
    np.testing.assert_allclose(descriptors, features.descriptors, atol=1e-4)


def test_extractors_are_copied_to_other_processes(texture: NDArray[np.uint8]) -> None:
    extractor = tp.load(SMALL, max_keypoints=20)
    again = pickle.loads(pickle.dumps(extractor))
    np.testing.assert_array_equal(again(texture).keypoints, extractor(texture).keypoints)
    one = extractor.with_threads(1)
    assert one.threads == 1 and extractor.threads is None
    np.testing.assert_allclose(one(texture).keypoints, extractor(texture).keypoints, atol=1e-2)


@pytest.mark.parametrize("name", ["superpoint", "alike", "disk", "r2d2"])
def test_the_slower_networks_on_a_small_image(name: str, texture: NDArray[np.uint8]) -> None:
    """Names without a model, an odd size, a mask, a blank image: the rest they share with the faster networks."""
    if not is_ready(metadata_of(name)):
        pytest.skip(f"the weights of {name} are not in TIEPOINTS_WEIGHTS")
    image = texture[:101, :123]
    extractor = tp.load(name, max_keypoints=40, threads=1)
    features = extractor(image)
    assert 20 < len(features) <= 40 and features.descriptors.shape[1] == extractor.metadata.descriptor_size
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-3)
    assert (features.keypoints >= 0).all() and (features.keypoints <= (122, 100)).all()
    mask = np.zeros(image.shape, np.uint8)
    mask[:, :60] = 1
    masked = extractor(image, mask=mask)
    assert len(masked) > 10 and (np.rint(masked.keypoints[:, 0]) < 60).all()
    assert len(extractor(np.zeros((40, 50), np.uint8))) == 0
    for tiny in (texture[:1, :1], texture[:16, :16], texture[:64, :1], texture[:33, :17]):
        extractor(tiny)


def test_non_commercial_weights_need_consent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TIEPOINTS_ACCEPT_LICENCE")
    monkeypatch.setenv("TIEPOINTS_CACHE", str(tmp_path))
    for name, licence in (("superpoint", "LicenseRef-MagicLeap"), ("r2d2", "CC-BY-NC-SA-3.0")):
        assert not is_ready(metadata_of(name)) and not metadata_of(name).commercial
        with pytest.raises(
            tp.LicenceError, match=f"{licence}.*tiepoints weights fetch {name}.* --accept-licence"
        ) as error:
            tp.load(name)
        assert metadata_of(name).licence_url in str(error.value)
    assert {"superpoint", "r2d2-waf-n16"}.isdisjoint(m.name for m in tp.extractors(commercial=True))


@pytest.mark.parametrize("name", ["edgepoint2-t32", "xfeat", "superpoint", "alike-t", "disk", "r2d2"])
def test_onnx_runtime_gives_what_torch_gives(
    name: str, texture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Exported at one size, run at another, which is no multiple of anything."""
    if not is_ready(metadata_of(name)):
        pytest.skip(f"the weights of {name} are not in TIEPOINTS_WEIGHTS")
    monkeypatch.setenv("TIEPOINTS_CACHE", str(tmp_path))
    image = texture[:101, :123]
    fast = tp.load(name, max_keypoints=60, threads=1, runtime="onnx")
    assert len(list((tmp_path / "weights" / "onnx").iterdir())) == 1
    ours, theirs = fast(image), tp.load(name, max_keypoints=60, threads=1)(image)
    assert len(ours) == len(theirs)
    distance = np.linalg.norm(ours.keypoints[:, None] - theirs.keypoints[None], axis=2)
    near = distance.min(axis=1) < 0.01
    assert near.mean() > 0.95  # near ties at the cut may swap
    same = theirs.descriptors[distance.argmin(axis=1)]
    np.testing.assert_allclose(ours.descriptors[near], same[near], atol=1e-3)


def test_onnx_runtime_of_another_thread_count_and_process(
    texture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "edgepoint2-t32"
    if not is_ready(metadata_of(name)):
        pytest.skip(f"the weights of {name} are not in TIEPOINTS_WEIGHTS")
    monkeypatch.setenv("TIEPOINTS_CACHE", str(tmp_path))
    extractor = tp.load(name, max_keypoints=20, runtime="onnx")
    expected = extractor(texture).keypoints
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(extractor))(texture).keypoints, expected)
    np.testing.assert_array_equal(extractor.with_threads(1)(texture).keypoints, expected)
    with pytest.raises(tp.InvalidInputError, match=f"{SMALL} runs in torch only"):
        tp.load(SMALL, runtime="onnx")
    with pytest.raises(tp.InvalidInputError, match="runtime is 'onnx', which is for CPUs"):
        tp.load(name, runtime="onnx", device="cuda")
    with pytest.raises(tp.InvalidInputError, match="runtime is 'tensorrt'"):
        tp.load(name, runtime="tensorrt")
    (file,) = (tmp_path / "weights" / "onnx").iterdir()
    file.write_bytes(b"damaged")
    with pytest.raises(tp.WeightsError, match=r"ONNX Runtime cannot read it.*remove it"):
        tp.load(name, runtime="onnx")


@pytest.mark.parametrize("name", [SMALL, "xfeat", "superpoint", "disk", "alike-t", "edgepoint2-t32"])
def test_a_batch_gives_what_one_after_another_gives(name: str, examples: Path) -> None:
    if not is_ready(metadata_of(name)):
        pytest.skip(f"the weights of {name} are not in TIEPOINTS_WEIGHTS")
    extractor = tp.load(name, max_keypoints=60, batch=3)
    texture = tp.read(examples / "desk_1.jpg", grey=True)[100:228, 150:310]
    mask = np.ones(texture.shape, bool)
    mask[:, :60] = False
    images = [texture, texture[::-1], np.full_like(texture, 7), texture[:, :96], texture[:, ::-1], texture]
    masks = [None, mask, None, None, None, mask]
    together = extractor(images, masks)
    assert [len(each) for each in together][2] == 0
    for image, own, found in zip(images, masks, together, strict=True):
        alone = extractor(image, own)
        assert len(alone) == len(found) and alone.image_size == found.image_size
        if len(alone):
            distance = np.linalg.norm(alone.keypoints[:, None] - found.keypoints[None], axis=2)
            same = distance.min(axis=1) < 0.01  # those at the cut may be others, by rounding
            assert same.mean() > 0.95
            rows = distance.argmin(axis=1)[same]
            np.testing.assert_allclose(found.descriptors[rows], alone.descriptors[same], atol=2e-3)


@pytest.mark.parametrize("name", ["edgepoint2-m32", "edgepoint2-l64"])
def test_each_model_of_a_network_takes_its_weights(name: str, texture: NDArray[np.uint8]) -> None:
    """Channels differ between the models; those of M and L were not the published files'."""
    if not is_ready(metadata_of(name)):
        pytest.skip(f"the weights of {name} are not in TIEPOINTS_WEIGHTS")
    assert len(tp.load(name, max_keypoints=5)(texture[:64, :64])) == 5
