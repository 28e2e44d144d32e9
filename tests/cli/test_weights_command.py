"""`tiepoints weights` as a person uses it: the list, where files lie, consent, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tiepoints.cli import cli
from tiepoints.extraction import metadata_of


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["weights", *arguments], prog_name="tiepoints", env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's own, an empty cache, no licence accepted, no network."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv("TIEPOINTS_WEIGHTS", str(folder))
    monkeypatch.setenv("TIEPOINTS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TIEPOINTS_ACCEPT_LICENCE")
    return folder


def test_the_list_has_every_file_with_its_licence(own: Path) -> None:
    code, text, _ = run("list", "--json")
    rows = json.loads(text)
    assert code == 0 and len({row["name"] for row in rows}) > 30
    superpoint = next(row for row in rows if row["name"] == "superpoint")
    assert superpoint["licence"] == "LicenseRef-MagicLeap"
    assert not superpoint["commercial"] and not superpoint["accepted"] and superpoint["where"] == "not here"
    code, text, _ = run("list")
    assert code == 0 and f"NO; not accepted yet: {superpoint['licence_url']}" in text and "aliked-n16.pth" in text
    assert superpoint["licence_url"] == metadata_of("superpoint").licence_url != ""


def test_where(own: Path) -> None:
    code, text, _ = run("where")
    assert code == 0 and str(own) in text and "cache" in text
    code, text, error = run("where", "xfeat")
    assert (code, text) == (1, "") and "xfeat.pt is not on this machine: tiepoints weights fetch xfeat" in error
    (own / "xfeat.pt").write_bytes(b"another version")
    code, _, error = run("where", "xfeat")
    assert code == 1 and "xfeat.pt: another version" in error
    code, text, error = run("where", "xfeat", "--json")
    assert (code, json.loads(text)) == (1, {"xfeat.pt": None}) and "another version" in error
    code, _, error = run("where", "sift+hardnet++")
    assert code == 1 and "download https://" in error and "fetch" not in error.replace("fetched", ""), "that would fail"
    _, _, error = run("where", "r2d2")
    assert metadata_of("r2d2").licence_url in error


def test_consent_comes_before_the_file(own: Path, shared: Path) -> None:
    code, _, error = run("fetch", "superpoint")
    assert code == 2 and "no commercial use" in error and "--accept-licence" in error
    assert f"LicenseRef-MagicLeap, which can be read at {metadata_of('superpoint').licence_url}" in error
    assert metadata_of("superpoint").weights[0].url in error
    source = shared / "weights" / metadata_of("superpoint").weights[0].name
    if not source.is_file():
        pytest.skip(f"no {source}")
    (own / source.name).symlink_to(source)
    code, text, _ = run("fetch", "superpoint", "--accept-licence")
    assert code == 0 and str(own / source.name) in text
    code, text, _ = run("fetch", "superpoint", "--json")  # it is remembered
    assert code == 0 and json.loads(text)[0]["licence"] == "LicenseRef-MagicLeap"


def test_one_that_fails_does_not_keep_others_from_being_fetched(own: Path, shared: Path) -> None:
    names = ("superpoint", "hardnat", "rootsift", "aliked-n16")
    source = shared / "weights" / "aliked-n16.pth"
    if not source.is_file():
        pytest.skip(f"no {source}")
    (own / source.name).symlink_to(source)
    code, text, error = run("fetch", *names)
    assert code == 1 and text.startswith(f"aliked-n16: {own / source.name}")
    last = error.splitlines()[-3:]
    assert all(line.startswith(f"tiepoints: {name}: ") for line, name in zip(last, names, strict=False))
    assert "--accept-licence" in last[0] and "no extractor" in last[1] and "needs no weights" in last[2]
    code, text, _ = run("fetch", *names, "--json")
    assert code == 1
    told = json.loads(text)
    assert told[0]["path"] == str(own / source.name)
    assert [each["name"] for each in told if "error" in each] == list(names[:3])


def test_extractors_without_weights_and_unknown_ones(own: Path) -> None:
    code, _, error = run("fetch", "rootsift")
    assert code == 2 and "rootsift needs no weights from elsewhere" in error
    code, _, error = run("where", "superpiont")
    assert code == 2 and "did you mean 'superpoint'?" in error
