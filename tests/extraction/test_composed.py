"""Compositions: patches are cut where the keypoints say, and any detector has any descriptor."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.collection import Extract
from tiepoints.extraction import is_ready, metadata_of
from tiepoints.extraction.mdnet import MDNet
from tiepoints.extraction.patches import cut, frames_of
from tiepoints.extraction.published import PARTS


def ready(name: str) -> str:
    if not is_ready(metadata_of(name)):
        pytest.skip(f"{name} needs torch and weights (TIEPOINTS_WEIGHTS)")
    return name


def test_a_patch_is_what_lies_around_the_keypoint() -> None:
    """A ramp tells for each pixel of the patch from where it came; scales 1 and 4 come from different levels."""
    y, x = np.mgrid[0:200, 0:200]
    for scale, tolerance in ((32 / 6, 1e-3), (4 * 32 / 6, 1.0)):
        for ramp, axis in ((x, 0), (y, 1)):
            frames = frames_of(np.array([scale], np.float32), np.zeros(1, np.float32))
            patch = cut(ramp.astype(np.uint8), np.array([[100.25, 90.5]], np.float32), frames, 32)[0]
            step = 6 * scale / 32
            expected = (100.25, 90.5)[axis] + (np.arange(32) - 15.5) * step
            line = patch[5] if axis == 0 else patch[:, 5]
            np.testing.assert_allclose(line, expected, atol=tolerance)


def test_a_turned_frame_turns_the_patch() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    centre, scale = np.array([[31.5, 31.5]], np.float32), np.array([32 / 6], np.float32)
    plain = cut(image, centre, frames_of(scale, np.zeros(1, np.float32)), 32)[0]
    turned = cut(image, centre, frames_of(scale, np.full(1, np.pi / 2, np.float32)), 32)[0]
    np.testing.assert_allclose(turned, np.rot90(plain), atol=0.05)  # its x axis points down in the image
    np.testing.assert_array_equal(plain, image[16:48, 16:48])


def test_a_patch_far_larger_than_the_image() -> None:
    image = np.full((20, 30), 7, np.uint8)
    frames = frames_of(np.array([500.0], np.float32), np.zeros(1, np.float32))
    assert (cut(image, np.array([[10, 10]], np.float32), frames, 32) == 7).all()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sift+affnet", "'affnet' does not describe patches; these do: .*hardnet"),
        ("sift+tfeat+hardtfeat", "between detector and descriptor go affnet, orinet, lift-orientation, not 'tfeat'"),
        ("tfeat+hardtfeat", "'tfeat' detects nothing"),
        ("nonsense+tfeat", "no extractor is called 'nonsense'"),
        ("keynet", "'keynet\\+hardtfeat'"),
        ("HardNet", "'sift\\+hardnet'"),
        ("HardNet++", "'sift\\+hardnet\\+\\+'"),
    ],
)
def test_parts_that_do_not_belong_there(name: str, words: str) -> None:
    with pytest.raises(tp.UnknownExtractorError, match=words):
        tp.load(name)


def test_licences_add_up() -> None:
    assert metadata_of("sift+hardtfeat").commercial and not metadata_of("sift+lift").commercial
    assert metadata_of("keynet+hardtfeat").weights_licence == "MIT"
    assert not metadata_of("sift+hardnet++").licence_url
    both = metadata_of("superpoint+lift")
    urls = metadata_of("superpoint").licence_url, metadata_of("sift+lift").licence_url
    assert all(urls) and both.licence_url == " AND ".join(urls)
    both = metadata_of("mdnet+lift")
    assert both.weights_licence == "Apache-2.0 AND LicenseRef-LIFT-academic" and not both.commercial


def test_the_authors_hardnet_without_its_file_says_where_to_put_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="the networks need torch")
    monkeypatch.setenv("TIEPOINTS_WEIGHTS", str(tmp_path))
    with pytest.raises(tp.WeightsError, match=r"download .*HardNet\+\+.pth into a folder.*TIEPOINTS_WEIGHTS"):
        tp.load("sift+hardnetpp")


def test_the_authors_hardnet_is_read_from_a_file_of_its_layout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, texture: NDArray[np.uint8]
) -> None:
    torch = pytest.importorskip("torch", reason="the networks need torch")
    from tiepoints.extraction.torch.patches import make

    torch.save({"state_dict": make("hardnet").state_dict()}, tmp_path / "HardNet++.pth")
    monkeypatch.setenv("TIEPOINTS_WEIGHTS", str(tmp_path))
    features = tp.load("sift+HardNet++", max_keypoints=20)(texture)
    assert features.descriptors.shape == (20, 128)
    assert metadata_of("sift+hardnetpp").name == metadata_of("sift+HardNet++").name == "sift+hardnet++"


def test_our_hardnet_needs_no_torch_and_says_what_it_is(examples: Path, texture: NDArray[np.uint8]) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import tiepoints as tp\n"
        "pair = tp.match_images('desk_1.jpg', 'desk_2.jpg', extractor='sift+hardnet', max_keypoints=300)\n"
        "sys.exit(not pair)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=examples, check=False).returncode == 0
    metadata = metadata_of("sift+hardnet")
    assert (
        metadata.commercial
        and not metadata.requires
        and "not the authors' weights" in PARTS["hardnet"].metadata.summary
    )
    extractor = tp.load("sift+hardnet", max_keypoints=20)
    again = pickle.loads(pickle.dumps(extractor)).with_threads(1)
    np.testing.assert_allclose(again(texture).descriptors, extractor(texture).descriptors, atol=1e-5)


@pytest.mark.parametrize("name", ["mdnet+sift", "orb+rootsift", "keynet+sift", "mdnet+orinet+hardtfeat", "sift+lift"])
def test_any_detector_has_any_descriptor(name: str, examples: Path) -> None:
    """They match a photograph with itself, a little darker and smaller."""
    photograph = tp.read(examples / "desk_1.jpg", grey=True)[100:340, 150:470]
    extractor = tp.load(ready(name), max_keypoints=150, **({"detector": {"sets": 1}} if "mdnet" in name else {}))
    a, b = extractor(photograph), extractor((photograph[4:, 3:] * 0.8).astype(np.uint8))
    before, after = tp.match(a, b).points(a, b)
    right = np.linalg.norm(after + (3, 4) - before, axis=1) < 1.5
    assert right.sum() > 0.4 * len(a), (right.sum(), len(a))


@pytest.mark.parametrize("name", ["keynet+affnet+orinet+hardtfeat", "surf+sift"])
def test_images_in_which_nothing_is_found(name: str, texture: NDArray[np.uint8]) -> None:
    extractor = tp.load(ready(name), max_keypoints=20)
    for image in (np.full((60, 80), 7, np.uint8), texture[:1, :1], texture[:17, :33]):
        features = extractor(image)
        assert features.descriptors.shape == (len(features), 128)
    masked = extractor(texture, mask=np.zeros(texture.shape))
    assert len(masked) == 0 and len(extractor(texture)) > 10


def test_a_composition_travels_to_other_processes(texture: NDArray[np.uint8]) -> None:
    extractor = tp.load(ready("sift+tfeat"), max_keypoints=30)
    again = pickle.loads(pickle.dumps(extractor))
    np.testing.assert_array_equal(again(texture).descriptors, extractor(texture).descriptors)
    assert repr(again) == repr(extractor) and extractor.with_threads(1).threads == 1


def test_what_is_kept_depends_on_the_detector_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Extract("mdnet+sift").fingerprint
    assert Extract("mdnet+sift", threads=1).fingerprint == before
    assert Extract("mdnet+sift", detector={"looks": 4}).fingerprint != before
    monkeypatch.setattr(MDNet, "version", 99)
    assert Extract("mdnet+sift").fingerprint != before
