"""Whatever is handed over for an argument is taken, or refused by an error of ours on one line; never another error."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import tiepoints as tp
from tiepoints.collection import Collection

from .test_docs import PUBLIC


class Rude:
    """Fails at everything."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("rude")

    def __repr__(self) -> str:
        raise RuntimeError("rude")


class NoArray:
    """Says that it is an array, and is none."""

    def __array__(self, *arguments: Any, **options: Any) -> Any:
        raise ValueError("no array")


ODD: list[Any] = [
    None, True, 0, -1, 3, 2**40, 10**400, 1.5, float("nan"), 1 + 2j, "", "abc\0", b"a", [], [None], [[1, 2], [3]], {},
    (1, 2), object, Rude(), NoArray(), np.zeros(0), np.zeros((3, 3)), np.zeros((5, 5, 3)), np.ones((4, 4), bool),
    np.full((4, 4), np.nan), np.array("x"), np.array([None]), np.zeros((2, 3, 4, 5, 6), np.uint8),
    np.array([1], "M8[D]"), np.float32(3), Image.new("P", (9, 9)), Image.new("I;16", (9, 9)), Path(), slice(1),
    range(3), cv2.KeyPoint(1, 2, 3),
]  # fmt: skip


def tensors() -> list[Any]:
    torch = pytest.importorskip("torch")
    return [
        torch.zeros(3, requires_grad=True),
        torch.zeros(4, 4).bfloat16(),
        torch.zeros(3, 4, 4),
        torch.zeros(2, 2, device="meta"),
    ]


def calls() -> dict[str, tuple[Callable[..., Any], list[Any], dict[str, Any]]]:
    """Public functions, and arguments that are right."""
    image = np.random.default_rng(0).integers(0, 256, (160, 200)).astype(np.uint8)
    orb = tp.load("orb", max_keypoints=50)
    f = orb(image)
    m = tp.match(f, f)
    model = tp.homography(f, f, m)
    arrays = [np.zeros((2, 2)), np.eye(2, 8), np.ones(2), (64, 48)]
    return {
        "Features": (tp.Features, arrays, {"sets": None, "scales": None, "angles": None}),
        "Features.select": (f.select, [[0]], {}),
        "Features.top": (f.top, [1], {}),
        "Features.from_opencv": (tp.Features.from_opencv, [*f.to_opencv(), (80, 60)], {}),
        "Features.from_torch": (tp.Features.from_torch, [{}], {}),
        "Features.from_torch, keypoints": (
            lambda v: tp.Features.from_torch({"keypoints": v, "descriptors": np.eye(2)}, (9, 9)), [arrays[0]], {},
        ),
        "Features.from_lightglue, size": (
            lambda v: tp.Features.from_lightglue({"lafs": np.ones((1, 1, 2, 3)), "descriptors": np.eye(1)}, v),
            [(9, 9)], {},
        ),
        "Matches.from_lightglue": (tp.Matches.from_lightglue, [(np.ones((1, 1)), np.array([[0, 1]]))], {}),
        "Matches.from_lightglue, scores": (
            lambda v: tp.Matches.from_lightglue((v, np.array([[0, 1]]))), [np.ones((1, 1))], {},
        ),
        "Matches": (tp.Matches, [np.zeros((2, 2), int), np.ones(2)], {}),
        "Matches.select": (m.select, [[0]], {}),
        "Matches.points": (m.points, [f, f], {}),
        "Matches.to_opencv": (m.to_opencv, [f], {}),
        "Matches.from_opencv": (tp.Matches.from_opencv, [m.to_opencv(), f, f], {}),
        "Matches.from_torch": (lambda v: tp.Matches.from_torch({"matches": v}), [np.array([[0, 1]])], {}),
        "Matches.to_lightglue": (m.to_lightglue, [f, f], {}),
        "match": (tp.match, [f, f], {"matcher": "nearest", "ratio": 0.9, "min_similarity": 0, "mutual": True}),
        "load": (tp.load, ["orb"], {"max_keypoints": 9, "max_size": 9, "device": "cpu"}),
        "extractors": (tp.extractors, [], {"commercial": None, "licence": None}),
        "extractor": (orb, [image], {"mask": None}),
        "match_images": (
            tp.match_images, [image, image], {"extractor": "orb", "matcher": "nearest", "geometry": None, "seed": 0},
        ),
        "match_images, masks": (lambda v: tp.match_images(image, image, extractor=orb, masks=v), [None], {}),
        "match_images, a mask": (lambda v: tp.match_images(image, image, extractor=orb, masks=(v, None)), [None], {}),
        **({"Features.to_lafs": (lambda v: f.to_lafs(v), [6.0], {})} if find_spec("torch") else {}),
        "with_value_range": (tp.collection.Collection([]).with_value_range, [0, 1], {}),
        "exhaustive": (tp.collection.exhaustive, [["a", "b"]], {}),
        "sequential": (tp.collection.sequential, [["a", "b"], 1], {"loops": False}),
        "run": (tp.collection.run, [tp.collection.Extract(orb), Collection([])], {"store": None, "engine": None}),
        "Camera.shifted": (tp.Camera.from_focal(9, (9, 9)).shifted, [0.5], {}),
        "FeatureWriter": (
            lambda path, **options: tp.storage.FeatureWriter(path, **options), ["f.h5"],
            {"made_with": "x", "overwrite": True},
        ),
        "match_images, threshold": (
            lambda v: tp.match_images(image, image, extractor=orb, threshold=v), [1], {},
        ),
        "plot_matches": (
            tp.plot_matches, [image, image, f, f, m, model],
            {"outliers": True, "legend": True, "title": "", "max_lines": 3, "max_size": 50},
        ),
        "plot_keypoints": (tp.plot_keypoints, [image, f], {"max_size": 50}),
        "plot_overlay": (tp.plot_overlay, [image, image, model], {}),
        "save_image": (tp.save_image, ["picture.png", image], {}),
        "read": (tp.read, ["picture.png"], {"grey": False, "upright": True, "with_mask": False, "max_pixels": None}),
    }  # fmt: skip


