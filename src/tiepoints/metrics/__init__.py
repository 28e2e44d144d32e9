"""Metrics: arrays in, numbers out. No files: planar scores, poses, depth maps, marked correspondences."""
