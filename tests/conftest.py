"""What all tests share: where the data lie, small synthetic images, and real pairs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

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
