"""A scene that all tests of the tasks share: a few photographs of a door, reconstructed once, small."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiepoints as tp

pytest.importorskip("pycolmap")

from tiepoints.collection import Collection
from tiepoints.tasks import Reconstruction, reconstruct

SIZE, COUNT = 640, 800


@pytest.fixture(scope="session")
def extractor() -> tp.Extractor:
    return tp.load("mdnet", max_size=SIZE, max_keypoints=COUNT)


@pytest.fixture(scope="session")
def photographs(shared: Path, examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Seven photographs of a door, and one of something else."""
    folder = tmp_path_factory.mktemp("photographs")
    door = sorted((shared / "data" / "lund_door" / "images").glob("*.*"))[:7]
    for path in door:
        shutil.copy(path, folder / path.name)
    shutil.copy(examples / "box.png", folder / "other.png")
    return Collection.from_folder(folder)


@pytest.fixture(scope="session")
def scene(
    photographs: Collection, extractor: tp.Extractor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reconstruction]:
    return reconstruct(photographs, tmp_path_factory.mktemp("scene"), extractor=extractor)
