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
    assert code == 0 and "NO; not accepted yet" in text and "aliked-n16.pth" in text


def test_where(own: Path) -> None:
    code, text, _ = run("where")
    assert code == 0 and str(own) in text and "cache" in text
    code, text, error = run("where", "xfeat")
    assert (code, text) == (1, "") and "xfeat.pt is not on this machine: tiepoints weights fetch xfeat" in error
    (own / "xfeat.pt").write_bytes(b"another version")
    code, _, error = run("where", "xfeat")
    assert code == 1 and "xfeat.pt: another version" in error


def test_consent_comes_before_the_file(own: Path, shared: Path) -> None:
    code, _, error = run("fetch", "superpoint")
    assert code == 2 and "LicenseRef-MagicLeap, no commercial use" in error and "--accept-licence" in error
    assert metadata_of("superpoint").weights[0].url in error, "where its licence is found"
    source = shared / "weights" / metadata_of("superpoint").weights[0].name
    if not source.is_file():
        pytest.skip(f"no {source}")
    (own / source.name).symlink_to(source)
    code, text, _ = run("fetch", "superpoint", "--accept-licence")
    assert code == 0 and str(own / source.name) in text
    code, text, _ = run("fetch", "superpoint", "--json")  # it is remembered
    assert code == 0 and json.loads(text)[0]["licence"] == "LicenseRef-MagicLeap"


def test_extractors_without_weights_and_unknown_ones(own: Path) -> None:
    code, _, error = run("fetch", "rootsift")
    assert code == 2 and "rootsift needs no weights from elsewhere" in error
    code, _, error = run("where", "superpiont")
    assert code == 2 and "did you mean 'superpoint'?" in error
