"""Folders as people have them: whole, in part, with gaps, with other names, and broken."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tiepoints.benchmarks.published import rows as references
from tiepoints.datasets.planar import LARGE, SEQUENCES, read_sequences
from tiepoints.errors import StorageError

Write = Callable[..., Path]


def test_the_published_list() -> None:
    assert len(SEQUENCES) == 108 and len(LARGE) == 8 and not SEQUENCES & LARGE
    assert sum(name.startswith("i_") for name in SEQUENCES) == 52
    assert sum(name.startswith("v_") for name in SEQUENCES) == 56
    assert all(row.source for row in references("d2net") + references("strek")) and not references("aslfeat")


@pytest.mark.parametrize("suffix", [".ppm", ".png", ".jpg", ".JPG"])
def test_formats(sequence: Write, suffix: str) -> None:
    root = sequence("v_mine", 3, suffix).parent
    data = read_sequences(root)
    assert [(pair.a, pair.b, pair.split) for pair in data.pairs] == [
        (f"v_mine/1{suffix}", f"v_mine/{k}{suffix}", "viewpoint") for k in (2, 3)
    ]
    np.testing.assert_allclose(data.pairs[0].homography, np.loadtxt(root / "v_mine" / "H_1_2"))
    assert all(path.is_file() for path in data.images.values())
    assert data.notes == () and data.hpatches == 0 and not data.complete


def test_splits(sequence: Write) -> None:
    for name in ("v_one", "i_one", "bikes", "very"):
        root = sequence(name, 2).parent
    assert {p.sequence: p.split for p in read_sequences(root).pairs} == {
        "v_one": "viewpoint", "i_one": "illumination", "bikes": "data", "very": "data"
    }  # fmt: skip


def test_what_is_missing_is_named(sequence: Write) -> None:
    folder = sequence("v_boat", 6)
    (folder / "4.png").unlink()
    (folder / "H_1_6").unlink()
    (folder / "5.png").unlink()
    (folder / "H_1_5").unlink()
    data = read_sequences(folder.parent)
    assert [pair.b for pair in data.pairs] == ["v_boat/2.png", "v_boat/3.png"]
    text = "\n".join(data.notes)
    assert "v_boat: image 4 missing" in text and "pair 1-4 is not in any mean" in text
    assert "v_boat: homography 1-6 missing" in text and "v_boat: image 5 and homography 1-5 missing" in text
    assert "107 of HPatches' 108 sequences are missing" in text and "i_ajuntament" in text and "v_yuri" in text
    assert data.hpatches == 1


def test_a_sequence_of_another_set_may_have_any_number(sequence: Write) -> None:
    folder = sequence("Eiffel", 2)
    assert read_sequences(folder.parent).notes == ()
    sequence("trees", 3, root=folder.parent)
    (folder.parent / "trees" / "3.png").unlink()
    (note,) = read_sequences(folder.parent).notes
    assert "trees: image 3 missing" in note


def test_without_the_first_image_nothing_is_left(sequence: Write) -> None:
    folder = sequence("v_mine", 2)
    sequence("v_other", 2, root=folder.parent)
    (folder / "1.png").unlink()
    data = read_sequences(folder.parent)
    assert [pair.sequence for pair in data.pairs] == ["v_other"]
    assert any("v_mine: image 1 is missing" in note for note in data.notes)
    shutil.rmtree(folder.parent / "v_other")
    with pytest.raises(StorageError, match=r"no pair of images is left.*image 1 is missing"):
        read_sequences(folder.parent)


def test_the_large_sequences_are_dropped_and_named(sequence: Write) -> None:
    root = sequence("v_artisans", 2).parent
    sequence("v_abstract", 6, root=root)
    data = read_sequences(root)
    assert {pair.sequence for pair in data.pairs} == {"v_abstract"}
    assert any("larger than 1600x1200: v_artisans" in note for note in data.notes)


def test_all_of_hpatches_is_complete(tmp_path: Path) -> None:
    """Only names and homographies are read here, so that empty images do."""
    for name in SEQUENCES | LARGE:
        folder = tmp_path / "hpatches-sequences-release" / name
        folder.mkdir(parents=True)
        for k in range(1, 7):
            (folder / f"{k}.ppm").touch()
            if k > 1:
                np.savetxt(folder / f"H_1_{k}", np.eye(3))
    data = read_sequences(tmp_path)
    assert data.complete and data.hpatches == 108 and len(data.pairs) == 540
    assert sum(pair.split == "illumination" for pair in data.pairs) == 260
    assert len(data.notes) == 1 and "left out the 8 sequences" in data.notes[0]
    (tmp_path / "hpatches-sequences-release" / "v_wall" / "6.ppm").unlink()
    assert not read_sequences(tmp_path).complete


def test_oxfords_own_names(sequence: Write) -> None:
    folder = sequence("graf", 2)
    (folder / "1.png").rename(folder / "img1.png")
    (folder / "2.png").rename(folder / "img2.png")
    (folder / "H_1_2").rename(folder / "H1to2p")
    (pair,) = read_sequences(folder.parent).pairs
    assert (pair.a, pair.b) == ("graf/img1.png", "graf/img2.png")


def test_several_roots_and_single_sequences(sequence: Write, tmp_path: Path) -> None:
    first, second = sequence("scene", 2), sequence("scene", 2, root=tmp_path / "other")
    data = read_sequences([first.parent, second.parent])
    assert [pair.sequence for pair in data.pairs] == ["data/scene", "other/scene"]
    assert {pair.split for pair in data.pairs} == {"data", "other"}
    assert len(data.images) == 4
    assert [pair.sequence for pair in read_sequences(first).pairs] == ["scene"]


def test_marked_correspondences(sequence: Write) -> None:
    folder = sequence("WGBS/church", 2)
    (folder / "H_1_2").unlink()
    np.savetxt(folder / "corrs.txt", [[1, 2, 3, 4], [5, 6, 7, 8]])
    (pair,) = read_sequences(folder.parent.parent).pairs
    assert pair.homography is None and pair.split == "WGBS" and pair.sequence == "WGBS/church"
    np.testing.assert_array_equal(pair.correspondences, [[1, 2, 3, 4], [5, 6, 7, 8]])


@pytest.mark.parametrize(
    "content",
    ["", "1 2 3", "1 0 0\n0 1 0\n0 0 x", "1 0 0\n2 0 0\n0 0 1", "nan 0 0\n0 1 0\n0 0 1", "1 0 -1e308\n0 1 0\n0 0 1"],
)
def test_a_broken_homography_is_named(sequence: Write, content: str) -> None:
    folder = sequence("v_mine", 2)
    (folder / "H_1_2").write_text(content, encoding="utf-8")
    with pytest.raises(StorageError, match="H_1_2: "):
        read_sequences(folder.parent)


@pytest.mark.parametrize("content", ["", "1 2 3", "1 2 3 inf", "1 2 3 1e308"])
def test_broken_correspondences_are_named(sequence: Write, content: str) -> None:
    folder = sequence("church", 2)
    (folder / "H_1_2").unlink()
    (folder / "corrs.txt").write_text(content, encoding="utf-8")
    with pytest.raises(StorageError, match=r"corrs\.txt: "):
        read_sequences(folder.parent)


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such folder"):
        read_sequences(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="holds no sequence"):
        read_sequences(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="is not a folder"):
        read_sequences(tmp_path / "file")


def test_a_damaged_truth_costs_no_other_pair(tmp_path: Path) -> None:
    for name, truth in (("v_good", "1 0 0\n0 1 0\n0 0 1"), ("v_bad", "1 0 nan\n0 1 0\n0 0 1")):
        folder = tmp_path / "set" / name
        folder.mkdir(parents=True)
        for k in "12":
            (folder / f"{k}.png").touch()
        (folder / "H_1_2").write_text(truth)
    found = read_sequences(tmp_path / "set")
    assert [pair.sequence for pair in found.pairs] == ["v_good"] and found.damaged
    assert (
        "v_bad/H_1_2: is no homography" in found.notes[-1] and "pair 1-2 of v_bad is not in any mean" in found.notes[-1]
    )
