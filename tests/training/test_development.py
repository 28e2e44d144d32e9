"""The development benchmark is the published protocol, on the pairs that a training holds out."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra train")

import tiepoints as tp  # noqa: E402
from tiepoints.benchmarks import evaluate_hpatches  # noqa: E402
from tiepoints.training.cache import ArrayCache  # noqa: E402
from tiepoints.training.development import Development  # noqa: E402
from tiepoints.training.photographs import Photographs, prepare  # noqa: E402


def held_out(folder: Path) -> Photographs:
    return prepare(
        sorted(folder.glob("*.png")), ArrayCache(folder.parent / "development cache", 2**30), torch.device("cpu")
    )[0]


def test_planar_figures_are_those_of_the_benchmark(photographs: Path, shared: Path, tmp_path: Path) -> None:
    """Computed by two paths: as a training sees them, and as `tiepoints bench hpatches` prints them."""
    root = tmp_path / "ubc"
    root.mkdir()
    for name in ("1.jpg", "2.jpg", "4.jpg", "H_1_2", "H_1_4"):
        (root / name).symlink_to(shared / "data" / "oxford_affine" / "ubc" / name)
    extractor = tp.load("rootsift", max_keypoints=500)
    figures = Development(held_out(photographs), [root])(extractor)["planar"]
    row = evaluate_hpatches(extractor, root).tables[0].row(extractor.metadata.name, "overall").values
    for ours, theirs in (
        ("mma_1", "mma1"),
        ("mma_3", "mma3"),
        ("ms_3", "ms3"),
        ("matches", "matches"),
        ("cost", "cost"),
    ):
        assert figures[ours] == pytest.approx(row[theirs])
    assert figures["mma_3"] > 0.4


def test_synthetic_pairs_are_seen_and_their_truth_holds(photographs: Path) -> None:
    """SIFT finds true correspondences in every held-out photograph, and without folders there is no planar part."""
    figures = Development(held_out(photographs), [])(tp.load("rootsift", max_keypoints=500))
    assert list(figures) == ["synthetic"]
    assert figures["synthetic"]["mma_3"] > 0.3 and figures["synthetic"]["matches"] > 20
    assert 0 < Development.score(figures) < 1
