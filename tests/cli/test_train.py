"""`tiepoints train` as a person uses it; what training itself does is tested in tests/training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tiepoints.cli import cli
from tiepoints.cli.train import _left

torch = pytest.importorskip("torch", reason="training needs the extra train")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for i in range(4):
        coarse = rng.integers(0, 256, (20, 20, 3)).astype(np.uint8)
        Image.fromarray(np.kron(coarse, np.ones((8, 8, 1), np.uint8))).save(folder / f"{i}.png")
    return folder


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["train", *map(str, arguments)])


def test_train_reports_resumes_and_logs(photographs: Path, tmp_path: Path) -> None:
    common = ("--images", photographs, "--out", tmp_path, "--crop", 64, "--batch", 1)
    first = invoke(*common, "--steps", 2, "--sets", 3, "--loss", "peaky=0.7", "--json")
    assert first.exit_code == 0, first.output
    reports = [json.loads(line) for line in first.stdout.splitlines()]
    assert reports[-1]["step"] == 2 and reports[-1]["best"] and "synthetic" in reports[-1]["figures"]
    losses = reports[-2]["losses"]
    for name in ("similarity", "peaky", "intersections", "unreliable", "triplet", "entropy", "total"):
        assert np.isfinite(losses[name])
    again = invoke(*common, "--steps", 3, "--resume")
    assert again.exit_code == 0, again.output
    for text in ("100%", "step 3", "pairs/s", ", loss ", "synthetic MMA@1", "wrote", "-O weights="):
        assert text in again.stdout
    assert max(map(len, again.stdout.splitlines()[:-1])) < 120
    assert "2 pairs from nothing are too few for a useful result" in first.stderr and "--from mdnet" in first.stderr
    assert "too few" not in again.stderr, "what a resumed training began with is not known"
    assert {p.name for p in tmp_path.iterdir()} == {"best.onnx", "checkpoint.pt", "tensorboard"}
    assert list((tmp_path / "tensorboard").glob("events*"))
    done = invoke(*common, "--steps", 3, "--resume", "--sets", 3)
    assert done.exit_code == 0 and "3 steps are done already" in done.stderr and "wrote" in done.stdout
    for option in (("--sets", 2), ("--batch", 4), ("--loss", "peaky=0.5"), ("--crop", 96)):
        other = invoke(*common, "--steps", 4, "--resume", *option)
        assert other.exit_code == 2 and f"{option[0]}: {tmp_path / 'checkpoint.pt'} was begun with" in other.stderr
    refused = invoke(*common, "--steps", 3)
    assert refused.exit_code == 1 and "--resume" in refused.stderr and len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--steps", 2, "--hours", 1), 2, "not both"),
        (("--heads-only",), 2, "--from"),
        (("--loss", "nonsense=1"), 2, "only similarity, peaky"),
        (("--loss", "peaky=-1"), 2, "not negative"),
        (("--pairs", "moving:x"), 2, "only static:DIR and views:DIR"),
        (("--pairs", "views:gone"), 1, "gone: no such file or folder"),
        (("--from", "gone.onnx"), 1, "gone.onnx: no such file"),
        (("--dev", "gone"), 1, "gone: no such folder"),
    ],
)
def test_wrong_usage(photographs: Path, tmp_path: Path, options: tuple[object, ...], code: int, message: str) -> None:
    result = invoke("--images", photographs, "--out", tmp_path / "out", *options)
    assert result.exit_code == code
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_folders_without_photographs(tmp_path: Path) -> None:
    gone = invoke("--images", tmp_path / "gone")
    assert gone.exit_code == 1 and "no such file or folder" in gone.stderr
    (tmp_path / "notes.txt").write_text("nothing here")
    empty = invoke("--images", tmp_path)
    assert empty.exit_code == 1 and "no images in this folder" in empty.stderr


@pytest.mark.parametrize(
    ("share", "seconds", "says"),
    [
        (0, 20, ""),
        (0.5, 20, ", 20 s left"),
        (0.5, 120, ", 2 min left"),
        (0.25, 3600, ", 3.0 h left"),
        (1, 9, ", 0 s left"),
    ],
)
def test_how_long_the_rest_takes_is_said_from_the_first_step_on(share: float, seconds: float, says: str) -> None:
    from tiepoints.training.loop import Progress

    assert _left(Progress(1, 8, seconds, share, {}, 1.0, 0.0)) == says
