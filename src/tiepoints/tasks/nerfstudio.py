"""`transforms.json`: cameras as nerfstudio and the tools for Gaussian splatting read them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from .. import checks
from ..collection import Collection
from ..files import PathLike

__all__ = ["transforms_of"]

# COLMAP's cameras look along +z with y down, nerfstudio's (as OpenGL's) along -z with y up.
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
# The distortion parameters that nerfstudio knows, by COLMAP's models: (name, index in COLMAP's params).
_DISTORTION: dict[str, tuple[str, tuple[tuple[str, int], ...]]] = {
    "SIMPLE_PINHOLE": ("OPENCV", ()),
    "PINHOLE": ("OPENCV", ()),
    "SIMPLE_RADIAL": ("OPENCV", (("k1", 3),)),
    "RADIAL": ("OPENCV", (("k1", 3), ("k2", 4))),
    "OPENCV": ("OPENCV", (("k1", 4), ("k2", 5), ("p1", 6), ("p2", 7))),
    "OPENCV_FISHEYE": ("OPENCV_FISHEYE", (("k1", 4), ("k2", 5), ("k3", 6), ("k4", 7))),
}


def transforms_of(model: Any, photographs: Collection, folder: PathLike | None = None) -> dict[str, Any]:
    """The cameras of a model, one entry for each registered photograph.

    Parameters
    ----------
    model : pycolmap.Reconstruction
    photographs : Collection
    folder : path, optional
        Where the file will lie: nerfstudio looks for photographs from there. By default the current folder.

    Returns
    -------
    content : dict
        As nerfstudio's data conventions say: "frames" with file_path, 4x4 transform_matrix (world from camera, OpenGL's
        axes), focal lengths, principal point (from the corner of the top-left pixel) and distortion.
        Pixels are those of the stored file, without EXIF's rotation. Cameras of models that nerfstudio does not know
        are left out and listed in "left_out".

    Notes
    -----
    Source: nerfstudio's documentation, "Data conventions".

    Examples
    --------
    >>> import pycolmap
    >>> from tiepoints.collection import Collection
    >>> from tiepoints.tasks.nerfstudio import transforms_of
    >>> options = pycolmap.SyntheticDatasetOptions(num_points3D=10)
    >>> model = pycolmap.synthesize_dataset(options)
    >>> content = transforms_of(model, Collection([]))
    >>> len(content["frames"]) == model.num_reg_images()
    True
    """
    checks.present(model, "model")
    frames, left_out = [], []
    for image_id in model.reg_image_ids():
        image = model.image(image_id)
        camera = model.camera(image.camera_id)
        kind = camera.model.name
        if kind not in _DISTORTION:
            left_out.append(image.name)
            continue
        name, terms = _DISTORTION[kind]
        matrix = np.eye(4)
        matrix[:3] = image.cam_from_world().inverse().matrix()
        calibration = camera.calibration_matrix()
        one = photographs.get(image.name)
        frames.append(
            {
                "file_path": image.name if one is None else _from(folder, one.path),
                "transform_matrix": (matrix @ _FLIP).tolist(),
                "camera_model": name,
                "w": camera.width,
                "h": camera.height,
                "fl_x": float(calibration[0, 0]),
                "fl_y": float(calibration[1, 1]),
                "cx": float(calibration[0, 2]),
                "cy": float(calibration[1, 2]),
                **{term: float(camera.params[index]) for term, index in terms},
            }
        )
    frames.sort(key=lambda frame: str(frame["file_path"]))
    return {"frames": frames, "ply_file_path": "points.ply"} | ({"left_out": sorted(left_out)} if left_out else {})


def _from(folder: PathLike | None, path: Path) -> str:
    """The path as seen from the folder, or the absolute one where there is none, as between two drives of Windows."""
    try:
        return Path(os.path.relpath(path, folder or ".")).as_posix()
    except ValueError:
        return path.absolute().as_posix()
