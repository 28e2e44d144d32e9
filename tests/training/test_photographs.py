"""Photographs are decoded once, by their content; what cannot be used is named."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="training needs the extra train")

import tiepoints as tp  # noqa: E402
from tiepoints.training.cache import ArrayCache, content_key  # noqa: E402
from tiepoints.training.photographs import prepare, split  # noqa: E402

CPU = torch.device("cpu")


def test_bad_ones_are_named_and_the_others_are_shrunk(tmp_path: Path) -> None:
    for i, size in enumerate([(1000, 800), (300, 400)]):
        Image.fromarray(np.full((*size, 3), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
    Image.fromarray(np.zeros((20, 200, 3), np.uint8)).save(tmp_path / "small.png")
    (tmp_path / "text.jpg").write_text("no image")
    cache = ArrayCache(tmp_path / "cache", 2**30)
    photographs, wrong = prepare(sorted(tmp_path.glob("*.*")), cache, CPU)
    assert [tuple(photographs[i].shape) for i in range(2)] == [(3, 640, 512), (3, 300, 400)]
    assert photographs[1].unique().tolist() == [40]
    assert len(wrong) == 2 and "small.png: 200x20 pixels are less" in wrong[0] and "text.jpg" in wrong[1]


def test_a_photograph_is_decoded_once_whatever_it_is_called(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path / "cache", 2**30)
    image = np.random.default_rng(0).integers(0, 255, (150, 200, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    one, _ = prepare([tmp_path / "a.png"], cache, CPU)
    files = list(cache.folder.iterdir())
    written = files[0].stat().st_mtime_ns
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    two, _ = prepare([tmp_path / "b.png"], cache, CPU)
    assert torch.equal(one[0], two[0]) and list(cache.folder.iterdir()) == files
    # another picture under the old name is another photograph
    Image.fromarray(255 - image).save(tmp_path / "b.png")
    three, _ = prepare([tmp_path / "b.png"], cache, CPU)
    assert torch.equal(three[0], 255 - one[0]) and len(list(cache.folder.iterdir())) == 2
    # a damaged file is made anew
    files[0].write_bytes(files[0].read_bytes()[:1000])
    Image.fromarray(image).save(tmp_path / "a.png")
    assert torch.equal(prepare([tmp_path / "a.png"], cache, CPU)[0][0], two[0].clone())
    assert files[0].stat().st_mtime_ns != written


def test_processes_share_the_work(tmp_path: Path) -> None:
    for i in range(4):
        Image.fromarray(np.full((150, 200, 3), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
    paths = sorted(tmp_path.glob("*.png"))
    cache = ArrayCache(tmp_path / "cache", 2**30)
    for rank in (0, 1):
        with pytest.raises((ValueError, RuntimeError)):  # no group of processes to tell the others
            prepare(paths, cache, CPU, rank=rank, world=2)
        assert len(list(cache.folder.iterdir())) == 2 * (rank + 1)


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path, 3000)
    np.save(tmp_path / "mine.npy", np.zeros(2000, np.uint8))  # somebody's, in the folder that was named
    os.utime(tmp_path / "mine.npy", (0, 0))
    a, b, c, d, e = (letter * 32 for letter in "abcde")
    for i, key in enumerate((a, b, c, d)):
        cache.write(key, "x", np.zeros(872, np.uint8))  # 1000 bytes with the header
        os.utime(cache.path(key, "x"), (i, i))
    assert cache.use(a, "x") and not cache.use(e, "x")
    cache.trim({b})
    assert sorted(p.name for p in tmp_path.iterdir()) == [*(f"{key}.x.npy" for key in (a, b, d)), "mine.npy"]
    with pytest.raises(tp.StorageError, match="gone or damaged"):
        cache.read(c, "x")
    assert content_key(cache.path(a, "x")) == content_key(cache.path(d, "x"))


def test_split_holds_out_the_same_photographs_always(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.jpg" for i in range(200)]
    seen, held = split(paths)
    assert len(held) == 6 and not set(seen) & set(held) and set(seen) | set(held) == set(paths)
    assert split(paths[::-1]) == (seen, held)
    assert [len(split(paths[:n])[1]) for n in (2, 9, 40)] == [1, 3, 5]  # enough to judge by, where there are enough
    many = [tmp_path / f"{i}.jpg" for i in range(5000)]
    assert len(split(many)[1]) == 30
    with pytest.raises(tp.InvalidInputError, match="too few"):
        split(paths[:1])
