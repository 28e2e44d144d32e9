"""SURF beside another implementation, mahotas', and beside its own paper's facts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiepoints as tp


def test_keypoints_scales_and_angles_are_those_of_mahotas(examples: Path) -> None:
    """Its first octave's; its scale is sigma, and it measures angles from the y axis, the other way round."""
    mahotas = pytest.importorskip("mahotas.features.surf", reason="mahotas is the oracle of this test")
    image = tp.read(examples / "desk_1.jpg", grey=True)[100:340, 150:470]
    theirs = mahotas.surf(image, nr_octaves=4, nr_scales=4, initial_step_size=1, threshold=0.1, max_points=600)
    ours = tp.load("surf", max_keypoints=5000, threshold=0.1)(image)
    assert ours.scales is not None and ours.angles is not None
    sigma = ours.scales / 2
    distance = np.linalg.norm(ours.keypoints[:, None] - theirs[None, :, 1::-1], axis=2) / sigma[:, None]
    distance[np.abs(np.log(sigma[:, None] / theirs[None, :, 2])) > np.log(1.5)] = np.inf
    nearest = distance.argmin(axis=0)
    found = distance.min(axis=0) < 0.7
    assert len(theirs) > 200 and found.mean() > 0.75
    ratio = theirs[found, 2] / sigma[nearest[found]]
    assert abs(np.median(ratio) - 1) < 0.03
    off = np.angle(np.exp(1j * (theirs[found, 5] + ours.angles[nearest[found]] + np.pi / 2)))
    assert np.median(np.abs(off)) < 0.2, "it weighs the wavelets with another Gaussian"


def test_descriptors_survive_rotation_and_upright_ones_do_not(examples: Path) -> None:
    photograph = tp.read(examples / "desk_1.jpg", grey=True)
    turned = np.rot90(photograph, -1).copy()
    shares = {}
    for name in ("surf", "upright-surf"):
        extractor = tp.load(name, max_keypoints=500)
        a, b = extractor(photograph), extractor(turned)
        before, after = tp.match(a, b).points(a, b)
        expected = np.stack([photograph.shape[0] - 1 - before[:, 1], before[:, 0]], axis=1)
        shares[name] = (np.linalg.norm(after - expected, axis=1) < 2).sum() / len(a)
    assert shares["surf"] > 0.6 and shares["upright-surf"] < 0.1, shares


def test_few_octaves_find_small_scales_only(examples: Path) -> None:
    photograph = tp.read(examples / "desk_1.jpg", grey=True)
    few, all_ = (tp.load("surf", octaves=octaves)(photograph).scales for octaves in (1, 4))
    assert few is not None and all_ is not None
    assert few.max() / 2 < 27 * 1.2 / 9 and all_.max() / 2 > 51 * 1.2 / 9
    with pytest.raises(tp.InvalidInputError, match="octaves is 5"):
        tp.load("surf", octaves=5)
