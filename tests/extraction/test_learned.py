"""What a user meets who has other weights than expected, another device, or no torch."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.extraction import is_ready, metadata_of

torch = pytest.importorskip("torch", reason="the networks need torch")

SMALL = "aliked-t16"


@pytest.fixture(scope="module", autouse=True)
def ready() -> None:
    if not is_ready(metadata_of(SMALL)):
        pytest.skip(f"the weights of {SMALL} are not in TIEPOINTS_WEIGHTS")


def test_weights_that_are_none_or_those_of_another_network(tmp_path: Path) -> None:
    text, other, evil = tmp_path / "text.pth", tmp_path / "other.pth", tmp_path / "evil.pth"
    text.write_text("not a file of torch")
    torch.save({"layer.weight": torch.zeros(3)}, other)
    with evil.open("wb") as stream:
        pickle.dump(subprocess.Popen, stream, protocol=2)
    for path, words in (
        (text, "cannot be read as weights of aliked t16"),
        (other, "holds no weights of aliked t16"),
        (evil, "cannot be read as weights"),
        (tmp_path / "absent.pth", "no such file"),
    ):
        with pytest.raises(tp.WeightsError, match=words) as caught:
            tp.load(SMALL, weights=path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_devices() -> None:
    for device in ("gpu", "cuda:99", "meta:x", ""):
        with pytest.raises(tp.InvalidInputError, match=f"device is '{device}'"):
            tp.load(SMALL, device=device)
    with pytest.raises(tp.InvalidInputError, match="half is True"):
        tp.load(SMALL, half=True)


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
