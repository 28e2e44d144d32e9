"""Export: the file agrees with torch, tells what it is, and runs in other run-times."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra train")

import torch.nn.functional as F  # noqa: E402
from click.testing import CliRunner  # noqa: E402

import tiepoints as tp  # noqa: E402
from tiepoints.cli import cli  # noqa: E402
from tiepoints.extraction.model import released  # noqa: E402
from tiepoints.training.export import read_model, read_network, save_model, sealed  # noqa: E402
from tiepoints.training.network import SIZES, Config, MDNet  # noqa: E402
from tiepoints.training.run_time import extractor_of  # noqa: E402

SMALL = Config(
    sets=(2, 3),
    channels=(16, 16, 16, 16, 16),
    depths=(0, 1, 1, 0, 1),
    pyramid=(16, 16, 16),
    fused=16,
    descriptor_size=16,
    teacher="sift",
    teacher_size=128,
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[MDNet, Path]:
    torch.manual_seed(0)
    network = MDNet(SMALL).eval()
    network.basis.normal_()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as if it had been trained
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("model") / "toy.onnx"
    save_model(network, path, {"licence": "CC0-1.0", "hours": 0.5})
    return network, path


def test_the_released_model_agrees_with_torch_on_ten_photographs(shared: Path) -> None:
    """Heatmaps and unit descriptors, of photographs of different sizes."""
    network = extractor_of(read_network(released())[0], sets=2)
    extractor = tp.load("mdnet")
    photographs = sorted((shared / "data" / "oxford_affine").rglob("*.*g"))[:5]
    photographs += sorted((shared / "data" / "temple_ring").rglob("*.jpg"))[:5]
    assert len(photographs) == 10
    for path in photographs:
        image = tp.read(path)
        for ours, theirs in zip(extractor.dense(image), network.dense(image), strict=True):  # type: ignore[attr-defined]
            assert np.abs(ours - theirs).max() < 1e-3, path.name
            assert np.abs(ours - theirs).mean() < 1e-5, path.name


def test_height_and_width_are_free(exported: tuple[MDNet, Path]) -> None:
    network, path = exported
    extractor = tp.load("mdnet", weights=path, sets=3)
    for shape in ((16, 16), (48, 200), (333, 77)):
        image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        heatmaps, descriptors = extractor.dense(image)  # type: ignore[attr-defined]
        assert heatmaps.shape == (3, *shape) and descriptors.shape == (16, -(-shape[0] // 4), -(-shape[1] // 4))
        np.testing.assert_allclose(np.linalg.norm(descriptors, axis=0), 1, atol=1e-5)
        for ours, theirs in zip((heatmaps, descriptors), extractor_of(network, sets=3).dense(image), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_file_tells_what_it_is_and_gives_the_weights_back(exported: tuple[MDNet, Path]) -> None:
    network, path = exported
    config, state, about = read_model(path)
    assert config == network.config
    assert about["licence"] == "CC0-1.0" and about["hours"] == 0.5 and about["sets"] == [2, 3]
    for name, value in network.state_dict().items():
        if value.is_floating_point() and ".1." not in name.partition("detect.")[2]:
            assert torch.equal(state[name], value), name
    image = torch.rand(1, 1, 64, 96)
    with torch.inference_mode():
        (theirs, _), (ours, _) = network(image), read_network(path)[0](image)
    for k, logits in theirs.items():  # the last convolutions come back with equal biases, which the blur made of them
        torch.testing.assert_close(ours[k], logits, atol=1e-5, rtol=1e-5)
    assert b"site-packages" not in path.read_bytes(), "no traces of the machine that wrote it"


def test_opencv_runs_one_head_too(tmp_path: Path, exported: tuple[MDNet, Path]) -> None:
    network, whole = exported
    path = tmp_path / "three.onnx"
    arguments = ["export", str(whole), "--sets", "3", "--out", str(path)]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert CliRunner().invoke(cli, [*arguments[:3], "4", *arguments[4:]]).exit_code == 2
    assert tp.load("mdnet", weights=path).sets == 3  # type: ignore[attr-defined]
    image = np.random.default_rng(1).random((1, 1, 64, 96), np.float32)
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(image)
    cells, descriptors = net.forward(["cells_3", "descriptors"])
    with torch.inference_mode():
        z, expected = network.trunk(torch.from_numpy(image))
        expected_logits = F.pixel_shuffle(network.cells(z, 3), 2)[0].numpy()
    pixels = cells.reshape(3, 2, 2, 32, 48).transpose(0, 3, 1, 4, 2).reshape(3, 64, 96)
    row = np.array([1, 2, 2, 2, 1], np.float32) / 8
    logits = np.stack([cv2.sepFilter2D(heatmap, -1, row, row) for heatmap in pixels])
    np.testing.assert_allclose(logits[:, 2:-2, 2:-2], expected_logits[:, 2:-2, 2:-2], atol=1e-3)
    np.testing.assert_allclose(descriptors, expected.permute(0, 2, 3, 1).numpy(), atol=1e-3)


@pytest.mark.parametrize("name", SIZES)
def test_every_shape_is_written_as_torch_computes_it(tmp_path: Path, name: str) -> None:
    """Convolutions in halves and heads of one convolution included."""
    torch.manual_seed(0)
    network = MDNet(replace(SIZES[name], sets=(2,))).eval()
    save_model(network, tmp_path / "one.onnx", {})
    image = np.random.default_rng(1).integers(0, 256, (64, 96)).astype(np.uint8)
    both = (tp.load("mdnet", weights=tmp_path / "one.onnx"), extractor_of(network))
    for ours, theirs in zip(*(extractor.dense(image) for extractor in both), strict=True):  # type: ignore[attr-defined]
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    state, again = network.state_dict(), read_network(tmp_path / "one.onnx")[0].state_dict()
    for key, value in state.items():
        assert not value.is_floating_point() or torch.equal(again[key], value), key


def test_a_file_of_an_older_version_says_so(tmp_path: Path, exported: tuple[MDNet, Path]) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "old.onnx"
    about = read_model(exported[1])[2]
    path.write_bytes(sealed(onnx.load(exported[1]), about | {"format": 2}))
    for use in (lambda: tp.load("mdnet", weights=path), lambda: read_model(path)):
        with pytest.raises(tp.StorageError, match=r"written by another version of tiepoints \(format 2, not 3"):
            use()


def test_a_released_network_by_its_name() -> None:
    assert read_network(Path("mdnet"))[1]["name"] == "mdnet"


def test_half_the_bytes_compute_nearly_the_same(tmp_path: Path, exported: tuple[MDNet, Path]) -> None:
    network, path = exported
    save_model(network, tmp_path / "half.onnx", {}, half=True)
    assert (tmp_path / "half.onnx").stat().st_size < 0.7 * path.stat().st_size
    image = np.random.default_rng(1).integers(0, 256, (96, 64)).astype(np.uint8)
    both = [tp.load("mdnet", weights=p).dense(image) for p in (path, tmp_path / "half.onnx")]  # type: ignore[attr-defined]
    for whole, half in zip(*both, strict=True):
        np.testing.assert_allclose(half, whole, atol=5e-3)
    assert any(not np.array_equal(whole, half) for whole, half in zip(*both, strict=True))
    torch.testing.assert_close(read_network(tmp_path / "half.onnx")[0].basis, network.basis)


def forged(path: Path, change: Callable[[Any], None], about: dict[str, Any] | None = None) -> bytes:
    """The model with something changed, sealed anew where its description is given."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    change(model)
    return model.SerializeToString() if about is None else sealed(model, about)


