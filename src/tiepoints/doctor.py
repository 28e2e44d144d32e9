"""What an installation has and lacks: versions, devices, caches, memory, and packages that are in each other's way."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path

from . import __version__
from .errors import one_line
from .threads import cores
from .weights import cache_folder

__all__ = ["Finding", "examine", "free_memory", "opencv_packages"]

_CORE = ("numpy", "pillow", "h5py", "poselib", "onnxruntime")
# Two builds of OpenCV that have all that tiepoints needs; either will do.
_HEADLESS, _WITH_WINDOWS = "opencv-contrib-python-headless", "opencv-contrib-python"
# Extra -> the module that shows whether it is there, and its package.
_EXTRAS = {
    "sfm": ("pycolmap", "pycolmap"),
    "learned": ("torch", "torch"),
    "train": ("onnxscript", "onnxscript"),
    "report": ("matplotlib", "matplotlib"),
    "heif": ("pillow_heif", "pillow-heif"),
    "scale": ("ray", "ray"),
    "viewer": ("viser", "viser"),
}
_ENOUGH = 1.5e9  # bytes: a photograph of 24 megapixels at the defaults


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Parameters
    ----------
    what : str
    value : str
    remedy : str
        What to do; empty where nothing is wrong. Commands stand on a line each: not every shell knows ``&&``.
    """

    what: str
    value: str
    remedy: str = ""


def opencv_packages() -> list[str]:
    """The installed packages that bring the module cv2: they write the same files, and the last one installed wins."""
    names = {(found.metadata["Name"] or "").lower().replace("_", "-") for found in distributions()}
    return sorted(name for name in names if name.startswith("opencv-") and "python" in name)


def free_memory() -> int | None:
    """Bytes that a program can still get, by the system and by the limits of a container; None where unknown."""
    left: list[int] = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        left += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    except OSError:
        pass  # not Linux
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # no such file, or "max"
            left.append(int(Path(limit).read_text(encoding="utf-8")) - int(Path(used).read_text(encoding="utf-8")))
    return max(0, min(left)) if left else None


def examine() -> list[Finding]:
    """What this installation has and lacks; what is wrong has a remedy.

    Examples
    --------
    >>> from tiepoints.doctor import examine
    >>> [finding.what for finding in examine()][:2]
    ['tiepoints', 'Python']
    """
    bits = platform.architecture()[0]
    return [
        Finding("tiepoints", __version__),
        Finding("Python", f"{platform.python_version()} ({bits}, {platform.system()} {platform.machine()})"),
        _opencv(),
        *(_package(name) for name in _CORE),
        *_devices(),
        *_extras(),
        _memory(),
        Finding("cores", f"{cores()} used of {os.cpu_count()}"),
        _cache(),
    ]


def _package(name: str) -> Finding:
    try:
        there = version(name)
    except PackageNotFoundError:
        return Finding(name, "not installed", f"{_pip()} install {name}")
    try:
        import_module({"pillow": "PIL.Image", "pillow-heif": "pillow_heif"}.get(name, name))
    except ImportError as error:
        problem = f"{there}, which cannot be imported: {one_line(error)}"
        return Finding(name, problem, f"{_pip()} install --force-reinstall --no-deps {name}")
    return Finding(name, there)


def _pip() -> str:
    if os.name != "nt":
        return f"{shlex.quote(sys.executable)} -m pip"
    quoted = subprocess.list2cmdline([sys.executable])
    return f"{'& ' if quoted != sys.executable else ''}{quoted} -m pip"  # PowerShell takes a bare "..." for a text


def _opencv() -> Finding:
    """Whether cv2 is one package's, and has what tiepoints needs."""
    there = opencv_packages()
    try:
        import cv2
    except ImportError as error:
        return Finding("OpenCV", f"cv2 cannot be imported: {one_line(error)}", _only(_HEADLESS, there))
    windows = not re.search(r"GUI:\s+NONE", cv2.getBuildInformation())
    state = f"cv2 {cv2.__version__} of {', '.join(there) or 'no package'}, {'with' if windows else 'without'} windows"
    if len(there) > 1:  # the one with windows was there before us, and is wanted
        value = f"{state}; these packages overwrite each other; keep one, with windows {_WITH_WINDOWS}"
        return Finding("OpenCV", value, _only(_WITH_WINDOWS, there))
    home = cv2 if hasattr(cv2, "AKAZE_create") else getattr(cv2, "xfeatures2d", None)
    if not (hasattr(cv2, "SIFT_create") and hasattr(home, "AKAZE_create")):
        wanted = _WITH_WINDOWS if windows else _HEADLESS
        return Finding("OpenCV", f"{state}; it lacks AKAZE or SIFT", _only(wanted, there))
    return Finding("OpenCV", state)


def _only(wanted: str, there: list[str]) -> str:
    """Commands after which this is the only package that brings cv2."""
    remove = f"{_pip()} uninstall -y {' '.join(there)}\n" if there else ""
    return f"{remove}{_pip()} install --no-deps {wanted}"


def _devices() -> list[Finding]:
    found = []
    try:
        import onnxruntime

        names = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
        names = [name for name in names if name != "Azure"]  # which computes elsewhere
        found.append(Finding("ONNX Runtime computes on", ", ".join(names)))
    except ImportError:
        pass  # which the package's own line says
    rivals = sorted(
        {
            (d.metadata["Name"] or "").lower()
            for d in distributions()
            if (d.metadata["Name"] or "").lower().startswith("onnxruntime")
        }
    )
    if len(rivals) > 1:
        found.append(
            Finding(
                "ONNX Runtime",
                f"several packages that overwrite each other: {', '.join(rivals)}",
                f"{_pip()} uninstall -y {' '.join(rivals)}\n{_pip()} install the one that you want",
            )
        )
    return found


def _extras() -> list[Finding]:
    there, missing = [], []
    for extra, (module, package) in _EXTRAS.items():
        if find_spec(module) is None:
            missing.append(extra)
        else:
            there.append(f"{extra} ({package} {_package(package).value})")
    return [
        Finding("extras installed", ", ".join(there) or "none"),
        Finding("extras to install", ", ".join(f"tiepoints[{extra}]" for extra in missing) or "none"),
    ]


def _memory() -> Finding:
    left = free_memory()
    if left is None:
        return Finding("free memory", "not known on this system")
    remedy = "" if left >= _ENOUGH else "give --max-size 1600, and --jobs 1, or close other programs"
    return Finding("free memory", f"{left / 1e9:.1f} GB", remedy)


def _cache() -> Finding:
    folder = cache_folder().parent
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
    free = shutil.disk_usage(existing).free
    value = f"{folder}: {size / 1e6:.0f} MB, {free / 1e9:.1f} GB free on its disk"
    if not os.access(existing, os.W_OK):
        return Finding("cache", f"{folder}: cannot be written", "set TIEPOINTS_CACHE to a folder that can be written")
    return Finding("cache", value, "" if free > 1e9 else "free some space, or set TIEPOINTS_CACHE to another disk")
