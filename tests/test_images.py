"""Whatever a camera, a phone or a scanner wrote is read right, or refused in one line that names the file."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

import tiepoints as tp
from tiepoints.errors import ImageError, InvalidInputError
from tiepoints.images import as_image, find_images, resize_to, to_grey, with_mask


@pytest.fixture
def rgb() -> np.ndarray:
    """(40, 60, 3): a smooth picture without symmetry, so that a wrong turn or swapped channels show."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([4 * x, 6 * y, 2 * x + y], axis=2).astype(np.uint8)


def test_lossless_kinds_come_back_exactly(tmp_path: Path, rgb: np.ndarray) -> None:
    for suffix, options in ((".png", {}), (".tif", {}), (".bmp", {}), (".ppm", {}), (".webp", {"lossless": True})):
        path = tmp_path / f"image{suffix}"
        Image.fromarray(rgb).save(path, **options)
        image = tp.read(path)
        assert image.dtype == np.uint8 and image.flags.c_contiguous
        np.testing.assert_array_equal(image, rgb, err_msg=suffix)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".heic"])
def test_lossy_kinds_come_back_closely(tmp_path: Path, rgb: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if suffix not in Image.registered_extensions():
        pytest.skip(f"this Pillow has no {suffix}")
    Image.fromarray(rgb).save(path, quality=95)
    assert np.abs(tp.read(path).astype(int) - rgb).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_exif_orientation_is_undone(tmp_path: Path, rgb: np.ndarray, orientation: int, suffix: str) -> None:
    # What the sensor delivers when the camera is held so that its file says `orientation` (EXIF 2.3).
    held = {
        1: rgb,
        2: rgb[:, ::-1],
        3: rgb[::-1, ::-1],
        4: rgb[::-1],
        5: rgb.swapaxes(0, 1),
        6: np.rot90(rgb, 1),
        7: rgb[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(rgb, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"image{suffix}"
    Image.fromarray(np.ascontiguousarray(held)).save(path, exif=exif, **({"quality": 98} if suffix != ".tif" else {}))
    image = tp.read(path)
    assert image.shape == rgb.shape
    assert np.abs(image.astype(int) - rgb).mean() < 4
    assert tp.read(path, grey=True).shape == rgb.shape[:2]


def test_grey_is_the_luma_of_rgb_and_rgb_of_grey_repeats_it(tmp_path: Path, rgb: np.ndarray) -> None:
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(tp.read(tmp_path / "rgb.png", grey=True), to_grey(rgb))
    luma = rgb @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    assert np.abs(to_grey(rgb) - luma).max() <= 0.51
    grey = to_grey(rgb)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(tp.read(tmp_path / "grey.png"), np.repeat(grey[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(to_grey(np.repeat(grey[:, :, None], 3, axis=2)), grey)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_told_as_such(value: float) -> None:
    image = np.full((8, 8), 0.5)
    image[2, 3] = value
    with pytest.raises(
        tp.InvalidInputError, match=r"holds NaN or infinity: replace these, .* by np\.nan_to_num\(image"
    ):
        as_image(image)
    assert as_image(np.nan_to_num(image, posinf=1, neginf=0)).shape == (8, 8)
    with pytest.raises(tp.InvalidInputError, match=r"this one in \[0, 200\]: divide it by its largest possible value"):
        as_image(np.array([[0.0, 200.0]]))


def test_what_is_transparent_lies_on_white(tmp_path: Path, rgb: np.ndarray) -> None:
    alpha = np.full(rgb.shape[:2], 255, np.uint8)
    Image.fromarray(np.dstack([rgb, alpha])).save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(tp.read(tmp_path / "opaque.png"), rgb)
    alpha[:20], alpha[20] = 0, 128
    Image.fromarray(np.dstack([rgb, alpha])).save(tmp_path / "half.png")
    half = tp.read(tmp_path / "half.png")
    assert (half[:20] == 255).all()
    np.testing.assert_allclose(half[20], rgb[20] * (128 / 255) + 255 * (127 / 255), atol=1)
    np.testing.assert_array_equal(half[21:], rgb[21:])
    Image.fromarray(np.dstack([rgb[:, :, 0], alpha]), "LA").save(tmp_path / "la.png")
    assert (tp.read(tmp_path / "la.png")[:20] == 255).all()


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[:2], colours[2:] = (255, 0, 0), (0, 128, 0)
    palette = Image.fromarray(colours).quantize(4)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(tp.read(tmp_path / "p.png"), colours)
    red = int(np.asarray(palette)[0, 0])
    palette.save(tmp_path / "t.png", transparency=red)
    np.testing.assert_array_equal(tp.read(tmp_path / "t.png")[0, 0], (255, 255, 255))
    np.testing.assert_array_equal(tp.read(tmp_path / "t.png")[3, 3], (0, 128, 0))
    palette.save(tmp_path / "p.gif")
    np.testing.assert_array_equal(tp.read(tmp_path / "p.gif"), colours)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk(tmp_path: Path, suffix: str) -> None:
    ink = np.zeros((32, 32, 4), np.uint8)
    ink[:, :16] = (0, 255, 255, 0)  # magenta + yellow = red
    Image.fromarray(ink, "CMYK").save(tmp_path / f"cmyk{suffix}")
    image = tp.read(tmp_path / f"cmyk{suffix}").astype(int)
    assert np.abs(image[:, :12] - (255, 0, 0)).max() < 30
    assert np.abs(image[:, 20:] - 255).max() < 30


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_grey_keeps_its_contrast(tmp_path: Path, bits: int) -> None:
    top = 2**bits - 1
    deep = np.linspace(0, top, 64 * 64).reshape(64, 64).astype(np.uint16)
    for suffix in (".png", ".tif"):
        Image.fromarray(deep).save(tmp_path / f"deep{suffix}")
        image = tp.read(tmp_path / f"deep{suffix}", grey=True)
        np.testing.assert_allclose(image, deep / top * 255, atol=1)  # a thousandth is cut off at either end


def test_sixteen_bit_rgb(tmp_path: Path, rgb: np.ndarray) -> None:
    """A 16-bit RGB PNG, written here by hand: Pillow cannot write one."""
    deep = rgb.astype(">u2") * 257
    raw = b"".join(b"\0" + row.tobytes() for row in deep)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", rgb.shape[1], rgb.shape[0], 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(png)
    image = tp.read(tmp_path / "deep.png", value_range=(0, 65535))
    np.testing.assert_allclose(image, rgb, atol=1)
    stretched = tp.read(tmp_path / "deep.png").astype(float)  # the same but for one scale and one offset
    gain, offset = np.polyfit(rgb.ravel(), stretched.ravel(), 1)
    assert np.abs(stretched - (gain * rgb + offset)).mean() < 1


def test_float_tiff(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    for name, values in (("unit", ramp), ("kelvin", 250 + 80 * ramp)):
        Image.fromarray(values).save(tmp_path / f"{name}.tif")
        np.testing.assert_allclose(tp.read(tmp_path / f"{name}.tif", grey=True), ramp * 255, atol=1)
    holes = ramp.copy()
    holes[0, 0], holes[0, 1] = np.nan, np.inf
    Image.fromarray(holes).save(tmp_path / "holes.tif")
    assert tp.read(tmp_path / "holes.tif", grey=True)[0].tolist()[:4] == [0, 0, 0, 1]
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(ImageError, match=r"nan\.tif: no pixel holds a finite number"):
        tp.read(tmp_path / "nan.tif")


def test_one_bit_and_many_pages(tmp_path: Path, rgb: np.ndarray) -> None:
    Image.fromarray(rgb[:, :, 0] > 100).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(tp.read(tmp_path / "bits.png", grey=True), (rgb[:, :, 0] > 100) * 255)
    pages = [Image.fromarray(rgb), Image.fromarray(255 - rgb)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(tp.read(tmp_path / "pages.tif"), rgb)


# -- what cannot be read -------------------------------------------------------------------------------------------


def bomb() -> bytes:
    """A PNG whose header promises 50,000 x 50,000 pixels."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    png = io.BytesIO()
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(png, "PNG")
    data = bytearray(png.getvalue())
    data[16:29] = header
    data[29:33] = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return bytes(data)


def broken_files(rgb: np.ndarray) -> dict[str, bytes]:
    jpeg, png = io.BytesIO(), io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(jpeg, "JPEG")
    Image.fromarray(noise).save(png, "PNG")
    return {
        "truncated.jpg": jpeg.getvalue()[: len(jpeg.getvalue()) // 2],
        "truncated.png": png.getvalue()[: len(png.getvalue()) // 2],
        "header_only.jpg": jpeg.getvalue()[:20],
        "text.jpg": b"this is not a photograph\n",
        "empty.png": b"",
        "bomb.png": bomb(),
    }


@pytest.mark.parametrize("name", list(broken_files(np.zeros((1, 1, 3), np.uint8))))
def test_broken_files_are_named_in_one_line(tmp_path: Path, rgb: np.ndarray, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(broken_files(rgb)[name])
    with pytest.raises(ImageError) as caught:
        tp.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        tp.read(tmp_path / "absent.jpg")
    with pytest.raises(ImageError, match="folder"):
        tp.read(tmp_path)


def test_pixel_limit_is_a_setting(tmp_path: Path, rgb: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"60x40 pixels are more than the limit of 100.*TIEPOINTS_MAX_PIXELS=2400"):
        tp.read(tmp_path / "a.png", max_pixels=100)
    monkeypatch.setenv("TIEPOINTS_MAX_PIXELS", "2399")
    with pytest.raises(ImageError, match="limit"):
        tp.read(tmp_path / "a.png")
    monkeypatch.setenv("TIEPOINTS_MAX_PIXELS", "2400")
    assert tp.read(tmp_path / "a.png").shape == rgb.shape
    monkeypatch.setenv("TIEPOINTS_MAX_PIXELS", "many")
    with pytest.raises(InvalidInputError, match="TIEPOINTS_MAX_PIXELS"):
        tp.read(tmp_path / "a.png")


def test_reading_leaves_pillows_own_limit_alone(tmp_path: Path, rgb: np.ndarray) -> None:
    before = Image.MAX_IMAGE_PIXELS
    (tmp_path / "bomb.png").write_bytes(bomb())
    with pytest.raises(ImageError):
        tp.read(tmp_path / "bomb.png")
    assert before == Image.MAX_IMAGE_PIXELS


@settings(max_examples=150, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM"]))
def test_damaged_bytes_never_escape_as_another_error(
    data: st.DataObject, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3)).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    path = tmp_path_factory.mktemp("fuzz") / "image.jpg"
    path.write_bytes(bytes(content))
    try:
        image = tp.read(path, max_pixels=10**7)
    except ImageError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert image.ndim == 3 and image.dtype == np.uint8


# -- the rest of the floor -----------------------------------------------------------------------------------------


def test_as_image_says_how_to_convert() -> None:
    for values in (np.full((4, 4), 200.0), np.full((4, 4), np.nan), np.full((4, 4), -1.0)):
        with pytest.raises(InvalidInputError, match=r"lies in \[0, 1\]"):
            as_image(values)
    with pytest.raises(InvalidInputError, match=r"scale it to 0\.\.255"):
        as_image(np.zeros((4, 4), np.uint16))
    with pytest.raises(InvalidInputError, match="1, 3 or 4 channels"):
        as_image(np.zeros((5, 5, 5), np.uint8))
    with pytest.raises(InvalidInputError, match="no pixels"):
        as_image(np.zeros((0, 4), np.uint8))
    assert as_image(np.zeros((4, 5, 1), np.uint8)).shape == (4, 5)


def test_resizing_reports_the_scale_of_each_axis(rgb: np.ndarray) -> None:
    small, scale = resize_to(rgb, 17)
    assert small.shape == (11, 17, 3)
    assert scale == (60 / 17, 40 / 11)
    assert resize_to(rgb, 60)[0] is rgb and resize_to(rgb, None)[1] == (1.0, 1.0)


def test_find_images(tmp_path: Path, rgb: np.ndarray) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/2.jpg", "b/1.PNG", "b/c/3.tif", "b/notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    names = [p.relative_to(tmp_path).as_posix() for p in find_images([tmp_path / "b"])]
    assert names == ["b/1.PNG", "b/2.jpg", "b/c/3.tif"]
    assert [p.name for p in find_images([tmp_path / "b" / "*.jpg", tmp_path / "b"])] == ["2.jpg", "1.PNG", "3.tif"]
    with pytest.raises(ImageError, match="no such file"):
        find_images([tmp_path / "absent.jpg"])
    with pytest.raises(ImageError, match="no file fits"):
        find_images([tmp_path / "*.webp"])
    (tmp_path / "none").mkdir()
    with pytest.raises(ImageError, match="no images"):
        find_images([tmp_path / "none"])


@pytest.mark.parametrize("kind", ["avif", "webp"])
def test_a_truncated_photograph_is_not_called_a_video(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    try:
        Image.effect_noise((64, 48), 50).convert("RGB").save(path)
    except (KeyError, ValueError, OSError):
        pytest.skip(f"this Pillow writes no {kind}")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ImageError, match="damaged or truncated"):
        tp.read(path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jpg", b"<!DOCTYPE html><html>404 Not Found</html>", "a page of the web or a drawing"),
        ("a.png", b"\xef\xbb\xbf\n  <svg xmlns='http://www.w3.org/2000/svg'/>", "a page of the web or a drawing"),
        ("a.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        ("a.tif", b"%PDF-1.7\n", "a PDF; convert its pages"),
    ],
)
def test_what_is_no_image_is_called_what_it_is(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(tp.ImageError, match=says):
        tp.read(tmp_path / name)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("https://example.org/a.jpg", "an address of the web: download it first"),
        ("~/a.jpg", "~ is not replaced here"),
        ("examples/desk1.jpg", r"no such file; did you mean 'desk_1.jpg'\?"),
    ],
)
def test_what_helps_where_there_is_no_such_file(
    monkeypatch: pytest.MonkeyPatch, examples: Path, path: str, says: str
) -> None:
    monkeypatch.chdir(examples.parent)
    with pytest.raises(tp.ImageError, match=says):
        tp.read(path)


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3), (3, 48, 64), (48, 64, 1)])
def test_what_a_masked_array_masks_is_not_looked_at(shape: tuple[int, ...]) -> None:
    """As rasterio reads what is without data; the values there may be anything, NaN too."""
    values = np.random.default_rng(0).random(shape, np.float32)
    hidden = np.zeros(shape, bool)
    hidden[(Ellipsis, slice(0, 32)) if shape[0] == 3 else (slice(None), slice(0, 32))] = True
    values[hidden] = np.nan
    pixels, mask = with_mask(np.ma.masked_array(values, hidden))
    assert pixels.shape[:2] == (48, 64) and mask is not None and mask.shape == (48, 64)
    assert not mask[:, :32].any() and mask[:, 32:].all()
    assert with_mask(np.ma.masked_array(np.zeros((48, 64), np.uint8)))[1] is None
    found = tp.load("orb", max_keypoints=200, fast_threshold=1)(np.ma.masked_array(values, hidden))
    assert len(found) == 0 or found.keypoints[:, 0].min() >= 32
