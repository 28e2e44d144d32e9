"""What the matches of a pair say about its geometry: planes, epipolar geometry and poses, each with its inliers."""

from __future__ import annotations

from .chance import log_nfa
from .poses import absolute_pose, essential, relative_pose
from .residuals import (
    epipolar_error,
    essential_from_fundamental,
    essential_from_pose,
    fundamental_from_essential,
    homography_error,
    pose_error,
    project,
    sampson_error,
    symmetric_homography_error,
)
from .results import Geometry
from .two_view import fundamental, homography

__all__ = [
    "Geometry",
    "absolute_pose",
    "epipolar_error",
    "essential",
    "essential_from_fundamental",
    "essential_from_pose",
    "fundamental",
    "fundamental_from_essential",
    "homography",
    "homography_error",
    "log_nfa",
    "pose_error",
    "project",
    "relative_pose",
    "sampson_error",
    "symmetric_homography_error",
]
