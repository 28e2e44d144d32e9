"""The public names: all there, all documented, and every module only leans on floors below its own."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import tiepoints as tp

SOURCE = Path(tp.__file__).parent

# Floors of the house: a module imports only from floors below its own, or from its own room.
FLOORS = {
    "errors": -2, "lazy": -1, "checks": 0, "optional": 0, "drawing": 0, "progress": 0,
    "depth": 0, "cutouts": 0.1, "decode": 0.2, "exif": 0.4,
    "features": 1, "camera": 1, "files": 1, "threads": 1, "images": 2,
    "fetch": 2, "weights": 2.5,
    "extraction": 3, "matching": 3, "geometry": 3, "storage": 3,
    "plot": 4, "metrics": 4, "datasets": 4,
    "collection": 5,
    "pair": 5.2,
    "tasks": 5.5,
    "compare": 6, "doctor": 6, "training": 6,
    "benchmarks": 7,
    "cli": 8,
}  # fmt: skip


def modules() -> list[str]:
    """All that have `__all__`, told by their text: they are imported when they are tested, since some need torch."""
    paths = (path for path in SOURCE.rglob("*.py") if "__all__" in path.read_text(encoding="utf-8"))
    names = (".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in paths)
    return sorted(name.removesuffix(".__init__") for name in names)


def imported(name: str) -> ModuleType:
    """Only the training and some extractors' networks need torch; they are left out where it is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        assert error.name == "torch" and name.startswith(
            ("tiepoints.training.", "tiepoints.extraction.torch.", "tiepoints.matching.torch.")
        )
        pytest.skip("needs torch")


@pytest.mark.parametrize("name", modules())
def test_all_names_exist_and_are_documented(name: str) -> None:
    module = imported(name)
    assert len(set(module.__all__)) == len(module.__all__)
    assert module.__doc__
    for public in module.__all__:
        value = getattr(module, public)
        assert public in dir(module)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{public} has no docstring"


def names_for_type_checkers(path: Path) -> dict[str, str]:
    """Name -> module, of what a package imports for type checkers only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    return {
        alias.asname or alias.name: node.module or ""
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


LAZY = sorted(path.parent for path in SOURCE.rglob("__init__.py") if "attach(" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("folder", LAZY, ids=lambda path: path.relative_to(SOURCE.parent).as_posix())
def test_type_checkers_and_run_time_see_the_same_names(folder: Path) -> None:
    package = ".".join(folder.relative_to(SOURCE.parent).parts)
    seen = names_for_type_checkers(folder / "__init__.py")
    module = importlib.import_module(package)
    assert sorted(module.__all__) == sorted(seen) and len(seen) > 2
    for name, home in seen.items():
        assert getattr(module, name) is getattr(importlib.import_module(f"{package}.{home}"), name)


def test_dir_holds_what_is_public() -> None:
    names = set(dir(tp))
    assert {"load", "read", "match", "Features", "Matcher", "storage", "geometry", "matching", "__version__"} <= names
    assert not names & {"Any", "TYPE_CHECKING", "annotations", "import_module"}
    assert all(hasattr(tp, name) for name in names)


def test_modules_are_there_without_an_import_of_their_own() -> None:
    code = "import tiepoints as tp; tp.storage.save_features; tp.matching.Nearest; tp.geometry.homography"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_names_are_attribute_errors() -> None:
    for module, name, hint in (
        (tp, "nonsense", ""),
        (tp, "stroage", ": did you mean 'storage'?"),
        (tp.geometry, "homografy", ": did you mean 'homography'?"),
        (tp.storage, "read_colmp", ": did you mean 'read_colmap'?"),
        (tp, "__wrapped__", ""),
    ):
        with pytest.raises(AttributeError) as caught:
            getattr(module, name)
        assert str(caught.value) == f"module {module.__name__!r} has no attribute {name!r}{hint}"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_a_module_imports_only_from_below(path: Path) -> None:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    room = parts[0]
    if room in ("__init__", "__main__"):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == len(parts):  # from the package's root
            targets = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            for target in targets:
                if target != "__version__":
                    assert FLOORS[target] < FLOORS[room], f"{path} imports {target} from its own floor or above"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_a_file_fits_in_a_head(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 420


@pytest.mark.parametrize("module", ["numpy", "cv2", "torch", "onnxruntime", "h5py", "pycolmap", "rich", "poselib"])
def test_importing_tiepoints_costs_nothing(module: str) -> None:
    code = f"import sys, tiepoints, tiepoints.cli, tiepoints.threads; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_photographs_are_matched_without_modules_that_cost_time() -> None:
    examples = Path(__file__).resolve().parents[1] / "examples"
    slow = (
        "numpy.ma",
        "http.client",
        "importlib.metadata",
        "PIL.TiffImagePlugin",
        "tiepoints.extraction.published",
        "h5py",
    )
    code = f"""
import sys
from tiepoints.cli import cli
cli(["match", {str(examples / "box.png")!r}, {str(examples / "box_in_scene.png")!r}], standalone_mode=False)
sys.exit([name for name in {slow!r} if name in sys.modules] or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_extracting_and_matching_import_no_torch() -> None:
    code = (
        "import sys, numpy as np, tiepoints as tp; f = tp.load('mdnet')(np.zeros((64, 64), np.uint8)); tp.match(f, f); "
        "tp.extractors(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