CALLS = calls()


@pytest.mark.parametrize("name", CALLS)
def test_errors_are_ours(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name.endswith(("to_torch", "to_lightglue")):
        pytest.importorskip("torch")
    function, arguments, options = CALLS[name]
    if name != "Features.from_torch":
        try:
            function(*arguments, **options)
        except tp.ImageError as error:
            assert name == "read", error
    places: list[int | str] = [*range(len(arguments)), *options]
    for place in places:
        for value in [*ODD, *tensors()]:
            given, named = list(arguments), dict(options)
            if isinstance(place, int):
                given[place] = value
            else:
                named[place] = value
            try:
                function(*given, **named)
            except tp.TiepointsError as error:
                assert len(str(error).splitlines()) == 1, (place, str(error))


def takes_something(name: str) -> bool:
    """Functions and classes that need a first argument; records and what takes any value are none of them."""
    value: Any = PUBLIC[name]
    record = is_dataclass(value) or (inspect.isclass(value) and issubclass(value, tuple | BaseException))
    if record or inspect.isabstract(value) or getattr(value, "_is_protocol", False):
        return False
    first = next(iter(inspect.signature(value).parameters.values()), None)
    return (
        first is not None
        and first.kind in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD)
        and "None" not in str(first.annotation)
        and first.annotation != "Any"
    )


@pytest.mark.parametrize("name", list(filter(takes_something, PUBLIC)))
def test_none_for_what_is_needed_is_an_error_of_ours(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every public function and class that an example of the documentation shows."""
    monkeypatch.chdir(tmp_path)
    parameters = inspect.signature(PUBLIC[name]).parameters.values()
    needed = [each for each in parameters if each.default is each.empty and "VAR" not in each.kind.name]
    named = {each.name: None for each in needed if each.kind is each.KEYWORD_ONLY}
    several = [None] * max(1, len(needed) - len(named))
    with pytest.raises(tp.TiepointsError) as error:
        made: Any = PUBLIC[name](*several, **named)
        if hasattr(made, "__enter__"):
            made.__enter__()
        list(made)
    assert len(str(error.value).splitlines()) == 1


def test_arguments_of_storage_and_collections_are_checked(tmp_path: Path, examples: Path) -> None:
    features, matches = tp.load("orb", max_keypoints=5)(examples / "box.png"), tp.Matches.empty()
    photographs = Collection.from_folder(examples)

    def write(name: object, value: object = features) -> None:
        with tp.storage.FeatureWriter(tmp_path / "f.h5") as writer:
            writer.write(name, value)  # type: ignore[arg-type]

    def write_matches(value: object) -> None:
        with tp.storage.MatchWriter(tmp_path / "m.h5") as writer:
            writer.write(("a", "b"), value, (5, 5))  # type: ignore[arg-type]

    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: tp.storage.save_features(None, features), "path is None"),  # type: ignore[arg-type]
        (lambda: tp.storage.save_features("x.npz", matches), "call an extractor first"),  # type: ignore[arg-type]
        (lambda: tp.storage.save_matches("x.npz", features), "Matches is expected"),  # type: ignore[arg-type]
        (lambda: tp.storage.FeatureWriter(3), "path is 3"),  # type: ignore[arg-type]
        (lambda: tp.storage.FeatureWriter(tmp_path / "f.h5").write("a", features), "use it in a with block"),
        (lambda: write(3), "an image's name is 3, but must be a text"),
        (lambda: write(Path("a.jpg")), "an image's name is .*a.jpg.*, but must be a text"),
        (lambda: write("a", matches), "Features is expected"),
        (lambda: write_matches(features), "Matches is expected"),
        (lambda: photographs.with_cameras({"box.png": 3}), "Camera is expected"),  # type: ignore[dict-item]
        (lambda: photographs.with_cameras(None), "Camera is expected"),  # type: ignore[arg-type]
        (lambda: photographs.with_cameras(np.eye(3)), r"by Camera.from_matrix\(K"),  # type: ignore[arg-type]
        (lambda: Collection.from_paths(["a"]), "a mapping from names to paths is expected"),  # type: ignore[arg-type]
    ]
    for call, says in calls:
        with pytest.raises(tp.InvalidInputError, match=says):
            call()
    assert list(photographs.select("box.png")) == ["box.png"], "a text is one name"
    assert not [*tmp_path.glob("*.npz")]
