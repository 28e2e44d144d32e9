"""`tiepoints extract`, on real photographs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import tiepoints as tp
from tiepoints.storage import FeatureReader, load_features

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_extract_one_image(run: Command, examples: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "box.npz", tmp_path / "box.jpg"
    result = run("extract", examples / "box.png", "--out", out, "--plot", plot)
    assert result.returncode == 0, result.stderr
    assert "mdnet keypoints in" in result.stdout
    assert len(load_features(out)) > 200
    assert tp.read(plot).shape == (223, 324, 3)


def test_extract_a_folder_resumes_and_names_what_it_cannot_read(run: Command, examples: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "features.h5"
    (folder / "inner").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.png", "inner/c d.png")):
        Image.open(examples / "box.png").rotate(10 * index).save(folder / name)
    (folder / "broken.jpg").write_text("no image", encoding="utf-8")
    first = run("extract", folder, "--out", out, "-n", 100, "--json")
    assert first.returncode == 1
    assert [Path(f["path"]).name for f in json.loads(first.stdout)["failed"]] == ["broken.jpg"]
    assert f"{folder / 'broken.jpg'}: " in first.stderr and "Traceback" not in first.stderr
    with FeatureReader(out) as store:
        assert sorted(store) == ["a.png", "b.png", "inner/c d.png"]
        assert all(len(features) == 100 for features in store.values())

    (folder / "broken.jpg").unlink()
    Image.open(examples / "box_in_scene.png").save(folder / "new.png")
    second = run("extract", folder, "--out", out, "-n", 100, "--json")
    assert second.returncode == 0, second.stderr
    assert {i["name"]: i["skipped"] for i in json.loads(second.stdout)["images"]} == {
        "a.png": True, "b.png": True, "inner/c d.png": True, "new.png": False,
    }  # fmt: skip
    other = run("extract", folder, "--out", out, "-e", "orb")
    assert other.returncode == 1 and "--overwrite" in other.stderr
    assert f"{out}: was made with mdnet, not orb; " in other.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["features.h5", "photos"]
    assert run("extract", folder, "--out", out, "-e", "orb", "--overwrite").returncode == 0
    with FeatureReader(out) as store:
        assert store["a.png"].binary
    assert sorted(p.name for p in tmp_path.iterdir()) == ["features.h5", "photos"]


def test_a_picture_is_drawn_also_of_features_that_were_there(run: Command, examples: Path, tmp_path: Path) -> None:
    pictures = [tmp_path / "1.png", tmp_path / "2.png"]
    for picture in pictures:
        result = run(
            "extract", examples / "box.png", "--out", tmp_path / "f.h5", "-e", "orb", "--plot", picture, "--json"
        )
        assert result.returncode == 0 and json.loads(result.stdout)["plot"] == str(picture)
    np.testing.assert_array_equal(*map(tp.read, pictures))


def test_names_do_not_change_when_a_folder_grows(run: Command, examples: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "f.h5"
    for day in ("day1", "day2"):
        (folder / day).mkdir(parents=True)
        Image.open(examples / "box.png").save(folder / day / "box.png")
        assert run("extract", folder, "--out", out, "-n", 50).returncode == 0
    with FeatureReader(out) as store:
        assert store.names() == ["day1/box.png", "day2/box.png"]


def test_a_photograph_is_never_written_over(run: Command, examples: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    content = (examples / "box.png").read_bytes()
    photo.write_bytes(content)
    (tmp_path / "link.png").symlink_to(photo)
    for target in (photo, tmp_path / "link.png"):
        for command in (("match", photo, examples / "box_in_scene.png"), ("extract", photo)):
            result = run(*command, "--plot", target)
            assert result.returncode == 2 and "is one of the images" in result.stderr
            assert photo.read_bytes() == content


def test_nothing_readable_leaves_no_file(start: Command, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text("text", encoding="utf-8")
    result = start("extract", tmp_path, "--out", tmp_path / "f.h5")
    assert result.returncode == 1 and "none of the 2 images could be read" in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jpg", "b.jpg"]
