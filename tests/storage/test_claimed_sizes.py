"""Sizes that a stranger's file claims: memory is asked for only where the file can hold so much."""

from __future__ import annotations

import io
import resource
import zipfile
from pathlib import Path

import h5py
import pytest

from tiepoints.errors import StorageError
from tiepoints.storage import (
    FeatureReader,
    MatchReader,
    load_features,
    load_matches,
)


@pytest.fixture
def little_memory() -> object:
    """2 GB more than now: what asks for more fails, and does not take the machine down."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), before[1]))
    yield None
    resource.setrlimit(resource.RLIMIT_AS, before)


linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits memory as Linux does")


@linux
def test_sizes_that_hdf5_only_claims(tmp_path: Path, little_memory: object) -> None:
    for name, options in (
        ("sparse", {"shape": (10**9, 2), "chunks": (1000, 2)}),
        ("whole", {"shape": (10**9, 2)}),
        ("packed", {"shape": (10**9, 2), "chunks": (1000, 2), "compression": "gzip"}),
    ):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_group("a").create_dataset("keypoints", dtype="f8", **options)
        with FeatureReader(tmp_path / f"{name}.h5") as reader, pytest.raises(StorageError, match="says that it holds"):
            reader["a"]
        with h5py.File(tmp_path / f"m{name}.h5", "w") as file:
            file.create_group("a/b").create_dataset("matches0", dtype="i4", **options)
        with MatchReader(tmp_path / f"m{name}.h5") as matches, pytest.raises(StorageError, match="says that it holds"):
            matches["a", "b"]


def npy(header: str) -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@linux
@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 2), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-5, 2), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), (",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (True, 2), }",
        "{'descr': '<U1000000000', 'fortran_order': False, 'shape': (2, 2), }",
        "__import__('os')",
    ],
)
def test_headers_of_npz_files(tmp_path: Path, little_memory: object, header: str) -> None:
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        for name in ("indices", "scores", "keypoints"):
            archive.writestr(f"{name}.npy", npy(header) + bytes(32))
    for load in (load_matches, load_features):
        with pytest.raises(StorageError, match=r"m\.npz"):
            load(tmp_path / "m.npz")


@linux
def test_bombs_in_npz_files(tmp_path: Path, little_memory: object) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("indices.npy", "w") as member:
        member.write(npy("{'descr': '|u1', 'fortran_order': False, 'shape': (8388608, 1), }"))
        for _ in range(8):
            member.write(bytes(1 << 20))
    data = bytearray(stream.getvalue())
    at = data.rindex(b"PK\x01\x02") + 24
    data[at : at + 4] = (2**32 - 2).to_bytes(4, "little")  # 4 GB, says the directory
    (tmp_path / "m.npz").write_bytes(data)
    with pytest.raises(StorageError, match=r"m\.npz"):
        load_matches(tmp_path / "m.npz")
