"""Extractors are found by name, listed by licence, and added by other packages."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import tiepoints as tp

PLUGIN = """
import numpy as np
from tiepoints.extraction import Card, Detections, Extractor

class Middle(Extractor):
    card = Card("middle", "one keypoint in the middle", "none", "CC BY-NC 4.0", commercial=False, descriptor_size=2)

    def _detect(self, image, mask):
        h, w = image.shape
        return Detections(np.array([[(w - 1) / 2, (h - 1) / 2]]), np.array([[1.0, 0.0]]), np.ones(1))
"""

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "tiepoints-plugin-for-a-test"
version = "1"
[project.entry-points."tiepoints.extractors"]
middle = "a_plugin:Middle"
broken = "a_plugin:Absent"
sift = "a_plugin:Middle"
[tool.hatch.build.targets.wheel]
include = ["a_plugin.py"]
"""


def test_ours_are_there() -> None:
    names = [card.name for card in tp.extractors()]
    assert {"mdnet", "sift", "rootsift", "upright-sift", "upright-rootsift", "orb", "akaze"} <= set(names)
    assert len(set(names)) == len(names)


def test_filter_on_licence() -> None:
    assert all(card.commercial for card in tp.extractors(commercial=True))
    assert not any(card.commercial for card in tp.extractors(commercial=False))
    assert "orb" in {card.name for card in tp.extractors(licence="apache")}
    assert tp.extractors(licence="no such licence") == []


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(tp.UnknownExtractorError, match="did you mean 'rootsift'") as caught:
        tp.load("root-sift")
    assert isinstance(caught.value, KeyError) and not str(caught.value).startswith('"')
    with pytest.raises(tp.UnknownExtractorError, match="there are mdnet, sift, rootsift"):
        tp.load("zzz")


def test_another_package_adds_an_extractor(tmp_path: Path) -> None:
    """A real package, built and installed into a folder of its own; one of its extractors does not load."""
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    (source / "a_plugin.py").write_text(PLUGIN, encoding="utf-8")
    (source / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    code = textwrap.dedent(
        f"""
        import sys, warnings; sys.path.insert(0, {str(site)!r})
        import numpy as np, tiepoints as tp
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cards = {{card.name: card for card in tp.extractors()}}
        assert "'broken' cannot be loaded" in str(caught[0].message), caught
        assert "broken" not in cards and not cards["middle"].commercial
        assert cards["sift"].paper.startswith("Lowe"), "a plugin must not replace one of ours"
        assert [card.name for card in tp.extractors(commercial=False)] == ["middle"]
        features = tp.load("middle", max_size=50)(np.zeros((100, 200, 3), np.uint8))
        assert features.keypoints.tolist() == [[99.5, 49.5]], features.keypoints
        """
    )
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
