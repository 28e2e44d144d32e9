"""Files of trained parameters: where they lie, how they get there, what they must be, and consent to their licences.

A file is looked for in the folder that the variable TIEPOINTS_WEIGHTS names, then in the user's cache, then it is
fetched from where its authors publish it. Wherever it comes from, its SHA-256 is compared with the one that is known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import LicenceError, WeightsError
from .files import one_line, replacing, sha256_of

__all__ = [
    "WeightFile",
    "accept",
    "accepted",
    "cache_folder",
    "find",
    "obtain",
    "reading_weights",
    "require_consent",
    "user_folder",
]

#: Names a folder of the user's own that holds weight files.
FOLDER = "TIEPOINTS_WEIGHTS"
#: Licences that are accepted, with commas between them: for containers and clusters, where nothing is remembered.
ACCEPTED = "TIEPOINTS_ACCEPT_LICENCE"

_REMEMBERED = "accepted-licences.json"


@dataclass(frozen=True)
class WeightFile:
    """A file of trained parameters: where it comes from, and the checksum it must have.

    Parameters
    ----------
    name : str
        What it is called here, in the cache and in the user's folder.
    url : str
        Where its authors publish it. Empty where nobody does: then it is used from the user's folder only.
    sha256 : str
        64 hexadecimal digits. Empty where it is not known: then it is used from the user's folder only, unchecked.
    mirrors : tuple of str
        Further addresses of the same bytes.

    Examples
    --------
    >>> from tiepoints.extraction import metadata_of
    >>> file = metadata_of("xfeat").weights[0]
    >>> file.name, len(file.sha256)
    ('xfeat.pt', 64)
    """

    name: str
    url: str
    sha256: str
    mirrors: tuple[str, ...] = ()


def user_folder() -> Path | None:
    """The folder that TIEPOINTS_WEIGHTS names, or None.

    Raises
    ------
    WeightsError
        If the variable names something that is no folder.
    """
    named = os.environ.get(FOLDER)
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise WeightsError(
            f"{FOLDER} is {named!r}, which is no folder: name the one that holds the weights, or unset it"
        )
    return folder


def cache_folder() -> Path:
    """Where fetched weights are kept: ``weights`` in TIEPOINTS_CACHE, else in the user's cache folder."""
    if setting := os.environ.get("TIEPOINTS_CACHE"):
        return Path(setting) / "weights"
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "tiepoints" / "weights"


def find(file: WeightFile) -> Path | None:
    """Where the file lies on this machine, or None; a damaged one in the cache counts as absent.

    Raises
    ------
    WeightsError
        If the user's folder holds another file by that name: another version, or a damaged one.
    """
    own = user_folder()
    if own is not None and (own / file.name).is_file():
        path = own / file.name
        if file.sha256 and _digest(path) != file.sha256:
            raise WeightsError(
                f"{path}: another version of the weights, or a damaged one (its SHA-256 is {_digest(path)[:12]}..., "
                f"{file.sha256[:12]}... was expected): remove it, and the known one is fetched; or, where the method "
                f"takes weights, load it deliberately with weights={str(path)!r}"
            )
        return path
    path = cache_folder() / file.name
    return path if path.is_file() and file.sha256 and _digest(path) == file.sha256 else None


def obtain(file: WeightFile, *, progress: Callable[[int, int], None] | None = None) -> Path:
    """The file's path, after fetching it into the cache if it is nowhere on this machine.

    Parameters
    ----------
    file : WeightFile
    progress : callable, optional
        Called with the bytes that are there and those of the whole file.

    Raises
    ------
    WeightsError
        If the file cannot be had: nobody publishes it, no address answers, or what came is another file.
    """
    path = find(file)
    if path is not None:
        return path
    if reason := never_fetched(file):
        raise WeightsError(reason)
    folder = cache_folder()
    addresses = [address for address in (file.url, *file.mirrors) if address]
    target = folder / file.name
    target.unlink(missing_ok=True)  # find() refused it
    reasons = []
    for address in addresses:
        path, reason = _try(address, file, folder, progress)
        if path is not None:
            return path
        reasons.append(reason)
    raise WeightsError(f"{file.name} cannot be fetched: {'; '.join(reasons)}; {_by_hand(file)}")


def never_fetched(file: WeightFile) -> str:
    """Why the file comes from the user's folder only, and how it gets there; empty if it can be fetched."""
    if file.sha256 and (file.url or any(file.mirrors)):
        return ""
    if file.url:
        return (
            f"{file.name} is not fetched, because its checksum is not known: download {file.url} into a folder, and "
            f"name that in {FOLDER}"
        )
    return f"{file.name} is not published where tiepoints could fetch and check it: {_by_hand(file)}"


