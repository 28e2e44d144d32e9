"""Training: exact resume, what is kept when it ends early, and what it says when something is wrong."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra train")

from click.testing import CliRunner  # noqa: E402

import tiepoints as tp  # noqa: E402
from tiepoints.cli import cli  # noqa: E402
from tiepoints.training import loop  # noqa: E402
from tiepoints.training.loop import Progress, train  # noqa: E402
from tiepoints.training.network import Config  # noqa: E402
from tiepoints.training.objective import Objective  # noqa: E402
from tiepoints.training.recipe import Recipe  # noqa: E402
from tiepoints.training.warps import Warps  # noqa: E402

RECIPE = Recipe(
    network=Config(
        sets=(2,),
        channels=(16, 16, 16, 16, 16),
        depths=(0, 0, 0, 0, 0),
        pyramid=(16, 16, 16),
        fused=16,
        descriptor_size=16,
    ),
    objective=Objective(anchors=32, peaks=16, warmup=2),
    warps=Warps(size=64),
    batch=2,
    warmup=3,
)
QUICK = {"report_seconds": 0.0}


def run(images: Path, out: Path, steps: int, recipe: Recipe = RECIPE, **options: object) -> list[Progress]:
    reports: list[Progress] = []
    train(sorted(images.iterdir()), out, recipe, steps=steps, report=reports.append, **QUICK | options)  # type: ignore[arg-type]
    return reports


def checkpoint(folder: Path) -> dict[str, object]:
    return torch.load(folder / "checkpoint.pt", weights_only=True)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def two_steps(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two steps, for `begun`."""
    folder = tmp_path_factory.mktemp("two steps")
    run(photographs, folder, 2)
    return folder


@pytest.fixture
def begun(two_steps: Path, tmp_path: Path) -> Path:
    """The folder of a training of two steps, to go on in or to damage."""
    return Path(shutil.copytree(two_steps, tmp_path / "begun"))


def same_training(a: Path, b: Path) -> None:
    one, two = checkpoint(a), checkpoint(b)
    for part in ("weights", "average"):
        for name, value in one[part].items():  # type: ignore[attr-defined]
            assert torch.equal(value, two[part][name]), f"{part} {name}"  # type: ignore[index]


def test_an_interrupted_training_ends_exactly_like_an_uninterrupted_one(photographs: Path, tmp_path: Path) -> None:
    whole = run(photographs, tmp_path / "whole", 8)
    parts = []
    # a training that is told to stop after its third step: the schedule is that of the eight all the same
    reports: list[Progress] = []

    def stop_at_three(progress: Progress) -> None:
        reports.append(progress)
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    train(sorted(photographs.iterdir()), tmp_path / "parts", RECIPE, steps=8, report=stop_at_three, **QUICK)  # type: ignore[arg-type]
    assert checkpoint(tmp_path / "parts")["step"] == 3
    parts = reports + run(photographs, tmp_path / "parts", 8, resume=True)
    same_training(tmp_path / "whole", tmp_path / "parts")

    def curve(found: list[Progress]) -> dict[int, float]:
        return {p.step: p.losses["total"] for p in found if p.losses}

    assert len(curve(whole)) == 8
    assert curve(parts) == curve(whole)


