"""Folders of planar scenes on the disk: HPatches and whatever has its layout, with what is missing named.

A sequence is a folder with images ``1.*``, ``2.*`` ... and homographies ``H_1_2`` ... (image 1 to image k, pixel
centres at whole numbers); Oxford's own names ``img1.*`` and ``H1to2p`` are understood too. A folder with ``1.*``,
``2.*`` and ``corrs.txt`` (rows x1 y1 x2 y2) instead is a pair that is judged by its correspondences, as in WxBS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import StorageError
from ..files import PathLike, one_line
from ..images import SUFFIXES

__all__ = ["LARGE", "SEQUENCES", "Pair", "Sequences", "read_sequences"]

Float64 = NDArray[np.float64]

_ILLUMINATION = """
ajuntament autannes bologna books boutique bridger brooklyn castle chestnuts crownday dome duda fenis fog fruits
gonnenberg greenhouse greentea indiana kions ktirio kurhaus leuven lionday lionnight londonbridge melon miniature
nescafe nijmegen nuts objects parking partyfood pinard pool porta resort salon santuario school ski smurf steps table
tools toy troulos veggies village yellowtent zion
"""
_VIEWPOINT = """
abstract adam apprentices azzola bark bees beyus bip bird birdwoman blueprint boat bricks busstop calder cartooncity
charing churchill circus coffeehouse colors courses dirtywall dogman eastsouth feast fest gardens grace graffiti home
laptop london machines man maskedman pomegranate posters samples soldiers strand sunseason tabletop tempera there
underground vitro wall wapping war weapons woman wormhole wounded yard yuri
"""

#: The sequences that the tables are about: 52 of illumination, 56 of viewpoint.
SEQUENCES = frozenset([f"i_{name}" for name in _ILLUMINATION.split()] + [f"v_{name}" for name in _VIEWPOINT.split()])

#: The 8 others: larger than 1600x1200, dropped by D2-Net and everyone since.
LARGE = frozenset(
    ["i_contruction", "i_crownnight", "i_dc", "i_pencils", "i_whitebuilding", "v_artisans", "v_astronautis", "v_talent"]
)

_LARGEST = 1e100  # its square is still a number
_IMAGE = re.compile(r"(?:img)?(\d+)$")
_HOMOGRAPHY = re.compile(r"(?:H_1_(\d+)|H1to(\d+)p)$")


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images and how they are related.

    Parameters
    ----------
    sequence : str
    a, b : str
        Names of the images.
    split : str
        "viewpoint" or "illumination" by HPatches' prefixes, else the name of the folder that holds the sequence.
    homography : (3, 3) float64, optional
        b_from_a.
    correspondences : (C, 4) float64, optional
        x1 y1 x2 y2 of points that a person marked.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.datasets.planar import Pair
    >>> pair = Pair("v_box", "v_box/1.png", "v_box/2.png", "viewpoint", homography=np.eye(3))
    >>> pair.truth.shape
    (3, 3)
    """

    sequence: str
    a: str
    b: str
    split: str
    homography: Float64 | None = None
    correspondences: Float64 | None = None

    @property
    def truth(self) -> Float64:
        """The homography, or the correspondences where there is none."""
        truth = self.correspondences if self.homography is None else self.homography
        assert truth is not None  # a pair has one of them
        return truth


@dataclass(frozen=True, eq=False)
class Sequences:
    """What was found on the disk.

    Parameters
    ----------
    images : mapping
        From an image's name to its file.
    pairs : tuple of Pair
    notes : tuple of str
        What is missing, and what was left out.
    hpatches : int
        How many sequences of HPatches are among them; 108 is all.
    complete : bool
        Whether these are exactly the 108 sequences with all of their 540 pairs.
    damaged : bool
        Whether a pair is left out because its homography or its correspondences cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from tiepoints.datasets.planar import Pair, Sequences
    >>> images = {"v_box/1.png": Path("v_box/1.png"), "v_box/2.png": Path("v_box/2.png")}
    >>> pair = Pair("v_box", *images, "viewpoint", homography=np.eye(3))
    >>> found = Sequences(images, (pair,), notes=(), hpatches=0, complete=False)
    >>> [found.images[pair.b].name for pair in found.pairs]
    ['2.png']
    """

    images: Mapping[str, Path]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
    hpatches: int
    complete: bool
    damaged: bool = False


