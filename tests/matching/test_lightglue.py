"""LightGlue with random weights: names and shapes of the published files, symmetry, early exit, users' mistakes."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import tiepoints as tp
from tiepoints.cli import cli
from tiepoints.matching import LightGlue, load_matcher
from tiepoints.matching.lightglue import MODELS

torch = pytest.importorskip("torch", reason="the network needs torch")

from tiepoints.matching.torch import lightglue  # noqa: E402
from tiepoints.matching.torch.lightglue import PositionalEncoding, normalised, rotated  # noqa: E402

Network = lightglue.LightGlue


def official(network: Network) -> dict[str, object]:
    """The state under the names of the published files."""
    return {
        name.replace(f"transformers.{i}.self_attn", f"self_attn.{i}").replace(
            f"transformers.{i}.cross_attn", f"cross_attn.{i}"
        ): tensor
        for name, tensor in network.state_dict().items()
        for i in [int(name.split(".")[1]) if name.startswith("transformers") else 0]
    }


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(3)
    made = Network(128).eval()
    with torch.no_grad():  # as made, no keypoint resembles another one more than the others
        for assign in made.log_assignment:
            assign.final_proj.weight.copy_(20 * torch.eye(256))
            assign.matchability.bias.fill_(3.0)
    return made


@pytest.fixture(scope="module")
def folder(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file in the layout of the published ones."""
    path = tmp_path_factory.mktemp("weights")
    torch.save(official(network), path / "aliked_lightglue.pth")
    return path


def features(count: int, seed: int, size: int = 128) -> tp.Features:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, size)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    places = (random.random((count, 2)) * [639, 479]).astype(np.float32)
    return tp.Features(places, vectors, np.linspace(1, 0.1, count, dtype=np.float32), (640, 480))


