"""The networks agree with what their authors' code gave for the same input: maps, keypoints, descriptors.

The files of ``parity`` hold the outputs, and for each map the rounding: how far 32 from 64 bits are apart.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tiepoints.weights import WeightFile, find

torch = pytest.importorskip("torch", reason="the networks need torch")
base = pytest.importorskip("tiepoints.extraction.torch.base")

IMAGES = ("a", "b")


@pytest.fixture(scope="module")
def parity(shared: Path) -> Path:
    folder = shared / "parity"
    if not folder.is_dir():
        pytest.skip(f"no parity/ in {shared}")
    return folder


def network(module: str, variant: str, file: str) -> Any:
    torch.set_num_threads(1)
    path = find(WeightFile(file, "", ""))
    if path is None:
        pytest.skip(f"{file} is not in TIEPOINTS_WEIGHTS")
    return base.build(module, variant, path, "cpu", name=module)


def check_map(stored: Any, key: str, ours: Any, *, least: float = 1e-4) -> None:
    """Within 10 times the rounding that the file states, or `least` of the largest value."""
    stride = int(stored[f"{key}_stride"])
    ours = ours.detach().numpy()
    assert ours.shape == tuple(stored[f"{key}_full_shape"])
    theirs = stored[key]
    limit = max(10 * float(stored[f"{key}_f64diff"]), least * np.abs(theirs).max())
    assert np.abs(ours[..., ::stride, ::stride] - theirs).max() < limit


def check_keypoints(stored: Any, prefix: str, xy: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
    """99 % of the official keypoints are ours too, within .01 px and with the same score."""
    theirs = stored[f"{prefix}keypoints"]
    assert len(xy) == len(theirs)
    distance = np.linalg.norm(theirs[:, None] - xy[None], axis=2)
    near = distance.min(axis=1) < 0.01
    assert near.mean() >= 0.99
    ours = scores[distance.argmin(axis=1)]
    np.testing.assert_allclose(ours[near], stored[f"{prefix}scores"][near], rtol=1e-3, atol=1e-4)


def check_descriptors(
    stored: Any, prefix: str, dense: Any, ours_from_theirs: Callable[[Any], Any] = lambda xy: xy
) -> None:
    """At the official keypoints, which each in its own way may cut to a pixel: one in 500 may be another."""
    (ours,) = dense.describe([ours_from_theirs(torch.tensor(stored[f"{prefix}keypoints"]))])
    off = np.abs(ours.numpy() - stored[f"{prefix}descriptors"]).max(axis=1)
    assert np.sort(off)[-2] < 1e-3


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize(
    ("family", "variant", "weights", "file", "prefix", "maps", "threshold"),
    [
        *(
            ("aliked", v, f"aliked-{v}.pth", "aliked", f"{v}_", ("feature_map", "score_map"), 0.0)
            for v in ("n16", "t16")
        ),
        *(("alike", v, f"alike-{v}.pth", "alike", f"{v}_", ("descriptor_map", "score_map"), 0.0) for v in "tnl"),
        ("superpoint", "", "superpoint_v1.pth", "superpoint_v1", "", ("logits", "descriptor_map_raw"), None),
        ("disk", "", "disk-depth-save.pth", "disk-depth", "", ("descriptor_map_raw", "heatmap"), None),
    ],
)
def test_maps_keypoints_and_descriptors(
    family: str,
    variant: str,
    weights: str,
    file: str,
    prefix: str,
    maps: tuple[str, str],
    threshold: float | None,
    image: str,
    parity: Path,
) -> None:
    net = network(family, variant, weights)
    with np.load(parity / f"{file}_{image}.npz") as stored, torch.inference_mode():
        given = torch.tensor(stored["input"])
        for key, ours in zip(maps, net.maps(given), strict=True):
            check_map(stored, prefix + key, ours)
        dense = net(given)
        (found,) = net.keypoints(dense, 500, net.threshold if threshold is None else threshold)
        check_keypoints(stored, prefix, found.xy.numpy(), found.scores.numpy())
        check_descriptors(stored, prefix, dense)


@pytest.mark.parametrize("image", IMAGES)
def test_xfeat(image: str, parity: Path) -> None:
    """The file's image is resized already; `ratio_hw` takes places of a network of it back to the photograph."""
    net = network("xfeat", "", "xfeat.pt")
    with np.load(parity / f"xfeat_{image}.npz") as stored, torch.inference_mode():
        given = torch.tensor(stored["input"])
        for key, ours in zip(("M1", "K1", "H1"), net.maps(given), strict=True):
            check_map(stored, key, ours)
        dense = net(given)
        (found,) = net.keypoints(dense, 500, net.threshold)
        ratio = np.asarray(stored["ratio_hw"][::-1], np.float32)
        check_keypoints(stored, "", found.xy.numpy() * ratio, found.scores.numpy())
        check_descriptors(stored, "", dense, lambda xy: xy / torch.tensor(ratio))


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("variant", ["T32", "S64", "E64"])
def test_edgepoint2(variant: str, image: str, parity: Path) -> None:
    """Places are taken back from the resized image by its outermost pixels; the authors take the ratio of the sizes."""
    net = network("edgepoint2", variant, f"edgepoint2-{variant}.pth")
    with np.load(parity / f"edgepoint2_{image}.npz") as stored, torch.inference_mode():
        given = torch.tensor(stored["input"])
        size = np.array(given.shape[:1:-1])
        small = size // 32 * 32
        resized = torch.nn.functional.interpolate(given, tuple(small[::-1]), mode="bilinear", align_corners=True)
        raw, score = net.maps(resized)
        check_map(stored, f"{variant}_score_map", score)
        check_map(stored, f"{variant}_descriptor_map_raw", raw)
        dense = net(given)
        (found,) = net.keypoints(dense, 500, net.threshold)
        theirs_from_ours = np.asarray((size / small) / ((size - 1) / (small - 1)), np.float32)
        check_keypoints(stored, f"{variant}_", found.xy.numpy() * theirs_from_ours, found.scores.numpy())
        check_descriptors(stored, f"{variant}_", dense, lambda xy: xy / torch.tensor(theirs_from_ours))


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("variant", ["WASF_N16", "WAF_N16", "WASF_N8_big"])
def test_r2d2(variant: str, image: str, parity: Path) -> None:
    """The authors leave out half a pixel where they take places back from a smaller level."""
    if variant != "WASF_N16" and image == "a":
        pytest.skip("the other models differ in weights and width only: one image will do")
    net = network("r2d2", variant, f"r2d2_{variant}.pt")
    mean, std = (torch.tensor(values)[:, None, None] for values in (net.mean, net.std))
    with np.load(parity / f"r2d2_{image}.npz") as stored, torch.inference_mode():
        given = torch.tensor(stored["input"]) * std + mean
        maps = net.maps(given)
        for key, ours in zip(("descriptor_map", "reliability", "repeatability"), maps, strict=True):
            check_map(stored, f"{variant}_{key}", ours)
        if variant != "WASF_N16":
            return
        (found,) = net.keypoints(net(given), 500, net.threshold)
        size = np.array(given.shape[:1:-1])
        level = np.rint(size * 32 / found.scales.numpy()[:, None])
        theirs = np.asarray(found.xy.numpy() - 0.5 * (size / level - 1), np.float32)
        check_keypoints(stored, "WASF_N16_", theirs, found.scores.numpy())
        official = stored["WASF_N16_keypoints"]
        nearest = np.linalg.norm(official[:, None] - theirs[None], axis=2).argmin(axis=1)
        np.testing.assert_allclose(found.scales.numpy()[nearest], stored["WASF_N16_keypoint_sizes"], rtol=1e-3)
        off = np.abs(found.descriptors.numpy()[nearest] - stored["WASF_N16_descriptors"]).max(axis=1)
        assert np.sort(off)[-2] < 1e-3


