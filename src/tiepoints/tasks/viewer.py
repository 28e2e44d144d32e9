"""A reconstruction in the browser: its points, cameras and photographs, by viser."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import checks
from ..checks import count
from ..collection import Collection
from ..errors import TiepointsError, counted
from ..files import PathLike, one_line
from ..optional import require
from ..storage.colmap_model import load_model
from .page import points_of

__all__ = ["show"]

_POINTS = 1_000_000  # that are drawn; a browser turns so many without stutter
_EDGE = 320  # pixels of the photographs' long edge


def show(folder: PathLike, photographs: Collection | None = None, *, host: str = "127.0.0.1", port: int = 8080) -> Any:
    """Serve a reconstruction to a browser, until the server that is returned is stopped.

    Parameters
    ----------
    folder : path
        What `reconstruct` made, or a COLMAP model of any program.
    photographs : Collection, optional
        Shown inside the cameras of the same names.
    host : str
        Where the server listens; by default only this machine can reach it. ``"0.0.0.0"`` lets everybody in.
    port : int
        The next free one is taken if it is not.

    Returns
    -------
    server : viser.ViserServer
        ``server.get_port()`` tells the port.

    Raises
    ------
    MissingDependencyError
        Without viser.
    TiepointsError
        If there is no model in the folder, or the server cannot start.

    Examples
    --------
    >>> from tiepoints.tasks.viewer import show
    >>> server = show("scene/")    # doctest: +SKIP
    >>> server.stop()              # doctest: +SKIP
    """
    viser = require("viser", "the 3D viewer", "viewer")
    count(port, "port", least=1, most=65535)
    path = checks.path(folder, "folder")
    model = load_model(path / "sparse" / "0" if (path / "sparse" / "0").is_dir() else path)
    if not model.num_reg_images():
        raise TiepointsError(f"{path}: this model has no cameras, so there is nothing to show")
    points, colours, middle, size = points_of(model, _POINTS)
    images = sorted((model.image(i) for i in model.reg_image_ids()), key=lambda image: str(image.name))
    try:
        server = viser.ViserServer(host=host, port=port, verbose=False)
    except OSError as error:
        raise TiepointsError(f"the viewer cannot listen on {host}:{port} ({one_line(error)})") from error
    poses = [image.cam_from_world().inverse() for image in images]
    up = -np.mean([pose.rotation.matrix()[:, 1] for pose in poses], axis=0)  # y of a camera points down
    if np.linalg.norm(up) > 1e-6:
        server.scene.set_up_direction(tuple(up / np.linalg.norm(up)))
    server.scene.add_point_cloud("/points", points=points, colors=colours, point_size=0.005)
    for number, (image, pose) in enumerate(zip(images, poses, strict=True)):
        camera = model.camera(image.camera_id)
        x, y, z, w = pose.rotation.quat
        frustum = server.scene.add_camera_frustum(
            f"/cameras/{number}", fov=2 * math.atan(camera.height / 2 / camera.mean_focal_length()),
            aspect=camera.width / camera.height, scale=0.08, image=_picture(photographs, image.name),
            wxyz=(w, x, y, z), position=tuple((pose.translation - middle) / size),
        )  # fmt: skip
        frustum.on_click(_go_there)
    behind = poses[0].rotation.matrix()[:, 2] * -0.3
    server.initial_camera.position = tuple((poses[0].translation - middle) / size + behind)
    server.initial_camera.look_at = (0.0, 0.0, 0.0)
    told = f"{counted(len(images), 'photograph')}, {counted(model.num_points3D(), 'point')}."
    server.gui.add_markdown(f"{told} Click on a camera to stand there.")
    return server


def _picture(photographs: Collection | None, name: str) -> Any:
    """A photograph as it is stored, as COLMAP's cameras see it, small; None if it is not there."""
    from PIL import Image

    if photographs is None or name not in photographs:
        return None
    one = photographs[name]
    try:
        image = Image.open(one.path) if one.frame is None else Image.fromarray(one.read())
        image.thumbnail((_EDGE, _EDGE))
        return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, TiepointsError):  # the model is shown without it
        return None


def _go_there(event: Any) -> None:
    """Move whoever clicked on a camera to its place."""
    with event.client.atomic():
        event.client.camera.wxyz = event.target.wxyz
        event.client.camera.position = event.target.position
