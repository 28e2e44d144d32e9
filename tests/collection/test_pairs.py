"""Which images are matched with which: by sequence, by place, and together without repetition."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
from scipy.spatial import cKDTree

import tiepoints as tp
from tiepoints.cli import cli
from tiepoints.collection import (
    Collection,
    exhaustive,
    from_file,
    natural_order,
    positions_of,
    sequential,
    spatial,
    union,
)
from tiepoints.collection.places import metric_points
from tiepoints.collection.retrieval import retrieval
from tiepoints.exif import Position

METRE = 1 / 111_195  # degrees of latitude, nearly


def test_natural_order_takes_numbers_as_numbers() -> None:
    names = ["a/img10.jpg", "a/img9.jpg", "b1.jpg", "a/img009.jpg", "2.jpg", "10.jpg"]
    assert sorted(names, key=natural_order) == [
        "2.jpg", "10.jpg", "a/img009.jpg", "a/img9.jpg", "a/img10.jpg", "b1.jpg",
    ]  # fmt: skip


def test_a_sequence_is_paired_in_a_window_and_at_doubling_distances() -> None:
    names = [f"frame{i}.jpg" for i in (3, 12, 1, 2, *range(4, 12), *range(13, 41))]  # 1 to 40, in no order
    step = {name: i for i, name in enumerate(sorted(names, key=natural_order))}
    plain = sequential(names, 3)
    assert {step[b] - step[a] for a, b in plain} == {1, 2, 3}
    assert len(plain) == 39 + 38 + 37
    loops = sequential(names, 3, loops=True)
    assert {step[b] - step[a] for a, b in loops} == {1, 2, 3, 6, 12, 24}
    assert set(plain) < set(loops)
    assert len(loops) == len(plain) + 34 + 28 + 16


@given(
    st.lists(st.text("ab019./ ", min_size=1, max_size=6), max_size=14),
    st.integers(1, 4),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_no_union_has_a_pair_twice_or_an_image_with_itself(names: list[str], many: int, loops: bool, random) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(random.randrange(2**32))
    vectors = {name: rng.normal(size=3).astype(np.float32) for name in names}
    places = {name: Position(*rng.integers(0, 3, 2).tolist(), None) for name in names}  # many at the same place
    ways = [
        exhaustive(names),
        sequential(names, many, loops=loops),
        retrieval(vectors, many),
        spatial(places, many),
        spatial(places, None, within=120_000),
        [(random.choice(names), random.choice(names)) for _ in names],
    ]
    for listed in (*ways[:-1], union(*ways), union(*reversed(ways))):
        assert all(a != b for a, b in listed)
        assert len({frozenset(pair) for pair in listed}) == len(listed)
    assert {frozenset(pair) for pair in union(*ways)} == {
        frozenset(pair) for way in ways for pair in way if pair[0] != pair[1]
    }


def test_a_file_of_pairs_repeats_none(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("a b\nb a\n\n# a c\na b\nb b\nc b\n")
    assert from_file(tmp_path / "pairs.txt", list("abc")) == [("a", "b"), ("c", "b")]


@pytest.mark.parametrize("altitude", [False, True])
def test_neighbours_are_those_of_a_tree(altitude: bool) -> None:
    """Of 3,000 photographs in towns all over the Earth, also across 180 degrees and at a pole."""
    rng = np.random.default_rng(2)
    towns = np.array([(47, 8), (-33.9, 18.4), (65.6, 179.9999), (65.6, -179.9999), (89.99, 0), (89.99, 180)])
    places = {
        f"{i}.jpg": Position(*np.clip(towns[i % 6] + rng.normal(0, 0.0005, 2), [-90, -180], [90, 180]), height)
        for i, height in enumerate(rng.uniform(0, 300, 3000))
    }
    points = metric_points(places.values(), altitude=altitude)
    names = list(places)
    tree = cKDTree(points)
    _, nearest = tree.query(points, 9)
    wanted = {frozenset((names[i], names[j])) for i, row in enumerate(nearest) for j in row if j != i}
    assert {frozenset(pair) for pair in spatial(places, 8, altitude=altitude)} == wanted
    wanted = {frozenset((names[i], names[j])) for i, j in tree.query_pairs(15)}
    assert wanted
    assert {frozenset(pair) for pair in spatial(places, None, within=15, altitude=altitude)} == wanted


def test_distances_are_metres_on_the_ellipsoid() -> None:
    """A degree of longitude on the equator, and of latitude at 45 degrees north (WGS 84: 111,319.5 and 111,131.8)."""
    a, b, c, d = metric_points([Position(0, 0, None), Position(0, 1, None), Position(44.5, 9, 0), Position(45.5, 9, 0)])
    for chord, wanted in ((math.dist(a, b), 111_319.5), (math.dist(c, d), 111_131.8)):
        radius = 6_371_000
        assert 2 * radius * math.asin(chord / 2 / radius) == pytest.approx(wanted, abs=2)
    low, high, unknown = metric_points(
        [Position(10, 20, 5), Position(10, 20, 125), Position(10, 20, None)], altitude=True
    )
    assert math.dist(low, high) == pytest.approx(120, abs=1e-6)
    assert math.dist(low, unknown) == pytest.approx(60, abs=1e-6)  # the median of the known ones


def test_height_counts_where_it_is_asked_for() -> None:
    places = {
        "low": Position(47, 8, 10), "high": Position(47, 8, 110), "near": Position(47 + 30 * METRE, 8, 10),
    }  # fmt: skip
    assert ("high", "low") in spatial(places, None, within=50)
    assert spatial(places, None, within=50, altitude=True) == [("low", "near")]


def test_wrong_numbers_are_refused() -> None:
    for options in ({"nearest": None}, {"nearest": 0}, {"within": 0}, {"within": math.nan}):
        with pytest.raises(tp.InvalidInputError):
            spatial({"a": Position(1, 2, None)}, **options)
    assert spatial({}) == spatial({"a": Position(1, 2, None)}) == []


def dms(value: float) -> tuple[IFDRational, ...]:
    value = abs(value)
    minutes = value % 1 * 60
    return IFDRational(int(value), 1), IFDRational(int(minutes), 1), IFDRational(round(minutes % 1 * 60e6), 10**6)


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    """JPEG files of seven places 100 m apart, west of Greenwich and south of the equator; the last has no position."""
    folder = tmp_path_factory.mktemp("flight")
    image = Image.open(examples / "desk_1.jpg").resize((160, 120))
    for i in range(8):
        exif = Image.Exif()
        if i < 7:
            latitude = -33.5 - 100 * i * METRE
            exif.get_ifd(0x8825).update(
                {1: "S", 2: dms(latitude), 3: "W", 4: dms(70.5), 5: b"\0", 6: IFDRational(500, 1)}
            )
        image.rotate(4 * i).save(folder / f"{i}.jpg", exif=exif)
    return folder


def test_pairs_by_the_positions_of_real_files(flight: Path, tmp_path: Path) -> None:
    photographs = Collection.from_folder(flight)
    places = positions_of(photographs)
    assert list(places) == [f"{i}.jpg" for i in range(7)]
    assert places["3.jpg"].altitude == 500
    assert spatial(places, None, within=150) == [(f"{i}.jpg", f"{i + 1}.jpg") for i in range(6)]
    out = tmp_path / "pairs.txt"
    command = [
        "pairs",
        str(flight),
        "--kind",
        "spatial",
        "--top",
        "6",
        "--within",
        "250",
        "-e",
        "orb",
        "--out",
        str(out),
    ]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert "without a position in EXIF, paired by retrieval: 7.jpg" in result.stderr
    pairs = from_file(out, photographs)
    with_place = [pair for pair in pairs if "7.jpg" not in pair]
    assert len(with_place) == 6 + 5
    assert all(abs(int(a[0]) - int(b[0])) <= 2 for a, b in with_place)
    assert len(pairs) > len(with_place) + 1  # the one without a position is not alone


def test_matching_and_reconstruction_take_them_too(flight: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.h5"
    options = ["-e", "orb", "-n", "200"]
    result = CliRunner().invoke(
        cli, ["match", str(flight), "--pairs", "spatial:1", "--out", str(out), "--json", *options]
    )
    assert "paired by retrieval: 7.jpg" in result.stderr
    assert '"pairs": 8' in result.stdout  # six neighbours, and 7.jpg with the one most alike and the one before it
    pytest.importorskip("pycolmap")
    result = CliRunner().invoke(
        cli, ["reconstruct", str(flight), str(tmp_path / "scene"), "--pairs", "spatial", *options]
    )
    assert "paired by retrieval: 7.jpg" in result.stderr
    assert (tmp_path / "scene" / "report.json").is_file()


def test_without_any_position_there_is_one_line(examples: Path, tmp_path: Path) -> None:
    for command in (["pairs", "--kind", "spatial"], ["match", "--pairs", "spatial"]):
        out = tmp_path / ("p.txt" if command[0] == "pairs" else "m.h5")
        result = CliRunner().invoke(cli, [command[0], str(examples), *command[1:], "-e", "orb", "--out", str(out)])
        assert result.exit_code == 1
        assert "none of these 4 photographs has a position in EXIF" in result.stderr


def test_a_name_that_is_not_there_comes_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("desk_1.jpg desk2.jpg")
    with pytest.raises(tp.InvalidInputError, match=r"line 1: there is no image 'desk2.jpg': did you mean 'desk_2.jpg'"):
        from_file(tmp_path / "pairs.txt", ["desk_1.jpg", "desk_2.jpg"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_as_any_editor_writes_them(tmp_path: Path, examples: Path, encoding: str, end: str) -> None:
    path = tmp_path / "list.txt"
    lines = ("# Köln", "", "box.png desk_1.jpg", "box.png\tdesk_2.jpg ")
    path.write_bytes(end.join(lines).encode(encoding))
    assert from_file(path, Collection.from_folder(examples)) == [("box.png", "desk_1.jpg"), ("box.png", "desk_2.jpg")]
    path.write_bytes(end.join(["# a list", str(examples / "box.png"), ""]).encode(encoding))
    assert list(Collection.from_sources([path])) == ["box.png"]


def test_a_list_without_a_pair_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("# nothing yet\n\n")
    with pytest.raises(tp.InvalidInputError, match=r"pairs.txt: the list names no pair"):
        from_file(tmp_path / "pairs.txt", ["a"])
    (tmp_path / "pairs.txt").write_bytes(b"\xff\xfea\0b")
    with pytest.raises(tp.InvalidInputError, match=r"not a list of pairs in UTF-8"):
        from_file(tmp_path / "pairs.txt", ["a"])
