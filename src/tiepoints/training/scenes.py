"""Photographs of one scene from several places, and the points that a COLMAP model says they share: real pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..collection.orientation import stored_from_upright
from ..errors import ImageError, InvalidInputError
from ..images import find_images, header_of
from ..storage.colmap_model import is_model, load_model
from .photographs import Photographs

__all__ = ["Observed", "Scene", "Shared", "covisible", "find_scenes"]

Float64 = NDArray[np.float64]

LEAST_SHARED = 32  # ours: points that the two photographs of a pair have to share
_LEAST_TRACK = 3  # ours: photographs that have to see a point: a wrong match seldom survives a third one
_LEAST_ANGLE = 2.0  # ours: degrees between the two lines of sight, their median; less is nearly the same viewpoint


class Observed(NamedTuple):
    """What one photograph shows of the points of its model."""

    path: Path
    points: NDArray[np.int64]  # (N,) numbers of 3D points, ascending
    at: Float64  # (N, 2) [x, y] as shares of the upright photograph's width and height, its corner being (0, 0)
    centre: Float64  # (3,) where the camera was


class Scene(NamedTuple):
    """One COLMAP model and its photographs."""

    photographs: list[Observed]
    places: Mapping[int, Float64]  # (3,) of each 3D point
    wrong: list[str]  # a line for each photograph that cannot be used


class Shared(NamedTuple):
    """Two photographs, by their numbers, and what each observes."""

    photographs: tuple[int, int]
    observed: tuple[Observed, Observed]

    def points(self) -> Float64:
        """The points that both show, (N, 2, 2): [x, y] in the one and in the other, as in `Observed`."""
        one, other = self.observed
        _, rows, columns = np.intersect1d(one.points, other.points, assume_unique=True, return_indices=True)
        return np.stack([one.at[rows], other.at[columns]], axis=1)


def find_scenes(folder: Path) -> list[Scene]:
    """All COLMAP models at or below a folder, with their photographs.

    A model's photographs lie where their names say, seen from the nearest folder above it, or a folder in that, where
    some are: so `tiepoints reconstruct` and COLMAP itself lay them out.

    Raises
    ------
    ImageError
        If the folder is missing or holds no image.
    InvalidInputError
        If photographs have no model, or a model has no photographs.
    StorageError
        If a model is damaged.
    """
    paths = find_images([folder])
    models = sorted(f for f in (folder, *folder.rglob("*")) if f.is_dir() and is_model(f))
    found, covered = [], set[Path]()
    for model in models:
        scene, top = _scene(model, folder)
        found.append(scene)
        covered |= {top, model.parent}
    for path in paths:
        if not covered.intersection(path.parents):
            raise InvalidInputError(
                f"{path.parent}: photographs, but no COLMAP model of them; make one by "
                f"`tiepoints reconstruct {path.parent} {path.parent}/scene --method aliked-n16` (or any other method)"
            )
    return found


def _scene(folder: Path, top: Path) -> tuple[Scene, Path]:
    """The model in a folder, and the folder above it from which its photographs were found."""
    model = load_model(folder)
    images = [model.image(number) for number in sorted(model.reg_image_ids())]
    above = [f for f in (folder, *folder.parents) if f == top or top in f.parents]
    for base in above:
        inside = sorted((f for f in base.iterdir() if f.is_dir()), key=lambda f: (f.name != "images", f.name))
        there = {f: sum((f / image.name).is_file() for image in images) for f in (base, *inside)}
        root = max(there, key=lambda f: there[f])
        if there[root]:
            break
    else:
        name = f", such as {images[0].name}," if images else ""
        raise InvalidInputError(f"{folder}: none of this model's photographs{name} is at or below {top}")
    seen, wrong = [], []
    tracks = {n: point for n, point in model.points3D.items() if point.track.length() >= _LEAST_TRACK}
    for image in images:
        try:  # each by itself: a bad photograph does not end the others
            seen.append(_observed(root / image.name, image, model.camera(image.camera_id), tracks))
        except (ImageError, InvalidInputError) as error:  # noqa: PERF203
            wrong.append(str(error))
    return Scene(seen, {n: np.asarray(point.xyz) for n, point in tracks.items()}, wrong), base


def _observed(path: Path, image: Any, camera: Any, tracks: Mapping[int, Any]) -> Observed:
    """COLMAP's observations, which are in the pixels that the file stores, in the upright photograph."""
    (width, height), orientation = header_of(path)
    upright, stored = (width, height), (height, width) if orientation >= 5 else (width, height)
    size = (camera.width, camera.height)
    if size not in (upright, stored):
        raise InvalidInputError(f"{path}: {stored[0]}x{stored[1]} pixels, but {size[0]}x{size[1]} in its COLMAP model")
    seen = [(p.point3D_id, *p.xy) for p in image.points2D if p.has_point3D() and p.point3D_id in tracks]
    table = np.array(seen, np.float64).reshape(-1, 3)
    points, first = np.unique(table[:, 0].astype(np.int64), return_index=True)
    at = table[first, 1:]
    if size == stored and orientation != 1:
        back = np.linalg.inv(stored_from_upright(upright, orientation))
        at = (at - 0.5) @ back[:2, :2].T + back[:2, 2] + 0.5
    return Observed(path, points, at / upright, np.asarray(image.projection_center()))


def covisible(photographs: Photographs, found: Iterable[Scene]) -> list[Shared]:
    """All pairs of these photographs that share enough points and were not taken from nearly the same place."""
    number = {path: n for n, path in enumerate(photographs.paths)}
    pairs = []
    for scene in found:
        seen = [observed for observed in scene.photographs if observed.path in number]
        rows: dict[int, list[int]] = {}
        for n, observed in enumerate(seen):
            for point in observed.points.tolist():
                rows.setdefault(point, []).append(n)
        counts = np.zeros((len(seen), len(seen)), np.int64)
        for observers in rows.values():
            counts[np.ix_(observers, observers)] += 1
        for i, j in np.argwhere(np.triu(counts, 1) >= LEAST_SHARED).tolist():
            if _angle(seen[i], seen[j], scene.places) >= _LEAST_ANGLE:
                pairs.append(Shared((number[seen[i].path], number[seen[j].path]), (seen[i], seen[j])))
    return pairs


def _angle(one: Observed, other: Observed, places: Mapping[int, Float64]) -> float:
    """The median angle, in degrees, between the two lines of sight to the points that both show."""
    both = np.array([places[n] for n in np.intersect1d(one.points, other.points, assume_unique=True).tolist()])
    a, b = both - one.centre, both - other.centre
    cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return float(np.degrees(np.median(np.arccos(cosine.clip(-1, 1)))))
