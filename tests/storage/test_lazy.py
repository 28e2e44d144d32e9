"""What importing tiepoints.storage costs, and what it offers."""

from __future__ import annotations

import tiepoints.storage


def test_every_public_name_is_there():
    for name in tiepoints.storage.__all__:
        assert getattr(tiepoints.storage, name).__doc__, name
        assert name in dir(tiepoints.storage)


def test_nothing_heavy_is_imported_before_a_file_is_used(child):
    code = """
import sys
import tiepoints.storage as storage
assert not {"h5py", "pycolmap", "filelock"} & set(sys.modules)
assert all(hasattr(storage, name) for name in storage.__all__)
assert not {"h5py", "pycolmap"} & set(sys.modules)
try:
    storage.nonsense
except AttributeError:
    print("fine")
"""
    out, err = child(code).communicate(timeout=30)
    assert out == "fine\n", err
