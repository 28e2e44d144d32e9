"""Metrics: arrays in, numbers out. No files: planar scores, poses, depth maps, trajectories, marked correspondences."""

from __future__ import annotations

from . import correspondences, depth, planar, poses, trajectories

__all__ = ["correspondences", "depth", "planar", "poses", "trajectories"]
