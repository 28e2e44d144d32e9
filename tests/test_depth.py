"""Bit depth, bands, transparency and pixels without data: decided by what a file says and by the bulk of its values."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import tiepoints as tp
from tiepoints.drawing import Picture
from tiepoints.errors import ImageError
from tiepoints.images import as_image, with_mask


@pytest.fixture
def scene(texture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(120, 160) in [0, 1], with many values."""
    small = cv2.resize(texture, (160, 120), interpolation=cv2.INTER_AREA).astype(np.float64)
    smooth = cv2.GaussianBlur(small, (0, 0), 1.0)
    return (smooth - smooth.min()) / np.ptp(smooth)


def tiff(path: Path, array: NDArray, *tags: tuple[int, int, object]) -> Path:
    """A plain TIFF of any type and number of bands, which Pillow could not write."""
    array = np.atleast_3d(array)
    height, width, bands = array.shape
    form = {"u": 1, "i": 2, "f": 3, "c": 6}[array.dtype.kind]
    entries: dict[int, tuple[int, list]] = {
        256: (3, [width]), 257: (3, [height]), 258: (3, [8 * array.itemsize] * bands), 259: (3, [1]),
        262: (3, [2 if bands > 2 else 1]), 273: (4, [0]), 277: (3, [bands]), 278: (4, [height]),
        279: (4, [array.nbytes]), 284: (3, [1]), 339: (3, [form] * bands),
    }  # fmt: skip
    for tag, kind, value in tags:
        entries[tag] = (kind, [*value.encode(), 0]) if isinstance(value, str) else (kind, list(value))
    packed, extra, start = b"", b"", 8 + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        size, code = {2: (1, "B"), 3: (2, "H"), 4: (4, "I")}[kind]
        data = struct.pack(f"<{len(values)}{code}", *values)
        if tag == 273:
            offset_at = len(packed) + 8
        if len(values) * size > 4:
            packed += struct.pack("<HHII", tag, kind, len(values), start + len(extra))
            extra += data + b"\0" * (len(data) % 2)
        else:
            packed += struct.pack("<HHI", tag, kind, len(values)) + data.ljust(4, b"\0")
    at = start + len(extra)
    packed = packed[:offset_at] + struct.pack("<I", at) + packed[offset_at + 4 :]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    path.write_bytes(head + packed + b"\0" * 4 + extra + array.tobytes())
    return path