def test_a_model_that_was_changed_or_contradicts_itself_is_refused(
    tmp_path: Path, exported: tuple[MDNet, Path]
) -> None:
    """One flipped bit anywhere, another number of sets, weights that are no numbers."""
    path, about = exported[1], read_model(exported[1])[2]
    whole = bytearray(path.read_bytes())
    made: dict[str, bytes] = {}
    for i, at in enumerate(np.linspace(0, len(whole) - 1, 40).astype(int)):
        whole[at] ^= 4
        made[f"flipped-{i}.onnx"] = bytes(whole)
        whole[at] ^= 4
    onnx = pytest.importorskip("onnx")

    def nothing(model: Any) -> None:
        pass

    def no_numbers(model: Any) -> None:
        weights = onnx.numpy_helper.to_array(model.graph.initializer[3]).copy()
        weights.flat[0] = np.nan
        model.graph.initializer[3].CopyFrom(onnx.numpy_helper.from_array(weights, model.graph.initializer[3].name))

    for sets in (10**9, 0, -1, [], [0], [10**9], [2], "2", None):
        made[f"sets-{sets}.onnx"] = forged(path, nothing, about | {"sets": sets})
    made["nan.onnx"] = forged(path, no_numbers, about)
    made["unsealed.onnx"] = forged(path, no_numbers)
    made["foreign.onnx"] = forged(path, lambda model: model.ClearField("metadata_props"))
    for name, content in made.items():
        (tmp_path / "one.onnx").write_bytes(content)
        try:
            tp.load("mdnet", weights=tmp_path / "one.onnx")
        except tp.StorageError as error:
            assert "one.onnx: not a model of MD-Net, or damaged" in str(error) and "\n" not in str(error), name
        else:
            raise AssertionError(f"{name} was taken")
    assert tp.load("mdnet", weights=path, sets=3).sets == 3  # type: ignore[attr-defined]