def read_sequences(roots: PathLike | Sequence[PathLike]) -> Sequences:
    """Find the sequences below one folder or several.

    Parameters
    ----------
    roots : path or sequence of path
        Folders of sequences (at any depth), or sequences themselves.

    Returns
    -------
    sequences : Sequences
        The 8 large sequences of HPatches are left out, and a note says so.

    Raises
    ------
    StorageError
        If a folder does not exist, or holds no sequence, or of none a homography or correspondence file can be read.

    Examples
    --------
    >>> import shutil
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from tiepoints.datasets.planar import read_sequences
    >>> folder = Path("planar/v_box")
    >>> folder.mkdir(parents=True)
    >>> for k in "12":
    ...     _ = shutil.copy("examples/box.png", folder / f"{k}.png")
    >>> np.savetxt(folder / "H_1_2", np.eye(3))
    >>> [(pair.a, pair.b, pair.split) for pair in read_sequences("planar").pairs]
    [('v_box/1.png', 'v_box/2.png', 'viewpoint')]
    """
    folders = (
        [checks.path(roots, "roots")]
        if isinstance(roots, str | Path) or not isinstance(roots, Sequence)
        else [checks.path(root, "root") for root in roots]
    )
    images: dict[str, Path] = {}
    pairs: list[Pair] = []
    notes: list[str] = []
    damaged: list[str] = []
    known: set[str] = set()
    for root in folders:
        found = _sequence_folders(root)
        names = {folder.name for folder in found}
        large = sorted(names & LARGE)
        if large:
            notes.append(
                f"{root}: left out the {len(large)} sequences that the protocol drops as larger than 1600x1200: "
                f"{', '.join(large)}"
            )
        if names & (SEQUENCES | LARGE) and (missing := sorted(SEQUENCES - names)):
            notes.append(
                f"{root}: {len(missing)} of HPatches' {len(SEQUENCES)} sequences are missing: {', '.join(missing)}"
            )
        for folder in found:
            if folder.name in LARGE:
                continue
            if folder.name in SEQUENCES:
                known.add(folder.name)
            _read_sequence(root, folder, len(folders) > 1, images, pairs, notes, damaged)
    if not pairs:
        raise StorageError(
            f"{', '.join(map(str, folders))}: no pair of images is left to judge; " + "; ".join([*notes, *damaged])
        )
    hpatches_only = {pair.sequence.rpartition("/")[2] for pair in pairs} == SEQUENCES
    complete = hpatches_only and len(pairs) == 5 * len(SEQUENCES)
    return Sequences(images, tuple(pairs), (*notes, *damaged), len(known), complete, bool(damaged))


def _sequence_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise StorageError(f"{root}: {'is not a folder' if root.exists() else 'no such folder'}")
    try:
        candidates = [root, *(path for path in root.rglob("*") if path.is_dir())]
        found = sorted(folder for folder in candidates if _truths(folder))
    except OSError as error:
        raise StorageError(f"{root}: cannot be read ({error.strerror or one_line(error)})") from error
    if not found:
        raise StorageError(
            f"{root}: holds no sequence; a sequence is a folder with images 1.*, 2.* ... and homographies H_1_2 ..., "
            "or 1.*, 2.* and corrs.txt"
        )
    return found


def _truths(folder: Path) -> dict[int, Path]:
    """The homography files by the number of the second image; {0: file} for correspondences without homographies."""
    files = [path for path in folder.iterdir() if path.is_file()]
    found = {int(m[1] or m[2]): path for path in files if (m := _HOMOGRAPHY.match(path.name))}
    if not found and (folder / "corrs.txt").is_file():
        return {0: folder / "corrs.txt"}
    return found


def _images_by_number(folder: Path) -> dict[int, Path]:
    """Of several files with one number the first by name counts: .jpg, .png, .ppm of the same image."""
    files = sorted((p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES), reverse=True)
    return {int(m[1]): path for path in files if (m := _IMAGE.match(path.stem))}


def _read_sequence(
    root: Path,
    folder: Path,
    several: bool,
    images: dict[str, Path],
    pairs: list[Pair],
    notes: list[str],
    damaged: list[str],
) -> None:
    inside = folder.relative_to(root).as_posix() if folder != root else folder.name
    sequence = f"{root.resolve().name}/{inside}" if several and folder != root else inside
    by_number, truths = _images_by_number(folder), _truths(folder)
    by_hand = 0 in truths
    wanted = {2} if by_hand else set(truths) | (set(by_number) - {1})
    if folder.name in SEQUENCES:
        wanted = {2, 3, 4, 5, 6}
    if 1 not in by_number:
        notes.append(f"{sequence}: image 1 is missing, and with it all of its pairs")
        return
    split = _split(folder.name, root if folder.parent == folder or folder == root else folder.parent)
    for k in sorted(wanted):
        lacking = [
            what
            for what, present in ((f"image {k}", k in by_number), (f"homography 1-{k}", by_hand or k in truths))
            if not present
        ]
        if lacking:
            notes.append(f"{sequence}: {' and '.join(lacking)} missing, so the pair 1-{k} is not in any mean")
            continue
        names = [f"{sequence}/{by_number[n].name}" for n in (1, k)]
        try:
            truth = _load(truths[0], None) if by_hand else _load(truths[k], (3, 3))
        except StorageError as error:  # one damaged file costs no other pair
            damaged.append(f"{error}; so the pair 1-{k} of {sequence} is not in any mean")
            continue
        images.update(zip(names, (by_number[1], by_number[k]), strict=True))
        told = {"correspondences" if by_hand else "homography": truth}
        pairs.append(Pair(sequence, names[0], names[1], split, **told))


def _split(name: str, parent: Path) -> str:
    return {"v_": "viewpoint", "i_": "illumination"}.get(name[:2]) or parent.resolve().name


def _load(path: Path, shape: tuple[int, int] | None) -> Float64:
    try:
        lines = [line.partition("#")[0] for line in path.read_text(encoding="utf-8").splitlines()]
        values = np.array([line.split() for line in lines if line.strip()], np.float64, ndmin=2)
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: cannot be read as numbers ({one_line(error)})") from error
    usable = bool((np.abs(values) < _LARGEST).all())
    if shape is not None and (values.shape != shape or not usable or _singular(values)):
        raise StorageError(f"{path}: is no homography: an invertible 3 x 3 matrix of finite numbers is expected")
    if shape is None and (values.shape[1:] != (4,) or not usable):
        raise StorageError(f"{path}: holds no correspondences: rows of finite x1 y1 x2 y2 are expected")
    return values


def _singular(matrix: Float64) -> bool:
    return bool(np.linalg.matrix_rank(matrix) < 3)
