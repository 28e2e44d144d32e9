"""`tiepoints bench download` against a server on this machine: each option, an interruption, and what goes wrong."""

from __future__ import annotations

import hashlib
import io
import json
import random
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tiepoints.cli import cli

FOLDER = "hpatches-sequences-release"


def archive() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        info = tarfile.TarInfo(f"{FOLDER}/v_wall/1.ppm")
        info.size = 400_000
        tar.addfile(info, io.BytesIO(random.Random(0).randbytes(info.size)))
    return stream.getvalue()


ARCHIVE = archive()
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves the archive, or a part of one's choice; `stalls` once half of it is sent until it is told to go on."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.stalls = False
        self.go_on = threading.Event()
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(ARCHIVE) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(ARCHIVE) - 1}/{len(ARCHIVE)}")
        self.end_headers()
        half = 2**18 if self.server.stalls else len(ARCHIVE)
        self.wfile.write(ARCHIVE[start:half])
        if self.server.stalls:
            self.server.go_on.wait(60)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.go_on.set()
        running.shutdown()
        thread.join()


def download(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["bench", "download", *map(str, arguments)])


def test_for_people(server: Server, tmp_path: Path) -> None:
    run = download("hpatches", "--to", tmp_path / "new" / "data", "--url", server.url)
    assert run.exit_code == 0 and run.stderr == ""
    data = tmp_path / "new" / "data" / FOLDER
    assert (data / "v_wall" / "1.ppm").stat().st_size == 400_000
    assert not (data.parent / "set.tar.gz").exists(), "the archive is not kept"
    for text in (
        "HPatches full image sequences", "terms: no licence is stated", f"fetched from {server.url}",
        f"SHA-256 {SHA256} (pinned now)", "nothing was known to compare it with", f"wrote {data}",
        f"next: tiepoints bench hpatches --root {data}",
    ):  # fmt: skip
        assert text in run.stdout
    again = download("hpatches", "--to", data.parent, "--url", server.url)
    assert again.exit_code == 0 and "was there already" in again.stdout and len(server.asked) == 1
    assert "wrote" not in again.stdout


def test_for_machines(server: Server, tmp_path: Path) -> None:
    dead = server.url.replace(str(server.server_port), "1")
    options = ("--to", tmp_path, "--url", dead, "--url", server.url, "--sha256", SHA256, "--keep-archive", "--json")
    run = download("imb", *options)
    assert run.exit_code == 0 and run.stderr == ""
    assert json.loads(run.stdout) == {
        "name": "imb", "entries": [str(tmp_path / FOLDER)], "url": server.url, "sha256": SHA256, "checked": "given",
        "already_there": False,
    }  # fmt: skip
    assert (tmp_path / "set.tar.gz").read_bytes() == ARCHIVE
    assert json.loads(download("imb", *options).stdout)["already_there"]


def test_a_checksum_that_does_not_fit(server: Server, tmp_path: Path) -> None:
    run = download("hpatches", "--to", tmp_path, "--url", server.url, "--sha256", "0" * 64)
    assert run.exit_code == 1 and "(given) was expected" in run.stderr and len(run.stderr.splitlines()) == 1
    assert not (tmp_path / FOLDER).exists()
    assert download("hpatches", "--to", tmp_path, "--url", server.url, "--sha256", SHA256).exit_code == 0
    late = download("hpatches", "--to", tmp_path, "--url", server.url, "--sha256", "0" * 64)
    assert late.exit_code == 1 and f"whose SHA-256 is {SHA256}" in late.stderr, (
        "what is there already is no other either"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nonsense"], 2, "hpatches"),
        ([], 2, "hpatches"),
        (["imb", "--url", "file:///etc/passwd"], 1, "only http"),
        (["imb", "--sha256", "abc"], 2, "64 hexadecimal digits"),
        (["imb", "--url", "http://127.0.0.1:1/set.zip"], 1, "cannot be reached"),
        (["imb", "--to", "file", "--url", "http://127.0.0.1:1/set.zip"], 2, "is a file"),
    ],
)
def test_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    run = download(*arguments)
    assert run.exit_code == code, run.output
    assert message in run.stderr and "Traceback" not in run.stderr
    assert code == 2 or len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_while_the_folder_takes_its_place_is_no_dead_end(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    rename = Path.rename

    def killed(path: Path, target: Path) -> None:
        if path.name == FOLDER:
            if when == "after":
                rename(path, target)
            raise KeyboardInterrupt
        rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        assert download("hpatches", "--to", tmp_path, "--url", server.url).exit_code == 1
    run = download("hpatches", "--to", tmp_path, "--url", server.url)
    assert run.exit_code == 0, run.output
    assert (tmp_path / FOLDER / "v_wall" / "1.ppm").stat().st_size == 400_000
    assert len(server.asked) == 1, "the archive was there"


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_an_interrupted_download_goes_on(server: Server, tmp_path: Path) -> None:
    server.stalls = True
    command = [sys.executable, "-m", "tiepoints", "bench", "download", "hpatches", "--to", str(tmp_path)]
    process = subprocess.Popen([*command, "--url", server.url], stderr=subprocess.PIPE, text=True)
    part = tmp_path / "set.tar.gz.part"
    while process.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.splitlines() == ["tiepoints: interrupted; what came is kept, run the same command again to go on"]
    came = part.stat().st_size
    assert 0 < came <= 2**18
    server.stalls = False
    run = download("hpatches", "--to", tmp_path, "--url", server.url)
    assert run.exit_code == 0 and f"SHA-256 {SHA256}" in run.stdout
    assert server.asked == [None, f"bytes={came}-"]
