"""The frames of videos, by OpenCV: counted and read forwards, so that a number means the same frame at every run."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import ImageError

__all__ = ["frame_size", "frames_of", "read_frame"]

_open = threading.local()  # each thread's video and the number of its next frame
_ends: dict[tuple[Any, ...], int] = {}  # the number of the first frame that a video, for all that it tells, lacks
_sizes: dict[tuple[Any, ...], tuple[int, int]] = {}
_END = "{}: the video ends before frame {}, or is damaged there"


def frames_of(path: Path) -> int:
    """How many frames a video has, by its header.

    Raises
    ------
    ImageError
        If it cannot be opened or has none.

    Examples
    --------
    >>> from pathlib import Path
    >>> import cv2
    >>> import numpy as np
    >>> from tiepoints.collection.videos import frames_of
    >>> video = cv2.VideoWriter("three.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    >>> for _ in range(3):
    ...     _ = video.write(np.zeros((48, 64, 3), np.uint8))
    >>> video.release()
    >>> frames_of(Path("three.avi"))
    3
    """
    path = checks.path(path, "path")
    video = _opened(path)
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    video.release()
    if not 1 <= count <= path.stat().st_size:  # no frame takes less than a byte
        raise ImageError(f"{path}: the video tells no number of frames; convert it with `ffmpeg -i VIDEO copy.mp4`")
    return count


def frame_size(path: Path) -> tuple[int, int]:
    """(width, height) of a video's frames, by its header, or by the first one where that does not tell.

    Raises
    ------
    ImageError
        If it cannot be opened, or holds no frame.

    Examples
    --------
    >>> from pathlib import Path
    >>> import cv2
    >>> import numpy as np
    >>> from tiepoints.collection.videos import frame_size
    >>> video = cv2.VideoWriter("wide.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    >>> _ = video.write(np.zeros((48, 64, 3), np.uint8))
    >>> video.release()
    >>> frame_size(Path("wide.avi"))
    (64, 48)
    """
    path = checks.path(path, "path")
    state = _state(path)
    if state not in _sizes:
        video = _opened(path)
        width, height = (int(video.get(what)) for what in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        video.release()
        if width < 1 or height < 1:
            height, width = read_frame(path, 0).shape[:2]
        _sizes[state] = width, height
    return _sizes[state]


def read_frame(path: Path, number: int) -> NDArray[np.uint8]:
    """A frame, (H, W, 3) uint8 RGB; fast where each thread asks for later and later frames.

    It is reached by decoding what comes before it: jumps are not exact in many formats.

    Raises
    ------
    ImageError
        If the video ends before it, or is damaged.

    Examples
    --------
    >>> from pathlib import Path
    >>> import cv2
    >>> import numpy as np
    >>> from tiepoints.collection.videos import read_frame
    >>> video = cv2.VideoWriter("two.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    >>> for value in (0, 255):
    ...     _ = video.write(np.full((48, 64, 3), value, np.uint8))
    >>> video.release()
    >>> read_frame(Path("two.avi"), 1).shape
    (48, 64, 3)
    """
    path = checks.path(path, "path")
    if number >= _ends.get(_state(path), number + 1):
        raise ImageError(_END.format(path, number))
    name, before, following = getattr(_open, "video", (None, None, 0))
    video: Any = before
    if name != path or number < following:
        if video is not None:
            video.release()
        video, following = _opened(path), 0
    while following < number and video.grab():
        following += 1
    good, frame = video.read() if following == number else (False, None)
    if not good or frame is None:
        video.release()
        _open.video = (None, None, 0)
        _ends[_state(path)] = following  # so that the frames after it do not decode all before it once more
        raise ImageError(_END.format(path, number))
    _open.video = (path, video, number + 1)
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)


def _state(path: Path) -> tuple[Any, ...]:
    about = path.stat()
    return path, about.st_size, about.st_mtime_ns


def _opened(path: Path) -> Any:
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        if not path.stat().st_size:
            raise ImageError(f"{path}: the file is empty (0 bytes)")
        raise ImageError(
            f"{path}: cannot be opened as a video: it is damaged, or of a kind that OpenCV does not know; convert "
            "it to MP4 (H.264)"
        )
    return video
