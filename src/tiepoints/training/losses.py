"""The losses of MD-Net (Santellani et al., ICPR 2022) and those that were added to them, each a function of its own.

D stands for one image's heatmaps (B, k, H, W) in [0, 1], D' for those of the other image resampled into the first
one's frame by the known map, and `mask` (B, 1, H, W) is 1 where the map is valid. p runs over windows P that lie wholly
inside the mask: nothing outside it contributes. Every loss is a mean over each pair first and over the pairs then, so
that a batch means the same whether one process holds it or several share it. What the paper fixes is marked "paper",
what we chose "ours".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "balance", "distance", "floor", "heights", "intersections", "peaky", "ranking", "reprojection", "similarity",
    "triplet", "unreliable",
]  # fmt: skip

WINDOW = 16  # paper: 16 x 16 windows
# ours: windows advance by half their edge, where the paper slides them by a pixel: the mean is nearly the same, the
# cost 1/64. The caller shifts the maps by chance, so that no place keeps its part of the window.
MARGIN = 0.5  # paper: "for example"
TEMPERATURE = 0.07  # ours: of cross-entropies among descriptors
REACH = 4  # ours: pixels to each side in which a peak is looked for in the other image
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
    return 1 - _mean(_maximum(d, window) - _average(d, window), _whole(mask, window))


def intersections(d: Tensor, mask: Tensor, reach: int = 3, window: int = WINDOW) -> Tensor:
    """Sets that fire at the same places are penalised: mean over m, p of sum over r != m of 1 - 2/pi angle(m, r, p).

    Ours. The angle is that between D^m[p] and D^r[p] as vectors, and not its cosine: equal sets are where this loss has
    to work, and there the cosine, at its maximum, has no gradient. Every rival counts by itself; against the greatest
    of them, many sets could stay equal at little cost. The maps are spread by a maximum over `reach` x `reach` pixels
    first, because a peak collides with its neighbours too. Windows do not overlap here.

    Returns
    -------
    loss : ()
        0 for sets whose peaks keep at least `reach` pixels apart, or for one set; k - 1 for equal ones.
    """
    count, k = d.shape[:2]
    if k == 1:
        return d.sum() * 0
    rows, columns = d.shape[2] // window, d.shape[3] // window
    spread = F.max_pool2d(d, reach, 1, reach // 2)[..., : rows * window, : columns * window]
    vectors = spread.reshape(count, k, rows, window, columns, window).permute(0, 2, 4, 1, 3, 5).flatten(4)
    gram = vectors @ vectors.transpose(3, 4)  # (B, rows, columns, k, k)
    length = gram.diagonal(dim1=3, dim2=4).clamp_min(_EPS**2).sqrt()
    cosine = gram / (length[..., :, None] * length[..., None, :])
    one, other = torch.triu_indices(k, k, 1, device=d.device)
    shared = 1 - torch.arccos(cosine[..., one, other].clamp(max=1 - 1e-6)) * (2 / torch.pi)
    whole = -F.max_pool2d(-mask.float(), window).squeeze(1).to(d.dtype)  # (B, rows, columns)
    return _mean(shared.sum(dim=3) * (2 / k), whole)


def unreliable(d: Tensor, positive: Tensor, negative: Tensor, usable: Tensor, margin: float = MARGIN) -> Tensor:
    """Keypoints whose descriptors do not discriminate are penalised (the idea is the paper's, the formula ours).

    Mean of D(x) * clamp(m - S(f, f+) + S(f, f-), 0, 2 m) / (2 m) over sampled places x: the detection is weighed by how
    badly its descriptor does. The descriptors are taken as they are; the gradient only moves the heatmap, downwards and
    in proportion to the missing margin.

    Parameters
    ----------
    d : (B, N)
        The heatmap at the sampled places.
    positive, negative : (B, N)
        Scores of the true counterpart and of the hardest negative there.
    usable : (B, N)
        1 where the place counts, else 0.
    """
    missing = (margin - positive.detach() + negative.detach()).clamp(0, 2 * margin) / (2 * margin)
    return _mean(d * missing, usable)


def triplet(positive: Tensor, negative: Tensor, usable: Tensor, margin: float = MARGIN) -> Tensor:
    """max(0, m - S(f, f+) + S(f, f-)), the mean over the anchors (paper).

    Parameters
    ----------
    positive, negative : (B, N)
        Dot products of unit descriptors in [-1, 1], with the counterpart and with the hardest negative.
    usable : (B, N)
        1 where the anchor counts, else 0.
    """
    return _mean(F.relu(margin - positive + negative), usable)


def balance(d: Tensor, mask: Tensor, window: int = WINDOW) -> Tensor:
    """Sets must fire alike: k sum over m of q_m^2 - 1, q_m the share of set m in the sum of all windows' maxima (ours).

    Where n_m of n keypoints are of set m in both images, matching costs sum over m of (n_m / n)^2 of all comparisons,
    which is 1 / k for equal sets: this is the share that is paid above it, with heights for counts.

    Returns
    -------
    loss : ()
        0 for equal sums, or for one set; k - 1 where one set alone fires.
    """
    k = d.shape[1]
    heights = (_maximum(d, window) * _whole(mask, window)).sum(dim=(2, 3))  # (B, k)
    share = heights / heights.sum(dim=1, keepdim=True).clamp_min(_EPS)
    excess = k * share.square().sum(dim=1) - 1
    return torch.where(heights.sum(dim=1) > 0, excess, 0 * excess).mean()


def reprojection(logits: Tensor, at: Tensor, weight: Tensor) -> Tensor:
    """The other image must peak exactly where this one does: the mean of -sum over q of l(q) log p(q) (ours).

    p is the softmax of the other image's logits over the 9 x 9 pixels around the place to which the known map carries
    a peak of this one; l shares a label of 1 bilinearly between the four pixels around that place.

    Parameters
    ----------
    logits : (B, k, H, W)
        Of the other image.
    at : (B, k, N, 2)
        Places [x, y] in it.
    weight : (B, k, N)
        How much each counts; 0 for those nearer than 5 pixels to the edge.

    Returns
    -------
    loss : ()
        0 for one infinitely high pixel exactly there, log 81 for a flat map.
    """
    height, width = logits.shape[2:]
    along = torch.arange(-REACH, REACH + 1, device=logits.device)
    dy, dx = (v.reshape(-1) for v in torch.meshgrid(along, along, indexing="ij"))
    centre = at.detach().round().long()
    x = centre[..., 0, None].clamp(REACH, width - 1 - REACH) + dx  # (B, k, N, 81)
    y = centre[..., 1, None].clamp(REACH, height - 1 - REACH) + dy
    window = logits.flatten(2).gather(2, (y * width + x).flatten(2)).view(x.shape)
    label = (1 - (x - at[..., :1]).abs()).clamp_min(0) * (1 - (y - at[..., 1:]).abs()).clamp_min(0)
    return _mean(-(label * F.log_softmax(window, dim=3)).sum(dim=3), weight)


def heights(logits: Tensor, scores: Tensor, counted: Tensor) -> Tensor:
    """A peak is as high as the teacher thinks the place worth: cross-entropy of sigmoid(logit) and its score (ours).

    The peaky loss drives every peak to 1, so that their order would say nothing.

    Parameters
    ----------
    logits, scores, counted : (B, N)
        At peaks of the heatmaps; scores in [0, 1].
    """
    return _mean(F.binary_cross_entropy_with_logits(logits, scores, reduction="none"), counted)


def floor(d: Tensor, scores: Tensor, counted: Tensor) -> Tensor:
    """No keypoint where the teacher sees none: the mean of max(0, D - score) over random pixels (ours).

    Parameters
    ----------
    d, scores, counted : (B, N)
        The heatmap and the teacher's score at random pixels.
    """
    return _mean(F.relu(d - scores), counted)


def distance(values: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """The descriptors are the teacher's: the mean of 1 - S(f, t) (as in knowledge distillation; weight ours).

    Parameters
    ----------
    values, target : (B, N, D)
        Unit descriptors of the network and of the teacher at the same places.
    counted : (B, N)
        1 where there is a value, else 0.
    """
    return _mean(1 - (values * target).sum(dim=2), counted)


def ranking(values: Tensor, target: Tensor, at: Tensor, counted: Tensor, exclusion: float = 6.0) -> Tensor:
    """A descriptor is nearest to the teacher's of its own place: cross-entropy of S / 0.07 over the image (ours).

    The mean of -log(exp(S(f_i, t_i) / T) / sum over j of exp(S(f_i, t_j) / T)), where j runs over the image's places
    that are i or at least `exclusion` pixels from it.

    Parameters
    ----------
    values, target : (B, N, D)
    at : (B, N, 2)
    counted : (B, N)
    exclusion : float
    """
    scores = values @ target.transpose(1, 2) / TEMPERATURE  # (B, N, N)
    barred = (torch.cdist(at, at) < exclusion) | (counted == 0)[:, None]
    barred &= ~torch.eye(at.shape[1], dtype=torch.bool, device=at.device)
    own = scores.diagonal(dim1=1, dim2=2)
    return _mean(scores.masked_fill(barred, -torch.inf).logsumexp(dim=2) - own, counted)


def _average(x: Tensor, window: int) -> Tensor:
    """Means of windows that advance by half their edge, from the means of their quarters: a quarter of the reads."""
    return F.avg_pool2d(F.avg_pool2d(x, window // 2), 2, 1)


def _maximum(x: Tensor, window: int) -> Tensor:
    return F.max_pool2d(F.max_pool2d(x, window // 2), 2, 1)


def _cosine(a: Tensor, b: Tensor, window: int) -> Tensor:
    """Cosine similarity of the windows of two maps (B, C, H, W) -> (B, C, h, w): averages of products, by pooling."""
    product, length_a, length_b = (_average(x, window) for x in (a * b, a * a, b * b))
    return product / (length_a * length_b + _EPS**2).sqrt().clamp_min(_EPS)


def _whole(mask: Tensor, window: int) -> Tensor:
    """1 for windows that lie wholly inside the mask, else 0; (B, 1, h, w)."""
    return (_average(mask.float(), window) > 1 - 0.5 / window**2).to(mask.dtype)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """The mean over the pairs of each pair's weighted mean; 0 for a pair without weight."""
    weight = weight.to(values.dtype).expand_as(values).flatten(1)
    return ((values.flatten(1) * weight).sum(1) / weight.sum(1).clamp_min(1)).mean()