def levels(image: NDArray[np.uint8]) -> int:
    return len(np.unique(image))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm", ".jp2"])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_colours_keep_their_contrast_as_grey_does(
    tmp_path: Path, scene: NDArray[np.float64], suffix: str, bits: int
) -> None:
    deep = np.rint(scene * (2**bits - 1)).astype(np.uint16)
    path = tmp_path / f"deep{suffix}"
    options = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000] if suffix == ".jp2" else []
    path.write_bytes(cv2.imencode(suffix, np.dstack([deep // 2, deep // 4 * 3, deep]), options)[1].tobytes())  # BGR
    image = tp.read(path)
    assert image.max() == 255 and levels(image) > 240
    red, green, blue = (image[:, :, i].astype(float) for i in range(3))
    assert np.corrcoef(red.ravel(), scene.ravel())[0, 1] > 0.99
    assert red.mean() > green.mean() > blue.mean(), "all channels share one scale"
    assert len(tp.load("rootsift")(image)) > 20


def test_deep_transparency_is_a_mask(tmp_path: Path, scene: NDArray[np.float64]) -> None:
    deep = np.rint(scene * 4095).astype(np.uint16)
    alpha = np.full(deep.shape, 65535, np.uint16)
    alpha[:40] = 0
    for suffix in (".png", ".tif"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(cv2.imencode(suffix, np.dstack([deep, deep, deep, alpha]))[1].tobytes())
        image, mask = tp.read(path, with_mask=True)
        assert mask is not None and not mask[:40].any() and mask[40:].all()
        assert (image[:40] == 255).all() and levels(image[40:]) > 200


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: np.where(np.arange(160) < 30, -9999, x),
        lambda x: np.where(np.arange(160) < 30, -32768, x),
        lambda x: np.where(np.arange(160) < 30, np.float32(-3.4028235e38), x),
        lambda x: np.where(np.arange(160) < 30, np.float32(3.4028235e38), x),
        lambda x: np.where(np.arange(160) < 30, np.nan, x),
        lambda x: np.where(np.arange(160) < 30, -np.inf, x),
        lambda x: np.where(np.arange(160) < 30, 0, x),
    ],
)
def test_nodata_of_elevation_models_is_no_data(tmp_path: Path, scene: NDArray[np.float64], spoil) -> None:
    heights = (1200 + 300 * scene).astype(np.float32)
    Image.fromarray(heights).save(tmp_path / "whole.tif")
    Image.fromarray(spoil(heights).astype(np.float32)).save(tmp_path / "holes.tif")
    whole = tp.read(tmp_path / "whole.tif", grey=True)
    image, mask = tp.read(tmp_path / "holes.tif", grey=True, with_mask=True)
    assert mask is not None and not mask[:, :30].any() and mask[:, 30:].all()
    assert (image[:, :30] == 0).all() and levels(image) > 200
    assert np.abs(image[:, 30:].astype(int) - whole[:, 30:]).max() < 12


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        (np.float32, "-1", -1),
        (np.int16, "-500", -500),
        (np.uint16, "0", 0),
        (np.uint8, "7", 7),
        (np.float32, "nan", np.nan),
    ],
)
def test_gdals_tag_names_the_value(tmp_path: Path, scene: NDArray[np.float64], dtype, text: str, value: float) -> None:
    values = (30 + 200 * scene).astype(dtype)
    values[:, :30] = value
    image, mask = tp.read(tiff(tmp_path / "a.tif", values, (42113, 2, text)), grey=True, with_mask=True)
    assert mask is not None and not mask[:, :30].any() and mask[:, 30:].all() and levels(image) > 150


def test_one_hot_pixel_and_an_offset_change_nothing(tmp_path: Path, scene: NDArray[np.float64]) -> None:
    thermal = np.rint(29315 + 600 * scene).astype(np.uint16)  # 20 to 26 degrees in 1/100 K
    hot, dead_row = thermal.copy(), thermal.copy()
    hot[5, 5], hot[6, 9] = 65535, 0
    dead_row[60] = 65535
    images = {}
    for name, frame in (("plain", thermal), ("hot", hot), ("dead", dead_row)):
        Image.fromarray(frame).save(tmp_path / f"{name}.tif")
        images[name] = tp.read(tmp_path / f"{name}.tif", grey=True).astype(int)
        assert levels(images[name]) > 150 and len(tp.load("rootsift")(images[name].astype(np.uint8))) > 20
    assert np.abs(images["hot"] - images["plain"])[10:].max() <= 2


def test_the_same_scene_does_not_jump_between_frames(tmp_path: Path, scene: NDArray[np.float64]) -> None:
    """Its largest value crosses a power of two, 1, and 0: what a scale by the bits or the sign would jump at."""
    for name, frames in (
        ("bits", [(x * scene).astype(np.uint16) for x in (4090, 4100)]),
        ("unit", [(x * scene).astype(np.float32) for x in (0.999, 1.002)]),
        ("sign", [(scene * 100 + x).astype(np.float32) for x in (0.1, -0.1)]),
        ("int16", [(scene * 1000 + x).astype(np.int16) for x in (1, -1)]),
    ):
        first, second = (tp.read(tiff(tmp_path / f"{name}.tif", frame), grey=True).astype(int) for frame in frames)
        assert np.abs(first - second).max() <= 2, name


def test_frames_can_share_one_scale(tmp_path: Path, scene: NDArray[np.float64]) -> None:
    Image.fromarray((1000 * scene).astype(np.uint16)).save(tmp_path / "a.png")
    image = tp.read(tmp_path / "a.png", grey=True, value_range=(0, 2000))
    np.testing.assert_allclose(image, 127.5 * scene, atol=1)
    for wrong in ((1, 1), (2, 1), (0, np.nan), "ab", (0,), 5):
        with pytest.raises(tp.InvalidInputError, match="value_range"):
            tp.read(tmp_path / "a.png", value_range=wrong)


def test_nearly_uniform_deep_images(tmp_path: Path) -> None:
    for fill in (0, 300, 65535):
        flat = np.full((40, 50), fill, np.uint16)
        Image.fromarray(flat).save(tmp_path / "flat.png")
        assert levels(tp.read(tmp_path / "flat.png")) == 1
    stars = np.zeros((200, 300), np.uint16)
    stars[50, 60], stars[20, 200] = 900, 500
    Image.fromarray(stars).save(tmp_path / "stars.png")
    assert tp.read(tmp_path / "stars.png", grey=True)[50, 60] == 255
    binary = np.zeros((40, 50), np.uint16)
    binary[10:20, 10:20] = 65535
    Image.fromarray(binary).save(tmp_path / "binary.png")
    image, mask = tp.read(tmp_path / "binary.png", grey=True, with_mask=True)
    assert mask is None and set(np.unique(image)) == {0, 255}


def test_unsigned_32_bits(tmp_path: Path, scene: NDArray[np.float64]) -> None:
    image = tp.read(tiff(tmp_path / "a.tif", (2.0e9 + 2.0e9 * scene).astype(np.uint32)), grey=True)
    assert np.corrcoef(image.ravel(), scene.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("low", [0, 30])
@pytest.mark.parametrize("extra", [1, 2])
def test_a_band_that_is_no_mask_hides_nothing(tmp_path: Path, scene: NDArray[np.float64], low: int, extra: int) -> None:
    """The near infrared as the fourth band, which GDAL tags as alpha."""
    rgb = np.rint(np.dstack([scene, scene**2, 1 - scene]) * 255).astype(np.uint8)
    infrared = np.rint(low + (255 - low) * scene).astype(np.uint8)
    path = tiff(tmp_path / "a.tif", np.dstack([rgb, infrared]), (338, 3, [extra]))
    image, mask = tp.read(path, with_mask=True)
    assert mask is None
    np.testing.assert_array_equal(image, rgb)
    deep = tiff(tmp_path / "b.tif", np.dstack([rgb, infrared]).astype(np.uint16) * 16, (338, 3, [extra]))
    image, mask = tp.read(deep, with_mask=True, value_range=(0, 255 * 16))
    assert mask is None
    np.testing.assert_array_equal(image, rgb)


def test_a_real_mask_hides(tmp_path: Path, scene: NDArray[np.float64]) -> None:
    rgb = np.rint(np.dstack([scene] * 3) * 255).astype(np.uint8)
    alpha = np.full(scene.shape, 255, np.uint8)
    alpha[:, :50], alpha[:, 50] = 0, 120
    for path in (tiff(tmp_path / "a.tif", np.dstack([rgb, alpha]), (338, 3, [2])), tmp_path / "a.png"):
        if path.suffix == ".png":
            Image.fromarray(np.dstack([rgb, alpha])).save(path)
        image, mask = tp.read(path, with_mask=True)
        assert mask is not None and (image[:, :50] == 255).all()
        np.testing.assert_array_equal(mask, alpha > 127)
        np.testing.assert_array_equal(image[:, 51:], rgb[:, 51:])
    assert tp.read(tmp_path / "a.png", with_mask=True, upright=False)[1] is not None


def test_premultiplied_colours_are_laid_on_white(tmp_path: Path) -> None:
    """Of colours that are larger than their alpha, which no program should write, white is all that is left."""
    pixels = np.full((40, 50, 4), 255, np.uint8)
    pixels[:, :20] = 0
    pixels[:, 20] = (60, 30, 0, 60)
    pixels[:, 21] = (255, 255, 255, 128)
    image, mask = tp.read(tiff(tmp_path / "a.tif", pixels, (338, 3, [1])), with_mask=True)
    assert mask is not None and not mask[:, :21].any() and mask[:, 21:].all()
    assert (image[:, :20] == 255).all() and (image[:, 21:] == 255).all()
    np.testing.assert_array_equal(image[0, 20], [255, 225, 195])


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.zeros((4, 5, 5), np.uint16), "TIFF of 5 bands of 16 bits"),
        (np.zeros((4, 5, 5), np.uint8), "TIFF of 5 bands of 8 bits"),
        (np.zeros((4, 5, 2), np.uint16), "TIFF of 2 bands of 16 bits"),
        (np.zeros((4, 5), np.float16), "TIFF of 1 band of 16 bits, floating point"),
        (np.zeros((4, 5), np.complex64), "TIFF of 1 band of 64 bits, complex"),
        (np.zeros((4, 5, 4), np.float32), "TIFF of 4 bands of 32 bits, floating point"),
    ],
)
def test_tiffs_that_cannot_be_read_are_named_as_what_they_are(tmp_path: Path, array: NDArray, named: str) -> None:
    with pytest.raises(ImageError, match=rf"a\.tif: {named}, which .*gdal_translate"):
        tp.read(tiff(tmp_path / "a.tif", array))


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "u4", "i8", "f4", "f8"])
def test_whole_numbers_and_floats_of_every_size(tmp_path: Path, scene: NDArray, dtype: str, bands: int) -> None:
    """One picture, in types that Pillow does not know or takes for others."""
    if dtype == "i8" and int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip("64-bit whole numbers want OpenCV 5")
    values = np.rint(scene * 255 - (0 if dtype == "u4" else 128)).astype(dtype)
    if bands == 3:
        if dtype in ("i1", "i4", "u4"):
            pytest.skip("no program writes it")
        values = np.dstack([values, values[::-1], values])
    low, high = float(values.min()), float(values.max())
    picture, mask = tp.read(tiff(tmp_path / "a.tif", values), with_mask=True, value_range=(low, high))
    assert mask is None and picture.shape == (*scene.shape, 3)
    expected = (values.astype(float) - low) / (high - low) * 255
    np.testing.assert_allclose(picture, expected if bands == 3 else np.dstack([expected] * 3), atol=0.6)


