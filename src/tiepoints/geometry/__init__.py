"""What the matches of a pair say about its geometry: planes, epipolar geometry and poses, each with its inliers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .chance import is_verified as is_verified, log_nfa as log_nfa
    from .poses import absolute_pose as absolute_pose, essential as essential, relative_pose as relative_pose
    from .residuals import (
        epipolar_error as epipolar_error,
        essential_from_fundamental as essential_from_fundamental,
        essential_from_pose as essential_from_pose,
        fundamental_from_essential as fundamental_from_essential,
        homography_error as homography_error,
        pose_error as pose_error,
        project as project,
        sampson_error as sampson_error,
        symmetric_homography_error as symmetric_homography_error,
    )
    from .results import Geometry as Geometry
    from .two_view import fundamental as fundamental, homography as homography

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "chance": ["is_verified", "log_nfa"],
        "poses": ["absolute_pose", "essential", "relative_pose"],
        "residuals": [
            "epipolar_error",
            "essential_from_fundamental",
            "essential_from_pose",
            "fundamental_from_essential",
            "homography_error",
            "pose_error",
            "project",
            "sampson_error",
            "symmetric_homography_error",
        ],
        "results": ["Geometry"],
        "two_view": ["fundamental", "homography"],
    },
)
