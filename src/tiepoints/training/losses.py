"""The losses of MD-Net (Santellani et al., ICPR 2022), each a function of its own.

D stands for one image's heatmaps (B, k, H, W) in [0, 1], D' for those of the other image resampled into the first
one's frame by the known map, and `mask` (B, 1, H, W) is 1 where the map is valid. p runs over windows P that lie wholly
inside the mask: nothing outside it contributes. What the paper fixes is marked "paper", what we chose "ours".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["intersections", "peaky", "similarity", "triplet", "unreliable"]

WINDOW = 16  # paper: 16 x 16 windows
STRIDE = 8  # ours: the paper slides by one pixel; every eighth gives the same mean at 1/64 of the cost
MARGIN = 0.5  # paper: "for example"
_EPS = 1e-8


def similarity(d: Tensor, d_other: Tensor, mask: Tensor, window: int = WINDOW) -> Tensor:
    """Both heatmaps must correspond: 1 - mean over m, p of cos(D^m[p], D'^m[p]) (paper).

    Parameters
    ----------
    d, d_other : (B, k, H, W)
    mask : (B, 1, H, W)
    window : int

    Returns
    -------
    loss : ()
        0 for equal heatmaps, at most 1.
    """
    return 1 - _mean(_cosine(d, d_other, window), _whole(mask, window))


def peaky(d: Tensor, mask: Tensor, window: int = WINDOW) -> Tensor:
    """Every window must hold a local peak: 1 - mean over m, p of (max D^m[p] - mean D^m[p]) (paper).

    Returns
    -------
    loss : ()
        1 for a flat map, about 0 for one sharp peak of height 1 in each window.
    """
    height = F.max_pool2d(d, window, STRIDE) - F.avg_pool2d(d, window, STRIDE)
    return 1 - _mean(height, _whole(mask, window))


def intersections(d: Tensor, mask: Tensor, reach: int = 5, window: int = WINDOW) -> Tensor:
    """Sets that fire at the same places are penalised: mean over m < n, p of cos(D^m[p], max near p of D^n) (ours).

    The maximum over `reach` x `reach` pixels makes a peak collide with its neighbours too, not only with its own place.

    Returns
    -------
    loss : ()
        0 for sets whose peaks keep at least reach // 2 + 1 pixels apart, or for one set; up to 1 for equal ones.
    """
    k = d.shape[1]
    if k == 1:
        return d.sum() * 0
    spread = F.max_pool2d(d, reach, 1, reach // 2)
    whole = _whole(mask, window)
    pairs = [(m, n) for m in range(k) for n in range(k) if m != n]
    first, second = (d[:, [m for m, _ in pairs]], spread[:, [n for _, n in pairs]])
    return _mean(_cosine(first, second, window), whole)


def unreliable(d: Tensor, positive: Tensor, negative: Tensor, margin: float = MARGIN) -> Tensor:
    """Keypoints whose descriptors do not discriminate are penalised (the idea is the paper's, the formula ours).

    Mean of D(x) * clamp(m - S(f, f+) + S(f, f-), 0, 2 m) / (2 m) over sampled places x: the detection is weighed by how
    badly its descriptor does. The descriptors are taken as they are; the gradient only moves the heatmap, downwards and
    in proportion to the missing margin.

    Parameters
    ----------
    d : (N,)
        The heatmap at the sampled places.
    positive, negative : (N,)
        Scores of the true counterpart and of the hardest negative there.
    """
    missing = (margin - positive.detach() + negative.detach()).clamp(0, 2 * margin) / (2 * margin)
    return (d * missing).mean() if len(d) else d.sum()


def triplet(positive: Tensor, negative: Tensor, margin: float = MARGIN) -> Tensor:
    """max(0, m - S(f, f+) + S(f, f-)), the mean over the anchors (paper).

    Parameters
    ----------
    positive, negative : (N,)
        Dot products of unit descriptors in [-1, 1], with the counterpart and with the hardest negative.
    """
    return F.relu(margin - positive + negative).mean() if len(positive) else positive.sum()


def _cosine(a: Tensor, b: Tensor, window: int) -> Tensor:
    """Cosine similarity of the windows of two maps (B, C, H, W) -> (B, C, h, w): averages of products, by pooling."""

    def pool(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, window, STRIDE)

    return pool(a * b) / (pool(a * a) * pool(b * b) + _EPS**2).sqrt().clamp_min(_EPS)


def _whole(mask: Tensor, window: int) -> Tensor:
    """1 for windows that lie wholly inside the mask, else 0; (B, 1, h, w)."""
    return (-F.max_pool2d(-mask.to(torch.get_default_dtype()), window, STRIDE) > 0.5).to(mask.dtype)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    weight = weight.to(values.dtype).expand_as(values)
    return (values * weight).sum() / weight.sum().clamp_min(1)
