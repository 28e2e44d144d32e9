"""How good features are, by everything that a model is chosen for: planar pairs, wide baselines, poses, other light.

A folder's layout tells how it is judged; a folder of folders may hold several kinds.

| kind | layout | figures |
|---|---|---|
| planar | `1.*`, `2.*`, `H_1_2` (HPatches') | MMA, MS, repeatability by the profile `d2net` |
| wide | `1.*`, `2.*`, `corrs.txt` (WxBS's) | mAA: correspondences within 1 to 10 px of the estimated F's lines |
| pose | `images/` and `cameras.csv` | mAA@10 of the estimated E, precision: matches within 3 px of the true E's lines |
| static | `1.*`, `2.*` ... and no truth: one view in other light | MMA, MS at 3 px: each pixel is its own counterpart |
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..datasets.planar import read_sequences
from ..datasets.scenes import Scene, find_scenes
from ..errors import StorageError
from ..features import Features
from ..geometry import fundamental_from_essential, pose_error, relative_pose
from ..geometry.residuals import essential_from_pose
from ..images import SUFFIXES
from ..matching import Nearest
from ..metrics.correspondences import score_correspondences
from ..metrics.depth import CalibratedPose
from ..metrics.planar import Profile, score_planar_pair
from ..metrics.poses import mean_average_accuracy, relative_pose_between

__all__ = ["Judged", "Judgement", "find_judged", "judge", "planar_figures", "pose_figures", "score_of"]

_PLANAR = Profile("development", "d2net without its homographies", estimator=None)
_PRECISE = 3.0  # pixels: of a right match, as for the planar pairs
_ITERATIONS = 10_000  # ours: enough down to a fifth of inliers; a model is judged many times
_MOST_PAIRS = 150  # ours: of a scene; of more, so many are drawn


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images and what is known of them."""

    kind: str
    group: str
    a: str
    b: str
    homography: NDArray[np.float64] | None = None
    correspondences: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Judged:
    """All pairs of some folders.

    Parameters
    ----------
    images : dict of str to path
    pairs : tuple of Pair
    scenes : dict of str to Scene
        Those of pairs of the kind "pose", by their group.
    """

    images: dict[str, Path]
    pairs: tuple[Pair, ...]
    scenes: dict[str, Scene] = field(default_factory=dict)

    def only(self, kind: str) -> Judged:
        """The pairs of one kind, and their images."""
        pairs = tuple(pair for pair in self.pairs if pair.kind == kind)
        names = {name for pair in pairs for name in (pair.a, pair.b)}
        return Judged({name: path for name, path in self.images.items() if name in names}, pairs, self.scenes)

    def cameras(self, pair: Pair) -> tuple[CalibratedPose, CalibratedPose]:
        """The true cameras of a pair of the kind "pose"."""
        views = self.scenes[pair.group].views
        return views[pair.a.rpartition("/")[2]].camera, views[pair.b.rpartition("/")[2]].camera

    def __str__(self) -> str:
        counts = {kind: sum(pair.kind == kind for pair in self.pairs) for kind in KINDS}
        return ", ".join(f"{count} {kind} pairs" for kind, count in counts.items() if count)


KINDS = ("planar", "wide", "pose", "static")


def find_judged(folders: Sequence[Path]) -> Judged:
    """Everything below some folders that can be judged.

    Raises
    ------
    StorageError
        If a folder holds nothing of the kinds above.
    """
    images: dict[str, Path] = {}
    pairs: list[Pair] = []
    scenes: dict[str, Scene] = {}
    for folder in folders:
        before = len(pairs)
        for child in _leaves(folder):
            name = f"{child.parent.name}/{child.name}"
            if (child / "cameras.csv").is_file():
                _add_scene(child, name, images, pairs, scenes)
            elif any(child.glob("H*1*")) or (child / "corrs.txt").is_file():
                found = read_sequences(child)
                images.update(found.images)
                for p in found.pairs:
                    kind = "wide" if p.homography is None else "planar"
                    pairs.append(Pair(kind, name, p.a, p.b, p.homography, p.correspondences))
            else:
                _add_static(child, name, images, pairs)
        if len(pairs) == before:
            raise StorageError(
                f"{folder}: nothing to judge by; a set in the layout of HPatches or WxBS, or cameras.csv"
            )
    return Judged(images, tuple(pairs), scenes)


def _leaves(folder: Path) -> Iterable[Path]:
    """The folders that hold images of one set, at any depth."""
    if not folder.is_dir():
        raise StorageError(f"{folder}: no such folder")
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    if (folder / "cameras.csv").is_file() or any(path.suffix.lower() in SUFFIXES for path in files):
        yield folder
        return
    for path in files:
        if path.is_dir():
            yield from _leaves(path)


def _add_scene(folder: Path, name: str, images: dict[str, Path], pairs: list[Pair], scenes: dict[str, Scene]) -> None:
    (scene,) = find_scenes(folder)
    scenes[name] = scene
    images.update({f"{name}/{view.name}": view.path for view in scene.views.values()})
    chosen = list(scene.pairs)
    if len(chosen) > _MOST_PAIRS:
        chosen = sorted(random.Random(0).sample(chosen, _MOST_PAIRS))  # noqa: S311 - no secret
    pairs.extend(Pair("pose", name, f"{name}/{a}", f"{name}/{b}") for a, b in chosen)


