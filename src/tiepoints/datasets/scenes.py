"""Photographs of a scene with the true cameras: sets with a ``cameras.csv``, and the Image Matching Benchmark's layout.

A set: a folder with ``images/`` and ``cameras.csv`` (name, width, height, K00..K22, R00..R22, T0..T2; the centre of the
top-left pixel is (0, 0)). The benchmark's scene (``<dataset>/<scene>/set_100``): ``images/``,
``calibration/calibration_<image>.h5`` (K, R, T; COLMAP's corner convention), and as far as they are there
``depth_maps/<image>.h5``, the list of covisible pairs ``new-vis-pairs/keys-th-0.1.npy`` or else the older counts of
common points (``visibility.txt`` names a file for each image of ``images.txt``), and the bags of images
``sub_set/<size>bag_<number>.txt``. In both x ~ K (R X + T).
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import StorageError, counted
from ..files import PathLike, one_line
from .hdf5 import DAMAGED, read_h5

__all__ = ["Scene", "View", "find_scenes", "read_scene"]

Float64 = NDArray[np.float64]
Pair = tuple[str, str]

COVISIBILITY = "0.1"
_COMMON_POINTS = 100  # the older measure, and the threshold that the benchmark gives it
_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".tif", ".tiff", ".webp", ".bmp")
_LARGEST = 1e100  # its square is still a number
_DEEPEST = 5  # folders below the given one in which scenes are looked for: dataset, scene, set_100, and two to spare


@dataclass(frozen=True, eq=False)
class View:
    """A photograph and its true camera.

    Parameters
    ----------
    name : str
        The file's name without suffix, the benchmark's key.
    path : path
        The image.
    K : (3, 3) float64
        Calibration, pixel-centre convention.
    R, t : (3, 3) and (3,) float64
        cam_from_world: x_cam = R @ x_world + t.
    size : (int, int) or None
        (width, height), where the set states it.
    depth : path or None
        The benchmark's depth map.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from tiepoints.datasets.scenes import View
    >>> view = View("a", Path("a.jpg"), K=np.eye(3), R=np.eye(3), t=np.zeros(3))
    >>> len(view.camera)
    3
    """

    name: str
    path: Path
    K: Float64
    R: Float64
    t: Float64
    size: tuple[int, int] | None = None
    depth: Path | None = None

    @property
    def camera(self) -> tuple[Float64, Float64, Float64]:
        """K, R and t."""
        return self.K, self.R, self.t


@dataclass(frozen=True, eq=False)
class Scene:
    """The photographs of a place, which pairs of them are judged, and in which bags they are reconstructed.

    Parameters
    ----------
    dataset, name : str
        Such as "phototourism" and "reichstag": the scene's folder, and the one above it.
    views : dict of str to View
        By the images' names, in their order.
    pairs : tuple of (str, str)
        The pairs for stereo, the larger name first as in the benchmark.
    bags : dict of int to tuple of bags
        The release's own bags by their size; empty where it has none.
    notes : tuple of str
        What a reader of the figures has to know: images that are missing, lists that are not there.

    Examples
    --------
    >>> from tiepoints.datasets.scenes import Scene
    >>> Scene("phototourism", "reichstag", views={}, pairs=()).has_depth
    False
    """

    dataset: str
    name: str
    views: dict[str, View]
    pairs: tuple[Pair, ...]
    bags: dict[int, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def has_depth(self) -> bool:
        """Whether there are depth maps: repeatability and matching score need them."""
        return any(view.depth is not None for view in self.views.values())


def find_scenes(root: PathLike) -> list[Scene]:
    """Read all scenes at or below a folder.

    Parameters
    ----------
    root : str or path
        A scene's folder, a dataset's, or one that holds datasets.

    Returns
    -------
    scenes : list of Scene
        In the order of their paths.

    Raises
    ------
    StorageError
        If there is no such folder or no scene in it, or a scene's files are damaged.

    Examples
    --------
    >>> import shutil
    >>> import numpy as np
    >>> from tiepoints.datasets.scenes import find_scenes
    >>> _ = shutil.copytree("examples", "places/desk/images", dirs_exist_ok=True)
    >>> columns = ["name", "width", "height", *(f"{m}{i}{j}" for m in "KR" for i in "012" for j in "012"), "T0,T1,T2"]
    >>> rows = [f"desk_{k}.jpg,640,480,500,0,320,0,500,240,0,0,1,1,0,0,0,1,0,0,0,1,{k},0,0" for k in (1, 2)]
    >>> np.savetxt("places/desk/cameras.csv", [",".join(columns), *rows], "%s")
    >>> [scene.name for scene in find_scenes("places")]
    ['desk']
    """
    root = checks.path(root, "root")
    if not root.is_dir():
        raise StorageError(f"{root}: no such folder; give a scene's, a dataset's or one that holds datasets")
    folders = sorted(_scene_folders(root, _DEEPEST))
    if not folders:
        raise StorageError(f"{root}: no scene in it; a scene is a folder with images/ and cameras.csv or calibration/")
    return [read_scene(folder) for folder in folders]


def read_scene(folder: PathLike) -> Scene:
    """Read one scene's folder, of either layout.

    Raises
    ------
    StorageError
        If a file is missing or damaged, or fewer than two images with a camera are there.

    Examples
    --------
    >>> import shutil
    >>> import numpy as np
    >>> from tiepoints.datasets.scenes import read_scene
    >>> _ = shutil.copytree("examples", "desk/images", dirs_exist_ok=True)
    >>> columns = ["name", "width", "height", *(f"{m}{i}{j}" for m in "KR" for i in "012" for j in "012"), "T0,T1,T2"]
    >>> rows = [f"desk_{k}.jpg,640,480,500,0,320,0,500,240,0,0,1,1,0,0,0,1,0,0,0,1,{k},0,0" for k in (1, 2)]
    >>> np.savetxt("desk/cameras.csv", [",".join(columns), *rows], "%s")
    >>> read_scene("desk").pairs
    (('desk_2', 'desk_1'),)
    """
    folder = checks.path(folder, "folder").absolute()
    scene = _read_csv_scene(folder) if (folder / "cameras.csv").is_file() else _read_benchmark_scene(folder)
    if len(scene.views) < 2:
        raise StorageError(
            f"{folder}: {counted(len(scene.views), 'image')} with a camera, but a scene needs two at least"
        )
    return scene


def _scene_folders(folder: Path, deep: int) -> Iterator[Path]:
    if (folder / "cameras.csv").is_file() or (folder / "calibration").is_dir():
        yield folder
        return
    if not deep:
        return
    try:
        children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError as error:
        raise StorageError(f"{folder}: cannot be read ({error.strerror or one_line(error)})") from None
    for child in children:
        yield from _scene_folders(child, deep - 1)


def _images(folder: Path) -> dict[str, Path]:
    """The images of a scene by their stems."""
    images: dict[str, Path] = {}
    if (folder / "images").is_dir():
        for path in sorted((folder / "images").iterdir()):
            if path.suffix.lower() in _SUFFIXES:
                if path.stem in images:
                    raise StorageError(f"{path}: {images[path.stem].name} has the same name; remove one of them")
                images[path.stem] = path
    return images


def _larger_first(a: str, b: str) -> Pair:
    return (a, b) if a > b else (b, a)


def _all_pairs(names: list[str]) -> tuple[Pair, ...]:
    return tuple(_larger_first(a, b) for a, b in itertools.combinations(names, 2))


def _read_csv_scene(folder: Path) -> Scene:
    path = folder / "cameras.csv"
    images = _images(folder)
    views: dict[str, View] = {}
    missing: list[str] = []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: cannot be read ({one_line(error)})") from None
    for number, row in enumerate(csv.DictReader(text.splitlines()), start=2):
        try:
            name = Path(row["name"]).stem
            K, R = (np.array([[float(row[f"{m}{i}{j}"]) for j in range(3)] for i in range(3)]) for m in "KR")
            t = np.array([float(row[f"T{i}"]) for i in range(3)])
            size = int(row["width"]), int(row["height"])
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(
                f"{path}, line {number}: not name,width,height,K00..K22,R00..R22,T0..T2 ({one_line(error)})"
            ) from None
        if name in views or name in missing:
            raise StorageError(f"{path}, line {number}: {row['name']} is there twice")
        if name in images:
            views[name] = _view(f"{path}, line {number}", name, images[name], K, R, t, size=size)
        else:
            missing.append(name)
    notes = ["all pairs: the set has no list of covisible ones"]
    if missing:
        notes.append(f"{counted(len(missing), 'image')} of cameras.csv missing: {_some(missing)}")
    extra = [name for name in images if name not in views]
    if extra:
        notes.append(f"{counted(len(extra), 'image')} without a camera left out: {_some(extra)}")
    return Scene(folder.parent.name, folder.name, views, _all_pairs(list(views)), notes=tuple(notes))


def _read_benchmark_scene(folder: Path) -> Scene:
    images = _images(folder)
    if not images:
        raise StorageError(f"{folder}: no images in its images/")
    views: dict[str, View] = {}
    missing: list[str] = []
    for name, path in images.items():
        file = folder / "calibration" / f"calibration_{name}.h5"
        if not file.is_file():
            missing.append(name)
            continue
        camera = read_h5(file, ("K", "R", "T"))
        K = camera["K"].astype(np.float64).reshape(-1)
        R, t = camera["R"].astype(np.float64).reshape(-1), camera["T"].astype(np.float64).reshape(-1)
        if (len(K), len(R), len(t)) != (9, 9, 3):
            raise StorageError(f"{file}: K, R and T have {len(K)}, {len(R)} and {len(t)} numbers, not 9, 9 and 3")
        corner = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        depth = folder / "depth_maps" / f"{name}.h5"
        views[name] = _view(
            str(file),
            name,
            path,
            K.reshape(3, 3) - corner,
            R.reshape(3, 3),
            t,
            depth=depth if depth.is_file() else None,
        )
    notes: list[str] = []
    if missing:
        notes.append(f"{counted(len(missing), 'image')} without calibration left out: {_some(missing)}")
    without = sum(view.depth is None for view in views.values())
    if without:
        notes.append(f"{without} of {counted(len(views), 'image')} without a depth map")
    pairs = _covisible_pairs(folder, views, notes)
    bags = _bags(folder / "sub_set", views, notes)
    inner = re.fullmatch(r"set_\d+", folder.name) is not None
    scene = folder.parent if inner else folder
    return Scene(scene.parent.name, scene.name, views, pairs, bags, tuple(notes))


def _view(
    where: str,
    name: str,
    path: Path,
    K: Float64,
    R: Float64,
    t: Float64,
    *,
    size: tuple[int, int] | None = None,
    depth: Path | None = None,
) -> View:
    if not all((np.abs(values) < _LARGEST).all() for values in (K, R, t)):
        raise StorageError(f"{where}: K, R and T must be finite numbers, and below {_LARGEST:g}")
    if np.abs(R @ R.T - np.eye(3)).max() > 1e-3 or np.linalg.det(R) < 0:
        raise StorageError(f"{where}: R is no rotation")
    if K[0, 0] <= 0 or K[1, 1] <= 0 or abs(K[2, 2] - 1) > 1e-9 or np.abs(K[2, :2]).max() > 1e-9:
        raise StorageError(f"{where}: K is no calibration matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
    if size is not None and min(size) < 1:
        raise StorageError(f"{where}: an image of {size[0]}x{size[1]} pixels")
    # Rounded to a few digits in files: the nearest rotation, so that angles of 0.001 degrees mean something.
    u, _, vt = np.linalg.svd(R)
    return View(name, path, K, u @ vt, t, size, depth)


def _covisible_pairs(folder: Path, views: dict[str, View], notes: list[str]) -> tuple[Pair, ...]:
    path = folder / "new-vis-pairs" / f"keys-th-{COVISIBILITY}.npy"
    if not path.is_file():
        return _pairs_with_common_points(folder, views, notes)
    try:
        keys = [str(key) for key in np.load(path, allow_pickle=False).ravel()]
    except DAMAGED as error:
        raise StorageError(f"{path}: cannot be read as a list of pairs ({one_line(error)})") from None
    pairs: dict[Pair, None] = {}
    lost = 0
    for key in keys:
        parts = key.split("-")
        splits = (("-".join(parts[:i]), "-".join(parts[i:])) for i in range(1, len(parts)))
        found = [pair for pair in splits if pair[0] in views and pair[1] in views]
        if len(found) == 1:
            pairs[_larger_first(*found[0])] = None
        else:
            lost += 1
    if lost:
        notes.append(f"{lost} of {counted(len(keys), 'covisible pair')} left out: an image of theirs is not there")
    if not pairs:
        raise StorageError(f"{path}: none of its {len(keys)} pairs is of images that are there")
    return tuple(pairs)


def _pairs_with_common_points(folder: Path, views: dict[str, View], notes: list[str]) -> tuple[Pair, ...]:
    """The pairs by the older lists, or all where there are none."""
    lists = folder / "images.txt", folder / "visibility.txt"
    if not all(path.is_file() for path in lists):
        notes.append(f"all pairs: the scene has no list of pairs with a covisibility of at least {COVISIBILITY}")
        return _all_pairs(list(views))
    images, files = (_lines(path) for path in lists)
    names = [Path(image).stem for image in images]
    if len(files) != len(names):
        raise StorageError(f"{lists[1]}: {len(files)} files, but images.txt has {len(names)} images")
    pairs: dict[Pair, None] = {}
    for name, file in zip(names, files, strict=True):
        path = folder / "visibility" / Path(file).name  # by its name only: a list cannot lead out of the folder
        try:
            counts = [float(text) for text in " ".join(_lines(path)).split()]
        except ValueError as error:
            raise StorageError(f"{path}: not numbers ({one_line(error)})") from None
        if len(counts) != len(names):
            raise StorageError(f"{path}: {len(counts)} numbers for {len(names)} images")
        for other, count in zip(names, counts, strict=True):
            if count > _COMMON_POINTS and other != name and other in views and name in views:
                pairs[_larger_first(name, other)] = None
    if not pairs:
        raise StorageError(f"{lists[1]}: no pair of images has more than {_COMMON_POINTS} points in common")
    notes.append(f"pairs with more than {_COMMON_POINTS} common points: the scene has no list by covisibility")
    return tuple(sorted(pairs))


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: cannot be read ({one_line(error)})") from None


def _bags(folder: Path, views: dict[str, View], notes: list[str]) -> dict[int, tuple[tuple[str, ...], ...]]:
    bags: dict[int, list[tuple[str, ...]]] = {}
    lost = 0
    for path in sorted(folder.glob("*bag_*.txt")) if folder.is_dir() else ():
        match = re.fullmatch(r"(\d+)bag_\d+", path.stem)
        if match is None:
            continue
        bag = tuple(Path(line).stem for line in _lines(path))
        if len(bag) == int(match[1]) == len(set(bag)) and all(name in views for name in bag):
            bags.setdefault(len(bag), []).append(bag)
        else:
            lost += 1
    if lost:
        notes.append(f"{counted(lost, 'bag')} left out: an image of theirs is not there, or they are damaged")
    return {size: tuple(bags[size]) for size in sorted(bags)}


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
