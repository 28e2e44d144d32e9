"""One image's features, or one pair's matches, in a NumPy .npz file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from ..errors import InvalidInputError, StorageError
from ..features import Features, Matches
from ..files import PathLike, one_line, replacing
from .reading import check_regular, reading, unpacked

#: The fields of Features that may be missing.
OPTIONAL = ("sets", "scales", "angles", "uncertainties")


def save_features(path: PathLike, features: Features) -> None:
    """Write the features of one image to an .npz file, exactly; the old file stays whole until the new one is.

    The arrays are called as in `Features`: ``keypoints``, ``descriptors``, ``scores``, ``image_size`` [w, h], and where
    present ``sets``, ``scales``, ``angles``, ``uncertainties``, ``rotations``; units and the pixel-centre convention
    are those of `Features`.

    Parameters
    ----------
    path : str or path
        Folders above it are made.
    features : Features

    Raises
    ------
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> import tiepoints as tp
    >>> features = tp.load("orb", max_keypoints=10)("examples/box.png")
    >>> tp.storage.save_features("box.npz", features)
    >>> tp.storage.load_features("box.npz")
    Features(10 keypoints, 256 bits, image 324x223)
    """
    _save(path, arrays_of(checks.instance(features, "features", Features, "call an extractor first")))


def load_features(path: PathLike) -> Features:
    """Read what `save_features` wrote.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    features : Features

    Raises
    ------
    StorageError
        If there is no such file, or it is truncated or holds something else.

    Examples
    --------
    >>> import tiepoints as tp
    >>> tp.storage.save_features("box.npz", tp.load("orb", max_keypoints=10)("examples/box.png"))
    >>> len(tp.storage.load_features("box.npz"))
    10
    """
    arrays = _load(path, "features")
    try:
        return features_of(arrays)
    except (KeyError, InvalidInputError) as error:
        raise _not_these(path, "features", error) from error


def save_matches(
    path: PathLike,
    matches: Matches,
    *,
    points_a: ArrayLike | None = None,
    points_b: ArrayLike | None = None,
    inliers: ArrayLike | None = None,
    model: ArrayLike | None = None,
) -> None:
    """Write the matches of one pair to an .npz file, with what else is known about the pair.

    Parameters
    ----------
    path : str or path
        The file; the old one stays whole until the new one is.
    matches : Matches
        Written as ``indices`` (M, 2) int32 and ``scores`` (M,) float32.
    points_a, points_b : (M, 2), optional
        [x, y] of the matched keypoints in both images, pixels, pixel-centre convention; float32.
    inliers : (M,) bool, optional
        Which matches agree with the model.
    model : (3, 3), optional
        Fundamental matrix, essential matrix or homography from a to b; float64.

    Raises
    ------
    InvalidInputError
        If one of the optional arrays does not have the shape above.
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> import tiepoints as tp
    >>> tp.storage.save_matches("pair.npz", tp.Matches([[0, 4], [3, 1]], [0.9, 0.8]))
    >>> tp.storage.load_matches("pair.npz")
    Matches(2)
    """
    checks.instance(matches, "matches", Matches)
    arrays: dict[str, NDArray[Any]] = {"indices": matches.indices, "scores": matches.scores}
    count = len(matches)
    for name, value, dtype, shape in (
        ("points_a", points_a, np.float32, (count, 2)),
        ("points_b", points_b, np.float32, (count, 2)),
        ("inliers", inliers, np.bool_, (count,)),
        ("model", model, np.float64, (3, 3)),
    ):
        if value is None:
            continue
        array = np.asarray(value, dtype=dtype)
        if array.shape != shape:
            raise InvalidInputError(f"{name} has shape {array.shape}, but {shape} is expected for {count} matches")
        arrays[name] = array
    _save(path, arrays)


def load_matches(path: PathLike) -> Matches:
    """Read the matches that `save_matches` wrote; ``numpy.load`` gives the other arrays of the file.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    matches : Matches

    Raises
    ------
    StorageError
        If there is no such file, or it is truncated or holds something else.

    Examples
    --------
    >>> import tiepoints as tp
    >>> tp.storage.save_matches("pair.npz", tp.Matches([[0, 4], [3, 1]], [0.9, 0.8]))
    >>> tp.storage.load_matches("pair.npz").indices.tolist()
    [[0, 4], [3, 1]]
    """
    arrays = _load(path, "matches")
    try:
        return Matches(arrays["indices"], arrays["scores"])
    except (KeyError, InvalidInputError) as error:
        raise _not_these(path, "matches", error) from error


def arrays_of(features: Features) -> dict[str, NDArray[Any]]:
    """The fields of features as named arrays, without those that are None."""
    arrays: dict[str, NDArray[Any]] = {
        "keypoints": features.keypoints,
        "descriptors": features.descriptors,
        "scores": features.scores,
        "image_size": np.array(features.image_size, dtype=np.int64),
    }
    arrays.update({name: value for name in OPTIONAL if (value := getattr(features, name)) is not None})
    if features.rotations > 1:
        arrays["rotations"] = np.array([features.rotations], dtype=np.int64)
    return arrays


def features_of(arrays: Mapping[str, NDArray[Any]]) -> Features:
    """The inverse of `arrays_of`; KeyError or InvalidInputError where the arrays are no features."""
    size = np.asarray(arrays["image_size"]).ravel()
    if size.shape != (2,) or size.dtype.kind not in "iuf" or not np.isfinite(size).all():
        raise InvalidInputError(f"image_size is {size.tolist()}, but [width, height] is expected")
    rotations = np.asarray(arrays.get("rotations", 1)).ravel()
    if len(rotations) != 1:
        raise InvalidInputError(f"rotations are {rotations.tolist()}, but one number is expected")
    return Features(
        keypoints=arrays["keypoints"],
        descriptors=arrays["descriptors"],
        scores=arrays["scores"],
        image_size=(size[0].item(), size[1].item()),
        rotations=rotations[0].item(),
        **{name: arrays[name] for name in OPTIONAL if name in arrays},
    )


def write_arrays(stream: IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> None:
    """The arrays in .npz format. Not compressed: descriptors hardly shrink, and it would take most of the time."""
    named: dict[str, Any] = dict(arrays)
    np.savez(stream, **named)


def _save(path: PathLike, arrays: Mapping[str, NDArray[Any]]) -> None:
    with replacing(checks.path(path, "path")) as temporary:
        try:
            with temporary.open("xb") as stream:
                write_arrays(stream, arrays)
        except OSError as error:
            raise StorageError(f"{path}: cannot be written ({error.strerror or one_line(error)})") from error


def _load(path: PathLike, what: str) -> dict[str, NDArray[Any]]:
    path = checks.path(path, "path")
    check_regular(path)
    with reading(path, layout=f"holds no {what}"), path.open("rb") as stream:
        return unpacked(stream)


def _not_these(path: PathLike, what: str, error: BaseException) -> StorageError:
    reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) and error.args else one_line(error)
    return StorageError(f"{path}: holds no {what}, or is truncated ({reason}); write it again")
