"""What EXIF says about camera and place, believed as far as it fits the picture."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

import tiepoints as tp

WIDTH, HEIGHT = 640, 480


def photograph(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT), orientation: int = 1, **details: object) -> Path:
    """A photograph with EXIF tags: those of the camera by their names in PIL.ExifTags, the rest as given."""
    names = {
        "focal": 0x920A, "focal_35mm": 0xA405, "plane_x": 0xA20E, "plane_unit": 0xA210, "pixel_x": 0xA002,
        "pixel_y": 0xA003, "zoom": 0xA404,
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name, tag in (("make", 0x010F), ("model", 0x0110)):
        if name in details:
            exif[tag] = details.pop(name)
    if "gps" in details:
        exif.get_ifd(0x8825).update(details.pop("gps"))  # type: ignore[call-overload]
    exif.get_ifd(0x8769).update({names[name]: value for name, value in details.items()})
    Image.new("RGB", size, (90, 120, 60)).save(path, exif=exif)
    return path


def test_without_tags_the_focal_length_is_a_guess(tmp_path: Path) -> None:
    camera = tp.Camera.from_exif(photograph(tmp_path / "a.jpg"))
    assert not camera.focal_is_known and camera.params == (1.2 * 640, 319.5, 239.5, 0.0)
    assert tp.Camera.from_exif(tmp_path / "a.jpg", default_focal=2).params[0] == 1280
    for wrong in (0, -1, np.nan, "x", None):
        with pytest.raises(tp.InvalidInputError, match="default_focal"):
            tp.Camera.from_exif(tmp_path / "a.jpg", default_focal=wrong)


def test_the_35_mm_equivalent_is_that_of_the_diagonal(tmp_path: Path) -> None:
    camera = tp.Camera.from_exif(photograph(tmp_path / "a.jpg", focal_35mm=36))
    assert camera.focal_is_known
    np.testing.assert_allclose(np.hypot(640, 480) / 2 / camera.params[0], np.hypot(36, 24) / 2 / 36)


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_camera_and_picture_have_one_frame(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = photograph(tmp_path / f"a{suffix}", (60, 40), orientation, focal_35mm=36)
    for upright in (True, False):
        camera = tp.Camera.from_exif(path, upright=upright)
        assert tp.read(path, upright=upright).shape[1::-1] == (camera.width, camera.height)
    assert (camera.width, camera.height) == (60, 40), "as it is stored"
    assert camera.params[1:3] == (29.5, 19.5)


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_stored_pixels_are_those_that_were_written(tmp_path: Path, suffix: str, orientation: int) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :20], pixels[20:, 40:] = 255, 128
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", exif=exif)
    stored = tp.read(tmp_path / f"a{suffix}", upright=False).astype(int)
    assert stored.shape == pixels.shape and np.abs(stored - pixels).mean() < 3


def test_the_density_of_the_sensor_is_that_of_the_original(tmp_path: Path) -> None:
    canon = {"focal": 50.0, "plane_x": 5184 / (22.3 / 25.4), "plane_unit": 2, "pixel_x": 5184, "pixel_y": 3888}
    for name, size in (("resized", (640, 480)), ("whole", (5184, 3888)), ("turned", (480, 640))):
        camera = tp.Camera.from_exif(photograph(tmp_path / f"{name}.jpg", size, **canon))
        assert camera.focal_is_known
        assert camera.params[0] == pytest.approx(50 / 22.3 * max(size), rel=1e-3), name
    zoomed = tp.Camera.from_exif(photograph(tmp_path / "zoomed.jpg", zoom=2.0, **canon))
    assert zoomed.params[0] == pytest.approx(2 * 50 / 22.3 * 640, rel=1e-3), "of the middle half of the sensor"
    cut = tp.Camera.from_exif(photograph(tmp_path / "cut.jpg", (640, 640), **canon))
    assert not cut.focal_is_known, "a part of the original"
    cut = tp.Camera.from_exif(photograph(tmp_path / "c.jpg", (640, 360), focal_35mm=50, pixel_x=5184, pixel_y=3888))
    assert not cut.focal_is_known
    # Without the original's size, the sensor that follows must be one: 2.75 mm wide there is none.
    del canon["pixel_x"], canon["pixel_y"]
    assert not tp.Camera.from_exif(photograph(tmp_path / "b.jpg", **canon)).focal_is_known
    assert tp.Camera.from_exif(photograph(tmp_path / "w.jpg", (5184, 3888), **canon)).focal_is_known


def test_the_sensor_of_a_known_model(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    tags = {"make": "Canon", "model": "Canon EOS 5D Mark II", "focal": IFDRational(50, 1)}  # 36 mm wide
    camera = tp.Camera.from_exif(photograph(tmp_path / "a.jpg", **tags))
    assert camera.focal_is_known and camera.params[0] == pytest.approx(50 / 36 * 640, rel=0.01)
    unknown = tags | {"model": "no such camera"}
    assert not tp.Camera.from_exif(photograph(tmp_path / "b.jpg", **unknown)).focal_is_known


@pytest.mark.parametrize(
    ("tags", "absurd"),
    [
        ({"focal": IFDRational(0, 0), "plane_x": 5000.0}, False),
        ({"focal": 50.0, "plane_x": IFDRational(1, 0)}, False),
        ({"focal": 50.0, "plane_x": 0.0}, False),
        ({"focal": 50.0, "plane_x": 5000.0, "plane_unit": 9}, False),
        ({"focal": -5.0, "plane_x": 5000.0}, True),
        ({"focal": 1e9, "plane_x": 5000.0}, True),
        ({"focal_35mm": 0}, False),
        ({"focal_35mm": 1}, True),
        ({"focal_35mm": 65000}, True),
        ({"focal": 50.0, "make": "x" * 3000, "model": "\x1b"}, False),
    ],
)
def test_odd_tags_are_no_focal_length(tmp_path: Path, tags: dict[str, object], absurd: bool) -> None:
    with pytest.warns(UserWarning, match=r"a\.jpg.*focal length of .* is ignored") if absurd else nullcontext():
        camera = tp.Camera.from_exif(photograph(tmp_path / "a.jpg", **tags))
    assert not camera.focal_is_known and camera.params[0] == 768


def gps(latitude: float, longitude: float, altitude: float | None = None) -> dict[int, object]:
    def dms(value: float) -> tuple[IFDRational, ...]:
        value = abs(value)
        degrees, minutes = int(value), int(value % 1 * 60)
        seconds = (value - degrees - minutes / 60) * 3600
        return IFDRational(degrees, 1), IFDRational(minutes, 1), IFDRational(round(seconds * 10**6), 10**6)

    tags = {1: "N" if latitude >= 0 else "S", 2: dms(latitude), 3: "E" if longitude >= 0 else "W", 4: dms(longitude)}
    if altitude is not None:
        tags |= {5: b"\1" if altitude < 0 else b"\0", 6: IFDRational(round(abs(altitude) * 100), 100)}
    return tags


def test_positions(tmp_path: Path) -> None:
    for place in ((55.704, 13.194, 86.5), (-33.857, -151.215, -3.25), (0.0, -78.5, None)):
        found = tp.position_from_exif(photograph(tmp_path / "a.jpg", gps=gps(*place)))
        assert found is not None
        np.testing.assert_allclose(found[:2], place[:2], atol=1e-7)
        assert found.altitude == place[2]
    for tags in ({}, gps(0, 0), gps(95, 10), {1: "N"}, gps(10, 20) | {2: (IFDRational(1, 0),) * 3}):
        assert tp.position_from_exif(photograph(tmp_path / "b.jpg", gps=tags)) is None
    nowhere = tp.position_from_exif(photograph(tmp_path / "c.jpg", gps=gps(10, 20) | {6: IFDRational(1, 0)}))
    assert nowhere is not None and nowhere.altitude is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    for call in (tp.read, tp.Camera.from_exif, tp.position_from_exif):
        with pytest.raises(tp.ImageError, match=r"x\.png: not a regular file"):
            call(tmp_path / "x.png")
        with pytest.raises(tp.ImageError, match=r"loop\.png: cannot be read"):
            call(tmp_path / "loop.png")
        for wrong in (None, 3, "", "a\0.png"):
            with pytest.raises(tp.InvalidInputError, match="path"):
                call(wrong)
