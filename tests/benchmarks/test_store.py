"""Features are extracted once: found again after a kill, and made anew when anything that made them changes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import tiepoints as tp
from tiepoints.benchmarks import Method, default_store, extracted, method
from tiepoints.errors import InvalidInputError, StorageError, UnknownExtractorError
from tiepoints.extraction import WeightFile
from tiepoints.extraction.base import Detections

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


class Counting(tp.Extractor):
    """One keypoint at the brightest pixel, and how often it was asked."""

    metadata = tp.Metadata(name="counting", summary="counts", paper="none", code_licence="MIT", descriptor_size=4)

    def __init__(self, *, weights: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.weights = weights
        self._calls = 0

    def _detect(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Detections:
        self._calls += 1
        row, column = np.unravel_index(image.argmax(), image.shape)
        return Detections(np.array([[column, row]], np.float32), np.eye(4, dtype=np.float32)[:1], np.ones(1))


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        pixels = np.zeros((32, 40), np.uint8)
        pixels[10, 5 + i] = 200
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return {f"scene/{i}.png": folder / f"{i}.png" for i in range(3)}


def test_everything_is_found_again(images: dict[str, Path], tmp_path: Path) -> None:
    extractor = Counting()
    for expected in (3, 0):
        with extracted(Method("a", extractor), images, store=tmp_path / "store") as features:
            assert features.computed == expected and features.failed == {}
            assert sorted(features) == sorted(images) and len(features) == 3
            assert [features[f"scene/{i}.png"].keypoints.tolist() for i in range(3)] == [
                [[5 + i, 10]] for i in range(3)
            ]
    assert extractor._calls == 3
    with extracted(Method("b", Counting()), images, store=tmp_path / "store") as features:
        assert features.computed == 0, "the label does not matter, what computes does"
    assert len(list((tmp_path / "store").rglob("*.h5"))) == 1


def test_in_memory(images: dict[str, Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with extracted(method("orb"), images, progress=lambda done, total: seen.append((done, total))) as features:
        assert len(features) == 3 and features.computed == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert not list(tmp_path.rglob("*.h5"))


def test_an_image_is_known_by_its_content(images: dict[str, Path], tmp_path: Path) -> None:
    def computed() -> int:
        with extracted(Method("a", Counting()), images, store=tmp_path / "store") as features:
            return features.computed

    assert computed() == 3
    first = images["scene/0.png"]
    images["scene/0.png"] = first.rename(first.with_name("renamed.png"))
    assert computed() == 0, "a new name is no new image"
    stamp = images["scene/1.png"].stat()
    pixels = np.zeros((32, 40), np.uint8)
    pixels[3, 3] = 200
    Image.fromarray(pixels).save(images["scene/1.png"])
    import os

    os.utime(images["scene/1.png"], ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert computed() == 1, "another content is, even with the old date"
    images["scene/copy.png"] = images["scene/1.png"]
    assert computed() == 0


@pytest.mark.parametrize("change", ["option", "weights", "metadata", "code", "method"])
def test_whatever_makes_features_makes_them_anew(
    images: dict[str, Path], tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"one")
    helper = tmp_path / "helper_of_counting.py"
    helper.write_text("VALUE = 1\n", encoding="utf-8")
    module = ModuleType("tiepoints._helper_for_this_test")
    module.__file__ = str(helper)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    here = ModuleType("tiepoints._plugin_for_this_test")
    here.helper = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, here.__name__, here)
    kind: Any = type("Plugin", (Counting,), {"__module__": here.__name__})

    def computed(extractor: tp.Extractor) -> int:
        with extracted(Method("a", extractor), images, store=tmp_path / "store") as features:
            return features.computed

    assert computed(kind(weights=str(weights))) == 3
    moved = weights.rename(tmp_path / "moved.bin")
    assert computed(kind(weights=str(moved))) == 0, "weights are known by their content"
    if change == "option":
        again = kind(weights=str(moved), max_keypoints=7)
    elif change == "weights":
        moved.write_bytes(b"two")
        again = kind(weights=str(moved))
    elif change == "metadata":
        file = WeightFile("a", "https://example.org/a", "0" * 64)
        monkeypatch.setattr(
            kind,
            "metadata",
            tp.Metadata(
                name="counting",
                summary="counts",
                paper="none",
                code_licence="MIT",
                descriptor_size=4,
                weights=(file,),
                weights_licence="MIT",
            ),
        )
        again = kind(weights=str(moved))
    elif change == "code":
        helper.write_text("VALUE = 2\n", encoding="utf-8")
        again = kind(weights=str(moved))
    else:
        again = tp.load("orb")
    assert computed(again) == 3


def test_an_image_that_cannot_be_read_costs_only_itself(images: dict[str, Path], tmp_path: Path) -> None:
    images["scene/1.png"].write_bytes(b"no image")
    images["scene/gone.png"] = tmp_path / "gone.png"
    for store in (None, tmp_path / "store", tmp_path / "store"):
        with extracted(Method("a", Counting()), images, store=store) as features:
            assert sorted(features) == ["scene/0.png", "scene/2.png"]
            assert set(features.failed) == {"scene/1.png", "scene/gone.png"}
            assert "1.png" in features.failed["scene/1.png"] and "gone.png" in features.failed["scene/gone.png"]
    for name in ("scene/0.png", "scene/2.png"):
        images[name].unlink()
    with extracted(Method("a", Counting()), images, store=tmp_path / "store") as features:
        assert len(features) == 0 and len(features.failed) == 4


@pytest.mark.parametrize("spec", ["sift:contrast_threshold=0.001", "mdnet"])
def test_several_processes_give_the_same(images: dict[str, Path], tmp_path: Path, spec: str) -> None:
    images["scene/bad.png"] = tmp_path / "bad.png"
    images["scene/bad.png"].write_bytes(b"no image")
    contestant = method(spec, max_keypoints=50)
    with (
        extracted(contestant, images) as alone,
        extracted(contestant, images, store=tmp_path / "store", jobs=2) as together,
    ):
        assert sorted(alone) == sorted(together) and set(alone.failed) == set(together.failed) == {"scene/bad.png"}
        for name in alone:
            np.testing.assert_array_equal(alone[name].descriptors, together[name].descriptors)
    with pytest.raises(InvalidInputError, match="jobs is 0"), extracted(contestant, images, jobs=0):
        pass


# Extracts ten images and tells after each; after a given number it waits to be killed.
SLOW = """
import sys, time
from pathlib import Path
from tiepoints.benchmarks import extracted, method