@pytest.mark.parametrize(
    ("variant", "file", "keys"),
    [
        ("tfeat", "tfeat-liberty.params", {"tfeat_liberty": "raw"}),
        ("hardtfeat", "HardTFeat.pth", {"hardtfeat": "forward"}),
        ("affnet", "AffNet.pth", {"affnet_raw": "raw", "affnet_A": "forward"}),
        ("orinet", "OriNet.pth", {"orinet_raw": "raw", "orinet_angle": "forward"}),
    ],
)
def test_networks_of_patches(variant: str, file: str, keys: dict[str, str], parity: Path) -> None:
    net = network("patches", variant, file)
    with np.load(parity / "patches.npz") as stored, torch.inference_mode():
        patches = torch.tensor(stored["input"])
        for key, method in keys.items():
            ours = getattr(net, method)(patches).numpy()
            assert np.abs(ours - stored[key]).max() < max(10 * float(stored[f"{key}_f64diff"]), 1e-5), key


@pytest.mark.parametrize("image", IMAGES)
def test_keynet(image: str, parity: Path) -> None:
    net = network("keynet", "", "keynet_pytorch.pth")
    with np.load(parity / f"keynet_{image}.npz") as stored, torch.inference_mode():
        check_map(stored, "response", net.response(torch.tensor(stored["input"])))
