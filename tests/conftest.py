"""What all tests share: where the data lie, small synthetic images, and real pairs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Before the libraries are loaded: processes of pytest-xdist share the cores. With a thread for every core in each, they
# spend more time waiting for one another than computing. Tests of several threads ask for them.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    os.environ.setdefault(
        "OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))
    )

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from PIL import Image

import tiepoints as tp
from tiepoints.extraction import Extractor, Metadata
from tiepoints.extraction.base import Detections

# The same examples at every run in CI, so that a change is judged by what it changed; new ones elsewhere.
# A health check measures the machine and the luck of the draw, not the code.
settings.register_profile(
    "tiepoints",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("tiepoints")

# Shells start background jobs with Ctrl-C ignored, which children inherit; the tests of interruptions need it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]

# Weights that others published, where they are; before the tests' modules ask which extractors are ready.
_weights = Path(os.environ.get("TIEPOINTS_DATA", ROOT.parent / "shared")) / "weights"
if _weights.is_dir():
    os.environ.setdefault("TIEPOINTS_WEIGHTS", str(_weights))
# Lines about progress come after seconds, so on a slow machine where a fast one has none; their own tests want them.
os.environ["TIEPOINTS_PROGRESS"] = "0"
os.environ.setdefault("TIEPOINTS_ACCEPT_LICENCE", "LicenseRef-MagicLeap, CC-BY-NC-SA-3.0, LicenseRef-LIFT-academic")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder that holds `data/` with the development sets; tests that need it skip elsewhere."""
    folder = Path(os.environ.get("TIEPOINTS_DATA", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no data/ in {folder}: set TIEPOINTS_DATA to the folder that holds the development sets")
    return folder


@pytest.fixture(scope="session")
def examples() -> Path:
    """The photographs that come with the repository."""
    return ROOT / "examples"


@pytest.fixture(scope="session")
def texture() -> NDArray[np.uint8]:
    """A grey image (240, 320) full of blobs and corners at all scales, the same at every run."""
    rng = np.random.default_rng(7)
    image = np.zeros((240, 320), np.float64)
    for cell in (4, 8, 16, 32):
        coarse = rng.normal(size=(240 // cell + 2, 320 // cell + 2))
        image += np.kron(coarse, np.ones((cell, cell)))[:240, :320] * cell**0.5
    image -= image.min()
    return np.asarray(image / image.max() * 255, dtype=np.uint8)


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python code in a process of its own, with its output as text; it is killed at the end of the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


# Planar scenes made by hand.


@pytest.fixture
def features() -> Callable[..., tp.Features]:
    """Features at given points; the descriptor of label i is the i-th unit vector, so that equal labels match."""

    def make(
        points: object, labels: object = None, size: tuple[int, int] = (100, 80), sets: object = None
    ) -> tp.Features:
        keypoints = np.asarray(points, np.float32).reshape(-1, 2)
        numbers = np.arange(len(keypoints)) if labels is None else np.asarray(labels)
        descriptors = np.eye(64, dtype=np.float32)[numbers] if len(keypoints) else np.zeros((0, 64), np.float32)
        scores = np.arange(len(keypoints), 0, -1, dtype=np.float32)
        return tp.Features(keypoints, descriptors, scores, size, sets=sets)

    return make


@pytest.fixture
def sequence(tmp_path: Path, texture: NDArray[np.uint8]) -> Callable[..., Path]:
    """Write a sequence of `count` images with their homographies and return its folder."""

    def write(name: str, count: int = 3, suffix: str = ".png", root: Path | None = None) -> Path:
        folder = (tmp_path / "data" if root is None else root) / name
        folder.mkdir(parents=True)
        for k in range(1, count + 1):
            H = shift(k)
            warped = cv2.warpPerspective(texture, H, texture.shape[::-1], borderMode=cv2.BORDER_REFLECT)
            Image.fromarray(warped).save(folder / f"{k}{suffix}")
            if k > 1:
                np.savetxt(folder / f"H_1_{k}", H @ np.linalg.inv(shift(1)))
        return folder

    return write


def shift(k: int) -> NDArray[np.float64]:
    """The homography from the texture to image k of a sequence: it moves and turns a little more each time."""
    angle = 0.02 * (k - 1)
    return np.array(
        [[np.cos(angle), -np.sin(angle), 3.0 * (k - 1)], [np.sin(angle), np.cos(angle), 2.0 * (k - 1)], [0, 0, 1]]
    )


# A made-up scene in the layout of the Image Matching Benchmark, whose every truth is known.

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
