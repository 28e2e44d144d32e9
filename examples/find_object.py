"""Find a flat object in photographs or in the frames of a video: where its four corners are, in each of them.

    python examples/find_object.py examples/box.png examples/box_in_scene.png
    python examples/find_object.py poster.jpg clip.mp4 --every 5 --out corners.csv

The object is matched with each picture, and found where a homography explains more matches than chance would.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

import tiepoints as tp
from tiepoints.collection import Collection, Extract, Match, Verify, run
from tiepoints.geometry import project


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("object", help="a picture of the object alone, from the front")
    parser.add_argument("pictures", nargs="+", help="photographs, folders, or videos")
    parser.add_argument("-e", "--extractor", default="rootsift", help="rootsift finds objects that are turned, too")
    parser.add_argument("--every", type=int, default=1, help="take every N-th frame of a video")
    parser.add_argument("--out", help="a .csv file: picture, inliers, x and y of the four corners")
    options = parser.parse_args()

    step = Extract(options.extractor)
    wanted = step.extractor(options.object)
    pictures = Collection.from_sources(options.pictures, every=options.every)
    features = run(step, pictures)
    # An item of a mapping gets the tuple of its inputs: the object's features, and the picture's.
    pairs = {name: (wanted, features.reference(name)) for name in features}
    matches = run(Match(ratio=0.85), pairs)
    views = run(Verify("homography"), {name: (matches.reference(name), *pairs[name]) for name in matches})

    width, height = wanted.image_size
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]])
    rows = []
    for name, view in views.items():
        if view:
            places = project(view.geometry.matrix, corners)
            rows.append([name, len(view.inliers), *places.round(1).ravel().tolist()])
            print(f"{name}: {len(view.inliers)} inliers, corners {places.round().astype(int).tolist()}")
        else:
            print(f"{name}: not found")
    if options.out:
        with Path(options.out).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    sys.exit(0 if rows else 1)


if __name__ == "__main__":
    try:
        main()
    except tp.TiepointsError as error:
        sys.exit(f"find_object.py: {error}")
