"""The command that re-makes docs/benchmarks.md writes its sections and nothing else."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tiepoints.threads import variables

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name, value in variables(1).items():
        monkeypatch.setenv(name, value)  # the script sets them where nobody has
    monkeypatch.syspath_prepend(ROOT / "tools")  # as a script has it: sections.py lies beside it
    for name in ("page", "sections"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("page")


@pytest.fixture
def sections(page: ModuleType) -> ModuleType:
    return sys.modules["sections"]


def test_every_section_has_its_place(page: ModuleType, sections: ModuleType) -> None:
    text = sections.PAGE.read_text(encoding="utf-8")
    assert re.findall("<!-- begin: (.*) -->", text) == re.findall("<!-- end: (.*) -->", text)
    assert sorted(re.findall("<!-- begin: (.*) -->", text)) == sorted(page.SECTIONS)


def test_only_the_section_is_replaced(sections: ModuleType) -> None:
    text = "a\n<!-- begin: x -->\nold\n<!-- end: x -->\nb\n<!-- begin: y -->\nold\n<!-- end: y -->\n"
    assert sections.with_section(text, "x", "new \\1\n") == text.replace("old", "new \\1", 1)
    with pytest.raises(SystemExit, match="must have one"):
        sections.with_section(text, "z", "new")


def test_who_takes_part(page: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    several = ["orb", "mdnet", "superpoint", "sift+hardnet"]
    chosen = page.ready_of(several)
    assert {"orb", "mdnet", "sift+hardnet"} <= set(chosen)
    told = capsys.readouterr().err
    left_out = set(several) - set(chosen)
    assert all(
        f"left out, as weights, packages or an accepted licence are missing: {name}" in told for name in left_out
    )


def test_core_times_are_multiples_of_those_of_sift(page: ModuleType) -> None:
    times = page.core_times(["orb", "upright-rootsift"], runs=1)
    assert 0 < times["orb"] < 0.8 < times["upright-rootsift"] < 10


def test_a_page_is_written(
    page: ModuleType,
    sections: ModuleType,
    texture: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "data" / "hpatches" / "v_wall"
    folder.mkdir(parents=True)
    H = np.array([[1.0, 0, 4], [0, 1, 2], [0, 0, 1]])
    Image.fromarray(texture).save(folder / "1.png")
    Image.fromarray(cv2.warpPerspective(texture, H, (320, 240))).save(folder / "2.png")
    np.savetxt(folder / "H_1_2", H)
    copy = tmp_path / "benchmarks.md"
    before = sections.PAGE.read_text(encoding="utf-8")
    copy.write_text(before, encoding="utf-8")
    monkeypatch.setattr(sections, "PAGE", copy)
    arguments = ["--only", "hpatches", "-e", "orb", "-e", "mdnet", "--jobs", "1", "--store", tmp_path / "store"]
    monkeypatch.setattr(sys, "argv", ["page.py", "--data", *map(str, [tmp_path / "data", *arguments])])
    page.main()
    begin, end = "<!-- begin: hpatches -->", "<!-- end: hpatches -->"
    after = copy.read_text(encoding="utf-8")
    assert after.partition(begin)[0] == before.partition(begin)[0]
    assert after.partition(end)[2] == before.partition(end)[2]
    section = after.partition(begin)[2].partition(end)[0]
    assert (
        re.search(r"\| overall = viewpoint \| orb \| (1\.000|\.\d{3}) ", section)
        and "| overall = viewpoint | mdnet |" in section
    )
    assert "MD-Net's paper (ICPR 2022), 540 pairs" in section, "published figures stand beside"
    assert str(tmp_path) not in section, "no folders of this machine"
