"""Downloading a file over HTTP so that an interruption costs nothing and a wrong file is noticed."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import StorageError, TiepointsError
from .files import PathLike, one_line, replacing, sha256_of, write_lock

__all__ = ["DownloadError", "Fetched", "WrongFileError", "fetch"]

_BLOCK = 2**18
_TIMEOUT = 60.0  # seconds without a byte
_ATTEMPTS = 5
_PINS = "checksums.json"

#: Called with the bytes that are there and those of the whole file (0 if the server does not say).
Progress = Callable[[int, int], None]


class DownloadError(TiepointsError, OSError):
    """A file that could not be fetched."""


class WrongFileError(DownloadError):
    """A file that was fetched and is not the one that it should be."""


@dataclass(frozen=True)
class Fetched:
    """A file that was downloaded.

    Parameters
    ----------
    path : Path
    sha256 : str
    checked : str
        What the checksum was compared with: "given", "announced by the host", "pinned" at an earlier download here, or
        "pinned now": nothing was known, and the next download will be compared with this one.
    """

    path: Path
    sha256: str
    checked: str


def fetch(
    url: str,
    folder: PathLike,
    *,
    name: str | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
    wait: float = 1.0,
) -> Fetched:
    """Download a file into a folder, going on where an earlier attempt ended.

    Parameters
    ----------
    url : str
        http or https. What came before an interruption lies in ``<name>.part``; it is continued if the server says that
        the file is still the same one (its ETag, or its date), else it is fetched anew.
    folder : path
        Made if missing.
    name : str, optional
        What the file is called there; by default as at the end of the address.
    sha256 : str, optional
        What the file must have. Without it: what the host announces (Hugging Face does), else the checksum that
        ``checksums.json`` in the folder pinned at the first download.
    progress : callable, optional
    wait : float
        Seconds before the first new attempt after a broken connection; they double each time.

    Returns
    -------
    fetched : Fetched

    Raises
    ------
    DownloadError
        If the address is not HTTP or cannot be reached, the server refuses, or a connection breaks again and again.
    WrongFileError
        If the checksum differs; the file is kept aside as ``<name>.wrong``.
    StorageError
        If the folder cannot be written or lacks the space, or another process downloads the same file.
    """
    folder = Path(folder)
    name = _name(url, name)
    target = folder / name
    with write_lock(target):
        return _fetch(url, folder, name, sha256, progress, wait)


def _fetch(url: str, folder: Path, name: str, sha256: str | None, progress: Progress | None, wait: float) -> Fetched:
    target, part = folder / name, folder / f"{name}.part"
    try:
        announced: str | None = None
        if not target.exists():
            announced = _download(url, part, progress, wait)
        digest = sha256_of(target if target.exists() else part)
        expected, source = _expected(folder, name, sha256, announced)
        if expected is not None and digest != expected:
            wrong = folder / f"{name}.wrong"
            (target if target.exists() else part).replace(wrong)
            _note_of(part).unlink(missing_ok=True)
            raise WrongFileError(
                f"{url}: its SHA-256 is {digest}, but {expected} ({source}) was expected; it is kept as {wrong}. If "
                f"the publisher changed the file, remove its entry from {folder / _PINS}"
            )
        if not target.exists():
            part.replace(target)
        _note_of(part).unlink(missing_ok=True)
        if _pins(folder).get(name) is None:
            _pin(folder, name, digest, url)
        return Fetched(target, digest, source)
    except OSError as error:
        if isinstance(error, TiepointsError):
            raise
        raise StorageError(f"{folder}: cannot be written ({error.strerror or one_line(error)})") from error


def _expected(folder: Path, name: str, given: str | None, announced: str | None) -> tuple[str | None, str]:
    if given is not None:
        return given.lower(), "given"
    if announced is not None:
        return announced, "announced by the host"
    pinned = _pins(folder).get(name)
    return (str(pinned["sha256"]), "pinned") if pinned else (None, "pinned now")


def _name(url: str, name: str | None) -> str:
    parts = urlsplit(url)
    name = name or parts.path.rpartition("/")[2]
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise DownloadError(f"{url}: only http and https addresses can be downloaded")
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]*", name):
        raise DownloadError(f"{url}: does not end in the name of a file")
    return name


def _download(url: str, part: Path, progress: Progress | None, wait: float) -> str | None:
    """Fill `part`; returns the checksum that the host announced, if it did."""
    for attempt in range(_ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        try:
            return _attempt(url, part, progress)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise DownloadError(
                    f"{url}: the server says {error.code} {error.reason}; is the address right?"
                ) from None
            reason = f"{error.code} {error.reason}"
        except urllib.error.URLError as error:
            reason = one_line(error)
            if isinstance(error.reason, ConnectionRefusedError | socket.gaierror):  # no server: waiting will not help
                break
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = one_line(error)
        if part.exists() and part.stat().st_size > before:
            wait = min(wait, 1.0)  # it moves: be patient, not pessimistic
        if attempt + 1 < _ATTEMPTS:
            time.sleep(wait)
            wait *= 2
    raise DownloadError(
        f"{url}: cannot be reached, or the connection breaks ({reason}); what came is kept, run it again to go on"
    )


def _attempt(url: str, part: Path, progress: Progress | None) -> str | None:
    start = part.stat().st_size if part.exists() else 0
    note = _read_json(_note_of(part))
    headers = {"User-Agent": "tiepoints", "Accept-Encoding": "identity"}
    if start and note.get("url") == url and note.get("validator"):
        headers |= {"Range": f"bytes={start}-", "If-Range": str(note["validator"])}
    else:
        start = 0
    redirects = _Redirects()
    opener = urllib.request.build_opener(redirects)
    try:
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)  # noqa: S310 - checked
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing after what is there: it is complete, or from a file that has shrunk
            total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
            if total and int(total[1]) == start:
                return redirects.sha256
            part.unlink(missing_ok=True)
            return _attempt(url, part, progress)
        raise
    with response:
        if response.status != 206:
            start = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink(missing_ok=True)
            raise ConnectionError("the server sent another part of the file than was asked for")
        length = response.headers.get("Content-Length")
        total_bytes = start + int(length) if length and length.isdigit() else 0
        _check_space(part, total_bytes - start)
        validator = _strong(response.headers.get("ETag")) or response.headers.get("Last-Modified")
        with replacing(_note_of(part)) as temporary:
            temporary.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")
        with part.open("ab" if start else "wb") as sink:
            done = start
            while block := response.read(_BLOCK):
                sink.write(block)
                done += len(block)
                if progress is not None:
                    progress(done, total_bytes)
        if total_bytes and done < total_bytes:
            raise ConnectionError(f"the connection ended after {done} of {total_bytes} bytes")
    return redirects.sha256 or _announced(response.headers)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but none from https to http; keeps the checksum that a host announces on the way."""

    sha256: str | None = None

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.sha256 = self.sha256 or _announced(headers)
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise DownloadError(f"{req.full_url}: redirects to {newurl}, which is not encrypted; not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _announced(headers: Any) -> str | None:
    """Hugging Face gives the SHA-256 of large files as X-Linked-ETag."""
    found = re.fullmatch(r'"?([0-9a-fA-F]{64})"?', headers.get("X-Linked-ETag", "") or "")
    return found[1].lower() if found else None


def _strong(etag: str | None) -> str | None:
    """A weak ETag does not promise equal bytes."""
    return None if etag is None or etag.startswith("W/") else etag


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise StorageError(f"{part.parent}: {needed / 1e9:.1f} GB are needed, but {free / 1e9:.1f} GB are free")


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _pins(folder: Path) -> dict[str, Any]:
    pins = _read_json(folder / _PINS)
    return {name: pin for name, pin in pins.items() if isinstance(pin, dict) and "sha256" in pin}


def _pin(folder: Path, name: str, digest: str, url: str) -> None:
    pins = _pins(folder) | {name: {"sha256": digest, "url": url}}
    with replacing(folder / _PINS) as temporary:
        temporary.write_text(json.dumps(pins, indent=2, sort_keys=True) + "\n", encoding="utf-8")
