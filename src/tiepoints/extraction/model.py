"""Models in ONNX files: where the released ones are, what they say of themselves, and running them without torch."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInputError, StorageError
from ..files import read_bytes
from ..threads import cores, scratch

__all__ = ["STRIDE", "Model", "load_model", "released"]

Float32 = NDArray[np.float32]

#: Height and width of what goes in must be multiples of this: four halvings.
STRIDE = 16

#: The key under which a model's file holds the description that `tiepoints export` wrote, as JSON.
METADATA = "tiepoints"


@dataclass(frozen=True)
class Model:
    """A network ready to run: call it with grey (1, 1, H, W) float32 in [0, 1], H and W multiples of `STRIDE`.

    Parameters
    ----------
    path : path
    about : dict
        What `tiepoints export` wrote into it: sets, descriptor_size, recipe, licence, training data, figures.
    threads : int, optional
        As `load_model` was told.
    """

    path: Path
    about: dict[str, Any]
    session: Any
    threads: int | None = None

    @property
    def sets(self) -> int:
        """K, the number of heatmaps."""
        return int(self.about["sets"])

    def __call__(self, image: Float32) -> tuple[Float32, Float32]:
        """Heatmap logits (1, k, H, W) and descriptors (1, H / 4, W / 4, D), not normalised.

        The logits lie in memory that this thread's next call overwrites.
        """
        cells, descriptors = self.session.run(None, {"image": image})
        return _pixels(cells[0])[None], descriptors

    def __reduce__(self) -> tuple[Any, ...]:
        # Sessions cannot be pickled; a process that gets an extractor opens the file on its own.
        return load_model, (self.path, self.threads)


def _pixels(cells: Float32) -> Float32:
    """The pixel shuffle (4 k, h, w) -> (k, 2 h, 2 w), several times as fast as run-times and NumPy do it.

    What comes out is overwritten by this thread's next call.
    """
    planes, height, width = cells.shape
    pixels = scratch("pixels", (planes // 4, height, 2, width, 2))
    for i in range(planes // 2):
        cv2.merge([cells[2 * i], cells[2 * i + 1]], dst=pixels[i // 2, :, i % 2])
    return pixels.reshape(-1, 2 * height, 2 * width)


def released(sets: int, precision: str = "float32") -> Path:
    """The file of the released MD-Net with so many sets, in float32 or int8.

    Raises
    ------
    InvalidInputError
        If there is none; the message tells which there are.
    """
    if precision not in ("float32", "int8"):
        raise InvalidInputError(f"precision is {precision!r}, but must be float32 or int8")
    folder = Path(str(files("tiepoints") / "weights"))
    ending = "-int8.onnx" if precision == "int8" else ".onnx"
    path = folder / f"mdnet-{sets}{ending}"
    if not path.is_file():
        there = sorted(int(m[1]) for p in folder.iterdir() if (m := re.fullmatch(r"mdnet-(\d+)\.onnx", p.name)))
        raise InvalidInputError(
            f"there are no released weights of MD-Net with {sets} sets, only with {', '.join(map(str, there))}; "
            "train your own with `tiepoints train --sets`"
        )
    return path


def load_model(path: Path, threads: int | None = None) -> Model:
    """Open a model; no code in it is run, and nothing is unpickled.

    Parameters
    ----------
    path : path
        An ONNX file that `tiepoints export` wrote.
    threads : int, optional
        By default `tiepoints.threads.cores`.

    Raises
    ------
    StorageError
        If there is no such file, or it is no model of MD-Net, damaged or truncated.
    """
    import onnxruntime

    head = read_bytes(path, 256, remedy="give an .onnx file that `tiepoints export` wrote")
    if head.startswith(b"PK") and b"/data.pkl" in head:  # a zip archive that begins with a pickle: torch's own files
        raise StorageError(
            f"{path}: this is a training checkpoint; `tiepoints export {path} --out FILE.onnx` makes a model of it"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; they come as exceptions as well
    # Between calls, threads that spin would take the cores from whatever else the program does, for a gain of 5 %.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = threads or cores()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
        int(about["sets"])
    except Exception as error:  # the run-time has a dozen exceptions of its own, which share no base
        raise StorageError(
            f"{path}: not a model of MD-Net, or damaged or truncated; give an .onnx file that `tiepoints export` wrote"
        ) from error
    return Model(path, about, session, threads)