def seen_again(a: tp.Features, count: int) -> tp.Features:
    """Some of the features in another order and a little different, and features of nothing else."""
    random = np.random.default_rng(len(a))
    rows, other = random.permutation(len(a))[: count // 2], features(count - count // 2, 9)
    noise = random.normal(scale=0.01, size=(len(rows), 128))
    vectors = np.concatenate([a.descriptors[rows] + noise, other.descriptors])
    places = np.concatenate([a.keypoints[rows] + 3, other.keypoints])
    return tp.Features(places, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.ones(count), a.image_size)  # type: ignore[arg-type]


def matcher(folder: Path, **options: object) -> LightGlue:
    chosen = {"features": "aliked", "weights": folder / "aliked_lightglue.pth", "min_similarity": 0.0} | options
    return LightGlue(**chosen)  # type: ignore[arg-type]


def test_the_published_files_have_these_names_and_as_many_numbers(network: Network) -> None:
    names = set(official(network))
    assert len(names) == 253  # so many tensors are in aliked_lightglue.pth
    assert {
        "input_proj.weight", "posenc.Wr.weight", "self_attn.8.Wqkv.bias", "self_attn.0.out_proj.weight",
        "self_attn.0.ffn.0.weight", "self_attn.0.ffn.1.bias", "self_attn.0.ffn.3.weight", "cross_attn.4.to_qk.weight",
        "cross_attn.4.to_v.bias", "cross_attn.4.to_out.weight", "cross_attn.8.ffn.3.bias",
        "log_assignment.8.matchability.weight", "log_assignment.0.final_proj.weight",
        "token_confidence.7.token.0.weight",
    } <= names  # fmt: skip
    for size, whole in ((128, 47_632_827), (256, 47_500_000)):
        kept = sum(4 * tensor.numel() for tensor in Network(size).state_dict().values())
        assert 0.99 < kept / whole < 1  # the rest of the file are names
    shapes = {name: tuple(tensor.shape) for name, tensor in official(network).items()}  # type: ignore[attr-defined]
    assert shapes["self_attn.0.Wqkv.weight"] == (768, 256) and shapes["posenc.Wr.weight"] == (32, 2)
    assert shapes["self_attn.0.ffn.0.weight"] == (512, 512) and shapes["self_attn.0.ffn.3.weight"] == (256, 512)


def test_either_release_of_names_is_read(network: Network, tmp_path: Path) -> None:
    for number, names in enumerate(
        (
            official(network),
            network.state_dict(),
            {f"matcher.{name}": tensor for name, tensor in network.state_dict().items()},
            {**official(network), "confidence_thresholds": torch.zeros(9)},
        )
    ):
        path = tmp_path / f"{number}.pth"
        torch.save(names, path)
        read = Network(128)
        read.read(path)
        assert all(
            torch.equal(a, b) for a, b in zip(read.state_dict().values(), network.state_dict().values(), strict=True)
        )


def test_attention_depends_on_differences_of_places_only() -> None:
    torch.manual_seed(0)
    encoding = PositionalEncoding()
    query, key = torch.randn(4, 5, 64), torch.randn(4, 5, 64)
    places, shift = torch.rand(5, 2), torch.tensor([0.3, -0.2])

    def scores(at: torch.Tensor) -> torch.Tensor:
        return rotated(query, encoding(at)) @ rotated(key, encoding(at)).transpose(1, 2)  # type: ignore[no-any-return]

    torch.testing.assert_close(scores(places), scores(places + shift), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(scores(places), scores(2 * places), atol=1e-2)


def test_places_are_relative_to_the_longer_edge() -> None:
    xy = torch.tensor([[0.0, 0.0], [320.0, 240.0], [640.0, 480.0]])
    expected = torch.tensor([[-1.0, -0.75], [0.0, 0.0], [1.0, 0.75]])
    torch.testing.assert_close(normalised(xy, (640, 480)), expected)
    assert normalised(xy, (0, 0)).abs().max() <= 1  # of unknown size


def test_each_is_in_one_match_and_scores_are_probabilities(folder: Path) -> None:
    a = features(60, 0)
    b = seen_again(a, 50)
    matches = matcher(folder)(a, b)
    expected = {(i, j) for i, j, _ in tp.match(a, b, min_similarity=0.9)}
    assert len(expected) == 25 and expected <= {(i, j) for i, j, _ in matches}
    assert matches.indices.dtype == np.int32
    for side, count in ((0, 60), (1, 50)):
        column = matches.indices[:, side]
        assert len(np.unique(column)) == len(column) and column.min() >= 0 and column.max() < count
    assert (matches.scores > 0).all() and (matches.scores <= 1).all()
    some = float(np.median(matches.scores))
    assert 0 < len(matcher(folder, min_similarity=some)(a, b)) < len(matches)


def test_order_of_features_and_of_images_does_not_matter(folder: Path) -> None:
    a = features(40, 0)
    b = seen_again(a, 45)
    for options in ({"depth_confidence": None, "width_confidence": None}, {}):
        match = matcher(folder, **options)
        expected = {(i, j): score for i, j, score in match(a, b)}
        order = np.random.default_rng(2).permutation(40)
        mixed = {(int(order[i]), j): score for i, j, score in match(a.select(order), b)}
        other = {(j, i): score for i, j, score in match(b, a)}
        for found in (mixed, other):
            assert found.keys() == expected.keys()
            np.testing.assert_allclose([found[key] for key in expected], list(expected.values()), atol=1e-5)


def test_early_exit_and_pruning(network: Network) -> None:
    a, b = features(80, 0), features(80, 1)
    places = tuple(normalised(torch.from_numpy(each.keypoints.copy()), each.image_size) for each in (a, b))
    vectors = tuple(torch.from_numpy(each.descriptors.copy()) for each in (a, b))

    def run(depth: float | None, width: float | None, kept: Network = network) -> tuple[int, tuple[int, int]]:
        with torch.inference_mode():
            found = kept(places, vectors, threshold=0.0, depth_confidence=depth, width_confidence=width)
        assert (found.rows < 80).all()
        return found.layers, found.left

    assert run(None, None) == (9, (80, 80))
    sure, unmatchable = pickle.loads(pickle.dumps(network)), pickle.loads(pickle.dumps(network))
    for confidence in sure.token_confidence:
        torch.nn.init.constant_(confidence.token[0].bias, 50.0)
    assert run(0.95, None, sure) == (1, (80, 80))  # all are sure after the first layer
    with torch.no_grad():
        unmatchable.log_assignment[0].matchability.weight.mul_(2000)
        unmatchable.log_assignment[0].matchability.bias.zero_()
    layers, left = run(None, 0.99, unmatchable)
    assert layers == 9 and 0 < left[0] < 80 and 0 < left[1] < 80
    # an unsure keypoint is never left out
    for confidence in unmatchable.token_confidence:
        torch.nn.init.constant_(confidence.token[0].bias, -50.0)
        torch.nn.init.zeros_(confidence.token[0].weight)
    assert run(0.95, 0.99, unmatchable) == (9, (80, 80))


def test_the_assignment_is_partial(network: Network) -> None:
    """Rows and columns of the probabilities sum to at most 1 (equation 8)."""
    torch.manual_seed(1)
    with torch.inference_mode():
        share = network.log_assignment[4](torch.randn(7, 256), torch.randn(9, 256)).exp()
    assert share.shape == (7, 9) and (share.sum(0) <= 1).all() and (share.sum(1) <= 1).all()


def test_by_set(folder: Path) -> None:
    a, b = (
        tp.Features(f.keypoints, f.descriptors, f.scores, f.image_size, sets=np.arange(len(f)) % 2)  # type: ignore[arg-type]
        for f in (features(40, 0), features(44, 1))
    )
    matches = matcher(folder, by_set=True)(a, b)
    assert a.sets is not None and b.sets is not None
    assert (a.sets[matches.indices[:, 0]] == b.sets[matches.indices[:, 1]]).all()
    assert (np.diff(matches.indices[:, 0]) > 0).all()
    alone = matcher(folder)(a.select(a.sets == 1), b.select(b.sets == 1))
    assert len(alone) == np.count_nonzero(a.sets[matches.indices[:, 0]] == 1)


def test_mdnet_goes_through_its_teachers_space(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = tp.load("mdnet", max_keypoints=64)
    a, b = extractor(["examples/desk_1.jpg", "examples/desk_2.jpg"])
    wide = a.to_teacher()
    assert wide.descriptors.shape == (64, 128) and wide.teacher_basis is None and wide.wrong_norm is None
    pairs = [(i, j) for i, j, _ in matcher(folder)(wide, b.to_teacher())]
    assert pairs and [(i, j) for i, j, _ in matcher(folder)(a, b)] == pairs
    whole = {"TIEPOINTS_WEIGHTS": str(folder)}
    monkeypatch.setenv("TIEPOINTS_WEIGHTS", str(folder))
    object.__setattr__(MODELS["aliked"].weights[0], "sha256", "")  # the file is not the authors'
    try:
        found = tp.match_images("examples/desk_1.jpg", "examples/desk_2.jpg", matcher="lightglue", max_keypoints=64)
        expected = load_matcher("lightglue", features="aliked")(a, b)
        np.testing.assert_array_equal(found.matches.indices, expected.indices)
        np.testing.assert_array_equal(tp.match(a, b, matcher="lightglue").indices, expected.indices)
        arguments = [
            "match",
            "examples/desk_1.jpg",
            "examples/desk_2.jpg",
            "--matcher",
            "lightglue",
            "-n",
            "64",
            "--json",
        ]
        result = CliRunner().invoke(cli, arguments, env=whole)
        assert result.exit_code in (0, 1) and '"matcher": "lightglue"' in result.stdout, result.output
    finally:
        object.__setattr__(MODELS["aliked"].weights[0], "sha256", _ALIKED)


def test_a_rotated_image_is_matched_as_the_image_itself(folder: Path) -> None:
    """Places, too, for attention depends on their differences."""
    knowing = replace(features(60, 0, 64), rotations=4, teacher_basis=np.eye(128, 64, dtype=np.float32))
    b = knowing.select(np.random.default_rng(1).permutation(60)[:40])
    expected = matcher(folder)(knowing, b)
    width, height = b.image_size
    rotated_places = np.stack([b.keypoints[:, 1], width - 1 - b.keypoints[:, 0]], axis=1)
    there = replace(b.rotated(1), keypoints=rotated_places, image_size=(height, width))
    found = matcher(folder)(knowing, there)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    assert len(found) > 10


_ALIKED = MODELS["aliked"].weights[0].sha256


def test_empty_images_and_copies(folder: Path) -> None:
    match = matcher(folder)
    none, some = features(0, 0), features(5, 1)
    assert len(match(none, some)) == len(match(some, none)) == len(match(none, none)) == 0
    assert len(match(features(1, 0), features(1, 1))) <= 1
    again = pickle.loads(pickle.dumps(match))
    assert again.options() == match.options()
    np.testing.assert_array_equal(again(some, some).indices, match(some, some).indices)


def test_what_cannot_be_matched_is_said_in_a_line(folder: Path) -> None:
    binary = tp.Features(np.zeros((2, 2)), np.zeros((2, 32), np.uint8), np.ones(2), (9, 9))  # type: ignore[arg-type]
    other = tp.Features(np.zeros((2, 2)), np.eye(2, 64), np.ones(2), (9, 9))  # type: ignore[arg-type]
    a = features(3, 0)
    for call, words in (
        (lambda: matcher(folder)(binary, binary), "no binary descriptors"),
        (lambda: load_matcher("lightglue")(a, a), "may be those of aliked or of disk: say which"),
        (lambda: load_matcher("lightglue")(other, other), "no weights for descriptors of 64 columns"),
        (lambda: matcher(folder)(features(3, 0, 256), features(3, 0, 256)), "have 256 columns, but .* takes 128"),
        (lambda: matcher(folder)(replace(other, teacher_basis=np.eye(128, 64)), other), "have 64 columns.*to_teacher"),  # type: ignore[arg-type]
        (
            lambda: load_matcher("lightglue")(*[replace(features(3, 0, 256), rotations=4)] * 2),
            "256 columns.*to_teacher",
        ),
        (lambda: load_matcher("lightglue").for_extractor("rootsift"), "no weights for rootsift"),  # type: ignore[attr-defined]
        (lambda: load_matcher("lightglue", features="sift"), "features"),
        (lambda: load_matcher("lightglue", depth_confidence=2), "depth_confidence is 2"),
        (lambda: load_matcher("lightglue", weights="x.pth"), "not for which features"),
        (lambda: load_matcher("lightglue", half=True), "half is True"),
        (lambda: matcher(folder, device="gpu"), "device is 'gpu', but torch cannot use it"),
    ):
        with pytest.raises(tp.InvalidInputError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_missing_wrong_and_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIEPOINTS_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TIEPOINTS_CACHE", str(tmp_path / "cache"))
    file = MODELS["aliked"].weights[0]
    object.__setattr__(file, "url", "http://127.0.0.1:9/aliked_lightglue.pth")
    try:
        with pytest.raises(tp.WeightsError, match=r"aliked_lightglue.pth cannot be fetched: .*TIEPOINTS_WEIGHTS"):
            load_matcher("lightglue", features="aliked")
    finally:
        object.__setattr__(file, "url", MODELS["disk"].weights[0].url.replace("disk", "aliked"))
    (tmp_path / file.name).write_bytes(b"an older one")
    with pytest.raises(tp.WeightsError, match="another version of the weights"):
        load_matcher("lightglue", features="aliked")
    with pytest.raises(tp.WeightsError, match=r"is no file of tensors|cannot be read as weights"):
        load_matcher("lightglue", features="aliked", weights=tmp_path / file.name)
    torch.save({"a": torch.zeros(2)}, tmp_path / "b.pth")
    with pytest.raises(tp.WeightsError, match="holds no weights of lightglue-aliked"):
        load_matcher("lightglue", features="aliked", weights=tmp_path / "b.pth")
    torch.save(official(Network(256)), tmp_path / "c.pth")  # superpoint's
    with pytest.raises(tp.WeightsError, match="holds no weights of lightglue-disk"):
        load_matcher("lightglue", features="disk", weights=tmp_path / "c.pth")
    result = CliRunner().invoke(cli, ["weights", "where", "lightglue-disk"])
    assert result.exit_code == 1 and "disk_lightglue.pth is not on this machine" in result.output
    result = CliRunner().invoke(cli, ["weights", "list", "--json"])
    assert '"name": "lightglue-superpoint"' in result.output


def test_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import tiepoints as tp\n"
        "try: tp.matching.load_matcher('lightglue')\n"
        "except tp.MissingDependencyError as error: sys.exit(str(error))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == "the matcher lightglue needs the package torch: pip install 'tiepoints[learned]'"


def test_attention_is_the_papers(network: Network) -> None:
    """One head of cross-attention, written out with loops (equation 5)."""
    torch.manual_seed(4)
    layer = network.transformers[2].cross_attn
    x, y = torch.randn(3, 256), torch.randn(4, 256)
    with torch.inference_mode():
        new_x, _ = layer(x, y)
        key_x, key_y, value = layer.to_qk(x), layer.to_qk(y), layer.to_v(y)
        message = torch.zeros(3, 256)
        for head in range(4):
            part = slice(64 * head, 64 * head + 64)
            for i in range(3):
                weights = torch.stack([key_x[i, part] @ key_y[j, part] for j in range(4)]) / math.sqrt(64)
                message[i, part] = weights.softmax(0) @ value[:, part]
        message = layer.to_out(message)
        expected = x + layer.ffn(torch.cat([x, message], dim=1))
    torch.testing.assert_close(new_x, expected, rtol=1e-4, atol=1e-5)
