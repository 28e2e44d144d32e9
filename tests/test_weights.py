"""Weights are found, fetched, checked, refused; licences are accepted once: a real server, real files."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import tiepoints as tp
from tiepoints.weights import WeightFile, accept, accepted, cache_folder, find, obtain, require_consent

CONTENT = b"parameters" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of good.pth and other.pth."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "good.pth").write_bytes(CONTENT)
    (folder / "other.pth").write_bytes(b"another version")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and a folder of the user's own that are empty, and no licence accepted."""
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("TIEPOINTS_WEIGHTS", str(own))
    monkeypatch.setenv("TIEPOINTS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TIEPOINTS_ACCEPT_LICENCE")
    return own


def test_the_users_folder_then_the_cache_then_the_address(server: str, folders: Path) -> None:
    file = WeightFile("net.pth", f"{server}/good.pth", SHA256)
    assert find(file) is None
    fetched = obtain(file)
    assert fetched == cache_folder() / "net.pth" == find(file) and fetched.read_bytes() == CONTENT
    own = folders / "net.pth"
    own.write_bytes(CONTENT)
    assert obtain(file) == own


def test_a_mirror_is_tried_when_an_address_is_gone_or_has_another_file(server: str) -> None:
    mirrors = (f"{server}/other.pth", f"{server}/good.pth")
    assert obtain(WeightFile("net.pth", f"{server}/gone.pth", SHA256, mirrors)).read_bytes() == CONTENT
    with pytest.raises(tp.WeightsError, match=r"404.*holds another file now.*TIEPOINTS_WEIGHTS") as caught:
        obtain(WeightFile("absent.pth", f"{server}/gone.pth", SHA256, mirrors[:1]))
    assert "\n" not in str(caught.value) and not list(cache_folder().glob("*.wrong"))


def test_a_damaged_file_in_the_cache_is_fetched_again(server: str) -> None:
    file = WeightFile("net.pth", f"{server}/good.pth", SHA256)
    obtain(file).write_bytes(CONTENT[:-1])
    assert find(file) is None
    assert obtain(file).read_bytes() == CONTENT


def test_another_version_in_the_users_folder_is_refused(folders: Path) -> None:
    (folders / "net.pth").write_bytes(b"another version")
    with pytest.raises(tp.WeightsError, match=r"net.pth: another version.*weights='"):
        find(WeightFile("net.pth", "", SHA256))


def test_no_network_and_no_address() -> None:
    with pytest.raises(tp.WeightsError, match=r"cannot be fetched.*refused.*put it into a folder"):
        obtain(WeightFile("net.pth", "http://127.0.0.1:9/net.pth", SHA256))
    with pytest.raises(tp.WeightsError, match="not published"):
        obtain(WeightFile("net.pth", "", ""))


def test_the_variable_names_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIEPOINTS_WEIGHTS", "nowhere")
    with pytest.raises(tp.WeightsError, match="TIEPOINTS_WEIGHTS is 'nowhere', which is no folder"):
        find(WeightFile("net.pth", "", SHA256))


def test_consent_is_remembered_or_named_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(tp.LicenceError, match=r"weights of a-net are under X-NC.*weights fetch a-net --accept-licence"):
        require_consent("a-net", "X-NC")
    with pytest.raises(
        tp.LicenceError, match=r"read it at https://a\.net/X, then run .*TIEPOINTS_ACCEPT_LICENCE=X-NC,Y-NC$"
    ):
        require_consent("a-net", "X-NC AND Y-NC", "https://a.net/X")
    monkeypatch.setenv("TIEPOINTS_ACCEPT_LICENCE", "Y-NC, x-nc")
    require_consent("a-net", "X-NC")
    require_consent("a-net", "X-NC AND Y-NC")
    monkeypatch.delenv("TIEPOINTS_ACCEPT_LICENCE")
    accept("X-NC")
    accept("Z-NC")
    assert accepted("X-NC") and accepted("Z-NC") and not accepted("Y-NC")