def test_hours_count_what_is_not_steps(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading takes nine of ten hours by the clock of this test: the steps get a quarter, a resumed training none."""
    passed, read = [0.0], loop.usable_photographs
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed[0])
    monkeypatch.setattr(loop, "time", clock)

    def slow(*arguments: Any) -> Any:
        passed[0] += 9 * 3600
        return read(*arguments)

    def report(progress: Progress) -> None:
        if progress.losses:
            shares.append(progress.share)
            passed[0] += 1.3 * 3600

    shares: list[float] = []
    monkeypatch.setattr(loop, "usable_photographs", slow)
    assert train(
        sorted(photographs.iterdir()), tmp_path, RECIPE, hours=10, report=report, benchmark_minutes=1e6, **QUICK
    )  # type: ignore[arg-type]
    assert shares[0] < 0.01 and 0.5 < shares[1] < 0.55 and shares[2:] == [1]
    assert 9 * 3600 <= checkpoint(tmp_path)["reading"] < 9.1 * 3600  # type: ignore[operator]
    said: list[str] = []
    train(sorted(photographs.iterdir()), tmp_path, RECIPE, hours=10, resume=True, say=said.append, **QUICK)  # type: ignore[arg-type]
    assert len(said) == 1 and said[0].startswith("11.6") and "hours are done already" in said[0]


def test_a_training_leaves_a_model_that_the_extractor_runs(photographs: Path, tmp_path: Path) -> None:
    reports = run(photographs, tmp_path, 4)
    assert reports[-1].best and reports[-1].figures["synthetic"]["matches"] >= 0
    features = tp.load("mdnet", weights=tmp_path / "best.onnx", max_keypoints=50)(tp.read(photographs / "0.png"))
    assert 10 < len(features) <= 50 and features.descriptors.shape[1] == 16


def test_the_losses_fall(photographs: Path, tmp_path: Path) -> None:
    reports = [p for p in run(photographs, tmp_path, 24, replace(RECIPE, learning_rate=5e-3)) if p.losses]
    first, last = (sum(p.losses["entropy"] for p in part) / 5 for part in (reports[:5], reports[-5:]))
    assert last < 0.9 * first


def test_it_starts_from_a_model_and_heads_only_leaves_the_rest(photographs: Path, begun: Path, tmp_path: Path) -> None:
    four = replace(RECIPE, network=replace(RECIPE.network, sets=(4,)), trunk_rate=0.0)
    run(photographs, tmp_path / "four", 3, four, start=begun / "best.onnx")
    two, four_ = checkpoint(begun)["average"], checkpoint(tmp_path / "four")["weights"]
    for name, value in two.items():  # type: ignore[attr-defined]
        if not name.startswith("detect") and value.is_floating_point():
            torch.testing.assert_close(value, four_[name], msg=name)  # type: ignore[index]
    assert four_["detect.4.1.weight"].shape[0] == 16  # type: ignore[index]
    assert not torch.equal(two["detect.2.0.0.weight"], four_["detect.4.0.0.weight"])  # type: ignore[index]
    other = replace(RECIPE, network=Config())
    with pytest.raises(tp.InvalidInputError, match="another shape"):
        run(photographs, tmp_path / "other", 3, other, start=begun / "best.onnx")


def test_a_teacher_is_looked_at_once_and_its_directions_stay(
    photographs: Path, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIEPOINTS_WEIGHTS", str(shared / "weights"))
    four = tmp_path / "photographs"
    four.mkdir()
    for path in sorted(photographs.iterdir())[:4]:
        shutil.copy(path, four)
    recipe = replace(RECIPE, teachers=("aliked-n16",), places=40)
    said: list[str] = []
    run(four, tmp_path / "one", 2, recipe, say=said.append)
    reports = run(four, tmp_path / "one", 3, resume=True, say=said.append)
    assert sum("16 directions hold" in line for line in said) == 1
    assert {"heights", "floor", "distance", "ranking"} < set(reports[0].losses)
    saved = checkpoint(tmp_path / "one")
    assert saved["network"]["teacher"] == "aliked-n16" and saved["recipe"]["teachers"] == ["aliked-n16"]  # type: ignore[index]
    basis = saved["average"]["basis"]  # type: ignore[index]
    torch.testing.assert_close(basis.T @ basis, torch.eye(16), atol=1e-5, rtol=0)
    # another training that begins with this model speaks the same language, from the same cache
    monkeypatch.setattr("tiepoints.training.teacher.Targets.compute", None)
    run(four, tmp_path / "two", 1, recipe, start=tmp_path / "one" / "best.onnx", say=said.append)
    assert torch.equal(checkpoint(tmp_path / "two")["weights"]["basis"], basis)  # type: ignore[index]
    assert sum("directions hold" in line for line in said) == 1
    # one from photographs alone leaves it
    run(four, tmp_path / "alone", 1, start=tmp_path / "one" / "best.onnx")
    assert checkpoint(tmp_path / "alone")["weights"]["basis"].shape == (0, 16)  # type: ignore[index]


def test_static_cameras_give_pairs_too(photographs: Path, tmp_path: Path) -> None:
    static = sorted(photographs.iterdir())[:3]
    (tmp_path / "others").mkdir()
    for path in sorted(photographs.iterdir())[3:]:
        shutil.copy(path, tmp_path / "others")
    said: list[str] = []
    run(tmp_path / "others", tmp_path / "out", 2, static=static, say=said.append)
    assert "8 photographs to learn from, judged on 2 photographs held out" in said[0]
    assert "1 static cameras" in checkpoint(tmp_path / "out")["about"]["training_data"]  # type: ignore[index]
    with pytest.raises(tp.InvalidInputError, match="a folder for each camera"):
        run(tmp_path / "others", tmp_path / "none", 2, static=static[:1])


def test_heads_of_several_numbers_of_sets_are_trained_together(photographs: Path, begun: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, network=replace(RECIPE.network, sets=(1, 2, 4)), trunk_rate=0.1)
    before = checkpoint(begun)["average"]
    run(photographs, tmp_path / "out", 2, recipe, start=begun / "checkpoint.pt")
    after = checkpoint(tmp_path / "out")["weights"]
    assert after["detect.4.1.weight"].shape[0] == 16  # type: ignore[index]
    moved = {
        name: (after[name] - before[name]).abs().mean().item()  # type: ignore[index]
        for name in ("detect.2.0.0.weight", "stages.0.0.0.weight")
    }
    assert 0 < moved["stages.0.0.0.weight"] < 0.5 * moved["detect.2.0.0.weight"]
    hidden = [after[f"detect.{k}.0.0.weight"] for k in (1, 4)]  # type: ignore[index]
    for other in hidden:  # they began as the head of two sets
        assert (other - before["detect.2.0.0.weight"]).abs().mean() < 0.01  # type: ignore[index]


def test_shared_statistics_are_those_of_batch_normalisation_in_both_precisions(tmp_path: Path) -> None:
    import torch.distributed as dist

    from tiepoints.training.distributed import share_statistics

    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    try:
        for precision, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
            x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(precision)
            results = []
            for shared in (False, True):
                layer = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
                layer = share_statistics(layer, torch.device("cpu")) if shared else layer
                y = layer(x.clone().requires_grad_())
                y.float().square().sum().backward()
                assert y.dtype == precision
                results.append((y.float(), *layer.state_dict().values(), *(p.grad for p in layer.parameters())))
            for one, other in zip(*results, strict=True):
                torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
    finally:
        dist.destroy_process_group()


def test_crops_too_small_for_the_windows_of_many_sets_are_refused(photographs: Path, tmp_path: Path) -> None:
    many = replace(RECIPE, network=replace(RECIPE.network, sets=(100,)))
    with pytest.raises(tp.InvalidInputError, match="a crop of at least 224"):
        run(photographs, tmp_path, 1, many)


def test_an_earlier_training_is_not_overwritten(photographs: Path, begun: Path, tmp_path: Path) -> None:
    with pytest.raises(tp.StorageError, match="--resume"):
        run(photographs, begun, 2)
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    for content in (b"PK nonsense", (tmp_path / "other.pt").read_bytes()):
        (begun / "checkpoint.pt").write_bytes(content)
        with pytest.raises(
            tp.StorageError, match=r"checkpoint\.pt: not a checkpoint of `tiepoints train`, or damaged [^(]*--out$"
        ):
            run(photographs, begun, 2, resume=True)


def test_it_says_what_it_begins_with_and_when_nothing_is_left(photographs: Path, tmp_path: Path) -> None:
    said: list[str] = []
    run(photographs, tmp_path / "out", 1, say=said.append)
    assert len(said) == 1 and "7 photographs to learn from, judged on 3 photographs held out" in said[0]
    reports = run(photographs, tmp_path / "out", 1, resume=True, say=said.append)
    assert not reports and "1 steps are done already; a greater --steps" in said[1]


def test_the_best_starts_anew_where_it_is_judged_on_other_pictures(
    photographs: Path, begun: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    said: list[str] = []
    run(photographs, begun, 3, resume=True, say=said.append)
    assert not any("anew" in line for line in said)
    state = checkpoint(begun)
    torch.save(state | {"best": 2.0}, begun / "checkpoint.pt")  # nothing can be better
    assert not run(photographs, begun, 4, resume=True)[-1].best
    others = tmp_path_factory.mktemp("others")
    for i, path in enumerate(sorted(photographs.iterdir())):
        shutil.copy(path, others / f"{(7 * i) % 10}{path.suffix}")
    assert run(others, begun, 5, resume=True, say=said.append)[-1].best
    assert any("other pictures than before: the best model so far starts anew" in line for line in said)


def test_a_loss_that_is_not_finite_ends_it_and_keeps_the_checkpoint(photographs: Path, begun: Path) -> None:
    content = checkpoint(begun)
    content["weights"]["stages.0.0.0.weight"][:] = float("nan")  # type: ignore[index]
    torch.save(content, begun / "checkpoint.pt")
    before = (begun / "checkpoint.pt").read_bytes()
    with pytest.raises(tp.TrainingError, match=r"step 2: the loss is not finite .*--learning-rate"):
        run(photographs, begun, 4, resume=True)
    assert (begun / "checkpoint.pt").read_bytes() == before


def test_unreadable_photographs_are_named_and_left_out(photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for path in photographs.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.png").write_bytes((photographs / "0.png").read_bytes()[:500])
    (folder / "text.jpg").write_text("no photograph")
    warnings: list[str] = []
    run(folder, tmp_path / "out", 2, say=warnings.append)
    assert len(warnings) == 3 and all("left out" in w for w in warnings[:2])
    assert "broken.png" in warnings[0] and "text.jpg" in warnings[1]
    for path in photographs.iterdir():
        (folder / path.name).write_text("broken too")
    with pytest.raises(tp.ImageError, match="no usable photograph"):
        run(folder, tmp_path / "none", 2)


def test_a_full_disk_costs_a_checkpoint_but_not_the_training(photographs: Path, begun: Path, two_steps: Path) -> None:
    """Files above a size are refused as a full disk refuses them."""
    before = (begun / "checkpoint.pt").read_bytes()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    warnings: list[str] = []
    reports: list[Progress] = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(tp.StorageError, match="cannot be written"):
            train(
                sorted(photographs.iterdir()), begun, RECIPE, steps=5, resume=True, checkpoint_minutes=0.0,
                report=reports.append, say=warnings.append, cache=two_steps.parent / "training-cache", **QUICK,  # type: ignore[arg-type]
            )  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert any("training goes on" in line for line in warnings)
    assert max(p.step for p in reports) >= 4
    assert (begun / "checkpoint.pt").read_bytes() == before
    assert sorted(p.name for p in begun.iterdir()) == ["best.onnx", "checkpoint.pt"]


def command(photographs: Path, out: Path, *options: object) -> list[str]:
    return [
        *("-m", "tiepoints", "train", "--images", str(photographs), "--out", str(out), "--crop", "64"),
        *("--batch", "2", "--json", *map(str, options)),
    ]


# `tiepoints` whose first report comes after the first step, not after seconds.
EAGER = """
from tiepoints.cli import main
from tiepoints.training.loop import train

train.__kwdefaults__["report_seconds"] = 0.0
main()
"""
# `tiepoints` that says, when it leaves its group of processes, how many of torch's wrappers could still hold it.
WATCHED = """
import gc, sys
import torch.distributed
from torch.nn.parallel import DistributedDataParallel
from tiepoints.cli import main

leave = torch.distributed.destroy_process_group

def watched():
    print("wrappers left:", sum(isinstance(o, DistributedDataParallel) for o in gc.get_objects()), file=sys.stderr)
    leave()

torch.distributed.destroy_process_group = watched
main()
"""


def test_two_processes_learn_what_one_with_the_double_batch_learns(
    child: Callable[..., subprocess.Popen[str]], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started as torchrun starts them, through the command line; torchrun itself would only wait for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    processes = []
    for rank in "01":
        with monkeypatch.context() as patch:
            for name, value in (place | {"RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"}).items():
                patch.setenv(name, value)
            processes.append(child(WATCHED, *command(photographs, tmp_path / "two", "--steps", 3)[2:]))
    one = command(photographs, tmp_path / "one", "--steps", 3)[2:]
    one[one.index("--batch") + 1] = "4"
    alone = CliRunner().invoke(cli, one)
    assert alone.exit_code == 0, alone.output
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert errors.count("wrappers left: 0") == 1, errors  # see `distributed.world`
    a, b = checkpoint(tmp_path / "one")["weights"], checkpoint(tmp_path / "two")["weights"]
    for name, value in a.items():  # type: ignore[attr-defined]
        torch.testing.assert_close(value.float(), b[name].float(), atol=2e-3, rtol=2e-2, msg=name)  # type: ignore[index]


def test_sigterm_saves_and_resume_goes_on(photographs: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", EAGER, *command(photographs, tmp_path, "--hours", 10)[2:]]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # the first report: there have been steps
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 1 and "interrupted" in errors and "--resume" in errors
    step = checkpoint(tmp_path)["step"]
    assert isinstance(step, int) and step > 0
