"""The documentation: its links lead somewhere, its Python prints what the page shows, and docstrings' examples run."""

from __future__ import annotations

import doctest
import inspect
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import tiepoints as tp
from tiepoints import benchmarks, camera, collection, exif, images, metrics, tasks
from tiepoints.benchmarks import methods, trajectories, writers
from tiepoints.collection import finding, memory, orientation, records, retrieval, running, salvage, steps, videos
from tiepoints.datasets import archives, catalogue, hdf5, planar, scenes, trajectories as recorded
from tiepoints.storage import notes
from tiepoints.tasks import mapping, maps, nerfstudio, page, reconstruction, rotated, triangulation, verified, viewer

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])
# A block, and what it prints where the page shows that.
CODE = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```)?", re.DOTALL | re.MULTILINE)


# What users import: its public functions and classes each have an example, which is run.
MODULES = [tp, tp.extraction, tp.features, tp.geometry, tp.matching, tp.storage, camera, exif, images]
MODULES += [collection, finding, memory, orientation, records, retrieval, running, salvage, steps, videos]
MODULES += [notes, archives, catalogue, hdf5, planar, scenes, recorded]
MODULES += [metrics.correspondences, metrics.depth, metrics.planar, metrics.poses, metrics.trajectories]
MODULES += [tasks, mapping, maps, nerfstudio, page, reconstruction, rotated, triangulation, verified, viewer]
MODULES += [benchmarks, trajectories, methods, writers]


def public(modules: list[ModuleType]) -> dict[str, Callable[..., object]]:
    """Public functions and classes by their full names, each once."""
    values = [getattr(module, name) for module in modules for name in module.__all__]
    known = [value for value in values if inspect.isfunction(value) or inspect.isclass(value)]
    return {f"{value.__module__}.{value.__qualname__}": value for value in known}


PUBLIC = public(MODULES)


@pytest.fixture(scope="module")
def beside_examples(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(examples, folder / "examples")
    return folder


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"\w+:", link):
            continue  # an address
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize(
    "name", ["README.md", "docs/collections.md", "docs/geometry.md", "docs/own-methods.md", "docs/storage.md"]
)
def test_python_prints_what_the_page_shows(
    name: str, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = CODE.findall((ROOT / name).read_text(encoding="utf-8"))
    assert blocks
    if any("write_colmap" in block for block, _ in blocks):
        pytest.importorskip("pycolmap", reason="needs the extra sfm")
    shutil.copytree(examples, tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    known: dict[str, object] = {}
    for block, shown in blocks:  # a page's blocks follow one another
        capsys.readouterr()
        exec(compile(block, name, "exec"), known)
        if shown:
            check_printed(capsys.readouterr().out, shown)


def check_printed(printed: str, shown: str) -> None:
    """The page shows what is printed; counts may differ a little from processor to processor, small numbers more."""
    number = re.compile(r"\d+(?:\.\d+)?")
    assert number.sub("#", printed) == number.sub("#", shown)
    pairs = zip(number.findall(printed), number.findall(shown), strict=True)
    counts = [(int(a), int(b)) for a, b in pairs if a.isdigit() and b.isdigit()]
    assert all(abs(a - b) <= max(3, 0.02 * b) for a, b in counts), f"the page shows {shown}, printed is {printed}"


def has_example(value: object) -> bool:
    """Whether a function, a class or one of its methods has an example."""
    return any(test.examples for test in doctest.DocTestFinder().find(value, "value"))


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_has_an_example(name: str) -> None:
    assert has_example(PUBLIC[name]), f"{name} has no example"


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_in_docstrings_run(name: str, beside_examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "colmap" in name.lower() or "import pycolmap" in (inspect.getdoc(PUBLIC[name]) or ""):
        pytest.importorskip("pycolmap", reason="needs the extra sfm")
    monkeypatch.chdir(beside_examples)
    finder, runner = doctest.DocTestFinder(exclude_empty=True), doctest.DocTestRunner(verbose=False)
    report: list[str] = []
    for test in finder.find(PUBLIC[name], name, globs={}):
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)
