"""A made-up scene in the benchmark's layout whose every truth is known, and an extractor that knows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tiepoints.extraction import Extractor, Metadata
from tiepoints.extraction.base import Detections

WIDTH, HEIGHT, FOCAL = 640, 480, 600.0
K = np.array([[FOCAL, 0, 320.0], [0, FOCAL, 240.0], [0, 0, 1]])  # pixel-centre convention


@dataclass
class World:
    """Points and cameras: `cameras` are (R, t) with x_cam = R x + t."""

    points: NDArray[np.float64]
    descriptors: NDArray[np.float32]
    cameras: list[tuple[NDArray[np.float64], NDArray[np.float64]]]

    def seen(self, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
        """Pixels (N, 2), depths (N,) and numbers of the points that image `index` shows."""
        R, t = self.cameras[index]
        inside = self.points @ R.T + t
        pixels = inside[:, :2] / inside[:, 2:] * FOCAL + K[:2, 2]
        shown = np.flatnonzero(
            (inside[:, 2] > 0) & (pixels > 1).all(axis=1) & (pixels[:, 0] < WIDTH - 2) & (pixels[:, 1] < HEIGHT - 2)
        )
        return pixels[shown], inside[shown, 2], shown


def make_world(images: int, count: int = 400, seed: int = 5) -> World:
    """A cloud of points, and cameras on an arc that look at its middle: every image sees most points."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-2, -1.5, -1.5], [2, 1.5, 1.5], (count, 3))
    descriptors = rng.normal(size=(count, 128)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    cameras = []
    for index in range(images):
        angle = 0.16 * (index - (images - 1) / 2)
        centre = np.array([7 * np.sin(angle), 0.3 * rng.normal(), -7 * np.cos(angle)])
        R = cv2.Rodrigues(rng.normal(0, 0.03, 3))[0] @ cv2.Rodrigues(np.array([0.0, angle, 0.0]))[0]
        cameras.append((R, -R @ centre))
    return World(points, descriptors, cameras)


class Oracle(Extractor):
    """Reads the number of the image from its pixels, and returns the true features of the world; or shuffled ones."""

    metadata = Metadata(
        name="oracle", summary="Knows the truth.", paper="-", code_licence="Apache-2.0", descriptor_size=128
    )

    def __init__(self, world: World, *, shuffled: bool = False, **options: int) -> None:
        super().__init__(**options)
        self._world = world
        self.shuffled = shuffled

    def _detect(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Detections:
        index = int(image[0, 0]) // 10
        pixels, _, shown = self._world.seen(index)
        descriptors = self._world.descriptors[shown]
        if self.shuffled:
            descriptors = descriptors[np.random.default_rng(index).permutation(len(shown))]
        return Detections(pixels.astype(np.float32), descriptors, np.ones(len(shown), np.float32))


def write_scene(folder: Path, world: World, *, depth: bool = True) -> Path:
    """The world as the benchmark's release lays a scene out; returns .../<scene>/set_100."""
    inner = folder / "set_100"
    for name in ("images", "calibration", "depth_maps"):
        (inner / name).mkdir(parents=True)
    for index, (R, t) in enumerate(world.cameras):
        name = f"{index:02d}_{index}"
        Image.fromarray(np.full((HEIGHT, WIDTH), 10 * index, np.uint8)).save(inner / "images" / f"{name}.png")
        with h5py.File(inner / "calibration" / f"calibration_{name}.h5", "w") as file:
            file["K"] = K + [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
            file["R"], file["T"] = R, t.reshape(1, 3)
        if depth:
            pixels, depths, _ = world.seen(index)
            column, row = np.rint(pixels.astype(np.float32)).astype(int).T
            values = np.zeros((HEIGHT, WIDTH), np.float32)
            values[row, column] = depths
            with h5py.File(inner / "depth_maps" / f"{name}.h5", "w") as file:
                file["depth"] = values
    return inner


@pytest.fixture(scope="session")
def world() -> World:
    return make_world(7)


@pytest.fixture(scope="session")
def scene_folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("data") / "toy" / "cloud", world)


@pytest.fixture(scope="session")
def oracle(world: World) -> Callable[..., Oracle]:
    return lambda **options: Oracle(world, **options)


@pytest.fixture(scope="session")
def new_scene(world: World) -> Callable[..., Path]:
    """Write the world's scene to a folder of the test's own, to be spoilt there."""
    return lambda folder, **options: write_scene(folder, world, **options)