def test_a_size_that_no_compression_explains_is_refused(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", np.zeros((4, 5), np.float64))
    data = bytearray(path.read_bytes())
    for tag in (256, 257):
        at = data.index(struct.pack("<HHI", tag, 3, 1)) + 8
        data[at : at + 2] = struct.pack("<H", 16000)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="TIFF of 1 band of 64 bits"):
        tp.read(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.float64, "rgb", "rgb16"])
def test_a_turned_tiff_is_upright_at_every_depth(tmp_path: Path, scene: NDArray, orientation: int, kind) -> None:
    values = np.rint(scene * 255)
    array = values.astype(kind) if not isinstance(kind, str) else np.dstack([values, 255 - values, values])
    array = array.astype({"rgb": np.uint8, "rgb16": np.uint16}[kind]) if isinstance(kind, str) else array
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = np.dstack([values, 255 - values, values]).astype(np.uint8)
    Image.fromarray(plain).save(tmp_path / "plain.png", exif=exif)
    path = tiff(tmp_path / "a.tif", array, (0x0112, 3, [orientation]))
    channel = 1 if isinstance(kind, str) else 0
    for upright in (True, False):
        expected = tp.read(tmp_path / "plain.png", upright=upright)
        image = tp.read(path, upright=upright, value_range=(0, 255))
        assert image.shape == expected.shape
        np.testing.assert_allclose(image[:, :, channel], expected[:, :, channel], atol=1)
    camera = tp.Camera.from_exif(path)
    assert tp.read(path).shape[1::-1] == (camera.width, camera.height)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm", ".jp2"])