def test_what_is_no_model_is_refused(tmp_path: Path, exported: tuple[MDNet, Path]) -> None:
    with pytest.raises(tp.StorageError, match=r"gone\.onnx: no such file"):
        read_model(tmp_path / "gone.onnx")
    whole = exported[1].read_bytes()
    torch.save({"network": {}, "average": torch.zeros(999)}, tmp_path / "whole.pt")
    contents = {"empty.onnx": b"", "half.onnx": whole[: len(whole) // 2], "text.pt": b"hello", "README.md": b"# hello"}
    for name, content in (contents | {"half.pt": (tmp_path / "whole.pt").read_bytes()[:900]}).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            tp.StorageError,
            match=rf"{name}: neither a model nor a checkpoint of tiepoints, or damaged or truncated; give [^(]*$",
        ):
            read_model(tmp_path / name)
        if name != "half.pt":
            with pytest.raises(
                tp.StorageError, match=rf"{name}: not a model of MD-Net, or damaged or truncated; give an [^(]*$"
            ):
                tp.load("mdnet", weights=tmp_path / name)


def test_a_checkpoint_in_place_of_a_model_is_told_how_to_become_one(tmp_path: Path) -> None:
    path = tmp_path / "any.name"
    torch.save({"network": {}, "average": torch.zeros(9)}, path)
    for content in (path.read_bytes(), path.read_bytes()[:300]):
        path.write_bytes(content)
        with pytest.raises(tp.StorageError, match=r"a checkpoint of .*, `tiepoints export .* --out FILE\.onnx` makes"):
            tp.load("mdnet", weights=path)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"network": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(tp.StorageError, match=r"evil\.pt"):
        read_model(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_the_command(tmp_path: Path, exported: tuple[MDNet, Path]) -> None:
    out = tmp_path / "new" / "again.onnx"
    result = CliRunner().invoke(
        cli, ["export", str(exported[1]), "--out", str(out), "--about", "licence=MIT", "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["licence"] == "MIT"
    assert read_model(out)[2]["licence"] == "MIT"
    assert CliRunner().invoke(cli, ["export", str(exported[1]), "--out", "x.pt"]).exit_code == 2
    (tmp_path / "text.pt").write_text("no checkpoint", encoding="utf-8")
    for name in ("gone.pt", "text.pt"):
        assert CliRunner().invoke(cli, ["export", str(tmp_path / name), "--out", "x.onnx"]).exit_code == 1


def test_eight_bits(tmp_path: Path, photographs: Path, exported: tuple[MDNet, Path]) -> None:
    out = tmp_path / "small.onnx"
    arguments = ["export", str(exported[1]), "--out", str(out), "--int8"]
    (photographs / "broken.png").write_bytes(b"no photograph")
    tp.save_image(photographs / "strip.png", np.full((40, 400), 9, np.uint8))  # photographs need not have one size
    result = CliRunner().invoke(cli, [*arguments, str(photographs)])
    for name in ("broken.png", "strip.png"):
        (photographs / name).unlink()
    assert result.exit_code == 0, result.output
    image = tp.read(photographs / "0.png")
    for exact, coarse in zip(*(tp.load("mdnet", weights=w).dense(image) for w in (exported[1], out)), strict=True):  # type: ignore[attr-defined]
        assert 0 < np.abs(exact - coarse).mean() < 0.05
    with pytest.raises(tp.StorageError, match="8-bit model cannot be trained"):
        read_model(out)
    before, link = exported[1].read_bytes(), tmp_path / "link.onnx"
    link.symlink_to(exported[1])
    for onto in (exported[1], link):
        result = CliRunner().invoke(cli, [*arguments[:3], str(onto), "--int8", str(photographs)])
        assert result.exit_code == 2 and "give another --out" in result.stderr
        assert exported[1].read_bytes() == before
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "broken.jpg").write_bytes(b"no photograph")
    assert CliRunner().invoke(cli, [*arguments, str(tmp_path / "none")]).exit_code == 1
