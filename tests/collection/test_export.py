"""Exports tell COLMAP what EXIF knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

import tiepoints as tp
from tiepoints.collection import Collection, Extract, Match, Store, Verify, exhaustive, export_colmap, run
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
