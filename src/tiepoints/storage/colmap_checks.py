"""What goes into a COLMAP database, checked before COLMAP sees it: it ends the whole process on some mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal as OneOf

import numpy as np

from ..camera import Camera
from ..checks import instance, shown
from ..errors import InvalidInputError, one_line
from ..features import Features, Matches
from ..files import check_name, check_space
from .two_view import Pair, TwoView

_NAMED = 5  # images, in a warning

CameraMode = OneOf["per-image", "per-folder", "single", "equal"]


def why_not(error: BaseException) -> str:
    """What COLMAP, or we, say about an image or a model; with the remedy where its camera's model is not known."""
    reason = one_line(error)
    if "camera model" not in reason.lower():
        return reason
    return (
        f"{reason}: update with `pip install --upgrade pycolmap`, or let the COLMAP that made it undistort the images"
    )


def pair_name(pair: Pair) -> str:
    """A pair among images that are left out.

    >>> pair_name(("a.jpg", "b.jpg"))
    'a.jpg - b.jpg'
    """
    return " - ".join(pair)


def left_out(source: Path | str, failed: Mapping[str, str]) -> str:
    """One line that names the images of a source that cannot be used."""
    name, reason = next(iter(failed.items()))
    others = f", and so are {', '.join(list(failed)[1:_NAMED])}" if len(failed) > 1 else ""
    more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    return f"{source}: {name} is left out: {reason}{others}{more}"


class Space:
    """Asks for room on the disk before each write: COLMAP ends the whole process where there is none.

    SQLite writes everything twice, to its log and at the end to the database; each item takes a page at least.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken = 500_000  # an empty database with its log
        check_space(path, self._taken)

    def take(self, size: int) -> None:
        self._taken += size + 8192
        check_space(self._path, self._taken + 2 * size)


def keeps_descriptors(features: Features) -> bool:
    values = features.descriptors
    return bool(values.dtype == np.float32 and values.shape[1] == 128 and (values >= 0).all())


def shared_by(mode: CameraMode, name: str, camera: Camera) -> Any:
    """What images with one camera have in common."""
    folder = name.rpartition("/")[0]
    return {"per-image": name, "per-folder": folder, "single": "", "equal": camera}[mode]


def check_shared(name: str, camera: Camera, first: Camera, mode: CameraMode) -> None:
    if (camera.width, camera.height) != (first.width, first.height):
        raise InvalidInputError(
            f"{name!r} has {camera.width}x{camera.height} pixels, but others that share its camera have "
            f"{first.width}x{first.height}: use another camera mode than {mode}"
        )


def check_image(name: str, found: Any) -> tuple[Features, Camera]:
    """The features and the camera that stand for an image."""
    check_name(name)
    if not (isinstance(found, tuple | list) and len(found) == 2):
        raise InvalidInputError(f"{name!r} has {shown(found)}, but (Features, Camera) are expected")
    features, camera = instance(found[0], f"what {name!r} has first", Features), found[1]
    instance(camera, f"what {name!r} has second", Camera, "such as Camera.from_exif(PHOTOGRAPH)")
    if features.image_size not in ((0, 0), (camera.width, camera.height)):  # (0, 0): not known
        width, height = features.image_size
        raise InvalidInputError(
            f"the features of {name!r} are of {width}x{height} pixels, its camera has {camera.width}x{camera.height}"
        )
    return features, camera


def check_pair(
    pair: Pair, found: Matches | TwoView, counts: Mapping[str, int], matches: Mapping[Pair, Matches | TwoView]
) -> None:
    a, b = pair
    for name in pair:
        if name not in counts:
            raise InvalidInputError(f"the pair {pair} has matches, but {name!r} is not among the images")
    if a == b or (b, a) in matches:
        raise InvalidInputError(f"the pair {pair} is of one image, or there in both directions")
    for some in (found,) if isinstance(found, Matches) else (found.matches, found.putative):
        if some is not None and len(some):
            last = some.indices.max(axis=0)
            if some.indices.min() < 0 or last[0] >= counts[a] or last[1] >= counts[b]:
                raise InvalidInputError(
                    f"matches of {pair} refer to keypoint {last.tolist()}, but there are {counts[a]} and {counts[b]}"
                )
