"""The greatest amount of memory that one extraction takes, measured in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..threads import variables
from .methods import Method

__all__ = ["peak_memory"]


def peak_memory(method: Method | str, image: NDArray[np.uint8], count: int, threads: int = 2) -> float | None:
    """Peak resident memory, in 2**20 bytes, of a process that loads a method and extracts an image twice.

    Of everything: Python, the libraries, the image. "sift" and "orb" stand for OpenCV's own with `count` keypoints.
    None where the system does not tell, the method cannot be made again from its name, or the process fails.
    """
    recipe = method.recipe if isinstance(method, Method) else (method, None)
    if recipe is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.npy"
        np.save(path, image)
        result = subprocess.run(
            [sys.executable, "-m", __name__, json.dumps([*recipe, str(path), count, threads], default=str)],
            env=os.environ | variables(threads),
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        value = json.loads(result.stdout)
    except ValueError:
        return None
    return None if value is None else float(value)


def _run(name: str, options: Mapping[str, Any] | None, path: str, count: int, threads: int) -> float | None:
    import cv2

    from ..extraction import load
    from .timing import opencv_orb, opencv_sift

    cv2.setNumThreads(threads)
    image = np.load(path)
    if options is None:
        extract: Any = {"sift": opencv_sift, "orb": opencv_orb}[name](image, count)
    else:
        extract = partial(load(name, **options), image)
    for _ in range(2):
        extract()
    return _peak()


def _peak() -> float | None:
    """Of this process, in MB. Linux's own counter first: getrusage's starts with the parent's peak there."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**20 if sys.platform == "darwin" else used / 1024


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_run(*json.loads(sys.argv[1]))))
