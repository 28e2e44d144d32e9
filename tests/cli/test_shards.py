"""--shard: parts of the work on several machines, in one folder or joined from several, equal one run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from tiepoints.cli import cli
from tiepoints.storage import FeatureReader, MatchReader

ORB = ("--extractor", "orb", "--max-keypoints", "200")


def tiepoints(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def photos(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(examples / "box_in_scene.png") as image:
        for i in range(5):
            image.crop((40 * i, 20, 300 + 40 * i, 260)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def expected(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one") / "m.h5"
    tiepoints("match", photos, *ORB, "--out", out)
    return out


def check_equal(out: Path, expected: Path) -> None:
    with MatchReader(out) as found, MatchReader(expected) as wanted:
        assert len(found) == len(wanted) == 10
        for pair in wanted:
            assert (found[pair].indices == wanted[pair].indices).all()
    with (
        FeatureReader(out.with_name("m-features.h5")) as new,
        FeatureReader(expected.with_name("m-features.h5")) as old,
    ):
        assert list(new) == list(old)
        assert all((new[name].keypoints == old[name].keypoints).all() for name in old)


def test_shards_in_one_folder(photos: Path, expected: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "m.h5", tmp_path / "work"
    common = (photos, *ORB, "--out", out, "--store", store)
    said = tiepoints("match", *common, "--shard", "1/3", code=1)
    assert "wait for features of other shards" in said and not out.exists()
    done = [json.loads(tiepoints("extract", *common, "--shard", f"{k}/3", "--json"))["images"] for k in (1, 2, 3)]
    assert sum(done) == 5 and max(done) < 5
    done = [json.loads(tiepoints("match", *common, "--shard", f"{k}/3", "--json"))["pairs"] for k in (1, 2, 3)]
    assert sum(done) == 10 and max(done) < 10
    whole = json.loads(tiepoints("match", *common, "--json"))
    assert not any(whole["computed"].values()) and not whole["failed"]
    check_equal(out, expected)


def test_stores_of_machines_are_joined(photos: Path, expected: Path, tmp_path: Path) -> None:
    out, stores = tmp_path / "m.h5", [tmp_path / f"machine-{k}" for k in (1, 2, 3)]
    for k, store in enumerate(stores, start=1):
        tiepoints("extract", photos, *ORB, "--out", out, "--store", store, "--shard", f"{k}/3")
    joined = json.loads(tiepoints("join", *stores, "--out", tmp_path / "m.h5.work", "--json"))
    assert sum(joined["results"].values()) == 5
    again = json.loads(tiepoints("join", *stores, "--out", tmp_path / "m.h5.work", "--json"))
    assert sum(again["results"].values()) == 0
    whole = json.loads(tiepoints("match", photos, *ORB, "--out", out, "--json"))
    assert whole["computed"] == {"features": 0, "matches": 10, "geometry": 10}
    check_equal(out, expected)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", "1/0"])
def test_a_wrong_shard_is_said(photos: Path, tmp_path: Path, shard: str) -> None:
    said = tiepoints("extract", photos, "--out", tmp_path / "f.h5", "--shard", shard, code=2)
    assert "such as 3/16" in said


def test_a_folder_that_is_no_store(tmp_path: Path) -> None:
    assert "holds no results" in tiepoints("join", tmp_path, "--out", tmp_path / "new", code=1)
