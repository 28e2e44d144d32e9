"""What the tests of the training share: a folder of small photographs, and a network that trains in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures full of blobs and corners."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(3)
    for i in range(10):
        image = np.zeros((160, 200, 3))
        for cell in (4, 10, 20):
            coarse = rng.normal(size=(160 // cell, 200 // cell, 3))
            image += np.kron(coarse, np.ones((cell, cell, 1))) * cell**0.5
        image = 255 * (image - image.min()) / (image.max() - image.min())
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def one_broken(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> list[Path]:
    """A file that is no photograph, and two that are."""
    broken = tmp_path_factory.mktemp("broken") / "broken.jpg"
    broken.write_bytes(b"no photograph")
    return [broken, examples / "desk_1.jpg", examples / "box_in_scene.png"]
