"""What a model is chosen by: exact features have perfect figures, and each kind of set is known by its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiepoints as tp
from tiepoints.training.judges import find_judged, judge, score_of

SIZE = (320, 240)
K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((240, 320, 3), np.uint8)).save(path)


def features(points: np.ndarray, wrong: int = 0) -> tp.Features:
    """One-hot descriptors; those of the first `wrong` ones are exchanged among each other."""
    order = np.r_[np.roll(np.arange(wrong), 1), np.arange(wrong, len(points))].astype(int)
    descriptors = np.eye(len(points), dtype=np.float32)[order]
    return tp.Features(points.astype(np.float32), descriptors, np.ones(len(points), np.float32), SIZE)


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """A scene of three cameras, one view in other light, a planar and a marked pair."""
    for k in (1, 2, 3):
        picture(tmp_path / "scene" / "images" / f"{k}.png")
        picture(tmp_path / "webcam" / f"{k}.png")
    for folder in ("plane", "marked"):
        for k in (1, 2):
            picture(tmp_path / folder / f"{k}.png")
    np.savetxt(tmp_path / "plane" / "H_1_2", [[1, 0, 3], [0, 1, -2], [0, 0, 1]])
    (tmp_path / "marked" / "corrs.txt").write_text("# x1 y1 x2 y2\n" + "\n".join(f"{x} 9 {x} 9" for x in range(8)))
    names = [f"{m}{i}{j}" for m in "KR" for i in range(3) for j in range(3)] + ["T0", "T1", "T2"]
    rows = ["name,width,height," + ",".join(names)]
    for k in (1, 2, 3):
        values = [*K.ravel(), *np.eye(3).ravel(), -float(k), 0.1 * k, 0.0]
        rows.append(f"{k}.png,320,240," + ",".join(map(str, values)))
    (tmp_path / "scene" / "cameras.csv").write_text("\n".join(rows))
    return tmp_path


def test_each_kind_is_known_by_its_layout(sets: Path) -> None:
    judged = find_judged([sets])
    assert str(judged) == "1 planar pairs, 1 wide pairs, 3 pose pairs, 2 static pairs"
    assert {name for name in judged.images if "webcam" in name} == {f"{sets.name}/webcam/{k}" for k in (1, 2, 3)}
    picture(sets / "webcam" / "0.png")  # each picture is compared with picture 1, and none with itself
    others = [pair.b.rpartition("/")[2] for pair in find_judged([sets / "webcam"]).pairs]
    assert others == ["0", "2", "3"]
    (sets / "empty").mkdir()
    for folder, message in (("empty", "nothing to judge by"), ("gone", "no such folder")):
        with pytest.raises(tp.StorageError, match=message):
            find_judged([sets / folder])


def test_figures_of_exact_and_of_partly_wrong_features(sets: Path) -> None:
    rng = np.random.default_rng(0)
    world = rng.uniform([-2, -1.5, 5], [6, 1.5, 9], (60, 3))
    judged = find_judged([sets / "scene", sets / "webcam", sets / "plane"])

    def seen(name: str, wrong: int = 0) -> tp.Features:
        group, _, stem = name.rpartition("/")
        if "scene" in group:
            points = (world + [-float(stem), 0.1 * float(stem), 0]) @ K.T
            return features(points[:, :2] / points[:, 2:], wrong)
        plane = rng_points + (np.array([3, -2]) if "plane" in name and stem.startswith("2") else 0)
        return features(plane, wrong)

    rng_points = np.random.default_rng(1).uniform(20, 200, (40, 2))
    exact = judge({name: seen(name) for name in judged.images}, judged)
    assert exact.figures["pose"]["precision"] == 1 and exact.figures["pose"]["maa_10"] == pytest.approx(1)
    for kind in ("planar", "static"):
        assert exact.figures[kind]["mma_1"] == exact.figures[kind]["ms_3"] == 1
    assert exact.score == score_of(exact.figures) == pytest.approx(1)
    # 15 of 60 are exchanged in all images alike but the first
    partly = judge({name: seen(name, 0 if name.endswith("/1") else 15) for name in judged.images}, judged)
    group = partly.groups[f"{sets.name}/scene"]
    assert group["precision"] < 1 and group["matches"] == 60 and group["maa_10"] > 0.9
    assert partly.score < exact.score
    # a matcher that wants more similarity than there is leaves nothing to estimate a pose from
    none = judge({name: seen(name) for name in judged.images}, judged, min_similarity=1.0, ratio=1e-6)
    assert none.figures["pose"]["precision"] == 1, "precision is by mutual nearest neighbours"
