"""Methods: their specifications, and where results are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiepoints.benchmarks import default_store, method
from tiepoints.benchmarks.methods import methods_of
from tiepoints.errors import InvalidInputError, UnknownExtractorError


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIEPOINTS_CACHE", str(tmp_path))
    assert default_store() == tmp_path / "benchmarks"
    monkeypatch.delenv("TIEPOINTS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "xdg"))
    assert default_store() == tmp_path / "xdg" / "tiepoints" / "benchmarks"


def test_specifications() -> None:
    plain = method("sift", max_keypoints=10)
    assert plain.label == "sift" and plain.extractor.max_keypoints == 10
    own = method("orb:max_keypoints=20,scale_factor=1.3", max_keypoints=10, max_size=None)
    assert own.label == "orb max_keypoints=20 scale_factor=1.3"
    assert own.extractor.max_keypoints == 20 and own.recipe == ("orb", {"max_keypoints": 20, "scale_factor": 1.3})
    assert method("ORB:levels=4").label == "orb levels=4", "by its registered name"
    with pytest.raises(InvalidInputError, match="orb is given twice"):
        methods_of(["orb", "ORB"])
    assert method(own) is own
    assert method(own.extractor).label == "orb" and method(own.extractor).recipe is None


def test_methods_made_again() -> None:
    own = method("orb:scale_factor=1.3", max_keypoints=10)
    again = own.with_options(max_keypoints=20)
    assert again.label == own.label and again.recipe == ("orb", {"max_keypoints": 20, "scale_factor": 1.3})
    assert again.extractor.max_keypoints == 20 and own.extractor.max_keypoints == 10
    bare = method(own.extractor)
    assert bare.with_options(max_keypoints=20) is bare, "nobody knows how it was made"
    assert own.with_threads(2) is own, "it has no threads of its own"
    assert method("mdnet").with_threads(2).extractor.threads == 2
    assert method("mdnet:threads=3").with_threads(2).extractor.threads == 3, "it was told how many"


@pytest.mark.parametrize("spec", ["sift:contrast", "sift:=3", "sift:1a=2", "sift:nonsense=1"])
def test_wrong_specifications(spec: str) -> None:
    with pytest.raises(InvalidInputError, match="sift"):
        method(spec)
    with pytest.raises(UnknownExtractorError, match="did you mean 'sift'"):
        method("sfit:a=1")


def test_values_may_hold_commas_and_equal_signs() -> None:
    from tiepoints.benchmarks.methods import _options

    assert _options("x", "levels=(1,2),path=a=b.onnx, k = [3, 4] ") == {
        "levels": (1, 2),
        "path": "a=b.onnx",
        "k": [3, 4],
    }
    assert _options("x", "a={[]:1}") == {"a": "{[]:1}"}, "no literal, hence a text"
