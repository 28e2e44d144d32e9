"""An extractor finds the same whatever holds the photograph, and nothing where it is transparent or masked."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

import tiepoints as tp
from tiepoints.extraction.inputs import find_mask, mask_of, no_mask


@pytest.fixture(scope="module")
def orb() -> Any:
    return tp.load("orb", max_keypoints=200)


@pytest.fixture(scope="module")
def rgb(texture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.dstack([texture, texture[:, ::-1], texture[::-1]])


def same(a: tp.Features, b: tp.Features) -> None:
    for field in dataclasses.fields(tp.Features):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=field.name)


def forms(rgb: NDArray[np.uint8], folder: Path) -> Iterator[tuple[str, Any]]:
    Image.fromarray(rgb).save(folder / "a.png")
    opaque = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
    yield from (
        ("path", folder / "a.png"),
        ("text", str(folder / "a.png")),
        ("PIL", Image.fromarray(rgb)),
        ("RGBA", Image.fromarray(opaque)),
        ("channels first", np.moveaxis(rgb, 2, 0)),
        ("floats", rgb / 255),
        ("floats, channels first", np.moveaxis((rgb / 255).astype(np.float32), 2, 0)),
        ("RGBA array", opaque),
    )


def test_every_form_of_a_photograph(orb: Any, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    expected = orb(rgb)
    assert len(expected) > 100
    for name, image in forms(rgb, tmp_path):
        same(orb(image), expected)
        assert name
    grey = rgb[:, :, 0]
    same(orb(grey[None]), orb(grey))
    same(orb(grey[:, :, None]), orb(grey))
    bits = grey > 128
    same(orb(bits), orb(bits.astype(np.uint8) * np.uint8(255)))


def test_tensors(orb: Any, rgb: NDArray[np.uint8]) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(rgb)
    expected = orb(rgb)
    for form in (tensor, tensor.permute(2, 0, 1), (tensor / 255).requires_grad_(), tensor.permute(2, 0, 1) / 255):
        same(orb(form), expected)
    batch = orb(torch.stack([tensor, tensor.flip(0)]).permute(0, 3, 1, 2))
    assert isinstance(batch, list)
    same(batch[0], expected)
    same(batch[1], orb(rgb[::-1]))


def test_several_images_give_a_list(orb: Any, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.png")
    one, other = orb(rgb), orb(rgb[::-1])
    for several in (
        [rgb, rgb[::-1]],
        (rgb, rgb[::-1]),
        iter([tmp_path / "a.png", rgb[::-1]]),
        np.stack([rgb, rgb[::-1]]),
    ):
        found = orb(several)
        assert len(found) == 2
        same(found[0], one)
        same(found[1], other)
    assert orb([]) == []
    left = np.zeros(rgb.shape[:2], bool)
    left[:, :150] = True
    for masks in (left, [left, left], iter([left, left])):
        assert all((f.keypoints[:, 0] < 150).all() and len(f) for f in orb([rgb, rgb[::-1]], mask=masks))
    with pytest.raises(tp.InvalidInputError, match="fewer masks"):
        orb(iter([rgb, rgb]), mask=[left])
    for masks in ([left], [left] * 3):
        with pytest.raises(tp.InvalidInputError, match=f"{len(masks)} masks? for 2 images: give one"):
            orb([rgb, rgb], mask=masks)


def test_a_folder_of_masks(orb: Any, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    """Each image gets the mask of its name, in every call that takes masks."""
    folder = tmp_path / "masks"
    paths, halves = [], []
    for number, name in enumerate(("left/1.png", "right/1.png", "2.png")):
        half = np.zeros(rgb.shape[:2], np.uint8)
        half[:, (0, 150, 100)[number] : (150, 320, 200)[number]] = 255
        paths.append(tmp_path / "photos" / name)
        mask = folder / (name, f"{name}.png", "2.tif")[number]
        for path, pixels in ((paths[-1], rgb), (mask, half)):
            path.parent.mkdir(exist_ok=True, parents=True)
            Image.fromarray(pixels).save(path)
        halves.append(half)
    expected = [orb(rgb, mask=half) for half in halves]
    several = tp.extract_images(orb, paths, mask=folder)
    for found in (orb(paths, mask=folder), orb(map(str, paths), mask=str(folder)), [one.features for one in several]):
        for one, right in zip(found, expected, strict=True):
            assert one is not None
            same(one, right)
    same(orb(paths[1], mask=folder), expected[1])
    pair = tp.match_images(paths[0], paths[1], extractor=orb, masks=folder)
    same(pair.a, expected[0])
    same(pair.b, expected[1])

    with pytest.raises(tp.InvalidInputError, match=r"masks is a folder, .* names of images: give paths"):
        orb([rgb, rgb], mask=folder)
    (folder / "right" / "1.png.png").rename(folder / "1.png")
    (folder / "left" / "1.png").unlink()
    with pytest.raises(tp.InvalidInputError, match=r"would be the mask of .*left.*1\.png and of .*right.*1\.png"):
        orb(paths, mask=folder)
    (folder / "2.tif").unlink()
    with pytest.raises(tp.ImageError, match=r"no mask of 2\.png in .*masks \(looked for 2\.png, 2\.png\.png and other"):
        orb(paths[1:], mask=folder)
    one, other = tp.extract_images(orb, paths[1:], mask=folder)
    assert one.error is None and "no mask of 2.png" in str(other.error)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_mask_whose_name_is_in_another_unicode_form(form: str, tmp_path: Path) -> None:
    """macOS writes names decomposed, other systems composed: they look the same."""
    masks = tmp_path / "K\u00f6ln"
    masks.mkdir()
    for name in ("K\u00f6ln.jpg.png", "M\u00e4rz.tif"):
        (masks / unicodedata.normalize(form, name)).touch()
    for name, right in (("K\u00f6ln.jpg", "K\u00f6ln.jpg.png"), ("M\u00e4rz.jpg", "M\u00e4rz.tif")):
        for other in ("NFC", "NFD"):
            found = find_mask(masks, unicodedata.normalize(other, name))
            assert found == masks / unicodedata.normalize(form, right)
    assert find_mask(masks, "Koln.jpg") is None


def test_a_mask_that_is_missing_or_of_another_size_is_the_same_kind_of_error(
    rgb: NDArray[np.uint8], tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from tiepoints.cli import cli

    for name in ("a.png", "b.png"):
        Image.fromarray(rgb).save(tmp_path / name)
    (tmp_path / "other").mkdir()
    Image.fromarray(rgb[1:, :, 0]).save(tmp_path / "wide.png")
    a, b = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    for mask, words in (
        ("gone", "gone: no such folder of masks, or mask"),
        ("other", "there is no mask of a.png in"),
        ("wide.png", "320x239 pixels, but the image has 320x240"),
    ):
        for command in (["match", a, b], ["extract", a], ["match", a, b, "--out", str(tmp_path / "m.h5")]):
            result = CliRunner().invoke(cli, [*command, "-e", "orb", "--mask", str(tmp_path / mask)])
            assert result.exit_code == 1 and words in result.stderr, (command, result.stderr)


def test_every_form_of_a_mask(orb: Any, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    left = np.zeros(rgb.shape[:2], np.uint8)
    left[:, :150] = 255
    expected = orb(rgb, mask=left)
    assert len(expected) > 50 and (expected.keypoints[:, 0] < 150).all()
    Image.fromarray(left).save(tmp_path / "m.png")
    Image.fromarray(left // 255).save(tmp_path / "ones.png")
    Image.fromarray(left).convert("RGB").save(tmp_path / "m.jpg", quality=60)
    Image.fromarray(np.dstack([rgb, left])).save(tmp_path / "cut.png")
    blue = np.zeros_like(rgb)
    blue[:, :, 2] = left
    for mask in (
        left > 0, left / 255.0, left.astype(np.int64), blue, np.moveaxis(blue, 2, 0), np.dstack([rgb, left]),
        Image.fromarray(left), tmp_path / "m.png", str(tmp_path / "ones.png"), tmp_path / "cut.png", tmp_path / "m.jpg",
    ):  # fmt: skip
        same(orb(rgb, mask=mask), expected)
    for wrong, message in (
        (left[1:], "320x239 pixels, but the image has 320x240"),
        ("abc", "no such file"),
        ([1], "the mask is"),
    ):
        with pytest.raises(tp.TiepointsError, match=message):
            orb(rgb, mask=wrong)


@pytest.mark.parametrize("form", ["file", "PIL", "array", "read"])
def test_nothing_is_found_where_the_photograph_is_transparent(
    orb: Any, rgb: NDArray[np.uint8], tmp_path: Path, form: str
) -> None:
    alpha = np.zeros(rgb.shape[:2], np.uint8)
    alpha[40:200, 60:260] = 255
    cut = np.dstack([rgb, alpha])
    Image.fromarray(cut).save(tmp_path / "cut.png")
    path = tmp_path / "cut.png"
    found = orb({"file": path, "PIL": Image.fromarray(cut), "array": cut, "read": tp.read(path)}[form])
    x, y = np.rint(found.keypoints).astype(int).T
    assert len(found) > 50 and (alpha[y, x] == 255).all()
    top = np.zeros_like(alpha)
    top[:100] = 1
    assert (orb(cut, mask=top).keypoints[:, 1] < 100).all()


@pytest.mark.parametrize("form", ["hard alpha", "soft alpha", "white, with a mask", "white, a JPEG with a mask"])
@pytest.mark.parametrize("name", ["mdnet", "rootsift", "orb"])
def test_the_outline_of_a_cut_out_has_no_keypoints(
    name: str, form: str, rgb: NDArray[np.uint8], tmp_path: Path
) -> None:
    alpha = np.zeros(rgb.shape[:2], np.uint8)
    cv2.ellipse(alpha, (160, 120), (120, 80), 20, 0, 360, 255, -1)
    inside = cv2.distanceTransform(alpha, cv2.DIST_L2, 5)
    image: Any
    mask = None
    if form.endswith("alpha"):
        image = np.dstack([rgb, cv2.GaussianBlur(alpha, (0, 0), 2) if form == "soft alpha" else alpha])
    else:
        image, mask = np.where(alpha[:, :, None] > 0, rgb, 255).astype(np.uint8), alpha
        if "JPEG" in form:
            Image.fromarray(image).save(tmp_path / "white.jpg", quality=80)
            image = tmp_path / "white.jpg"
    found = tp.load(name)(image, mask)
    x, y = np.rint(found.keypoints).astype(int).T
    # Blurred, the alpha's half may lie a pixel inside or outside of where the hard one ends.
    assert len(found) > 50 and inside[y, x].min() > (5 if form == "soft alpha" else 6)
    assert tp.match_images(image, image, extractor=name).a.keypoints.shape == found.keypoints.shape or mask is not None


def test_a_mask_on_a_whole_photograph_has_no_seam(orb: Any, rgb: NDArray[np.uint8]) -> None:
    mask = np.zeros(rgb.shape[:2], np.uint8)
    mask[40:200, 60:260] = 1
    whole = {tuple(p) for p in tp.load("orb", max_keypoints=20000)(rgb).keypoints.tolist()}
    near = [
        tuple(p) for p in orb(rgb, mask).keypoints.tolist() if min(p[0] - 60, 259 - p[0], p[1] - 40, 199 - p[1]) < 6
    ]
    assert len(near) > 5 and whole.issuperset(near)


def test_single_values_that_are_missing_have_no_seam(orb: Any, rgb: NDArray[np.uint8]) -> None:
    alpha = np.where(np.random.default_rng(0).random(rgb.shape[:2]) < 0.02, 0, 255).astype(np.uint8)
    assert len(orb(np.dstack([rgb, alpha]))) > len(orb(rgb)) / 2


def test_names_and_devices() -> None:
    assert (
        type(tp.load("SIFT")) is type(tp.load("sift"))
        and tp.load("Upright-RootSIFT").metadata.name == "upright-rootsift"
    )
    assert tp.load("orb", device="cpu").device == "cpu"
    with pytest.raises(tp.InvalidInputError, match="device is 'cuda', but orb computes on the CPU only"):
        tp.load("orb", device="cuda")
    with pytest.raises(tp.UnknownExtractorError, match="did you mean 'rootsift'"):
        tp.load("ROOT-SIFT")
    with pytest.raises(tp.InvalidInputError, match="name is 3"):
        tp.load(3)  # type: ignore[arg-type]


def test_a_missing_mask_comes_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "desk_1_mask.png").touch()
    assert str(no_mask("desk_1.jpg", tmp_path)).endswith("; did you mean 'desk_1_mask.png'?")


@pytest.mark.parametrize(
    "values",
    [
        np.uint16([1, 1, 1, 1]),  # nothing is hidden
        np.uint16([65535, 65535, 65535, 65535]),
        np.uint16([0, 1, 26001, 40000]),  # labels of objects
        np.uint16([0, 30000, 30001, 65535]),
        np.float32([0, 1, 7, 9]),
        np.float32([1, 1, 1, 1]),
        np.int32([0, 1, 70000, -9999]),
    ],
)
def test_a_mask_of_more_than_8_bits_hides_where_it_is_0(values: NDArray[Any], tmp_path: Path) -> None:
    """Whatever the other numbers are: none stands for no data, and none is too small beside the others."""
    mask = np.kron(values.reshape(2, 2), np.ones((40, 50), values.dtype))
    names = ["m.tif", "m.png"] if values.dtype == np.uint16 else ["m.tif"]
    for name in names:
        assert cv2.imwrite(str(tmp_path / name), mask)
        np.testing.assert_array_equal(mask_of(tmp_path / name, mask.shape), mask != 0)
        with Image.open(tmp_path / name) as image:
            np.testing.assert_array_equal(mask_of(image, mask.shape), mask != 0)


@pytest.mark.parametrize("form", ["array", "tensor", "channels", "file", "masked", "masked NaN"])
def test_a_mask_hides_where_it_is_not_a_number(form: str, orb: Any, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    left = np.zeros(rgb.shape[:2], np.float32)
    left[:, :150] = 1
    holes = np.where(left == 1, left, np.float32(np.nan))
    mask: Any = holes
    if form == "tensor":
        mask = pytest.importorskip("torch").from_numpy(holes)
    elif form == "channels":
        mask = np.dstack([holes, holes, holes])
    elif form == "file":
        mask = tmp_path / "m.tif"
        assert cv2.imwrite(str(mask), holes)
    elif form.startswith("masked"):
        mask = np.ma.masked_array(np.ones_like(left) if form == "masked" else holes, left == 0)
    np.testing.assert_array_equal(mask_of(mask, left.shape), left == 1)
    same(orb(rgb, mask=mask), orb(rgb, mask=left))


def test_what_a_mask_calls_no_data_is_a_number_like_others(tmp_path: Path) -> None:
    mask = np.repeat(np.uint8([0, 255]), 800).reshape(40, 40)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113], tags.tagtype[42113] = "255", 2  # GDAL_NODATA
    Image.fromarray(mask).save(tmp_path / "m.tif", tiffinfo=tags)
    np.testing.assert_array_equal(mask_of(tmp_path / "m.tif", mask.shape), mask > 0)
