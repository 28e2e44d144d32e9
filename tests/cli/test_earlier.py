"""What is there already: the same command goes on with it, any other one is refused in one line with the remedy."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import tiepoints as tp
from tiepoints.files import sha256_of
from tiepoints.storage import FeatureWriter
from tiepoints.storage.notes import read_note

Command = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ("-e", "orb", "-n", 300)


@pytest.fixture
def folder(examples: Path, tmp_path: Path) -> Path:
    made = tmp_path / "photos"
    made.mkdir()
    for name in ("desk_1.jpg", "desk_2.jpg"):
        shutil.copy(examples / name, made / name)
    return made


def refused(result: subprocess.CompletedProcess[str], *parts: str) -> bool:
    """Exit code 1, and one line that holds these parts and the remedy."""
    line = result.stderr.strip()
    return result.returncode == 1 and "\n" not in line and all(part in line for part in (*parts, "--overwrite"))


@pytest.mark.parametrize("name", ["m.db", "m.h5"])
def test_match_goes_on_with_its_own_file_and_replaces_no_other(
    run: Command, folder: Path, examples: Path, tmp_path: Path, name: str
) -> None:
    if name.endswith("db"):
        pytest.importorskip("pycolmap", reason="needs the extra sfm")
    out = tmp_path / "out" / name
    command = ("match", folder, *SMALL, "--out", out)
    assert run(*command).returncode == 0
    assert run(*command, "--jobs", 1).returncode == 0, "the same again, however fast"
    assert run(*command, "-e", "ORB").returncode == 0, "the same in other words"
    before = sha256_of(out)
    assert refused(run(*command, "--ratio", 0.8), str(out), "made with no --ratio, not with --ratio 0.8")
    assert refused(
        run("match", folder, "-e", "orb", "--out", out), "--max-keypoints 300, not with --max-keypoints 2048"
    )
    assert refused(run(*command, "--value-range", 0, 9), "no --value-range, not with --value-range 0 9")
    assert refused(run(*command, "--focal", "500"), "no --focal, not with --focal 500;")
    for rotation in ("any", "upright"):
        told = f"no --rotation, not with --rotation {rotation}"
        assert refused(run(*command, "--rotation", rotation), told)
    assert refused(run(*command, "-O", "levels=4"), "no -O, not with -O levels=4")
    others = tmp_path / "others"
    others.mkdir()
    for kept in (folder / "desk_1.jpg", examples / "box.png"):
        shutil.copy(kept, others)
    assert refused(run("match", others, *SMALL, "--out", out), "holds 1 photograph", "desk_2.jpg")
    assert sha256_of(out) == before
    assert run(*command, "--ratio", 0.8, "--overwrite").returncode == 0
    assert run(*command, "--ratio", 0.8).returncode == 0
    shutil.copy(folder / "desk_1.jpg", folder / "desk_3.jpg")
    assert run(*command, "--ratio", 0.8).returncode in (0, 1), "more photographs are no other command"
    if name.endswith("db"):
        assert sorted(read_note(out).images) == ["desk_1.jpg", "desk_2.jpg", "desk_3.jpg"]


def test_a_database_of_another_program_stays_byte_by_byte(run: Command, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pycolmap", reason="needs the extra sfm")
    out = tmp_path / "database.db"
    features = tp.load("orb", max_keypoints=50)(folder / "desk_1.jpg")
    tp.storage.write_colmap(out, {"desk_1.jpg": (features, tp.Camera.from_exif(folder / "desk_1.jpg"))})
    before, there = sha256_of(out), sorted(path.name for path in tmp_path.iterdir())
    assert refused(run("match", folder, *SMALL, "--out", out), str(out), "is not known")
    assert refused(run("reconstruct", folder, tmp_path, *SMALL), str(tmp_path), "is not known")
    assert refused(run("convert", out, out), str(out))
    assert sha256_of(out) == before and sorted(path.name for path in tmp_path.iterdir()) == there
    assert run("match", folder, *SMALL, "--out", out, "--overwrite").returncode == 0
    with closing(sqlite3.connect(out)) as database:
        assert database.execute("SELECT COUNT(*) FROM two_view_geometries").fetchone() == (1,)


def test_features_of_another_program_beside_the_matches_stay(run: Command, folder: Path, tmp_path: Path) -> None:
    with FeatureWriter(tmp_path / "m-features.h5") as writer:
        writer.write("desk_1.jpg", tp.load("orb", max_keypoints=50)(folder / "desk_1.jpg"))
    assert refused(run("match", folder, *SMALL, "--out", tmp_path / "m.h5"), "m-features.h5", "is not known")
    assert not (tmp_path / "m.h5").exists()


@pytest.fixture(scope="module")
def door(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("door")
    for path in sorted((shared / "data" / "lund_door" / "images").glob("*.*"))[:4]:
        shutil.copy(path, made / path.name)
    return made


@pytest.mark.parametrize(("command", "result"), [("reconstruct", "sparse/0/images.bin"), ("map", "map.json")])
def test_a_reconstruction_and_a_map_stay(run: Command, door: Path, tmp_path: Path, command: str, result: str) -> None:
    pytest.importorskip("pycolmap", reason="needs the extra sfm")
    folder, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(door, folder)
    same = (command, folder, out, "-e", "sift", "-n", 600, "--max-size", 480)
    assert run(*same).returncode == 0
    before = sha256_of(out / result)
    assert refused(run(*same[:-2]), str(out), "made with max_size=480, not with max_size=None")
    assert refused(run(*same, "--no-align"), "made with align=True, not with align=False")
    removed = sorted(folder.iterdir())[0]
    removed.unlink()
    assert refused(run(*same), "holds 1 photograph", removed.name)
    assert sha256_of(out / result) == before
    shutil.copy(door / removed.name, removed)
    again = run(*same, "-q")
    assert again.returncode == 0 and again.stdout == again.stderr == ""
    removed.unlink()
    assert run(*same, "--overwrite").returncode == 0 and sha256_of(out / result) != before
    (out / "made-with.json").unlink()
    assert refused(run(*same), "is not known")
    shutil.rmtree((out / result).parent if command == "reconstruct" else out)
    if command == "map":
        assert run(*same, "--no-align").returncode == 0, "nothing is finished there"


def test_a_map_that_cannot_begin_leaves_no_folder(run: Command, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pycolmap", reason="needs the extra sfm")
    for name in ("desk_1.jpg", "desk_2.jpg"):
        (folder / name).write_bytes(b"no image")
    assert run("map", folder, tmp_path / "out", *SMALL).returncode == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["_map", "page_of"])
def test_an_interrupted_reconstruction_goes_on(
    run: Command, door: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """With the database written and no model, and with a model and no report; other options are refused then only."""
    pytest.importorskip("pycolmap", reason="needs the extra sfm")
    from tiepoints.tasks import reconstruction

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    same = ("reconstruct", door, tmp_path / "out", "-e", "sift", "-n", 600, "--max-size", 480)
    with monkeypatch.context() as patch:
        patch.setattr(reconstruction, where, stop)
        stopped = run(*same)
        assert stopped.returncode == 1 and "run the same command again" in stopped.stderr
    assert (tmp_path / "out" / "database.db").exists()
    other = run(*same, "--no-align")
    assert other.returncode == 0 if where == "_map" else refused(other, "align=False")
    again = run(*same, *([] if where == "page_of" else ["--overwrite"]))
    assert again.returncode == 0 and "4 of 4 photographs registered" in again.stdout


def test_folders_of_the_user_stay(run: Command, door: Path, tmp_path: Path) -> None:
    pytest.importorskip("pycolmap", reason="needs the extra sfm")
    project = tmp_path / "project"
    shutil.copytree(door, project / "photos")
    (project / "0123456789abcdef").mkdir()
    options = ("-e", "sift", "-n", 600, "--max-size", 480)
    assert refused(run("map", project / "photos", project, *options), str(project), "is not known")
    for path in (project / "0123456789abcdef", project / "other", project / "sparse" / "mine"):
        path.mkdir(parents=True, exist_ok=True)
        (path / "notes.txt").write_text("mine", encoding="utf-8")
    for command in ("map", "reconstruct"):
        result = run(command, project / "photos", project, *options, "--overwrite")
        assert result.returncode == 0, result.stderr
        for path in (project / "0123456789abcdef", project / "other", project / "sparse" / "mine"):
            assert (path / "notes.txt").is_file(), (command, path)
        assert len(list((project / "photos").iterdir())) == len(list(door.iterdir()))
    assert len(list((project / "sparse").glob("[0-9]*"))) == 1
    (project / "made-with.json").unlink()
    shutil.rmtree(project / "sparse" / "0")
    (project / "database.db").unlink()
    assert refused(run("reconstruct", project / "photos", project, *options), "is not known"), "its points would go"
    lost = run("localize", project.parent, project / "photos")
    assert "`tiepoints map PHOTOS MAP` makes one" in lost.stderr
