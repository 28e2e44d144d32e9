"""The features of many images in an HDF5 file laid out as hloc's, whole or not there.

Layout (hloc, ``extract_features.py``): the group of an image is called like the image, slashes nest; in it are
``keypoints`` N x 2, ``descriptors`` D x N, ``scores`` and ``image_size`` (w, h); tiepoints adds ``sets``, ``scales``
and ``angles`` where there are any. The centre of the top-left pixel is (0, 0), as everywhere in tiepoints.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import InvalidInputError
from ..features import Features
from ..files import PathLike, check_name, forms
from .hdf5 import Reader, Writer
from .npz import OPTIONAL, arrays_of, features_of
from .reading import array_of, linked, set_texts, text_of


class FeatureReader(Reader[str, Features]):
    """The features of many images in an HDF5 file, as a read-only mapping from the image's name.

    Files of hloc are read too: half-precision numbers become float32; scores that are missing become 1, an image size
    that is missing (0, 0), descriptors that are missing (N, 0). Only what is asked for is read.

    Parameters
    ----------
    path : str or path
        The file. Use the reader in a ``with`` block, or call `close`.

    Raises
    ------
    StorageError
        If there is no such file, or it is truncated, not HDF5 or holds no features; on access, if an image's datasets
        are damaged. For an image that is not there, `MissingItemError`, which is a KeyError too.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.storage import FeatureReader, FeatureWriter
    >>> with FeatureWriter("features.h5", overwrite=True) as writer:
    ...     writer.write("box.png", tp.load("rootsift", max_keypoints=50)("examples/box.png"))
    >>> with FeatureReader("features.h5") as reader:
    ...     print(reader.names(), reader["box.png"])
    ['box.png'] Features(50 keypoints, 128-D, image 324x223)
    """

    what = "features"
    marker = "keypoints"

    def names(self) -> list[str]:
        """The images' names, in the file's order (alphabetical in each folder)."""
        return list(self)

    def made_from(self) -> dict[str, str]:
        """From each image's name to the key that its features were written with; '' where there is none.

        Raises
        ------
        StorageError
            If the file is damaged.
        """
        with self._reported():
            return {name: text_of(self._file[name], "key") for name in self}

    def _key(self, name: str) -> str:
        return self._checked(name)

    def _find(self, key: object) -> Any:
        if not isinstance(key, str):
            return None
        try:
            found = (self._at(name) for name in forms(check_name(key)))
            return next((group for group in found if group is not None), None)
        except InvalidInputError:
            return None

    def _value(self, key: str, group: Any) -> Features:
        names = ("keypoints", "descriptors", "scores", "image_size", "rotations", *OPTIONAL)  # others are not ours
        arrays = {name: array_of(linked(group, name), name) for name in names if name in group}
        arrays["keypoints"] = points = arrays["keypoints"].astype(np.float32).reshape(-1, 2)
        descriptors = arrays.get("descriptors")
        arrays["descriptors"] = np.zeros((len(points), 0), np.float32) if descriptors is None else descriptors.T
        arrays.setdefault("scores", np.ones(len(points), np.float32))
        arrays.setdefault("image_size", np.zeros(2, np.int64))
        return features_of(arrays)


class FeatureWriter(Writer[str]):
    """Write the features of many images into one HDF5 file; use it in a ``with`` block.

    The file takes its place when the block ends without an exception; until then, and after an exception or a kill, the
    old file is as before. Work that is to be resumed belongs into a store: `tiepoints.collection`::

        with FeatureWriter("features.h5") as writer:
            for name in names:
                writer.write(name, extract(name))

    An existing file is added to; while that is done, the disk holds it twice.

    Parameters
    ----------
    path : str or path
        The file; its folder is made if missing.
    made_with : str, optional
        What makes these features, such as the extractor and its settings; kept in the file. Adding to a file that was
        made with something else is refused.
    overwrite : bool
        Start from nothing, and replace the file at the end.

    Raises
    ------
    StorageError
        On entering: if another process is writing this file, if what is there is no file of features or was made with
        something else, or if the folder cannot be written. Later: if the file cannot be written, for instance because
        the disk is too small.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.storage import FeatureWriter
    >>> orb = tp.load("orb", max_keypoints=50)
    >>> with FeatureWriter("features.h5", overwrite=True) as writer:
    ...     for name in ("box.png", "desk_1.jpg"):
    ...         writer.write(name, orb(f"examples/{name}"))
    ...     print(len(writer))
    2
    """

    what = "features"

    def __init__(self, path: PathLike, *, made_with: str = "", overwrite: bool = False) -> None:
        super().__init__(path, made_with=made_with, overwrite=overwrite)
        self._names: set[str] = set()
        self._folders: set[str] = set()

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def write(self, name: str, features: Features, *, key: str = "") -> None:
        """Keep the features of an image, in place of those it may have had.

        Parameters
        ----------
        name : str
            The image's path relative to the folder of the images, with slashes.
        features : Features
        key : str, optional
            Tells what they were made from and with; `FeatureReader.made_from` gives it back.

        Raises
        ------
        InvalidInputError
            If the name is empty, absolute, has '..' in it, or is that of a folder that other images are in.
        StorageError
            If the disk is full or not writable.
        """
        check_name(name)
        checks.instance(features, "features", Features, "call an extractor first")
        if name not in self._names:
            inside = next((folder for folder in _folders_of(name) if folder in self._names), None)
            if name in self._folders or inside is not None:
                raise InvalidInputError(
                    f"{name!r} and another image: {inside or name!r} cannot be an image and a folder"
                )
        group = self._append(name, arrays_of(features))
        if key:
            set_texts(group, "key", key)
        self._know(name)

    def _know_old(self) -> None:
        with FeatureReader(self.path) as old:
            self.check_made_with(self.path, old.made_with)
            for name in old:
                self._know(name)

    def _know(self, key: str) -> None:
        self._names.add(key)
        self._folders.update(_folders_of(key))

    def _group(self, key: str) -> str:
        return key

    def _put(self, group: Any, key: str, arrays: dict[str, NDArray[Any]]) -> None:
        super()._put(group, key, {**arrays, "descriptors": arrays["descriptors"].T})


def _folders_of(name: str) -> list[str]:
    """'a/b/c.jpg' -> ['a', 'a/b']."""
    parts = name.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]
