"""Planar scenes: HPatches and what has its layout; and wide baselines judged by marked correspondences (WxBS)."""
