"""Visual odometry of one camera: how it moved, from frame to frame, in KITTI's format (3 x 4, camera to world, a line).

    python examples/odometry.py data/kitti/images --camera 718.856,607.1928,185.2157 --out estimate.txt
    tiepoints bench trajectory estimate.txt --truth data/kitti/poses.txt --align sim3

Each frame is matched with the next one; the relative pose of both gives the direction, and the depths of points that
three frames in a row see give the length of a step as a multiple of the one before. The first step has length 1: one
camera tells no metres. Errors add up, for nothing is looked at again (no loops, no bundle adjustment).
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tiepoints as tp
from tiepoints.collection import Collection, Extract, Match, run

Float64 = NDArray[np.float64]
STILL = 1.0  # pixels: with a smaller median displacement the camera stands
FEWEST = 20  # points that three frames share, for a length


def depths(pose: tp.geometry.Geometry, rays_a: Float64, rays_b: Float64) -> tuple[Float64, Float64]:
    """Depths in both frames of points seen along rays (z = 1), for the pose's step of length 1: least squares of
    s_b ray_b = s_a R ray_a + t.
    """
    turned = rays_a @ pose.rotation.T
    aa, bb, ab = (turned**2).sum(axis=1), (rays_b**2).sum(axis=1), (turned * rays_b).sum(axis=1)
    at, bt = turned @ pose.translation, rays_b @ pose.translation
    below = np.maximum(aa * bb - ab**2, 1e-12)
    return (ab * bt - bb * at) / below, (aa * bt - ab * at) / below


def camera(text: str) -> tuple[float, float, float]:
    focal, cx, cy = map(float, text.split(","))
    return focal, cx, cy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", help="a folder of frames, or a video")
    parser.add_argument(
        "--camera", required=True, type=camera, metavar="F,CX,CY", help="focal length and principal point, pixels"
    )
    parser.add_argument("--out", required=True, type=Path, help="the trajectory")
    parser.add_argument("-e", "--extractor", default="mdnet")
    options = parser.parse_args()
    focal, cx, cy = options.camera
    K = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1.0]])

    features = run(Extract(options.extractor), Collection.from_sources([options.frames]))
    steps = list(pairwise(features))
    matches = run(Match(), steps, None, features)

    world_from_cam, path, length = np.eye(4), [np.eye(4)], 1.0
    before: dict[int, float] = {}  # depth of the last frame's keypoints, for a last step of length 1
    for name_a, name_b in steps:
        a, b, found = features[name_a], features[name_b], matches[name_a, name_b]
        points_a, points_b = a.keypoints[found.indices[:, 0]], b.keypoints[found.indices[:, 1]]
        moved = np.linalg.norm(points_a - points_b, axis=1)
        step = np.eye(4)
        if len(moved) and np.median(moved) > STILL:
            pose = tp.relative_pose(points_a, points_b, camera_a=K, camera_b=K)
            if pose:
                kept = pose.inliers
                rays_a, rays_b = (
                    np.column_stack([(p[kept] - (cx, cy)) / focal, np.ones(kept.sum())]) for p in (points_a, points_b)
                )
                depth_a, depth_b = depths(pose, rays_a, rays_b)
                rows_a, rows_b = found.indices[kept].T.tolist()
                near = (depth_a > 0) & (depth_b > 0) & (depth_a < 50)  # farther points have no parallax
                ratios = [
                    before[row] / depth for row, depth, good in zip(rows_a, depth_a, near, strict=True)
                    if good and row in before
                ]  # fmt: skip
                if len(ratios) >= FEWEST:
                    length *= float(np.median(ratios))
                step[:3, :3], step[:3, 3] = pose.rotation, length * pose.translation
                before = {row: depth for row, depth, good in zip(rows_b, depth_b, near, strict=True) if good}
        world_from_cam = world_from_cam @ np.linalg.inv(step)
        path.append(world_from_cam)
    lines = [" ".join(f"{value:.9g}" for value in pose[:3].ravel()) for pose in path]
    options.out.write_text("".join(f"{line}\n" for line in lines))
    print(f"{len(path)} poses, written to {options.out}")


if __name__ == "__main__":
    try:
        main()
    except tp.TiepointsError as error:
        sys.exit(f"odometry.py: {error}")