def _by_hand(file: WeightFile) -> str:
    return f"get it by other means, put it into a folder as {file.name}, and name that folder in {FOLDER}"


def _try(
    address: str, file: WeightFile, folder: Path, progress: Callable[[int, int], None] | None
) -> tuple[Path | None, str]:
    """The file from one address, or why not."""
    from .fetch import DownloadError, WrongFileError, fetch  # with all that speaks HTTP, which a match needs none of

    try:
        return fetch(address, folder, name=file.name, sha256=file.sha256, progress=progress).path, ""
    except WrongFileError:
        (folder / f"{file.name}.wrong").unlink(missing_ok=True)
        return None, f"{address} holds another file now"
    except DownloadError as error:
        return None, one_line(error).partition(";")[0]


@contextmanager
def reading_weights(path: Path, what: str, *, optional: bool = True) -> Iterator[None]:
    """Say in one line what is wrong with a file whose tensors are read and loaded in the ``with`` block.

    Parameters
    ----------
    path : Path
    what : str
        Whose weights they should be.
    optional : bool
        Whether the user may name another file, by the option `weights`.

    Raises
    ------
    WeightsError
        If the file is missing, cannot be read as weights, or holds those of another network.
    """
    remedy = f"put a file of {what} there" + ", or name another one with `weights`" * optional
    try:
        yield
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file; {remedy}") from None
    except IsADirectoryError:
        raise WeightsError(f"{path}: is a folder; {remedy}") from None
    except EOFError:
        raise WeightsError(f"{path}: is empty or truncated; {remedy}") from None
    except Exception as error:  # whatever foreign bytes make torch's reader raise
        text = one_line(error)
        if "PytorchStreamReader" in text or "unexpected EOF" in text:
            problem = "is truncated or damaged"
        elif "Weights only load failed" in text:  # torch goes on to recommend reading it unsafely
            problem = "is no file of tensors, or holds more than tensors, which is not read"
        elif isinstance(error, KeyError):
            problem = f"holds no weights of {what} (it has no entry {text})"
        elif isinstance(error, RuntimeError | TypeError | AttributeError):
            problem = f"holds no weights of {what} ({text if len(text) < 160 else f'{text[:157]}...'})"
        else:
            problem = f"cannot be read as weights of {what} ({text if len(text) < 160 else f'{text[:157]}...'})"
        raise WeightsError(f"{path}: {problem}; {remedy}") from None


def accepted(licence: str) -> bool:
    """Whether the user has accepted a licence: remembered in the cache folder, or named in TIEPOINTS_ACCEPT_LICENCE.

    Of several with AND between them, each must be.
    """
    named = {part.strip().lower() for part in os.environ.get(ACCEPTED, "").split(",")}
    remembered = _remembered()
    return all(each.lower() in named or each in remembered for each in licence.split(" AND "))


def accept(licence: str) -> None:
    """Remember that this user accepts a licence, given by its identifier.

    Raises
    ------
    StorageError
        If the cache folder cannot be written.
    """
    known = _remembered()
    wanted = known | set(licence.split(" AND "))
    if wanted != known:
        with replacing(cache_folder() / _REMEMBERED) as temporary:
            temporary.write_text(json.dumps(sorted(wanted), indent=2) + "\n", encoding="utf-8")


def require_consent(method: str, licence: str, url: str = "") -> None:
    """Nothing, if the user has accepted the licence of a method's weights.

    Parameters
    ----------
    method : str
    licence : str
        Its identifier, or several with AND between them.
    url : str
        Where it can be read, if that is known.

    Raises
    ------
    LicenceError
        If not; the message names the licence and the command that accepts it.
    """
    if not accepted(licence):
        read = f"to accept it, read it at {url}, then" if url else "to accept it,"
        raise LicenceError(
            f"the weights of {method} are under {licence}, which does not allow commercial use: {read} run "
            f"`tiepoints weights fetch {method} --accept-licence`, or set {ACCEPTED}={licence.replace(' AND ', ',')}"
        )


def _remembered() -> set[str]:
    try:
        content = json.loads((cache_folder() / _REMEMBERED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return {str(each) for each in content} if isinstance(content, list) else set()


_digests: dict[tuple[str, int, int], str] = {}


def _digest(path: Path) -> str:
    """The file's SHA-256; computed once while its size and date stay."""
    try:
        facts = path.stat()
        key = (str(path), facts.st_size, facts.st_mtime_ns)
        if key not in _digests:
            _digests[key] = sha256_of(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or one_line(error)})") from error
    return _digests[key]
