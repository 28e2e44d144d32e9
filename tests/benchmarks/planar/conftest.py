"""Planar scenes made by hand: sequences on the disk, and features whose every figure can be counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import tiepoints as tp

Features = Callable[..., tp.Features]


@pytest.fixture
def features() -> Features:
    """Features at given points; the descriptor of label i is the i-th unit vector, so that equal labels match."""

    def make(
        points: object, labels: object = None, size: tuple[int, int] = (100, 80), sets: object = None
    ) -> tp.Features:
        keypoints = np.asarray(points, np.float32).reshape(-1, 2)
        numbers = np.arange(len(keypoints)) if labels is None else np.asarray(labels)
        descriptors = np.eye(64, dtype=np.float32)[numbers] if len(keypoints) else np.zeros((0, 64), np.float32)
        scores = np.arange(len(keypoints), 0, -1, dtype=np.float32)
        return tp.Features(keypoints, descriptors, scores, size, sets=sets)

    return make


@pytest.fixture
def sequence(tmp_path: Path, texture: NDArray[np.uint8]) -> Callable[..., Path]:
    """Write a sequence of `count` images with their homographies and return its folder."""

    def write(name: str, count: int = 3, suffix: str = ".png", root: Path | None = None) -> Path:
        folder = (tmp_path / "data" if root is None else root) / name
        folder.mkdir(parents=True)
        for k in range(1, count + 1):
            H = shift(k)
            warped = cv2.warpPerspective(texture, H, texture.shape[::-1], borderMode=cv2.BORDER_REFLECT)
            Image.fromarray(warped).save(folder / f"{k}{suffix}")
            if k > 1:
                np.savetxt(folder / f"H_1_{k}", H @ np.linalg.inv(shift(1)))
        return folder

    return write


def shift(k: int) -> NDArray[np.float64]:
    """The homography from the texture to image k of a sequence: it moves and turns a little more each time."""
    angle = 0.02 * (k - 1)
    return np.array(
        [[np.cos(angle), -np.sin(angle), 3.0 * (k - 1)], [np.sin(angle), np.cos(angle), 2.0 * (k - 1)], [0, 0, 1]]
    )
