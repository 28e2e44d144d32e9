"""Exports tell COLMAP what EXIF knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

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
