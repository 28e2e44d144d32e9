"""Models in ONNX files: where the released ones are, what they say of themselves, and running them without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import InvalidInputError, StorageError
from ..files import read_bytes
from ..threads import cores, scratch
from .onnx_file import OnnxFile

__all__ = [
    "FORMAT",
    "NORMALISED",
    "RELEASED",
    "STRIDE",
    "Model",
    "Network",
    "blurred",
    "check_format",
    "head_for",
    "load_model",
    "released",
]

Float32 = NDArray[np.float32]
Provider = str | tuple[str, dict[str, str]]

#: Height and width of what goes in must be multiples of this: five halvings.
STRIDE = 32

#: The value in a model's graph from which it is run: the image, less its mean, over its standard deviation. Of large
#: images the network sees parts, which must be normalised as the whole is.
NORMALISED = "normalised"

#: The names of the released networks.
RELEASED = ("mdnet", "mdnet-small", "mdnet-large")

_DEFAULT_SETS = 2
#: Of what this version writes and reads.
FORMAT = 3

# Of pixels, along both axes: `_blur` of the network says why.
_BLUR = np.array([1, 2, 2, 2, 1], np.float32) / 8


class Network(Protocol):
    """Normalised grey (1, 1, H, W) -> heatmap logits (1, k, H, W), descriptors (1, H / 4, W / 4, D), not normalised."""

    @property
    def sets(self) -> int:
        """K, the number of heatmaps."""

    @property
    def basis(self) -> Float32 | None:
        """What makes descriptors the teacher's, if it had one: (E, D), see `Features.to_teacher`."""

    @property
    def rotations(self) -> int:
        """4 if descriptors know those of the rotated image, see `Features.rotations`; else 1."""

    def __call__(self, image: Float32, /) -> tuple[Float32, Float32]: ...


@dataclass(frozen=True)
class Model:
    """A network ready to run: call it with grey (1, 1, H, W) float32, normalised, H and W multiples of `STRIDE`.

    Parameters
    ----------
    path : path
    about : dict
        What `tiepoints export` wrote into it: sets, descriptor_size, recipe, licence, training data, figures.
    sets : int
        How many heatmaps the head has that is run.
    session : onnxruntime.InferenceSession
    threads : int, optional
    device : str
        As `load_model` was told.
    basis : (E, D) float32, optional
        D numbers times its transpose are the teacher's E, up to their length.
    rotations : int
        4 if descriptors know those of the rotated image, see `tiepoints.Features.rotations`.
    """

    path: Path
    about: dict[str, Any]
    sets: int
    session: Any
    threads: int | None = None
    device: str = "cpu"
    basis: Float32 | None = None
    rotations: int = 1

    def __call__(self, image: Float32) -> tuple[Float32, Float32]:
        """Heatmap logits (1, k, H, W) and descriptors (1, H / 4, W / 4, D), not normalised.

        The logits lie in memory that this thread's next call overwrites.
        """
        cells, descriptors = self.session.run([f"cells_{self.sets}", "descriptors"], {NORMALISED: image})
        return blurred(_pixels(cells[0]))[None], descriptors

    def __reduce__(self) -> tuple[Any, ...]:
        # Sessions cannot be pickled; a process that gets an extractor opens the file on its own.
        return load_model, (self.path, self.sets, self.threads, self.device)


