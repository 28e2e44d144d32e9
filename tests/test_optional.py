"""Optional packages: what importing them must not change, and what is said where they are broken."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tiepoints.errors import MissingDependencyError
from tiepoints.optional import require


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_process_with_pycolmap_ends_quietly_when_it_is_told_to() -> None:
    pytest.importorskip("pycolmap", reason="needs the extra sfm")
    program = (
        "import os, signal; from tiepoints.optional import require; require('pycolmap', 'this', 'sfm'); "
        "os.kill(os.getpid(), signal.SIGTERM)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGTERM, b"", b"")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"^this needs the package absent_package: pip install 'tiepoints\[sfm\]'$"),
        ("raise ImportError('DLL load failed')", r"cannot be imported \(DLL load failed\): .*--force-reinstall"),
        ("raise RuntimeError('no backend')", r"cannot be imported \(no backend\): .*--force-reinstall"),
        ("import another_absent_package", r"cannot be imported \(No module named 'another_absent_package'\)"),
    ],
)
def test_what_is_broken_is_not_called_missing(
    content: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "absent_package.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match=words):
        require("absent_package", "this", "sfm")


def test_an_interrupt_while_a_package_is_imported_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (
        "try:\n    raise KeyboardInterrupt\nexcept BaseException as error:\n    raise ImportError('no') from error"
    )
    (tmp_path / "interrupted_package.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        require("interrupted_package", "this", "sfm")
