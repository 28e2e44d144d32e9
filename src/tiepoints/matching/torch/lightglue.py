"""LightGlue's network: self- and cross-attention between the keypoints of two images, and an assignment of them.

Lindenberger, Sarlin and Pollefeys, "LightGlue: Local Feature Matching at Light Speed", ICCV 2023. Written from the
paper and from the names and shapes of the published weights (Apache-2.0).

Shapes: M and N keypoints of the two images, D = 256 channels of their states, H = 4 heads of 64.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CHANNELS", "HEADS", "LAYERS", "Assignment", "LightGlue", "normalised"]

LAYERS, CHANNELS, HEADS = 9, 256, 4


class Assignment(NamedTuple):
    """Which keypoints correspond.

    Parameters
    ----------
    rows : Tensor
        (K, 2): the keypoint of the first image and that of the second.
    scores : Tensor
        (K,) in [0, 1].
    layers : int
        After how many layers the network was sure enough.
    left : (int, int)
        How many keypoints were not pruned on the way.
    """

    rows: Tensor
    scores: Tensor
    layers: int
    left: tuple[int, int]


class PositionalEncoding(nn.Module):
    """Rotations of pairs of channels by learned frequencies of the place (paper, section 3.1 and equation 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.Wr = nn.Linear(2, CHANNELS // HEADS // 2, bias=False)

    def forward(self, places: Tensor) -> Tensor:
        """From places (N, 2) to cosines and sines (2, N, 64), each for two channels in a row."""
        phases = self.Wr(places)
        return torch.stack([phases.cos(), phases.sin()]).repeat_interleave(2, dim=-1)


def rotated(x: Tensor, encoding: Tensor) -> Tensor:
    """Each pair of channels of x (H, N, 64), turned by its angle."""
    first, second = x[..., 0::2], x[..., 1::2]
    turned = torch.stack([-second, first], dim=-1).flatten(-2)
    return x * encoding[0] + turned * encoding[1]


def update() -> nn.Sequential:
    """What makes of a state and a message, side by side, the change of the state."""
    twice = 2 * CHANNELS
    return nn.Sequential(nn.Linear(twice, twice), nn.LayerNorm(twice), nn.GELU(), nn.Linear(twice, CHANNELS))


class SelfAttention(nn.Module):
    """Every keypoint looks at those of its own image; how far apart they lie turns queries and keys."""

    def __init__(self) -> None:
        super().__init__()
        self.Wqkv = nn.Linear(CHANNELS, 3 * CHANNELS)
        self.out_proj = nn.Linear(CHANNELS, CHANNELS)
        self.ffn = update()

    def forward(self, x: Tensor, encoding: Tensor) -> Tensor:
        # query, key and value of a channel are neighbours in the weights: (N, H, 64, 3); each is (H, N, 64)
        query, key, value = self.Wqkv(x).reshape(len(x), HEADS, -1, 3).permute(3, 1, 0, 2)
        message = F.scaled_dot_product_attention(
            rotated(query, encoding)[None], rotated(key, encoding)[None], value[None]
        )
        message = self.out_proj(message[0].transpose(0, 1).flatten(1))
        return x + self.ffn(torch.cat([x, message], dim=-1))  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """Every keypoint looks at those of the other image; one similarity serves both directions (equation 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.to_qk = nn.Linear(CHANNELS, CHANNELS)
        self.to_v = nn.Linear(CHANNELS, CHANNELS)
        self.to_out = nn.Linear(CHANNELS, CHANNELS)
        self.ffn = update()

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        def heads(values: Tensor) -> Tensor:
            return values.reshape(len(values), HEADS, -1).transpose(0, 1)  # (H, N, 64)

        key_x, key_y = (heads(self.to_qk(one)) for one in (x, y))
        value_x, value_y = (heads(self.to_v(one)) for one in (x, y))
        similarity = key_x @ key_y.transpose(1, 2) / math.sqrt(key_x.shape[-1])  # (H, M, N)
        to_x = similarity.softmax(dim=2) @ value_y
        to_y = similarity.softmax(dim=1).transpose(1, 2) @ value_x

        def changed(state: Tensor, message: Tensor) -> Tensor:
            message = self.to_out(message.transpose(0, 1).flatten(1))
            return state + self.ffn(torch.cat([state, message], dim=-1))  # type: ignore[no-any-return]

        return changed(x, to_x), changed(y, to_y)


class Layer(nn.Module):
    """Self-attention in both images, then cross-attention between them."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = SelfAttention()
        self.cross_attn = CrossAttention()

    def forward(self, x: Tensor, y: Tensor, at_x: Tensor, at_y: Tensor) -> tuple[Tensor, Tensor]:
        both: tuple[Tensor, Tensor] = self.cross_attn(self.self_attn(x, at_x), self.self_attn(y, at_y))
        return both


class Assign(nn.Module):
    """Similarity and matchability to a soft partial assignment (equations 6 to 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.matchability = nn.Linear(CHANNELS, 1)
        self.final_proj = nn.Linear(CHANNELS, CHANNELS)

    def matchable(self, x: Tensor) -> Tensor:
        """How likely each keypoint has a partner (N,)."""
        return torch.sigmoid(self.matchability(x))[:, 0]

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Logarithms (M, N) of the probabilities that two keypoints correspond."""
        similarity = self.final_proj(x) @ self.final_proj(y).T / math.sqrt(CHANNELS)
        sure = F.logsigmoid(self.matchability(x)) + F.logsigmoid(self.matchability(y)).T
        return similarity.log_softmax(dim=0) + similarity.log_softmax(dim=1) + sure  # type: ignore[no-any-return]


class Confidence(nn.Module):
    """How sure a keypoint is that further layers change nothing for it (equation 9)."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Sequential(nn.Linear(CHANNELS, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.token(x)[:, 0]  # type: ignore[no-any-return]


class LightGlue(nn.Module):
    """The network.

    Parameters
    ----------
    descriptor_size : int
        Of the features; 256 go in as they are, others through a linear layer.
    """

    def __init__(self, descriptor_size: int) -> None:
        super().__init__()
        self.input_proj: nn.Module = nn.Identity()
        if descriptor_size != CHANNELS:
            self.input_proj = nn.Linear(descriptor_size, CHANNELS)
        self.posenc = PositionalEncoding()
        self.transformers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.log_assignment = nn.ModuleList(Assign() for _ in range(LAYERS))
        self.token_confidence = nn.ModuleList(Confidence() for _ in range(LAYERS - 1))

    def read(self, path: Path) -> None:
        """Take the parameters from the authors' file, under the names of either of their releases.

        Raises
        ------
        RuntimeError, TypeError
            If the file holds others.
        """
        content = torch.load(path, map_location="cpu", weights_only=True)
        named = {}
        for name, tensor in content.items():
            name = name.removeprefix("matcher.")  # of a checkpoint of their trainer
            name = re.sub(r"^(self_attn|cross_attn)\.(\d+)\.", r"transformers.\2.\1.", name)
            if name != "confidence_thresholds" and not name.startswith("extractor."):
                named[name] = tensor
        self.load_state_dict(named)

    def forward(
        self,
        places: tuple[Tensor, Tensor],
        descriptors: tuple[Tensor, Tensor],
        *,
        threshold: float,
        depth_confidence: float | None,
        width_confidence: float | None,
    ) -> Assignment:
        """Match two images.

        Parameters
        ----------
        places : ((M, 2), (N, 2))
            Normalised, see `normalised`.
        descriptors : ((M, E), (N, E))
        threshold : float
            A match's score is above it.
        depth_confidence : float, optional
            Stop after a layer when this share of the keypoints is sure; None: use all layers.
        width_confidence : float, optional
            Leave out keypoints that are unmatchable with this confidence; None: keep all.
        """
        x, y = (self.input_proj(each) for each in descriptors)
        at_x, at_y = (self.posenc(each) for each in places)
        count = len(x) + len(y)
        rows_x, rows_y = (torch.arange(len(each), device=each.device) for each in (x, y))
        layer = 0
        for layer in range(LAYERS):
            x, y = self.transformers[layer](x, y, at_x, at_y)
            if layer == LAYERS - 1:
                break
            enough = 0.8 + 0.1 * math.exp(-4 * layer / LAYERS)  # of a keypoint's confidence (section 3.3)
            sure_x = sure_y = None
            if depth_confidence is not None:
                sure_x, sure_y = (self.token_confidence[layer](each) for each in (x, y))
                unsure = (sure_x < enough).sum() + (sure_y < enough).sum()
                if 1 - float(unsure) / count > depth_confidence:
                    break
            if width_confidence is not None:
                keep_x, keep_y = (
                    self._kept(layer, state, sure, width_confidence, enough)
                    for state, sure in ((x, sure_x), (y, sure_y))
                )
                x, at_x, rows_x = x[keep_x], at_x[:, keep_x], rows_x[keep_x]
                y, at_y, rows_y = y[keep_y], at_y[:, keep_y], rows_y[keep_y]
                if not len(x) or not len(y):
                    break
        matched, scores = _mutual(self.log_assignment[layer](x, y), threshold)
        rows = torch.stack([rows_x[matched[:, 0]], rows_y[matched[:, 1]]], dim=1)
        return Assignment(rows, scores, layer + 1, (len(x), len(y)))

    def _kept(self, layer: int, state: Tensor, sure: Tensor | None, width: float, enough: float) -> Tensor:
        """Rows that stay: those that may have a partner, and those that are not sure of it yet."""
        keep = self.log_assignment[layer].matchable(state) > 1 - width  # type: ignore[operator]
        if sure is not None:
            keep = keep | (sure <= enough)
        return torch.nonzero(keep)[:, 0]


def normalised(keypoints: Tensor, size: tuple[int, int]) -> Tensor:
    """Places (N, 2) relative to the image's centre, in halves of its longer edge; of no known size, to their own."""
    if min(size) > 0:
        edges = keypoints.new_tensor(size)
    elif len(keypoints):
        edges = 1 + keypoints.amax(dim=0) - keypoints.amin(dim=0)
    else:
        return keypoints
    return (keypoints - edges / 2) / (edges.max() / 2)


def _mutual(logits: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Pairs (K, 2) that are each other's best, and their probabilities above the threshold."""
    if not logits.numel():
        return torch.zeros(0, 2, dtype=torch.long, device=logits.device), logits.new_zeros(0)
    best, column = logits.max(dim=1)
    row = logits.argmax(dim=0)
    each = torch.arange(len(logits), device=logits.device)
    scores = best.exp()
    kept = torch.nonzero((row[column] == each) & (scores > threshold))[:, 0]
    return torch.stack([kept, column[kept]], dim=1), scores[kept]