def test_damaged_deep_files_raise_our_errors_only(tmp_path: Path, scene: NDArray, suffix: str) -> None:
    deep = np.rint(scene * 4095).astype(np.uint16)
    good = cv2.imencode(suffix, np.dstack([deep, deep // 2, deep // 3]))[1].tobytes()
    rng = np.random.default_rng(len(suffix))
    path = tmp_path / f"deep{suffix}"
    for trial in range(60):
        data = bytearray(good)
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            at = int(at) if trial % 2 else int(at) % 300
            data[at : at + 2] = rng.bytes(2)
        path.write_bytes(data[: int(rng.integers(1, len(data)))] if trial % 5 == 0 else data)
        try:
            image = tp.read(path, max_pixels=10**6)
        except ImageError as error:
            assert str(error).isprintable()
        else:
            assert image.ndim == 3 and image.dtype == np.uint8


def test_deep_planes_are_named_as_what_they_are(tmp_path: Path) -> None:
    """OpenCV would take the planes for interleaved colours, without a word."""
    planes = np.zeros((12, 16, 3), np.uint16)
    with pytest.raises(ImageError, match=r"3 bands of 16 bits in a plane each.*INTERLEAVE=PIXEL"):
        tp.read(tiff(tmp_path / "a.tif", planes, (284, 3, [2])))


def test_a_raw_file_is_not_its_preview(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="raw file"):
        tp.read(tiff(tmp_path / "a.dng", np.zeros((20, 30, 3), np.uint8), (50706, 3, [1, 4])))


def test_pil_images_and_tensors_are_read_as_files_are(tmp_path: Path, scene: NDArray[np.float64]) -> None:
    rgb = np.rint(np.dstack([scene, scene**2, 1 - scene]) * 255).astype(np.uint8)
    plain = Image.fromarray(rgb)
    np.testing.assert_array_equal(as_image(plain), rgb)
    palette = plain.quantize(64)
    np.testing.assert_array_equal(as_image(palette), np.asarray(palette.convert("RGB")))
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in (".jpg", ".tif", ".png"):
        plain.save(tmp_path / f"turned{suffix}", exif=exif)
        with Image.open(tmp_path / f"turned{suffix}") as lazy:
            np.testing.assert_array_equal(as_image(lazy), tp.read(tmp_path / f"turned{suffix}"))
    alpha = np.full(scene.shape, 255, np.uint8)
    alpha[:9] = 0
    pixels, mask = with_mask(Image.fromarray(np.dstack([rgb, alpha])))
    assert mask is not None and not mask[:9].any() and mask[9:].all() and (pixels[:9] == 255).all()
    torch = pytest.importorskip("torch")
    for tensor in (
        torch.from_numpy(rgb),
        torch.from_numpy(rgb).permute(2, 0, 1),
        torch.from_numpy(rgb).permute(2, 0, 1) / 255,
        (torch.from_numpy(rgb).double() / 255).requires_grad_(),
    ):
        np.testing.assert_array_equal(as_image(tensor), rgb)
    assert as_image(torch.zeros(1, 4, 5)).shape == (4, 5)
    for wrong in (
        torch.ones(3, 4, 5) * 2,
        torch.full((4, 5), float("nan")),
        torch.zeros(4, 5, device="meta"),
        None,
        "a\0",
    ):
        with pytest.raises(tp.InvalidInputError):
            with_mask(wrong)


def test_what_is_read_is_an_array_that_notebooks_show(tmp_path: Path) -> None:
    half = np.zeros((40, 50, 4), np.uint8)
    half[:20, :, 3] = 255
    Image.fromarray(half).save(tmp_path / "a.png")
    picture = tp.read(tmp_path / "a.png")
    assert isinstance(picture, Picture) and picture.mask is not None and picture.mask.sum() == 1000
    assert picture[::-1].mask is None, "which no longer fits"
    shown = picture._repr_png_()
    assert shown is not None and shown.startswith(b"\x89PNG")


def test_what_is_read_may_be_written_to(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.png")
    for grey in (True, False):
        tp.read(tmp_path / "a.png", grey=grey)[0, 0] = 1