folder, store = Path(sys.argv[1]), Path(sys.argv[2])
images = {path.name: path for path in sorted(folder.glob("*.png"))}

def tell(done, total):
    print(done, flush=True)
    if done == int(sys.argv[3]):
        time.sleep(600)

with extracted(method("orb"), images, store=store, progress=tell) as features:
    print("computed", features.computed, flush=True)
"""


def test_a_killed_run_is_resumed(tmp_path: Path, child: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(rng.integers(0, 255, (48, 64), np.uint8)).save(tmp_path / f"{i}.png")
    process = child(SLOW, tmp_path, tmp_path / "store", 4)
    while process.stdout.readline().strip() != "4":
        pass
    process.send_signal(KILL)
    process.wait()
    again = child(SLOW, tmp_path, tmp_path / "store", 0)
    output, errors = again.communicate()
    assert again.returncode == 0, errors
    assert output.split()[-2:] == ["computed", "6"], "the 4 that were told of are kept"


def test_another_writer_is_told_of(images: dict[str, Path], tmp_path: Path) -> None:
    from tiepoints.files import write_lock

    with extracted(Method("a", Counting()), images, store=tmp_path / "store"):
        pass
    (file,) = (tmp_path / "store").rglob("*.h5")
    with write_lock(file):
        with extracted(Method("a", Counting()), images, store=tmp_path / "store") as features:
            assert len(features) == 3, "reading needs no lock"
        images["scene/0.png"].write_bytes(images["scene/1.png"].read_bytes() + b"\n")
        with (
            pytest.raises(StorageError, match="another process"),
            extracted(Method("a", Counting()), images, store=tmp_path / "store"),
        ):
            pass


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIEPOINTS_CACHE", str(tmp_path))
    assert default_store() == tmp_path / "benchmarks"
    monkeypatch.delenv("TIEPOINTS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "xdg"))
    assert default_store() == tmp_path / "xdg" / "tiepoints" / "benchmarks"


def test_specifications() -> None:
    plain = method("sift", max_keypoints=10)
    assert plain.label == "sift" and plain.extractor.max_keypoints == 10
    own = method("orb:max_keypoints=20,scale_factor=1.3", max_keypoints=10, max_size=None)
    assert own.label == "orb max_keypoints=20 scale_factor=1.3"
    assert own.extractor.max_keypoints == 20 and own.recipe == ("orb", {"max_keypoints": 20, "scale_factor": 1.3})
    assert method(own) is own
    assert method(own.extractor).label == "orb" and method(own.extractor).recipe is None
    assert plain.identity == method("sift", max_keypoints=10).identity != method("sift").identity


def test_methods_made_again() -> None:
    own = method("orb:scale_factor=1.3", max_keypoints=10)
    again = own.remade(max_keypoints=20)
    assert again.label == own.label and again.recipe == ("orb", {"max_keypoints": 20, "scale_factor": 1.3})
    assert again.extractor.max_keypoints == 20 and own.extractor.max_keypoints == 10
    bare = method(own.extractor)
    assert bare.remade(max_keypoints=20) is bare, "nobody knows how it was made"
    assert own.with_threads(2) is own, "it has no threads of its own"
    assert method("mdnet").with_threads(2).extractor.threads == 2
    assert method("mdnet:threads=3").with_threads(2).extractor.threads == 3, "it was told how many"


@pytest.mark.parametrize("spec", ["sift:contrast", "sift:=3", "sift:1a=2", "sift:nonsense=1"])
def test_wrong_specifications(spec: str) -> None:
    with pytest.raises(InvalidInputError, match="sift"):
        method(spec)
    with pytest.raises(UnknownExtractorError, match="did you mean 'sift'"):
        method("sfit:a=1")


def test_values_may_hold_commas_and_equal_signs() -> None:
    from tiepoints.benchmarks.methods import _options

    assert _options("x", "levels=(1,2),path=a=b.onnx, k = [3, 4] ") == {
        "levels": (1, 2),
        "path": "a=b.onnx",
        "k": [3, 4],
    }
