"""Downloads from a server on this machine that breaks off, changes its files, lies and refuses."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tiepoints.datasets.catalogue import CATALOGUE, download
from tiepoints.errors import InvalidInputError, StorageError
from tiepoints.fetch import DownloadError, WrongFileError, fetch

CONTENT = random.Random(0).randbytes(700_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content` under any name, and remembers what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag: str | None = '"one"'
        self.ranges = True
        self.break_after: list[int] = []  # bytes after which the next connections end
        self.statuses: list[int] = []  # of the next requests
        self.announced: str | None = None
        self.redirect: str | None = None
        self.asked: list[str | None] = []  # the Range of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        if server.redirect is not None and self.path == "/set.tar.gz":
            self.send_response(302)
            self.send_header("Location", server.redirect)
            if server.announced:
                self.send_header("X-Linked-ETag", f'"{server.announced}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        end = server.break_after.pop(0) if server.break_after else len(server.content)
        self.wfile.write(server.content[start : max(start, end)])


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_download_is_checked_and_pinned(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    first = fetch(server.url, tmp_path / "data", progress=lambda done, total: seen.append((done, total)))
    assert first.path.read_bytes() == CONTENT and first.sha256 == SHA256 and first.checked == "pinned now"
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert names(tmp_path / "data") == ["checksums.json", "set.tar.gz"]
    pins = json.loads((tmp_path / "data" / "checksums.json").read_text(encoding="utf-8"))
    assert pins == {"set.tar.gz": {"sha256": SHA256, "url": server.url}}
    again = fetch(server.url, tmp_path / "data")
    assert again.checked == "pinned" and len(server.asked) == 1, "what is there is checked, not fetched"
    first.path.unlink()
    assert fetch(server.url, tmp_path / "data").checked == "pinned" and len(server.asked) == 2


def test_a_file_that_changed_since_it_was_pinned(server: Server, tmp_path: Path) -> None:
    fetch(server.url, tmp_path).path.unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(WrongFileError, match=rf"{SHA256} \(pinned\) was expected.*checksums\.json"):
        fetch(server.url, tmp_path)
    assert names(tmp_path) == ["checksums.json", "set.tar.gz.wrong"]


def test_a_given_checksum_counts(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WrongFileError, match="given"):
        fetch(server.url, tmp_path, sha256="0" * 64)
    assert names(tmp_path) == ["set.tar.gz.wrong"], "a wrong file is not pinned"
    assert fetch(server.url, tmp_path, sha256=SHA256.upper()).checked == "given"


def test_a_checksum_that_the_host_announces(server: Server, tmp_path: Path) -> None:
    server.redirect, server.announced = "/elsewhere.tar.gz", SHA256
    assert fetch(server.url, tmp_path / "a").checked == "announced by the host"
    server.announced = "0" * 64
    with pytest.raises(WrongFileError, match="announced"):
        fetch(server.url, tmp_path / "b")


def test_connections_that_break_are_continued(server: Server, tmp_path: Path) -> None:
    server.break_after = [100_000, 300_000, 300_000, 600_000]
    assert fetch(server.url, tmp_path, wait=0.001).path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=300000-", "bytes=300000-", "bytes=600000-"]
    assert names(tmp_path) == ["checksums.json", "set.tar.gz"]


def test_a_later_run_goes_on(server: Server, tmp_path: Path) -> None:
    server.break_after = [123_456] * 5
    with pytest.raises(DownloadError, match="run it again to go on"):
        fetch(server.url, tmp_path, wait=0.001)
    assert (tmp_path / "set.tar.gz.part").stat().st_size == 123_456
    server.asked.clear()
    assert fetch(server.url, tmp_path).path.read_bytes() == CONTENT
    assert server.asked == ["bytes=123456-"]


def test_a_complete_part_needs_no_more_bytes(server: Server, tmp_path: Path) -> None:
    server.break_after = [10] * 5
    with pytest.raises(DownloadError):
        fetch(server.url, tmp_path, wait=0.001)
    (tmp_path / "set.tar.gz.part").write_bytes(CONTENT)
    assert fetch(server.url, tmp_path).sha256 == SHA256


@pytest.mark.parametrize("change", ["etag", "no etag", "weak etag", "no ranges", "other address", "longer part"])
def test_parts_of_different_files_are_never_joined(server: Server, tmp_path: Path, change: str) -> None:
    if change in ("no etag", "weak etag"):
        server.etag = None if change == "no etag" else 'W/"one"'
    server.break_after = [123_456] * 5
    with pytest.raises(DownloadError):
        fetch(server.url, tmp_path, wait=0.001)
    url = server.url
    if change == "etag":
        server.content, server.etag = CONTENT[::-1], '"two"'
    elif change == "no ranges":
        server.ranges = False
    elif change == "other address":
        url = url.replace("/set", "/mirror/set")
    elif change == "longer part":
        (tmp_path / "set.tar.gz.part").write_bytes(CONTENT + b"more")
    assert fetch(url, tmp_path).path.read_bytes() == server.content


def test_a_server_that_refuses_every_part(server: Server, tmp_path: Path) -> None:
    server.statuses = [416] * 100
    with pytest.raises(DownloadError, match="416"):
        fetch(server.url, tmp_path)
    assert len(server.asked) == 1


def test_refusals(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(DownloadError, match="404"):
        fetch(server.url, tmp_path)
    assert len(server.asked) == 1, "a missing file is not asked for again"
    server.statuses = [503, 429]
    assert fetch(server.url, tmp_path, wait=0.001).sha256 == SHA256


def test_addresses_that_are_none(tmp_path: Path) -> None:
    for url in ("file:///etc/passwd", "ftp://host/file.zip", "/etc/passwd", "http:///file.zip"):
        with pytest.raises(DownloadError, match="only http and https"):
            fetch(url, tmp_path)
    for url in ("http://127.0.0.1/", "http://127.0.0.1/a/..", "http://127.0.0.1/.hidden", "http://127.0.0.1/a%2Fb"):
        with pytest.raises(DownloadError, match="name of a file"):
            fetch(url, tmp_path)


def test_nobody_listens(tmp_path: Path) -> None:
    with Server() as gone:
        url = gone.url
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch(url, tmp_path, wait=0.001)


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        fetch(server.url, tmp_path / "file")


def test_a_disk_that_is_full(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(StorageError, match="GB are free"):
        fetch(server.url, tmp_path)


def archive(names: list[str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"data"))
    return stream.getvalue()


def test_a_data_set_is_fetched_unpacked_and_known(server: Server, tmp_path: Path) -> None:
    server.content = archive(["hpatches-sequences-release/v_wall/1.ppm"])
    dead = server.url.replace(str(server.server_port), "1")
    seen: list[str] = []
    done = download("hpatches", tmp_path, urls=[dead, server.url], progress=lambda what, *_: seen.append(what))
    assert done.entries == (tmp_path / "hpatches-sequences-release",) and done.url == server.url
    assert (done.entries[0] / "v_wall" / "1.ppm").read_bytes() == b"data"
    assert not done.already_there and done.checked == "pinned now" and {"downloading", "unpacking"} == set(seen)
    assert names(tmp_path) == [".hpatches.complete.json", "checksums.json", "hpatches-sequences-release"]
    again = download("hpatches", tmp_path, urls=[server.url])
    assert again.already_there and again.sha256 == done.sha256 and len(server.asked) == 1


def test_an_archive_that_means_harm_leaves_no_data(server: Server, tmp_path: Path) -> None:
    server.content = archive(["set/good", "../evil"])
    with pytest.raises(StorageError, match="leads out"):
        download("imb", tmp_path / "data", urls=[server.url])
    assert names(tmp_path) == ["data"] and names(tmp_path / "data") == ["checksums.json", "set.tar.gz"]


def test_a_wrong_file_is_no_reason_to_try_the_mirror(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WrongFileError):
        download("imb", tmp_path, urls=[server.url, server.url], sha256="0" * 64)
    assert len(server.asked) == 1


def test_wrong_names(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="hpatches, imb"):
        download("nonsense", tmp_path)
    with pytest.raises(InvalidInputError, match="64 hexadecimal"):
        download("imb", tmp_path, sha256="abc")


def test_the_catalogue() -> None:
    assert {"hpatches", "imb"} <= set(CATALOGUE)
    for name, dataset in CATALOGUE.items():
        assert dataset.name == name and dataset.urls and dataset.terms and dataset.max_bytes > 10**9
        assert dataset.sha256 is None or len(dataset.sha256) == 64
        assert all(
            url.startswith(("http://", "https://")) and url.endswith((".zip", ".tar.gz")) for url in dataset.urls
        )
