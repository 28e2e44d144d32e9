"""Exports tell COLMAP what EXIF knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

import tiepoints as tp
from tiepoints.collection import Collection, Extract, Match, Store, Verify, exhaustive, export_colmap, run
from tiepoints.collection.orientation import stored_camera, stored_from_upright
from tiepoints.storage import read_colmap


def test_positions_become_pose_priors(tmp_path: Path, examples: Path) -> None:
    pytest.importorskip("pycolmap")
    (tmp_path / "photos").mkdir()
    exif = Image.Exif()
    dms = tuple(IFDRational(value, 1) for value in (55, 42, 18))
    exif.get_ifd(0x8825).update({1: "N", 2: dms, 3: "W", 4: dms, 5: b"\0", 6: IFDRational(172, 2)})
    for name, options in (("a.jpg", {"exif": exif}), ("b.jpg", {})):
        Image.open(examples / f"desk_{1 if name == 'a.jpg' else 2}.jpg").save(tmp_path / "photos" / name, **options)
    photographs = Collection.from_folder(tmp_path / "photos")
    with Store(tmp_path / "work") as store:
        features = run(Extract("orb", max_keypoints=500), photographs, store)
        matches = run(Match(), exhaustive(photographs), store, features)
        views = run(Verify("fundamental"), matches, store, features)
        export_colmap(tmp_path / "c.db", photographs, features, views)
    found = read_colmap(tmp_path / "c.db")
    assert list(found.positions) == ["a.jpg"] and len(found.images) == 2
    latitude, longitude, altitude = found.positions["a.jpg"]
    assert (latitude, longitude, altitude) == pytest.approx((55.705, -55.705, 86.0))


def test_gravity_is_the_prior_that_colmap_makes_itself(tmp_path: Path, examples: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    (tmp_path / "photos").mkdir()
    for orientation in range(9):
        exif = Image.Exif()
        if orientation:
            exif[0x0112] = orientation
        Image.open(examples / "box.png").convert("RGB").save(tmp_path / "photos" / f"{orientation}.jpg", exif=exif)
    photographs = Collection.from_folder(tmp_path / "photos")
    export_colmap(tmp_path / "ours.db", photographs, run(Extract("orb", max_keypoints=50), photographs), {})
    pycolmap.Database.open(str(tmp_path / "theirs.db")).close()
    pycolmap.import_images(str(tmp_path / "theirs.db"), str(tmp_path / "photos"))
    down = {}
    for which in ("ours", "theirs"):
        with pycolmap.Database.open(str(tmp_path / f"{which}.db")) as database:
            names = {image.data_id.id: image.name for image in database.read_all_images()}
            priors = database.read_all_pose_priors()
            down[which] = {names[prior.corr_data_id.id]: tuple(prior.gravity) for prior in priors}
    assert down["ours"] == down["theirs"] and sorted(down["ours"]) == ["1.jpg", "3.jpg", "6.jpg", "8.jpg"]
    assert read_colmap(tmp_path / "ours.db").positions == {}


def test_keypoints_of_turned_photographs_lie_on_the_pixels_that_colmap_reads(tmp_path: Path, examples: Path) -> None:
    """Colours agree to the last level; what is left in a model of JPEG files, some 4 levels, is between the views."""
    pytest.importorskip("pycolmap")
    (tmp_path / "photos").mkdir()
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.open(examples / "box.png").save(tmp_path / "photos" / f"{orientation}.png", exif=exif)
    photographs = Collection.from_folder(tmp_path / "photos")
    features = run(Extract("orb", max_keypoints=50), photographs)
    export_colmap(tmp_path / "c.db", photographs, features, {})
    for name, (there, _) in read_colmap(tmp_path / "c.db").images.items():
        levels = []
        for one, upright in ((features[name], True), (there, False)):
            column, row = np.rint(one.keypoints).astype(int).T
            levels.append(tp.read(tmp_path / "photos" / name, grey=True, upright=upright)[row, column].astype(int))
        assert (levels[0] == levels[1]).mean() > 0.95, name  # a place between two pixels may go to either


# Focal lengths, principal point, and distortion of each model; pixels.
CAMERAS = {
    "SIMPLE_PINHOLE": (500, 310, 250),
    "PINHOLE": (500, 520, 310, 250),
    "SIMPLE_RADIAL": (500, 310, 250, 0.1),
    "RADIAL": (500, 310, 250, 0.1, -0.05),
    "OPENCV": (500, 520, 310, 250, 0.1, -0.05, 0.01, -0.02),
    "FULL_OPENCV": (500, 520, 310, 250, 0.1, -0.05, 0.01, -0.02, 0.01, 0.02, 0.03, 0.01),
    "FOV": (500, 520, 310, 250, 0.3),
    "OPENCV_FISHEYE": (500, 520, 310, 250, 0.1, -0.05, 0.01, -0.01),
    "SIMPLE_RADIAL_FISHEYE": (500, 310, 250, 0.1),
    "RADIAL_FISHEYE": (500, 310, 250, 0.1, -0.05),
    "SIMPLE_DIVISION": (500, 310, 250, -0.1),
    "DIVISION": (500, 520, 310, 250, -0.1),
    "SIMPLE_FISHEYE": (500, 310, 250),
    "FISHEYE": (500, 520, 310, 250),
    "EUCM": (500, 520, 310, 250, 0.6, 1.1),
}


@pytest.mark.parametrize("model", CAMERAS)
def test_a_turned_camera_sees_turned_directions_at_turned_pixels(model: str) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    if not hasattr(pycolmap.CameraModelId, model):
        pytest.skip(f"this COLMAP has no {model}")
    upright = tp.Camera(model, 640, 480, CAMERAS[model])
    directions = np.random.default_rng(0).uniform([-0.4, -0.3, 1], [0.4, 0.3, 1.2], (20, 3))
    pixels = np.asarray(upright.to_pycolmap().img_from_cam(directions)) - 0.5
    for orientation in range(1, 9):
        matrix = stored_from_upright((640, 480), orientation)
        stored = stored_camera(upright, orientation)
        assert (stored.width, stored.height) == ((480, 640) if orientation >= 5 else (640, 480))
        turned = np.c_[directions[:, :2] @ matrix[:2, :2].T, directions[:, 2]]
        found = np.asarray(stored.to_pycolmap().img_from_cam(turned)) - 0.5
        np.testing.assert_allclose(found, pixels @ matrix[:2, :2].T + matrix[:2, 2], atol=1e-6)


def test_a_camera_that_cannot_be_turned_names_its_photograph(tmp_path: Path, examples: Path) -> None:
    pytest.importorskip("pycolmap")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(examples / "box.png").save(tmp_path / "side.png", exif=exif)
    photographs = Collection.from_paths({"side.png": tmp_path / "side.png"})
    prism = (500, 500, 100, 100, *[0.01] * 8)
    given = photographs.with_cameras(tp.Camera("THIN_PRISM_FISHEYE", *photographs["side.png"].header.size, prism))
    features = run(Extract("orb", max_keypoints=50), given)
    with pytest.raises(tp.InvalidInputError, match=r"side\.png: a THIN_PRISM_FISHEYE camera .* rotate the files"):
        export_colmap(tmp_path / "c.db", given, features, {})
