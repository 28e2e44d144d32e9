"""The viewer serves a reconstruction to browsers on this machine."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

import pytest

import tiepoints as tp
from tiepoints.collection import Collection
from tiepoints.tasks import Reconstruction

pytest.importorskip("viser", reason="viser is not installed: pip install 'tiepoints[viewer]'")

from tiepoints.tasks.viewer import show

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_points_and_cameras_with_their_photographs_are_served(scene: Reconstruction, photographs: Collection) -> None:
    server = show(scene.folder, photographs, port=free_port())
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.get_port()}/") as page:
            assert page.status == 200 and b"<html" in page.read().lower()
        nodes = server.scene._handle_from_node_name
        cameras = [node for name, node in nodes.items() if name.startswith("/cameras/")]
        assert len(cameras) == scene.registered and all(node.image.ndim == 3 for node in cameras)
        assert 0 < len(nodes["/points"].points) <= scene.points
    finally:
        server.stop()


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(tp.TiepointsError, match="no COLMAP model"):
        show(tmp_path)