def _pixels(cells: Float32) -> Float32:
    """The pixel shuffle (4 k, h, w) -> (k, 2 h, 2 w), several times as fast as run-times and NumPy do it.

    What comes out is overwritten by this thread's next call.
    """
    planes, height, width = cells.shape
    pixels = scratch("pixels", (planes // 4, height, 2, width, 2))
    for i in range(planes // 2):
        cv2.merge([cells[2 * i], cells[2 * i + 1]], dst=pixels[i // 2, :, i % 2])
    return pixels.reshape(-1, 2 * height, 2 * width)


def blurred(logits: Float32) -> Float32:
    """Blur heatmaps (k, H, W) in place, beyond the edge as at it; in training, there are zeros beyond."""
    for heatmap in logits:
        cv2.sepFilter2D(heatmap, -1, _BLUR, _BLUR, dst=heatmap, borderType=cv2.BORDER_REPLICATE)
    return logits


def released(name: str = "mdnet", precision: str = "float32") -> Path:
    """The file of a released network, in float32 or int8.

    Raises
    ------
    InvalidInputError
        If there is none; the message tells which there are.
    """
    if precision not in ("float32", "int8"):
        raise InvalidInputError(f"precision is {precision!r}, but must be float32 or int8")
    folder = Path(__file__).parents[1] / "weights"
    ending = "-int8.onnx" if precision == "int8" else ".onnx"
    path = folder / f"{name}{ending}"
    if not path.is_file():
        others = " and ".join(network for network in RELEASED if (folder / f"{network}{ending}").is_file())
        raise InvalidInputError(
            f"there are no released weights of {name} in {precision}: {others} have them"
            + ("; leave precision out for float32" if precision == "int8" and name in RELEASED else "")
        )
    return path


def load_model(path: Path, sets: int | None = None, threads: int | None = None, device: str = "cpu") -> Model:
    """Open a model; no code in it is run, and nothing is unpickled.

    Parameters
    ----------
    path : path
        An ONNX file that `tiepoints export` wrote.
    sets : int, optional
        How many complementary sets are wanted, see `head_for`; by default 2, or else what the first head has.
    threads : int, optional
        By default `tiepoints.threads.cores`.
    device : str
        What computes: the name of one of ONNX Runtime's installed providers, with a number where there are several.

    Raises
    ------
    StorageError
        If there is no such file, or it is no model of MD-Net, damaged or truncated.
    InvalidInputError
        If it has no head of so many sets, or there is no such device.
    """
    data = read_bytes(path, remedy="give an .onnx file that `tiepoints export` wrote")
    if data.startswith(b"PK") and b"/data.pkl" in data[:256]:  # a zip archive that begins with a pickle: torch's own
        raise StorageError(
            f"{path}: a file of PyTorch, not a model; if it is a checkpoint of `tiepoints train`, "
            f"`tiepoints export {path} --out FILE.onnx` makes a model of it"
        )
    providers = _providers(device)
    try:
        model = OnnxFile(data)
        about = model.about
        check_format(path, about)
        heads, rotations, basis = _heads(model, about), _rotations(about), model.weights.get("basis")
        basis = None if basis is None else basis.copy()  # which else would keep the whole file in memory
        head = head_for(sets, heads)
        session = (
            None if not head else _session(model.cut([f"cells_{head}", "descriptors"], NORMALISED), threads, providers)
        )
    except (MemoryError, StorageError):
        raise
    except Exception as error:  # the run-time has a dozen exceptions of its own, which share no base
        raise StorageError(
            f"{path}: not a model of MD-Net, or damaged or truncated; give an .onnx file that `tiepoints export` wrote"
        ) from error
    if session is None:
        raise InvalidInputError(
            f"{path}: the model has heads of {', '.join(map(str, heads))} sets, which make no {sets}; take one of "
            "these, or train your own with `tiepoints train --sets`"
        )
    return Model(path, about, head, session, threads, device, basis, rotations)


def check_format(path: Path, about: Mapping[str, Any]) -> None:
    """Refuse a file that another version wrote: a StorageError with the remedy."""
    if (found := int(about["format"])) != FORMAT:
        raise StorageError(
            f"{path}: written by another version of tiepoints (format {found}, not {FORMAT}); write it again with "
            "`tiepoints export CHECKPOINT`, CHECKPOINT being the checkpoint.pt of its training"
        )


def head_for(sets: int | None, heads: Sequence[int]) -> int:
    """Which of the heads, by their numbers of sets, gives so many sets; 0 if none does.

    A head of twice as many sets does as well: its sets are taken together in pairs. By default the one of 2 sets.
    """
    if sets is None:
        return _DEFAULT_SETS if _DEFAULT_SETS in heads else heads[0]
    return min((head for head in heads if head % sets == 0), default=0)


def _heads(model: OnnxFile, about: dict[str, Any]) -> list[int]:
    """The numbers of sets that a model has heads for; a ValueError if it contradicts itself or holds no numbers."""
    heads = [int(k) for k in about["sets"]]
    if not heads or not all(1 <= k <= 255 for k in heads):
        raise ValueError("sets out of range")
    if {"descriptors", *(f"cells_{k}" for k in heads)} != set(model.outputs):
        raise ValueError("other outputs than heads")
    for values in model.weights.values():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError("weights that are no numbers")
    return heads


def _rotations(about: Mapping[str, Any]) -> int:
    """Of how many rotations the descriptors know; a ValueError if they cannot."""
    rotations = int(about.get("rotations", 1))
    if rotations not in (1, 4) or int(about["descriptor_size"]) % rotations:
        raise ValueError("rotations out of range")
    return rotations


def _session(data: bytes, threads: int | None, providers: Sequence[Provider]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; they come as exceptions as well
    # Between calls, threads that spin would take the cores from whatever else the program does, for a gain of 5 %.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = threads or cores()
    # With the plan of a first call the second one allocates all of it anew, which takes 16 MB and saves no time.
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(data, options, providers=list(providers))


def _providers(device: str) -> list[Provider]:
    """ONNX Runtime's providers for a device, and the CPU for what that one lacks."""
    import onnxruntime

    there: dict[str, str] = {
        name.removesuffix("ExecutionProvider"): name for name in onnxruntime.get_available_providers()
    }
    kind, _, number = device.partition(":")
    short = {"directml": "dml", "gpu": "cuda"}.get(kind.lower(), kind.lower())
    full = next((there[name] for name in there if name.lower() == short), None)
    if full is None or (number and not number.isdecimal()):
        names = ", ".join(name.lower() for name in there if name != "Azure")  # which computes elsewhere
        raise InvalidInputError(
            f"device is {checks.shown(device)}, but the ONNX Runtime installed here has {names}; another build "
            "of it, such as onnxruntime-gpu, has more"
        )
    chosen: list[Provider] = [(full, {"device_id": number}) if number else full]
    return chosen if short == "cpu" else [*chosen, there["CPU"]]
