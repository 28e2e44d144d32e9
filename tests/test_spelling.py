"""Names that look the same in Unicode's two forms: whichever is asked for, the file that is there is found."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import tiepoints as tp
from tiepoints.checks import spelled
from tiepoints.cli import cli
from tiepoints.collection import Collection
from tiepoints.images import find_images
from tiepoints.storage import FeatureReader, FeatureWriter, load_features, load_matches, save_features

FORMS = [("NFC", "NFD"), ("NFD", "NFC")]


def named(form: str) -> str:
    return unicodedata.normalize(form, "Köln am Rhein é")


@pytest.fixture(params=FORMS, ids=["composed", "decomposed"])
def there(request: pytest.FixtureRequest, examples: Path, tmp_path: Path) -> tuple[Path, str, str]:
    """A folder with a folder and photographs whose names are of one form; and both forms."""
    is_, asked = map(named, request.param)
    (tmp_path / is_).mkdir()
    for name in ("box.png", "box_in_scene.png"):
        shutil.copy(examples / name, tmp_path / is_ / f"{is_} {name}")
    return tmp_path, is_, asked


def test_a_path_is_that_of_the_file_that_is_there(there: tuple[Path, str, str]) -> None:
    folder, is_, asked = there
    wanted = folder / asked / f"{asked} box.png"
    assert spelled(str(wanted)) == str(folder / is_ / f"{is_} box.png")
    assert spelled(str(folder / asked / f"{asked} new.png")) == str(folder / is_ / f"{asked} new.png"), "a new one"
    assert spelled("nowhere/ö") == "nowhere/ö" and spelled("") == ""
    np.testing.assert_array_equal(tp.read(wanted), tp.read(spelled(str(wanted))))
    assert find_images([folder / asked]) == sorted((folder / is_).iterdir())
    assert list(Collection.from_sources([wanted])) == [f"{is_} box.png"]
    assert Collection.from_paths({"a": wanted})["a"].key
    assert len(Collection.from_folder(folder / asked, masks=folder / asked)) == 2
    features = tp.load("orb", max_keypoints=9)(wanted)
    save_features(folder / is_ / f"{is_}.npz", features)
    assert len(load_features(folder / asked / f"{asked}.npz")) == 9
    with FeatureWriter(folder / is_ / f"{is_}.h5") as writer:
        writer.write("a", features)
    with FeatureReader(folder / asked / f"{asked}.h5") as reader:
        assert list(reader) == ["a"]


def test_a_list_of_images_and_the_command_line(there: tuple[Path, str, str]) -> None:
    folder, is_, asked = there
    listed = folder / f"{is_}.txt"
    listed.write_text(f"{asked}/{asked} box.png\n{asked}/{asked} box_in_scene.png\n", encoding="utf-8")
    assert len(Collection.from_sources([folder / f"{asked}.txt"])) == 2
    pair = [str(folder / asked / f"{asked} {name}") for name in ("box.png", "box_in_scene.png")]
    out = folder / asked / f"{asked}.npz"
    result = CliRunner().invoke(cli, ["match", *pair, "-e", "rootsift", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert len(load_matches(out)) > 50 and [*(folder / is_).glob("*.npz")] == [folder / is_ / f"{asked}.npz"]
    for command in (["extract", pair[0]], ["extract", str(folder / f"{asked}.txt"), "--out", str(folder / "f.h5")]):
        result = CliRunner().invoke(cli, [*command, "-e", "orb"])
        assert result.exit_code == 0, result.output
