"""Where the benchmarks' data are published, and getting them from there onto the disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidInputError
from ..fetch import DownloadError, Fetched, WrongFileError, fetch
from ..files import PathLike, write_whole
from .archives import extract

__all__ = ["CATALOGUE", "Dataset", "Downloaded", "download"]


@dataclass(frozen=True)
class Dataset:
    """Data that others publish.

    Parameters
    ----------
    name, title : str
    urls : tuple of str
        Public addresses of the same archive or the same content; tried in this order.
    sha256 : str or None
        Of the archive, where its publisher states it. None states that nobody does: the first download is then pinned.
    max_bytes : int
        More than it unpacks to.
    terms : str
        Licence, or what is known of it.
    benchmark : str
        The command that uses it.

    Examples
    --------
    >>> from tiepoints.datasets.catalogue import CATALOGUE
    >>> CATALOGUE["hpatches"].title
    'HPatches full image sequences (116 sequences, 1.3 GB)'
    """

    name: str
    title: str
    urls: tuple[str, ...]
    sha256: str | None
    max_bytes: int
    terms: str
    benchmark: str


_UBC = "https://www.cs.ubc.ca/research/kmyi_data/imw2020"

CATALOGUE = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "hpatches",
            "HPatches full image sequences (116 sequences, 1.3 GB)",
            (
                "https://huggingface.co/datasets/vbalnt/hpatches/resolve/main/hpatches-sequences-release.zip",
                "http://icvl.ee.ic.ac.uk/vbalnt/hpatches/hpatches-sequences-release.tar.gz",
            ),
            None,
            6 * 10**9,
            "no licence is stated; a research benchmark: cite Balntas et al., CVPR 2017",
            "hpatches",
        ),
        Dataset(
            "imb",
            "Image Matching Benchmark 2020, the three validation scenes",
            (f"{_UBC}/ValidationData/imw2020-valid.tar.gz",),
            None,
            80 * 10**9,
            "see https://www.cs.ubc.ca/~kmyi/imw2020/data.html; cite Jin et al., IJCV 2021",
            "imb",
        ),
        Dataset(
            "imb-test",
            "Image Matching Benchmark 2020, the test scenes",
            (f"{_UBC}/TestData/imw2020-test.tar.gz",),
            None,
            200 * 10**9,
            "see https://www.cs.ubc.ca/~kmyi/imw2020/data.html; cite Jin et al., IJCV 2021",
            "imb",
        ),
    )
}


@dataclass(frozen=True)
class Downloaded:
    """What `download` did.

    Parameters
    ----------
    dataset : Dataset
    entries : tuple of Path
        The folders and files that hold the data.
    url, sha256, checked : str
        Of the archive; see `Fetched`.
    already_there : bool
        Whether it was complete before.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tiepoints.datasets.catalogue import CATALOGUE, Downloaded
    >>> hpatches = CATALOGUE["hpatches"]
    >>> entries = (Path("data/hpatches-sequences-release"),)
    >>> Downloaded(hpatches, entries, hpatches.urls[0], "0" * 64, "not checked").already_there
    False
    """

    dataset: Dataset
    entries: tuple[Path, ...]
    url: str
    sha256: str
    checked: str
    already_there: bool = False


def download(
    name: str,
    folder: PathLike,
    *,
    urls: Sequence[str] | None = None,
    sha256: str | None = None,
    keep_archive: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Downloaded:
    """Fetch a benchmark's data and unpack them.

    Parameters
    ----------
    name : str
        "hpatches", "imb" (validation scenes) or "imb-test".
    folder : path
        Made if missing. What is complete there already is not fetched again.
    urls : sequence of str, optional
        Mirrors to use instead of the public addresses.
    sha256 : str, optional
        What the archive must have, if you know better than the catalogue.
    keep_archive : bool
        Keep the archive beside what it held.
    progress : callable, optional
        Called as ``progress(what, done, all)`` in bytes; all is 0 where nobody knows.

    Returns
    -------
    downloaded : Downloaded

    Raises
    ------
    InvalidInputError
        If nothing is called so, or the checksum is not one.
    DownloadError
        If none of the addresses works, or the file is not the one that it should be.
    StorageError
        If the disk is full or not writable, or the archive is not to be trusted.

    Examples
    --------
    >>> from tiepoints.datasets.catalogue import download
    >>> download("hpatches", "data").entries    # doctest: +SKIP
    (PosixPath('data/hpatches-sequences-release'),)
    """
    if name not in CATALOGUE:
        raise InvalidInputError(f"no data set is called {name!r}; there are {', '.join(CATALOGUE)}")
    if sha256 is not None and (len(sha256) != 64 or any(c not in "0123456789abcdefABCDEF" for c in sha256)):
        raise InvalidInputError(f"{sha256!r} is no SHA-256: 64 hexadecimal digits are expected")
    dataset, folder = CATALOGUE[name], Path(folder)
    marker = folder / f".{name}.complete.json"
    if (done := _finished(marker, dataset)) is not None:
        if sha256 is not None and sha256.lower() != done.sha256:
            raise WrongFileError(
                f"{done.entries[0]}: is there already, from an archive whose SHA-256 is {done.sha256}, not {sha256}; "
                f"remove it and {marker} to fetch it again"
            )
        return done

    def moving(what: str) -> Callable[[int, int], None] | None:
        return None if progress is None else (lambda done, total: progress(what, done, total))

    url, fetched = _first_that_works(urls or dataset.urls, folder, sha256 or dataset.sha256, moving("downloading"))
    unpacking = moving("unpacking")

    def note(names: list[str]) -> None:
        """Before they take their places: whoever finds all of them with the note knows that they are whole."""
        about = {"entries": names, "url": url, "sha256": fetched.sha256, "checked": fetched.checked}
        write_whole(marker, (json.dumps(about, indent=2) + "\n").encode())

    before = _noted(marker)
    entries = extract(
        fetched.path,
        folder,
        max_bytes=dataset.max_bytes,
        progress=None if unpacking is None else (lambda written: unpacking(written, 0)),
        ready=note,
        ours=before["entries"] if before.get("sha256") == fetched.sha256 else (),
    )
    if not keep_archive:
        fetched.path.unlink(missing_ok=True)
    return Downloaded(dataset, tuple(entries), url, fetched.sha256, fetched.checked)


def _first_that_works(
    urls: Sequence[str], folder: Path, sha256: str | None, progress: Callable[[int, int], None] | None
) -> tuple[str, Fetched]:
    failures = []
    for url in urls:
        try:
            return url, fetch(url, folder, sha256=sha256, progress=progress)
        except WrongFileError:  # not a dead address, after which the next is tried: the user must know  # noqa: PERF203
            raise
        except DownloadError as error:
            failures.append(str(error))
    raise DownloadError("; ".join(failures))


def _noted(marker: Path) -> dict[str, Any]:
    """What an earlier download wrote down; empty if there was none."""
    try:
        about = json.loads(marker.read_text(encoding="utf-8"))
        texts = {name: str(about[name]) for name in ("url", "sha256", "checked")}
        return texts | {"entries": [str(name) for name in about["entries"]]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _finished(marker: Path, dataset: Dataset) -> Downloaded | None:
    """What an earlier download left, if it is all still there."""
    about = _noted(marker)
    entries = tuple(marker.parent / name for name in about.get("entries", ()))
    if not entries or not all(path.exists() for path in entries):
        return None
    return Downloaded(dataset, entries, about["url"], about["sha256"], about["checked"], True)
