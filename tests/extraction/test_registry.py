"""Extractors are found by name, listed by licence, and added by other packages."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.extraction import Detections, is_ready, metadata_of

PLUGIN = """
import numpy as np
from tiepoints.extraction import Metadata, Detections, Extractor

class Middle(Extractor):
    metadata = Metadata(
        name="middle", summary="one keypoint", paper="none", code_licence="CC-BY-NC-4.0", descriptor_size=2
    )

    def _detect(self, image, mask):
        h, w = image.shape
        return Detections(np.array([[(w - 1) / 2, (h - 1) / 2]]), np.array([[1.0, 0.0]]), np.ones(1))
"""

ENTRY_POINTS = """
[tiepoints.extractors]
middle = a_plugin:Middle
broken = a_plugin:Absent
sift = a_plugin:Middle
"""


def test_ours_are_there() -> None:
    names = [metadata.name for metadata in tp.extractors()]
    assert {"mdnet", "sift", "rootsift", "upright-sift", "upright-rootsift", "orb", "akaze"} <= set(names)
    assert len(set(names)) == len(names)


def test_filter_on_licence() -> None:
    assert all(metadata.commercial for metadata in tp.extractors(commercial=True))
    assert not any(metadata.commercial for metadata in tp.extractors(commercial=False))
    assert "orb" in {metadata.name for metadata in tp.extractors(licence="apache")}
    assert tp.extractors(licence="no such licence") == []


def test_commercial_use_follows_from_both_licences() -> None:
    def metadata(code: str, weights: str) -> tp.Metadata:
        return tp.Metadata(
            name="x",
            summary="x",
            paper="x",
            code_licence=code,
            weights_licence=weights,
            learned=True,
            descriptor_size=1,
        )

    assert metadata("MIT", "CC0-1.0").commercial
    assert not metadata("MIT", "CC-BY-NC-SA-4.0").commercial and not metadata("CC-BY-NC-4.0", "MIT").commercial
    assert not metadata("MIT", "by agreement").commercial, "what is not known to allow it does not"
    surf = metadata_of("surf")
    assert not surf.commercial and surf.licences_allow_commerce and "2027" in surf.as_dict()["patents"]
    assert {"surf", "upright-surf"}.isdisjoint(one.name for one in tp.extractors(commercial=True))
    both = metadata_of("surf+hardnet")
    assert both.patents == surf.patents and not both.commercial and not metadata_of("sift+hardnet").patents
    assert is_ready(surf) and is_ready(both), "what is patented needs no licence to be accepted"
    with pytest.raises(tp.InvalidInputError, match="weights_licence"):
        metadata("MIT", "")


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> type[tp.Extractor]:
    """Another package's extractor with a fault: it fails on small images."""

    class Faulty(tp.Extractor):
        metadata = tp.Metadata(name="faulty", summary="", paper="", code_licence="MIT", descriptor_size=2)

        def __init__(self, *, level: int = 0, **options: Any) -> None:
            super().__init__(**options)
            self.level = [1, 2][level]

        def _detect(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Detections:
            if image.shape[0] < 300:
                raise ValueError("boom")
            points = np.random.default_rng(0).uniform(20, 200, (50, 2)).astype(np.float32)
            return Detections(points, np.tile(np.array([1, 0], np.float32), (50, 1)), np.ones(50, np.float32))

    Faulty.__module__ = "their.package"
    entry = SimpleNamespace(load=lambda: Faulty)
    monkeypatch.setattr("tiepoints.extraction.registry._plugins", lambda: {"faulty": entry})
    return Faulty


def test_a_fault_of_another_packages_extractor_is_one_line(
    raising: type[tp.Extractor], examples: Path, tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from tiepoints.cli import cli

    said = "extractor faulty (their): ValueError: boom"
    with pytest.raises(tp.TiepointsError, match=re.escape(said)) as caught:
        raising()(examples / "box.png")
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(tp.TiepointsError, match=r"extractor faulty \(their\): IndexError: list index"):
        tp.load("faulty", level=5)
    pair = [str(examples / name) for name in ("box.png", "desk_1.jpg")]
    alone = CliRunner().invoke(cli, ["match", *pair, "-e", "faulty"])
    assert alone.exit_code == 1 and alone.stderr == f"tiepoints: {said}\n"
    out = str(tmp_path / "f.h5")
    folder = CliRunner().invoke(cli, ["extract", str(examples), "-e", "faulty", "--out", out])
    assert folder.exit_code == 1 and f"box.png: {said}" in folder.stderr
    assert "150 faulty keypoints in 3 images" in folder.stdout


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(tp.UnknownExtractorError, match="did you mean 'rootsift'") as caught:
        tp.load("root-sift")
    assert isinstance(caught.value, KeyError) and not str(caught.value).startswith('"')
    for name, meant in (("R2D", "r2d2"), ("superpoint-v1", "superpoint")):
        with pytest.raises(tp.UnknownExtractorError, match=f"did you mean '{meant}"):
            tp.load(name)
    with pytest.raises(tp.UnknownExtractorError) as caught:
        tp.load("zzz")
    number = len(tp.extractors())
    assert f"there are {number}, such as mdnet, mdnet-small, mdnet-large; `tiepoints extractors` lists" in str(
        caught.value
    )


def test_another_package_adds_an_extractor(tmp_path: Path) -> None:
    """A package as pip leaves it in a folder of its own; one of its extractors does not load."""
    site = tmp_path / "site"
    about = site / "tiepoints_plugin_for_a_test-1.dist-info"
    about.mkdir(parents=True)
    (site / "a_plugin.py").write_text(PLUGIN, encoding="utf-8")
    (about / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    (about / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: tiepoints-plugin-for-a-test\nVersion: 1\n", encoding="utf-8"
    )
    code = textwrap.dedent(
        f"""
        import sys, warnings; sys.path.insert(0, {str(site)!r})
        import numpy as np, tiepoints as tp
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            listed = {{metadata.name: metadata for metadata in tp.extractors()}}
        assert "'broken' cannot be loaded" in str(caught[0].message), caught
        assert "broken" not in listed and not listed["middle"].commercial
        assert listed["sift"].paper.startswith("Lowe"), "a plugin must not replace one of ours"
        assert "middle" in [metadata.name for metadata in tp.extractors(commercial=False)]
        features = tp.load("middle", max_size=50)(np.zeros((100, 200, 3), np.uint8))
        assert features.keypoints.tolist() == [[99.5, 49.5]], features.keypoints
        """
    )
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
