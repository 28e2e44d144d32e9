"""COLMAP's models: what their files say of sizes is checked before COLMAP believes it."""

from __future__ import annotations

import resource
import shutil
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from tiepoints.errors import StorageError
from tiepoints.storage.colmap_model import _sizes, load_model, save_model, save_points

pycolmap = pytest.importorskip("pycolmap")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    options = pycolmap.SyntheticDatasetOptions(num_rigs=2, num_cameras_per_rig=2, num_points3D=20)
    made = pycolmap.synthesize_dataset(options)
    (tmp_path / "model").mkdir()
    made.write_binary(str(tmp_path / "model"))
    assert load_model(tmp_path / "model").num_points3D() == 20
    return tmp_path / "model"


@pytest.mark.parametrize("name", ["cameras", "images", "points3D", "frames", "rigs"])
def test_damaged_models_are_refused_soon(model: Path, name: str) -> None:
    path = model / f"{name}.bin"
    good, rng = path.read_bytes(), np.random.default_rng(len(name))
    refused = 0
    for trial in range(60):
        data = bytearray(good)
        if trial % 3 == 0:
            data = data[: int(rng.integers(len(data)))]
        else:
            at = int(rng.integers(len(data) - 8)) if trial > 5 else 0
            data[at : at + 8] = int(rng.choice([2**31 - 1, 2**32 - 1, 2**40, 2**63])).to_bytes(8, "little")
        path.write_bytes(data)
        started = time.perf_counter()
        try:
            load_model(model)
        except StorageError as error:
            refused += 1
            assert str(model) in str(error) and len(str(error).splitlines()) == 1
        assert time.perf_counter() - started < 10
    assert refused > 20


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("1 1 0 0 0 0 0 0 1 ../../evil.jpg\n\n", r"'../../evil.jpg' cannot be an image's name"),
        ("1 1 0 0 0 0 0 0 1 a.jpg\n", "COLMAP cannot read this model"),  # an editor took the last, empty line
    ],
)
def test_texts_that_strangers_or_editors_changed(image: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 64 64 70 70 32 32\n")
    (tmp_path / "points3D.txt").write_text("")
    (tmp_path / "images.txt").write_text("1 1 0 0 0 0 0 0 1 a.jpg\n\n")
    assert [each.name for each in load_model(tmp_path).images.values()] == ["a.jpg"]
    (tmp_path / "images.txt").write_text(image)
    with pytest.raises(StorageError, match=words):
        load_model(tmp_path)


def test_a_model_is_written_in_the_sizes_that_are_foreseen(model: Path, tmp_path: Path) -> None:
    made = load_model(model)
    save_model(tmp_path / "again", made)
    for path in model.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == sorted(path.name for path in model.iterdir())
    sizes = {path.name: path.stat().st_size for path in model.iterdir()}
    assert {name: sizes[name] for name in _sizes(made)} == _sizes(made)


Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.mark.parametrize("text", [False, True])
def test_a_full_disk_keeps_the_old_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bool
) -> None:
    """COLMAP says nothing of what it could not write."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_points3D = 100
    larger = pycolmap.synthesize_dataset(options)
    save_model(tmp_path / "m", load_model(model), text=text)
    save_points(tmp_path / "p.ply", larger)
    before = {path: path.read_bytes() for path in [*(tmp_path / "m").iterdir(), tmp_path / "p.ply"]}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 1000))
    with pytest.raises(StorageError, match=r"m.images.*: cannot be written \(the disk is full: 0.0 MB are free"):
        save_model(tmp_path / "m", larger, text=text)
    with pytest.raises(StorageError, match=r"p\.ply: cannot be written"):
        save_points(tmp_path / "p.ply", larger)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 10**9))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))  # as if others took the room meanwhile
    try:
        with pytest.raises(StorageError, match="cannot be written"):
            save_model(tmp_path / "m", larger, text=text)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert before == {path: path.read_bytes() for path in [*(tmp_path / "m").iterdir(), tmp_path / "p.ply"]}