def _add_static(folder: Path, name: str, images: dict[str, Path], pairs: list[Pair]) -> None:
    found = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and p.stem.isdigit()}
    if "1" in found and len(found) > 1:
        images.update({f"{name}/{stem}": path for stem, path in found.items()})
        others = (stem for stem in sorted(found, key=int) if stem != "1")
        pairs.extend(Pair("static", name, f"{name}/1", f"{name}/{other}", np.eye(3)) for other in others)


@dataclass(frozen=True, eq=False)
class Judgement:
    """What came out.

    Parameters
    ----------
    figures : dict
        By kind, then by the name of the figure: the mean over the groups of a kind, of the mean over the pairs of each.
    groups : dict
        The same of each group.
    """

    figures: dict[str, dict[str, float]]
    groups: dict[str, dict[str, float]]

    @property
    def score(self) -> float:
        """What decides which of two models is better."""
        return score_of(self.figures)


def score_of(figures: Mapping[str, Mapping[str, float]]) -> float:
    """The mean over the kinds of the mean of each one's main figures; ours: poses count as much as planar pairs."""
    return float(np.mean([np.mean([found[name] for name in _MAIN[kind]]) for kind, found in figures.items()]))


_MAIN = {
    "synthetic": ("mma_1", "mma_3", "ms_3"),
    "planar": ("mma_1", "mma_3", "ms_3"),
    "wide": ("maa",),
    "pose": ("maa_10", "precision"),
    "static": ("mma_3", "ms_3"),
}


def judge(
    features: Mapping[str, Features], judged: Judged, *, ratio: float | None = None, min_similarity: float | None = None
) -> Judgement:
    """Judge the features of all images.

    Parameters
    ----------
    features : mapping of str to Features
        By the names of `judged.images`; looked up twice in a row at most where pairs share an image.
    judged : Judged
    ratio, min_similarity : float, optional
        Of the matcher before poses are estimated; precision and all else are by mutual nearest neighbours.
    """
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    held: dict[str, Features] = {}
    for pair in judged.pairs:
        held = {name: held[name] if name in held else features[name] for name in (pair.a, pair.b)}
        a, b = held[pair.a], held[pair.b]
        if pair.homography is not None:
            row = planar_figures(a, b, pair.homography)
        elif pair.correspondences is not None:
            shares, matches, _ = score_correspondences(a, b, pair.correspondences)
            row = {"maa": float(shares.mean()), "matches": float(matches)}
        else:
            row = pose_figures(a, b, *judged.cameras(pair), Nearest(ratio=ratio, min_similarity=min_similarity))
        rows.setdefault((pair.kind, pair.group), []).append(row)
    groups: dict[str, dict[str, float]] = {}
    kinds: dict[str, list[dict[str, float]]] = {}
    for (kind, group), found in rows.items():
        means = {name: float(np.mean([row[name] for row in found])) for name in found[0] if name != "error"}
        if kind == "pose":
            means["maa_10"] = mean_average_accuracy([row["error"] for row in found])
        groups[group] = means
        # planar pairs count alike, as in the published tables; scenes have very different numbers of pairs
        kinds.setdefault(kind, []).extend([means] if kind in ("pose", "static") else found)
    order = [kind for kind in KINDS if kind in kinds]
    return Judgement({kind: _means(kinds[kind]) for kind in order}, groups)


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def planar_figures(a: Features, b: Features, homography: NDArray[np.float64]) -> dict[str, float]:
    """Figures of a pair whose homography b_from_a is known, by the profile `d2net`."""
    scores = score_planar_pair(a, b, homography, _PLANAR)
    return {
        "mma_1": float(scores.mma[0]), "mma_2": float(scores.mma[1]), "mma_3": float(scores.mma[2]),
        "ms_3": float(scores.ms[2]), "rep_3": scores.repeatability, "matches": float(scores.matches),
        "cost": scores.cost,
    }  # fmt: skip


def pose_figures(
    a: Features, b: Features, one: CalibratedPose, other: CalibratedPose, matcher: Nearest
) -> dict[str, float]:
    """Figures of a pair whose cameras (K, R, t) are known; "error" is that of the pose, in degrees."""
    rotation, translation = relative_pose_between(one[1:], other[1:])
    everything = Nearest()(a, b)
    F = fundamental_from_essential(essential_from_pose(rotation, translation), one[0], other[0])
    right = _line_distances(F, a.keypoints[everything.indices[:, 0]], b.keypoints[everything.indices[:, 1]]) <= _PRECISE
    camera_a, camera_b = (Camera.from_matrix(K, f.image_size) for f, (K, _, _) in ((a, one), (b, other)))
    matches = everything if matcher.ratio is matcher.min_similarity is None else matcher(a, b)
    found = relative_pose(a, b, matches, camera_a=camera_a, camera_b=camera_b, max_iterations=_ITERATIONS)
    error = np.inf
    if found.rotation is not None and found.translation is not None:
        error = max(pose_error(found.rotation, found.translation, rotation, translation))
    return {"precision": float(right.mean()) if len(right) else 0.0, "matches": float(len(matches)), "error": error}


def _line_distances(F: NDArray[np.float64], a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """sqrt(d1^2 + d2^2) of the distances of both points from their epipolar lines, pixels."""
    one, other = (np.column_stack([p, np.ones(len(p))]).astype(np.float64) for p in (a, b))
    lines_b, lines_a = one @ F.T, other @ F
    product = (other * lines_b).sum(axis=1)
    total = sum(product**2 / np.maximum((lines[:, :2] ** 2).sum(axis=1), 1e-12) for lines in (lines_a, lines_b))
    return np.asarray(np.sqrt(total))
