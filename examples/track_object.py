"""Track an object through the frames of a video or a folder: its box in each frame, from its box in the first.

    python examples/track_object.py clip.mp4 --box 205,151,17,50 --out boxes.csv

The part of each frame where the object can be is enlarged and matched with the object as it was at first, where errors
do not add up. Where too few matches agree on a rotation, scale and shift, it is matched with the object as it was when
it was last found. What moves as the background does is left out. Where too few agree again the object is lost: its box
stays, and the part that is looked at grows.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.collection import Collection

Float64 = NDArray[np.float64]
AROUND = 2.5  # the part that is looked at, as a multiple of the box's longer edge
GROWTH, LARGEST = 1.2, 3.0  # of that part, from frame to frame while the object is lost
EDGE = 320  # pixels: it is enlarged to this
WITHIN = 3.0  # pixels of the enlarged part: the inlier threshold
FEWEST = 6  # matches that have to agree


class View:
    """The features of a square part of a frame, and the object's corners (4, 2) in the frame."""

    def __init__(self, frame: NDArray[np.uint8], corners: Float64, grown: float, extractor: tp.Extractor) -> None:
        edge = AROUND * grown * float(np.ptp(corners, axis=0).max())
        self.scale, self.corner = EDGE / edge, corners.mean(axis=0) - edge / 2
        to_part = np.c_[self.scale * np.eye(2), -self.scale * self.corner]
        self.features = extractor(cv2.warpAffine(frame, to_part, (EDGE, EDGE), flags=cv2.INTER_CUBIC))
        self.corners = corners

    def in_frame(self, points: NDArray[np.float32]) -> Float64:
        """Places in the part -> in the frame."""
        return points / self.scale + self.corner

    def on_object(self) -> NDArray[np.bool_]:
        """Which of the features lie inside the corners."""
        outline = ((self.corners - self.corner) * self.scale).astype(np.float32)
        inside = [cv2.pointPolygonTest(outline, p, False) >= 0 for p in self.features.keypoints.tolist()]
        return np.array(inside, bool)

    def moved(self, known: View) -> tuple[int, Float64]:
        """The object of another frame in this one: matches that agree, and its corners."""
        found = tp.match(known.features, self.features).indices
        p, q = (
            known.in_frame(known.features.keypoints[found[:, 0]]),
            self.in_frame(self.features.keypoints[found[:, 1]]),
        )
        mine, near = known.on_object()[found[:, 0]], WITHIN / self.scale
        behind, _ = motion_of(p[~mine], q[~mine], near)
        if behind is not None:  # what moves as the background does shows it through the box's corners
            mine &= np.linalg.norm(p @ behind[:, :2].T + behind[:, 2] - q, axis=1) > near / 2
        motion, agreed = motion_of(p[mine], q[mine], near)
        return agreed, known.corners if motion is None else known.corners @ motion[:, :2].T + motion[:, 2]


def motion_of(p: Float64, q: Float64, near: float) -> tuple[Float64 | None, int]:
    """Rotation, scale and shift (2, 3) from p to q, and how many agree with it."""
    if len(p) < FEWEST:
        return None, 0
    motion, good = cv2.estimateAffinePartial2D(p, q, ransacReprojThreshold=near)
    return motion, 0 if motion is None else int(good.sum())


def box(text: str) -> tuple[float, float, float, float]:
    x, y, width, height = map(float, text.split(","))
    return x, y, width, height


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", help="a folder of frames, or a video")
    parser.add_argument(
        "--box", required=True, type=box, metavar="X,Y,W,H", help="of the object in the first frame, pixels"
    )
    parser.add_argument("-e", "--extractor", default="mdnet")
    parser.add_argument("--every", type=int, default=1, help="take every N-th frame of a video")
    parser.add_argument("--out", help="a .csv file: frame, matches that agree, x, y, width, height")
    options = parser.parse_args()
    x, y, width, height = options.box
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])

    extractor = tp.load(options.extractor, max_keypoints=1000)
    first = last = None
    rows, grown, lost = [], 1.0, 0
    for name, photograph in Collection.from_sources([options.frames], every=options.every).items():
        view, agreed = View(photograph.read(), corners, grown, extractor), 0
        if first is None or last is None:
            first = last = view
        else:
            agreed, moved = view.moved(first)
            if agreed < FEWEST:
                agreed, moved = view.moved(last)
            if agreed >= FEWEST:
                corners, grown = moved, 1.0
                view.corners, last = moved, view
            else:
                grown, lost = min(GROWTH * grown, LARGEST), lost + 1
        rows.append([name, agreed, *corners.min(axis=0).round(1).tolist(), *np.ptp(corners, axis=0).round(1).tolist()])
    print(f"{len(rows)} frames; the object was lost in {lost}")
    if options.out:
        with Path(options.out).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    sys.exit(0 if rows and lost < len(rows) - 1 else 1)


if __name__ == "__main__":
    try:
        main()
    except tp.TiepointsError as error:
        sys.exit(f"track_object.py: {error}")
