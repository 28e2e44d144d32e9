"""Many images at once: the same features as one by one, in order, whatever is wrong with some of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.collection import extract_images
from tiepoints.extraction import Detections, Extractor


@pytest.fixture
def images(examples: Path, tmp_path: Path) -> list[Path]:
    photograph = cv2.imread(str(examples / "desk_1.jpg"))
    paths = []
    for i in range(7):
        paths.append(tmp_path / f"{i}.png")
        cv2.imwrite(str(paths[-1]), photograph[40 * i : 40 * i + 200, : 150 + 50 * i])
    paths[3].write_bytes(b"no image")
    paths[5] = tmp_path / "missing.png"
    return paths


@pytest.mark.parametrize("name", ["mdnet", "sift"])
@pytest.mark.parametrize("workers", [1, 3, 20])
def test_the_same_as_one_by_one_and_in_order(images: list[Path], name: str, workers: int) -> None:
    extractor = tp.load(name, max_keypoints=100)
    found = list(extract_images(extractor, map(str, images), workers=workers))
    assert [one.path for one in found] == images
    for one in found:
        if one.path in (images[3], images[5]):
            assert one.features is None
            assert one.error is not None and one.path.name in str(one.error)
        else:
            assert one.error is None and one.features is not None and one.milliseconds > 0
            alone = extractor(tp.read(one.path))
            assert one.features.image_size == alone.image_size
            # other numbers of threads may add in another order
            np.testing.assert_allclose(one.features.keypoints, alone.keypoints, atol=1e-3)
            np.testing.assert_allclose(one.features.descriptors, alone.descriptors, atol=1e-4)


def test_images_in_memory_and_files_may_be_mixed(images: list[Path]) -> None:
    extractor = tp.load("orb", max_keypoints=50)
    array = tp.read(images[0])
    found = list(extract_images(extractor, [array, images[0], array[:, :, 0]], workers=2))
    assert [one.path for one in found] == [None, images[0], None]
    assert all(one.features is not None for one in found)
    np.testing.assert_array_equal(found[0].features.keypoints, found[1].features.keypoints)  # type: ignore[union-attr]
    wrong, right = extract_images(extractor, [array[0, 0], array])
    assert wrong.features is None and "(H, W)" in str(wrong.error) and right.features is not None


class Counting(Extractor):
    """Knows how many images were in work at the same time.

    The first one waits for another to be in work too, at most so many seconds: `patience`.
    """

    metadata = tp.load("sift").metadata

    def __init__(self, patience: float = 0.05, **options: int) -> None:
        super().__init__(**options)
        self.now, self.most, self.done, self.lock = 0, 0, 0, threading.Lock()
        self.patience, self.met = patience, threading.Event()

    def _detect(self, image: NDArray[np.uint8], mask: Any) -> Detections:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            if self.now > 1:
                self.met.set()
        self.met.wait(self.patience)
        time.sleep(0.01)
        with self.lock:
            self.now -= 1
            self.done += 1
        return Detections(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32), np.zeros(0, np.float32))


def small_and_large(folder: Path, count: int, size: tuple[int, int]) -> Iterator[Path]:
    for i in range(count):
        cv2.imwrite(str(folder / f"{i}.png"), np.zeros(size, np.uint8))
        yield folder / f"{i}.png"


def test_large_images_wait_for_each_other_by_their_size_after_max_size(tmp_path: Path) -> None:
    together, alone, shrunk = Counting(patience=20), Counting(), Counting(patience=20, max_size=500)
    assert len(list(extract_images(together, small_and_large(tmp_path, 8, (50, 50)), workers=4))) == 8
    assert 2 <= together.most <= 4
    large = list(small_and_large(tmp_path, 4, (2000, 2100)))
    assert len(list(extract_images(alone, large, workers=4))) == 4
    assert alone.most == 1, "each takes more than half of what all may take"
    assert len(list(extract_images(shrunk, large, workers=4))) == 4
    assert shrunk.most > 1, "decoding takes little beside the work"


def test_whoever_stops_early_does_not_pay_for_the_rest(tmp_path: Path) -> None:
    extractor = Counting()
    paths = list(small_and_large(tmp_path, 40, (50, 50)))
    stream = extract_images(extractor, paths, workers=2)
    assert next(stream).path == paths[0]
    stream.close()  # type: ignore[attr-defined]
    assert extractor.done < 10


def test_an_error_of_the_method_is_each_images(tmp_path: Path) -> None:
    class Broken(Counting):
        def _detect(self, image: NDArray[np.uint8], mask: Any) -> Detections:
            raise ZeroDivisionError("nothing goes")

    found = list(extract_images(Broken(), small_and_large(tmp_path, 5, (50, 50)), workers=2))
    package = Broken.__module__.partition(".")[0]
    said = f"extractor {Broken.metadata.name} ({package}): ZeroDivisionError: nothing goes"
    assert [str(one.error) for one in found] == [said] * 5


@pytest.mark.parametrize("workers", [float("nan"), 0, "2"])
def test_workers_are_checked(workers: Any) -> None:
    with pytest.raises(tp.InvalidInputError, match="workers"):
        extract_images(Counting(), [np.zeros((50, 50), np.uint8)], workers=workers)
